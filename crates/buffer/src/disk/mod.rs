//! Owns the log on disk.
//!
//! # Promises
//!
//! - *Acknowledged is durable.* `append` answers after the bytes were synced, or with [`Durability::Os`] after the
//!   operating system has them.
//! - *Whole or not at all.* An append lies in one entry, and an entry is valid or it is not there.
//! - *In order, once.* Offsets of a partition have no gaps and are never given twice. A producer key that was seen
//!   adds nothing: the newest million keys are known after every restart, also those whose rows were trimmed.
//! - *Damage is never passed over.* What was durable once and cannot be read is [`Error::Corrupt`] with file and
//!   position; only bytes that nobody was promised are cut.
//! - *Bounded.* Rows that wait for the disk are counted against a [`QueueBudget`], recent rows in memory against
//!   `memory_bytes`; beyond the budget an append is refused at once.
//!
//! # Files
//!
//! One folder per log, all partitions interleaved:
//!
//! ```text
//! <first entry, 20 digits>.seg   a segment: header, then entries
//! <first entry, 20 digits>.idx   its index, for opening without reading batches; see `index`
//! trims                          how far trims went, and the keys of what they removed; see `trims`
//! *.new                          a file that did not get its name yet; removed at the next start
//! ```
//!
//! A segment holds batches of one schema and is begun when the one before is full or the schema changes. Numbers are
//! little endian, everything begins at a multiple of 64 bytes so that a batch is read without a copy.
//!
//! ```text
//! segment  ┌────────────┬────────────┬────────────┬────────────┬─ ─ ─
//!          │ header     │ entry 17   │ entry 18   │ entry 19   │
//!          └────────────┴────────────┴────────────┴────────────┴─ ─ ─
//!
//! header     0  8  mark "MILLSEG\n"
//!            8  4  format version, 1
//!           12  4  length of the header
//!           16  4  crc32c of the header without these four bytes
//!           20  4  partitions
//!           24  8  sequence of the first entry
//!           32  8  stamp: when the segment was begun, µs
//!           40  4  length of the schema
//!           44  4  zero
//!           48  8  base offset × partitions
//!               …  the schema as an Arrow IPC message, zeros to 64
//!
//! entry      0  4  mark "MENT"
//!            4  4  crc32c of the rest of head and tables
//!            8  8  length of the entry
//!           16  8  sequence
//!           24  8  ingest time, µs
//!           32  4  parts
//!           36  4  marks
//!           40  4  length of head and tables, with zeros to 64
//!           44  4  zero
//!           48  8  the segment's stamp
//!           56  8  durable: entries before this sequence were synced when this one was written
//!           64 40  part × parts:  partition 4, rows 4, base offset 8, position in the entry 8, length 8, crc32c 4, 0 4
//!               …  mark × marks:  key 16, content 8, note 8, ranges 4, 0 4, then per range partition 4, 0 4, start 8,
//!                  end 8; zeros to 64
//!               …  per part its batch: an Arrow IPC record batch message without schema, zeros to 64
//! ```
//!
//! # The life of a record
//!
//! 1. `append` checks the rows, takes room from the budget, and encodes large parts (1000 rows or 64 KiB) in the
//!    caller's task. The encoded bytes are the batch's own buffers; nothing is copied.
//! 2. The log's one writer thread drains what waits into a group: answers known keys, gives offsets, joins small
//!    parts of one partition into one batch.
//! 3. The group becomes one entry: one vectored write, one fdatasync. While it runs, the next group gathers.
//! 4. The batches go to the tail in memory, the end moves, subscribers are told, callers get their answers.
//! 5. A [`LogView`] reads from the tail while it holds the rows, else from segment files, neighbouring parts with one
//!    read, checked by their checksums.
//! 6. A trim writes down how far it goes and the keys that lie there, then removes whole segments. Views that pinned
//!    them have their files open and read on. The segment in use is ended first when all of it may go.
//!
//! # After a crash
//!
//! Files get their names only when their content is synced, so a segment's header is always whole. Opening
//!
//! 1. finishes the last trim: removes segments before its floor;
//! 2. takes sealed segments by their indexes, which repeat what the data says; one that is missing, damaged or does
//!    not fit the file's length and the next segment's header is made anew from the data. Segments must follow each
//!    other without gap or overlap;
//! 3. scans the last segment, checking everything (after a clean close only what its index does not vouch for), and
//!    cuts what is not valid at its end: the torn tail of a write that nobody was told about. It is not a torn tail,
//!    but damage, when a later entry says that the bytes were durable, or when the index of a clean close does;
//! 4. syncs what it found before it shows it: rows read once are not lost later.
//!
//! An unacknowledged append may be there or not, wholly. Without fsync a crash of the machine may cost the tail since
//! the last [`Log::sync`]; the same rules cut it. Its offsets are given again: who copies rows elsewhere syncs first.
//!
//! # When the disk fails
//!
//! A write that fails is taken back by cutting the file; the log stays usable, and says [`Error::DiskFull`] when that
//! was the cause. A sync that fails, or a cut, leaves unknown bytes on disk: the log is poisoned, refuses writes with
//! the reason, and serves reads. No sync is tried twice. A trim needs a few bytes to make room for more: on a full
//! disk it removes the indexes of what goes first.
//!
//! # What is not here
//!
//! No compaction by key, no replication, no encryption. The log does not know how its rows reach the lake: who trims
//! says what may go. Two processes must not open one folder; the node's lock on its data directory sees to that. All
//! segments of a log lost at once, before any trim, look like a new log.

