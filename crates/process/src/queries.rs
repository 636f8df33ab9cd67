//! Owns the statements that are running: their limits, their cancellation and their record (`system.queries`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use millstream_buffer::Clock;
use millstream_catalog::fault::Code;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{Error, Result};

/// How many finished statements `system.queries` remembers.
const REMEMBERED: usize = 200;

/// Live queries that may run for each of the others that may.
const LIVE_PER_QUERY: usize = 8;

/// What is known of one statement.
#[derive(Debug, Clone)]
pub(crate) struct QueryRecord {
    pub(crate) id: u64,
    pub(crate) sql: String,
    /// `running`, `done`, `failed` or `cancelled`.
    pub(crate) status: &'static str,
    pub(crate) started_us: i64,
    pub(crate) finished_us: Option<i64>,
    pub(crate) rows: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) error: Option<String>,
}

/// The statements of the process.
#[derive(Debug, Clone)]
pub(crate) struct Queries {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    limit: usize,
    next_id: AtomicU64,
    failed: AtomicU64,
    running: Mutex<BTreeMap<u64, Arc<Running>>>,
    finished: Mutex<VecDeque<QueryRecord>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queries").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Running {
    id: u64,
    sql: String,
    live: bool,
    started_us: i64,
    rows: AtomicU64,
    memory: Arc<Usage>,
    cancel: CancellationToken,
}

#[derive(Debug, Default)]
struct Usage {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Queries {
    pub(crate) fn new(clock: Arc<dyn Clock>, limit: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                clock,
                limit,
                next_id: AtomicU64::new(1),
                failed: AtomicU64::new(0),
                running: Mutex::default(),
                finished: Mutex::default(),
            }),
        }
    }

    /// Admits a statement, or refuses it when as many as may are running.
    pub(crate) fn begin(&self, sql: &str) -> Result<QueryGuard> {
        self.admit(sql, false)
    }

    /// Admits a query that goes on until it is cancelled. It takes no place from those that end by themselves.
    pub(crate) fn begin_live(&self, sql: &str) -> Result<QueryGuard> {
        self.admit(sql, true)
    }

    /// Counts a statement that is done already.
    pub(crate) fn count(&self) {
        self.inner.next_id.fetch_add(1, Ordering::Relaxed);
    }

    fn admit(&self, sql: &str, live: bool) -> Result<QueryGuard> {
        let mut running = self.inner.running.lock();
        let beside = running.values().filter(|query| query.live == live).count();
        let limit = if live { self.inner.limit.saturating_mul(LIVE_PER_QUERY) } else { self.inner.limit };
        if beside >= limit {
            let kind = if live { "live queries" } else { "queries" };
            return Err(Error::rejected(
                Code::Busy,
                format!("{beside} {kind} are running, which is the limit; try again later"),
            ));
        }
        let query = Arc::new(Running {
            id: self.inner.next_id.fetch_add(1, Ordering::Relaxed),
            sql: sql.chars().take(4096).collect(),
            live,
            started_us: self.inner.clock.now_us(),
            rows: AtomicU64::new(0),
            memory: Arc::default(),
            cancel: CancellationToken::new(),
        });
        running.insert(query.id, Arc::clone(&query));
        Ok(QueryGuard { queries: self.clone(), query, outcome: Mutex::new(("cancelled", None)) })
    }

    /// Running statements, then finished ones, newest first.
    pub(crate) fn list(&self) -> Vec<QueryRecord> {
        let running: Vec<QueryRecord> =
            self.inner.running.lock().values().rev().map(|q| record(q, "running", None, None)).collect();
        let finished = self.inner.finished.lock();
        running.into_iter().chain(finished.iter().rev().cloned()).collect()
    }

    /// Running now, started ever, failed ever.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let running = self.inner.running.lock().len() as u64;
        let started = self.inner.next_id.load(Ordering::Relaxed) - 1;
        (running, started, self.inner.failed.load(Ordering::Relaxed))
    }
}

fn record(query: &Running, status: &'static str, finished_us: Option<i64>, error: Option<String>) -> QueryRecord {
    QueryRecord {
        id: query.id,
        sql: query.sql.clone(),
        status,
        started_us: query.started_us,
        finished_us,
        rows: query.rows.load(Ordering::Relaxed),
        memory_bytes: query.memory.now.load(Ordering::Relaxed) as u64,
        peak_memory_bytes: query.memory.peak.load(Ordering::Relaxed) as u64,
        error,
    }
}

/// A statement's place among the running ones; leaving frees it. Dropped without [`QueryGuard::finish`], the
/// statement counts as cancelled.
#[derive(Debug)]
pub(crate) struct QueryGuard {
    queries: Queries,
    query: Arc<Running>,
    outcome: Mutex<(&'static str, Option<String>)>,
}

impl QueryGuard {
    /// Ends with the statement when it is cancelled.
    pub(crate) fn cancel_token(&self) -> &CancellationToken {
        &self.query.cancel
    }

    /// Its number in `system.queries`.
    pub(crate) fn id(&self) -> u64 {
        self.query.id
    }

    pub(crate) fn add_rows(&self, rows: usize) {
        self.query.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Counts from the beginning: the statement is run again.
    pub(crate) fn restart(&self) {
        self.query.rows.store(0, Ordering::Relaxed);
    }

    /// The pool, counting what this statement takes from it.
    pub(crate) fn count_memory(&self, pool: Arc<dyn MemoryPool>) -> Arc<dyn MemoryPool> {
        Arc::new(CountedPool { pool, usage: Arc::clone(&self.query.memory) })
    }

    /// Records how it ended.
    pub(crate) fn finish(&self, error: Option<&Error>) {
        use millstream_catalog::fault::Fault;
        let outcome = match error {
            None => ("done", None),
            Some(error) if error.code() == Code::Cancelled => ("cancelled", None),
            Some(error) => ("failed", Some(error.to_string())),
        };
        *self.outcome.lock() = outcome;
    }
}

impl Drop for QueryGuard {
    fn drop(&mut self) {
        let inner = &self.queries.inner;
        inner.running.lock().remove(&self.query.id);
        let (status, error) = std::mem::take(&mut *self.outcome.lock());
        if status == "failed" {
            inner.failed.fetch_add(1, Ordering::Relaxed);
        }
        let mut finished = inner.finished.lock();
        if finished.len() == REMEMBERED {
            finished.pop_front();
        }
        finished.push_back(record(&self.query, status, Some(inner.clock.now_us()), error));
    }
}

/// A memory pool that counts one statement's share of a shared pool.
#[derive(Debug)]
struct CountedPool {
    pool: Arc<dyn MemoryPool>,
    usage: Arc<Usage>,
}

impl CountedPool {
    fn grown(&self, bytes: usize) {
        let now = self.usage.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.usage.peak.fetch_max(now, Ordering::Relaxed);
    }
}

impl std::fmt::Display for CountedPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("counted pool")
    }
}

impl MemoryPool for CountedPool {
    fn name(&self) -> &str {
        "counted"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        self.grown(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
        self.usage.now.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionResult<()> {
        self.pool.try_grow(reservation, additional)?;
        self.grown(additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}
