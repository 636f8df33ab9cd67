//! Owns the lake: where tables lie, how they are opened, made and removed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::Utc;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt};
use millstream_catalog::{LakePolicy, ObjectName, StreamId};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;
use uuid::Uuid;

use crate::action::{About, Action, Metadata, Protocol};
use crate::clone::{Borrowed, cloned_files, is_marker};
use crate::encode::{Codec, slice_bytes};
use crate::evolve::{OWNER_KEY, SchemaChange, owner, plan_schema};
use crate::history::History;
use crate::layout::Layout;
use crate::places::Places;
use crate::reshape::RESHAPED_KEY;
use crate::schema::{delta_field, has_timestamp_ntz};
use crate::table::LakeTable;
use crate::write::location;
use crate::{Error, Result};

/// The object that says a table is being removed; when it is there, the rest of the folder is as good as gone.
const DROPPED: &str = "_millstream_dropped";

/// Smaller row groups would cost readers more than they spare writers.
const LEAST_GROUP_BYTES: usize = 8 << 20;

/// Sizes that shape a lake's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LakeOptions {
    /// A data file is closed when it has this many bytes.
    pub target_file_bytes: usize,
    /// A row group is closed at this many rows,
    pub row_group_rows: usize,
    /// or at this many bytes, whichever comes first.
    pub row_group_bytes: usize,
    /// How pages are compressed.
    pub codec: Codec,
    /// Files larger than this go to the store in parts of this size; S3 takes no less than 5 MiB.
    pub part_bytes: usize,
    /// This many files of similar, small size are merged into one; `usize::MAX` leaves them as they are.
    pub compact_min_files: usize,
    /// A checkpoint of the table's log is due after this many commits.
    pub checkpoint_every: i64,
}

impl Default for LakeOptions {
    fn default() -> Self {
        Self {
            target_file_bytes: 192 << 20,
            row_group_rows: 256 << 10,
            row_group_bytes: 64 << 20,
            codec: Codec::Zstd,
            part_bytes: 8 << 20,
            compact_min_files: 8,
            checkpoint_every: 20,
        }
    }
}

impl LakeOptions {
    /// The sizes of a table that has a policy of its own.
    pub fn with_policy(self, policy: &LakePolicy) -> Self {
        let target = policy.target_file_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let target_file_bytes = target.unwrap_or(self.target_file_bytes);
        Self {
            target_file_bytes,
            // A file has whole row groups.
            row_group_bytes: self.row_group_bytes.min(target_file_bytes),
            compact_min_files: if policy.optimize_off { usize::MAX } else { self.compact_min_files },
            checkpoint_every: policy.checkpoint_interval.map_or(self.checkpoint_every, i64::from),
            ..self
        }
    }
}

impl LakeOptions {
    /// How many bytes of rows a row group takes at most: a file is closed between two.
    pub(crate) fn group_bytes(&self) -> usize {
        self.row_group_bytes.min(self.target_file_bytes).max(1)
    }

    /// How many of these rows a row group takes at most.
    pub(crate) fn group_rows_of(&self, batch: &RecordBatch) -> usize {
        let by_bytes = self.group_bytes().saturating_mul(batch.num_rows()) / slice_bytes(batch).max(1);
        self.row_group_rows.min(by_bytes).max(1)
    }
}

/// The root of all tables.
#[derive(Debug, Clone)]
pub struct Lake {
    url: Url,
    root: Path,
    store: Arc<dyn ObjectStore>,
    places: Places,
    engine_url: ObjectStoreUrl,
    options: LakeOptions,
}

impl Lake {
    /// A lake on `store`, compressed as suits the place, whose root is `url` (`file:///…` or `s3://bucket/prefix`).
    ///
    /// `store` is the whole file system or bucket, as [`crate::store_from_url`] gives it: the URL's path is a prefix
    /// in it.
    pub fn new(url: Url, store: Arc<dyn ObjectStore>) -> Self {
        let root = Path::from_url_path(url.path()).unwrap_or_default();
        let engine_url = engine_url(&url);
        let codec = if url.scheme() == "file" { Codec::Lz4 } else { Codec::Zstd };
        let options = LakeOptions { codec, ..LakeOptions::default() };
        let places = Places::new(&url, store);
        Self { url, root, store: Arc::new(places.clone()), places, engine_url, options }
    }

    /// The same lake, with what the stores of its cold places are told: credentials, endpoints.
    pub fn with_store_options(self, options: BTreeMap<String, String>) -> Self {
        let places = self.places.with_options(options);
        Self { store: Arc::new(places.clone()), places, ..self }
    }

