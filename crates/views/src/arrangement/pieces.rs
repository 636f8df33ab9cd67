//! Owns the pieces that an arrangement's rows lie in, one behind the other.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{DataType, SchemaRef};

use super::piece::{Memory, Piece};
use super::save::piece_key;
use crate::Result;
use crate::delta::{conform, taken, without_columns};

/// Pieces up to this many rows are merged with their neighbours.
pub(super) const PIECE_ROWS: usize = 16 * 1024;

/// Batches one behind the other; rows are numbered through.
#[derive(Debug)]
pub(super) struct Pieces {
    schema: SchemaRef,
    list: Vec<(u32, Arc<Piece>)>,
    rows: u32,
    next_id: u64,
    /// The number of the arrangement in its dataflow.
    number: u32,
    memory: Arc<Memory>,
}

impl Pieces {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, list: Vec::new(), rows: 0, next_id: 0, number: 0, memory: Arc::default() }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The number of the arrangement in its dataflow.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Pieces that come from now on belong to arrangement `number` of a dataflow with this memory.
    pub(super) fn place(&mut self, number: u32, memory: Arc<Memory>) {
        self.number = number;
        self.memory = memory;
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.list.iter().map(|(_, piece)| piece.bytes()).sum()
    }

    /// Rows in all pieces: the number of the next one.
    pub(super) fn rows(&self) -> u32 {
        self.rows
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

    /// Takes all pieces out; ids are not given again.
    pub(super) fn take(&mut self) -> Vec<(u32, Arc<Piece>)> {
        self.rows = 0;
        std::mem::take(&mut self.list)
    }

    /// Adds a batch behind the others. The last pieces are merged while they are of about one size, so that a row is
    /// copied a few times at most, and there are few pieces.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let mut batch = without_spare(&conform(&batch, &self.schema)?)?;
        let mut from = self.list.len();
        let mut behind = batch.num_rows();
        while from > 0 && self.list[from - 1].1.rows <= 2 * behind && behind < PIECE_ROWS {
            from -= 1;
            behind += self.list[from].1.rows;
        }
        if from < self.list.len() {
            let before = self.list[from..].iter().map(|(_, piece)| piece.batch()).collect::<Result<Vec<_>>>()?;
            batch = concat_batches(&self.schema, before.iter().chain([&batch]))?;
            self.rows = self.list[from].0;
            self.list.truncate(from);
        }
        self.append(self.next_id, batch);
        Ok(())
    }

    /// Adds a batch behind the others as a piece of its own.
    pub(super) fn append(&mut self, id: u64, batch: RecordBatch) -> Arc<Piece> {
        let start = self.rows;
        self.rows += batch.num_rows() as u32;
        self.next_id = self.next_id.max(id + 1);
        let piece = Arc::new(Piece::new(id, piece_key(self.number, id), batch, &self.memory));
        self.list.push((start, Arc::clone(&piece)));
        piece
    }

    /// The rows of these numbers, in this order.
    pub(super) fn gather(&self, rows: &[u32]) -> Result<RecordBatch> {
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        if let [(_, only)] = self.list.as_slice()
            && let Some(batch) = only.resident()
        {
            return taken(&batch, rows);
        }
        if self.schema.fields().is_empty() {
            return Ok(without_columns(&self.schema, rows.len()));
        }
        // Only pieces that are needed take part: there may be thousands.
        let mut used = vec![usize::MAX; self.list.len()];
        let mut pieces: Vec<&Arc<Piece>> = Vec::new();
        let mut places = Vec::with_capacity(rows.len());
        let mut near = 0;
        for row in rows {
            near = self.piece_of(*row, near);
            let (start, piece) = &self.list[near];
            if used[near] == usize::MAX {
                used[near] = pieces.len();
                pieces.push(piece);
            }
            places.push((used[near], (row - start) as usize));
        }
        let batches = batches_for(&pieces, &mut places)?;
        if let [only] = batches.as_slice() {
            let places: Vec<u32> = places.iter().map(|(_, i)| *i as u32).collect();
            return taken(only, &places);
        }
        Ok(interleave_record_batch(&batches.iter().collect::<Vec<_>>(), &places)?)
    }

    /// The piece of a row; the one of the row before is tried first.
    fn piece_of(&self, row: u32, near: usize) -> usize {
        let (start, piece) = &self.list[near];
        if row >= *start && ((row - start) as usize) < piece.rows {
            return near;
        }
        self.list.partition_point(|(start, _)| *start <= row) - 1
    }
}

/// A batch for each piece. Of a piece that is read and finds no room in memory, only the rows that are wanted; their
/// places are changed to where they then are.
fn batches_for(pieces: &[&Arc<Piece>], places: &mut [(usize, usize)]) -> Result<Vec<RecordBatch>> {
    let mut wanted: Option<Vec<Vec<usize>>> = None;
    let mut batches = Vec::with_capacity(pieces.len());
    for (n, piece) in pieces.iter().enumerate() {
        if let Some(batch) = piece.resident() {
            batches.push(batch);
            continue;
        }
        let batch = piece.batch()?;
        if piece.keep(&batch) {
            batches.push(batch);
            continue;
        }
        let wanted = wanted.get_or_insert_with(|| by_piece(pieces.len(), places));
        let rows: Vec<u32> = wanted[n].iter().map(|place| places[*place].1 as u32).collect();
        wanted[n].iter().enumerate().for_each(|(i, place)| places[*place].1 = i);
        batches.push(taken(&batch, &rows)?);
    }
    Ok(batches)
}

/// By piece: which of the places lie in it.
fn by_piece(pieces: usize, places: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut wanted = vec![Vec::new(); pieces];
    places.iter().enumerate().for_each(|(place, (piece, _))| wanted[*piece].push(place));
    wanted
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
