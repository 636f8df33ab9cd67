//! Owns one segment file as readers see it: where each run of rows lies, and the open file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::SchemaRef;
use millstream_catalog::Positions;
use parking_lot::{Mutex, RwLock};

use super::{index, payload};
use crate::device::{Disk, DiskFile};
use crate::{Error, LogBatch, Result};

/// The name of the segment whose first entry has that sequence.
pub(super) fn segment_path(dir: &Path, first_sequence: u64) -> PathBuf {
    dir.join(format!("{first_sequence:020}.seg"))
}

/// The error for a failed operation on a file: a full disk is told apart.
pub(super) fn io_error(action: &'static str, path: &Path, source: std::io::Error) -> Error {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let path = path.display().to_string();
    match source.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Error::DiskFull { path },
        _ => Error::Io { action, path, source: Arc::new(source) },
    }
}

/// A run of rows of one partition in a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartMeta {
    pub sequence: u64,
    pub ingest_time_us: i64,
    pub partition: u32,
    pub rows: u32,
    pub base_offset: u64,
    /// Where its batch begins in the file.
    pub position: u64,
    pub length: u64,
    pub crc: u32,
}

/// How far a segment reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    /// The offsets after its last row.
    pub end: Positions,
    /// The sequence after its last entry.
    pub next_sequence: u64,
    /// Bytes of the file that are its content.
    pub data_len: u64,
    /// When its newest rows were accepted.
    pub last_ingest_us: i64,
    /// When its oldest rows were accepted.
    pub first_ingest_us: i64,
}

/// Where a segment's part list is.
#[derive(Debug, Clone)]
enum Parts {
    /// The segment is written to.
    Growing(Arc<RwLock<Vec<PartMeta>>>),
    /// Kept, because there is no index file to read it from.
    Held(Arc<Vec<PartMeta>>),
    /// In the index file; in memory while somebody reads.
    Indexed(Weak<Vec<PartMeta>>),
}

/// A part list in memory.
#[derive(Debug, Clone)]
pub(super) enum PartList {
    Growing(Arc<RwLock<Vec<PartMeta>>>),
    Fixed(Arc<Vec<PartMeta>>),
}

impl PartList {
    /// Up to `count` parts from the `index`-th on.
    pub fn window(&self, index: usize, count: usize) -> Vec<PartMeta> {
        let cut = |parts: &[PartMeta]| parts.iter().skip(index).take(count).copied().collect();
        match self {
            PartList::Growing(parts) => cut(&parts.read()),
            PartList::Fixed(parts) => cut(parts),
        }
    }
}

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub first_sequence: u64,
    /// The header's stamp.
    pub stamp: i64,
    pub base: Positions,
    pub schema: SchemaRef,
    pub path: PathBuf,
    disk: Arc<dyn Disk>,
    file: OnceLock<Arc<dyn DiskFile>>,
    extent: RwLock<Extent>,
    parts: Mutex<Parts>,
}

/// What a segment is made from.
#[derive(Debug)]
pub(super) struct SegmentFacts {
    pub first_sequence: u64,
    pub stamp: i64,
    pub base: Positions,
    pub schema: SchemaRef,
    pub extent: Extent,
}

impl Segment {
    fn new(dir: &Path, disk: Arc<dyn Disk>, facts: SegmentFacts, parts: Parts) -> Self {
        Self {
            path: segment_path(dir, facts.first_sequence),
            first_sequence: facts.first_sequence,
            stamp: facts.stamp,
            base: facts.base,
            schema: facts.schema,
            disk,
            file: OnceLock::new(),
            extent: RwLock::new(facts.extent),
            parts: Mutex::new(parts),
        }
    }

    /// A segment that is written to, with what is in it already.
    pub fn growing(
        dir: &Path,
        disk: Arc<dyn Disk>,
        facts: SegmentFacts,
        file: Arc<dyn DiskFile>,
        parts: Vec<PartMeta>,
    ) -> Self {
        let segment = Self::new(dir, disk, facts, Parts::Growing(Arc::new(RwLock::new(parts))));
        segment.file.get_or_init(|| file);
        segment
    }

