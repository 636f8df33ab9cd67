//! Owns the contract of a stream's log; `disk` and `memory` implement it and pass one conformance suite.
//!
//! ```text
//!                  trimmed         start                       end
//! partition 0   ░░░░░░░░░░░░░░░░░░░│ r r r r r r r r r r r r r │
//! partition 1          ░░░░░░░░░░░░│ r r r r r r r │
//!                                  └── what a view reads ──────┘
//! ```
//!
//! An append is one request's rows for any number of partitions; it is accepted whole or not at all. `append` returns
//! when the rows are as durable as the log's options promise. From that moment every new [`LogView`] contains them,
//! and none contained them partly before. Offsets in a partition have no gaps and are never given twice.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_catalog::{Durability, Positions};
use tokio::sync::watch;

use crate::Result;

/// Rows for one partition, in the log's schema.
#[derive(Debug, Clone)]
pub struct Part {
    /// The partition.
    pub partition: u32,
    /// At least one row.
    pub batch: RecordBatch,
}

/// What makes a retried append recognisable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// A 128-bit hash of the producer's key.
    pub id: u128,
    /// A hash of the request's content: the same key with another content is [`crate::Error::KeyReused`].
    pub content: u64,
    /// A number kept with the key and given back on a retry (the door keeps its count of rejected rows here).
    pub note: u64,
}

/// One request's rows.
#[derive(Debug, Clone, Default)]
pub struct Append {
    /// The rows by partition; a partition appears at most once. May be empty when there is a key to remember.
    pub parts: Vec<Part>,
    /// The producer's key, if it gave one.
    pub key: Option<Key>,
}

/// The offsets that an append's rows got in one partition: `start` up to but not including `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The partition.
    pub partition: u32,
    /// The first row's offset.
    pub start: u64,
    /// The offset after the last row.
    pub end: u64,
}

/// What an append came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Where the rows are, by partition.
    pub ranges: Vec<OffsetRange>,
    /// Whether the key was seen before: then nothing was added, and `ranges` are the first append's.
    pub duplicate: bool,
    /// The note kept with the key: this append's, or on a duplicate the first one's.
    pub note: u64,
}

/// A run of consecutive rows of one partition.
#[derive(Debug, Clone)]
pub struct LogBatch {
    /// The partition.
    pub partition: u32,
    /// The first row's offset; the others follow it.
    pub base_offset: u64,
    /// When the rows were accepted, µs since 1970.
    pub ingest_time_us: i64,
    /// The rows, in the schema the log had when they were appended.
    pub batch: RecordBatch,
}

/// Reads batches in append order. `next` may wait for the disk: call it where blocking is allowed.
pub type LogReader = Box<dyn Iterator<Item = Result<LogBatch>> + Send>;

/// A log at one instant. It keeps what it shows readable, trims notwithstanding, until it is dropped.
pub trait LogView: Send + Sync + std::fmt::Debug {
    /// The oldest offsets that can be read.
    fn start(&self) -> &Positions;
    /// The offsets after the newest rows.
    fn end(&self) -> &Positions;
    /// The rows from `from` (inclusive) to the view's end. Fails with `Trimmed` when `from` is before the start.
    fn read(&self, from: &Positions) -> Result<LogReader>;
    /// The same rows, when all of them are in memory; costs no disk access and no copy.
    fn resident(&self, from: &Positions) -> Option<Vec<LogBatch>>;
    /// How many rows and bytes in memory or on disk lie from `from` on, for planning; an estimate.
    fn size_since(&self, from: &Positions) -> (u64, u64) {
        (self.end().rows_since(from), 0)
    }
}

/// Figures for `system.streams` and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogStats {
    /// The oldest offsets kept.
    pub start: Positions,
    /// The offsets after the newest acknowledged rows.
    pub end: Positions,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes of batches held in memory.
    pub memory_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Fsyncs since the log was opened.
    pub fsyncs: u64,
    /// Bytes cut from a torn tail when the log was opened.
    pub torn_bytes: u64,
    /// Why writes are refused, if they are.
    pub poisoned: Option<String>,
}

/// The log of one stream.
#[async_trait]
pub trait Log: Send + Sync + std::fmt::Debug {
    /// Adds rows; returns when they are durable. See the module's contract.
    async fn append(&self, append: Append) -> Result<Appended>;
    /// What an append with that key was answered, if the log remembers one. Of those under way it knows nothing.
    async fn recall(&self, key: Key) -> Result<Option<Appended>>;
    /// Everything acknowledged so far, pinned.
    fn view(&self) -> std::sync::Arc<dyn LogView>;
    /// Follows the end positions; changes after each commit.
    fn subscribe(&self) -> watch::Receiver<Positions>;
    /// The schema that appends must have.
    fn schema(&self) -> SchemaRef;
    /// Appends after this call have `schema`. Earlier batches keep theirs.
    async fn set_schema(&self, schema: SchemaRef) -> Result<()>;
    /// Allows rows before `upto` to go, and removes those that retention does not hold back. Rows at or after `upto`
    /// are never removed. Space comes back in units of the engine's choice.
    async fn trim(&self, upto: &Positions) -> Result<()>;
    /// Replaces the retention limits: rows younger than `retention_ms` are kept, trims notwithstanding, unless the
    /// log is larger than `retention_bytes`. `None` for both keeps nothing beyond the last trim.
    fn set_retention(&self, retention_ms: Option<u64>, retention_bytes: Option<u64>);
    /// Changes when appends are acknowledged, from the next commit on.
    fn set_durability(&self, _durability: Durability) {}
    /// Makes everything acknowledged so far as durable as an fsync does. Call it before rows are copied to a place
    /// that outlives a crash of the machine: a log without fsync could else lose them, and give their offsets again.
    async fn sync(&self) -> Result<()> {
        Ok(())
    }
    /// Figures.
    fn stats(&self) -> LogStats;
    /// Finishes what was accepted and refuses everything after it.
    async fn close(&self) -> Result<()>;
}
