//! Owns which log batches a filter can skip, by the hidden columns' known ranges.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, TimestampMicrosecondArray, UInt64Array};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use millstream_buffer::LogBatch;
use millstream_catalog::{INGEST_TIME_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN};

/// Ranges of `_partition`, `_offset` and `_ingest_time` for a run of batches; other columns are unknown.
pub(crate) struct LogRanges<'a>(pub(crate) &'a [LogBatch]);

impl LogRanges<'_> {
    fn column(&self, column: &Column, last: bool) -> Option<ArrayRef> {
        let batches = self.0.iter();
        Some(match column.name.as_str() {
            PARTITION_COLUMN => Arc::new(Int32Array::from_iter_values(batches.map(|b| b.partition as i32))),
            OFFSET_COLUMN => Arc::new(Int64Array::from_iter_values(batches.map(|b| {
                let further = if last { b.batch.num_rows().saturating_sub(1) } else { 0 };
                b.base_offset as i64 + further as i64
            }))),
            INGEST_TIME_COLUMN => Arc::new(
                TimestampMicrosecondArray::from_iter_values(batches.map(|b| b.ingest_time_us)).with_timezone("UTC"),
            ),
            _ => return None,
        })
    }
}

impl PruningStatistics for LogRanges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column, true)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.0.iter().map(|b| b.batch.num_rows() as u64))))
    }

    fn contained(&self, _column: &Column, _values: &std::collections::HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
