//! Owns `system.maintenance`: the last rounds of care of lake tables, automatic and on demand.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use millstream_catalog::DataType;

use crate::engine::Shared;
use crate::rounds::Round;

pub(super) fn schema() -> SchemaRef {
    let field = |name, data_type: DataType, nullable| -> Field { data_type.to_field(name, nullable) };
    Arc::new(Schema::new(vec![
        // When the round ended.
        field("ended_at", DataType::TimestampTz, false),
        // The table or stream.
        field("object", DataType::Text, false),
        // automatic, optimize, temperature or vacuum.
        field("kind", DataType::Text, false),
        // How long it took.
        field("duration_ms", DataType::BigInt, false),
        // Files that were merged away, and their bytes.
        field("files_merged", DataType::BigInt, false),
        field("bytes_merged", DataType::BigInt, false),
        // Files that took their place, and their bytes.
        field("files_written", DataType::BigInt, false),
        field("bytes_written", DataType::BigInt, false),
        // Files deleted for good, and their bytes.
        field("files_deleted", DataType::BigInt, false),
        field("bytes_deleted", DataType::BigInt, false),
        // Files whose rows went because of their age, and these rows.
        field("files_expired", DataType::BigInt, false),
        field("rows_expired", DataType::BigInt, false),
        // Files that went to the cold place, and their bytes.
        field("files_cooled", DataType::BigInt, false),
        field("bytes_cooled", DataType::BigInt, false),
        // The version that a checkpoint of the Delta log was written for.
        field("checkpoint", DataType::BigInt, true),
        // Why it failed.
        field("error", DataType::Text, true),
    ]))
}

pub(super) fn rows(shared: &Shared, schema: &SchemaRef) -> Result<RecordBatch> {
    let rounds = shared.rounds.list();
    let count = |of: fn(&Round) -> u64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rounds.iter().map(|r| i64::try_from(of(r)).unwrap_or(i64::MAX))))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(rounds.iter().map(|r| r.ended_us)).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(rounds.iter().map(|r| &r.object))),
        Arc::new(StringArray::from_iter_values(rounds.iter().map(|r| r.kind))),
        count(|r| u64::try_from(r.took.as_millis()).unwrap_or(u64::MAX)),
        count(|r| r.report.files_compacted),
        count(|r| r.report.bytes_compacted),
        count(|r| r.report.files_written),
        count(|r| r.report.bytes_written),
        count(|r| r.report.files_vacuumed),
        count(|r| r.report.bytes_vacuumed),
        count(|r| r.expired.files),
        count(|r| r.expired.rows),
        count(|r| r.cooled.files),
        count(|r| r.cooled.bytes),
        Arc::new(Int64Array::from_iter(rounds.iter().map(|r| r.report.checkpoint))),
        Arc::new(StringArray::from_iter(rounds.iter().map(|r| r.error.as_ref()))),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
