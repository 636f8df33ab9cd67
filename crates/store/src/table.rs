//! Owns one stream's table: its newest snapshot, and the one way in which anything is committed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use chrono::Utc;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::object_store::ObjectStoreUrl;
use deltalake_core::kernel::Transaction;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use millstream_catalog::{LakePolicy, Positions, StreamId};
use object_store::PutMode;
use object_store::prefix::PrefixStore;
use parking_lot::{Mutex, RwLock};
use url::Url;

use crate::action::{About, Action, format};
use crate::external::{CommitMark, take_columns};
use crate::history::History;
use crate::lake::{LakeOptions, check, failed};
use crate::layout::{Folders, Layout, file_schema, write_order};
use crate::order::sorted;
use crate::provider::LakeProvider;
use crate::schema::lake_schema;
use crate::staged::StagedFile;
use crate::state::{TableState, app_id, same_positions};
use crate::temperature::is_old;
use crate::write::{FileWriter, Written};
use crate::{Error, Result};

/// Tries of one commit that other commits overtake.
const COMMIT_TRIES: u32 = 8;
/// The same for tables that others write to as they like.
const COMMIT_TRIES_BESIDE_OTHERS: u32 = 64;
/// Tries of one commit that fail with an open outcome. The store has tried again below this already.
const COMMIT_FAILURES: u32 = 2;
/// The pause after a failure, before the log is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// One stream's Delta table. Cheap to clone; clones share the newest snapshot.
#[derive(Debug, Clone)]
pub struct LakeTable {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub history: History,
    pub url: Url,
    pub engine_url: ObjectStoreUrl,
    pub id: StreamId,
    options: RwLock<LakeOptions>,
    /// What the lake's tables have that say nothing else.
    of_lake: LakeOptions,
    layout: RwLock<Arc<Layout>>,
    /// Whether others made the table, and write to it: columns are what its log says.
    pub is_others: bool,
    /// The newest commit of such a table when it was last looked at.
    pub newest_seen: Mutex<Option<(i64, CommitMark)>>,
    snapshot: RwLock<Arc<LakeSnapshot>>,
    /// Held from looking at the state to publishing the next one.
    pub commit: tokio::sync::Mutex<()>,
    /// A commit's outcome is not known: look at the log before believing the state.
    uncertain: AtomicBool,
    /// Held through a round of maintenance.
    pub care: tokio::sync::Mutex<()>,
    /// Held while files are written that take the place of others, so that two who do it never void each other's work.
    pub rewrite: tokio::sync::Mutex<()>,
    /// Files that are being written, not committed yet or otherwise needed, and by how many.
    pub in_flight: Arc<Mutex<HashMap<String, usize>>>,
    /// Every state that was published and may still be read.
    published: Mutex<Vec<Weak<TableState>>>,
}

impl Inner {
    /// How rows are laid out over files.
    pub fn layout(&self) -> Arc<Layout> {
        self.layout.read().clone()
    }

    /// Lays rows out otherwise from now on.
    pub fn set_layout(&self, layout: Layout) {
        *self.layout.write() = Arc::new(layout);
    }

    /// The table for delta-rs.
    pub fn log_store(&self) -> LogStoreRef {
        let (store, folder) = (&self.history.store, &self.history.folder);
        let prefixed = Arc::new(PrefixStore::new(store.clone(), folder.clone()));
        default_logstore(prefixed, store.clone(), &self.url, &StorageConfig::default())
    }
}

/// The table at one version.
#[derive(Debug, Clone)]
pub struct LakeSnapshot {
    /// The Delta version.
    pub version: i64,
    /// The stream's rows before these offsets are in the table.
    pub positions: Positions,
    /// Rows in all files, as their statistics say.
    pub rows: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    pub(crate) next_row: i64,
    pub(crate) state: Arc<TableState>,
}

impl LakeSnapshot {
    pub(crate) fn new(state: TableState, id: StreamId) -> Self {
        Self {
            version: state.version,
            positions: state.positions(id),
            rows: state.rows(),
            bytes: state.bytes(),
            files: state.files.len() as u64,
            next_row: state.next_row(id),
            state: Arc::new(state),
        }
    }
}

