//! Owns Delta tables that lie at places of their own and that others write to: how they are opened and made, and what
//! is read of their logs.
//!
//! Such a table has no hidden columns and no positions: its columns are what its schema says, and each look at it
//! begins with a look at its log.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use chrono::{DateTime, Utc};
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::StreamExt;
use millstream_catalog::{HIDDEN_COLUMNS, StreamId};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::action::{About, Action, Metadata, Protocol, format};
use crate::evolve::owner;
use crate::features::unreadable;
use crate::history::History;
use crate::lake::{LakeOptions, failed, unstorable};
use crate::layout::Layout;
use crate::schema::{delta_field, has_timestamp_ntz, log_field};
use crate::state::TableState;
use crate::table::{LakeSnapshot, LakeTable};
use crate::write::is_url;
use crate::{Error, Result};

/// What tells a commit from another of the same version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitMark {
    e_tag: Option<String>,
    modified: DateTime<Utc>,
}

impl LakeTable {
    /// The Delta table at `url`, which others made; `None` when there is none. `store` is the whole file system or
    /// bucket. `id` is who writes to it here; `sorted_by` is what the rows of files that are written are sorted by,
    /// `options` how large they are.
    pub async fn open_at(
        url: &Url,
        store: &Arc<dyn ObjectStore>,
        id: StreamId,
        sorted_by: &[String],
        options: LakeOptions,
    ) -> Result<Option<LakeTable>> {
        let history = history_at(url, store);
        let mut state = history.load().await?;
        if state.version < 0 {
            return Ok(None);
        }
        take_columns(&history, &mut state)?;
        let layout = Layout {
            partitioned_by: state.partitioned_by().to_vec(),
            sorted_by: sorted_by.to_vec(),
            ..Layout::default()
        };
        let (url, engine_url) = (folder_url(url), engine_url(url));
        let table = LakeTable::new(history, url, engine_url, id, options, layout, state);
        Ok(Some(table.of_others()))
    }

    /// Makes an empty Delta table at `url`, where no files are yet.
    pub async fn create_at(
        url: &Url,
        store: &Arc<dyn ObjectStore>,
        schema: &SchemaRef,
        partitioned_by: &[String],
    ) -> Result<()> {
        let history = history_at(url, store);
        let first = store.list(Some(&history.folder)).next().await.transpose();
        if first.map_err(failed("list", &history.folder))?.is_some() {
            let reason = "there are files and no Delta log; CONVERT TO DELTA parquet.'…' makes a table of Parquet files, \
                          or name an empty folder";
            return Err(Error::Refused { table: history.table, reason: reason.to_owned() });
        }
        let fields = schema.fields().iter().map(|f| delta_field(f).ok_or_else(|| history.misfit(unstorable(f.name()))));
        let now_ms = Utc::now().timestamp_millis();
        let metadata = Metadata::new(
            Uuid::new_v4().to_string(),
            fields.collect::<Result<Vec<_>>>()?,
            partitioned_by.to_vec(),
            BTreeMap::new(),
            now_ms,
        );
        let protocol = Protocol::new(has_timestamp_ntz(schema.fields()));
        let actions = [Action::Protocol(protocol), Action::Metadata(metadata)];
        first_commit(&history, &About::new("CREATE TABLE", now_ms), &actions).await
    }

    /// The newest snapshot, with what others committed.
    pub async fn newest(&self) -> Result<Arc<LakeSnapshot>> {
        let known = self.snapshot().version;
        let now = self.commit_there(known).await?;
        let seen = self.inner.newest_seen.lock().clone();
        let is_same = match seen {
            Some((version, seen)) if version == known => now.as_ref() == Some(&seen),
            _ => now.is_some(),
        };
        // Otherwise its log was cleaned up since, or the table is gone, or another was made in its place.
        let snapshot = if is_same { self.refresh().await? } else { self.load_again().await? };
        let newest = match now.filter(|_| is_same && snapshot.version == known) {
            Some(now) => Some(now),
            None => self.commit_there(snapshot.version).await?,
        };
        *self.inner.newest_seen.lock() = newest.map(|newest| (snapshot.version, newest));
        Ok(snapshot)
    }

    /// What tells a version's commit from another that took its place; `None` when it is not there.
    async fn commit_there(&self, version: i64) -> Result<Option<CommitMark>> {
        let History { store, .. } = &self.inner.history;
        let commit = self.inner.history.commit_path(version);
        match store.head(&commit).await {
            Ok(found) => Ok(Some(CommitMark { e_tag: found.e_tag, modified: found.last_modified })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed("read", &commit)(e)),
        }
    }

