//! Owns the check that a batch has a log's schema.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};

use crate::{Error, Result};

/// The batch under the log's own schema; refused when names, types or nullability differ.
pub(crate) fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if std::sync::Arc::ptr_eq(batch.schema_ref(), schema) {
        return Ok(batch.clone());
    }
    let given = batch.schema_ref().fields();
    if given.len() != schema.fields().len() {
        let reason = format!("the rows have {} columns, the log has {}", given.len(), schema.fields().len());
        return Err(Error::Misfit { reason });
    }
    for (given, kept) in given.iter().zip(schema.fields()) {
        if given.name() != kept.name() || given.data_type() != kept.data_type() {
            let reason = format!(
                "column {:?} of type {} came where the log has {:?} of type {}",
                given.name(),
                given.data_type(),
                kept.name(),
                kept.data_type()
            );
            return Err(Error::Misfit { reason });
        }
    }
    RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).map_err(|e| Error::Misfit { reason: e.to_string() })
}

/// Refuses schemas that segments cannot hold: each part stands alone, so there is no place for dictionaries.
pub(crate) fn check_schema(schema: &Schema) -> Result<()> {
    for field in schema.flattened_fields() {
        if matches!(field.data_type(), DataType::Dictionary(_, _)) {
            let reason = format!("column {:?} is dictionary encoded, which the log does not keep", field.name());
            return Err(Error::Misfit { reason });
        }
    }
    Ok(())
}