/// The rows of one data file: their partition, and offsets from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The partition that all of them are of.
    pub partition: u32,
    /// The least offset.
    pub start: u64,
    /// Behind the greatest offset.
    pub end: u64,
}

impl LakeSnapshot {
    /// The range of each file's rows, as the statistics say; `None` where a file has rows of several partitions, or some
    /// without a place in the stream.
    pub fn offset_ranges(&self) -> Option<Vec<OffsetRange>> {
        self.state.files.values().map(|file| file.stats.offset_range()).collect()
    }
}

/// What to do about a commit, now that the state is known.
pub(crate) enum Step {
    /// Write these actions as the next version.
    Write(Vec<Action>),
    /// Nothing is left to write.
    Done,
}

/// Files that are being written or wait for their commit. They are off the list when the work on them ends, however
/// it ends.
#[derive(Debug)]
pub(crate) struct InFlight {
    all: Arc<Mutex<HashMap<String, usize>>>,
    mine: Mutex<Vec<String>>,
}

impl InFlight {
    /// Puts a file on the list, before its first byte is written.
    pub fn announce(&self, name: &str) {
        *self.all.lock().entry(name.to_owned()).or_default() += 1;
        self.mine.lock().push(name.to_owned());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        for name in self.mine.get_mut() {
            if let Some(count) = all.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    all.remove(name);
                }
            }
        }
    }
}

impl LakeTable {
    pub(crate) fn new(
        history: History,
        url: Url,
        engine_url: ObjectStoreUrl,
        id: StreamId,
        options: LakeOptions,
        layout: Layout,
        state: TableState,
    ) -> Self {
        let snapshot = Arc::new(LakeSnapshot::new(state, id));
        Self {
            inner: Arc::new(Inner {
                history,
                url,
                engine_url,
                id,
                options: RwLock::new(options),
                of_lake: options,
                layout: RwLock::new(Arc::new(layout)),
                is_others: false,
                newest_seen: Mutex::default(),
                published: Mutex::new(vec![Arc::downgrade(&snapshot.state)]),
                snapshot: RwLock::new(snapshot),
                commit: tokio::sync::Mutex::new(()),
                uncertain: AtomicBool::new(false),
                care: tokio::sync::Mutex::new(()),
                rewrite: tokio::sync::Mutex::new(()),
                in_flight: Arc::default(),
            }),
        }
    }

