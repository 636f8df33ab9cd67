//! Owns the record of background tasks and of statements that take long: what each did, how far it is, and what last
//! went wrong (`system.jobs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_buffer::Clock;
use parking_lot::Mutex;

/// What is known of one background task.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobState {
    /// What it does: `tiering`, `maintenance`, `cleanup`.
    pub(crate) kind: &'static str,
    /// What it does it to.
    pub(crate) object: String,
    /// `idle`, `running`, `retrying` or `stopped`.
    pub(crate) status: &'static str,
    /// When a run last succeeded, µs since 1970.
    pub(crate) last_success_us: Option<i64>,
    /// What that run did.
    pub(crate) last_result: Option<String>,
    /// When a run last failed, µs since 1970.
    pub(crate) last_error_us: Option<i64>,
    /// Why.
    pub(crate) last_error: Option<String>,
    /// When the last run began, µs since 1970.
    pub(crate) started_us: Option<i64>,
    /// Runs since the process started.
    pub(crate) runs: u64,
    /// Failed runs since the last success.
    pub(crate) failures_in_a_row: u64,
    /// How far a statement is.
    pub(crate) measure: Option<Arc<Measure>>,
}

/// How far a statement is.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    /// The statement's number in `system.queries`.
    pub(crate) query: u64,
    /// Rows that were read, or changed.
    pub(crate) rows: AtomicU64,
    /// Bytes of files that were read, and how many there are; 0 where that is not known.
    pub(crate) bytes: AtomicU64,
    pub(crate) total_bytes: AtomicU64,
    /// Files that were read to their end, and how many there are.
    pub(crate) files: AtomicU64,
    pub(crate) total_files: AtomicU64,
}

impl Measure {
    pub(crate) fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Counts from the beginning: the work begins again.
    pub(crate) fn restart(&self) {
        self.rows.store(0, Ordering::Relaxed);
    }
}

/// All background tasks of the process.
#[derive(Clone)]
pub(crate) struct Jobs {
    clock: Arc<dyn Clock>,
    states: Arc<Mutex<BTreeMap<String, JobState>>>,
}

impl Jobs {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, states: Arc::default() }
    }

    /// Registers a task; it shows as idle until its first run.
    pub(crate) fn register(&self, kind: &'static str, object: &str) -> Job {
        let key = format!("{kind}/{object}");
        let state = JobState { kind, object: object.to_owned(), status: "idle", ..JobState::default() };
        self.states.lock().insert(key.clone(), state);
        Job { jobs: self.clone(), key }
    }

    /// Registers a statement that is running; `query` is its number among those.
    pub(crate) fn statement(&self, kind: &'static str, object: &str, query: u64) -> (Job, Arc<Measure>) {
        let measure = Arc::new(Measure { query, ..Measure::default() });
        let job = self.register(kind, &format!("{object} (#{query})"));
        job.update(|state, _| state.measure = Some(Arc::clone(&measure)));
        job.started();
        (job, measure)
    }

    /// Every task, by kind and object.
    pub(crate) fn list(&self) -> Vec<JobState> {
        self.states.lock().values().cloned().collect()
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("states", &self.states).finish()
    }
}

/// One task's handle on its record; the record goes with it.
#[derive(Debug)]
pub(crate) struct Job {
    jobs: Jobs,
    key: String,
}

impl Job {
    pub(crate) fn started(&self) {
        self.update(|state, now| {
            state.status = "running";
            state.started_us = Some(now);
            state.runs += 1;
        });
    }

    pub(crate) fn succeeded(&self, result: String) {
        self.update(|state, now| {
            state.status = "idle";
            state.last_success_us = Some(now);
            state.last_result = Some(result);
            state.failures_in_a_row = 0;
        });
    }

    /// Nothing was to be done; the last result stays.
    pub(crate) fn idle(&self) {
        self.update(|state, _| state.status = "idle");
    }

    /// A run that does not end did something: what failed before it is over.
    pub(crate) fn goes_on(&self) {
        self.update(|state, now| {
            state.last_success_us = Some(now);
            state.failures_in_a_row = 0;
        });
    }

    /// Returns how many runs in a row have failed.
    pub(crate) fn failed(&self, error: &dyn std::error::Error) -> u64 {
        tracing::warn!(job = %self.key, error = %crate::error::chain(error), "background task failed, will be tried again");
        self.set_failed("retrying", error)
    }

    /// The task failed in a way that trying again does not mend. Returns how many runs in a row have failed.
    pub(crate) fn stopped(&self, error: &dyn std::error::Error) -> u64 {
        tracing::warn!(job = %self.key, error = %crate::error::chain(error), "background task stopped");
        self.set_failed("stopped", error)
    }

    fn set_failed(&self, status: &'static str, error: &dyn std::error::Error) -> u64 {
        let text = crate::error::chain(error);
        self.update(|state, now| {
            state.status = status;
            state.last_error_us = Some(now);
            state.last_error = Some(text);
            state.failures_in_a_row += 1;
            state.failures_in_a_row
        })
        .unwrap_or(1)
    }

    fn update<T>(&self, change: impl FnOnce(&mut JobState, i64) -> T) -> Option<T> {
        let now = self.jobs.clock.now_us();
        self.jobs.states.lock().get_mut(&self.key).map(|state| change(state, now))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.jobs.states.lock().remove(&self.key);
    }
}
