//! Owns the writer: one thread per open log that turns what waits into entries and makes them durable.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::SchemaRef;
use millstream_catalog::{Durability, Positions};
use tokio::sync::oneshot;

use super::Shared;
use super::format::{ALIGNMENT, EntryHeader, PartRecord, SegmentHeader};
use super::group::{Group, GroupPart};
use super::index::{self, WriteStep, index_path};
use super::payload::Encoded;
use super::queue::{Request, Rows, Submission};
use super::segment::{Extent, PartMeta, Segment, SegmentFacts, io_error, segment_path};
use super::trims::Trims;
use crate::device::DiskFile;
use crate::keys::{KeyMemory, Mark};
use crate::{Error, LogBatch, Result};

/// About this many bytes become one entry.
const GROUP_BYTES: usize = 8 << 20;
/// A segment takes no further entry once it has this many parts or keys: they are in memory until it is sealed.
const SEGMENT_TABLE_ROWS: usize = 1 << 17;

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active {
    pub segment: Arc<Segment>,
    pub file: Arc<dyn DiskFile>,
    pub extent: Extent,
    pub marks: Vec<Mark>,
    pub parts: usize,
}

/// The writer's own state; nobody else touches it.
#[derive(Debug)]
pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub active: Active,
    pub keys: KeyMemory,
    pub trims: Trims,
    /// Entries before this one are durable.
    pub durable_sequence: u64,
    /// The furthest trim so far.
    pub trim_upto: Positions,
}

