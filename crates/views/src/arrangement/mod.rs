//! Owns an arrangement: rows kept under a key, in columns.
//!
//! ```text
//! index   key bytes ──► slot: first row, number of rows
//! rows        0    1    2    3    4    5    6  …        numbered as they come
//! next        -    -    0    -    1    2    -            the row before it under the same key
//! live        1    0    1    1    1    1    1            dead rows wait for compaction
//! pieces   [ batch of 0..4      ][ 4..6    ][ 6 ]        Arrow batches; small ones are merged
//! ```
//!
//! A row that comes twice is kept twice. A row that goes is looked up by its whole content (`whole`, kept only where
//! rows can go) and marked dead; when more rows are dead than alive, the living ones are copied together. Batches are
//! never changed once they are there, so a snapshot costs the copy of one bit per row.

mod index;
mod piece;
mod pieces;
mod save;

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use crate::delta::{rows_of, weights_of};
use crate::key::{EncodedRows, Key, RowEncoder};
use crate::{Error, Result};
use index::{KeyIndex, NO_ROW, RowIndex};
pub(crate) use piece::{Memory, Piece};
use pieces::{PIECE_ROWS, Pieces};
use save::Unsaved;

/// Dead rows that are not worth a compaction.
const FEW_DEAD: usize = 4096;

/// Rows under a key.
#[derive(Debug)]
pub(crate) struct Arrangement {
    key: Key,
    pieces: Pieces,
    index: KeyIndex,
    next: Vec<u32>,
    live: Vec<u64>,
    live_rows: usize,
    /// Finds a row by its content; absent where rows never go one by one.
    whole: Option<(RowEncoder, RowIndex)>,
    /// What differs from the last checkpoint.
    unsaved: Unsaved,
}

/// Rows found: `rows[i]` lies under the key of probe row `probe[i]`.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) probe: Vec<u32>,
    pub(crate) rows: Vec<u32>,
}

