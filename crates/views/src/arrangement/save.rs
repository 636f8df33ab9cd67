//! Owns what a checkpoint keeps of an arrangement, and the way back.
//!
//! ```text
//! a <arrangement>           regions 8, living rows 8, next id of a piece 8; then per region, in the order of its rows:
//!                           number 4, rows 4, pieces 4, zero 4, and per piece: id 8, rows 4, zero 4
//! p <arrangement> <id>      a piece (`form.rs`)
//! l <arrangement> <page>    which rows of a region are alive, a bit each: 8 pages of 8192 rows per region
//! ```
//!
//! Pieces are never changed, so a checkpoint writes those that came since the last one, removes those that were merged
//! or compacted away, and writes the pages of bits in which a row came or went. Keys, chains and the index by content
//! are made again from the rows: rows are entered in their order, so each key's rows keep theirs.
//!
//! Packing halves what is written: with a disk of some 300 MB/s a checkpoint takes as long either way, and leaves half
//! of the disk to the log. Where memory is tight, pieces are written as rows, since they will have to leave it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::piece::Piece;
use super::rows::{REGION_ROWS, Region, parts_of};
use super::{Arrangement, Goes};

use crate::store::{Change, StateStore};
use crate::{Error, Result};

/// Rows whose bits are written together.
const PAGE_ROWS: usize = if REGION_ROWS < 8192 { REGION_ROWS } else { 8192 };
const PAGE_WORDS: usize = PAGE_ROWS / 64;
const PAGES: usize = REGION_ROWS / PAGE_ROWS;
const HEAD: usize = 24;
const ENTRY: usize = 16;
/// The letter and the arrangement.
const PIECE_PREFIX: usize = 5;
/// Pieces of so few bytes are not worth writing ahead.
const SMALL: usize = 64 * 1024;

/// How an arrangement differs from what the store has.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    /// Pages in which bits changed.
    pages: Vec<bool>,
    /// Whether nothing differs; an arrangement that was never saved differs.
    none: bool,
    /// Pieces that the store has, or may have after a commit that failed.
    stored: BTreeMap<u64, Weak<Piece>>,
    /// Pages that the store has, or may have.
    stored_pages: Vec<bool>,
}

impl Unsaved {
    /// A row came or went.
    pub(super) fn row(&mut self, row: u32) {
        self.none = false;
        let (region, place) = parts_of(row);
        let page = region * PAGES + place / PAGE_ROWS;
        if page >= self.pages.len() {
            self.pages.resize(page + 1, false);
        }
        self.pages[page] = true;
    }

    /// Rows came from that number on.
    pub(super) fn rows(&mut self, base: u32, rows: usize) {
        let Some(last) = (rows as u32).checked_sub(1) else { return };
        (base..base + last).step_by(PAGE_ROWS).for_each(|row| self.row(row));
        self.row(base + last);
    }

    /// Regions went.
    pub(super) fn changed(&mut self) {
        self.none = false;
    }
}

/// The pages of a region's bits.
fn pages_of(region: &Region) -> impl Iterator<Item = (usize, &[u64])> {
    let first = region.id as usize * PAGES;
    region.live.chunks(PAGE_WORDS).enumerate().map(move |(n, words)| (first + n, words))
}

impl Arrangement {
    /// The store may have from now on what a commit tries to put there. Gives the pieces that are new.
    pub(crate) fn attempt(&mut self) -> Vec<Arc<Piece>> {
        if self.unsaved.none {
            return Vec::new();
        }
        let new: Vec<Arc<Piece>> = self.pieces().filter(|piece| !piece.is_stored()).cloned().collect();
        self.unsaved.stored.extend(new.iter().map(|piece| (piece.id, Arc::downgrade(piece))));
        self.note_pages();
        new
    }

    /// The store may have the pages there are.
    fn note_pages(&mut self) {
        let all = self.rows.region_numbers() * PAGES;
        self.unsaved.stored_pages.resize(all.max(self.unsaved.stored_pages.len()), false);
        for (page, _) in self.rows.regions().flat_map(pages_of) {
            self.unsaved.stored_pages[page] = true;
        }
    }