    /// A sealed segment whose part list is in its index file.
    pub fn indexed(dir: &Path, disk: Arc<dyn Disk>, facts: SegmentFacts) -> Self {
        Self::new(dir, disk, facts, Parts::Indexed(Weak::new()))
    }

    /// A sealed segment without an index file.
    pub fn held(dir: &Path, disk: Arc<dyn Disk>, facts: SegmentFacts, parts: Vec<PartMeta>) -> Self {
        Self::new(dir, disk, facts, Parts::Held(Arc::new(parts)))
    }

    pub fn extent(&self) -> Extent {
        self.extent.read().clone()
    }

    /// Bytes of content.
    pub fn data_len(&self) -> u64 {
        self.extent.read().data_len
    }

    /// Whether every row of the segment lies before `upto`.
    pub fn is_before(&self, upto: &Positions) -> bool {
        upto.covers(&self.extent.read().end)
    }

    /// Adds an entry's parts; only for a growing segment.
    pub fn grow(&self, parts: &[PartMeta], extent: Extent) {
        if let Parts::Growing(list) = &*self.parts.lock() {
            list.write().extend_from_slice(parts);
        }
        *self.extent.write() = extent;
    }

    /// Says that the segment grows no more, and whether its index file has the part list.
    pub fn seal(&self, indexed: bool) {
        let mut parts = self.parts.lock();
        if let Parts::Growing(list) = &*parts {
            let list = Arc::new(list.read().clone());
            *parts = if indexed { Parts::Indexed(Arc::downgrade(&list)) } else { Parts::Held(list) };
        }
    }

    /// The part list, read from the index file when it is not in memory.
    pub fn parts(&self) -> Result<PartList> {
        let mut parts = self.parts.lock();
        match &*parts {
            Parts::Growing(list) => Ok(PartList::Growing(list.clone())),
            Parts::Held(list) => Ok(PartList::Fixed(list.clone())),
            Parts::Indexed(list) => {
                if let Some(list) = list.upgrade() {
                    return Ok(PartList::Fixed(list));
                }
                let list = Arc::new(index::load_parts(&*self.disk, self)?);
                *parts = Parts::Indexed(Arc::downgrade(&list));
                Ok(PartList::Fixed(list))
            }
        }
    }

    /// Opens what a reader may still need, before the files lose their names.
    pub fn pin(&self) -> Result<()> {
        self.file()?;
        if let PartList::Fixed(list) = self.parts()? {
            *self.parts.lock() = Parts::Held(list);
        }
        Ok(())
    }

    pub fn file(&self) -> Result<&Arc<dyn DiskFile>> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = self.disk.open(&self.path).map_err(|e| io_error("open", &self.path, e))?;
        Ok(self.file.get_or_init(|| file))
    }

    /// An error about this segment's bytes.
    pub fn corrupt(&self, position: u64, reason: impl Into<String>) -> Error {
        Error::Corrupt { segment: self.path.display().to_string(), position, reason: reason.into() }
    }

    /// Reads neighbouring parts with one access to the disk, checks them, and decodes them without a copy.
    pub fn read_run(&self, run: &[PartMeta]) -> Result<Vec<LogBatch>> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(Vec::new());
        };
        let length = last.position + last.length - first.position;
        let mut bytes = MutableBuffer::from_len_zeroed(length as usize);
        self.file()?.read_at(bytes.as_slice_mut(), first.position).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => self.corrupt(first.position, "the file ends before its rows do"),
            _ => io_error("read", &self.path, e),
        })?;
        let bytes: Buffer = bytes.into();
        run.iter().map(|part| self.decode_part(&bytes, part, first.position)).collect()
    }

    fn decode_part(&self, run: &Buffer, part: &PartMeta, run_position: u64) -> Result<LogBatch> {
        let bytes = run.slice_with_length((part.position - run_position) as usize, part.length as usize);
        if crc32c::crc32c(&bytes) != part.crc {
            return Err(self.corrupt(part.position, "the checksum of a batch does not match"));
        }
        let batch = payload::decode(&bytes, &self.schema, part.rows as usize)
            .map_err(|e| self.corrupt(part.position, format!("a batch cannot be decoded: {e}")))?;
        Ok(LogBatch {
            partition: part.partition,
            base_offset: part.base_offset,
            ingest_time_us: part.ingest_time_us,
            batch,
        })
    }
}