    /// The same lake with other sizes.
    pub fn with_options(self, options: LakeOptions) -> Self {
        Self { options, ..self }
    }

    /// The same lake with row groups of at most so many bytes, within reason: a writer holds about four of them.
    pub fn with_row_group_bytes(mut self, bytes: usize) -> Self {
        self.options.row_group_bytes = bytes.clamp(LEAST_GROUP_BYTES, LakeOptions::default().row_group_bytes);
        self
    }

    /// Makes the lake's store known to the engine under the URL that its scans name. Scans do it too, for the
    /// environment they are planned in.
    pub fn register(&self, env: &RuntimeEnv) {
        env.register_object_store(self.engine_url.as_ref(), self.store.clone());
    }

    /// Opens the table of a stream at `<root>/<schema>/<name>/`, creating it when it is not there.
    ///
    /// `schema` is the stream's full schema, hidden columns behind. Columns the table lacks are added.
    pub async fn open(&self, name: &ObjectName, id: StreamId, schema: SchemaRef) -> Result<LakeTable> {
        self.open_laid_out(name, id, schema, Layout::default()).await
    }

    /// [`Lake::open`] for a table whose files are laid out by its columns.
    pub async fn open_laid_out(
        &self,
        name: &ObjectName,
        id: StreamId,
        schema: SchemaRef,
        layout: Layout,
    ) -> Result<LakeTable> {
        let history = self.history(name);
        self.finish_removal(&history).await?;
        let mut state = history.load().await?;
        if state.version < 0 {
            self.create(&history, id, &schema, &layout).await?;
            state = history.load().await?;
        }
        let (url, engine_url) = (self.table_url(name), self.engine_url.clone());
        let table = LakeTable::new(history, url, engine_url, id, self.options, layout, state);
        table.set_schema(schema).await?;
        Ok(table)
    }

    /// Deletes the table of a dropped stream: every object under its folder. A table of another stream, which took the
    /// name since, is left alone. Handles of the dropped table must not be used any more.
    pub async fn remove(&self, name: &ObjectName, id: StreamId) -> Result<()> {
        let history = self.history(name);
        self.finish_removal(&history).await?;
        let state = history.load().await?;
        if state.metadata.as_ref().and_then(|m| owner(m)) != Some(id.to_string().as_str()) {
            return Ok(());
        }
        self.begin_removal(&history, &self.borrowed(&history, &state, id)).await?;
        self.finish_removal(&history).await
    }

    /// Marks a table's folder as one that goes. Returns the marker.
    pub(crate) async fn begin_removal(&self, history: &History, borrowed: &Borrowed) -> Result<Path> {
        let marker = history.folder.clone().join(DROPPED);
        let borrowed = serde_json::to_vec(borrowed).unwrap_or_default();
        self.store.put(&marker, borrowed.into()).await.map_err(failed("write", &marker))?;
        Ok(marker)
    }

    /// Deletes what is left of a table whose removal began.
    pub(crate) async fn finish_removal(&self, history: &History) -> Result<()> {
        let folder = &history.folder;
        let marker = folder.clone().join(DROPPED);
        let Some(borrowed) = history.read(&marker).await? else { return Ok(()) };
        // A marker of an older version says nothing more; its table was no clone.
        if let Ok(borrowed) = serde_json::from_slice::<Borrowed>(&borrowed) {
            self.give_back(&borrowed).await?;
            for cold in &borrowed.cold {
                self.remove_cold(&Path::from(cold.as_str())).await?;
            }
        }
        let cloned = cloned_files(&self.store, folder, None).await?;
        let needed: HashSet<Path> = cloned.iter().filter_map(|file| location(folder, file).ok()).collect();
        let mut rest = self.objects(folder).await?;
        rest.retain(|path| *path != marker && !needed.contains(path) && !is_marker(path, folder));
        self.delete(folder, rest).await?;
        self.delete(folder, vec![marker]).await
    }

    /// Deletes what a table has at a cold place, but for what clones need.
    async fn remove_cold(&self, folder: &Path) -> Result<()> {
        let cloned = cloned_files(&self.store, folder, None).await?;
        let needed: HashSet<Path> = cloned.iter().filter_map(|file| location(folder, file).ok()).collect();
        let mut all = self.objects(folder).await?;
        all.retain(|path| !needed.contains(path) && !is_marker(path, folder));
        self.delete(folder, all).await
    }

