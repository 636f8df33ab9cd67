//! Owns the log that lives in memory: for tests and for streams that nobody needs after a restart.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_catalog::Positions;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::fit::fit;
use crate::keys::{KeyMemory, Mark, check_parts};
use crate::tail::{PinnedTail, Tail};
use crate::weight::held_bytes;
use crate::{Append, Appended, Clock, Error, Key, Log, LogBatch, LogReader, LogStats, LogView, OffsetRange, Result};

/// Keys remembered.
const KEY_LIMIT: usize = 1_000_000;

/// A log without a disk. Retention holds nothing back: a trim lets go what it may.
#[derive(Debug)]
pub struct MemoryLog {
    state: RwLock<State>,
    ends: watch::Sender<Positions>,
    clock: Arc<dyn Clock>,
    partitions: u32,
}

#[derive(Debug)]
struct State {
    schema: SchemaRef,
    start: Positions,
    end: Positions,
    next_sequence: u64,
    tail: Tail,
    keys: KeyMemory,
    closed: bool,
}

impl MemoryLog {
    /// An empty log.
    pub fn new(schema: SchemaRef, partitions: u32, clock: Arc<dyn Clock>) -> Self {
        let zero = Positions::zero(partitions);
        let state = State {
            schema,
            start: zero.clone(),
            end: zero.clone(),
            next_sequence: 0,
            tail: Tail::new(usize::MAX),
            keys: KeyMemory::new(KEY_LIMIT),
            closed: false,
        };
        Self { state: RwLock::new(state), ends: watch::Sender::new(zero), clock, partitions }
    }
}

impl State {
    fn append(&mut self, append: &Append, now_us: i64) -> Result<Appended> {
        if self.closed {
            return Err(Error::Closed);
        }
        if let Some(answer) = append.key.and_then(|key| self.keys.recall(&key)) {
            return answer;
        }
        let mut fitted: Vec<(u32, RecordBatch)> = Vec::with_capacity(append.parts.len());
        for part in append.parts.iter().filter(|p| p.batch.num_rows() > 0) {
            fitted.push((part.partition, fit(&part.batch, &self.schema)?));
        }
        let before = self.end.clone();
        let mut ranges = Vec::with_capacity(fitted.len());
        let mut batches = Vec::with_capacity(fitted.len());
        let mut bytes = 0;
        for (partition, batch) in fitted {
            let start = self.end.get(partition);
            let end = start + batch.num_rows() as u64;
            self.end.set(partition, end);
            bytes += held_bytes(&batch);
            ranges.push(OffsetRange { partition, start, end });
            batches.push(LogBatch { partition, base_offset: start, ingest_time_us: now_us, batch });
        }
        if !batches.is_empty() {
            self.tail.push(self.next_sequence, &before, batches.into_iter(), bytes);
            self.next_sequence += 1;
        }
        if let Some(key) = append.key {
            self.keys.remember(Mark { key, ranges: ranges.clone().into() });
        }
        Ok(Appended { ranges, duplicate: false, note: append.key.map_or(0, |key| key.note) })
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append(&self, append: Append) -> Result<Appended> {
        check_parts(&append, self.partitions)?;
        let mut state = self.state.write();
        let appended = state.append(&append, self.clock.now_us())?;
        if !appended.duplicate {
            self.ends.send_replace(state.end.clone());
        }
        Ok(appended)
    }

    async fn recall(&self, key: Key) -> Result<Option<Appended>> {
        self.state.read().keys.recall(&key).transpose()
    }

    fn view(&self) -> Arc<dyn LogView> {
        let state = self.state.read();
        Arc::new(MemoryView {
            start: state.start.clone(),
            end: state.end.clone(),
            tail: state.tail.pin(&state.end, state.next_sequence),
        })
    }

    fn subscribe(&self) -> watch::Receiver<Positions> {
        self.ends.subscribe()
    }

    fn schema(&self) -> SchemaRef {
        self.state.read().schema.clone()
    }

    async fn set_schema(&self, schema: SchemaRef) -> Result<()> {
        let mut state = self.state.write();
        if state.closed {
            return Err(Error::Closed);
        }
        state.schema = schema;
        Ok(())
    }

    async fn trim(&self, upto: &Positions) -> Result<()> {
        let mut state = self.state.write();
        if state.closed {
            return Err(Error::Closed);
        }
        let end = state.end.clone();
        state.start = state.tail.trim(upto, &end);
        Ok(())
    }

    fn set_retention(&self, _retention_ms: Option<u64>, _retention_bytes: Option<u64>) {}

    fn stats(&self) -> LogStats {
        let state = self.state.read();
        LogStats {
            start: state.start.clone(),
            end: state.end.clone(),
            memory_bytes: state.tail.bytes() as u64,
            ..LogStats::default()
        }
    }

    async fn close(&self) -> Result<()> {
        self.state.write().closed = true;
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryView {
    start: Positions,
    end: Positions,
    tail: PinnedTail,
}

impl LogView for MemoryView {
    fn start(&self) -> &Positions {
        &self.start
    }

    fn end(&self) -> &Positions {
        &self.end
    }

    fn read(&self, from: &Positions) -> Result<LogReader> {
        check_start(from, &self.start)?;
        Ok(Box::new(self.tail.batches(from).map(Ok)))
    }

    fn resident(&self, from: &Positions) -> Option<Vec<LogBatch>> {
        from.covers(&self.start).then(|| self.tail.batches(from).collect())
    }
}

/// Refuses to read from before the start.
pub(crate) fn check_start(from: &Positions, start: &Positions) -> Result<()> {
    for (partition, &start) in start.0.iter().enumerate() {
        let partition = partition as u32;
        let offset = from.get(partition);
        if offset < start {
            return Err(Error::Trimmed { partition, offset, start });
        }
    }
    Ok(())
}
