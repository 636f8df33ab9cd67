//! Owns `system.jobs`: every background task, its last success and last error.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use millstream_catalog::DataType;

use crate::engine::Shared;

pub(super) fn schema() -> SchemaRef {
    let field = |name, data_type: DataType, nullable| -> Field { data_type.to_field(name, nullable) };
    Arc::new(Schema::new(vec![
        // What the task does: tiering, maintenance, cleanup.
        field("kind", DataType::Text, false),
        // What it does it to: a stream's name.
        field("object", DataType::Text, false),
        // idle, running, or retrying after a failure.
        field("status", DataType::Text, false),
        // Runs since the node started.
        field("runs", DataType::BigInt, false),
        // Failed runs since the last success.
        field("failures_in_a_row", DataType::BigInt, false),
        // When a run last did something.
        field("last_success", DataType::TimestampTz, true),
        // What it did.
        field("last_result", DataType::Text, true),
        // When a run last failed.
        field("last_error_time", DataType::TimestampTz, true),
        // Why.
        field("last_error", DataType::Text, true),
    ]))
}

pub(super) fn rows(shared: &Shared, schema: &SchemaRef) -> Result<RecordBatch> {
    let jobs = shared.jobs.list();
    let times = |of: fn(&crate::jobs::JobState) -> Option<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter(jobs.iter().map(of)).with_timezone("UTC"))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(jobs.iter().map(|j| j.kind))),
        Arc::new(StringArray::from_iter_values(jobs.iter().map(|j| &j.object))),
        Arc::new(StringArray::from_iter_values(jobs.iter().map(|j| j.status))),
        Arc::new(Int64Array::from_iter_values(jobs.iter().map(|j| j.runs as i64))),
        Arc::new(Int64Array::from_iter_values(jobs.iter().map(|j| j.failures_in_a_row as i64))),
        times(|j| j.last_success_us),
        Arc::new(StringArray::from_iter(jobs.iter().map(|j| j.last_result.as_ref()))),
        times(|j| j.last_error_us),
        Arc::new(StringArray::from_iter(jobs.iter().map(|j| j.last_error.as_ref()))),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
