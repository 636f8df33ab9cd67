//! Owns the form of rows for readers: log batches with the hidden columns, in today's schema.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use millstream_buffer::LogBatch;
use millstream_catalog::{INGEST_TIME_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN};

/// The schema that readers see for a stored schema: text as `Utf8View`, which is what the engine works on fastest.
pub(crate) fn reader_schema(stored: &Schema) -> SchemaRef {
    let fields = stored.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Turns log batches into batches of one output schema.
#[derive(Debug, Clone)]
pub(crate) struct BatchAdapter {
    output: SchemaRef,
}

impl BatchAdapter {
    /// An adapter to `output`: any selection of a stream's columns and hidden columns, by name.
    pub(crate) fn new(output: SchemaRef) -> Self {
        Self { output }
    }

    /// The output schema.
    pub(crate) fn output(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// The batch in the output schema; columns that are younger than the batch are NULL.
    pub(crate) fn adapt(&self, log: &LogBatch) -> Result<RecordBatch> {
        let rows = log.batch.num_rows();
        let columns = self.output.fields().iter().map(|field| column(log, field));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema_of(&columns), columns, &options)?)
    }
}

impl BatchAdapter {
    /// The output schema; a column that is NOT NULL by now and was not in these rows may be NULL in it.
    fn schema_of(&self, columns: &[ArrayRef]) -> SchemaRef {
        let breaks = |(field, column): (&Arc<Field>, &ArrayRef)| !field.is_nullable() && column.null_count() > 0;
        if !self.output.fields().iter().zip(columns).any(breaks) {
            return Arc::clone(&self.output);
        }
        let fields = self.output.fields().iter().zip(columns).map(|pair| match breaks(pair) {
            true => Arc::new(pair.0.as_ref().clone().with_nullable(true)),
            false => Arc::clone(pair.0),
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

fn column(log: &LogBatch, field: &Field) -> Result<ArrayRef> {
    let rows = log.batch.num_rows();
    if let Some(array) = log.batch.column_by_name(field.name()) {
        return if array.data_type() == field.data_type() {
            Ok(Arc::clone(array))
        } else {
            Ok(cast(array, field.data_type())?)
        };
    }
    Ok(match field.name().as_str() {
        PARTITION_COLUMN => Arc::new(Int32Array::from_value(log.partition as i32, rows)),
        OFFSET_COLUMN => {
            let base = log.base_offset as i64;
            Arc::new(Int64Array::from_iter_values(base..base + rows as i64))
        }
        INGEST_TIME_COLUMN => {
            Arc::new(TimestampMicrosecondArray::from_value(log.ingest_time_us, rows).with_timezone("UTC"))
        }
        _ => new_null_array(field.data_type(), rows),
    })
}

/// The batch as the lake stores it: the stream's full schema.
pub(crate) fn lake_batch(log: &LogBatch, full_schema: &SchemaRef) -> Result<RecordBatch> {
    BatchAdapter::new(Arc::clone(full_schema)).adapt(log)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    fn log_batch() -> LogBatch {
        let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true)]);
        let column: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["x", "y"]));
        let batch = RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap();
        LogBatch { partition: 3, base_offset: 40, ingest_time_us: 7, batch }
    }

    #[test]
    fn hidden_columns_are_made_from_the_position() {
        let output = Arc::new(Schema::new(vec![
            Field::new(OFFSET_COLUMN, DataType::Int64, false),
            Field::new(PARTITION_COLUMN, DataType::Int32, false),
        ]));
        let batch = BatchAdapter::new(output).adapt(&log_batch()).unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[40, 41]);
        assert_eq!(batch.column(1).as_primitive::<Int32Type>().values(), &[3, 3]);
    }

    #[test]
    fn a_column_younger_than_the_batch_is_null_and_text_becomes_a_view() {
        let output = Arc::new(Schema::new(vec![
            Field::new("b", DataType::Int64, true),
            Field::new("a", DataType::Utf8View, true),
        ]));
        let batch = BatchAdapter::new(output).adapt(&log_batch()).unwrap();
        assert_eq!(batch.column(0).null_count(), 2);
        assert_eq!(batch.column(1).as_string_view().value(1), "y");
    }

    #[test]
    fn a_selection_of_no_columns_keeps_the_row_count() {
        let batch = BatchAdapter::new(Arc::new(Schema::empty())).adapt(&log_batch()).unwrap();
        assert_eq!(batch.num_rows(), 2);
    }
}