    /// The same table, just made, as one that others write to.
    pub(crate) fn of_others(mut self) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.is_others = true;
        }
        self
    }

    /// The sizes that shape the table's files.
    pub(crate) fn options(&self) -> LakeOptions {
        *self.inner.options.read()
    }

    /// Lets the table's own policy stand before what is set for all tables of the lake.
    pub fn set_policy(&self, policy: &LakePolicy) {
        *self.inner.options.write() = self.inner.of_lake.with_policy(policy);
    }

    /// The newest snapshot this process knows; no I/O.
    pub fn snapshot(&self) -> Arc<LakeSnapshot> {
        self.inner.snapshot.read().clone()
    }

    /// Writes `rows` (full schema, log types) as large Parquet files and commits them with `end` as application
    /// transactions, one per partition, in one Delta commit. When it returns, everything is synced and the snapshot
    /// includes it.
    ///
    /// `start` is where the caller believes the table to be. When the table is at another position (an earlier try
    /// did commit), nothing is committed and the table's snapshot is returned: compare its positions.
    ///
    /// The number of rows must be what lies between `start` and `end`, else nothing is committed. The call may be
    /// dropped at any time, for example when it takes too long: the next one finds out what became of it.
    pub async fn append(
        &self,
        start: &Positions,
        end: &Positions,
        rows: SendableRecordBatchStream,
    ) -> Result<Arc<LakeSnapshot>> {
        let snapshot = self.certain_snapshot().await?;
        if !same_positions(&snapshot.positions, start) || same_positions(start, end) {
            return Ok(snapshot);
        }
        self.check_forward(start, end)?;
        let (written, _in_flight) = self.write(&snapshot.state, rows, Utc::now().timestamp_millis()).await?;
        let expected = end.rows_since(start);
        if written.rows != expected {
            return Err(self.inner.history.misfit(format!(
                "{} rows came for the {expected} offsets from {start:?} to {end:?}; nothing was committed",
                written.rows
            )));
        }
        let mut actions: Vec<Action> = written.adds.into_iter().map(Action::Add).collect();
        actions.extend(self.progress(start, end)?);
        let about = About::new("WRITE", Utc::now().timestamp_millis()).with_parameter("mode", "Append");
        self.commit(about.with_metric("numOutputRows", written.rows), |state| {
            Ok(match self.is_due(state, start, end)? {
                true => Step::Write(actions.clone()),
                false => Step::Done,
            })
        })
        .await
    }

    /// Refuses an end that lies before its start.
    pub(crate) fn check_forward(&self, start: &Positions, end: &Positions) -> Result<()> {
        match end.covers(start) {
            true => Ok(()),
            false => Err(self.inner.history.misfit(format!("{end:?} is behind {start:?}; nothing was committed"))),
        }
    }

    /// Whether the range from `start` to `end` is what comes next in this state; it is not when it is there already.
    pub(crate) fn is_due(&self, state: &TableState, start: &Positions, end: &Positions) -> Result<bool> {
        let here = state.positions(self.inner.id);
        if same_positions(&here, end) {
            Ok(false)
        } else if same_positions(&here, start) {
            Ok(true)
        } else {
            Err(self.inner.history.misfit(format!(
                "it went to {here:?} while rows from {start:?} to {end:?} were written; \
                 another process appends to it, stop that process"
            )))
        }
    }

    /// A provider over one snapshot: full schema in log types with `Utf8View` for text, pruning by file and row group
    /// statistics, filters, projections and limits pushed down. The snapshot's files stay while the provider, or a
    /// plan made from it, is there.
    pub fn provider(&self, snapshot: &Arc<LakeSnapshot>) -> Result<Arc<dyn TableProvider>> {
        self.provider_with_staged(snapshot, &[])
    }

    /// [`LakeTable::provider`] over the snapshot's files and staged ones as if they were one. Staged files that the
    /// snapshot has are read once.
    pub fn provider_with_staged(
        &self,
        snapshot: &Arc<LakeSnapshot>,
        staged: &[StagedFile],
    ) -> Result<Arc<dyn TableProvider>> {
        LakeProvider::of(&self.inner, snapshot, self.keep_staged(staged))
    }

    /// A provider over staged files alone.
    pub fn staged_provider(&self, staged: &[StagedFile]) -> Result<Arc<dyn TableProvider>> {
        LakeProvider::of_staged(&self.inner, &self.snapshot(), self.keep_staged(staged))
    }

    /// Adds columns at the end of the user's columns: metadata only.
    pub async fn set_schema(&self, schema: SchemaRef) -> Result<()> {
        let inner = &self.inner;
        self.commit(About::new("ADD COLUMNS", Utc::now().timestamp_millis()), |state| {
            Ok(match check(&inner.history, state, inner.id, &schema, &inner.layout())? {
                Some(change) if !change.actions.is_empty() => Step::Write(change.actions),
                _ => Step::Done,
            })
        })
        .await?;
        let _commit = inner.commit.lock().await;
        let mut state = self.snapshot().state.as_ref().clone();
        if let Some(change) = check(&inner.history, &state, inner.id, &schema, &inner.layout())? {
            state.set_log_schema(change.log_schema);
            self.publish(state);
        }
        Ok(())
    }

    /// Takes the files out of which every row was accepted before `before_ms`: how a stream's `expire` is kept. Rows
    /// go by whole files, positions stay. Returns the number of files.
    pub async fn expire(&self, before_ms: i64, now_ms: i64) -> Result<u64> {
        let expired = |state: &TableState| -> Vec<Action> {
            let old = state.files.values().filter(|file| is_old(file, before_ms));
            old.map(|file| Action::Remove(file.removal(now_ms, true))).collect()
        };
        let state = self.snapshot().state.clone();
        let old = expired(&state);
        let (count, rows) = (old.len() as u64, rows_removed(&state, &old));
        let about = About::new("DELETE", now_ms)
            .with_parameter("acceptedBefore", before_ms.to_string())
            .with_metric("numDeletedRows", rows);
        self.commit(about, |state| {
            let actions = expired(state);
            Ok(if actions.is_empty() { Step::Done } else { Step::Write(actions) })
        })
        .await?;
        Ok(count)
    }

    /// Writes rows (full schema) as files, laid out as the table's are. They are safe from vacuum until the guard is
    /// dropped.
    pub(crate) async fn write(
        &self,
        state: &TableState,
        rows: SendableRecordBatchStream,
        now_ms: i64,
    ) -> Result<(Written, Arc<InFlight>)> {
        let partitioned_by = state.partitioned_by();
        let order = write_order(partitioned_by, &self.inner.layout().sorted_by);
        let rows = sorted(rows, &order).map_err(|e| self.failed("sort rows for", e.into()))?;
        let (writer, in_flight) = self.writer(state, Folders::By(partitioned_by.to_vec()), now_ms)?;
        let written = writer.write(rows).await.map_err(|source| self.failed("write rows to", source))?;
        Ok((written, in_flight))
    }

    /// A writer of files for this table. What it writes is safe from vacuum until it and the guard are dropped.
    pub(crate) fn writer(
        &self,
        state: &TableState,
        folders: Folders,
        now_ms: i64,
    ) -> Result<(FileWriter, Arc<InFlight>)> {
        let inner = &self.inner;
        let log_schema = state.log_schema.as_ref().ok_or_else(|| inner.history.misfit("it has no schema".into()))?;
        let in_flight = self.in_flight();
        let lake_schema = lake_schema(log_schema);
        let writer = FileWriter {
            file_schema: file_schema(&lake_schema, &folders.columns()),
            folders,
            store: inner.history.store.clone(),
            folder: inner.history.folder.clone(),
            options: self.options(),
            lake_schema,
            in_flight: in_flight.clone(),
            now_ms,
        };
        Ok((writer, in_flight))
    }

    /// A list of files that vacuum must leave alone; empty as yet.
    pub(crate) fn in_flight(&self) -> Arc<InFlight> {
        Arc::new(InFlight { all: self.inner.in_flight.clone(), mine: Mutex::default() })
    }

    /// The application transactions that move the table from `start` to `end`.
    pub(crate) fn progress(&self, start: &Positions, end: &Positions) -> Result<Vec<Action>> {
        let moved = end.0.iter().enumerate().map(|(i, &offset)| (i as u32, offset));
        moved
            .filter(|&(partition, offset)| start.get(partition) != offset)
            .map(|(partition, offset)| {
                let version = i64::try_from(offset).map_err(|_| {
                    self.inner.history.misfit(format!("offset {offset} of partition {partition} is above 2^63"))
                })?;
                Ok(Action::Txn(Transaction::new(app_id(self.inner.id, partition), version)))
            })
            .collect()
    }

    /// Commits what `step` says, exactly once. After a conflict or a failure that leaves the outcome open, the log is
    /// read and `step` asked again, so it must see in the state whether its work was done.
    pub(crate) async fn commit(
        &self,
        about: About,
        step: impl Fn(&TableState) -> Result<Step> + Send,
    ) -> Result<Arc<LakeSnapshot>> {
        let inner = &self.inner;
        let _commit = inner.commit.lock().await;
        let mut failures = 0;
        let tries = if inner.is_others { COMMIT_TRIES_BESIDE_OTHERS } else { COMMIT_TRIES };
        for _ in 0..tries {
            self.look_again().await?;
            let snapshot = self.snapshot();
            let actions = match step(&snapshot.state)? {
                Step::Done => return Ok(snapshot),
                Step::Write(actions) => actions,
            };
            let version = snapshot.version + 1;
            let bytes = format(&counted(&about, &snapshot.state, &actions), &actions)
                .map_err(|e| self.failed("commit to", e.into()))?;
            let path = inner.history.commit_path(version);
            inner.uncertain.store(true, Ordering::Release);
            match inner.history.store.put_opts(&path, bytes.into(), PutMode::Create.into()).await {
                Ok(_) => {
                    let mut state = snapshot.state.as_ref().clone();
                    state.apply(version, actions);
                    inner.uncertain.store(false, Ordering::Release);
                    return Ok(self.publish(state));
                }
                Err(object_store::Error::AlreadyExists { .. }) => {
                    tracing::info!(table = %inner.url, version, "another commit came first, looking at it");
                }
                Err(e) => {
                    tracing::warn!(table = %inner.url, version, error = %e, "a commit failed, looking at the log");
                    failures += 1;
                    tokio::time::sleep(PAUSE).await;
                    if failures == COMMIT_FAILURES {
                        self.look_again().await?;
                        let snapshot = self.snapshot();
                        return match step(&snapshot.state)? {
                            Step::Done => Ok(snapshot),
                            Step::Write(_) => Err(failed("write", &path)(e)),
                        };
                    }
                }
            }
        }
        if inner.is_others {
            let reason = format!("others committed {tries} times in a row");
            return Err(Error::Clash { table: inner.url.to_string(), reason });
        }
        Err(inner.history.misfit(format!("{COMMIT_TRIES} commits in a row were overtaken; stop the other writers")))
    }

    /// The newest snapshot, after a look at the log where the last commit's outcome is open.
    pub(crate) async fn certain_snapshot(&self) -> Result<Arc<LakeSnapshot>> {
        let _commit = self.inner.commit.lock().await;
        self.look_again().await?;
        Ok(self.snapshot())
    }

    /// The newest snapshot, after a look at the log for what others committed.
    pub(crate) async fn refresh(&self) -> Result<Arc<LakeSnapshot>> {
        self.inner.uncertain.store(true, Ordering::Release);
        self.certain_snapshot().await
    }

    /// Reads what was committed since, if that is not known for sure.
    async fn look_again(&self) -> Result<()> {
        if !self.inner.uncertain.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = self.snapshot().state.as_ref().clone();
        if self.inner.history.catch_up(&mut state).await? {
            if self.inner.is_others {
                take_columns(&self.inner.history, &mut state)?;
            }
            self.publish(state);
        }
        self.inner.uncertain.store(false, Ordering::Release);
        Ok(())
    }

    /// Makes a state the newest; the caller holds the commit lock.
    pub(crate) fn publish(&self, state: TableState) -> Arc<LakeSnapshot> {
        let snapshot = Arc::new(LakeSnapshot::new(state, self.inner.id));
        self.keep_published(&snapshot);
        *self.inner.snapshot.write() = snapshot.clone();
        snapshot
    }

    /// Lets vacuum see what a snapshot needs while it is there.
    pub(crate) fn keep_published(&self, snapshot: &LakeSnapshot) {
        let mut published = self.inner.published.lock();
        published.retain(|state| state.strong_count() > 0);
        published.push(Arc::downgrade(&snapshot.state));
    }

    /// Changes what is kept beside the log in the newest state; the version stays.
    pub(crate) async fn tidy(&self, change: impl FnOnce(&mut TableState) + Send) {
        let _commit = self.inner.commit.lock().await;
        let mut state = self.snapshot().state.as_ref().clone();
        change(&mut state);
        self.publish(state);
    }

    /// Every state that somebody may still read.
    pub(crate) fn states_in_use(&self) -> Vec<Arc<TableState>> {
        self.inner.published.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn failed(&self, action: &'static str, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Delta { action, table: self.inner.url.to_string(), source }
    }
}

/// What a commit says about itself, with the files it takes out and brings in.
fn counted(about: &About, state: &TableState, actions: &[Action]) -> About {
    let mut counts = [("numAddedFiles", 0), ("numAddedBytes", 0), ("numRemovedFiles", 0), ("numRemovedBytes", 0)];
    let mut count = |at: usize, bytes: Option<i64>| {
        counts[at].1 += 1;
        counts[at + 1].1 += bytes.and_then(|b| u64::try_from(b).ok()).unwrap_or(0);
    };
    for action in actions {
        match action {
            Action::Add(add) => count(0, Some(add.size)),
            Action::Remove(remove) => count(2, state.files.get(&remove.path).map(|f| f.add.size)),
            _ => {}
        }
    }
    let mut about = about.clone();
    for (name, value) in counts.into_iter().filter(|(_, value)| *value > 0) {
        about.metrics.entry(name.to_owned()).or_insert(value);
    }
    about
}

/// Rows of the files that actions take out.
fn rows_removed(state: &TableState, actions: &[Action]) -> u64 {
    let rows = |action: &Action| match action {
        Action::Remove(remove) => state.files.get(&remove.path)?.stats.rows,
        _ => None,
    };
    actions.iter().filter_map(rows).sum()
}
