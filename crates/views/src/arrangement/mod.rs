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
//! Where no two rows have one key, a row that goes is found by its key, and there are no chains. Where rows only come and
//! are only read all together there is no index either. Elsewhere a row that comes twice is kept twice, and one that goes
//! is looked up by its whole content (`contents`, kept only where rows can go). A row that went is marked dead, and its
//! room is used again when more rows are dead than alive (`compact.rs`). Batches are never changed once they are there, so
//! a snapshot costs some pointers per 65536 rows.
//!
//! Pieces that find no room in memory lie in the store. Where few of a piece's rows are wanted, these are read one by
//! one from there (`form.rs`).

mod compact;
mod contents;
mod form;
mod index;
mod memory;
mod piece;
mod rows;
mod save;
mod snapshot;
mod table;

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use crate::delta::{rows_of, taken, weights_of};
use crate::key::{EncodedRows, Key};
use crate::{Error, Result};
use contents::Contents;
use index::{Chains, EXACT, prints, table};
pub(crate) use memory::Memory;
pub(crate) use piece::Piece;
use rows::{REGION_ROWS, Rows};
use save::Unsaved;
pub(crate) use snapshot::Snapshot;
pub(crate) use table::NO_ROW;
use table::{Print, Table};

/// How rows go one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goes {
    /// Not at all, and no key is ever sought: there is no index.
    Unsought,
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
    rows: Rows,
    /// The newest row under each key; empty where none is sought.
    index: Table,
    /// The other rows of a key; empty where no two rows have one, and where none is sought.
    chains: Chains,
    /// Present where rows go by their content.
    contents: Option<Contents>,
    /// What differs from the last checkpoint.
    unsaved: Unsaved,
}

