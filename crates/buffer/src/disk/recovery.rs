//! Owns opening what an earlier life of the log left: takes the whole valid prefix, cuts a torn tail, and refuses
//! damage by name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_catalog::Positions;

use super::format::{SEGMENT_FIXED, SegmentHeader};
use super::index::{self, Summary, index_path};
use super::scan::{self, Scan};
use super::segment::{Extent, Segment, SegmentFacts, io_error, segment_path};
use super::trims::Trims;
use crate::device::{Disk, DiskFile};
use crate::keys::{KeyMemory, Mark};
use crate::{Error, Result};

/// A log as it was found.
#[derive(Debug)]
pub(super) struct Recovered {
    /// In order; only the last one grows.
    pub segments: Vec<Arc<Segment>>,
    /// The keys in the last segment.
    pub last_marks: Vec<Mark>,
    pub trims: Trims,
    pub keys: KeyMemory,
    /// Bytes cut from the last segment.
    pub torn_bytes: u64,
}

/// Opens the log in `dir`, which exists.
pub(super) fn recover(disk: &Arc<dyn Disk>, dir: &Path, partitions: u32, key_limit: usize) -> Result<Recovered> {
    let names = disk.list(dir).map_err(|e| io_error("list", dir, e))?;
    remove_staged(&**disk, dir, &names)?;
    let (trims, trimmed_marks) = Trims::open(disk.clone(), dir)?;
    let segments = live_sequences(&**disk, dir, &names, trims.floor)?;
    let mut recovery = Recovery { disk, dir, partitions };
    let heads = segments.iter().map(|&s| recovery.read_head(s)).collect::<Result<Vec<_>>>()?;
    let mut found = recovery.open_segments(&heads)?;
    let mut marks = found.newest_marks(disk, key_limit)?;
    marks.push(trimmed_marks);
    let mut keys = KeyMemory::new(key_limit);
    marks.into_iter().rev().flatten().for_each(|mark| keys.remember(mark));
    disk.sync_dir(dir).map_err(|e| io_error("sync", dir, e))?;
    Ok(Recovered {
        segments: found.segments,
        last_marks: std::mem::take(&mut found.last_marks),
        trims,
        keys,
        torn_bytes: found.torn_bytes,
    })
}

/// Files that had not got their name when a crash came.
fn remove_staged(disk: &dyn Disk, dir: &Path, names: &[String]) -> Result<()> {
    for name in names.iter().filter(|n| n.ends_with(".new")) {
        let path = dir.join(name);
        disk.remove(&path).map_err(|e| io_error("remove", &path, e))?;
    }
    Ok(())
}

/// The sequences in the names that end with `extension`.
fn sequences(names: &[String], extension: &str) -> BTreeSet<u64> {
    let digits = |name: &String| name.strip_suffix(extension).filter(|d| d.len() == 20).map(str::to_string);
    names.iter().filter_map(digits).filter_map(|d| d.parse().ok()).collect()
}

/// The segments to open. Finishes the last trim's removals; misses what should be there.
fn live_sequences(disk: &dyn Disk, dir: &Path, names: &[String], floor: u64) -> Result<Vec<u64>> {
    let segments = sequences(names, ".seg");
    let indexes = sequences(names, ".idx");
    for &trimmed in segments.range(..floor) {
        let path = segment_path(dir, trimmed);
        disk.remove(&path).map_err(|e| io_error("remove", &path, e))?;
    }
    for &trimmed in indexes.range(..floor) {
        let path = index_path(&segment_path(dir, trimmed));
        disk.remove(&path).map_err(|e| io_error("remove", &path, e))?;
    }
    let live: Vec<u64> = segments.range(floor..).copied().collect();
    if let Some(&orphan) = indexes.range(floor..).find(|&i| !segments.contains(i)) {
        return Err(missing(dir, orphan, "the segment is missing, its index is there"));
    }
    match live.first() {
        Some(&first) if first != floor => {
            Err(missing(dir, floor, format!("the segment is missing, the oldest one there begins at entry {first}")))
        }
        None if floor > 0 => Err(missing(dir, floor, "the segment is missing, trims kept it")),
        _ => Ok(live),
    }
}

fn missing(dir: &Path, sequence: u64, reason: impl Into<String>) -> Error {
    let segment = segment_path(dir, sequence).display().to_string();
    Error::Corrupt { segment, position: 0, reason: reason.into() }
}

/// A segment's header and what its index claims.
#[derive(Debug)]
struct Head {
    path: PathBuf,
    header: SegmentHeader,
    header_len: u64,
    file: Arc<dyn DiskFile>,
    size: u64,
    summary: Option<Summary>,
}

