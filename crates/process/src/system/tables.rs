//! Owns `system.tables`: what each table holds, where, and how many changes are not in the lake yet.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use millstream_catalog::DataType;

use super::streams::{cold_figures, options_of};
use crate::engine::Shared;
use crate::stream::OpenStream;

pub(super) fn schema() -> SchemaRef {
    let field = |name, data_type: DataType, nullable| -> Field { data_type.to_field(name, nullable) };
    Arc::new(Schema::new(vec![
        // The schema it lies in.
        field("schema", DataType::Text, false),
        // Its name.
        field("name", DataType::Text, false),
        // open, or broken with the reason in "problem".
        field("status", DataType::Text, false),
        // How many columns it has.
        field("columns", DataType::Int, false),
        // The columns of its primary key.
        field("primary_key", DataType::Text, true),
        // Rows in the lake's files.
        field("lake_rows", DataType::BigInt, false),
        // Bytes of the lake's files.
        field("lake_bytes", DataType::BigInt, false),
        // Number of the lake's files.
        field("lake_files", DataType::BigInt, false),
        // The Delta version; NULL while the table is not open.
        field("lake_version", DataType::BigInt, true),
        // Of the lake's files those at the cold place, and their bytes.
        field("cold_files", DataType::BigInt, false),
        field("cold_bytes", DataType::BigInt, false),
        // Rows that came or went and are not merged into the lake yet.
        field("hot_rows", DataType::BigInt, false),
        // Bytes of the log on disk.
        field("log_bytes", DataType::BigInt, false),
        // Bytes of recent changes in memory.
        field("memory_bytes", DataType::BigInt, false),
        // Its options that are not at their defaults.
        field("options", DataType::Text, true),
        // What COMMENT ON TABLE said.
        field("comment", DataType::Text, true),
        // Why writes are refused, why it is not open, or why a background task fails.
        field("problem", DataType::Text, true),
    ]))
}

/// One row.
#[derive(Default)]
struct Row {
    texts: [String; 3],
    columns: i32,
    primary_key: Option<String>,
    lake: [i64; 3],
    lake_version: Option<i64>,
    cold: [i64; 2],
    log: [i64; 3],
    options: Option<String>,
    comment: Option<String>,
    problem: Option<String>,
}

pub(super) fn rows(shared: &Shared, schema: &SchemaRef) -> Result<RecordBatch> {
    let failing = shared.jobs.list().into_iter().filter(|job| job.failures_in_a_row > 0);
    let failing: HashMap<String, String> =
        failing.filter_map(|job| Some((job.object, format!("{} fails: {}", job.kind, job.last_error?)))).collect();
    let tables = shared.streams().into_iter().filter(|t| t.kind() == "table");
    let mut rows: Vec<Row> = tables.map(|t| row(&t, failing.get(&t.name().to_string()))).collect();
    rows.extend(shared.broken("table").into_iter().map(|(name, problem)| Row {
        texts: [name.schema().to_owned(), name.name().to_owned(), "broken".to_owned()],
        problem: Some(problem),
        ..Row::default()
    }));
    let texts = |i: usize| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.texts[i]))) };
    let optional =
        |of: &dyn Fn(&Row) -> Option<String>| -> ArrayRef { Arc::new(StringArray::from_iter(rows.iter().map(of))) };
    let longs = |of: &dyn Fn(&Row) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(of))) };
    let mut columns = vec![texts(0), texts(1), texts(2)];
    columns.push(Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.columns))));
    columns.push(optional(&|r| r.primary_key.clone()));
    columns.extend((0..3).map(|i| longs(&|r| r.lake[i])));
    columns.push(Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.lake_version))));
    columns.extend((0..2).map(|i| longs(&|r| r.cold[i])));
    columns.extend((0..3).map(|i| longs(&|r| r.log[i])));
    columns.push(optional(&|r| r.options.clone()));
    columns.push(optional(&|r| r.comment.clone()));
    columns.push(optional(&|r| r.problem.clone()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn row(table: &OpenStream, failing: Option<&String>) -> Row {
    let stats = table.log().stats();
    let lake = table.lake_table().map(|t| t.snapshot());
    let figures = lake.as_ref().map_or([0; 3], |s| [s.rows, s.bytes, s.files]);
    let definition = Arc::clone(&table.definition().stream);
    let key = definition.table.as_ref().and_then(|spec| spec.primary_key.as_ref());
    Row {
        texts: [definition.name.schema().to_owned(), definition.name.name().to_owned(), "open".to_owned()],
        columns: definition.columns.len() as i32,
        primary_key: key.map(|key| key.columns.join(", ")),
        lake: figures.map(|n| n as i64),
        lake_version: lake.as_ref().map(|s| s.version),
        cold: cold_figures(table, lake.as_deref()),
        options: options_of(table),
        log: [stats.end.rows_since(&table.lake_positions()), stats.disk_bytes, stats.memory_bytes].map(|n| n as i64),
        comment: definition.comment.clone(),
        problem: stats.poisoned.or_else(|| failing.cloned()),
    }
}
