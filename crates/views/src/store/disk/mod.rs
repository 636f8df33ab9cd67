//! Owns a state store in plain files.
//!
//! # Files
//!
//! ```text
//! <number, 20 digits>.state   a segment: a directory, then one record per commit
//! *.new                       a segment that did not get its name yet; removed when the store is opened
//! ```
//!
//! Only the newest segment is written to. Its first record, the directory, says where every value lay when it was
//! begun; so the newest segment alone says what there is, and opening reads only it.
//!
//! ```text
//! segment 7   │ directory: a → 5 @ 64, b → 6 @ 128 │ commit: c, −a │ synced │ commit: b │ ─ ─
//! segment 6   │ directory │ commit: b, … │ … │ sealed │           values that are not named any more are dead
//! ```
//!
//! Numbers are little endian; records and values begin at multiples of 64 bytes.
//!
//! ```text
//! record    0  4  mark "MSTR"
//!           4  4  crc32c of the rest of the head and of the table
//!           8  8  the segment's number
//!          16  8  number of the record in its segment
//!          24  8  length of the record
//!          32  8  length of the table, without padding
//!          40  8  synced: bytes of this segment that were synced when the record was written
//!          48  4  entries
//!          52  2  kind: 1 directory, 2 commit, 3 synced, 4 sealed
//!          54  2  format version, 1
//!          56  8  zero
//!              …  the table, padded to 64
//!              …  the values of a commit, each padded to 64
//!
//! entry     0  8  segment          16  8  length           28  4  length of the key, the highest bit: removed
//!           8  8  position         24  4  crc32c               …  the key
//! ```
//!
//! # The life of a commit
//!
//! 1. A newest segment that is full is synced, and the next one is written under another name, synced, renamed. Then
//!    the full one is sealed, and segments of which no value is alive are removed.
//! 2. When too much is dead, values of the deadest segment go along in the commit and so move to the newest.
//! 3. The record is written behind the one before. It is there when its checksums are right, and then all of it is.
//! 4. [`StateStore::sync`] syncs the segment and writes down behind it how far.
//!
//! # After a crash
//!
//! The records of the newest segment are read in order. Heads are checked everywhere, values where the last sync did
//! not reach. The first record that is not whole ends them: it is the torn tail of a commit that did not return, or
//! that was not synced before the power went. It is damage, an error with file and position, when a record behind it
//! says that it was synced, or when the segment is sealed. A segment that a directory names and that is missing or too
//! short is an error too, as is the absence of the one behind a sealed segment. Values are checked whenever they are
//! read. After opening, the next commit begins a new segment, so that nothing is written behind a torn tail.
//!
//! # When the disk fails
//!
//! A write that fails is cut off, and the store stays usable. When a sync or the cut fails, the store refuses writes
//! and says why. No sync is tried twice.
//!
//! # What is not here
//!
//! No lock against a second process: the node's lock on its data directory sees to that. A newest segment that someone
//! cuts before the last sync's record looks like a torn tail.

mod format;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::{Change, Part, StateStore};
use crate::{Error, Result};
use segment::Segment;
use writer::Writer;

/// How a store keeps its files.
#[derive(Debug, Clone, Copy)]
pub struct DiskOptions {
    /// A segment longer than this is followed by another.
    pub segment_bytes: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20 }
    }
}

/// What a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUse {
    /// Bytes of values that are there.
    pub live_bytes: u64,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Files.
    pub segments: usize,
}

/// A state store in a folder of its own.
#[derive(Debug)]
pub struct DiskStore {
    folder: PathBuf,
    index: Arc<RwLock<Index>>,
    writer: Mutex<Writer>,
}

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: u64,
    position: u64,
    length: u64,
    crc: u32,
}

impl Place {
    /// Bytes that keep its segment alive; an empty value does too.
    fn weight(&self) -> u64 {
        format::padded(self.length.max(1))
    }
}

/// What there is.
#[derive(Debug, Default)]
struct Index {
    places: BTreeMap<Vec<u8>, Place>,
    segments: HashMap<u64, Segment>,
}

impl Index {
    fn put(&mut self, key: Vec<u8>, place: Place) {
        self.segments.entry(place.segment).and_modify(|s| s.live += place.weight());
        let before = self.places.insert(key, place);
        self.less(before);
    }

    fn remove(&mut self, key: &[u8]) {
        let before = self.places.remove(key);
        self.less(before);
    }

    fn less(&mut self, before: Option<Place>) {
        if let Some(place) = before {
            self.segments.entry(place.segment).and_modify(|s| s.live -= place.weight());
        }
    }
}

impl DiskStore {
    /// Opens the store in a folder, which is made if it is not there.
    pub fn open(folder: impl AsRef<Path>, options: DiskOptions) -> Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        let (index, tail) = recovery::open(&folder)?;
        let index = Arc::new(RwLock::new(index));
        let writer = Mutex::new(Writer::new(folder.clone(), options, Arc::clone(&index), tail));
        Ok(Self { folder, index, writer })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a value lies, and the file.
    fn place(&self, key: &[u8]) -> Result<Option<(Place, Arc<File>)>> {
        let index = self.index.read();
        let Some(place) = index.places.get(key).copied() else { return Ok(None) };
        match index.segments.get(&place.segment) {
            Some(segment) => Ok(Some((place, Arc::clone(&segment.file)))),
            None => Err(Error::damaged(&segment::path(&self.folder, place.segment), 0, "the file is missing")),
        }
    }

    /// What it takes on the disk.
    pub fn disk_use(&self) -> DiskUse {
        let index = self.index.read();
        DiskUse {
            live_bytes: index.segments.values().map(|s| s.live).sum(),
            file_bytes: index.segments.values().map(|s| s.length).sum(),
            segments: index.segments.len(),
        }
    }
}

impl StateStore for DiskStore {
    fn commit(&self, changes: Vec<Change>) -> Result<()> {
        self.writer.lock().commit(changes)
    }

    fn sync(&self) -> Result<()> {
        // Commits go on while the disk works.
        let Some((file, path, end)) = self.writer.lock().begin_sync()? else { return Ok(()) };
        let synced = file.sync_data().map_err(|e| Error::disk(&path, e));
        self.writer.lock().end_sync(&path, end, synced)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let Some((place, file)) = self.place(key)? else { return Ok(None) };
        segment::read(&file, &segment::path(&self.folder, place.segment), &place).map(Some)
    }

    fn visit_parts(&self, key: &[u8], parts: &[Part], visit: &mut dyn FnMut(usize, &[u8])) -> Result<bool> {
        let Some((place, file)) = self.place(key)? else { return Ok(false) };
        if parts.iter().any(|part| part.begin + part.length as u64 > place.length) {
            return Ok(false);
        }
        let read = segment::visit_parts(&file, place.position, parts, visit);
        read.map_err(|e| Error::disk(&segment::path(&self.folder, place.segment), e))?;
        Ok(true)
    }

    fn keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        let index = self.index.read();
        let from = index.places.range(prefix.to_vec()..);
        Ok(from.map(|(key, _)| key).take_while(|key| key.starts_with(prefix)).cloned().collect())
    }
}
