//! Owns `system.queries`: the statements that are running and the last ones that ran.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use millstream_catalog::DataType;

use crate::engine::Shared;

pub(super) fn schema() -> SchemaRef {
    let field = |name, data_type: DataType, nullable| -> Field { data_type.to_field(name, nullable) };
    Arc::new(Schema::new(vec![
        // Counts statements since the node started.
        field("id", DataType::BigInt, false),
        // The text, cut to 4096 characters.
        field("sql", DataType::Text, false),
        // running, done, failed or cancelled.
        field("status", DataType::Text, false),
        // When it was admitted.
        field("started", DataType::TimestampTz, false),
        // When it ended; NULL while it runs.
        field("finished", DataType::TimestampTz, true),
        // How long it ran, or has been running.
        field("duration_ms", DataType::BigInt, false),
        // Rows given out.
        field("rows", DataType::BigInt, false),
        // Memory it holds now.
        field("memory_bytes", DataType::BigInt, false),
        // The most it held.
        field("peak_memory_bytes", DataType::BigInt, false),
        // Why it failed.
        field("error", DataType::Text, true),
    ]))
}

pub(super) fn rows(shared: &Shared, schema: &SchemaRef) -> Result<RecordBatch> {
    let now = shared.options.clock.now_us();
    let queries = shared.queries.list();
    let longs = |of: &dyn Fn(&crate::queries::QueryRecord) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(queries.iter().map(of)))
    };
    let started = TimestampMicrosecondArray::from_iter_values(queries.iter().map(|q| q.started_us));
    let finished = TimestampMicrosecondArray::from_iter(queries.iter().map(|q| q.finished_us));
    let columns: Vec<ArrayRef> = vec![
        longs(&|q| q.id as i64),
        Arc::new(StringArray::from_iter_values(queries.iter().map(|q| &q.sql))),
        Arc::new(StringArray::from_iter_values(queries.iter().map(|q| q.status))),
        Arc::new(started.with_timezone("UTC")),
        Arc::new(finished.with_timezone("UTC")),
        longs(&|q| (q.finished_us.unwrap_or(now) - q.started_us).max(0) / 1000),
        longs(&|q| q.rows as i64),
        longs(&|q| q.memory_bytes as i64),
        longs(&|q| q.peak_memory_bytes as i64),
        Arc::new(StringArray::from_iter(queries.iter().map(|q| q.error.as_ref()))),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
