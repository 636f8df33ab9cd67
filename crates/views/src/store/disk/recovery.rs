//! Owns opening: what the newest segment says, and where it stops saying anything.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::Index;
use super::format::{self, Entry, HEAD, Head, Kind, NoHead};
use super::segment::{self, SUFFIX, Segment};
use super::writer::Tail;
use crate::{Error, Result};

/// What lies in a folder.
pub(super) fn open(folder: &Path) -> Result<(Index, Option<Tail>)> {
    std::fs::create_dir_all(folder).map_err(|e| Error::disk(folder, e))?;
    let numbers = segments(folder)?;
    let mut index = Index::default();
    let Some(newest) = numbers.last().copied() else { return Ok((index, None)) };
    for number in &numbers {
        let path = segment::path(folder, *number);
        let file = File::open(&path).map_err(|e| Error::disk(&path, e))?;
        let length = file.metadata().map_err(|e| Error::disk(&path, e))?.len();
        index.segments.insert(*number, Segment { file: Arc::new(file), path, length, live: 0 });
    }
    let (entries, tail) = Newest { segment: &index.segments[&newest], number: newest }.entries()?;
    for entry in entries {
        match entry.place {
            Some(place) => index.put(entry.key, place),
            None => index.remove(&entry.key),
        }
    }
    check_places(&index, folder)?;
    Ok((index, Some(tail)))
}

/// The segments of a folder in order; files that did not get their names are removed.
fn segments(folder: &Path) -> Result<Vec<u64>> {
    let failed = |e| Error::disk(folder, e);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".new") {
            std::fs::remove_file(&path).map_err(|e| Error::disk(&path, e))?;
        } else if let Some(number) = name.strip_suffix(SUFFIX).and_then(|n| n.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn check_places(index: &Index, folder: &Path) -> Result<()> {
    for place in index.places.values() {
        match index.segments.get(&place.segment) {
            None => return Err(Error::damaged(&segment::path(folder, place.segment), 0, "the file is missing")),
            Some(s) if place.position + place.length > s.length => {
                return Err(Error::damaged(&s.path, s.length, "the file ends before a value that lay in it"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Reads the records of the newest segment.
struct Newest<'s> {
    segment: &'s Segment,
    number: u64,
}

/// A record whose head and table are whole.
struct Record {
    head: Head,
    position: u64,
    entries: Vec<Entry>,
}

impl Newest<'_> {
    /// What the whole records say, in order, and where they end.
    fn entries(&self) -> Result<(Vec<Entry>, Tail)> {
        let mut records = Vec::new();
        let mut end = 0;
        while let Some(record) = self.record(end)? {
            if record.head.record != records.len() as u64 || (record.head.kind == Kind::Directory) != (end == 0) {
                break;
            }
            end += record.head.length;
            records.push(record);
        }
        if records.is_empty() {
            return Err(Error::damaged(&self.segment.path, 0, "its directory is not whole"));
        }
        if records.last().is_some_and(|r| r.head.kind == Kind::Sealed) {
            let next = segment::path(self.segment.path.parent().unwrap_or(Path::new("")), self.number + 1);
            return Err(Error::damaged(&next, 0, "the file is missing, and the one before it says that it was there"));
        }
        let synced = self.synced(&records, end)?;
        if synced > end {
            return Err(Error::damaged(&self.segment.path, end, "a commit that was synced is not whole"));
        }
        let mut entries = Vec::new();
        let mut tail = Tail { number: self.number, end: 0, records: 0 };
        for record in records {
            if record.position >= synced && !self.values_are_whole(&record)? {
                break;
            }
            tail.end = record.position + record.head.length;
            tail.records += 1;
            entries.extend(record.entries);
        }
        Ok((entries, tail))
    }

    /// The record at a position, unless there is none.
    fn record(&self, position: u64) -> Result<Option<Record>> {
        let mut bytes = [0; HEAD];
        if position + HEAD as u64 > self.segment.length {
            return Ok(None);
        }
        self.read(&mut bytes, position)?;
        let head = match format::decode_head(&bytes) {
            Ok(head) => head,
            Err(NoHead::Version(version)) if position == 0 => {
                let reason = format!("its format version is {version}, which another version of millstream wrote");
                return Err(Error::damaged(&self.segment.path, 0, reason));
            }
            Err(_) => return Ok(None),
        };
        if head.segment != self.number || position + head.length > self.segment.length {
            return Ok(None);
        }
        let mut table = vec![0; head.table as usize];
        self.read(&mut table, position + HEAD as u64)?;
        if !format::check(&bytes, &table) {
            return Ok(None);
        }
        Ok(format::decode_table(&table, head.entries).map(|entries| Record { head, position, entries }))
    }

    /// How far the segment was synced, as any record says, also those behind one that is not whole.
    fn synced(&self, records: &[Record], end: u64) -> Result<u64> {
        let mut synced = records.iter().map(|r| r.head.synced).max().unwrap_or(0);
        let mut position = end;
        while position + HEAD as u64 <= self.segment.length {
            position += format::ALIGNMENT;
            if let Some(record) = self.record(position)? {
                synced = synced.max(record.head.synced);
            }
        }
        Ok(synced)
    }

    fn values_are_whole(&self, record: &Record) -> Result<bool> {
        if record.head.kind != Kind::Commit {
            return Ok(true);
        }
        for place in record.entries.iter().filter_map(|e| e.place) {
            match segment::read(&self.segment.file, &self.segment.path, &place) {
                Ok(_) => {}
                Err(Error::Damaged { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn read(&self, bytes: &mut [u8], position: u64) -> Result<()> {
        self.segment.file.read_exact_at(bytes, position).map_err(|e| Error::disk(&self.segment.path, e))
    }
}
