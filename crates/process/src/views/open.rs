//! Owns an open view: its definition, its answer, how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectName, Positions, StreamId, View, ViewId, ViewKind};
use millstream_views::{Answer, AnswerSnapshot, MemoryStore, StateStore};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::changes::{Change, Changes, Limits, Looked, Place, Sources};
use super::rate::Rate;
use super::saved_changes::{SavedChanges, Unsaved};
use crate::read::reader_schema;
use crate::stream::OpenStream;
use crate::tables::{Following, Hold};
use crate::{Error, Result};

/// Bytes of changes kept for those who follow, unless the view says otherwise.
const CHANGELOG_BYTES: u64 = 64 << 20;

/// How long a thread that serves the network may wait for a step to be applied.
const PATIENCE: Duration = Duration::from_micros(50);

/// What a view is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Status {
    /// It reads the history of its inputs.
    #[default]
    Building,
    /// It follows its inputs.
    Running,
    /// It stays as it is until it is resumed.
    Suspended,
    /// A step failed: it begins again after a pause, or stays until it is changed or resumed.
    Failed,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Building => "building",
            Status::Running => "running",
            Status::Suspended => "suspended",
            Status::Failed => "failed",
        })
    }
}

/// How far a view is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) status: Status,
    /// What it has read of each stream.
    pub(crate) sources: Arc<Sources>,
    /// The place of its next change.
    pub(crate) changes_end: Place,
    /// The place up to which a checkpoint has its changes, in the present life of the changelog.
    pub(super) changes_saved: Option<Place>,
    /// How often it was to make a checkpoint.
    pub(super) saves: u64,
    /// Whether it reads views.
    pub(super) stands_on_views: bool,
    /// Whether its task has ended and comes no more.
    pub(super) ended: bool,
    /// Why the last step failed.
    pub(crate) error: Option<String>,
    /// Rows of history read so far, and how many there were when it began.
    pub(crate) history: (u64, u64),
    /// Bytes of state, without the answer.
    pub(crate) state_bytes: u64,
    /// The least watermark of its inputs, µs since 1970; only with EMIT ON WINDOW CLOSE.
    pub(crate) watermark_us: Option<i64>,
    /// Whether rows were refused, or late, that are not in quarantine yet.
    pub(crate) unsettled: bool,
}

/// An answer with its changelog, changed together.
#[derive(Debug)]
struct Published {
    answer: Arc<Answer>,
    changes: Changes,
    sources: Arc<Sources>,
    grows: bool,
}

/// A view that is kept up to date.
#[derive(Debug)]
pub(crate) struct OpenView {
    id: ViewId,
    definition: RwLock<Arc<View>>,
    schema: SchemaRef,
    published: RwLock<Option<Published>>,
    progress: watch::Sender<Progress>,
    /// Tells the task that the definition changed.
    pub(crate) redefined: tokio::sync::Notify,
    /// Asks the task for a checkpoint.
    pub(super) save_wanted: tokio::sync::Notify,
    pub(crate) rows_in: AtomicU64,
    pub(crate) refused_rows: AtomicU64,
    pub(crate) late_rows: AtomicU64,
    pub(crate) steps: AtomicU64,
    rate: Mutex<Rate>,
    up_to_us: AtomicI64,
    /// Whether its task removes its state when it ends.
    dropped: AtomicBool,
    /// Ends its task when it is dropped.
    pub(crate) closing: CancellationToken,
    /// The state of a stream's query, on a node that keeps nothing.
    in_memory: Arc<MemoryStore>,
    /// The tables below, whose logs keep what it has not taken.
    tables: Mutex<Vec<Followed>>,
    /// Whether its next life begins with nothing.
    anew: AtomicBool,
}

/// A table that keeps its changes for a view.
#[derive(Debug)]
struct Followed {
    table: StreamId,
    hold: Hold,
    _following: Option<Following>,
}

impl OpenView {
    pub(crate) fn new(definition: View, closing: CancellationToken) -> Self {
        Self {
            id: definition.id,
            schema: reader_schema(&definition.schema()),
            definition: RwLock::new(Arc::new(definition)),
            published: RwLock::new(None),
            progress: watch::Sender::new(Progress::default()),
            redefined: tokio::sync::Notify::new(),
            save_wanted: tokio::sync::Notify::new(),
            rows_in: AtomicU64::new(0),
            refused_rows: AtomicU64::new(0),
            late_rows: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            rate: Mutex::default(),
            up_to_us: AtomicI64::new(0),
            dropped: AtomicBool::new(false),
            closing,
            in_memory: Arc::default(),
            tables: Mutex::default(),
            anew: AtomicBool::new(false),
        }
    }

