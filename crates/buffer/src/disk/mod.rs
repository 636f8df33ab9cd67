//! Owns the log on disk.

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
use crate::{Append, Appended, Clock, Error, Log, LogStats, LogView, Result, SystemClock};

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
    durability: Durability,
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
            return encoder.encode(batch).map(Rows::Ready);
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
        durability: options.durability,
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

/// Bytes of a batch's rows alone; what its buffers hold beyond them does not count.
fn content_bytes(batch: &RecordBatch) -> usize {
    if batch.get_array_memory_size() < OWN_PART_BYTES {
        return 0;
    }
    let size = |column: &arrow::array::ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    batch.columns().iter().map(size).sum()
}

#[async_trait]
impl Log for DiskLog {
    async fn append(&self, append: Append) -> Result<Appended> {
        check_parts(&append, self.shared.partitions)?;
        self.shared.check_writable()?;
        let bytes = append.parts.iter().map(|p| p.batch.get_array_memory_size()).sum();
        let reserved = self.shared.budget.reserve(bytes)?;
        let encoder = self.shared.encoder.read().clone();
        let mut parts = Vec::with_capacity(append.parts.len());
        for part in append.parts.iter().filter(|p| p.batch.num_rows() > 0) {
            parts.push((part.partition, self.prepare(&part.batch, &encoder)?));
        }
        let key = append.key;
        self.ask(|reply| Request::Append(Submission { parts, key, reserved, reply })).await
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
