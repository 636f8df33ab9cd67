//! Owns the way back: a view's definition as the statement that makes it.

use std::fmt::Write;

use millstream_catalog::{Column, ObjectName, OnError, Stream, View, ViewOptions, quoted};

use crate::ddl::options::{render_bytes, render_duration};
use crate::ddl::render::{literal, options, rendered_name, rendered_watermark};

/// The CREATE MATERIALIZED VIEW that gives this definition; [`crate::ddl::parse`] reads it back to the same.
/// `replaces` is the name of the view it is to replace, if it is to replace one.
pub fn render_create_view(view: &View, replaces: Option<&ObjectName>) -> String {
    let name = rendered_name(&view.name);
    let mut sql = match replaces {
        Some(old) => format!("CREATE REPLACEMENT MATERIALIZED VIEW {name} FOR {}", rendered_name(old)),
        None => format!("CREATE MATERIALIZED VIEW {name}"),
    };
    if view.named_columns {
        let _ = write!(sql, " ({})", column_names(&view.columns).join(", "));
    }
    if let Some(comment) = &view.comment {
        let _ = write!(sql, "\nCOMMENT {}", literal(comment));
    }
    with(&mut sql, view_options(&view.options));
    query(&mut sql, view);
    sql
}

/// The CREATE STREAM … AS that gives these definitions, a stream's and that of the view that writes it.
pub fn render_create_derived(stream: &Stream, view: &View) -> String {
    let mut sql = format!("CREATE STREAM {}", rendered_name(&stream.name));
    let named = view.named_columns || stream.columns.iter().any(|c| c.comment.is_some());
    let mut entries = if named { column_names(&stream.columns) } else { vec![] };
    entries.extend(stream.watermark.iter().map(rendered_watermark));
    if !entries.is_empty() {
        let _ = write!(sql, " ({})", entries.join(", "));
    }
    if !stream.partition_by.is_empty() {
        let columns: Vec<_> = stream.partition_by.iter().map(|c| quoted(c)).collect();
        let _ = write!(sql, "\nPARTITION BY ({})", columns.join(", "));
    }
    if let Some(comment) = &stream.comment {
        let _ = write!(sql, "\nCOMMENT {}", literal(comment));
    }
    let mut all = options(&stream.options);
    all.extend(view_options(&view.options));
    with(&mut sql, all);
    query(&mut sql, view);
    sql
}

fn column_names(columns: &[Column]) -> Vec<String> {
    let names = columns.iter().map(|c| match &c.comment {
        Some(comment) => format!("{} COMMENT {}", quoted(&c.name), literal(comment)),
        None => quoted(&c.name),
    });
    names.collect()
}

fn with(sql: &mut String, options: Vec<String>) {
    if !options.is_empty() {
        let _ = write!(sql, "\nWITH ({})", options.join(", "));
    }
}

/// The options that are not at their defaults; ON ERROR is a clause of its own.
fn view_options(options: &ViewOptions) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(ms) = options.retention_ms {
        parts.push(format!("retention = '{}'", render_duration(ms)));
    }
    if let Some(bytes) = options.retention_bytes {
        parts.push(format!("retention_size = '{}'", render_bytes(bytes)));
    }
    if let Some(bytes) = options.memory_bytes {
        parts.push(format!("memory = '{}'", render_bytes(bytes)));
    }
    match options.idle_timeout_ms {
        None => {}
        Some(ViewOptions::NEVER_MS) => parts.push("idle_timeout = 'none'".to_owned()),
        Some(ms) => parts.push(format!("idle_timeout = '{}'", render_duration(ms))),
    }
    parts
}

fn query(sql: &mut String, view: &View) {
    let _ = write!(sql, "\nAS\n{}", view.query);
    if view.emit_on_window_close {
        sql.push_str("\nEMIT ON WINDOW CLOSE");
    }
    if view.options.on_error == OnError::Stop {
        sql.push_str("\nON ERROR STOP");
    }
}
