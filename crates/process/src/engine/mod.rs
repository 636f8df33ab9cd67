//! Owns the running engine: what is open, and how it starts and stops.

mod alter;
mod clones;
mod fill;
mod objects;
mod options;
mod schemas;
mod tables;
mod temporary;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use millstream_buffer::QueueBudget;
use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectName, SYSTEM_SCHEMA, StreamId};
use millstream_store::Lake;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use options::{EngineOptions, Health, LogEngine};
pub(crate) use tables::{refuse_table, wrong_kind};
use temporary::TemporaryTables;

use crate::background::{care_once, remove_dropped, tier_once};
use crate::ddl::is_temporary;
use crate::jobs::Jobs;
use crate::queries::Queries;
use crate::rounds::Rounds;
use crate::sql::{Plans, QueryWorkers, query_context};
use crate::stream::OpenStream;
use crate::views::OpenView;
use crate::{Error, FaultPoints, Result, Session, StreamHandle};

/// The platform's own stream of refused rows.
pub(crate) const QUARANTINE: &str = "quarantine";

/// The running engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// What every part of the engine can reach.
pub(crate) struct Shared {
    pub(crate) options: EngineOptions,
    pub(crate) lake: Lake,
    pub(crate) jobs: Jobs,
    /// What was done for lake tables.
    pub(crate) rounds: Rounds,
    pub(crate) queries: Queries,
    pub(crate) workers: QueryWorkers,
    pub(crate) plans: Plans,
    /// How many tables may be written or compacted at once.
    pub(crate) tier_permits: Semaphore,
    /// One change that did not fit into memory is run on the disk at a time: its shares are of all there is.
    pub(crate) sparing_permits: Semaphore,
    /// One table is cared for at a time.
    pub(crate) care_permits: Semaphore,
    pub(crate) closing: CancellationToken,
    /// Ends what goes on for as long as its client listens.
    pub(crate) live: CancellationToken,
    pub(crate) cleanup_now: Notify,
    /// Bytes of rows waiting for the disk, over all streams.
    pub(crate) ingest_budget: Arc<QueueBudget>,
    pub(crate) started_us: i64,
    pub(crate) faults: FaultPoints,
    streams: RwLock<HashMap<ObjectName, Arc<OpenStream>>>,
    /// Tables that are being filled before they are there.
    filling: Mutex<HashSet<StreamId>>,
    /// What connections have for themselves.
    pub(crate) temporary: TemporaryTables,
    /// The schemas that were created.
    schemas: RwLock<BTreeSet<String>>,
    pub(crate) views: RwLock<HashMap<ObjectName, Arc<OpenView>>>,
    /// Streams and tables that could not be opened, what each is, and why.
    broken: RwLock<HashMap<ObjectName, (&'static str, String)>>,
    /// Held by one statement that changes the catalog at a time.
    pub(crate) ddl: tokio::sync::Mutex<()>,
    /// The context that sessions are made from. It refers back to the engine: it is there from when the catalog can be
    /// asked until the engine closes.
    context: RwLock<Option<SessionContext>>,
    pub(crate) tasks: TaskTracker,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A row group of the lake's files takes this part of `query.memory` at most, so that a small node writes small ones.
const PART_FOR_ROW_GROUP: usize = 8;

impl Engine {
    /// Opens the catalog's streams, recovers their logs, starts the background tasks.
    ///
    /// A stream whose log is damaged does not keep the others from opening: it is named by [`Engine::health`], and
    /// every use of it fails with the reason.
    pub async fn open(options: EngineOptions) -> Result<Engine> {
        let lake = Lake::new(options.store_url.clone(), Arc::clone(&options.store))
            .with_store_options(options.files.store_options.clone())
            .with_row_group_bytes(options.query_memory_bytes / PART_FOR_ROW_GROUP);
        let closing = CancellationToken::new();
        let shared = Arc::new(Shared {
            lake,
            jobs: Jobs::new(Arc::clone(&options.clock)),
            rounds: Rounds::new(Arc::clone(&options.clock)),
            queries: Queries::new(Arc::clone(&options.clock), options.max_queries),
            workers: QueryWorkers::start()?,
            plans: Plans::default(),
            tier_permits: Semaphore::new(1),
            sparing_permits: Semaphore::new(1),
            care_permits: Semaphore::new(1),
            live: closing.child_token(),
            closing,
            cleanup_now: Notify::new(),
            ingest_budget: QueueBudget::new(options.ingest_queue_bytes),
            started_us: options.clock.now_us(),
            faults: FaultPoints::default(),
            streams: RwLock::default(),
            filling: Mutex::default(),
            temporary: TemporaryTables::new()?,
            schemas: RwLock::default(),
            views: RwLock::default(),
            broken: RwLock::default(),
            ddl: tokio::sync::Mutex::default(),
            context: RwLock::default(),
            tasks: TaskTracker::new(),
            options,
        });
        let context = query_context(&shared)?;
        *shared.context.write() = Some(context);
        let engine = Engine { shared };
        engine.shared.open_schemas().await?;
        engine.open_streams().await?;
        engine.shared.open_views().await?;
        engine.shared.tasks.spawn(remove_dropped(Arc::clone(&engine.shared)));
        Ok(engine)
    }

    /// Ends live queries and what follows views and streams, which do not end by themselves: the doors can then wait
    /// for the rest.
    pub fn end_live(&self) {
        self.shared.live.cancel();
    }

    /// Stops taking work, finishes what was accepted, closes the logs.
    pub async fn shutdown(&self) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        for stream in self.shared.streams() {
            if let Err(error) = stream.log().close().await {
                tracing::error!(stream = %stream.name(), %error, "the log was not closed cleanly");
            }
        }
        // What refers back to the engine would keep it, and its threads, for as long as the process runs.
        *self.shared.context.write() = None;
        self.shared.plans.outdate();
    }

    /// The open stream of that name, for a door that writes to it. The platform's own streams are not open to writers.
    pub fn stream(&self, name: &ObjectName) -> Result<StreamHandle> {
        if name.is_system() {
            return Err(Error::rejected(Code::Denied, format!("stream {name} is written by the platform alone")));
        }
        let open = self.shared.stream(name)?;
        refuse_table(&open)?;
        self.shared.refuse_rows_for_query(name)?;
        let quarantine = self.shared.stream(&quarantine_name()?)?;
        Ok(StreamHandle { open, quarantine, clock: Arc::clone(&self.shared.options.clock) })
    }

    /// Where it is to fail, for tests of what it finds again.
    pub fn faults(&self) -> FaultPoints {
        self.shared.faults.clone()
    }

    /// A new SQL session.
    pub fn session(&self) -> Session {
        Session::new(Arc::clone(&self.shared))
    }

    /// Whether it can serve.
    pub fn health(&self) -> Health {
        let mut problems: Vec<String> = self
            .shared
            .broken
            .read()
            .iter()
            .map(|(name, (kind, reason))| format!("{kind} {name} is not open: {reason}"))
            .collect();
        for stream in self.shared.streams() {
            if let Some(reason) = stream.log().stats().poisoned {
                problems.push(format!("{} {} refuses writes: {reason}", stream.kind(), stream.name()));
            }
        }
        problems.extend(
            self.shared
                .jobs
                .list()
                .into_iter()
                .filter(|j| j.failures_in_a_row > 0)
                .map(|j| format!("{} of {} fails: {}", j.kind, j.object, j.last_error.unwrap_or_default())),
        );
        Health { ready: !self.shared.closing.is_cancelled(), problems }
    }

    /// Moves everything acknowledged so far of one stream to the lake, now. Returns the rows moved.
    pub async fn tier(&self, name: &ObjectName) -> Result<u64> {
        let stream = self.shared.stream(name)?;
        tier_once(&self.shared, &stream).await
    }

    /// Looks after one stream's lake table, now: what the background task does at its interval.
    pub async fn maintain(&self, name: &ObjectName) -> Result<millstream_store::MaintenanceReport> {
        let stream = self.shared.stream(name)?;
        Ok(care_once(&self.shared, &stream).await?.1)
    }
}

impl Shared {
    /// The open stream of that name.
    pub(crate) fn stream(&self, name: &ObjectName) -> Result<Arc<OpenStream>> {
        if let Some(stream) = self.streams.read().get(name) {
            return Ok(Arc::clone(stream));
        }
        if is_temporary(name) {
            let missing = || millstream_catalog::Error::NotFound { kind: "table", name: name.name().to_owned() };
            return Ok(self.temporary.get(name).ok_or_else(missing)?);
        }
        if let Some((kind, reason)) = self.broken.read().get(name) {
            return Err(Error::rejected(Code::DataCorrupted, format!("{kind} {name} is not open: {reason}")));
        }
        Err(millstream_catalog::Error::NotFound { kind: "stream", name: name.to_string() }.into())
    }

