//! Owns `system.views`: how far each view is, what it keeps, what went wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use millstream_catalog::DataType;

use crate::engine::Shared;
use crate::views::OpenView;

pub(super) fn schema() -> SchemaRef {
    let field = |name, data_type: DataType, nullable| -> Field { data_type.to_field(name, nullable) };
    Arc::new(Schema::new(vec![
        // The schema it lies in.
        field("schema", DataType::Text, false),
        // Its name.
        field("name", DataType::Text, false),
        // building, running, suspended or failed.
        field("status", DataType::Text, false),
        // Rows of the answer.
        field("rows", DataType::BigInt, false),
        // Bytes of the answer in memory.
        field("bytes", DataType::BigInt, false),
        // Bytes that its nodes keep beside the answer.
        field("state_bytes", DataType::BigInt, false),
        // What it has read of each stream, by partition.
        field("positions", DataType::Text, false),
        // Rows of its streams that it has not taken in yet.
        field("lag_rows", DataType::BigInt, false),
        // How long ago it had taken in everything, while it lags; none while it was never built.
        field("lag_ms", DataType::BigInt, true),
        // Rows that came in each second of the last ten.
        field("events_per_second", DataType::Double, false),
        // Rows that came in since the node started.
        field("rows_in", DataType::BigInt, false),
        // Steps since the node started.
        field("steps", DataType::BigInt, false),
        // Rows that an expression failed on, since the node started; they are in system.quarantine.
        field("refused_rows", DataType::BigInt, false),
        // Rows that came behind the watermark, or without an event time, since the node started; likewise.
        field("late_rows", DataType::BigInt, false),
        // While it is being built: rows of history read, and how many there are.
        field("history_read", DataType::BigInt, false),
        field("history_rows", DataType::BigInt, false),
        // The number that its next change gets.
        field("changes_end", DataType::BigInt, false),
        // With EMIT ON WINDOW CLOSE: the least watermark of what it reads.
        field("watermark", DataType::TimestampTz, true),
        // Why the last step failed.
        field("last_error", DataType::Text, true),
    ]))
}

struct Row {
    texts: [String; 4],
    numbers: [i64; 11],
    watermark_us: Option<i64>,
    lag_ms: Option<i64>,
    events_per_second: f64,
    error: Option<String>,
}

pub(super) fn rows(shared: &Shared, schema: &SchemaRef) -> Result<RecordBatch> {
    let rows: Vec<Row> = shared.views().iter().map(|view| row(shared, view)).collect();
    let texts = |i: usize| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.texts[i]))) };
    let longs = |i: usize| -> ArrayRef { Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.numbers[i]))) };
    let mut columns = vec![texts(0), texts(1), texts(2)];
    columns.extend((0..3).map(longs));
    columns.push(texts(3));
    columns.push(longs(3));
    columns.push(Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.lag_ms))));
    columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.events_per_second))));
    columns.extend((4..11).map(longs));
    let watermarks = TimestampMicrosecondArray::from_iter(rows.iter().map(|r| r.watermark_us)).with_timezone("UTC");
    columns.push(Arc::new(watermarks));
    columns.push(Arc::new(StringArray::from_iter(rows.iter().map(|r| r.error.as_ref()))));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn row(shared: &Shared, view: &OpenView) -> Row {
    let (name, progress, (rows, bytes)) = (view.name(), view.progress(), view.size());
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let now_us = shared.options.clock.now_us();
    let lag_rows = shared.lag_rows(&progress.sources);
    let lag_ms = match view.up_to_us() {
        0 => None,
        _ if lag_rows == 0 => Some(0),
        up_to_us => Some((now_us - up_to_us).max(0) / 1000),
    };
    let numbers = [
        rows,
        bytes,
        progress.state_bytes,
        lag_rows,
        count(&view.rows_in),
        count(&view.steps),
        count(&view.refused_rows),
        count(&view.late_rows),
        progress.history.0,
        progress.history.1,
        progress.changes_end.next,
    ];
    Row {
        texts: [
            name.schema().to_owned(),
            name.name().to_owned(),
            progress.status.to_string(),
            shared.shown_sources(&progress.sources),
        ],
        numbers: numbers.map(|n| n as i64),
        watermark_us: progress.watermark_us,
        lag_ms,
        events_per_second: view.events_per_second(now_us),
        error: progress.error,
    }
}
