//! Owns the Z-order of rows: near in many columns at once is near in the file.
//!
//! A value's rank among a sample of its column becomes 16 bits; the bits of all columns, interleaved, are the key that
//! rows are sorted by. It rides in two columns behind the row's own, which the writer of files leaves out.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

/// The columns that carry the key.
pub(crate) const KEY_COLUMNS: [&str; 2] = ["_zorder_high", "_zorder_low"];
/// Bits that one column gives to the key.
const BITS: u32 = 16;
/// Columns that fit into the key.
pub(crate) const MAX_COLUMNS: usize = 128 / BITS as usize;
/// Values that a column's ranks are taken from.
const SAMPLE_ROWS: u64 = 1 << 16;

/// One column's ranks.
struct Ranks {
    column: String,
    converter: RowConverter,
    sample: Vec<OwnedRow>,
}

/// Gives keys to rows.
pub(crate) struct ZOrder {
    columns: Vec<Ranks>,
}

impl ZOrder {
    /// Learns the columns' values from rows, of which there are `total`.
    pub async fn of(
        columns: &[String],
        mut rows: SendableRecordBatchStream,
        total: u64,
    ) -> Result<Self, DataFusionError> {
        let schema = rows.schema();
        let ranks = columns.iter().map(|column| {
            let data_type = schema.field_with_name(column)?.data_type().clone();
            let converter = RowConverter::new(vec![SortField::new(data_type)])?;
            Ok(Ranks { column: column.clone(), converter, sample: vec![] })
        });
        let mut this = Self { columns: ranks.collect::<Result<_, ArrowError>>()? };
        let every = usize::try_from((total / SAMPLE_ROWS).max(1)).unwrap_or(usize::MAX);
        let mut next = 0;
        while let Some(batch) = rows.try_next().await? {
            let picked: UInt32Array = (next..batch.num_rows()).step_by(every).map(|i| i as u32).collect();
            next = (next + picked.len() * every).saturating_sub(batch.num_rows());
            for ranks in &mut this.columns {
                ranks.learn(&batch, &picked)?;
            }
        }
        this.columns.iter_mut().for_each(|ranks| ranks.sample.sort_unstable());
        Ok(this)
    }

    /// The same rows with their keys behind.
    pub fn with_keys(self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = keyed(&rows.schema());
        let out = schema.clone();
        let keyed = rows.map(move |batch| Ok(self.add_keys(&batch?, &schema)?));
        Box::pin(RecordBatchStreamAdapter::new(out, keyed))
    }

    fn add_keys(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let ranks = self.columns.iter().map(|c| c.of(batch)).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<u128> = (0..batch.num_rows()).map(|row| interleaved(ranks.iter().map(|r| r[row]))).collect();
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(keys.iter().map(|key| (key >> 64) as u64).collect::<UInt64Array>()));
        columns.push(Arc::new(keys.iter().map(|&key| key as u64).collect::<UInt64Array>()));
        RecordBatch::try_new(schema.clone(), columns)
    }
}

impl Ranks {
    fn learn(&mut self, batch: &RecordBatch, picked: &UInt32Array) -> Result<(), ArrowError> {
        let values = take(&column(batch, &self.column)?, picked, None)?;
        let rows = self.converter.convert_columns(&[values])?;
        self.sample.extend(rows.iter().map(|row| row.owned()));
        Ok(())
    }

    /// The rank of each row's value, spread over all bits.
    fn of(&self, batch: &RecordBatch) -> Result<Vec<u16>, ArrowError> {
        let rows = self.converter.convert_columns(&[column(batch, &self.column)?])?;
        let steps = self.sample.len() as u64 + 1;
        let rank = |row: arrow::row::Row<'_>| {
            let below = self.sample.partition_point(|known| known.row() < row) as u64;
            (below * (1 << BITS) / steps) as u16
        };
        Ok(rows.iter().map(rank).collect())
    }
}

fn column(batch: &RecordBatch, name: &str) -> Result<ArrayRef, ArrowError> {
    batch.column_by_name(name).cloned().ok_or_else(|| ArrowError::SchemaError(format!("column {name:?} is not there")))
}

fn keyed(schema: &Schema) -> SchemaRef {
    let keys = KEY_COLUMNS.iter().map(|name| Arc::new(Field::new(*name, DataType::UInt64, false)));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain(keys).collect::<Vec<_>>()))
}

/// The ranks' bits: the highest of each column first.
fn interleaved(ranks: impl Iterator<Item = u16> + Clone) -> u128 {
    let mut key = 0;
    for bit in (0..BITS).rev() {
        for rank in ranks.clone() {
            key = key << 1 | u128::from(rank >> bit & 1);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_interleaved_from_the_highest() {
        let key = interleaved([0b1000_0000_0000_0001, 0b0100_0000_0000_0001].into_iter());
        assert_eq!(key, 0b1001 << 28 | 0b11);
        assert_eq!(interleaved([7].into_iter()), 7);
    }
}