    /// Adds what the store has to change.
    pub(crate) fn changes(&self, changes: &mut Vec<Change>) -> Result<()> {
        if self.unsaved.none {
            return Ok(());
        }
        let number = self.rows.number();
        for piece in self.rows.pieces().filter(|piece| !piece.is_stored()) {
            changes.push(piece.change()?);
        }
        // Those that only snapshots hold go later: their rows may have to be read.
        let gone = self.unsaved.stored.iter().filter(|(_, piece)| piece.strong_count() == 0);
        changes.extend(gone.map(|(id, _)| (piece_key(number, *id), None)));
        let mut gone = self.unsaved.stored_pages.clone();
        for (page, words) in self.rows.regions().flat_map(pages_of) {
            gone[page] = false;
            if self.unsaved.pages.get(page) == Some(&true) {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                changes.push((page_key(number, page), Some(bytes.into())));
            }
        }
        let gone = gone.iter().enumerate().filter(|(_, gone)| **gone);
        changes.extend(gone.map(|(page, _)| (page_key(number, page), None)));
        changes.push((list_key(number), Some(self.list())));
        Ok(())
    }

    /// The changes are in the store.
    pub(crate) fn saved(&mut self) {
        if self.unsaved.none {
            return;
        }
        self.rows.pieces().for_each(|piece| piece.set_stored());
        self.unsaved.stored.retain(|_, piece| piece.strong_count() > 0);
        self.unsaved.stored_pages.clear();
        self.note_pages();
        self.unsaved.pages.clear();
        self.unsaved.none = true;
    }

    /// Makes room in memory: pieces that the store has leave it, and others are written ahead of their checkpoint.
    pub(crate) fn relieve(&mut self) -> Result<()> {
        let memory = Arc::clone(self.rows.memory());
        for piece in self.rows.pieces() {
            if memory.excess() == 0 {
                return Ok(());
            }
            piece.leave();
        }
        let (mut changes, mut ahead, mut bytes) = (Vec::new(), Vec::new(), 0);
        // Small ones are about to be merged.
        for piece in self.rows.pieces().filter(|piece| piece.must_be_written() && piece.bytes() > SMALL) {
            if bytes >= memory.excess() {
                break;
            }
            bytes += piece.bytes();
            changes.push(piece.change_to(true)?);
            self.unsaved.stored.insert(piece.id, Arc::downgrade(piece));
            ahead.push(Arc::clone(piece));
        }
        memory.write(changes)?;
        for piece in ahead {
            piece.set_stored();
            piece.leave();
        }
        Ok(())
    }

    fn list(&self) -> Bytes {
        let regions = self.rows.regions().count() as u64;
        let mut bytes = Vec::with_capacity(HEAD + ENTRY * (self.rows.regions().count() + self.rows.pieces().count()));
        for number in [regions, self.rows.alive() as u64, self.rows.next_piece()] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for region in self.rows.regions() {
            for number in [region.id, region.rows as u32, region.pieces.len() as u32, 0] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for (_, piece) in &region.pieces {
                bytes.extend_from_slice(&piece.id.to_le_bytes());
                bytes.extend_from_slice(&(piece.rows as u64).to_le_bytes());
            }
        }
        bytes.into()
    }

    /// Fills an empty arrangement with what the store has.
    pub(crate) fn restore(&mut self, store: &dyn StateStore) -> Result<()> {
        let number = self.rows.number();
        let list = store.get(&list_key(number))?.ok_or_else(|| unusable(number, "its list of pieces is missing"))?;
        let list = SavedList::decode(&list).ok_or_else(|| unusable(number, "its list of pieces is not whole"))?;
        for region in &list.regions {
            let live = self.saved_live(region, store)?;
            if !self.rows.restore_region(region.id, region.rows as usize, live) {
                return Err(unusable(number, format!("region {} cannot be one", region.id)));
            }
            for piece in &region.pieces {
                self.restore_piece(piece, store)?;
            }
            if !self.rows.is_whole() {
                return Err(unusable(number, "rows are missing"));
            }
        }
        if self.rows.alive() as u64 != list.alive {
            return Err(unusable(number, "rows are missing"));
        }
        self.rows.reserve_pieces(list.next_id);
        self.note_pages();
        self.unsaved.pages.clear();
        self.unsaved.none = true;
        // Pieces that were written ahead of a checkpoint that never came.
        for key in store.keys(&piece_key(number, 0)[..PIECE_PREFIX])? {
            if let Some(id) = key[PIECE_PREFIX..].first_chunk().map(|id| u64::from_be_bytes(*id)) {
                self.unsaved.stored.entry(id).or_default();
            }
        }
        Ok(())
    }

