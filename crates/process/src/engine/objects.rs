//! Owns the life of streams: opening at start, creation, change and removal.
//!
//! A stream consists of a catalog row, a log folder named by its id, and a lake folder named by its name. The catalog
//! row decides: the log folder is made before it and a folder without a row is removed at start; a drop removes the
//! row first (leaving a tombstone), then the folders; the tombstone goes last. So a crash anywhere leaves the stream
//! either whole or gone.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_buffer::{DiskLog, DiskLogOptions, Log, MemoryLog};
use millstream_catalog::{Column, DataType, ObjectId, ObjectName, Stream, StreamId, StreamOptions, View};
use uuid::Uuid;

use super::{Engine, LogEngine, Shared, quarantine_name};
use crate::admit::{Admission, Partitioner};
use crate::background::{maintain_table, tier_stream};
use crate::ddl::StreamDraft;
use crate::files::check_folder;
use crate::stream::{Definition, OpenStream};
use crate::tables::changelog_schema;
use crate::{Error, Result};

/// Keys of requests that a log remembers.
pub(super) const PRODUCER_KEYS: usize = 1_000_000;
/// Keys that the log of a stream remembers which a query alone writes: more than one outbox has pieces.
const DERIVED_KEYS: usize = 4096;

impl Engine {
    /// Opens every stream of the catalog; creates the platform's own on the first start.
    pub(super) async fn open_streams(&self) -> Result<()> {
        let shared = &self.shared;
        let mut streams = shared.options.catalog.streams().await?;
        if !streams.iter().any(|s| s.name.is_system()) {
            let quarantine = quarantine_definition(shared.options.clock.now_us() / 1000)?;
            shared.options.catalog.create_stream(&quarantine).await?;
            streams.push(quarantine);
        }
        remove_unknown_logs(shared, &streams).await;
        let views = shared.options.catalog.views().await?;
        for stream in streams {
            let (name, kind) = (stream.name.clone(), stream.kind());
            let derived = views.iter().any(|view| view.object() == ObjectId::Stream(stream.id));
            let keys = if derived { DERIVED_KEYS } else { PRODUCER_KEYS };
            if let Err(error) = shared.open_stream(stream, keys).await {
                let reason = crate::error::chain(&error);
                tracing::error!(stream = %name, error = %reason, "the {kind} cannot be opened");
                shared.broken.write().insert(name, (kind, reason));
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Creates a stream or table. Returns false when it exists and `if_not_exists` is set.
    pub(crate) async fn create_stream(self: &Arc<Self>, draft: StreamDraft, if_not_exists: bool) -> Result<bool> {
        let _ddl = self.ddl.lock().await;
        let name = draft.name.clone();
        self.check_schema(&name)?;
        if let Some(kind) = self.kind_of(&name) {
            let taken = millstream_catalog::Error::AlreadyExists { kind, name: name.to_string() };
            return if if_not_exists { Ok(false) } else { Err(taken.into()) };
        }
        let now_ms = self.options.clock.now_us() / 1000;
        let mut stream = draft.into_stream(StreamId(Uuid::now_v7()), now_ms)?;
        self.settle_folder(&mut stream).await?;
        self.check_places(&stream)?;
        let definition = self.define(stream.clone())?;
        let log = self.open_log(&definition, PRODUCER_KEYS).await?;
        if let Err(error) = self.options.catalog.create_stream(&stream).await {
            drop(log.close().await);
            drop(self.remove_log(stream.id).await);
            return Err(error.into());
        }
        self.attach(definition, log);
        Ok(true)
    }

    /// Refuses a place for files that statements may not touch.
    pub(super) fn check_places(&self, stream: &Stream) -> Result<()> {
        match &stream.options.policy.cold {
            Some(place) => check_folder(&self.options.files, place),
            None => Ok(()),
        }
    }

    /// Adds a stream and the view that writes it.
    pub(crate) async fn add_derived_stream(self: &Arc<Self>, mut stream: Stream, view: &View) -> Result<()> {
        self.settle_folder(&mut stream).await?;
        self.check_places(&stream)?;
        let definition = self.define(stream.clone())?;
        let log = self.open_log(&definition, DERIVED_KEYS).await?;
        if let Err(error) = self.options.catalog.create_derived_stream(&stream, view).await {
            drop(log.close().await);
            drop(self.remove_log(stream.id).await);
            return Err(error.into());
        }
        self.attach(definition, log);
        Ok(())
    }

    /// Replaces a stream's definition by what `change` makes of it. Returns false when that is nothing.
    pub(crate) async fn alter_stream(
        self: &Arc<Self>,
        name: &ObjectName,
        change: impl FnOnce(&Stream) -> Result<Option<Stream>>,
    ) -> Result<bool> {
        let _ddl = self.ddl.lock().await;
        self.check_schema(name)?;
        let open = self.stream(name)?;
        let before = Arc::clone(&open.definition().stream);
        let Some(stream) = change(&before)? else { return Ok(false) };
        self.check_places(&stream)?;
        let definition = self.define(stream.clone())?;
        self.options.catalog.alter_stream(&stream).await?;
        let schema = Arc::clone(&definition.log_schema);
        open.redefine(definition);
        open.take_options();
        self.plans.outdate();
        // After a crash here the log gets its schema when the stream is opened.
        open.log().set_schema(schema).await?;
        Ok(true)
    }

    /// Drops a stream: its definition, its log and its lake folder, the query that writes it, and with `cascade` what
    /// reads it. Returns false when there is none and `if_exists`.
    pub(crate) async fn drop_stream(
        self: &Arc<Self>,
        name: &ObjectName,
        if_exists: bool,
        cascade: bool,
    ) -> Result<bool> {
        let _ddl = self.ddl.lock().await;
        self.check_schema(name)?;
        let open = match self.stream_alone(name, "DROP") {
            Ok(open) => open,
            Err(_) if if_exists && !self.knows(name) => return Ok(false),
            Err(error) => return Err(error),
        };
        let writer = self.writer(name);
        let mut going: Vec<_> = writer.iter().map(Arc::clone).collect();
        if cascade {
            self.add_dependents_of(ObjectId::Stream(open.id()), &mut going);
        }
        let alone = if writer.is_none() { vec![open] } else { vec![] };
        self.remove_objects(&going, &alone).await?;
        Ok(true)
    }

    /// Removes a stream that is gone from the catalog: its log and its lake folder.
    pub(crate) async fn discard_stream(self: &Arc<Self>, open: &Arc<OpenStream>) {
        let name = open.name();
        {
            let mut streams = self.streams.write();
            // A table that never came to be may have the name of one that did.
            if streams.get(name).is_some_and(|there| there.id() == open.id()) {
                streams.remove(name);
            }
        }
        self.plans.outdate();
        open.closing.cancel();
        // A round of tiering or maintenance that is under way ends before the folders go.
        let _no_tiering = open.tier_lock.lock().await;
        let _no_care = open.care_lock.lock().await;
        drop(open.log().close().await);
        if let Err(error) = self.remove_log(open.id()).await {
            tracing::warn!(stream = %name, %error, "the dropped stream's log goes at the next start");
        }
        let removed = async {
            self.lake.remove(&open.definition().stream.folder(), open.id()).await?;
            Ok::<_, Error>(self.options.catalog.forget_dropped(open.id()).await?)
        };
        if let Err(error) = removed.await {
            tracing::warn!(stream = %name, %error, "the dropped stream's lake folder goes later");
            self.cleanup_now.notify_one();
        }
    }

    /// Compiles a definition: defaults and checks are planned, so that a wrong one fails here.
    pub(crate) fn define(&self, stream: Stream) -> Result<Definition> {
        let state = self.context()?.state();
        let admission = Admission::compile(&stream, &state)?;
        let partitioner = Partitioner::new(&stream);
        let (schema, full_schema) = (stream.schema(), stream.full_schema());
        let log_schema = if stream.table.is_some() { changelog_schema(&stream) } else { Arc::clone(&schema) };
        Ok(Definition { stream: Arc::new(stream), schema, full_schema, log_schema, admission, partitioner })
    }

    async fn open_stream(self: &Arc<Self>, stream: Stream, keys: usize) -> Result<()> {
        let definition = self.define(stream)?;
        let log = self.open_log(&definition, keys).await?;
        self.attach(definition, log);
        Ok(())
    }

    pub(super) async fn open_log(&self, definition: &Definition, keys: usize) -> Result<Arc<dyn Log>> {
        let stream = &definition.stream;
        let is_others = stream.table.as_ref().is_some_and(|spec| spec.location.is_some());
        let log: Arc<dyn Log> = match self.options.log_engine {
            // A table that others write to has no log: nothing is ever appended.
            _ if is_others => Arc::new(MemoryLog::new(
                Arc::clone(&definition.log_schema),
                stream.options.partitions,
                Arc::clone(&self.options.clock),
            )),
            LogEngine::Memory => Arc::new(MemoryLog::new(
                Arc::clone(&definition.log_schema),
                stream.options.partitions,
                Arc::clone(&self.options.clock),
            )),
            LogEngine::Disk => Arc::new(DiskLog::open(self.log_options(definition, keys)).await?),
        };
        log.set_retention(stream.options.retention_ms, stream.options.retention_bytes);
        if log.schema() != definition.log_schema {
            log.set_schema(Arc::clone(&definition.log_schema)).await?;
        }
        Ok(log)
    }

    fn log_options(&self, definition: &Definition, keys: usize) -> DiskLogOptions {
        let stream = &definition.stream;
        let mut options =
            DiskLogOptions::new(self.log_dir(stream.id), Arc::clone(&definition.log_schema), stream.options.partitions);
        options.clock = Arc::clone(&self.options.clock);
        options.budget = Arc::clone(&self.ingest_budget);
        options.durability = stream.options.durability;
        options.memory_bytes = self.options.log_memory_bytes;
        options.key_limit = keys;
        options
    }

    fn attach(self: &Arc<Self>, definition: Definition, log: Arc<dyn Log>) {
        self.attach_open(Arc::new(OpenStream::new(definition, log, self.closing.child_token())));
    }

    /// Lets everybody see an open stream, and looks after it from now on.
    pub(super) fn attach_open(self: &Arc<Self>, stream: Arc<OpenStream>) {
        let name = stream.name().clone();
        if !stream.is_others() {
            self.tasks.spawn(tier_stream(Arc::clone(self), Arc::clone(&stream)));
            self.tasks.spawn(maintain_table(Arc::clone(self), Arc::clone(&stream)));
        }
        self.streams.write().insert(name, stream);
        self.plans.outdate();
    }

    fn logs_dir(&self) -> PathBuf {
        self.options.data_dir.join("log")
    }

    fn log_dir(&self, id: StreamId) -> PathBuf {
        self.logs_dir().join(id.to_string())
    }

    pub(crate) async fn remove_log(&self, id: StreamId) -> Result<()> {
        if self.options.log_engine == LogEngine::Memory {
            return Ok(());
        }
        DiskLog::remove(&self.log_dir(id)).await.map_err(Error::from)
    }
}

/// Removes log folders that belong to no stream: what a CREATE or DROP that was cut short left.
async fn remove_unknown_logs(shared: &Shared, streams: &[Stream]) {
    let Ok(mut entries) = tokio::fs::read_dir(shared.logs_dir()).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let folder = entry.file_name();
        let known = streams.iter().any(|s| folder.to_str() == Some(&s.id.to_string()));
        // Only what looks like a stream's folder is Millstream's to remove.
        let id = folder.to_str().and_then(|f| Uuid::try_parse(f).ok());
        let Some(id) = id.filter(|_| !known) else { continue };
        if let Err(error) = shared.remove_log(StreamId(id)).await {
            tracing::warn!(folder = ?entry.path(), %error, "a leftover log folder was not removed");
        }
    }
}

fn quarantine_definition(now_ms: i64) -> Result<Stream> {
    Ok(Stream {
        id: StreamId(Uuid::now_v7()),
        name: quarantine_name()?,
        columns: vec![
            Column::new("stream", DataType::Text).not_null(),
            Column::new("reason", DataType::Text).not_null(),
            Column::new("original", DataType::Text).not_null(),
            Column::new("time", DataType::TimestampTz).not_null(),
        ],
        checks: vec![],
        watermark: None,
        partition_by: vec![],
        options: StreamOptions::default(),
        comment: Some("rows that were refused, with the reason and their original text".into()),
        version: 1,
        created_at_ms: now_ms,
        table: None,
    })
}
