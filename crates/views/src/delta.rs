//! Owns the form of changes: record batches whose last column says how often a row comes or goes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use hashbrown::HashTable;
use twox_hash::XxHash64;

use crate::Result;
use crate::key::RowEncoder;

/// The name of the weight column: `+n` adds a row n times, `-n` takes it away n times.
pub const WEIGHT: &str = "__weight";

/// The schema of deltas of rows of `schema`.
pub fn weighted_schema(schema: &Schema) -> SchemaRef {
    let weight = Arc::new(Field::new(WEIGHT, DataType::Int64, false));
    let fields: Vec<_> = schema.fields().iter().cloned().chain([weight]).collect();
    Arc::new(Schema::new(fields))
}

/// The rows, each with that weight.
pub fn weighted(rows: &RecordBatch, weight: i64) -> Result<RecordBatch> {
    with_weights(rows, Int64Array::from_value(weight, rows.num_rows()))
}

pub(crate) fn with_weights(rows: &RecordBatch, weights: Int64Array) -> Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns.push(Arc::new(weights));
    Ok(RecordBatch::try_new(weighted_schema(&rows.schema()), columns)?)
}

/// The same columns under another schema: the engine's operators name fields and their nullability in their own way.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

/// The rows of these numbers, in this order.
pub(crate) fn taken(rows: &RecordBatch, numbers: &[u32]) -> Result<RecordBatch> {
    if rows.num_columns() == 0 {
        return Ok(without_columns(&rows.schema(), numbers.len()));
    }
    Ok(take_record_batch(rows, &UInt32Array::from(numbers.to_vec()))?)
}

/// That many rows of no columns: such are counted only.
pub(crate) fn without_columns(schema: &SchemaRef, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), vec![], &options);
    batch.expect("a schema without fields has no columns")
}

/// The rows without their weights.
pub(crate) fn rows_of(delta: &RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<usize> = (0..delta.num_columns() - 1).collect();
    Ok(delta.project(&columns)?)
}

/// The weights.
pub(crate) fn weights_of(delta: &RecordBatch) -> &Int64Array {
    delta.column(delta.num_columns() - 1).as_primitive::<Int64Type>()
}

/// Adds up the weights of equal rows and leaves out those that come to nothing. Rows keep the order in which they are
/// first seen.
pub fn consolidate(schema: &SchemaRef, deltas: &[RecordBatch]) -> Result<RecordBatch> {
    let all = concat_batches(schema, deltas)?;
    if all.num_rows() < 2 {
        return Ok(all);
    }
    let columns = all.num_columns() - 1;
    let encoder = RowEncoder::new(schema.fields().iter().take(columns).map(|f| f.data_type().clone()))?;
    let rows = encoder.encode(&all.columns()[..columns], all.num_rows())?;
    let weights = weights_of(&all);
    let mut firsts: Vec<u32> = Vec::with_capacity(all.num_rows());
    let mut sums: Vec<i64> = Vec::with_capacity(all.num_rows());
    let mut seen: HashTable<(u64, u32)> = HashTable::with_capacity(all.num_rows());
    for i in 0..all.num_rows() {
        let bytes = rows.row(i);
        let hash = XxHash64::oneshot(0, bytes);
        let entry =
            seen.entry(hash, |(h, n)| *h == hash && rows.row(firsts[*n as usize] as usize) == bytes, |(h, _)| *h);
        match entry {
            hashbrown::hash_table::Entry::Occupied(found) => sums[found.get().1 as usize] += weights.value(i),
            hashbrown::hash_table::Entry::Vacant(free) => {
                free.insert((hash, firsts.len() as u32));
                firsts.push(i as u32);
                sums.push(weights.value(i));
            }
        }
    }
    if firsts.len() == all.num_rows() && sums.iter().all(|w| *w != 0) {
        return Ok(all);
    }
    let kept: (Vec<u32>, Vec<i64>) = firsts.into_iter().zip(sums).filter(|(_, w)| *w != 0).unzip();
    let rows = taken(&rows_of(&all)?, &kept.0)?;
    with_weights(&rows, Int64Array::from(kept.1)).and_then(|batch| conform(&batch, schema))
}

/// The rows of a delta whose weight is positive, as often as it says; refuses nothing: other rows are left out.
pub(crate) fn repeated(delta: &RecordBatch) -> Result<RecordBatch> {
    let weights = weights_of(delta);
    if weights.null_count() == 0 && weights.values().iter().all(|w| *w == 1) {
        return rows_of(delta);
    }
    let mut indices = Vec::with_capacity(delta.num_rows());
    for (i, w) in weights.values().iter().enumerate() {
        indices.extend(std::iter::repeat_n(i as u32, (*w).max(0) as usize));
    }
    taken(&rows_of(delta)?, &indices)
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    fn delta(rows: &[(&str, i64)]) -> RecordBatch {
        let names = StringArray::from_iter_values(rows.iter().map(|r| r.0));
        let batch = RecordBatch::try_from_iter([("name", Arc::new(names) as ArrayRef)]).unwrap();
        with_weights(&batch, Int64Array::from_iter_values(rows.iter().map(|r| r.1))).unwrap()
    }

    #[test]
    fn equal_rows_add_up_and_those_that_come_to_nothing_are_left_out() {
        let deltas = [delta(&[("a", 1), ("b", 1), ("a", 1)]), delta(&[("b", -1), ("c", -1)])];
        let sum = consolidate(&deltas[0].schema(), &deltas).unwrap();
        assert_eq!(sum, delta(&[("a", 2), ("c", -1)]));
    }

    #[test]
    fn rows_are_repeated_as_often_as_they_weigh() {
        let rows = repeated(&delta(&[("a", 2), ("b", 0), ("c", 1)])).unwrap();
        assert_eq!(rows.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["a", "a", "c"]);
    }
}