    fn restore_piece(&mut self, saved: &SavedPiece, store: &dyn StateStore) -> Result<()> {
        let number = self.rows.number();
        let key = piece_key(number, saved.id);
        let bytes = store.get(&key)?.ok_or_else(|| unusable(number, format!("piece {} is missing", saved.id)))?;
        let (batch, lies) = self
            .rows
            .form()
            .decode(bytes)
            .map_err(|e| unusable(number, format!("piece {} cannot be read: {e}", saved.id)))?;
        let entered =
            if batch.num_rows() as u64 == saved.rows { self.rows.restore_piece(saved.id, batch.clone()) } else { None };
        let Some((base, piece)) = entered else {
            return Err(unusable(number, format!("piece {} does not fit its place", saved.id)));
        };
        piece.set_lies(lies);
        piece.set_stored();
        self.unsaved.stored.insert(piece.id, Arc::downgrade(&piece));
        self.enter(base, &batch)?;
        if self.rows.memory().excess() > 0 {
            if piece.must_be_written() {
                let change = piece.change_to(true)?;
                self.rows.memory().write(vec![change])?;
            }
            piece.leave();
        }
        Ok(())
    }

    /// The bits of a region as the store has them.
    fn saved_live(&self, region: &SavedRegion, store: &dyn StateStore) -> Result<Vec<u64>> {
        let number = self.rows.number();
        let words = (region.rows as usize).div_ceil(64);
        let mut live = Vec::with_capacity(words);
        for n in 0..words.div_ceil(PAGE_WORDS) {
            let page = region.id as usize * PAGES + n;
            let bytes = store.get(&page_key(number, page))?;
            let bytes = bytes.ok_or_else(|| unusable(number, format!("page {page} of its rows is missing")))?;
            let wanted = PAGE_WORDS.min(words - n * PAGE_WORDS);
            let (read, rest) = bytes.as_chunks::<8>();
            if read.len() != wanted || !rest.is_empty() {
                return Err(unusable(number, format!("page {page} of its rows has another length")));
            }
            live.extend(read.iter().map(|word| u64::from_le_bytes(*word)));
        }
        Ok(live)
    }

    /// Makes the living rows of a piece findable.
    fn enter(&mut self, base: u32, batch: &RecordBatch) -> Result<()> {
        if self.goes == Goes::Unsought {
            self.begin_region(base, batch.num_rows());
            return Ok(());
        }
        let keys = self.prints(self.key.encode(batch)?.iter());
        let contents = match &self.contents {
            Some(contents) => contents.prints(batch)?,
            None => Vec::new(),
        };
        self.begin_region(base, batch.num_rows());
        for (i, key) in keys.iter().enumerate() {
            let row = base + i as u32;
            if !self.rows.is_live(row) {
                continue;
            }
            let before = self.index.put(key, row);
            if self.goes != Goes::ByKey {
                self.chains.push(row, before);
            }
            if let Some(kept) = &mut self.contents {
                kept.insert(&contents[i], row);
            }
        }
        Ok(())
    }
}

/// What the store says of an arrangement's rows.
struct SavedList {
    alive: u64,
    next_id: u64,
    regions: Vec<SavedRegion>,
}

struct SavedRegion {
    id: u32,
    rows: u32,
    pieces: Vec<SavedPiece>,
}

struct SavedPiece {
    id: u64,
    rows: u64,
}

impl SavedList {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, entries) = bytes.split_at_checked(HEAD)?;
        let (head, _) = head.as_chunks::<8>();
        let (entries, rest) = entries.as_chunks::<ENTRY>();
        let mut entries = entries.iter().map(|entry| u128::from_le_bytes(*entry));
        let mut regions = Vec::new();
        for _ in 0..u64::from_le_bytes(head[0]) {
            let region = entries.next()?;
            let count = (region >> 64) as u32 as usize;
            let pieces =
                entries.by_ref().take(count).map(|piece| SavedPiece { id: piece as u64, rows: (piece >> 64) as u64 });
            let pieces: Vec<SavedPiece> = pieces.collect();
            if pieces.len() != count {
                return None;
            }
            regions.push(SavedRegion { id: region as u32, rows: (region >> 32) as u32, pieces });
        }
        let whole = rest.is_empty() && entries.next().is_none();
        let (alive, next_id) = (u64::from_le_bytes(head[1]), u64::from_le_bytes(head[2]));
        whole.then_some(Self { alive, next_id, regions })
    }
}

fn unusable(number: u32, reason: impl Into<String>) -> Error {
    Error::State { node: format!("arrangement {number}"), reason: reason.into() }
}

fn list_key(number: u32) -> Vec<u8> {
    [b"a".as_slice(), &number.to_be_bytes()].concat()
}

pub(super) fn piece_key(number: u32, id: u64) -> Vec<u8> {
    [b"p".as_slice(), &number.to_be_bytes(), &id.to_be_bytes()].concat()
}

fn page_key(number: u32, page: usize) -> Vec<u8> {
    [b"l".as_slice(), &number.to_be_bytes(), &(page as u32).to_be_bytes()].concat()
}
