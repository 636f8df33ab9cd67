//! Owns the batches that an arrangement's rows lie in.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{DataType, SchemaRef};

use crate::Result;
use crate::delta::{conform, taken, without_columns};

/// Pieces up to this many rows are merged with their neighbours.
const PIECE_ROWS: usize = 16 * 1024;

/// A batch with a name of its own, which is never changed.
#[derive(Debug)]
pub(super) struct Piece {
    /// Unique in its arrangement, also among those that are gone.
    pub(super) id: u64,
    batch: RecordBatch,
}

impl Piece {
    pub(super) fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    fn rows(&self) -> usize {
        self.batch.num_rows()
    }
}

/// Batches one behind the other; rows are numbered through.
#[derive(Debug)]
pub(super) struct Pieces {
    schema: SchemaRef,
    list: Vec<(u32, Arc<Piece>)>,
    rows: u32,
    bytes: usize,
    next_id: u64,
}

impl Pieces {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, list: Vec::new(), rows: 0, bytes: 0, next_id: 0 }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn list(&self) -> &[(u32, Arc<Piece>)] {
        &self.list
    }

    /// The id of the next piece.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Ids below this one were given.
    pub(super) fn reserve_ids(&mut self, next_id: u64) {
        self.next_id = self.next_id.max(next_id);
    }

    /// Takes all pieces away; ids are not given again.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.rows = 0;
        self.bytes = 0;
    }

    /// Adds a batch behind the others. The last pieces are merged while they are of about one size, so that a row is
    /// copied a few times at most, and there are few pieces.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let mut batch = without_spare(&conform(&batch, &self.schema)?)?;
        let mut from = self.list.len();
        let mut behind = batch.num_rows();
        while from > 0 && self.list[from - 1].1.rows() <= 2 * behind && behind < PIECE_ROWS {
            from -= 1;
            behind += self.list[from].1.rows();
        }
        if from < self.list.len() {
            let tail: Vec<(u32, Arc<Piece>)> = self.list.drain(from..).collect();
            self.rows = tail[0].0;
            self.bytes -= tail.iter().map(|(_, p)| p.batch.get_array_memory_size()).sum::<usize>();
            batch = concat_batches(&self.schema, tail.iter().map(|(_, p)| p.batch()).chain([&batch]))?;
        }
        let id = self.next_id;
        self.append(id, batch);
        Ok(())
    }

    /// Adds a batch behind the others as a piece of its own.
    pub(super) fn append(&mut self, id: u64, batch: RecordBatch) {
        let start = self.rows;
        self.rows += batch.num_rows() as u32;
        self.bytes += batch.get_array_memory_size();
        self.next_id = self.next_id.max(id + 1);
        self.list.push((start, Arc::new(Piece { id, batch })));
    }

    /// The rows of these numbers, in this order.
    pub(super) fn gather(&self, rows: &[u32]) -> Result<RecordBatch> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        if let [(_, only)] = self.list.as_slice() {
            return taken(only.batch(), rows);
        }
        if self.schema.fields().is_empty() {
            return Ok(without_columns(&self.schema, rows.len()));
        }
        // Only pieces that are needed take part: there may be thousands.
        let mut used = vec![usize::MAX; self.list.len()];
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut places = Vec::with_capacity(rows.len());
        let mut near = 0;
        for row in rows {
            near = self.piece_of(*row, near);
            let (start, piece) = &self.list[near];
            if used[near] == usize::MAX {
                used[near] = batches.len();
                batches.push(piece.batch());
            }
            places.push((used[near], (row - start) as usize));
        }
        if let [only] = batches.as_slice() {
            let places: Vec<u32> = places.iter().map(|(_, i)| *i as u32).collect();
            return taken(only, &places);
        }
        Ok(interleave_record_batch(&batches, &places)?)
    }

    /// The piece of a row; the one of the row before is tried first.
    fn piece_of(&self, row: u32, near: usize) -> usize {
        let (start, piece) = &self.list[near];
        if row >= *start && ((row - start) as usize) < piece.rows() {
            return near;
        }
        self.list.partition_point(|(start, _)| *start <= row) - 1
    }
}

/// The same rows without text that they do not show: views into long buffers keep the whole of them.
fn without_spare(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|column| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)?)
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