impl Arrangement {
    /// An empty arrangement. `retracts`: whether rows can go one by one.
    pub(crate) fn new(schema: SchemaRef, key: Key, retracts: bool) -> Result<Self> {
        let whole = if retracts {
            let types = schema.fields().iter().map(|f| f.data_type().clone());
            let encoder = RowEncoder::new(types).map_err(|_| {
                Error::not_incremental(
                    "a row that can change",
                    "it has a column of a type without an order (a map or a union); cast it to text",
                )
            })?;
            Some((encoder, RowIndex::default()))
        } else {
            None
        };
        Ok(Self {
            key,
            pieces: Pieces::new(schema),
            index: KeyIndex::default(),
            next: Vec::new(),
            live: Vec::new(),
            live_rows: 0,
            whole,
            unsaved: Unsaved::default(),
        })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.pieces.schema()
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The columns, those of the key, and whether rows can go one by one.
    pub(crate) fn describe(&self) -> String {
        let columns = self.schema().fields().iter().map(|f| {
            let null = if f.is_nullable() { "" } else { " not null" };
            format!("{} {}{null}", f.name(), f.data_type())
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let goes = if self.whole.is_some() { "; rows go" } else { "" };
        format!("{columns}; {}{goes}", self.key.describe())
    }

    /// Rows that are there.
    pub(crate) fn len(&self) -> usize {
        self.live_rows
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.bytes() + self.index_bytes()
    }

    /// Bytes in memory, about, without those of the rows: these can't leave it.
    pub(crate) fn index_bytes(&self) -> usize {
        let whole = self.whole.as_ref().map_or(0, |(_, index)| index.bytes());
        self.index.bytes() + self.next.len() * 4 + self.live.len() * 8 + whole
    }

    /// Gives it its place in a dataflow, before it has rows.
    pub(crate) fn place(&mut self, number: u32, memory: Arc<Memory>) {
        self.pieces.place(number, memory);
    }

    /// The pieces, for whoever makes room in memory.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Arc<Piece>> {
        self.pieces.list().iter().map(|(_, piece)| piece)
    }

    /// Takes in a delta: rows come and go by their weights. A row that goes and is not there is an error, since
    /// nothing above could be right any more.
    pub(crate) fn apply(&mut self, delta: &RecordBatch) -> Result<()> {
        if delta.num_rows() == 0 {
            return Ok(());
        }
        let weights = weights_of(delta).clone();
        let rows = rows_of(delta)?;
        if weights.values().iter().all(|w| *w == 1) {
            return self.insert(rows);
        }
        // What goes first, so that a row that is replaced by an equal one is found.
        let goes: BooleanArray = weights.values().iter().map(|w| Some(*w < 0)).collect();
        let gone = filter_record_batch(&rows, &goes)?;
        let times: Vec<i64> = weights.values().iter().filter(|w| **w < 0).map(|w| -w).collect();
        self.remove(&gone, &times)?;
        let comes: BooleanArray = weights.values().iter().map(|w| Some(*w > 0)).collect();
        let repeated = crate::delta::repeated(&filter_record_batch(delta, &comes)?)?;
        self.insert(repeated)
    }

    /// Adds rows.
    pub(crate) fn insert(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let keys = self.key.encode(&rows)?;
        let base = self.begin(&rows)?;
        for i in 0..rows.num_rows() {
            let id = base + i as u32;
            let slot = self.index.enter(keys.row(i));
            self.next[id as usize] = slot.first;
            slot.first = id;
            slot.rows += 1;
        }
        self.live_rows += rows.num_rows();
        self.pieces.push(rows)?;
        self.compact_if_due()
    }

    /// Puts one row under each key, in place of what was there. No key may come twice.
    pub(crate) fn replace(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let keys = self.key.encode(&rows)?;
        let base = self.begin(&rows)?;
        for i in 0..rows.num_rows() {
            let id = base + i as u32;
            let slot = self.index.enter(keys.row(i));
            let mut old = std::mem::replace(&mut slot.first, id);
            slot.rows = 1;
            while old != NO_ROW {
                self.live_rows -= usize::from(clear(&mut self.live, old));
                self.unsaved.row(old);
                old = self.next[old as usize];
            }
        }
        self.live_rows += rows.num_rows();
        self.pieces.push(rows)?;
        self.compact_if_due()
    }

    /// Takes away every row under these keys.
    pub(crate) fn clear_keys<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Result<()> {
        for key in keys {
            let mut row = self.index.leave(key);
            while row != NO_ROW {
                self.live_rows -= usize::from(clear(&mut self.live, row));
                self.unsaved.row(row);
                row = self.next[row as usize];
            }
        }
        self.compact_if_due()
    }

    /// Takes away, and gives, every row of which that part of the key, a timestamp, is below a value in its own unit.
    pub(crate) fn take_below(&mut self, part: usize, at: i64) -> Result<RecordBatch> {
        let mut below: Vec<u32> = Vec::new();
        for (start, piece) in self.pieces.list() {
            let rows = *start..*start + piece.rows as u32;
            if rows.clone().all(|row| !is_set(&self.live, row)) {
                continue;
            }
            let values = cast(&self.key.part(&piece.batch()?, part)?, &DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>().iter();
            let old = rows
                .zip(values)
                .filter(|(row, value)| value.is_some_and(|value| value < at) && is_set(&self.live, *row));
            below.extend(old.map(|(row, _)| row));
        }
        let rows = self.gather(&below)?;
        let keys = self.key.encode(&rows)?;
        self.clear_keys(keys.iter())?;
        Ok(rows)
    }

    /// The rows under each probe key, oldest first.
    pub(crate) fn find(&self, keys: &EncodedRows) -> Found {
        self.find_keys(keys.iter())
    }

    /// [`Arrangement::find`] for encoded keys, one by one.
    pub(crate) fn find_keys<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Found {
        let mut found = Found::default();
        for (i, key) in keys.enumerate() {
            let begin = found.rows.len();
            let mut row = self.index.first(key);
            while row != NO_ROW {
                if is_set(&self.live, row) {
                    found.rows.push(row);
                    found.probe.push(i as u32);
                }
                row = self.next[row as usize];
            }
            found.rows[begin..].reverse();
        }
        found
    }

    /// The rows of these numbers.
    pub(crate) fn gather(&self, rows: &[u32]) -> Result<RecordBatch> {
        self.pieces.gather(rows)
    }

    /// The rows under the keys, each key's oldest first.
    pub(crate) fn rows_under(&self, keys: &EncodedRows) -> Result<RecordBatch> {
        self.gather(&self.find(keys).rows)
    }

    /// Everything that is there now, as batches that later changes leave alone.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { schema: Arc::clone(self.schema()), pieces: self.pieces.list().to_vec(), live: self.live.clone() }
    }

    /// Makes room for rows that are about to be pushed; gives the number of the first.
    fn begin(&mut self, rows: &RecordBatch) -> Result<u32> {
        let base = self.next.len();
        let end = base + rows.num_rows();
        if end >= NO_ROW as usize {
            return Err(Error::State {
                node: "an arrangement".into(),
                reason: "it has more than 4 billion rows".into(),
            });
        }
        self.next.resize(end, NO_ROW);
        self.live.resize(end.div_ceil(64), 0);
        (base..end).for_each(|row| set(&mut self.live, row as u32));
        self.unsaved.rows(base, end);
        if let Some((encoder, index)) = &mut self.whole {
            let bytes = encoder.encode(rows.columns(), rows.num_rows())?;
            (0..rows.num_rows()).for_each(|i| index.insert(bytes.row(i), (base + i) as u32));
        }
        Ok(base as u32)
    }

    fn remove(&mut self, rows: &RecordBatch, times: &[i64]) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let Some((encoder, index)) = &mut self.whole else {
            return Err(Error::State { node: "an arrangement".into(), reason: "a row goes where none can".into() });
        };
        let wanted = encoder.encode(rows.columns(), rows.num_rows())?;
        let keys = self.key.encode(rows)?;
        // Candidates by hash, then compared by content.
        let mut candidates: Vec<(u32, u32)> = Vec::new();
        for (i, times) in times.iter().enumerate() {
            for _ in 0..*times {
                match index.take(wanted.row(i), |row| is_set(&self.live, row)) {
                    Some(row) => candidates.push((i as u32, row)),
                    None => return Err(missing(rows, i)),
                }
            }
        }
        let found = self.pieces.gather(&candidates.iter().map(|c| c.1).collect::<Vec<_>>())?;
        let found = encoder.encode(found.columns(), found.num_rows())?;
        for (n, (i, row)) in candidates.iter().enumerate() {
            if found.row(n) != wanted.row(*i as usize) {
                return Err(missing(rows, *i as usize));
            }
            clear(&mut self.live, *row);
            self.unsaved.row(*row);
            self.live_rows -= 1;
            self.index.one_less(keys.row(*i as usize));
        }
        self.compact_if_due()
    }

    fn compact_if_due(&mut self) -> Result<()> {
        let dead = self.next.len() - self.live_rows;
        if dead <= self.live_rows + FEW_DEAD {
            return Ok(());
        }
        self.live_rows = 0;
        self.next = Vec::new();
        self.index = KeyIndex::default();
        if let Some((_, index)) = &mut self.whole {
            *index = RowIndex::default();
        }
        self.unsaved.all();
        let bits = Buffer::from_vec(std::mem::take(&mut self.live));
        let mut waiting: Vec<RecordBatch> = Vec::new();
        let mut rows = 0;
        for (start, piece) in self.pieces.take() {
            let Some(living) = living(piece.batch()?, start, &bits)? else { continue };
            drop(piece);
            rows += living.num_rows();
            waiting.push(living);
            if rows >= PIECE_ROWS {
                self.insert_joined(&mut waiting)?;
                rows = 0;
            }
        }
        self.insert_joined(&mut waiting)
    }

    /// Adds rows that were there before.
    fn insert_joined(&mut self, waiting: &mut Vec<RecordBatch>) -> Result<()> {
        let joined = concat_batches(self.schema(), waiting.iter())?;
        waiting.clear();
        self.insert(joined)?;
        self.relieve_if_limited()
    }

    /// Makes room in memory where that is needed.
    fn relieve_if_limited(&mut self) -> Result<()> {
        if self.pieces.memory().excess() > 0 { self.relieve() } else { Ok(()) }
    }
}

fn missing(rows: &RecordBatch, i: usize) -> Error {
    let row = arrow::util::pretty::pretty_format_batches(&[rows.slice(i, 1)]).map(|t| t.to_string());
    let reason = format!("a row goes that is not there:\n{}", row.unwrap_or_default());
    Error::State { node: "an arrangement".into(), reason }
}

fn is_set(bits: &[u64], row: u32) -> bool {
    bits[row as usize / 64] >> (row % 64) & 1 == 1
}

fn set(bits: &mut [u64], row: u32) {
    bits[row as usize / 64] |= 1 << (row % 64);
}

/// Whether the bit was set.
fn clear(bits: &mut [u64], row: u32) -> bool {
    let was = is_set(bits, row);
    bits[row as usize / 64] &= !(1 << (row % 64));
    was
}

/// An arrangement at one instant.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) schema: SchemaRef,
    pieces: Vec<(u32, Arc<Piece>)>,
    live: Vec<u64>,
}

impl Snapshot {
    /// The rows that are there, all at once.
    pub(crate) fn batches(self) -> Result<Vec<RecordBatch>> {
        self.parts().collect()
    }

    /// The rows that are there, batch by batch: one that is not in memory is read when its turn comes.
    pub(crate) fn parts(self) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        let bits = Buffer::from_vec(self.live);
        self.pieces
            .into_iter()
            .filter_map(move |(start, piece)| piece.batch().and_then(|batch| living(batch, start, &bits)).transpose())
    }
}

/// The rows of a batch whose bits, from `start` on, are set.
fn living(batch: RecordBatch, start: u32, bits: &Buffer) -> Result<Option<RecordBatch>> {
    let live = BooleanBuffer::new(bits.clone(), start as usize, batch.num_rows());
    Ok(match live.count_set_bits() {
        0 => None,
        n if n == batch.num_rows() => Some(batch),
        _ => Some(filter_record_batch(&batch, &BooleanArray::new(live, None))?),
    })
}

#[cfg(test)]
mod tests;
