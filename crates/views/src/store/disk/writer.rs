//! Owns what is written: records behind the newest segment, new segments, and values that move out of old ones.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::format::{self, HEAD, Head, Kind, padded};
use super::segment::{self, Segment};
use super::{Change, DiskOptions, Index, Place};
use crate::{Error, Result};

/// Values up to this length are written together.
const SMALL: usize = 128 * 1024;

/// A commit moves at least so many bytes out of a segment that is mostly dead.
const MOVE_AT_LEAST: u64 = 1 << 20;

/// Segments above this number are joined, however alive they are.
const MANY_SEGMENTS: usize = 256;

/// The one who writes.
#[derive(Debug)]
pub(super) struct Writer {
    folder: PathBuf,
    options: DiskOptions,
    index: Arc<RwLock<Index>>,
    /// The number of the newest segment, if there is one.
    last: Option<u64>,
    /// Where the newest segment ended when the store was opened.
    tail: Option<Tail>,
    /// The segment that is written to; none before the first commit.
    open: Option<Open>,
    /// Values that still have to move out of a segment.
    leaving: Vec<Vec<u8>>,
    poisoned: Option<String>,
}

/// The newest segment.
#[derive(Debug)]
struct Open {
    number: u64,
    file: Arc<File>,
    path: PathBuf,
    end: u64,
    records: u64,
    synced: u64,
}

/// The end of the newest segment, as it was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) number: u64,
    pub(super) end: u64,
    pub(super) records: u64,
}

impl Tail {
    fn open(&self, folder: &Path) -> Result<Open> {
        let path = segment::path(folder, self.number);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| Error::disk(&path, e))?;
        let (number, end, records) = (self.number, self.end, self.records);
        Ok(Open { number, file: Arc::new(file), path, end, records, synced: 0 })
    }
}

impl Writer {
    pub(super) fn new(folder: PathBuf, options: DiskOptions, index: Arc<RwLock<Index>>, tail: Option<Tail>) -> Self {
        Self {
            folder,
            options,
            index,
            last: tail.as_ref().map(|t| t.number),
            tail,
            open: None,
            leaving: Vec::new(),
            poisoned: None,
        }
    }

    pub(super) fn commit(&mut self, changes: Vec<Change>) -> Result<()> {
        self.refuse_if_poisoned()?;
        if changes.is_empty() {
            return Ok(());
        }
        if self.open.as_ref().is_none_or(|open| open.end >= self.options.segment_bytes) {
            self.begin_segment()?;
        }
        let mut changes = last_of_each(changes);
        self.move_along(&mut changes)?;
        self.append(changes)
    }

    /// What to sync: the file and how far it is written.
    pub(super) fn begin_sync(&self) -> Result<Option<(Arc<File>, PathBuf, u64)>> {
        self.refuse_if_poisoned()?;
        let open = self.open.as_ref().filter(|open| open.synced < open.end);
        Ok(open.map(|open| (Arc::clone(&open.file), open.path.clone(), open.end)))
    }

    /// Writes down that a sync reached `end`.
    pub(super) fn end_sync(&mut self, path: &Path, end: u64, synced: Result<()>) -> Result<()> {
        self.synced(synced)?;
        let Some(open) = self.open.as_mut().filter(|open| open.path == path && open.synced < end) else {
            return Ok(());
        };
        open.synced = end;
        self.note(Kind::Synced)
    }