impl Head {
    fn corrupt(&self, position: u64, reason: impl Into<String>) -> Error {
        Error::Corrupt { segment: self.path.display().to_string(), position, reason: reason.into() }
    }

    /// The segment's extent before its first entry.
    fn beginning(&self) -> Extent {
        Extent {
            end: self.header.base.clone(),
            next_sequence: self.header.first_sequence,
            data_len: self.header_len,
            last_ingest_us: i64::MIN,
            first_ingest_us: i64::MAX,
        }
    }

    fn facts(&self, extent: Extent) -> SegmentFacts {
        SegmentFacts {
            first_sequence: self.header.first_sequence,
            stamp: self.header.stamp,
            base: self.header.base.clone(),
            schema: self.header.schema.clone(),
            extent,
        }
    }

    fn scan(&self, start: Extent) -> Result<Scan> {
        scan::scan(&*self.file, &self.path, self.header.stamp, start)
    }
}

#[derive(Debug, Default)]
struct Found {
    segments: Vec<Arc<Segment>>,
    last_marks: Vec<Mark>,
    torn_bytes: u64,
}

impl Found {
    /// The keys of the segments, newest segment first, until there are enough.
    fn newest_marks(&self, disk: &Arc<dyn Disk>, key_limit: usize) -> Result<Vec<Vec<Mark>>> {
        let mut count = self.last_marks.len();
        let mut newest = vec![self.last_marks.clone()];
        for segment in self.segments.iter().rev().skip(1) {
            if count >= key_limit {
                break;
            }
            let marks = index::load_marks(&**disk, segment)?;
            count += marks.len();
            newest.push(marks);
        }
        Ok(newest)
    }
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    partitions: u32,
}

