//! Owns an open stream or table: its definition, its log, its lake table and its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;
use millstream_buffer::Log;
use millstream_catalog::{ObjectName, Positions, Stream, StreamId};
use millstream_store::LakeTable;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::admit::{Admission, Partitioner};
use crate::tables::TableState;

/// A definition with what is compiled from it.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) stream: Arc<Stream>,
    /// [`Stream::schema`].
    pub(crate) schema: SchemaRef,
    /// [`Stream::full_schema`].
    pub(crate) full_schema: SchemaRef,
    /// What its log keeps: the stream's columns, or a table's changes.
    pub(crate) log_schema: SchemaRef,
    pub(crate) admission: Admission,
    pub(crate) partitioner: Partitioner,
}

/// Figures that only this process counts; they start at zero with it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted_rows: AtomicU64,
    pub(crate) quarantined_rows: AtomicU64,
    pub(crate) duplicate_requests: AtomicU64,
    pub(crate) unknown_fields: AtomicU64,
    pub(crate) tiered_rows: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// A stream that takes rows and answers queries, under one name.
#[derive(Debug)]
pub(crate) struct OpenStream {
    name: ObjectName,
    /// Ends the background tasks that know it by this name.
    pub(crate) closing: CancellationToken,
    opened: Arc<Opened>,
}

/// What an open stream has, whatever it is called.
#[derive(Debug)]
pub(crate) struct Opened {
    id: StreamId,
    definition: RwLock<Arc<Definition>>,
    log: Arc<dyn Log>,
    lake: RwLock<Option<LakeTable>>,
    pub(crate) counters: Counters,
    pub(crate) round_robin: AtomicU64,
    /// Held while the lake table is being opened.
    pub(crate) open_lock: tokio::sync::Mutex<()>,
    /// Held while a round of tiering runs.
    pub(crate) tier_lock: tokio::sync::Mutex<()>,
    /// Held while the lake table is cared for; tiering goes on meanwhile, and only commits wait for each other.
    pub(crate) care_lock: tokio::sync::Mutex<()>,
    table: Option<TableState>,
}

impl std::ops::Deref for OpenStream {
    type Target = Opened;

    fn deref(&self) -> &Opened {
        &self.opened
    }
}

impl OpenStream {
    pub(crate) fn new(definition: Definition, log: Arc<dyn Log>, closing: CancellationToken) -> Self {
        let table = definition.stream.table.as_ref().map(|_| TableState::default());
        let name = definition.stream.name.clone();
        let opened = Opened {
            table,
            id: definition.stream.id,
            definition: RwLock::new(Arc::new(definition)),
            log,
            lake: RwLock::new(None),
            counters: Counters::default(),
            round_robin: AtomicU64::new(0),
            open_lock: tokio::sync::Mutex::new(()),
            tier_lock: tokio::sync::Mutex::new(()),
            care_lock: tokio::sync::Mutex::new(()),
        };
        Self { name, closing, opened: Arc::new(opened) }
    }

    /// The same under another name. Who has it under this one goes on with it.
    pub(crate) fn renamed(&self, name: ObjectName, closing: CancellationToken) -> Self {
        Self { name, closing, opened: Arc::clone(&self.opened) }
    }

    pub(crate) fn name(&self) -> &ObjectName {
        &self.name
    }
}

impl Opened {
    pub(crate) fn id(&self) -> StreamId {
        self.id
    }

    /// `table` or `stream`.
    pub(crate) fn kind(&self) -> &'static str {
        self.definition.read().stream.kind()
    }

    /// Whether it is a table that others write to: one with a LOCATION.
    pub(crate) fn is_others(&self) -> bool {
        self.definition.read().stream.table.as_ref().is_some_and(|spec| spec.location.is_some())
    }

    pub(crate) fn definition(&self) -> Arc<Definition> {
        Arc::clone(&self.definition.read())
    }

    pub(crate) fn redefine(&self, definition: Definition) {
        *self.definition.write() = Arc::new(definition);
    }

    /// Lets the log and the lake table go by the options that the definition has.
    pub(crate) fn take_options(&self) {
        let options = self.definition().stream.options.clone();
        if let Some(lake) = self.lake_table() {
            lake.set_policy(&options.policy);
        }
        self.log.set_durability(options.durability);
        self.log.set_retention(options.retention_ms, options.retention_bytes);
    }

    /// What it has as a table; `None` for a stream.
    pub(crate) fn table(&self) -> Option<&TableState> {
        self.table.as_ref()
    }

    pub(crate) fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// The lake table, once it was opened.
    pub(crate) fn lake_table(&self) -> Option<LakeTable> {
        self.lake.read().clone()
    }

    pub(crate) fn set_lake_table(&self, table: LakeTable) {
        *self.lake.write() = Some(table);
    }

    /// Forgets the lake table: whoever needs it next opens it again.
    pub(crate) fn close_lake_table(&self) {
        *self.lake.write() = None;
    }

    /// The offsets that the lake holds all rows before.
    pub(crate) fn lake_positions(&self) -> Positions {
        self.lake_table().map(|table| table.snapshot().positions.clone()).unwrap_or_default()
    }
}
