//! Owns the way back: a stream's definition as the statement that makes it.

use std::fmt::Write;

use millstream_catalog::{
    Column, DataType, Durability, ObjectName, REST_COLUMN, Stream, StreamOptions, Watermark, quoted,
};

use super::options::{render_bytes, render_duration};
use super::policy::rendered;

/// The CREATE STREAM that gives this definition; [`super::parse`] reads it back to the same.
pub fn render_create(stream: &Stream) -> String {
    let mut sql = format!("CREATE STREAM {} (", rendered_name(&stream.name));
    let implied = |c: &Column| stream.options.rest && *c == Column::new(REST_COLUMN, DataType::Json);
    let mut entries: Vec<String> = stream.columns.iter().filter(|c| !implied(c)).map(column).collect();
    entries.extend(stream.checks.iter().map(|c| format!("CONSTRAINT {} CHECK ({})", quoted(&c.name), c.expr)));
    entries.extend(stream.watermark.iter().map(rendered_watermark));
    for (i, entry) in entries.iter().enumerate() {
        let comma = if i + 1 < entries.len() { "," } else { "" };
        let _ = write!(sql, "\n  {entry}{comma}");
    }
    sql.push_str("\n)");
    if !stream.partition_by.is_empty() {
        let columns: Vec<_> = stream.partition_by.iter().map(|c| quoted(c)).collect();
        let _ = write!(sql, "\nPARTITION BY ({})", columns.join(", "));
    }
    if let Some(comment) = &stream.comment {
        let _ = write!(sql, "\nCOMMENT {}", literal(comment));
    }
    let options = options(&stream.options);
    if !options.is_empty() {
        let _ = write!(sql, "\nWITH ({})", options.join(", "));
    }
    sql
}

/// A watermark as an entry of a column list.
pub(super) fn rendered_watermark(watermark: &Watermark) -> String {
    format!("WATERMARK FOR {} AS {}", quoted(&watermark.column), watermark.expr)
}

/// An object's name as SQL needs it written.
pub(super) fn rendered_name(object: &ObjectName) -> String {
    let name = quoted(object.name());
    match object.schema() {
        millstream_catalog::DEFAULT_SCHEMA => name,
        schema => format!("{}.{name}", quoted(schema)),
    }
}

fn column(column: &Column) -> String {
    let mut sql = format!("{} {}", quoted(&column.name), column.data_type);
    if !column.nullable {
        sql.push_str(" NOT NULL");
    }
    if let Some(default) = &column.default {
        let _ = write!(sql, " DEFAULT {default}");
    }
    if let Some(comment) = &column.comment {
        let _ = write!(sql, " COMMENT {}", literal(comment));
    }
    sql
}

/// The options that are not at their defaults.
pub(crate) fn options(options: &StreamOptions) -> Vec<String> {
    let default = StreamOptions::default();
    let mut parts = Vec::new();
    if options.partitions != default.partitions {
        parts.push(format!("partitions = {}", options.partitions));
    }
    if let Some(ms) = options.retention_ms {
        parts.push(format!("hot = '{}'", render_duration(ms)));
    }
    if let Some(bytes) = options.retention_bytes {
        parts.push(format!("retention_size = '{}'", render_bytes(bytes)));
    }
    if options.durability == Durability::Os {
        parts.push("durability = 'os'".to_owned());
    }
    if options.rest {
        parts.push("rest = true".to_owned());
    }
    if let Some(ms) = options.lake_retention_ms {
        parts.push(format!("expire = '{}'", render_duration(ms)));
    }
    parts.extend(rendered(&options.policy));
    parts
}

/// A string literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
