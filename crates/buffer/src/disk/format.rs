//! Owns the bytes of a segment: its header, and the header and tables of an entry. Pure: facts in, facts out.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::convert::try_schema_from_flatbuffer_bytes;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use millstream_catalog::Positions;

use super::octets::{Octets, Taker};
use crate::keys::Mark;
use crate::{Key, OffsetRange};

/// Everything in a segment begins at a multiple of this, so that batches are read without a copy.
pub(super) const ALIGNMENT: usize = 64;
/// The format version written.
pub(super) const VERSION: u32 = 1;
/// The fixed part of a segment header.
pub(super) const SEGMENT_FIXED: usize = 48;
/// The fixed part of an entry.
pub(super) const ENTRY_FIXED: usize = 64;

const SEGMENT_MAGIC: &[u8; 8] = b"MILLSEG\n";
const ENTRY_MAGIC: u32 = u32::from_le_bytes(*b"MENT");
const PART_BYTES: usize = 40;
/// No schema with its base offsets is larger.
const SEGMENT_HEADER_LIMIT: usize = 64 << 20;

/// Why bytes are not what they should be.
pub(super) type Flaw = &'static str;

/// The beginning of a segment.
#[derive(Debug, Clone)]
pub(super) struct SegmentHeader {
    /// The sequence of the first entry.
    pub first_sequence: u64,
    /// When the segment was begun; its entries repeat it, so that none can pass for another segment's.
    pub stamp: i64,
    /// The offsets before the first entry.
    pub base: Positions,
    /// The schema of every batch in it.
    pub schema: SchemaRef,
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let options = IpcWriteOptions::default();
        let mut dictionaries = DictionaryTracker::new(true);
        let schema = IpcDataGenerator::default()
            .schema_to_bytes_with_dictionary_tracker(&self.schema, &mut dictionaries, &options)
            .ipc_message;
        let unpadded = SEGMENT_FIXED + 8 * self.base.0.len() + schema.len();
        let mut out = Octets::default();
        out.bytes(SEGMENT_MAGIC).u32(VERSION).u32(unpadded.next_multiple_of(ALIGNMENT) as u32).u32(0);
        out.u32(self.base.0.len() as u32).u64(self.first_sequence).u64(self.stamp as u64);
        out.u32(schema.len() as u32).u32(0);
        for &offset in &self.base.0 {
            out.u64(offset);
        }
        out.bytes(&schema).pad(ALIGNMENT);
        let crc = segment_crc(&out.0);
        out.put_u32(16, crc);
        out.0
    }

    /// How long the whole header is, from its fixed part.
    pub fn length(fixed: &[u8]) -> Result<usize, Flaw> {
        let mut taker = Taker(fixed);
        let too_short = "the file is shorter than a segment header";
        if taker.bytes(8).ok_or(too_short)? != SEGMENT_MAGIC {
            return Err("the segment header does not begin with the segment mark");
        }
        if taker.u32().ok_or(too_short)? != VERSION {
            return Err("the segment has a format version that this program does not know");
        }
        let length = taker.u32().ok_or(too_short)? as usize;
        if !(SEGMENT_FIXED..=SEGMENT_HEADER_LIMIT).contains(&length) || !length.is_multiple_of(ALIGNMENT) {
            return Err("the segment header has an impossible length");
        }
        Ok(length)
    }

    /// Reads a whole header.
    pub fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let length = Self::length(bytes)?;
        let bytes = bytes.get(..length).ok_or("the segment header is cut short")?;
        let mut taker = Taker(&bytes[16..]);
        if taker.u32() != Some(segment_crc(bytes)) {
            return Err("the segment header's checksum does not match");
        }
        decode_segment(taker).ok_or("the segment header's fields do not fit together")
    }
}

fn decode_segment(mut taker: Taker<'_>) -> Option<SegmentHeader> {
    let partitions = taker.u32()? as usize;
    let first_sequence = taker.u64()?;
    let stamp = taker.i64()?;
    let schema_len = taker.u32()? as usize;
    taker.u32()?;
    if partitions * 8 > taker.0.len() {
        return None;
    }
    let base = Positions((0..partitions).map(|_| taker.u64()).collect::<Option<_>>()?);
    let schema = try_schema_from_flatbuffer_bytes(taker.bytes(schema_len)?).ok()?;
    Some(SegmentHeader { first_sequence, stamp, base, schema: Arc::new(schema) })
}

