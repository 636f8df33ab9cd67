//! Owns an arrangement: rows kept under a key, in columns.
//!
//! ```text
//! index   fingerprint of a key ──► its newest row
//! rows        0    1    2    3    4    5    6  …        numbered as they come
//! chains      -    -    0    -    1    2    -            the row before it under the same key, and the one after
//! live        1    0    1    1    1    1    1            dead rows wait for compaction
//! pieces   [ batch of 0..4      ][ 4..6    ][ 6 ]        Arrow batches; small ones are merged
//! ```
//!
//! Where no two rows have one key, a row that goes is found by its key, and there are no chains. Elsewhere a row that
//! comes twice is kept twice, and one that goes is looked up by its whole content (`contents`, kept only where rows can
//! go). A row that went is marked dead; when more rows are dead than alive, the living ones are copied together. Batches are
//! never changed once they are there, so a snapshot costs the copy of one bit per row.

mod index;
mod piece;
mod pieces;
mod save;
mod table;

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use crate::delta::{rows_of, weights_of};
use crate::key::{EncodedRows, Key, RowEncoder};
use crate::{Error, Result};
use index::{Chains, EXACT, content_prints, prints, table};
pub(crate) use piece::{Memory, Piece};
use pieces::{PIECE_ROWS, Pieces};
use save::Unsaved;
pub(crate) use table::NO_ROW;
use table::{Print, Table};

/// Dead rows that are not worth a compaction.
const FEW_DEAD: usize = 4096;

/// How rows go one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goes {
    /// Not at all: only whole keys do.
    Never,
    /// No two rows have one key, and whichever row is under it goes.
    ByKey,
    /// By all of their columns.
    ByContent,
}

/// Rows under a key.
#[derive(Debug)]
pub(crate) struct Arrangement {
    key: Key,
    goes: Goes,
    pieces: Pieces,
    /// The newest row under each key.
    index: Table,
    /// The other rows of a key; empty where no two rows have one.
    chains: Chains,
    live: Vec<u64>,
    live_rows: usize,
    /// Present where rows go by their content.
    contents: Option<Contents>,
    /// What differs from the last checkpoint.
    unsaved: Unsaved,
}

/// Finds rows by all of their columns.
#[derive(Debug)]
struct Contents {
    encoder: RowEncoder,
    /// The newest of equal rows.
    index: Table,
    chains: Chains,
}

impl Contents {
    fn new(schema: &SchemaRef) -> Result<Self> {
        let types = schema.fields().iter().map(|f| f.data_type().clone());
        let encoder = RowEncoder::new(types).map_err(|_| {
            Error::not_incremental(
                "a row that can change",
                "it has a column of a type without an order (a map or a union); cast it to text",
            )
        })?;
        Ok(Self { encoder, index: table(), chains: Chains::default() })
    }

    fn prints(&self, rows: &RecordBatch) -> Result<Vec<Print>> {
        Ok(content_prints(&self.encoder.encode(rows.columns(), rows.num_rows())?))
    }

    fn insert(&mut self, print: &Print, row: u32) {
        let before = self.index.put(print, row);
        self.chains.push(row, before);
    }

    /// Takes out the newest row of that content.
    fn take(&mut self, print: &Print) -> Option<u32> {
        let row = self.index.find(print);
        if row == NO_ROW {
            return None;
        }
        match self.chains.unlink(row) {
            Some(NO_ROW) | None => self.index.remove(print),
            Some(older) => self.index.put(print, older),
        };
        Some(row)
    }
}

/// Where a row has a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TimeOf {
    /// A part of its key.
    KeyPart(usize),
    /// Any column.
    Column(usize),
}

/// Rows found: `rows[i]` lies under the key of probe row `probe[i]`.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) probe: Vec<u32>,
    pub(crate) rows: Vec<u32>,
}