    /// The open materialized view of that name.
    pub(crate) fn view(&self, name: &ObjectName) -> Option<Arc<OpenView>> {
        self.views.read().get(name).filter(|view| view.stream().is_none() && !view.is_plain()).cloned()
    }

    /// The plain view of that name.
    pub(crate) fn plain_view(&self, name: &ObjectName) -> Option<Arc<OpenView>> {
        self.views.read().get(name).filter(|view| view.is_plain()).cloned()
    }

    /// The view that writes the stream of that name, if a query does.
    pub(crate) fn writer(&self, stream: &ObjectName) -> Option<Arc<OpenView>> {
        self.views.read().get(stream).filter(|view| view.stream().is_some()).cloned()
    }

    /// Refuses rows for a stream that a query writes.
    pub(crate) fn refuse_rows_for_query(&self, stream: &ObjectName) -> Result<()> {
        if self.writer(stream).is_none() {
            return Ok(());
        }
        Err(Error::Rejected {
            code: Code::WrongObjectType,
            message: format!("stream {stream} takes no rows: its query alone writes it"),
            hint: Some(format!("send the rows to what it reads; SHOW CREATE STREAM {stream} says what that is")),
            position: None,
        })
    }

    /// Every view that is kept up to date, by name: materialized ones and those that write streams.
    pub(crate) fn views(&self) -> Vec<Arc<OpenView>> {
        let mut views = self.all_views();
        views.retain(|view| !view.is_plain());
        views
    }