mod format;
mod group;
mod index;
mod octets;
mod payload;
mod queue;
mod recovery;
mod retention;
mod scan;
mod segment;
mod trims;
mod view;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_catalog::{Durability, Positions};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};

pub use self::payload::Compression;
pub use self::queue::QueueBudget;

use self::payload::Encoder;
use self::queue::{Queue, Request, Rows, Submission};
use self::retention::Retention;
use self::segment::{Segment, io_error};
use self::view::DiskView;
use self::writer::{Active, Writer, begin_segment};
use crate::device::{Disk, RealDisk};
use crate::fit::fit;
use crate::keys::check_parts;
use crate::tail::Tail;
use crate::weight::{content_bytes, held_bytes};
use crate::{Append, Appended, Clock, Error, Key, Log, LogStats, LogView, Result, SystemClock};

/// An append with this many rows in a partition stays a part of its own …
const OWN_PART_ROWS: usize = 1000;
/// … and so does one with this many bytes.
const OWN_PART_BYTES: usize = 64 << 10;

/// How to open a [`DiskLog`].
#[derive(Debug, Clone)]
pub struct DiskLogOptions {
    /// The log's own folder; created when it is not there.
    pub dir: PathBuf,
    /// The schema of the appends to come. Rows that are there already keep theirs.
    pub schema: SchemaRef,
    /// How many partitions; never another number for the same folder.
    pub partitions: u32,
    /// When an append is acknowledged.
    pub durability: Durability,
    /// See [`Log::set_retention`].
    pub retention_ms: Option<u64>,
    /// See [`Log::set_retention`].
    pub retention_bytes: Option<u64>,
    /// A segment file is full with this many bytes.
    pub segment_bytes: u64,
    /// Bytes of recent rows kept in memory for readers.
    pub memory_bytes: usize,
    /// Bounds the rows that wait for the disk; logs may share it.
    pub budget: Arc<QueueBudget>,
    /// Producer keys remembered.
    pub key_limit: usize,
    /// How rows are kept on disk.
    pub compression: Compression,
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl DiskLogOptions {
    /// Options for a log in `dir`, everything else as by default.
    pub fn new(dir: impl Into<PathBuf>, schema: SchemaRef, partitions: u32) -> Self {
        Self {
            dir: dir.into(),
            schema,
            partitions,
            durability: Durability::Fsync,
            retention_ms: None,
            retention_bytes: None,
            segment_bytes: 256 << 20,
            memory_bytes: 64 << 20,
            budget: QueueBudget::new(256 << 20),
            key_limit: 1_000_000,
            compression: Compression::Plain,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
        }
    }
}

/// What a log, its writer and its views share.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    partitions: u32,
    durability: RwLock<Durability>,
    segment_bytes: u64,
    key_limit: usize,
    compression: Compression,
    budget: Arc<QueueBudget>,
    queue: Queue,
    encoder: RwLock<Arc<Encoder>>,
    state: RwLock<State>,
    ends: watch::Sender<Positions>,
    retention: Mutex<Retention>,
    poisoned: RwLock<Option<String>>,
    counters: Counters,
}

