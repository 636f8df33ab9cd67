//! Owns the way back: a table's definition as the statement that makes it.

use std::fmt::Write;

use millstream_catalog::{Column, Stream, TableSpec, quoted};

use super::entries::key_name;
use crate::ddl::render::{literal, options, rendered_name};

/// The CREATE TABLE that gives this definition; [`crate::ddl::parse`] reads it back to the same.
pub fn render_create_table(table: &Stream) -> String {
    let none = TableSpec::default();
    let spec = table.table.as_ref().unwrap_or(&none);
    let mut sql = format!("CREATE TABLE {} (", rendered_name(&table.name));
    let mut entries: Vec<String> = table.columns.iter().map(|c| column(c, spec)).collect();
    entries.extend(spec.primary_key.iter().map(|key| {
        let columns = names(&key.columns);
        match key.name == key_name(&table.name) {
            true => format!("PRIMARY KEY ({columns})"),
            false => format!("CONSTRAINT {} PRIMARY KEY ({columns})", quoted(&key.name)),
        }
    }));
    entries.extend(table.checks.iter().map(|c| format!("CONSTRAINT {} CHECK ({})", quoted(&c.name), c.expr)));
    for (i, entry) in entries.iter().enumerate() {
        let comma = if i + 1 < entries.len() { "," } else { "" };
        let _ = write!(sql, "\n  {entry}{comma}");
    }
    sql.push_str("\n)");
    for (clause, columns) in [("PARTITIONED BY", &spec.partitioned_by), ("ORDER BY", &spec.sorted_by)] {
        if !columns.is_empty() {
            let _ = write!(sql, "\n{clause} ({})", names(columns));
        }
    }
    if let Some(location) = &spec.location {
        let _ = write!(sql, "\nLOCATION {}", literal(location));
    }
    if let Some(comment) = &table.comment {
        let _ = write!(sql, "\nCOMMENT {}", literal(comment));
    }
    let options = options(&table.options);
    if !options.is_empty() {
        let _ = write!(sql, "\nWITH ({})", options.join(", "));
    }
    sql
}

fn names(columns: &[String]) -> String {
    columns.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(", ")
}

fn column(column: &Column, spec: &TableSpec) -> String {
    let mut sql = format!("{} {}", quoted(&column.name), column.data_type);
    if !column.nullable {
        sql.push_str(" NOT NULL");
    }
    if let Some(default) = &column.default {
        let _ = write!(sql, " DEFAULT {default}");
    }
    if let Some(generated) = spec.generated.iter().find(|g| g.column == column.name) {
        let _ = write!(sql, " GENERATED ALWAYS AS ({}) STORED", generated.expression);
    }
    if let Some(comment) = &column.comment {
        let _ = write!(sql, " COMMENT {}", literal(comment));
    }
    sql
}