impl Arrangement {
    /// An empty arrangement.
    pub(crate) fn new(schema: SchemaRef, key: Key, goes: Goes) -> Result<Self> {
        let contents = if goes == Goes::ByContent { Some(Contents::new(&schema)?) } else { None };
        Ok(Self {
            key,
            goes,
            pieces: Pieces::new(schema),
            index: table(),
            chains: Chains::default(),
            live: Vec::new(),
            live_rows: 0,
            contents,
            unsaved: Unsaved::default(),
        })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.pieces.schema()
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The columns, those of the key, and how rows go.
    pub(crate) fn describe(&self) -> String {
        let columns = self.schema().fields().iter().map(|f| {
            let null = if f.is_nullable() { "" } else { " not null" };
            format!("{} {}{null}", f.name(), f.data_type())
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let goes = match self.goes {
            Goes::Never => "",
            Goes::ByKey => "; rows go by key",
            Goes::ByContent => "; rows go",
        };
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
        let contents = self.contents.as_ref().map_or(0, |c| c.index.bytes() + c.chains.bytes());
        self.index.bytes() + self.chains.bytes() + self.live.len() * 8 + contents
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
        let comes: BooleanArray = weights.values().iter().map(|w| Some(*w > 0)).collect();
        let come = crate::delta::repeated(&filter_record_batch(delta, &comes)?)?;
        match self.goes {
            Goes::Never if gone.num_rows() > 0 => Err(state("a row goes where none can")),
            Goes::Never => self.insert(come),
            Goes::ByKey => self.change_by_key(&gone, &times, come),
            Goes::ByContent => {
                self.remove(&gone, &times)?;
                self.insert(come)
            }
        }
    }

    /// Adds rows.
    pub(crate) fn insert(&mut self, rows: RecordBatch) -> Result<()> {
        if self.goes == Goes::ByKey {
            return self.change_by_key(&rows.slice(0, 0), &[], rows);
        }
        let keys = self.key.encode(&rows)?;
        let keys = self.prints(keys.iter());
        let contents = match &self.contents {
            Some(contents) => contents.prints(&rows)?,
            None => Vec::new(),
        };
        let base = self.begin(&rows)?;
        for (i, before) in self.index.put_each(&keys, base).into_iter().enumerate() {
            self.chains.push(base + i as u32, before);
        }
        if let Some(kept) = &mut self.contents {
            contents.iter().enumerate().for_each(|(i, print)| kept.insert(print, base + i as u32));
        }
        self.end(rows)
    }

    /// Puts one row under each key, in place of what was there. No key may come twice. Only where rows go by key.
    pub(crate) fn replace(&mut self, keys: &EncodedRows, rows: RecordBatch) -> Result<()> {
        debug_assert!(self.goes == Goes::ByKey && keys.len() == rows.num_rows(), "one row per key");
        let keys = self.prints(keys.iter());
        let base = self.begin(&rows)?;
        for before in self.index.put_each(&keys, base) {
            if before != NO_ROW {
                self.dies(before);
            }
        }
        self.end(rows)
    }

    /// Takes away every row under these keys.
    pub(crate) fn clear_keys<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Result<()> {
        let mut gone = Vec::new();
        for print in self.prints(keys) {
            let mut row = self.index.remove(&print);
            while row != NO_ROW {
                self.dies(row);
                gone.push(row);
                row = self.before(row);
            }
        }
        if let Some(contents) = &mut self.contents {
            // Equal rows have one key: all of them go.
            let prints = contents.prints(&self.pieces.gather(&gone)?)?;
            prints.iter().for_each(|print| _ = contents.index.remove(print));
        }
        self.compact_if_due()
    }

    /// Takes away, and gives, every row of which a timestamp is below a value in its own unit.
    pub(crate) fn take_below(&mut self, of: TimeOf, at: i64) -> Result<RecordBatch> {
        let mut below: Vec<u32> = Vec::new();
        for (start, piece) in self.pieces.list() {
            let rows = *start..*start + piece.rows as u32;
            if rows.clone().all(|row| !is_set(&self.live, row)) {
                continue;
            }
            let batch = piece.batch()?;
            let times = match of {
                TimeOf::KeyPart(part) => self.key.part(&batch, part)?,
                TimeOf::Column(column) => Arc::clone(batch.column(column)),
            };
            let values = cast(&times, &DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>().iter();
            let old = rows
                .zip(values)
                .filter(|(row, value)| value.is_some_and(|value| value < at) && is_set(&self.live, *row));
            below.extend(old.map(|(row, _)| row));
        }
        let rows = self.gather(&below)?;
        match of {
            TimeOf::KeyPart(_) => self.clear_keys(self.key.encode(&rows)?.iter())?,
            TimeOf::Column(_) => self.remove_numbered(&below, &rows)?,
        }
        Ok(rows)
    }

    /// Takes away rows given by their numbers, and as they are.
    pub(crate) fn remove_numbered(&mut self, numbers: &[u32], rows: &RecordBatch) -> Result<()> {
        let keys = self.prints(self.key.encode(rows)?.iter());
        for (row, key) in numbers.iter().zip(&keys) {
            self.dies(*row);
            self.unchain(*row, key);
        }
        if let Some(contents) = &mut self.contents {
            for (row, print) in numbers.iter().zip(&contents.prints(rows)?) {
                match contents.chains.unlink(*row) {
                    None => {}
                    Some(NO_ROW) => _ = contents.index.remove(print),
                    Some(newest) => _ = contents.index.put(print, newest),
                }
            }
        }
        self.compact_if_due()
    }

    /// Takes a row out from under its key.
    fn unchain(&mut self, row: u32, key: &Print) {
        let newest = if self.goes == Goes::ByKey { Some(NO_ROW) } else { self.chains.unlink(row) };
        match newest {
            None => {}
            Some(NO_ROW) => _ = self.index.remove(key),
            Some(newest) => _ = self.index.put(key, newest),
        }
    }

    /// The rows under each probe key, oldest first.
    pub(crate) fn find(&self, keys: &EncodedRows) -> Found {
        self.find_keys(keys.iter())
    }

    /// [`Arrangement::find`] for encoded keys, one by one.
    pub(crate) fn find_keys<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Found {
        let mut found = Found::default();
        for (i, newest) in self.index.find_each(&self.prints(keys)).into_iter().enumerate() {
            let begin = found.rows.len();
            let mut row = newest;
            while row != NO_ROW {
                found.rows.push(row);
                found.probe.push(i as u32);
                row = self.before(row);
            }
            found.rows[begin..].reverse();
        }
        found
    }

    /// The row under each key, or [`NO_ROW`]. Only where rows go by key.
    pub(crate) fn find_one_each(&self, keys: &EncodedRows) -> Vec<u32> {
        debug_assert!(self.goes == Goes::ByKey, "a key has one row");
        self.index.find_each(&self.prints(keys.iter()))
    }

    /// The rows of these numbers.
    pub(crate) fn gather(&self, rows: &[u32]) -> Result<RecordBatch> {
        self.pieces.gather(rows)
    }

    /// The rows under the keys, each key's oldest first.
    pub(crate) fn rows_under(&self, keys: &EncodedRows) -> Result<RecordBatch> {
        self.gather(&self.find(keys).rows)
    }

    /// Whether no row has to be read from the store.
    pub(crate) fn is_in_memory(&self) -> bool {
        !self.pieces.memory().is_limited()
    }

    /// Everything that is there now, as batches that later changes leave alone.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { schema: Arc::clone(self.schema()), pieces: self.pieces.list().to_vec(), live: self.live.clone() }
    }

    /// The row before one under the same key.
    fn before(&self, row: u32) -> u32 {
        if self.goes == Goes::ByKey { NO_ROW } else { self.chains.older(row) }
    }

    fn prints<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<Print> {
        prints(keys, self.key.width().is_some_and(|width| width <= EXACT))
    }

    /// Makes room for rows that are about to be pushed; gives the number of the first.
    fn begin(&mut self, rows: &RecordBatch) -> Result<u32> {
        let base = self.pieces.rows() as usize;
        let end = base + rows.num_rows();
        if end >= NO_ROW as usize {
            return Err(state("it has more than 4 billion rows"));
        }
        self.make_room(end);
        (base..end).for_each(|row| set(&mut self.live, row as u32));
        self.live_rows += rows.num_rows();
        self.unsaved.rows(base, end);
        Ok(base as u32)
    }

    /// Makes room for rows up to this number.
    fn make_room(&mut self, end: usize) {
        self.live.resize(self.live.len().max(end.div_ceil(64)), 0);
        if self.goes != Goes::ByKey {
            self.chains.reserve(end);
        }
        if let Some(contents) = &mut self.contents {
            contents.chains.reserve(end);
        }
    }

    /// Keeps rows that [`Arrangement::begin`] made room for.
    fn end(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() > 0 {
            self.pieces.push(rows)?;
        }
        self.compact_if_due()
    }

    fn dies(&mut self, row: u32) {
        self.live_rows -= usize::from(clear(&mut self.live, row));
        self.unsaved.row(row);
    }

    /// Rows that go, and that come, where no two have one key.
    fn change_by_key(&mut self, gone: &RecordBatch, times: &[i64], come: RecordBatch) -> Result<()> {
        let going = self.prints(self.key.encode(gone)?.iter());
        let coming = self.prints(self.key.encode(&come)?.iter());
        let found = self.index.find_each(&going);
        for (i, row) in found.iter().enumerate() {
            // A row that goes twice is dead the second time.
            if *row == NO_ROW || times[i] != 1 || !is_set(&self.live, *row) {
                return Err(missing(gone, i));
            }
            self.dies(*row);
        }
        let base = self.begin(&come)?;
        for (i, before) in self.index.put_each(&coming, base).into_iter().enumerate() {
            if before != NO_ROW && is_set(&self.live, before) {
                return Err(state(format!("two rows have one key, the second is\n{}", shown(&come, i))));
            }
        }
        for (print, row) in going.iter().zip(found) {
            if self.index.find(print) == row {
                self.index.remove(print);
            }
        }
        self.end(come)
    }

    fn remove(&mut self, rows: &RecordBatch, times: &[i64]) -> Result<()> {
        let Some(contents) = &mut self.contents else { return Ok(()) };
        let wanted = contents.prints(rows)?;
        let mut gone: Vec<(u32, u32)> = Vec::new();
        for (i, times) in times.iter().enumerate() {
            for _ in 0..*times {
                let row = contents.take(&wanted[i]).ok_or_else(|| missing(rows, i))?;
                gone.push((i as u32, row));
            }
        }
        let keys = self.prints(self.key.encode(rows)?.iter());
        for (i, row) in gone {
            self.dies(row);
            self.unchain(row, &keys[i as usize]);
        }
        self.compact_if_due()
    }

    fn compact_if_due(&mut self) -> Result<()> {
        let dead = self.pieces.rows() as usize - self.live_rows;
        if dead <= self.live_rows + FEW_DEAD {
            return Ok(());
        }
        self.live_rows = 0;
        self.index = table();
        self.chains.clear();
        if let Some(contents) = &mut self.contents {
            contents.index = table();
            contents.chains.clear();
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

fn state(reason: impl Into<String>) -> Error {
    Error::State { node: "an arrangement".into(), reason: reason.into() }
}

fn missing(rows: &RecordBatch, i: usize) -> Error {
    state(format!("a row goes that is not there:\n{}", shown(rows, i)))
}

fn shown(rows: &RecordBatch, i: usize) -> String {
    let row = arrow::util::pretty::pretty_format_batches(&[rows.slice(i, 1)]).map(|t| t.to_string());
    row.unwrap_or_default()
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