/// What readers see.
#[derive(Debug)]
struct State {
    segments: Arc<[Arc<Segment>]>,
    start: Positions,
    end: Positions,
    next_sequence: u64,
    tail: Tail,
}

#[derive(Debug, Default)]
struct Counters {
    fsyncs: AtomicU64,
    torn_bytes: AtomicU64,
}

impl Shared {
    fn check_writable(&self) -> Result<()> {
        match &*self.poisoned.read() {
            Some(reason) => Err(self.poisoned_error(reason)),
            None => Ok(()),
        }
    }

    fn poisoned_error(&self, reason: &str) -> Error {
        Error::Poisoned { path: self.dir.display().to_string(), reason: reason.to_string() }
    }

    /// Refuses all writes from now on. The first reason stays.
    fn poison(&self, reason: String) -> Error {
        tracing::error!(log = %self.dir.display(), reason, "the log refuses writes until a restart");
        let mut poisoned = self.poisoned.write();
        let reason = poisoned.get_or_insert(reason);
        self.poisoned_error(reason)
    }

    fn sync_failed(&self, path: &Path, cause: &std::io::Error) -> Error {
        self.poison(format!("cannot sync {}: {cause}", path.display()))
    }
}

/// The log on disk. See the module.
#[derive(Debug)]
pub struct DiskLog {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl DiskLog {
    /// Opens the log in the options' folder: recovers what is there, or begins a new one.
    pub async fn open(options: DiskLogOptions) -> Result<Self> {
        match tokio::task::spawn_blocking(move || Self::open_blocking(options)).await {
            Ok(opened) => opened,
            Err(stopped) => {
                tracing::error!(%stopped, "opening a log failed");
                Err(Error::Closed)
            }
        }
    }

    /// [`DiskLog::open`], where blocking is allowed.
    pub fn open_blocking(options: DiskLogOptions) -> Result<Self> {
        let dir = options.dir.clone();
        options.disk.create_dir(&dir).map_err(|e| io_error("create", &dir, e))?;
        let found = recovery::recover(&options.disk, &dir, options.partitions, options.key_limit)?;
        let (end, next_sequence) = recovery::end_of(&found.segments, options.partitions);
        let shared = Arc::new(share(options, &found.segments, &end, next_sequence)?);
        shared.counters.torn_bytes.store(found.torn_bytes, Ordering::Relaxed);
        let active = match found.segments.last() {
            Some(last) => Active {
                segment: last.clone(),
                file: last.file()?.clone(),
                extent: last.extent(),
                marks: found.last_marks,
                parts: last.parts()?.window(0, usize::MAX).len(),
            },
            None => {
                let schema = shared.encoder.read().schema.clone();
                let active = begin_segment(&shared, 0, end, schema)?;
                shared.state.write().segments = Arc::new([active.segment.clone()]);
                active
            }
        };
        let writer = Writer {
            shared: shared.clone(),
            active,
            keys: found.keys,
            trims: found.trims,
            durable_sequence: next_sequence,
            trim_upto: Positions::zero(shared.partitions),
        };
        let thread = std::thread::Builder::new()
            .name("millstream-log".into())
            .spawn(move || writer.run())
            .map_err(|e| io_error("start the writer of", &dir, e))?;
        Ok(Self { shared, writer: Mutex::new(Some(thread)) })
    }

    /// Removes a closed log's folder and everything in it.
    pub async fn remove(dir: &Path) -> Result<()> {
        let dir = dir.to_path_buf();
        let removed =
            tokio::task::spawn_blocking(move || RealDisk.remove_dir(&dir).map_err(|e| io_error("remove", &dir, e)));
        removed.await.unwrap_or(Err(Error::Closed))
    }

    /// Checks rows and encodes the large ones, in the caller's own time.
    fn prepare(&self, batch: &RecordBatch, encoder: &Encoder) -> Result<Rows> {
        let batch = fit(batch, &encoder.schema)?;
        if batch.num_rows() >= OWN_PART_ROWS || content_bytes(&batch) >= OWN_PART_BYTES {
            let mut encoded = encoder.encode(batch)?;
            payload::compact_if_wasteful(&mut encoded)?;
            return Ok(Rows::Ready(encoded));
        }
        Ok(Rows::Few(batch))
    }

    /// Hands a request to the writer and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(request(reply))?;
        answer.await.unwrap_or_else(|_gone| self.shared.check_writable().and(Err(Error::Closed)))
    }
}

