//! Owns `system.jobs`: every background task, its last success and last error, and the statements that load or change
//! rows, with how far they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use millstream_catalog::DataType;

use crate::engine::Shared;
use crate::jobs::Measure;

pub(super) fn schema() -> SchemaRef {
    let field = |name, data_type: DataType, nullable| -> Field { data_type.to_field(name, nullable) };
    Arc::new(Schema::new(vec![
        // What the task does: tiering, maintenance, cleanup, view, or a statement: copy, create table, insert, update,
        // delete, merge.
        field("kind", DataType::Text, false),
        // What it does it to: a stream's or table's name; for a statement with its number in system.queries.
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
        // When the run that goes on, or the last one, began.
        field("started", DataType::TimestampTz, true),
        // Of a statement: its id in system.queries.
        field("query", DataType::BigInt, true),
        // Rows read or changed so far.
        field("rows", DataType::BigInt, true),
        // Bytes of files read so far.
        field("bytes", DataType::BigInt, true),
        // Bytes of files in all, where that is known.
        field("total_bytes", DataType::BigInt, true),
        // Files read to their end.
        field("files", DataType::BigInt, true),
        // Files in all.
        field("total_files", DataType::BigInt, true),
    ]))
}

pub(super) fn rows(shared: &Shared, schema: &SchemaRef) -> Result<RecordBatch> {
    let jobs = shared.jobs.list();
    let times = |of: fn(&crate::jobs::JobState) -> Option<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter(jobs.iter().map(of)).with_timezone("UTC"))
    };
    let measured = |of: &dyn Fn(&Measure) -> u64| -> ArrayRef {
        let values = jobs.iter().map(|job| job.measure.as_deref().map(|measure| of(measure) as i64));
        Arc::new(values.collect::<Int64Array>())
    };
    let counted = |of: fn(&Measure) -> &AtomicU64| measured(&|measure| of(measure).load(Ordering::Relaxed));
    // What is not known is NULL.
    let known = |of: fn(&Measure) -> &AtomicU64| -> ArrayRef {
        let value = |measure: &Measure| Some(of(measure).load(Ordering::Relaxed) as i64).filter(|value| *value > 0);
        Arc::new(jobs.iter().map(|job| job.measure.as_deref().and_then(value)).collect::<Int64Array>())
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
        times(|j| j.started_us),
        measured(&|measure| measure.query),
        counted(|measure| &measure.rows),
        counted(|measure| &measure.bytes),
        known(|measure| &measure.total_bytes),
        counted(|measure| &measure.files),
        known(|measure| &measure.total_files),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