/// Over everything but the checksum itself.
fn segment_crc(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..16]), &header[20..])
}

/// One run of rows of one partition, as an entry's part table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartRecord {
    pub partition: u32,
    pub rows: u32,
    pub base_offset: u64,
    /// Where its batch begins, from the entry's first byte.
    pub position: u64,
    /// Bytes of its batch.
    pub length: u64,
    /// Over its batch.
    pub crc: u32,
}

/// An entry without its batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryHeader {
    pub sequence: u64,
    pub ingest_time_us: i64,
    /// The segment's stamp.
    pub stamp: i64,
    /// Entries before this one were durable when this one was written.
    pub durable_sequence: u64,
    pub parts: Vec<PartRecord>,
    pub marks: Vec<Mark>,
}

/// What the fixed part of an entry says about its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntrySize {
    /// The whole entry.
    pub length: u64,
    /// Fixed part and tables.
    pub head: usize,
}

impl EntryHeader {
    /// Bytes of the fixed part and both tables, padded: where the first batch begins.
    pub fn head_length(parts: usize, marks: &[Mark]) -> usize {
        let ranges: usize = marks.iter().map(|m| m.ranges.len()).sum();
        let tables = parts * PART_BYTES + marks.len() * MARK_BYTES + ranges * RANGE_BYTES;
        (ENTRY_FIXED + tables).next_multiple_of(ALIGNMENT)
    }

    /// The fixed part and the tables, padded; `length` is the whole entry's.
    pub fn encode(&self, length: u64) -> Vec<u8> {
        let head = Self::head_length(self.parts.len(), &self.marks);
        let mut out = Octets(Vec::with_capacity(head));
        out.u32(ENTRY_MAGIC).u32(0).u64(length).u64(self.sequence).u64(self.ingest_time_us as u64);
        out.u32(self.parts.len() as u32).u32(self.marks.len() as u32).u32(head as u32).u32(0);
        out.u64(self.stamp as u64).u64(self.durable_sequence);
        for part in &self.parts {
            out.u32(part.partition).u32(part.rows).u64(part.base_offset);
            out.u64(part.position).u64(part.length).u32(part.crc).u32(0);
        }
        encode_marks(&mut out, &self.marks);
        out.pad(ALIGNMENT);
        let crc = crc32c::crc32c(&out.0[8..]);
        out.put_u32(4, crc);
        out.0
    }

    /// The sizes that the fixed part claims; only plausible, the checksum is checked by `decode`.
    pub fn size(fixed: &[u8]) -> Result<EntrySize, Flaw> {
        let mut taker = Taker(fixed);
        let too_short = "the entry header is cut short";
        if taker.u32().ok_or(too_short)? != ENTRY_MAGIC {
            return Err("no entry begins here");
        }
        taker.u32().ok_or(too_short)?;
        let length = taker.u64().ok_or(too_short)?;
        taker.bytes(24).ok_or(too_short)?;
        let head = taker.u32().ok_or(too_short)? as usize;
        let aligned = head.is_multiple_of(ALIGNMENT) && length.is_multiple_of(ALIGNMENT as u64);
        if !aligned || head < ENTRY_FIXED || (head as u64) > length {
            return Err("the entry header has an impossible length");
        }
        Ok(EntrySize { length, head })
    }

    /// Reads the fixed part and the tables: `head` is exactly as long as [`EntryHeader::size`] says.
    pub fn decode(head: &[u8]) -> Result<Self, Flaw> {
        let size = Self::size(head)?;
        if head.len() != size.head {
            return Err("the entry header is cut short");
        }
        let mut taker = Taker(&head[4..]);
        if taker.u32() != Some(crc32c::crc32c(&head[8..])) {
            return Err("the entry header's checksum does not match");
        }
        let entry = decode_entry(taker).ok_or("the entry header's fields do not fit together")?;
        let fits = |p: &PartRecord| {
            p.position.is_multiple_of(ALIGNMENT as u64)
                && p.position >= size.head as u64
                && p.position.checked_add(p.length).is_some_and(|end| end <= size.length)
        };
        if !entry.parts.iter().all(fits) {
            return Err("the entry's parts lie outside of it");
        }
        Ok(entry)
    }
}

