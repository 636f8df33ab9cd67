//! Owns the batches that an arrangement's rows lie in.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;

use crate::Result;
use crate::delta::conform;

/// Pieces up to this many rows are merged with their neighbours.
const PIECE_ROWS: usize = 16 * 1024;

/// Batches one behind the other; rows are numbered through.
#[derive(Debug)]
pub(super) struct Pieces {
    schema: SchemaRef,
    list: Vec<(u32, RecordBatch)>,
    rows: u32,
    bytes: usize,
}

impl Pieces {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, list: Vec::new(), rows: 0, bytes: 0 }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn list(&self) -> Vec<(u32, RecordBatch)> {
        self.list.clone()
    }

    /// Adds a batch behind the others. The last pieces are merged while they are of about one size, so that a row is
    /// copied a few times at most, and there are few pieces.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = conform(&batch, &self.schema)?;
        let start = self.rows;
        self.rows += batch.num_rows() as u32;
        self.bytes += batch.get_array_memory_size();
        self.list.push((start, batch));
        let mut from = self.list.len() - 1;
        let mut behind = self.list[from].1.num_rows();
        while from > 0 && self.list[from - 1].1.num_rows() <= 2 * behind && behind < PIECE_ROWS {
            from -= 1;
            behind += self.list[from].1.num_rows();
        }
        if from + 1 < self.list.len() {
            let tail: Vec<(u32, RecordBatch)> = self.list.drain(from..).collect();
            let merged = concat_batches(&self.schema, tail.iter().map(|(_, b)| b))?;
            self.bytes -= tail.iter().map(|(_, b)| b.get_array_memory_size()).sum::<usize>();
            self.bytes += merged.get_array_memory_size();
            self.list.push((tail[0].0, merged));
        }
        Ok(())
    }

    /// The rows of these numbers, in this order.
    pub(super) fn gather(&self, rows: &[u32]) -> Result<RecordBatch> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        if let [(_, only)] = self.list.as_slice() {
            return Ok(take_record_batch(only, &UInt32Array::from(rows.to_vec()))?);
        }
        // Only pieces that are needed take part: there may be thousands.
        let mut used = vec![usize::MAX; self.list.len()];
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut places = Vec::with_capacity(rows.len());
        let mut near = 0;
        for row in rows {
            near = self.piece_of(*row, near);
            let (start, batch) = &self.list[near];
            if used[near] == usize::MAX {
                used[near] = batches.len();
                batches.push(batch);
            }
            places.push((used[near], (row - start) as usize));
        }
        if let [only] = batches.as_slice() {
            let taken: Vec<u32> = places.iter().map(|(_, i)| *i as u32).collect();
            return Ok(take_record_batch(only, &UInt32Array::from(taken))?);
        }
        Ok(interleave_record_batch(&batches, &places)?)
    }

    /// The piece of a row; the one of the row before is tried first.
    fn piece_of(&self, row: u32, near: usize) -> usize {
        let (start, batch) = &self.list[near];
        if row >= *start && ((row - start) as usize) < batch.num_rows() {
            return near;
        }
        self.list.partition_point(|(start, _)| *start <= row) - 1
    }
}

/// The same rows in batches of some ten thousand.
pub(super) fn joined(schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let mut joined = Vec::new();
    let mut waiting: Vec<RecordBatch> = Vec::new();
    let mut rows = 0;
    for batch in batches {
        rows += batch.num_rows();
        waiting.push(batch);
        if rows >= PIECE_ROWS {
            joined.push(concat_batches(schema, &waiting)?);
            waiting.clear();
            rows = 0;
        }
    }
    if rows > 0 {
        joined.push(concat_batches(schema, &waiting)?);
    }
    Ok(joined)
}
