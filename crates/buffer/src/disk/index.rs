//! Owns the index file beside a segment: where its parts and keys are, so that opening a log reads no batches.
//!
//! An index only repeats what its segment says. One that is missing, damaged or does not fit is made anew, so that of a
//! sealed segment is not synced. The index that a close leaves is: it vouches for what the last segment has.
//!
//! ```text
//! ┌────────────┬─────────┬───────┬───────┬───────┬───────┬──────┬────────┬───────┬──────┬─────────────┐
//! │ MILLIDX\n  │ version │ flags │ crc a │ parts │ crc b │ crc c│ marks  │ first │ next │ length,     │
//! │ 8 bytes    │ u32     │ u32   │ u32   │ u32   │ u32   │ u32  │ u64    │ u64   │ u64  │ stamp, times│
//! ├────────────┴─────────┴───────┴───────┴───────┴───────┴──────┴────────┴───────┴──────┴─────────────┤
//! │ partitions u32, zero u32, end offset u64 × partitions      (crc a: all of the header but itself)  │
//! ├───────────────────────────────────────────────────────────────────────────────────────────────────┤
//! │ parts, 56 bytes each                                                                    (crc b)   │
//! ├───────────────────────────────────────────────────────────────────────────────────────────────────┤
//! │ marks, as in an entry                                                                   (crc c)   │
//! └───────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_catalog::Positions;

use super::format::{Flaw, decode_marks, encode_marks};
use super::octets::{Octets, Taker};
use super::scan::{Scan, scan_segment};
use super::segment::{Extent, PartMeta, Segment};
use crate::Result;
use crate::device::{Disk, DiskFile};
use crate::keys::Mark;

const MAGIC: &[u8; 8] = b"MILLIDX\n";
const VERSION: u32 = 1;
const FIXED: usize = 96;
const PART_BYTES: usize = 56;
/// The flag of a segment that grows no more: another follows it.
const SEALED: u32 = 1;

/// The name of a segment's index.
pub(super) fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

/// What an index says, its tables left on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub first_sequence: u64,
    pub stamp: i64,
    /// Whether another segment follows.
    pub sealed: bool,
    pub extent: Extent,
    parts: usize,
    parts_crc: u32,
    marks: usize,
    marks_crc: u32,
    header_len: usize,
}

/// The bytes of an index.
pub(super) fn encode(segment: &Segment, extent: &Extent, parts: &[PartMeta], marks: &[Mark], sealed: bool) -> Vec<u8> {
    let mut part_table = Octets(Vec::with_capacity(parts.len() * PART_BYTES));
    for part in parts {
        part_table.u64(part.sequence).u64(part.ingest_time_us as u64).u32(part.partition).u32(part.rows);
        part_table.u64(part.base_offset).u64(part.position).u64(part.length).u32(part.crc).u32(0);
    }
    let mut mark_table = Octets::default();
    encode_marks(&mut mark_table, marks);
    let mut out = Octets::default();
    out.bytes(MAGIC).u32(VERSION).u32(if sealed { SEALED } else { 0 }).u32(0).u32(parts.len() as u32);
    out.u32(crc32c::crc32c(&part_table.0)).u32(crc32c::crc32c(&mark_table.0)).u64(marks.len() as u64);
    out.u64(segment.first_sequence).u64(extent.next_sequence).u64(extent.data_len).u64(segment.stamp as u64);
    out.u64(extent.last_ingest_us as u64).u64(extent.first_ingest_us as u64);
    out.u32(extent.end.0.len() as u32).u32(0);
    for &offset in &extent.end.0 {
        out.u64(offset);
    }
    let crc = header_crc(&out.0);
    out.put_u32(16, crc);
    out.bytes(&part_table.0).bytes(&mark_table.0);
    out.0
}

fn header_crc(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..16]), &header[20..])
}

