//! Owns the recent batches of a log in memory, shared with every reader.
//!
//! Batches lie in chunks. A chunk grows at its end only, so a reader that remembers how long the last chunk was sees
//! exactly what was there, without a copy. Chunks leave from the front, whole; who pinned them reads on.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_catalog::Positions;
use parking_lot::RwLock;

use crate::LogBatch;

/// A chunk takes no further commit once it has this many batches …
const CHUNK_BATCHES: usize = 256;
/// … or this many bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// The newest batches of a log.
#[derive(Debug)]
pub(crate) struct Tail {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    limit_bytes: usize,
}

/// Consecutive commits.
#[derive(Debug)]
struct Chunk {
    /// Where the log ended before the chunk's first commit.
    start: Positions,
    /// The sequence of the chunk's first commit.
    first_sequence: u64,
    grown: RwLock<Grown>,
}

#[derive(Debug, Default)]
struct Grown {
    batches: Vec<LogBatch>,
    bytes: usize,
}

impl Tail {
    /// An empty tail that keeps about `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, limit_bytes }
    }

    /// Adds one commit: its sequence, the log's end before it, its batches and their size.
    pub fn push(&mut self, sequence: u64, before: &Positions, batches: impl Iterator<Item = LogBatch>, bytes: usize) {
        let full = self.chunks.back().is_none_or(|chunk| {
            let grown = chunk.grown.read();
            grown.batches.len() >= CHUNK_BATCHES || grown.bytes >= CHUNK_BYTES
        });
        if full {
            self.chunks.push_back(Arc::new(Chunk {
                start: before.clone(),
                first_sequence: sequence,
                grown: RwLock::default(),
            }));
        }
        if let Some(chunk) = self.chunks.back() {
            let mut grown = chunk.grown.write();
            grown.batches.extend(batches);
            grown.bytes += bytes;
        }
        self.bytes += bytes;
        while self.bytes > self.limit_bytes && self.chunks.len() > 1 {
            self.pop_front();
        }
    }

    /// Lets the chunks go whose batches all lie before `upto`; gives the start of what is left.
    pub fn trim(&mut self, upto: &Positions, end: &Positions) -> Positions {
        loop {
            let next_start = match self.chunks.get(1) {
                Some(next) => &next.start,
                None => end,
            };
            if self.chunks.is_empty() || !upto.covers(next_start) {
                break;
            }
            self.pop_front();
        }
        self.chunks.front().map_or_else(|| end.clone(), |chunk| chunk.start.clone())
    }

    fn pop_front(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.bytes -= chunk.grown.read().bytes;
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Pins what is there now. `end` and `next_sequence` are the log's end.
    pub fn pin(&self, end: &Positions, next_sequence: u64) -> PinnedTail {
        let last_batches = self.chunks.back().map_or(0, |chunk| chunk.grown.read().batches.len());
        let (start, first_sequence) = match self.chunks.front() {
            Some(chunk) => (chunk.start.clone(), chunk.first_sequence),
            None => (end.clone(), next_sequence),
        };
        PinnedTail { chunks: self.chunks.iter().cloned().collect(), last_batches, start, first_sequence }
    }
}

/// A tail at one instant.
#[derive(Debug, Clone)]
pub(crate) struct PinnedTail {
    chunks: Arc<[Arc<Chunk>]>,
    last_batches: usize,
    /// Rows before these offsets are not in the tail.
    pub start: Positions,
    /// Commits before this one are not in the tail.
    pub first_sequence: u64,
}

impl PinnedTail {
    /// The batches with rows at or after `from`, the first ones cut to begin there.
    pub fn batches(&self, from: &Positions) -> TailBatches {
        let later = self.chunks.iter().rposition(|chunk| from.covers(&chunk.start));
        TailBatches { tail: self.clone(), from: from.clone(), chunk: later.unwrap_or(0), batch: 0 }
    }
}

/// Walks through a pinned tail.
pub(crate) struct TailBatches {
    tail: PinnedTail,
    from: Positions,
    chunk: usize,
    batch: usize,
}

impl Iterator for TailBatches {
    type Item = LogBatch;

    fn next(&mut self) -> Option<LogBatch> {
        loop {
            let chunk = self.tail.chunks.get(self.chunk)?;
            let last = self.chunk + 1 == self.tail.chunks.len();
            let grown = chunk.grown.read();
            let limit = if last { self.tail.last_batches } else { grown.batches.len() };
            if self.batch >= limit {
                self.chunk += 1;
                self.batch = 0;
                continue;
            }
            let batch = &grown.batches[self.batch];
            self.batch += 1;
            if let Some(batch) = begin_at(batch, &self.from) {
                return Some(batch);
            }
        }
    }
}

/// The rows of `batch` at or after `from`, if any.
pub(crate) fn begin_at(batch: &LogBatch, from: &Positions) -> Option<LogBatch> {
    let rows = batch.batch.num_rows() as u64;
    let wanted = from.get(batch.partition);
    if wanted >= batch.base_offset + rows {
        return None;
    }
    if wanted <= batch.base_offset {
        return Some(batch.clone());
    }
    let skip = (wanted - batch.base_offset) as usize;
    Some(LogBatch {
        partition: batch.partition,
        base_offset: wanted,
        ingest_time_us: batch.ingest_time_us,
        batch: batch.batch.slice(skip, batch.batch.num_rows() - skip),
    })
}
