//! Owns `system.streams`: what each stream holds, where, and how far the lake is behind.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use millstream_catalog::{DataType, Positions};
use millstream_store::LakeSnapshot;

use crate::ddl::render_options;
use crate::engine::Shared;
use crate::stream::{Counters, OpenStream};

pub(super) fn schema() -> SchemaRef {
    let field = |name, data_type: DataType, nullable| -> Field { data_type.to_field(name, nullable) };
    Arc::new(Schema::new(vec![
        // The schema it lies in.
        field("schema", DataType::Text, false),
        // Its name.
        field("name", DataType::Text, false),
        // open, or broken with the reason in "problem".
        field("status", DataType::Text, false),
        // How many partitions it has.
        field("partitions", DataType::Int, false),
        // Rows ever accepted: what count(*) gives while nothing has expired.
        field("rows", DataType::BigInt, false),
        // Bytes of the log on disk.
        field("log_bytes", DataType::BigInt, false),
        // Bytes of recent rows in memory.
        field("memory_bytes", DataType::BigInt, false),
        // Bytes of the lake's files.
        field("lake_bytes", DataType::BigInt, false),
        // Number of the lake's files.
        field("lake_files", DataType::BigInt, false),
        // The Delta version; NULL while the table is not open.
        field("lake_version", DataType::BigInt, true),
        // Of the lake's files those at the cold place, and their bytes.
        field("cold_files", DataType::BigInt, false),
        field("cold_bytes", DataType::BigInt, false),
        // The oldest offset in the log, by partition.
        field("log_start", DataType::Text, false),
        // The offset after the newest row, by partition.
        field("log_end", DataType::Text, false),
        // The lake has the rows before these offsets, by partition.
        field("lake_position", DataType::Text, false),
        // Rows that are not in the lake yet.
        field("lag_rows", DataType::BigInt, false),
        // Rows accepted since the node started.
        field("accepted_rows", DataType::BigInt, false),
        // Rows sent to quarantine since the node started.
        field("quarantined_rows", DataType::BigInt, false),
        // Requests since the node started that repeated an idempotency key and so added nothing.
        field("duplicate_requests", DataType::BigInt, false),
        // Unknown JSON fields since the node started that the stream does not keep.
        field("unknown_fields", DataType::BigInt, false),
        // Its options that are not at their defaults.
        field("options", DataType::Text, true),
        // Why writes are refused, or why it is not open.
        field("problem", DataType::Text, true),
    ]))
}

/// One row.
#[derive(Default)]
struct Row {
    schema: String,
    name: String,
    status: &'static str,
    partitions: i32,
    numbers: [i64; 5],
    lake_version: Option<i64>,
    cold: [i64; 2],
    positions: [String; 3],
    counts: [i64; 5],
    options: Option<String>,
    problem: Option<String>,
}

pub(super) fn rows(shared: &Shared, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut rows: Vec<Row> = shared.streams().iter().filter(|s| s.kind() == "stream").map(|s| row(s)).collect();
    rows.extend(shared.broken("stream").into_iter().map(|(name, problem)| Row {
        schema: name.schema().to_owned(),
        name: name.name().to_owned(),
        status: "broken",
        problem: Some(problem),
        ..Row::default()
    }));
    let texts =
        |of: &dyn Fn(&Row) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
    let longs = |of: &dyn Fn(&Row) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(of))) };
    let mut columns: Vec<ArrayRef> = vec![
        texts(&|r| r.schema.clone()),
        texts(&|r| r.name.clone()),
        texts(&|r| r.status.to_owned()),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.partitions))),
    ];
    columns.extend((0..5).map(|i| longs(&|r| r.numbers[i])));
    columns.push(Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.lake_version))));
    columns.extend((0..2).map(|i| longs(&|r| r.cold[i])));
    columns.extend((0..3).map(|i| texts(&|r| r.positions[i].clone())));
    columns.extend((0..5).map(|i| longs(&|r| r.counts[i])));
    columns.push(Arc::new(StringArray::from_iter(rows.iter().map(|r| r.options.as_ref()))));
    columns.push(Arc::new(StringArray::from_iter(rows.iter().map(|r| r.problem.as_ref()))));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn row(stream: &OpenStream) -> Row {
    let stats = stream.log().stats();
    let lake = stream.lake_table().map(|table| table.snapshot());
    let lake_positions = stream.lake_positions();
    let (lake_bytes, lake_files) = lake.as_ref().map_or((0, 0), |s| (s.bytes, s.files));
    let counters = &stream.counters;
    Row {
        schema: stream.name().schema().to_owned(),
        name: stream.name().name().to_owned(),
        status: "open",
        partitions: stream.definition().stream.options.partitions as i32,
        numbers: [stats.end.total(), stats.disk_bytes, stats.memory_bytes, lake_bytes, lake_files].map(|n| n as i64),
        lake_version: lake.as_ref().map(|s| s.version),
        cold: cold_figures(stream, lake.as_deref()),
        options: options_of(stream),
        positions: [&stats.start, &stats.end, &lake_positions].map(text),
        counts: [
            stats.end.rows_since(&lake_positions),
            Counters::get(&counters.accepted_rows),
            Counters::get(&counters.quarantined_rows),
            Counters::get(&counters.duplicate_requests),
            Counters::get(&counters.unknown_fields),
        ]
        .map(|n| n as i64),
        problem: stats.poisoned,
    }
}

/// Files and bytes at the cold place.
pub(super) fn cold_figures(stream: &OpenStream, lake: Option<&LakeSnapshot>) -> [i64; 2] {
    let cold = lake.map(|snapshot| snapshot.cold(stream.id())).unwrap_or_default();
    [cold.files, cold.bytes].map(|n| n as i64)
}

/// The options that are not at their defaults, as they are written.
pub(super) fn options_of(stream: &OpenStream) -> Option<String> {
    let options = render_options(&stream.definition().stream.options);
    (!options.is_empty()).then(|| options.join(", "))
}

fn text(positions: &Positions) -> String {
    let parts: Vec<String> = positions.0.iter().enumerate().map(|(p, o)| format!("{p}-{o}")).collect();
    parts.join(",")
}