    async fn create(&self, history: &History, id: StreamId, schema: &SchemaRef, layout: &Layout) -> Result<()> {
        let fields = schema
            .fields()
            .iter()
            .map(|f| delta_field(f).ok_or_else(|| history.misfit(unstorable(f.name()))))
            .collect::<Result<Vec<_>>>()?;
        let now_ms = Utc::now().timestamp_millis();
        let mut properties = BTreeMap::from([(OWNER_KEY.to_owned(), Some(id.to_string()))]);
        if layout.reshaped > 0 {
            properties.insert(RESHAPED_KEY.to_owned(), Some(layout.reshaped.to_string()));
        }
        let actions = [
            Action::Protocol(Protocol::new(has_timestamp_ntz(schema.fields()))),
            Action::Metadata(Metadata::new(
                Uuid::new_v4().to_string(),
                fields,
                layout.partitioned_by.clone(),
                properties,
                now_ms,
            )),
        ];
        let bytes = crate::action::format(&About::new("CREATE TABLE", now_ms), &actions)
            .map_err(|e| history.misfit(format!("its first commit cannot be written: {e}")))?;
        let path = history.commit_path(0);
        let put = self.store.put_opts(&path, bytes.into(), object_store::PutMode::Create.into()).await;
        match put {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(failed("write", &path)(e)),
        }
    }

    /// The log of a table.
    pub(crate) fn history(&self, name: &ObjectName) -> History {
        let folder = self.root.clone().join(name.schema()).join(name.name());
        let own_url = self.places.own_url().to_owned();
        History { store: self.store.clone(), folder, table: self.table_url(name).to_string(), own_url }
    }

    pub(crate) fn table_url(&self, name: &ObjectName) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend([name.schema(), name.name(), ""]);
        }
        url
    }

    /// What scans call the lake's store.
    pub(crate) fn engine_url(&self) -> ObjectStoreUrl {
        self.engine_url.clone()
    }

    /// Sizes that shape its files.
    /// How large the files are that tables write, and how they are cared for.
    pub fn options(&self) -> LakeOptions {
        self.options
    }

    /// The store.
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Whether the lake lies on a local disk.
    pub(crate) fn is_local(&self) -> bool {
        self.url.scheme() == "file"
    }

    /// The URL of an object of the lake's store.
    pub(crate) fn url_of(&self, place: &Path) -> String {
        format!("{}://{}/{place}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }

    /// All objects in a folder.
    pub(crate) async fn objects(&self, folder: &Path) -> Result<Vec<Path>> {
        self.store.list(Some(folder)).map_ok(|o| o.location).try_collect().await.map_err(failed("list", folder))
    }

    /// Deletes objects, of which some may be gone already.
    pub(crate) async fn delete(&self, folder: &Path, paths: Vec<Path>) -> Result<()> {
        let mut results = self.store.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(result) = results.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(failed("delete objects under", folder)(e)),
            }
        }
        Ok(())
    }
}

/// The URL that scans name for the lake's store: a scheme of its own, so that it stands for this store alone.
fn engine_url(url: &Url) -> ObjectStoreUrl {
    // Azure's container may stand before the account.
    let within = if url.username().is_empty() { String::new() } else { format!("{}-", url.username()) };
    let text = format!("lake://{}-{within}{}", url.scheme(), url.host_str().unwrap_or("local"));
    ObjectStoreUrl::parse(text).unwrap_or_else(|_| ObjectStoreUrl::local_filesystem())
}

/// Turns a store's error into one that says what was tried.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl Fn(object_store::Error) -> Error {
    let path = path.to_string();
    move |e| Error::Store { action, path: path.clone(), source: Box::new(e) }
}

/// Why a column cannot be kept.
pub(crate) fn unstorable(column: &str) -> String {
    format!("column {column:?} has a type that Delta tables cannot hold; use one of the types of CREATE STREAM")
}

/// Checks that an opened table can be this stream's, and what its schema lacks.
pub(crate) fn check(
    history: &History,
    state: &crate::state::TableState,
    id: StreamId,
    schema: &SchemaRef,
    layout: &Layout,
) -> Result<Option<SchemaChange>> {
    plan_schema(state, id, schema, layout).map_err(|reason| history.misfit(reason))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn row_groups_are_neither_tiny_nor_larger_than_usual() {
        let groups_of = |bytes| {
            let lake = Lake::new(Url::parse("memory:///").unwrap(), Arc::new(InMemory::new()));
            lake.with_row_group_bytes(bytes).options.row_group_bytes >> 20
        };
        assert_eq!([0, 16 << 20, usize::MAX].map(groups_of), [8, 16, 64]);
    }
}