    fn refuse_if_poisoned(&self) -> Result<()> {
        match &self.poisoned {
            Some(reason) => Err(Error::Poisoned { path: self.folder.clone(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Passes the result of a sync on; after one that failed nothing is written any more.
    fn synced(&mut self, result: Result<()>) -> Result<()> {
        result.inspect_err(|error| self.poisoned = Some(error.to_string()))
    }

    /// Writes one record behind the others.
    fn append(&mut self, changes: Vec<Change>) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let table = format::table_length(changes.iter().map(|(key, _)| key.as_slice()));
        let mut position = open.end + HEAD as u64 + padded(table);
        let mut places = Vec::with_capacity(changes.len());
        for (_, value) in &changes {
            places.push(value.as_ref().map(|value| {
                let length = value.len() as u64;
                let place = Place { segment: open.number, position, length, crc: crc32c::crc32c(value) };
                position += padded(length);
                place
            }));
        }
        let head = open.head(Kind::Commit, position - open.end, table, changes.len());
        let entries = changes.iter().zip(&places).map(|((key, _), place)| (key.as_slice(), *place));
        let front = format::encode(&head, entries);
        self.write(front, changes.iter().filter_map(|(_, value)| value.as_ref()))?;
        let mut index = self.index.write();
        for ((key, _), place) in changes.into_iter().zip(places) {
            match place {
                Some(place) => index.put(key, place),
                None => index.remove(&key),
            }
        }
        Ok(())
    }

    /// Writes a record without entries.
    fn note(&mut self, kind: Kind) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let front = format::encode(&open.head(kind, HEAD as u64, 0, 0), std::iter::empty());
        self.write(front, std::iter::empty())
    }

    /// Writes the parts of a record; when that fails the file is cut to what it was.
    fn write<'v>(&mut self, front: Vec<u8>, values: impl Iterator<Item = &'v Bytes>) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        match write_at(&open.file, open.end, front, values) {
            Ok(end) => {
                open.end = end;
                open.records += 1;
                self.index.write().segments.entry(open.number).and_modify(|s| s.length = end);
                Ok(())
            }
            Err(error) => {
                if let Err(cut) = open.file.set_len(open.end) {
                    self.poisoned = Some(format!("a failed write could not be cut off: {cut}"));
                }
                Err(Error::disk(&open.path, error))
            }
        }
    }

    /// Ends the newest segment and begins the next one, which says where everything lies.
    fn begin_segment(&mut self) -> Result<()> {
        if self.open.is_none()
            && let Some(tail) = &self.tail
        {
            self.open = Some(tail.open(&self.folder)?);
        }
        if let Some(open) = &self.open {
            let result = open.file.sync_data().map_err(|e| Error::disk(&open.path, e));
            self.synced(result)?;
        }
        let number = self.last.map_or(1, |last| last + 1);
        let path = segment::path(&self.folder, number);
        let mut next = Open { number, file: open_new(&path)?, path, end: 0, records: 0, synced: 0 };
        let front = {
            let index = self.index.read();
            let table = format::table_length(index.places.keys().map(Vec::as_slice));
            let head = next.head(Kind::Directory, HEAD as u64 + padded(table), table, index.places.len());
            format::encode(&head, index.places.iter().map(|(key, place)| (key.as_slice(), Some(*place))))
        };
        next.end = front.len() as u64;
        next.synced = next.end;
        next.records = 1;
        next.file.write_all_at(&front, 0).map_err(|e| Error::disk(&next.path, e))?;
        let named = name(&next, &self.folder);
        self.synced(named)?;
        self.seal()?;
        let segment = Segment { file: Arc::clone(&next.file), path: next.path.clone(), length: next.end, live: 0 };
        self.index.write().segments.insert(number, segment);
        self.last = Some(number);
        self.open = Some(next);
        self.remove_dead()
    }

    /// Ends the segment that was written to, now that the next one is there: its end is looked at only if that gets
    /// lost.
    fn seal(&mut self) -> Result<()> {
        self.note(Kind::Sealed)?;
        let Some(open) = &self.open else { return Ok(()) };
        // What a crash left behind the last commit goes.
        open.file.set_len(open.end).map_err(|e| Error::disk(&open.path, e))
    }

    /// Removes segments that the newest one's directory does not name.
    fn remove_dead(&mut self) -> Result<()> {
        let mut index = self.index.write();
        let dead: Vec<u64> =
            index.segments.iter().filter(|(n, s)| Some(**n) != self.last && s.live == 0).map(|(n, _)| *n).collect();
        for number in dead {
            if let Some(segment) = index.segments.remove(&number) {
                std::fs::remove_file(&segment.path).map_err(|e| Error::disk(&segment.path, e))?;
            }
        }
        Ok(())
    }

    /// Adds values of a segment that is mostly dead to a commit, so that the segment can go.
    fn move_along(&mut self, changes: &mut Vec<Change>) -> Result<()> {
        if self.leaving.is_empty() {
            self.leaving = self.choose_leaving();
        }
        if self.leaving.is_empty() {
            return Ok(());
        }
        let changed: HashSet<Vec<u8>> = changes.iter().map(|(key, _)| key.clone()).collect();
        let bytes: u64 = changes.iter().filter_map(|(_, value)| value.as_ref()).map(|v| v.len() as u64).sum();
        let mut room = 2 * bytes.max(MOVE_AT_LEAST);
        while let Some(key) = self.leaving.pop() {
            if changed.contains(&key) {
                continue;
            }
            let found = {
                let index = self.index.read();
                let place = index.places.get(&key).filter(|p| Some(p.segment) != self.last).copied();
                let segment = place.and_then(|p| index.segments.get(&p.segment));
                place.zip(segment.map(|s| (Arc::clone(&s.file), s.path.clone())))
            };
            let Some((place, (file, path))) = found else { continue };
            changes.push((key, Some(segment::read(&file, &path, &place)?)));
            room = room.saturating_sub(place.length);
            if room == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The keys of the deadest segment, if so much is dead that it is worth it.
    fn choose_leaving(&self) -> Vec<Vec<u8>> {
        let index = self.index.read();
        let old = || index.segments.iter().filter(|(n, s)| Some(**n) != self.last && s.live > 0);
        let live: u64 = index.segments.values().map(|s| s.live).sum();
        let dead: u64 = old().map(|(_, s)| s.length.saturating_sub(s.live)).sum();
        let much = dead > live / 2 + self.options.segment_bytes;
        let chosen = if much {
            old().min_by_key(|(n, s)| (s.live * 1000 / s.length.max(1), **n))
        } else if index.segments.len() > MANY_SEGMENTS {
            old().min_by_key(|(n, s)| (s.live, **n))
        } else {
            None
        };
        let Some((number, _)) = chosen else { return Vec::new() };
        index.places.iter().filter(|(_, p)| p.segment == *number).map(|(key, _)| key.clone()).collect()
    }
}

impl Open {
    fn head(&self, kind: Kind, length: u64, table: u64, entries: usize) -> Head {
        Head {
            kind,
            segment: self.number,
            record: self.records,
            length,
            table,
            synced: self.synced,
            entries: entries as u32,
        }
    }
}

/// Of two changes to one key the later counts.
fn last_of_each(changes: Vec<Change>) -> Vec<Change> {
    let mut seen = HashSet::with_capacity(changes.len());
    let mut kept: Vec<Change> = changes.into_iter().rev().filter(|(key, _)| seen.insert(key.clone())).collect();
    kept.reverse();
    kept
}

fn unnamed(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn open_new(path: &Path) -> Result<Arc<File>> {
    let unnamed = unnamed(path);
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&unnamed);
    file.map(Arc::new).map_err(|e| Error::disk(&unnamed, e))
}

/// Syncs a segment's directory and gives the segment its name.
fn name(next: &Open, folder: &Path) -> Result<()> {
    let unnamed = unnamed(&next.path);
    next.file.sync_all().map_err(|e| Error::disk(&unnamed, e))?;
    std::fs::rename(&unnamed, &next.path).map_err(|e| Error::disk(&unnamed, e))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| Error::disk(folder, e))
}

/// Writes parts one behind the other, each padded; small ones together. Gives the end.
fn write_at<'v>(
    file: &File,
    begin: u64,
    front: Vec<u8>,
    values: impl Iterator<Item = &'v Bytes>,
) -> std::io::Result<u64> {
    let (mut at, mut waiting) = (begin, front);
    for value in values {
        if value.len() <= SMALL {
            waiting.extend_from_slice(value);
        } else {
            file.write_all_at(&waiting, at)?;
            at += waiting.len() as u64;
            waiting.clear();
            file.write_all_at(value, at)?;
            at += value.len() as u64;
        }
        let end = at + waiting.len() as u64;
        waiting.resize(waiting.len() + (padded(end) - end) as usize, 0);
        if waiting.len() > 8 * SMALL {
            file.write_all_at(&waiting, at)?;
            at += waiting.len() as u64;
            waiting.clear();
        }
    }
    file.write_all_at(&waiting, at)?;
    Ok(at + waiting.len() as u64)
}