/// Writes bytes to a new file and gives it its name in one step; durable when it returns.
pub(super) fn write_whole(
    disk: &dyn Disk,
    path: &Path,
    bytes: &[u8],
) -> Result<Arc<dyn DiskFile>, (WriteStep, std::io::Error)> {
    let staged = staged_path(path);
    let file = write_staged(disk, &staged, bytes).map_err(|e| (WriteStep::Write, e))?;
    file.sync().map_err(|e| (WriteStep::Sync, e))?;
    disk.rename(&staged, path).map_err(|e| match e.kind() {
        std::io::ErrorKind::StorageFull => (WriteStep::Write, e),
        _ => (WriteStep::Sync, e),
    })?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir)).map_err(|e| (WriteStep::Sync, e))?;
    Ok(file)
}

/// Writes an index without waiting for the disk: one that a crash tears is made anew, so it is not worth the time.
/// Whether it could be written; a log does without.
pub(super) fn write_unsynced(disk: &dyn Disk, segment: &Path, bytes: &[u8]) -> bool {
    let path = index_path(segment);
    let staged = staged_path(&path);
    match write_staged(disk, &staged, bytes).and_then(|_| disk.rename(&staged, &path)) {
        Ok(()) => true,
        Err(cause) => {
            tracing::warn!(index = %path.display(), %cause, "cannot write a segment's index");
            false
        }
    }
}

/// Which step of a write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteStep {
    /// Nothing is promised yet, nothing is lost.
    Write,
    /// What the disk holds is not known any more.
    Sync,
}

/// The name under which a file is written before it gets its own.
pub(super) fn staged_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn write_staged(disk: &dyn Disk, staged: &Path, bytes: &[u8]) -> std::io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(staged)?;
    if let Err(e) = file.write_at(&mut [IoSlice::new(bytes)], 0) {
        drop(file);
        disk.remove(staged)?;
        return Err(e);
    }
    Ok(file)
}

/// Reads an index's header. The flaw says why it cannot be used.
pub(super) fn read_summary(disk: &dyn Disk, path: &Path) -> Result<Summary, Flaw> {
    let file = disk.open(path).map_err(|_| "the index cannot be opened")?;
    let size = file.size().map_err(|_| "the index cannot be read")? as usize;
    let mut fixed = [0; FIXED];
    file.read_at(&mut fixed, 0).map_err(|_| "the index is cut short")?;
    let partitions = u32::from_le_bytes([fixed[88], fixed[89], fixed[90], fixed[91]]) as usize;
    let header_len = FIXED + 8 * partitions;
    if size < header_len {
        return Err("the index is cut short");
    }
    let mut header = vec![0; header_len];
    file.read_at(&mut header, 0).map_err(|_| "the index is cut short")?;
    if &header[..8] != MAGIC {
        return Err("the index does not begin with the index mark");
    }
    let mut taker = Taker(&header[8..]);
    if taker.u32() != Some(VERSION) {
        return Err("the index has an unknown version");
    }
    let flags = taker.u32().ok_or("the index is cut short")?;
    if taker.u32() != Some(header_crc(&header)) {
        return Err("the index's checksum does not match");
    }
    decode_summary(taker, flags, header_len).ok_or("the index is cut short")
}

fn decode_summary(mut taker: Taker<'_>, flags: u32, header_len: usize) -> Option<Summary> {
    let (parts, parts_crc, marks_crc) = (taker.u32()? as usize, taker.u32()?, taker.u32()?);
    let marks = taker.u64()? as usize;
    let (first_sequence, next_sequence, data_len) = (taker.u64()?, taker.u64()?, taker.u64()?);
    let (stamp, last_ingest_us, first_ingest_us) = (taker.i64()?, taker.i64()?, taker.i64()?);
    let partitions = taker.u32()?;
    taker.u32()?;
    let end = Positions((0..partitions).map(|_| taker.u64()).collect::<Option<_>>()?);
    let extent = Extent { end, next_sequence, data_len, last_ingest_us, first_ingest_us };
    let sealed = flags & SEALED != 0;
    Some(Summary { first_sequence, stamp, sealed, extent, parts, parts_crc, marks, marks_crc, header_len })
}

