//! Owns temporary tables: tables of one connection, in memory, gone with it.
//!
//! A temporary table is a table as others are, with a log in memory and a Delta table in a lake in memory; no catalog
//! knows it. Each connection has a schema of its own for them, `pg_temp_n`, which nobody else can name. What they hold is
//! counted to the memory of queries.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::stream::BoxStream;
use millstream_buffer::MemoryLog;
use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectName, StreamId};
use millstream_store::Lake;
use object_store::memory::InMemory;
use parking_lot::{Mutex, RwLock};
use url::Url;
use uuid::Uuid;

use super::Shared;
use crate::background::tier_once;
use crate::ddl::{StreamDraft, TEMPORARY, is_temporary};
use crate::stream::OpenStream;
use crate::tables::insert;
use crate::{Error, Result, Rows};

/// A log in memory goes to the lake in memory, where it is smaller, when it has this many bytes.
const UNMERGED_BYTES: u64 = 4 << 20;

/// The temporary tables of all connections.
#[derive(Debug)]
pub(crate) struct TemporaryTables {
    lake: Lake,
    tables: RwLock<HashMap<ObjectName, Arc<OpenStream>>>,
    connections: AtomicU64,
    /// What they hold, of the memory of queries.
    held: Mutex<Option<MemoryReservation>>,
}

impl TemporaryTables {
    pub(super) fn new() -> Result<Self> {
        let url = Url::parse("memory://temporary/lake")
            .map_err(|e| Error::rejected(Code::Internal, format!("the lake in memory has no place: {e}")))?;
        Ok(Self {
            lake: Lake::new(url, Arc::new(InMemory::new())),
            tables: RwLock::default(),
            connections: AtomicU64::new(0),
            held: Mutex::default(),
        })
    }

    /// The schema of a new connection.
    pub(crate) fn next_schema(&self) -> String {
        format!("{TEMPORARY}_{}", self.connections.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The lake that they lie in.
    pub(crate) fn lake(&self) -> &Lake {
        &self.lake
    }

    pub(super) fn get(&self, name: &ObjectName) -> Option<Arc<OpenStream>> {
        self.tables.read().get(name).cloned()
    }

    /// Whether a connection has any.
    pub(crate) fn any_in(&self, schema: &str) -> bool {
        self.tables.read().keys().any(|name| name.schema() == schema)
    }

    fn all_in(&self, schema: &str) -> Vec<ObjectName> {
        self.tables.read().keys().filter(|name| name.schema() == schema).cloned().collect()
    }

    /// The bytes that they all hold.
    fn bytes(&self) -> usize {
        let bytes = |table: &Arc<OpenStream>| {
            let in_lake = table.lake_table().map_or(0, |lake| lake.snapshot().bytes);
            // What is in the log is in the hot tier too, for readers.
            in_lake + 2 * table.log().stats().memory_bytes
        };
        usize::try_from(self.tables.read().values().map(bytes).sum::<u64>()).unwrap_or(usize::MAX)
    }
}

impl Shared {
    /// Makes a temporary table, with rows if some are given. Returns `None` when it exists and `if_not_exists` is set,
    /// else how many rows it has.
    pub(crate) async fn create_temporary(
        self: &Arc<Self>,
        draft: StreamDraft,
        if_not_exists: bool,
        rows: Option<BoxStream<'_, Result<Rows>>>,
    ) -> Result<Option<u64>> {
        let name = draft.name.clone();
        let taken = || millstream_catalog::Error::AlreadyExists { kind: "table", name: name.name().to_owned() };
        if self.temporary.get(&name).is_some() {
            return if if_not_exists { Ok(None) } else { Err(taken().into()) };
        }
        let stream = draft.into_stream(StreamId(Uuid::now_v7()), self.options.clock.now_us() / 1000)?;
        let definition = self.define(stream)?;
        let log = Arc::new(MemoryLog::new(Arc::clone(&definition.log_schema), 1, Arc::clone(&self.options.clock)));
        let open = Arc::new(OpenStream::new(definition, log, self.closing.child_token()));
        let count = match rows {
            Some(rows) => match insert(self, &open, rows, None).await {
                Ok(applied) => applied.come,
                Err(error) => {
                    self.discard_temporary(&open).await;
                    return Err(error);
                }
            },
            None => 0,
        };
        let lost = {
            let mut tables = self.temporary.tables.write();
            match tables.contains_key(&name) {
                true => true,
                false => {
                    tables.insert(name.clone(), Arc::clone(&open));
                    false
                }
            }
        };
        self.plans.outdate();
        if lost {
            self.discard_temporary(&open).await;
            return Err(taken().into());
        }
        self.count_temporary()?;
        Ok(Some(count))
    }

    /// Drops a temporary table; false when there is none.
    pub(crate) async fn drop_temporary(self: &Arc<Self>, name: &ObjectName) -> bool {
        let Some(open) = self.temporary.tables.write().remove(name) else { return false };
        self.plans.outdate();
        self.discard_temporary(&open).await;
        true
    }

    /// Drops all temporary tables of a connection.
    pub(crate) async fn drop_all_temporary(self: &Arc<Self>, schema: &str) {
        for name in self.temporary.all_in(schema) {
            self.drop_temporary(&name).await;
        }
    }

    async fn discard_temporary(&self, open: &Arc<OpenStream>) {
        open.closing.cancel();
        let _no_tiering = open.tier_lock.lock().await;
        drop(open.log().close().await);
        if let Err(error) = self.temporary.lake.remove(open.name(), open.id()).await {
            tracing::warn!(table = %open.name(), %error, "a temporary table's memory is not free");
        }
        let _ = self.count_temporary();
    }

    /// Counts what temporary tables hold, with `more` that is about to come.
    fn reserve_temporary(&self, more: usize) -> Result<()> {
        let pool = Arc::clone(&self.context()?.runtime_env().memory_pool);
        let mut held = self.temporary.held.lock();
        let held = held.get_or_insert_with(|| MemoryConsumer::new("temporary tables").register(&pool));
        let bytes = self.temporary.bytes();
        held.try_resize(bytes.saturating_add(more)).map_err(|_| Error::Rejected {
            code: Code::OutOfMemory,
            message: format!(
                "temporary tables are in memory and hold {bytes} bytes: {more} more are above what queries may use together"
            ),
            hint: Some(
                "DROP or TRUNCATE temporary tables, use a table (CREATE TABLE), or raise query.memory in the configuration"
                    .to_owned(),
            ),
            position: None,
        })
    }

    fn count_temporary(&self) -> Result<()> {
        self.reserve_temporary(0)
    }

    /// Makes room for a statement that changes a temporary table: what lies in its log becomes smaller.
    pub(crate) async fn make_temporary_room(self: &Arc<Self>, table: &Arc<OpenStream>) -> Result<()> {
        let in_log = table.log().view().size_since(&table.lake_positions()).1;
        let in_files = match table.table() {
            Some(state) => state.snapshot(self, table).await?.hot.file_bytes(),
            None => 0,
        };
        if in_log + in_files > UNMERGED_BYTES {
            tier_once(self, table).await?;
            if let Some(lake) = table.lake_table() {
                let now_ms = self.options.clock.now_us() / 1000;
                lake.maintain(std::time::Duration::ZERO, now_ms).await?;
            }
        }
        self.count_temporary()
    }

    /// Refuses rows for a temporary table that would not fit.
    pub(crate) fn check_temporary_room(&self, table: &OpenStream, more: usize) -> Result<()> {
        if is_temporary(table.name()) { self.reserve_temporary(more) } else { Ok(()) }
    }
}