impl Recovery<'_> {
    fn read_head(&mut self, sequence: u64) -> Result<Head> {
        let path = segment_path(self.dir, sequence);
        let corrupt =
            |reason: &str| Error::Corrupt { segment: path.display().to_string(), position: 0, reason: reason.into() };
        let file = self.disk.open(&path).map_err(|e| io_error("open", &path, e))?;
        let size = file.size().map_err(|e| io_error("read", &path, e))?;
        if size < SEGMENT_FIXED as u64 {
            return Err(corrupt("the segment header is cut short"));
        }
        let mut bytes = vec![0; SEGMENT_FIXED];
        file.read_at(&mut bytes, 0).map_err(|e| io_error("read", &path, e))?;
        let header_len = SegmentHeader::length(&bytes).map_err(corrupt)?;
        if size < header_len as u64 {
            return Err(corrupt("the segment header is cut short"));
        }
        bytes.resize(header_len, 0);
        file.read_at(&mut bytes, 0).map_err(|e| io_error("read", &path, e))?;
        let header = SegmentHeader::decode(&bytes).map_err(corrupt)?;
        if header.first_sequence != sequence {
            let reason = format!("the file is a copy of segment {:020}, or was renamed", header.first_sequence);
            return Err(corrupt(&reason));
        }
        if header.base.0.len() != self.partitions as usize {
            let reason = format!("{} has {} partitions, not {}", path.display(), header.base.0.len(), self.partitions);
            return Err(Error::Misfit { reason });
        }
        let summary = self.read_summary(&path, &header);
        Ok(Head { path, header, header_len: header_len as u64, file, size, summary })
    }

    /// The index's claims, when it is readable and belongs to the segment.
    fn read_summary(&self, segment: &Path, header: &SegmentHeader) -> Option<Summary> {
        let path = index_path(segment);
        match index::read_summary(&**self.disk, &path) {
            Ok(summary) if summary.first_sequence == header.first_sequence && summary.stamp == header.stamp => {
                Some(summary)
            }
            Ok(_) => None,
            Err(flaw) => {
                tracing::debug!(index = %path.display(), flaw, "not using an index");
                None
            }
        }
    }

    fn open_segments(&mut self, heads: &[Head]) -> Result<Found> {
        let mut found = Found::default();
        for pair in heads.windows(2) {
            found.segments.push(Arc::new(self.open_sealed(&pair[0], &pair[1])?));
        }
        if let Some(last) = heads.last() {
            self.open_last(last, &mut found)?;
        }
        Ok(found)
    }

    /// A segment that another follows: from its index where that fits the data, else from the data.
    fn open_sealed(&self, head: &Head, next: &Head) -> Result<Segment> {
        let joins =
            |extent: &Extent| extent.next_sequence == next.header.first_sequence && extent.end == next.header.base;
        if let Some(summary) = &head.summary
            && summary.extent.data_len == head.size
            && joins(&summary.extent)
        {
            return Ok(Segment::indexed(self.dir, self.disk.clone(), head.facts(summary.extent.clone())));
        }
        tracing::warn!(segment = %head.path.display(), "making a segment's index anew");
        let scan = head.scan(head.beginning())?;
        if let Some(flaw) = scan.flaw {
            return Err(head.corrupt(scan.extent.data_len, flaw));
        }
        if !joins(&scan.extent) {
            return Err(self.explain_gap(head, next, &scan.extent));
        }
        let segment = Segment::held(self.dir, self.disk.clone(), head.facts(scan.extent.clone()), scan.parts.clone());
        let bytes = index::encode(&segment, &scan.extent, &scan.parts, &scan.marks, true);
        if index::write_unsynced(&**self.disk, &segment.path, &bytes) {
            return Ok(Segment::indexed(self.dir, self.disk.clone(), head.facts(scan.extent)));
        }
        Ok(segment)
    }

    fn explain_gap(&self, head: &Head, next: &Head, extent: &Extent) -> Error {
        let (ends, begins) = (extent.next_sequence, next.header.first_sequence);
        let known_end = head.summary.as_ref().map(|s| s.extent.next_sequence);
        if ends > begins {
            return next.corrupt(0, format!("the segment overlaps the one before it, which ends at entry {ends}"));
        }
        if ends == begins {
            return next.corrupt(0, "the segment's offsets do not follow those of the one before it");
        }
        if known_end == Some(begins) {
            return head.corrupt(extent.data_len, format!("entries {ends} to {begins} are missing at its end"));
        }
        missing(self.dir, ends, format!("the segment is missing, the next one begins at entry {begins}"))
    }

    /// The newest segment: what its last clean close vouches for must be there, behind it a torn tail is cut.
    fn open_last(&self, head: &Head, found: &mut Found) -> Result<()> {
        let mut vouched = head.header_len;
        let mut known = None;
        if let Some(summary) = &head.summary {
            if summary.sealed {
                let reason = format!("the segment is missing, {} says that it follows", head.path.display());
                return Err(missing(self.dir, summary.extent.next_sequence, reason));
            }
            vouched = summary.extent.data_len;
            known = self.known_content(head, summary);
        }
        if head.size < vouched {
            let reason = format!(
                "the log was closed when the segment had {vouched} bytes; remove its index to go on without them"
            );
            return Err(head.corrupt(head.size, reason));
        }
        let scan = match known {
            Some(known) => append_scan(known, head)?,
            None => head.scan(head.beginning())?,
        };
        if let Some(flaw) = scan.flaw {
            self.cut_torn_tail(head, &scan.extent, vouched, flaw)?;
            found.torn_bytes = head.size - scan.extent.data_len;
        }
        head.file.sync().map_err(|e| io_error("sync", &head.path, e))?;
        let facts = head.facts(scan.extent);
        let segment = Segment::growing(self.dir, self.disk.clone(), facts, head.file.clone(), scan.parts);
        found.segments.push(Arc::new(segment));
        found.last_marks = scan.marks;
        Ok(())
    }

    /// What the index of a clean close says, so that only what came later is scanned.
    fn known_content(&self, head: &Head, summary: &Summary) -> Option<Scan> {
        let path = index_path(&head.path);
        let parts = index::read_parts(&**self.disk, &path, summary).ok()?;
        let marks = index::read_marks(&**self.disk, &path, summary).ok()?;
        Some(Scan { parts, marks, extent: summary.extent.clone(), flaw: None })
    }

    fn cut_torn_tail(&self, head: &Head, extent: &Extent, vouched: u64, flaw: &'static str) -> Result<()> {
        let position = extent.data_len;
        if position < vouched {
            return Err(head.corrupt(position, flaw));
        }
        let proof =
            scan::find_proof_of_damage(&*head.file, &head.path, head.header.stamp, position, extent.next_sequence)?;
        if let Some(later) = proof {
            return Err(head.corrupt(position, format!("{flaw}, and a later entry lies at byte {later}")));
        }
        tracing::warn!(segment = %head.path.display(), position, flaw, "cutting a torn tail");
        head.file.set_size(position).map_err(|e| io_error("cut", &head.path, e))
    }
}

/// Scans what lies behind known content.
fn append_scan(known: Scan, head: &Head) -> Result<Scan> {
    let mut scan = head.scan(known.extent)?;
    scan.parts.splice(..0, known.parts);
    scan.marks.splice(..0, known.marks);
    Ok(scan)
}

/// Where a log with these segments ends.
pub(super) fn end_of(segments: &[Arc<Segment>], partitions: u32) -> (Positions, u64) {
    match segments.last() {
        Some(last) => {
            let extent = last.extent();
            (extent.end, extent.next_sequence)
        }
        None => (Positions::zero(partitions), 0),
    }
}