/// Where a row has a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
            rows: Rows::new(schema),
            index: table(),
            chains: Chains::default(),
            contents,
            unsaved: Unsaved::default(),
        })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        self.rows.schema()
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
            Goes::Unsought | Goes::Never => "",
            Goes::ByKey => "; rows go by key",
            Goes::ByContent => "; rows go",
        };
        format!("{columns}; {}{goes}", self.key.describe())
    }

    /// Rows that are there.
    pub(crate) fn len(&self) -> usize {
        self.rows.alive()
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.bytes() + self.index_bytes()
    }

    /// Bytes in memory, about, without those of the rows: these can't leave it.
    pub(crate) fn index_bytes(&self) -> usize {
        let contents = self.contents.as_ref().map_or(0, |c| c.index.bytes() + c.chains.bytes());
        self.index.bytes() + self.chains.bytes() + self.rows.live_bytes() + contents
    }

    /// Gives it its place in a dataflow, before it has rows.
    pub(crate) fn place(&mut self, number: u32, memory: Arc<Memory>) {
        self.rows.belong_to(number, memory);
    }

    /// The pieces, for whoever makes room in memory.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Arc<Piece>> {
        self.rows.pieces()
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
            Goes::Unsought | Goes::Never if gone.num_rows() > 0 => Err(state("a row goes where none can")),
            Goes::Unsought | Goes::Never => self.insert(come),
            Goes::ByKey => self.change_by_key(&gone, &times, come),
            Goes::ByContent => {
                self.remove(&gone, &times)?;
                self.insert(come)
            }
        }
    }

    /// Adds rows.
    pub(crate) fn insert(&mut self, rows: RecordBatch) -> Result<()> {
        match self.goes {
            Goes::Unsought => return self.add(rows, &[], |_, _, _, _| Ok(())),
            Goes::ByKey => return self.change_by_key(&rows.slice(0, 0), &[], rows),
            Goes::Never | Goes::ByContent => {}
        }
        let keys = self.prints(self.key.encode(&rows)?.iter());
        let contents = match &self.contents {
            Some(contents) => contents.prints(&rows)?,
            None => Vec::new(),
        };
        self.add(rows, &keys, |kept, i, row, before| {
            kept.chains.push(row, before);
            if let Some(kept) = &mut kept.contents {
                kept.insert(&contents[i], row);
            }
            Ok(())
        })?;
        self.compact_if_due()
    }

    /// Puts one row under each key, in place of what was there. No key may come twice. Only where rows go by key.
    pub(crate) fn replace(&mut self, keys: &EncodedRows, rows: RecordBatch) -> Result<()> {
        debug_assert!(self.goes == Goes::ByKey && keys.len() == rows.num_rows(), "one row per key");
        let keys = self.prints(keys.iter());
        self.add(rows, &keys, |kept, _, _, before| {
            if before != NO_ROW {
                kept.dies(before);
            }
            Ok(())
        })?;
        self.compact_if_due()
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
            let prints = contents.prints(&self.rows.gather(&gone)?)?;
            prints.iter().for_each(|print| _ = contents.index.remove(print));
        }
        self.compact_if_due()
    }

    /// Takes away rows that were found under these keys, one key for each.
    pub(crate) fn remove_found<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>, rows: &[u32]) -> Result<()> {
        debug_assert!(self.contents.is_none(), "rows go by their number");
        for (key, row) in self.prints(keys).iter().zip(rows) {
            self.dies(*row);
            let newest = if self.goes == Goes::ByKey { Some(NO_ROW) } else { self.chains.unlink(*row) };
            match newest {
                None => {}
                Some(NO_ROW) => _ = self.index.remove(key),
                Some(newest) => _ = self.index.put(key, newest),
            }
        }
        self.compact_if_due()
    }

    /// Takes away, and gives, every row of which a timestamp is below a value in its own unit.
    pub(crate) fn take_below(&mut self, of: TimeOf, at: i64) -> Result<RecordBatch> {
        let mut below: Vec<u32> = Vec::new();
        for region in self.rows.regions().filter(|region| region.alive > 0) {
            for (start, piece) in &region.pieces {
                if piece.lowest(of).is_some_and(|lowest| lowest >= at) {
                    continue;
                }
                let batch = piece.batch()?;
                let times = match of {
                    TimeOf::KeyPart(part) => self.key.part(&batch, part)?,
                    TimeOf::Column(column) => Arc::clone(batch.column(column)),
                };
                let values = cast(&times, &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>();
                piece.note_lowest(of, values.iter().flatten().min().unwrap_or(i64::MAX));
                let places = (*start as usize..).zip(values.iter());
                let old = places.filter(|(place, value)| value.is_some_and(|v| v < at) && region.is_live(*place));
                below.extend(old.map(|(place, _)| region.base() + place as u32));
            }
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
        self.rows.gather(rows)
    }

    /// The rows under the keys, each key's oldest first.
    pub(crate) fn rows_under(&self, keys: &EncodedRows) -> Result<RecordBatch> {
        self.gather(&self.find(keys).rows)
    }

    /// Whether no row has to be read from the store.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.rows.memory().has_all()
    }

    /// Everything that is there now, as batches that later changes leave alone.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { schema: Arc::clone(self.schema()), regions: self.rows.regions().cloned().collect() }
    }

    /// The row before one under the same key.
    fn before(&self, row: u32) -> u32 {
        if self.goes == Goes::ByKey { NO_ROW } else { self.chains.older(row) }
    }

    fn prints<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<Print> {
        prints(keys, self.key.width().is_some_and(|width| width <= EXACT))
    }

    /// Adds rows under keys; `entered` is told number, row and the newest row that was under its key. Where none is sought
    /// there are no keys.
    fn add(
        &mut self,
        rows: RecordBatch,
        keys: &[Print],
        mut entered: impl FnMut(&mut Self, usize, u32, u32) -> Result<()>,
    ) -> Result<()> {
        for begin in (0..rows.num_rows()).step_by(REGION_ROWS) {
            let some = match rows.num_rows() {
                ..=REGION_ROWS => rows.clone(),
                all => taken(&rows, &(begin as u32..all.min(begin + REGION_ROWS) as u32).collect::<Vec<_>>())?,
            };
            let base = self.rows.begin(some.num_rows())?;
            self.begin_region(base, some.num_rows());
            let keys = if self.goes == Goes::Unsought { keys } else { &keys[begin..begin + some.num_rows()] };
            let before = self.index.put_each(keys, base);
            for (i, before) in before.into_iter().enumerate() {
                entered(self, begin + i, base + i as u32, before)?;
            }
            self.rows.push(some)?;
        }
        Ok(())
    }

    fn dies(&mut self, row: u32) {
        if self.rows.kill(row) {
            self.unsaved.row(row);
        }
    }

    /// Rows that go, and that come, where no two have one key.
    fn change_by_key(&mut self, gone: &RecordBatch, times: &[i64], come: RecordBatch) -> Result<()> {
        let going = self.prints(self.key.encode(gone)?.iter());
        let coming = self.prints(self.key.encode(&come)?.iter());
        let found = self.index.find_each(&going);
        for (i, row) in found.iter().enumerate() {
            // A row that goes twice is dead the second time.
            if *row == NO_ROW || times[i] != 1 || !self.rows.is_live(*row) {
                return Err(missing(gone, i));
            }
            self.dies(*row);
        }
        let shown = come.clone();
        let mut replaced = Vec::new();
        self.add(come, &coming, |kept, i, _, before| {
            if before != NO_ROW && kept.rows.is_live(before) {
                return Err(state(format!("two rows have one key, the second is\n{}", text(&shown, i))));
            }
            replaced.push(before);
            Ok(())
        })?;
        if gone.num_rows() > replaced.iter().filter(|before| **before != NO_ROW).count() {
            for (print, row) in going.iter().zip(found) {
                if self.index.find(print) == row {
                    self.index.remove(print);
                }
            }
        }
        self.compact_if_due()
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
}

fn state(reason: impl Into<String>) -> Error {
    Error::State { node: "an arrangement".into(), reason: reason.into() }
}

fn missing(rows: &RecordBatch, i: usize) -> Error {
    state(format!("a row goes that is not there:\n{}", text(rows, i)))
}

fn text(rows: &RecordBatch, i: usize) -> String {
    let row = arrow::util::pretty::pretty_format_batches(&[rows.slice(i, 1)]).map(|t| t.to_string());
    row.unwrap_or_default()
}

#[cfg(test)]
mod tests;
