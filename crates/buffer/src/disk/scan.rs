//! Owns reading a segment's entries one after the other: checks each, and says where and why it stopped.

use std::path::Path;

use millstream_catalog::Positions;

use super::format::{ENTRY_FIXED, EntryHeader, Flaw};
use super::segment::{Extent, PartMeta, Segment, io_error};
use crate::Result;
use crate::device::DiskFile;
use crate::keys::Mark;

/// Read from the disk at once, at least.
const WINDOW_BYTES: usize = 1 << 20;

/// What a scan found.
#[derive(Debug)]
pub(super) struct Scan {
    pub parts: Vec<PartMeta>,
    pub marks: Vec<Mark>,
    /// How far the valid entries reach.
    pub extent: Extent,
    /// Why they reach no further, when there are bytes behind.
    pub flaw: Option<Flaw>,
}

/// Scans a sealed segment whose extent is known, from its first entry.
pub(super) fn scan_segment(segment: &Segment, known: &Extent) -> Result<Scan> {
    let header = read_header_len(&**segment.file()?, &segment.path)?;
    let start = Extent {
        end: segment.base.clone(),
        next_sequence: segment.first_sequence,
        data_len: header,
        last_ingest_us: i64::MIN,
        first_ingest_us: i64::MAX,
    };
    let scan = scan(&**segment.file()?, &segment.path, segment.stamp, start)?;
    if scan.extent.data_len < known.data_len {
        return Err(segment.corrupt(scan.extent.data_len, scan.flaw.unwrap_or("the segment is cut short")));
    }
    Ok(scan)
}

fn read_header_len(file: &dyn DiskFile, path: &Path) -> Result<u64> {
    let mut fixed = [0; super::format::SEGMENT_FIXED];
    file.read_at(&mut fixed, 0).map_err(|e| io_error("read", path, e))?;
    super::format::SegmentHeader::length(&fixed).map(|l| l as u64).map_err(|flaw| crate::Error::Corrupt {
        segment: path.display().to_string(),
        position: 0,
        reason: flaw.to_string(),
    })
}

/// Reads entries from `start` on while they are valid.
pub(super) fn scan(file: &dyn DiskFile, path: &Path, stamp: i64, start: Extent) -> Result<Scan> {
    let size = file.size().map_err(|e| io_error("read", path, e))?;
    let mut window = Window { file, path, size, position: start.data_len, bytes: Vec::new() };
    let mut scan = Scan { parts: Vec::new(), marks: Vec::new(), extent: start, flaw: None };
    while scan.extent.data_len < size {
        match next_entry(&mut window, scan.extent.data_len, stamp, &scan.extent)? {
            Ok((entry, length)) => scan.take(entry, length),
            Err(flaw) => {
                scan.flaw = Some(flaw);
                break;
            }
        }
    }
    Ok(scan)
}

impl Scan {
    fn take(&mut self, entry: EntryHeader, length: u64) {
        let position = self.extent.data_len;
        for part in &entry.parts {
            self.extent.end.set(part.partition, part.base_offset + u64::from(part.rows));
            self.parts.push(PartMeta {
                sequence: entry.sequence,
                ingest_time_us: entry.ingest_time_us,
                partition: part.partition,
                rows: part.rows,
                base_offset: part.base_offset,
                position: position + part.position,
                length: part.length,
                crc: part.crc,
            });
        }
        self.extent.next_sequence = entry.sequence + 1;
        self.extent.data_len += length;
        self.extent.last_ingest_us = self.extent.last_ingest_us.max(entry.ingest_time_us);
        self.extent.first_ingest_us = self.extent.first_ingest_us.min(entry.ingest_time_us);
        self.marks.extend(entry.marks);
    }
}

/// The entry at `position`, if it is whole, right, and the one that follows `before`.
fn next_entry(
    window: &mut Window<'_>,
    position: u64,
    stamp: i64,
    before: &Extent,
) -> Result<Result<(EntryHeader, u64), Flaw>> {
    let Some(fixed) = window.get(position, ENTRY_FIXED as u64)? else {
        return Ok(Err("the entry header is cut short"));
    };
    let size = match EntryHeader::size(fixed) {
        Ok(size) => size,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let Some(bytes) = window.get(position, size.length)? else {
        return Ok(Err("the entry is cut short"));
    };
    let entry = match EntryHeader::decode(&bytes[..size.head]) {
        Ok(entry) => entry,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let whole = |p: &super::format::PartRecord| {
        crc32c::crc32c(&bytes[p.position as usize..(p.position + p.length) as usize]) == p.crc
    };
    if !entry.parts.iter().all(whole) {
        return Ok(Err("the checksum of a batch does not match"));
    }
    if entry.stamp != stamp {
        return Ok(Err("the entry belongs to another segment"));
    }
    if !follows(&entry, before) {
        return Ok(Err("the entry does not follow the one before it"));
    }
    Ok(Ok((entry, size.length)))
}

fn follows(entry: &EntryHeader, before: &Extent) -> bool {
    let mut end: Positions = before.end.clone();
    entry.sequence == before.next_sequence
        && entry.parts.iter().all(|part| {
            let right = (part.partition as usize) < end.0.len() && part.base_offset == end.get(part.partition);
            end.set(part.partition, part.base_offset.saturating_add(u64::from(part.rows)));
            right
        })
}

/// Looks from a flawed entry at `position` on for one that was written when `sequence` was durable already: it proves
/// that the flaw is damage, not the tail of a write that a crash cut off. Gives its position.
pub(super) fn find_proof_of_damage(
    file: &dyn DiskFile,
    path: &Path,
    stamp: i64,
    position: u64,
    sequence: u64,
) -> Result<Option<u64>> {
    let size = file.size().map_err(|e| io_error("read", path, e))?;
    let mut window = Window { file, path, size, position, bytes: Vec::new() };
    let step = super::format::ALIGNMENT as u64;
    let mut at = position;
    while at + ENTRY_FIXED as u64 <= size {
        if proves(&mut window, at, stamp, sequence)? {
            return Ok(Some(at));
        }
        at += step;
    }
    Ok(None)
}

fn proves(window: &mut Window<'_>, at: u64, stamp: i64, sequence: u64) -> Result<bool> {
    let Some(fixed) = window.get(at, ENTRY_FIXED as u64)? else {
        return Ok(false);
    };
    let Ok(size) = EntryHeader::size(fixed) else {
        return Ok(false);
    };
    let Some(head) = window.get(at, size.head as u64)? else {
        return Ok(false);
    };
    let proof = EntryHeader::decode(head)
        .is_ok_and(|e| e.stamp == stamp && e.sequence > sequence && e.durable_sequence > sequence);
    Ok(proof)
}

/// A file seen through a buffer that moves forward.
struct Window<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    size: u64,
    position: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// `length` bytes from `position` on; `None` when the file ends before.
    fn get(&mut self, position: u64, length: u64) -> Result<Option<&[u8]>> {
        let Some(end) = position.checked_add(length).filter(|&end| end <= self.size) else {
            return Ok(None);
        };
        if position < self.position || end > self.position + self.bytes.len() as u64 {
            let count = length.max(WINDOW_BYTES as u64).min(self.size - position) as usize;
            self.bytes.resize(count, 0);
            self.position = position;
            self.file.read_at(&mut self.bytes, position).map_err(|e| io_error("read", self.path, e))?;
        }
        let start = (position - self.position) as usize;
        Ok(Some(&self.bytes[start..start + length as usize]))
    }
}