/// Reads the part table.
pub(super) fn read_parts(disk: &dyn Disk, path: &Path, summary: &Summary) -> Result<Vec<PartMeta>, Flaw> {
    let mut bytes = vec![0; checked_table(disk, path, summary)?];
    let file = disk.open(path).map_err(|_| "the index cannot be opened")?;
    file.read_at(&mut bytes, summary.header_len as u64).map_err(|_| "the index is cut short")?;
    if crc32c::crc32c(&bytes) != summary.parts_crc {
        return Err("the checksum of the index's parts does not match");
    }
    let mut taker = Taker(&bytes);
    (0..summary.parts).map(|_| decode_part(&mut taker)).collect::<Option<_>>().ok_or("the index is cut short")
}

/// Bytes of the part table; checked against the file, so that no claim makes the reader allocate.
fn checked_table(disk: &dyn Disk, path: &Path, summary: &Summary) -> Result<usize, Flaw> {
    let size = disk.open(path).and_then(|f| f.size()).map_err(|_| "the index cannot be opened")?;
    let table = summary.parts * PART_BYTES;
    if (summary.header_len + table) as u64 > size {
        return Err("the index is cut short");
    }
    Ok(table)
}

fn decode_part(taker: &mut Taker<'_>) -> Option<PartMeta> {
    let part = PartMeta {
        sequence: taker.u64()?,
        ingest_time_us: taker.i64()?,
        partition: taker.u32()?,
        rows: taker.u32()?,
        base_offset: taker.u64()?,
        position: taker.u64()?,
        length: taker.u64()?,
        crc: taker.u32()?,
    };
    taker.u32()?;
    Some(part)
}

/// Reads the mark table.
pub(super) fn read_marks(disk: &dyn Disk, path: &Path, summary: &Summary) -> Result<Vec<Mark>, Flaw> {
    let position = summary.header_len + checked_table(disk, path, summary)?;
    let file = disk.open(path).map_err(|_| "the index cannot be opened")?;
    let size = file.size().map_err(|_| "the index cannot be read")? as usize;
    let mut bytes = vec![0; size.saturating_sub(position)];
    file.read_at(&mut bytes, position as u64).map_err(|_| "the index is cut short")?;
    if crc32c::crc32c(&bytes) != summary.marks_crc {
        return Err("the checksum of the index's keys does not match");
    }
    decode_marks(&mut Taker(&bytes), summary.marks).ok_or("the index is cut short")
}

/// A sealed segment's part list: from its index, or from its data when the index has gone bad since.
pub(super) fn load_parts(disk: &dyn Disk, segment: &Segment) -> Result<Vec<PartMeta>> {
    let path = index_path(&segment.path);
    match own_summary(disk, segment).and_then(|summary| read_parts(disk, &path, &summary)) {
        Ok(parts) => Ok(parts),
        Err(flaw) => Ok(remake(disk, segment, flaw)?.parts),
    }
}

/// A sealed segment's keys, likewise.
pub(super) fn load_marks(disk: &dyn Disk, segment: &Segment) -> Result<Vec<Mark>> {
    let path = index_path(&segment.path);
    match own_summary(disk, segment).and_then(|summary| read_marks(disk, &path, &summary)) {
        Ok(marks) => Ok(marks),
        Err(flaw) => Ok(remake(disk, segment, flaw)?.marks),
    }
}

/// The summary of a segment's index, when it says all of what is in the segment.
fn own_summary(disk: &dyn Disk, segment: &Segment) -> Result<Summary, Flaw> {
    let summary = read_summary(disk, &index_path(&segment.path))?;
    if summary.stamp != segment.stamp || summary.extent != segment.extent() {
        return Err("the index belongs to other data");
    }
    Ok(summary)
}

/// Makes a sealed segment's index anew from its data.
fn remake(disk: &dyn Disk, segment: &Segment, flaw: Flaw) -> Result<Scan> {
    tracing::warn!(segment = %segment.path.display(), flaw, "making a segment's index anew");
    let extent = segment.extent();
    let scan = scan_segment(segment, &extent)?;
    write_unsynced(disk, &segment.path, &encode(segment, &extent, &scan.parts, &scan.marks, true));
    Ok(scan)
}