fn decode_entry(mut taker: Taker<'_>) -> Option<EntryHeader> {
    taker.u64()?;
    let sequence = taker.u64()?;
    let ingest_time_us = taker.i64()?;
    let parts = taker.u32()? as usize;
    let marks = taker.u32()? as usize;
    taker.u64()?;
    let stamp = taker.i64()?;
    let durable_sequence = taker.u64()?;
    if parts.checked_mul(PART_BYTES)? > taker.0.len() {
        return None;
    }
    let parts = (0..parts).map(|_| decode_part(&mut taker)).collect::<Option<_>>()?;
    let marks = decode_marks(&mut taker, marks)?;
    Some(EntryHeader { sequence, ingest_time_us, stamp, durable_sequence, parts, marks })
}

fn decode_part(taker: &mut Taker<'_>) -> Option<PartRecord> {
    let part = PartRecord {
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

const MARK_BYTES: usize = 40;
const RANGE_BYTES: usize = 24;

/// Appends a mark table: for each key its id, content, note and ranges.
pub(super) fn encode_marks(out: &mut Octets, marks: &[Mark]) {
    for mark in marks {
        out.u128(mark.key.id).u64(mark.key.content).u64(mark.key.note);
        out.u32(mark.ranges.len() as u32).u32(0);
        for range in &mark.ranges {
            out.u32(range.partition).u32(0).u64(range.start).u64(range.end);
        }
    }
}

/// Takes a table of `count` marks.
pub(super) fn decode_marks(taker: &mut Taker<'_>, count: usize) -> Option<Vec<Mark>> {
    if count.checked_mul(MARK_BYTES)? > taker.0.len() {
        return None;
    }
    (0..count).map(|_| decode_mark(taker)).collect()
}

fn decode_mark(taker: &mut Taker<'_>) -> Option<Mark> {
    let key = Key { id: taker.u128()?, content: taker.u64()?, note: taker.u64()? };
    let ranges = taker.u32()? as usize;
    taker.u32()?;
    if ranges.checked_mul(RANGE_BYTES)? > taker.0.len() {
        return None;
    }
    let ranges = (0..ranges).map(|_| decode_range(taker)).collect::<Option<_>>()?;
    Some(Mark { key, ranges })
}

fn decode_range(taker: &mut Taker<'_>) -> Option<OffsetRange> {
    let partition = taker.u32()?;
    taker.u32()?;
    Some(OffsetRange { partition, start: taker.u64()?, end: taker.u64()? })
}

/// Turns Arrow's error into this crate's.
pub(super) fn encoding(action: &'static str, source: ArrowError) -> crate::Error {
    crate::Error::Encoding { action, source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn entry() -> EntryHeader {
        let ranges = Box::new([OffsetRange { partition: 3, start: 5, end: 9 }]);
        let mark = |id| Mark { key: Key { id, content: 2, note: 3 }, ranges: ranges.clone() };
        let part = PartRecord { partition: 3, rows: 4, base_offset: 5, position: 256, length: 100, crc: 9 };
        EntryHeader {
            sequence: 17,
            ingest_time_us: -1,
            stamp: 8,
            durable_sequence: 16,
            parts: vec![part],
            marks: vec![mark(1), mark(u128::MAX)],
        }
    }

    #[test]
    fn an_entry_comes_back_as_it_went() {
        let entry = entry();
        let bytes = entry.encode(384);
        assert_eq!(bytes.len(), EntryHeader::head_length(1, &entry.marks));
        assert_eq!(EntryHeader::size(&bytes), Ok(EntrySize { length: 384, head: bytes.len() }));
        assert_eq!(EntryHeader::decode(&bytes), Ok(entry));
    }

    #[test]
    fn no_flipped_bit_of_an_entry_goes_unseen() {
        let bytes = entry().encode(384);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(EntryHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn no_flipped_bit_of_a_segment_header_goes_unseen() {
        let fields = vec![Field::new("a", DataType::Int64, false).with_metadata([("k".into(), "v".into())].into())];
        let schema = Arc::new(Schema::new(fields));
        let header = SegmentHeader { first_sequence: 4, stamp: 5, base: Positions(vec![1, 2]), schema };
        let bytes = header.encode();
        let again = SegmentHeader::decode(&bytes).unwrap();
        assert_eq!((again.first_sequence, again.stamp), (4, 5));
        assert_eq!((again.base, again.schema), (header.base, header.schema));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(SegmentHeader::decode(&bytes[..length]).is_err());
        }
    }
}