    /// Has tables keep their changes, and what goes with them, from now on.
    pub(super) fn follow_tables(&self, tables: &[Arc<OpenStream>]) {
        let followed = tables.iter().filter_map(|table| {
            let hold = table.table()?.holds.hold();
            Some(Followed { table: table.id(), hold, _following: Following::of(table) })
        });
        *self.tables.lock() = followed.collect();
    }

    /// Says from where it needs the logs of the tables that it reads; of others it needs nothing.
    pub(super) fn needs_logs_from(&self, positions: &[(StreamId, Positions)]) {
        for followed in self.tables.lock().iter() {
            let own = positions.iter().filter(|(id, _)| *id == followed.table);
            followed.hold.release_to(own.map(|(_, at)| at.get(0)).min().unwrap_or(u64::MAX));
        }
    }

    /// Says that what it has cannot be gone on with.
    pub(super) fn begins_anew(&self) {
        self.anew.store(true, Ordering::Release);
    }

    /// Whether it is to begin with nothing.
    pub(super) fn is_to_begin_anew(&self) -> bool {
        self.anew.load(Ordering::Acquire)
    }

    /// Has its task begin with nothing when it is woken, since what it reads is another now. What readers see stays until
    /// then.
    pub(super) fn begin_again(&self) {
        self.begins_anew();
        self.report(|progress| {
            if progress.status == Status::Running {
                progress.status = Status::Building;
                progress.history = (0, 0);
            }
        });
    }