fn share(options: DiskLogOptions, segments: &[Arc<Segment>], end: &Positions, next_sequence: u64) -> Result<Shared> {
    let mut schema = options.schema;
    if let Some(last) = segments.last().filter(|last| last.schema == schema) {
        schema = last.schema.clone();
    }
    let state = State {
        segments: segments.into(),
        start: segments.first().map_or_else(|| end.clone(), |s| s.base.clone()),
        end: end.clone(),
        next_sequence,
        tail: Tail::new(options.memory_bytes),
    };
    Ok(Shared {
        dir: options.dir,
        disk: options.disk,
        clock: options.clock,
        partitions: options.partitions,
        durability: RwLock::new(options.durability),
        segment_bytes: options.segment_bytes,
        key_limit: options.key_limit,
        compression: options.compression,
        budget: options.budget,
        queue: Queue::default(),
        encoder: RwLock::new(Arc::new(Encoder::new(schema, options.compression)?)),
        state: RwLock::new(state),
        ends: watch::Sender::new(end.clone()),
        retention: Mutex::new(Retention { ms: options.retention_ms, bytes: options.retention_bytes }),
        poisoned: RwLock::new(None),
        counters: Counters::default(),
    })
}

#[async_trait]
impl Log for DiskLog {
    async fn append(&self, append: Append) -> Result<Appended> {
        check_parts(&append, self.shared.partitions)?;
        self.shared.check_writable()?;
        let bytes = append.parts.iter().map(|p| held_bytes(&p.batch)).sum();
        let reserved = self.shared.budget.reserve(bytes)?;
        let encoder = self.shared.encoder.read().clone();
        let mut parts = Vec::with_capacity(append.parts.len());
        for part in append.parts.iter().filter(|p| p.batch.num_rows() > 0) {
            parts.push((part.partition, self.prepare(&part.batch, &encoder)?));
        }
        let key = append.key;
        self.ask(|reply| Request::Append(Submission { parts, key, reserved, reply })).await
    }

    async fn recall(&self, key: Key) -> Result<Option<Appended>> {
        self.ask(|reply| Request::Recall(key, reply)).await
    }

    fn view(&self) -> Arc<dyn LogView> {
        let state = self.shared.state.read();
        Arc::new(DiskView {
            start: state.start.clone(),
            end: state.end.clone(),
            segments: state.segments.clone(),
            tail: state.tail.pin(&state.end, state.next_sequence),
        })
    }

    fn subscribe(&self) -> watch::Receiver<Positions> {
        self.shared.ends.subscribe()
    }

    fn schema(&self) -> SchemaRef {
        self.shared.encoder.read().schema.clone()
    }

    async fn set_schema(&self, schema: SchemaRef) -> Result<()> {
        self.ask(|reply| Request::SetSchema(schema, reply)).await
    }

    async fn trim(&self, upto: &Positions) -> Result<()> {
        let upto = upto.clone();
        self.ask(|reply| Request::Trim(upto, reply)).await
    }

    fn set_retention(&self, retention_ms: Option<u64>, retention_bytes: Option<u64>) {
        *self.shared.retention.lock() = Retention { ms: retention_ms, bytes: retention_bytes };
    }

    fn set_durability(&self, durability: Durability) {
        *self.shared.durability.write() = durability;
    }

    async fn sync(&self) -> Result<()> {
        self.ask(Request::Sync).await
    }

    fn stats(&self) -> LogStats {
        let state = self.shared.state.read();
        LogStats {
            start: state.start.clone(),
            end: state.end.clone(),
            disk_bytes: state.segments.iter().map(|s| s.data_len()).sum(),
            memory_bytes: state.tail.bytes() as u64,
            segments: state.segments.len() as u64,
            fsyncs: self.shared.counters.fsyncs.load(Ordering::Relaxed),
            torn_bytes: self.shared.counters.torn_bytes.load(Ordering::Relaxed),
            poisoned: self.shared.poisoned.read().clone(),
        }
    }

    async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.close(Some(Request::Close(reply)));
        // A log that was closed before has nobody to answer.
        answer.await.unwrap_or(Ok(()))
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        self.shared.queue.close(None);
        if let Some(writer) = self.writer.lock().take() {
            // The writer's failure was said when it happened.
            let _ended = writer.join();
        }
    }
}