    /// Every view, by name.
    pub(crate) fn all_views(&self) -> Vec<Arc<OpenView>> {
        let mut views: Vec<_> = self.views.read().values().cloned().collect();
        views.sort_by_key(|view| view.name());
        views
    }

    /// Whether a stream of that name is known, open or not.
    pub(crate) fn knows(&self, name: &ObjectName) -> bool {
        self.streams.read().contains_key(name)
            || self.broken.read().contains_key(name)
            || self.temporary.get(name).is_some()
    }

    /// Whether a stream or table of that name has hidden columns.
    pub(crate) fn hides_columns(&self, name: &ObjectName) -> bool {
        self.knows(name) && !self.stream(name).is_ok_and(|open| open.is_others())
    }

    /// What could not be opened under that name.
    pub(crate) fn broken_kind(&self, name: &ObjectName) -> Option<&'static str> {
        self.broken.read().get(name).map(|(kind, _)| *kind)
    }

    /// Every open stream and table, by name.
    pub(crate) fn streams(&self) -> Vec<Arc<OpenStream>> {
        let mut streams: Vec<_> = self.streams.read().values().cloned().collect();
        streams.sort_by(|a, b| a.name().cmp(b.name()));
        streams
    }

    /// Streams or tables, as `kind` says, that could not be opened, with the reason.
    pub(crate) fn broken(&self, kind: &str) -> Vec<(ObjectName, String)> {
        let broken = self.broken.read();
        let of_kind = broken.iter().filter(|(_, (of, _))| *of == kind);
        of_kind.map(|(name, (_, reason))| (name.clone(), reason.clone())).collect()
    }

    /// The context that sessions are made from.
    pub(crate) fn context(&self) -> Result<SessionContext> {
        let context = self.context.read().clone();
        context.ok_or_else(|| Error::rejected(Code::ShuttingDown, "the node is closing: try again when it is open"))
    }
}

/// The name of the quarantine stream.
pub(crate) fn quarantine_name() -> Result<ObjectName> {
    Ok(ObjectName::new(SYSTEM_SCHEMA, QUARANTINE)?)
}