/// Closes the queue when the writer ends, however it ends, so that nobody waits for it.
struct LastWord(Arc<Shared>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison("its writer failed".to_string());
        }
        self.0.queue.close(None);
        self.0.queue.clear();
    }
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        let _last_word = LastWord(shared.clone());
        let mut taken = Vec::new();
        while shared.queue.take(&mut taken, GROUP_BYTES) {
            let mut group = Group::new(self.active.extent.end.clone());
            for request in taken.drain(..) {
                match request {
                    Request::Append(submission) => self.add(&mut group, submission),
                    other => {
                        self.commit(std::mem::replace(&mut group, Group::new(Positions::default())));
                        self.obey(other);
                        group = Group::new(self.active.extent.end.clone());
                    }
                }
            }
            self.commit(group);
        }
    }

    fn add(&self, group: &mut Group, submission: Submission) {
        let schema = &self.shared.encoder.read().schema;
        let current = submission.parts.iter().all(|(_, rows)| {
            let batch = match rows {
                Rows::Ready(encoded) => &encoded.batch,
                Rows::Few(batch) => batch,
            };
            Arc::ptr_eq(batch.schema_ref(), schema)
        });
        if current {
            group.add(submission, &self.keys);
        } else {
            let reason = "the log's schema changed while the rows waited; send them in the new schema".to_string();
            let _left = submission.reply.send(Err(Error::Misfit { reason }));
        }
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Append(_) => {}
            Request::Recall(key, reply) => {
                let known = self.keys.recall(&key).transpose();
                answer(reply, known);
            }
            Request::SetSchema(schema, reply) => answer(reply, self.set_schema(schema)),
            Request::Trim(upto, reply) => {
                let trimmed = self.trim(&upto);
                answer(reply, trimmed);
            }
            Request::Sync(reply) => {
                let synced = self.sync_if_behind();
                answer(reply, synced);
            }
            Request::Close(reply) => {
                let closed = self.close();
                answer(reply, closed);
            }
        }
    }

    fn set_schema(&mut self, schema: SchemaRef) -> Result<()> {
        if self.shared.encoder.read().schema == schema {
            return Ok(());
        }
        let encoder = super::payload::Encoder::new(schema, self.shared.compression)?;
        *self.shared.encoder.write() = Arc::new(encoder);
        Ok(())
    }

    /// Makes a group durable and visible, then answers its callers.
    fn commit(&mut self, mut group: Group) {
        if group.is_empty() {
            return;
        }
        if !group.has_content() {
            return group.answer(Ok(()));
        }
        match self.commit_entry(&mut group) {
            Ok(()) => group.answer(Ok(())),
            Err(error) => group.fail(&error),
        }
    }

    fn commit_entry(&mut self, group: &mut Group) -> Result<()> {
        self.shared.check_writable()?;
        self.roll_if_due()?;
        let encoder = self.shared.encoder.read().clone();
        let parts = group.encode(&encoder)?;
        let marks = std::mem::take(&mut group.marks);
        let (header, length) = self.entry_header(&parts, marks);
        self.write_entry(&header, &parts, length)?;
        if *self.shared.durability.read() == Durability::Fsync {
            self.sync_active(header.sequence + 1)?;
        }
        self.publish(group, header, parts, length);
        Ok(())
    }

    /// Lays an entry out; gives its header and its whole length.
    fn entry_header(&self, parts: &[(GroupPart, Encoded)], marks: Vec<Mark>) -> (EntryHeader, u64) {
        let mut position = EntryHeader::head_length(parts.len(), &marks) as u64;
        let mut records = Vec::with_capacity(parts.len());
        for (part, encoded) in parts {
            records.push(PartRecord {
                partition: part.partition,
                rows: part.rows as u32,
                base_offset: part.base_offset,
                position,
                length: encoded.length,
                crc: encoded.crc,
            });
            position += encoded.length.next_multiple_of(ALIGNMENT as u64);
        }
        let header = EntryHeader {
            sequence: self.active.extent.next_sequence,
            ingest_time_us: self.shared.clock.now_us(),
            stamp: self.active.segment.stamp,
            durable_sequence: self.durable_sequence,
            parts: records,
            marks,
        };
        (header, position)
    }

    fn write_entry(&mut self, header: &EntryHeader, parts: &[(GroupPart, Encoded)], length: u64) -> Result<()> {
        const ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];
        let head = header.encode(length);
        let mut slices = vec![IoSlice::new(&head)];
        for (_, encoded) in parts {
            slices.extend(encoded.buffers.iter().map(|b| IoSlice::new(b)));
            let padding = encoded.length.next_multiple_of(ALIGNMENT as u64) - encoded.length;
            slices.push(IoSlice::new(&ZEROS[..padding as usize]));
        }
        let position = self.active.extent.data_len;
        self.active.file.write_at(&mut slices, position).map_err(|cause| self.undo_write(position, cause))
    }

    /// Takes a write that failed back, so that the log stays usable; where that fails too, it is not.
    fn undo_write(&self, position: u64, cause: std::io::Error) -> Error {
        let path = &self.active.segment.path;
        if let Err(e) = self.active.file.set_size(position) {
            return self.shared.poison(format!("a write failed ({cause}) and could not be taken back ({e})"));
        }
        tracing::warn!(segment = %path.display(), %cause, "a write to the log failed and was taken back");
        io_error("write", path, cause)
    }

    /// Makes the segment's bytes durable: every entry before `next_sequence`.
    fn sync_active(&mut self, next_sequence: u64) -> Result<()> {
        self.shared.counters.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.active.file.sync().map_err(|e| self.shared.sync_failed(&self.active.segment.path, &e))?;
        self.durable_sequence = next_sequence;
        Ok(())
    }

    /// Makes durable what is not: without fsync, entries are acknowledged before they are.
    fn sync_if_behind(&mut self) -> Result<()> {
        self.shared.check_writable()?;
        let next_sequence = self.active.extent.next_sequence;
        if self.durable_sequence < next_sequence { self.sync_active(next_sequence) } else { Ok(()) }
    }

    /// Shows an entry to readers and remembers its keys.
    fn publish(&mut self, group: &Group, header: EntryHeader, parts: Vec<(GroupPart, Encoded)>, length: u64) {
        let position = self.active.extent.data_len;
        let metas: Vec<PartMeta> = header.parts.iter().map(|p| part_meta(&header, p, position)).collect();
        let before = std::mem::replace(&mut self.active.extent.end, group.end.clone());
        let extent = &mut self.active.extent;
        extent.next_sequence += 1;
        extent.data_len += length;
        extent.last_ingest_us = extent.last_ingest_us.max(header.ingest_time_us);
        extent.first_ingest_us = extent.first_ingest_us.min(header.ingest_time_us);
        self.active.segment.grow(&metas, extent.clone());
        self.active.parts += metas.len();
        self.active.marks.extend_from_slice(&header.marks);
        header.marks.into_iter().for_each(|mark| self.keys.remember(mark));
        let bytes = parts.iter().map(|(_, e)| e.length as usize).sum();
        let ingest_time_us = header.ingest_time_us;
        let batches = parts.into_iter().map(|(part, encoded)| LogBatch {
            partition: part.partition,
            base_offset: part.base_offset,
            ingest_time_us,
            batch: encoded.batch,
        });
        let mut state = self.shared.state.write();
        state.tail.push(header.sequence, &before, batches, bytes);
        state.end = group.end.clone();
        state.next_sequence = header.sequence + 1;
        drop(state);
        self.shared.ends.send_replace(group.end.clone());
    }

    /// Begins a new segment when the one in use is full or has another schema.
    fn roll_if_due(&mut self) -> Result<()> {
        let schema = self.shared.encoder.read().schema.clone();
        let full = self.active.extent.data_len >= self.shared.segment_bytes
            || self.active.parts >= SEGMENT_TABLE_ROWS
            || self.active.marks.len() >= SEGMENT_TABLE_ROWS;
        if self.active.segment.schema != schema || (full && self.has_entries()) {
            self.roll()?;
            // Rows that stay longer than they must are no reason to refuse others.
            if let Err(cause) = self.apply_retention() {
                tracing::warn!(log = %self.shared.dir.display(), %cause, "cannot remove what retention lets go");
                self.shared.check_writable()?;
            }
        }
        Ok(())
    }

    pub(super) fn has_entries(&self) -> bool {
        self.active.extent.next_sequence > self.active.segment.first_sequence
    }

    /// Begins a new segment. The old one is whole on disk before the new one is there, and has its index after.
    pub(super) fn roll(&mut self) -> Result<()> {
        self.sync_if_behind()?;
        let schema = self.shared.encoder.read().schema.clone();
        if !self.has_entries() {
            self.disown_index()?;
        }
        let extent = &self.active.extent;
        let new = begin_segment(&self.shared, extent.next_sequence, extent.end.clone(), schema)?;
        let old = std::mem::replace(&mut self.active, new);
        let replaced = old.segment.first_sequence == self.active.segment.first_sequence;
        let mut state = self.shared.state.write();
        let kept = state.segments.iter().filter(|s| !(replaced && Arc::ptr_eq(s, &old.segment)));
        state.segments = kept.chain([&self.active.segment]).cloned().collect();
        drop(state);
        if replaced {
            old.segment.seal(false);
            return Ok(());
        }
        let parts = old.segment.parts()?.window(0, usize::MAX);
        let bytes = index::encode(&old.segment, &old.extent, &parts, &old.marks, true);
        old.segment.seal(index::write_unsynced(&*self.shared.disk, &old.segment.path, &bytes));
        Ok(())
    }

    /// Removes the index that an earlier close left to a segment without entries, before another takes its name.
    fn disown_index(&self) -> Result<()> {
        let path = index_path(&self.active.segment.path);
        match self.shared.disk.remove(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| io_error("remove", &path, e))?,
        }
        self.shared.disk.sync_dir(&self.shared.dir).map_err(|e| self.shared.sync_failed(&self.shared.dir, &e))
    }

    /// Makes everything durable and leaves an index that vouches for it.
    fn close(&mut self) -> Result<()> {
        self.shared.check_writable()?;
        self.sync_active(self.active.extent.next_sequence)?;
        self.vouch()
    }

    /// Leaves an index, synced, that says how much of the segment in use is there.
    fn vouch(&self) -> Result<()> {
        let of = &self.active;
        let parts = of.segment.parts()?.window(0, usize::MAX);
        let bytes = index::encode(&of.segment, &of.extent, &parts, &of.marks, false);
        let path = index_path(&of.segment.path);
        self.shared.counters.fsyncs.fetch_add(2, Ordering::Relaxed);
        match index::write_whole(&*self.shared.disk, &path, &bytes) {
            Err((WriteStep::Sync, cause)) => Err(self.shared.sync_failed(&path, &cause)),
            Err((WriteStep::Write, cause)) => {
                tracing::warn!(index = %path.display(), %cause, "the next start scans the last segment");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

fn part_meta(header: &EntryHeader, part: &PartRecord, position: u64) -> PartMeta {
    PartMeta {
        sequence: header.sequence,
        ingest_time_us: header.ingest_time_us,
        partition: part.partition,
        rows: part.rows,
        base_offset: part.base_offset,
        position: position + part.position,
        length: part.length,
        crc: part.crc,
    }
}

fn answer<T>(reply: oneshot::Sender<Result<T>>, outcome: Result<T>) {
    // A caller that has left needs no answer.
    let _left = reply.send(outcome);
}

/// Makes the file of a new segment, durable before it returns.
pub(super) fn begin_segment(
    shared: &Shared,
    first_sequence: u64,
    base: Positions,
    schema: SchemaRef,
) -> Result<Active> {
    let header = SegmentHeader { first_sequence, stamp: shared.clock.now_us(), base, schema };
    let bytes = header.encode();
    let path = segment_path(&shared.dir, first_sequence);
    let file = write_header(shared, &path, &bytes)?;
    let extent = Extent {
        end: header.base.clone(),
        next_sequence: first_sequence,
        data_len: bytes.len() as u64,
        last_ingest_us: i64::MIN,
        first_ingest_us: i64::MAX,
    };
    let facts = SegmentFacts {
        first_sequence,
        stamp: header.stamp,
        base: header.base,
        schema: header.schema,
        extent: extent.clone(),
    };
    let segment = Segment::growing(&shared.dir, shared.disk.clone(), facts, file.clone(), Vec::new());
    Ok(Active { segment: Arc::new(segment), file, extent, marks: Vec::new(), parts: 0 })
}

fn write_header(shared: &Shared, path: &Path, bytes: &[u8]) -> Result<Arc<dyn DiskFile>> {
    shared.counters.fsyncs.fetch_add(2, Ordering::Relaxed);
    match index::write_whole(&*shared.disk, path, bytes) {
        Ok(file) => Ok(file),
        Err((WriteStep::Write, e)) => Err(io_error("write", path, e)),
        Err((WriteStep::Sync, e)) => Err(shared.sync_failed(path, &e)),
    }
}