    /// Whether it is to begin with nothing; asked once.
    pub(super) fn take_begins_anew(&self) -> bool {
        self.anew.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn id(&self) -> ViewId {
        self.id
    }

    /// The stream that it writes; `None` for a materialized view.
    pub(crate) fn stream(&self) -> Option<StreamId> {
        match self.definition.read().kind {
            ViewKind::MaterializedView | ViewKind::PlainView => None,
            ViewKind::DerivedStream { stream } => Some(stream),
        }
    }

    /// Whether nothing is kept of it: its query stands for its name.
    pub(crate) fn is_plain(&self) -> bool {
        self.definition.read().kind == ViewKind::PlainView
    }

    /// Where its state lies on a node that keeps nothing: what a stream has cannot be taken back as long as it lives.
    pub(super) fn state_in_memory(&self) -> Option<Arc<dyn StateStore>> {
        self.stream().map(|_| Arc::clone(&self.in_memory) as Arc<dyn StateStore>)
    }

    pub(crate) fn name(&self) -> ObjectName {
        self.definition.read().name.clone()
    }

    pub(crate) fn definition(&self) -> Arc<View> {
        Arc::clone(&self.definition.read())
    }

    pub(crate) fn redefine(&self, definition: View) {
        *self.definition.write() = Arc::new(definition);
        self.redefined.notify_waiters();
    }

    /// The columns, as readers see them.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Follows the progress; changes after each step.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn report(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    /// Whether rows of the answer only ever come; `None` while it is being built.
    pub(crate) fn grows(&self) -> Option<bool> {
        self.published.read().as_ref().map(|p| p.grows)
    }

    /// Whether readers see an answer.
    pub(super) fn is_published(&self) -> bool {
        self.published.read().is_some()
    }

    /// Rows and bytes of the answer.
    pub(crate) fn size(&self) -> (u64, u64) {
        let published = self.published.read();
        published.as_ref().map_or((0, 0), |p| (p.answer.rows() as u64, p.answer.bytes() as u64))
    }

    /// How much of its changelog is kept.
    pub(super) fn changes_kept(&self) -> Limits {
        let options = &self.definition().options;
        let bytes = options.retention_bytes.unwrap_or(CHANGELOG_BYTES);
        Limits {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            us: options.retention_ms.map(|ms| ms as i64 * 1000),
        }
    }

    /// A changelog that begins.
    pub(super) fn new_changes(&self) -> Changes {
        Changes::new(self.changes_kept(), new_epoch())
    }

    /// Shows a finished answer to readers, in place of the one before; `changes` are those that led to it.
    pub(crate) fn publish(&self, answer: Arc<Answer>, changes: Changes, sources: Sources, grows: bool) {
        let sources = Arc::new(sources);
        let end = changes.end();
        *self.published.write() = Some(Published { answer, changes, sources: Arc::clone(&sources), grows });
        self.report(|progress| {
            progress.status = self.status_of_running();
            progress.sources = sources;
            progress.changes_end = end;
            progress.changes_saved = None;
            progress.error = None;
        });
    }

    /// One that is to begin anew is not where it says that it is.
    fn status_of_running(&self) -> Status {
        if self.is_to_begin_anew() { Status::Building } else { Status::Running }
    }

    /// Waits until there is an answer that stays: it runs, or is suspended, or has failed and shows what it had.
    pub(super) async fn has_answer(&self) {
        let mut progress = self.subscribe();
        let there = progress.wait_for(|p| match p.status {
            Status::Running | Status::Suspended => true,
            Status::Failed => self.is_published(),
            Status::Building => false,
        });
        // Its sender lives as long as the view.
        drop(there.await);
    }

    /// Says that it follows its inputs.
    pub(super) fn runs(&self) {
        self.report(|progress| {
            progress.status = self.status_of_running();
            progress.error = None;
        });
    }

    /// Changes the answer, the changelog and the positions at one instant.
    pub(crate) fn change(&self, delta: &RecordBatch, sources: Sources, now_us: i64) -> Result<()> {
        let sources = Arc::new(sources);
        let mut published = self.published.write();
        let Some(now) = published.as_mut() else {
            return Err(Error::rejected(Code::Internal, "a view changed before it was published"));
        };
        if delta.num_rows() > 0 {
            now.answer.apply(delta)?;
            now.changes.push(delta.clone(), now_us);
        }
        now.sources = Arc::clone(&sources);
        let end = now.changes.end();
        drop(published);
        self.report(|progress| {
            progress.sources = sources;
            progress.changes_end = end;
        });
        Ok(())
    }

    /// The answer now, the place of the change after it, and how far the inputs were read.
    pub(crate) fn snapshot(&self) -> Result<(AnswerSnapshot, Place, Arc<Sources>)> {
        let published = self.published.read();
        let now = published.as_ref().ok_or_else(|| self.not_there())?;
        Ok((now.answer.snapshot(), now.changes.end(), Arc::clone(&now.sources)))
    }

    /// The answer now, and how many rows it has.
    pub(crate) fn counted_snapshot(&self) -> Result<(AnswerSnapshot, usize)> {
        let published = self.published.read();
        let now = published.as_ref().ok_or_else(|| self.not_there())?;
        Ok((now.answer.snapshot(), now.answer.rows()))
    }

    /// The place of its next change.
    pub(crate) fn changelog_end(&self) -> Result<Place> {
        let published = self.published.read();
        let now = published.as_ref().ok_or_else(|| self.not_there())?;
        Ok(now.changes.end())
    }

    /// The change at a place, of which so many rows were taken already, and the place as it is called now.
    pub(crate) fn change_at(&self, place: Place, rows: u64) -> (Place, Looked) {
        let published = self.published.read();
        match published.as_ref() {
            Some(now) => (now.changes.translated(place, rows).unwrap_or(place), now.changes.at(place, rows)),
            None => (place, Looked::NotYet),
        }
    }

    /// The rows under keys, see [`Answer::lookup`]; `None` when the view has another key than `columns` by now.
    pub(crate) fn lookup(&self, columns: &[usize], keys: &[ArrayRef]) -> Result<Option<RecordBatch>> {
        let published = self.published.read();
        let now = published.as_ref().ok_or_else(|| self.not_there())?;
        match now.answer.key() == Some(columns) {
            true => Ok(Some(now.answer.lookup(keys)?)),
            false => Ok(None),
        }
    }

    /// [`OpenView::lookup`] as far as it can be done at once, see [`Answer::lookup_at_hand`].
    pub(crate) fn lookup_at_hand(&self, columns: &[usize], keys: &[ArrayRef]) -> Result<Option<RecordBatch>> {
        let Some(published) = self.published.try_read_for(PATIENCE) else { return Ok(None) };
        let now = published.as_ref().ok_or_else(|| self.not_there())?;
        match now.answer.key() == Some(columns) {
            true => Ok(now.answer.lookup_at_hand(keys, PATIENCE)?),
            false => Ok(None),
        }
    }

    /// The columns of which no two rows have the same values.
    pub(crate) fn key(&self) -> Option<Vec<usize>> {
        self.published.read().as_ref().and_then(|p| p.answer.key().map(<[usize]>::to_vec))
    }

    /// The changes from that place on, the place behind them, and how far the inputs are read there; `None` when some
    /// are gone.
    pub(crate) fn changes_since(&self, place: Place) -> Option<(Vec<Change>, Place, Arc<Sources>)> {
        let published = self.published.read();
        let now = published.as_ref()?;
        Some((now.changes.since(place)?, now.changes.end(), Arc::clone(&now.sources)))
    }

    /// What the next checkpoint is to have of the changelog that readers see, see [`Unsaved::of`].
    pub(super) fn unsaved_changes(&self, last: Option<&SavedChanges>, kept: bool) -> Option<Unsaved> {
        let published = self.published.read();
        published.as_ref().map(|now| Unsaved::of(&now.changes, last, kept))
    }

    /// Has a checkpoint take in the changes before that place. Returns false when that will not be now: the view fails,
    /// is built or ends, or one below it makes no checkpoint.
    pub(super) async fn save_to(&self, place: Place) -> bool {
        let known = self.published.read().as_ref().and_then(|now| now.changes.called_now(place, 0));
        let Some(place) = known else { return false };
        let is_saved =
            |p: &Progress| p.changes_saved.is_some_and(|saved| saved.epoch == place.epoch && saved.next >= place.next);
        let will_not_be = |p: &Progress| {
            let another = p.changes_saved.is_some_and(|saved| saved.epoch != place.epoch);
            another || p.ended || !matches!(p.status, Status::Running | Status::Suspended)
        };
        let mut progress = self.subscribe();
        let saves = progress.borrow().saves;
        if !is_saved(&progress.borrow()) {
            self.save_wanted.notify_one();
        }
        let tried = progress.wait_for(|p| is_saved(p) || will_not_be(p) || p.saves != saves);
        tried.await.is_ok_and(|p| is_saved(&p))
    }

    /// Says that its task comes no more.
    pub(super) fn ends(&self) {
        self.report(|progress| progress.ended = true);
    }

    /// Waits until its task comes no more.
    pub(super) async fn ended(&self) {
        let mut progress = self.subscribe();
        // Its sender lives as long as the view.
        drop(progress.wait_for(|p| p.ended).await);
    }

    /// Has its task remove its state when it ends.
    pub(crate) fn drop_state(&self) {
        self.dropped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counts a step: rows that came in, rows that were refused and rows that were late.
    pub(crate) fn count(&self, rows_in: u64, refused: u64, late: u64, now_us: i64) {
        self.rate.lock().add(now_us, rows_in);
        self.rows_in.fetch_add(rows_in, Ordering::Relaxed);
        self.refused_rows.fetch_add(refused, Ordering::Relaxed);
        self.late_rows.fetch_add(late, Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Rows a second that came in lately.
    pub(crate) fn events_per_second(&self, now_us: i64) -> f64 {
        self.rate.lock().per_second(now_us)
    }

    /// Everything that was there at that time is taken in.
    pub(crate) fn is_up_to(&self, time_us: i64) {
        self.up_to_us.store(time_us, Ordering::Relaxed);
    }

    /// The time up to which everything is taken in, µs since 1970; 0 while the view was never built.
    pub(crate) fn up_to_us(&self) -> i64 {
        self.up_to_us.load(Ordering::Relaxed)
    }

    fn not_there(&self) -> Error {
        let progress = self.progress();
        let name = self.name();
        let message = match (&progress.error, progress.history) {
            (Some(error), _) => format!("materialized view {name} has no answer, since it cannot be built: {error}"),
            (None, (read, all)) if all > 0 => {
                format!("materialized view {name} is still being built: {read} of {all} rows of history are read")
            }
            _ => format!("materialized view {name} is still being built"),
        };
        Error::Rejected {
            code: Code::NotReady,
            message,
            hint: Some("system.views shows how far it is".into()),
            position: None,
        }
    }
}

/// A name for a life of a changelog.
pub(super) fn new_epoch() -> u64 {
    // The second half is chance, apart from two bits.
    Uuid::now_v7().as_u64_pair().1
}