    async fn load_again(&self) -> Result<Arc<LakeSnapshot>> {
        let history = &self.inner.history;
        let _commit = self.inner.commit.lock().await;
        let mut state = history.load().await?;
        if state.version < 0 {
            return Err(Error::Refused {
                table: history.table.clone(),
                reason: "there is no Delta table any more; restore its files, or DROP TABLE".to_owned(),
            });
        }
        take_columns(history, &mut state)?;
        Ok(self.publish(state))
    }
}

impl LakeSnapshot {
    /// The columns that readers get, without the hidden ones of a table that Millstream keeps.
    pub fn columns(&self) -> SchemaRef {
        let Some(schema) = &self.state.log_schema else { return Arc::new(Schema::empty()) };
        match self.is_kept_by_millstream() {
            false => schema.clone(),
            true => {
                let own = schema.fields().iter().filter(|f| !HIDDEN_COLUMNS.contains(&f.name().as_str()));
                Arc::new(Schema::new(own.cloned().collect::<Vec<_>>()))
            }
        }
    }

    /// The columns that name folders.
    pub fn partitioned_by(&self) -> &[String] {
        self.state.partitioned_by()
    }

    /// Whether the table is a stream or a table of a Millstream, which alone may write to it.
    pub fn is_kept_by_millstream(&self) -> bool {
        self.state.metadata.as_ref().and_then(owner).is_some()
    }
}

/// Gives a state the columns that its schema says; refuses what cannot be read.
pub(crate) fn take_columns(history: &History, state: &mut TableState) -> Result<()> {
    let refused = |reason: String| Error::Refused { table: history.table.clone(), reason };
    let (Some(metadata), Some(protocol)) = (&state.metadata, &state.protocol) else {
        return Err(history.misfit("its log has no schema; restore the first commit".into()));
    };
    if let Some(feature) = unreadable(protocol, metadata) {
        return Err(refused(format!(
            "it needs the Delta feature {feature}, which Millstream does not read; drop the feature with the engine that \
             made the table, or copy the table without it"
        )));
    }
    // Who may name a table's place may not read other places by what its log says.
    if let Some(file) = state.files.keys().find(|file| is_url(file) && !file.starts_with(&history.table)) {
        return Err(refused(format!(
            "its log names the file {file}, which is not in its folder; copy the table with the engine that made it"
        )));
    }
    let fields = metadata.fields().map_err(|e| history.misfit(format!("its schema cannot be read: {e}")))?;
    let fields = fields.iter().map(|field| {
        log_field(field).ok_or_else(|| {
            refused(format!(
                "column {} has the type {}, which Millstream does not have; copy the table without it",
                field["name"],
                type_name(&field["type"])
            ))
        })
    });
    let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
    state.set_log_schema(schema);
    Ok(())
}

fn type_name(delta: &Value) -> String {
    delta.as_str().map_or_else(|| delta["type"].as_str().unwrap_or_default().to_owned(), str::to_owned)
}

/// Writes version 0 of a table.
pub(crate) async fn first_commit(history: &History, about: &About, actions: &[Action]) -> Result<()> {
    let bytes =
        format(about, actions).map_err(|e| history.misfit(format!("its first commit cannot be written: {e}")))?;
    let path = history.commit_path(0);
    match history.store.put_opts(&path, bytes.into(), PutMode::Create.into()).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::AlreadyExists { .. }) => {
            Err(Error::Clash { table: history.table.clone(), reason: "somebody else made it".to_owned() })
        }
        Err(e) => Err(failed("write", &path)(e)),
    }
}

/// The log of the table at a place.
pub(crate) fn history_at(url: &Url, store: &Arc<dyn ObjectStore>) -> History {
    let url = folder_url(url);
    let folder = Path::from_url_path(url.path()).unwrap_or_default();
    let own_url = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    History { store: store.clone(), folder, table: url.to_string(), own_url }
}

/// The URL with a `/` at its end.
fn folder_url(url: &Url) -> Url {
    let mut url = url.clone();
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    url
}

/// The URL that scans name for the store of tables of others.
fn engine_url(url: &Url) -> ObjectStoreUrl {
    let text = format!("external://{}-{}", url.scheme(), url.host_str().unwrap_or("local"));
    ObjectStoreUrl::parse(text).unwrap_or_else(|_| ObjectStoreUrl::local_filesystem())
}
