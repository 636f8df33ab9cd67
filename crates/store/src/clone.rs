//! Owns clones: tables of their own that begin with another's files, of which none is copied.
//!
//! On a local disk a clone has hard links to the files in its own folder: any Delta reader reads it, and nothing that
//! happens to the source reaches it. On an object store its commit names the source's files by their URLs, and those
//! at a cold place it names so everywhere. Then a marker in the folder where they lie lists them, before the clone is
//! there and until it is gone:
//!
//! ```text
//! <source>/_millstream_clones/<clone's id>.json   ["part-1.parquet", …]: paths in the source's folder
//! ```
//!
//! VACUUM and DROP of the source leave what a marker lists. With the last marker goes what a dropped source left.
//!
//! While a clone is made, its folder has the marker of a table that is being removed: what a crash leaves of it is
//! removed, here and at the sources, as a dropped table is. The clone is there when that marker goes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use chrono::Utc;
use deltalake_core::kernel::{Add, Transaction};
use futures::{StreamExt, TryStreamExt};
use millstream_catalog::{ObjectName, StreamId};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::action::{About, Action, Metadata, format};
use crate::evolve::{OWNER_KEY, owner};
use crate::history::History;
use crate::lake::{Lake, failed};
use crate::reshape::RESHAPED_KEY;
use crate::state::{TableState, rows_app_id};
use crate::table::{LakeSnapshot, LakeTable};
use crate::temperature::{cold_paths, is_table_mark, take_cold_folders};
use crate::write::{is_url, location};
use crate::{Error, Result};

/// The folder of a source's markers.
const CLONES: &str = "_millstream_clones";
/// The table property that names the folders in which a clone's files lie, as a JSON list.
const SOURCES_KEY: &str = "millstream.clone.sources";
/// Files linked at once.
const LINKS_AT_ONCE: usize = 8;

/// What outlives a clone's log while the clone is removed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Borrowed {
    /// The clone.
    id: String,
    /// The folders of its sources.
    sources: Vec<String>,
    /// The folders of its own cold files.
    #[serde(default)]
    pub cold: Vec<String>,
}

impl Lake {
    /// Makes the table of stream `id` a clone of another table at a snapshot: its rows, their numbers and the next one,
    /// its columns and partition columns. It begins at position 0 of its stream's log. Done twice it is done once.
    ///
    /// The snapshot's files must be in this lake. What lies in the source's log is not in its snapshot. After a failure
    /// [`Lake::remove`] takes back what was made of it.
    pub async fn clone_table(
        &self,
        source: &LakeTable,
        snapshot: &Arc<LakeSnapshot>,
        name: &ObjectName,
        id: StreamId,
    ) -> Result<()> {
        let history = self.history(name);
        self.finish_removal(&history).await?;
        let there = history.load().await?;
        if there.version >= 0 {
            return match there.metadata.as_ref().and_then(owner) == Some(id.to_string().as_str()) {
                true => Ok(()),
                false => Err(self.refused(&history, "its folder is taken; clone under another name")),
            };
        }
        let state = &snapshot.state;
        let (Some(metadata), Some(protocol)) = (&state.metadata, &state.protocol) else {
            return Err(source.inner.history.misfit("it has no schema".into()));
        };
        if state.files.values().any(|f| f.add.deletion_vector.is_some()) {
            return Err(self.refused(
                &source.inner.history,
                "it has deletion vectors, which a clone would not; \
                rewrite its files first",
            ));
        }
        let adds: Vec<Add> = state.files.values().map(|f| f.add.clone()).collect();
        let mut metadata = metadata.clone();
        metadata.id = Uuid::new_v4().to_string();
        metadata.configuration.insert(OWNER_KEY.to_owned(), Some(id.to_string()));
        metadata.configuration.remove(RESHAPED_KEY);
        self.borrow_cold(&source.inner.history, &mut metadata);
        let mut sources = metadata_sources(&metadata);
        sources.insert(source.inner.history.folder.to_string());
        let unfinished = Borrowed { id: id.to_string(), sources: sources.into_iter().collect(), cold: vec![] };
        let marker = self.begin_removal(&history, &unfinished).await?;
        let (linked, borrowed) = adds.into_iter().partition(|add| self.is_local() && !is_url(&add.path));
        let mut adds = self.link(&source.inner.history, &history, linked).await?;
        let (named, sources) =
            self.borrow_files(&source.inner.history, metadata_sources(&metadata), id, borrowed).await?;
        adds.extend(named);
        match sources.is_empty() {
            true => metadata.configuration.remove(SOURCES_KEY),
            false => metadata.configuration.insert(SOURCES_KEY.to_owned(), serde_json::to_string(&sources).ok()),
        };
        let now_ms = Utc::now().timestamp_millis();
        let mut actions = vec![Action::Protocol(protocol.clone()), Action::Metadata(metadata)];
        actions.push(Action::Txn(Transaction::new(rows_app_id(id), snapshot.next_row())));
        actions.extend(adds.into_iter().map(|add| Action::Add(Add { data_change: true, ..add })));
        let about = About::new("CLONE", now_ms)
            .with_parameter("source", source.inner.url.as_str())
            .with_parameter("sourceVersion", snapshot.version.to_string());
        let bytes =
            format(&about, &actions).map_err(|e| history.misfit(format!("its first commit cannot be written: {e}")))?;
        let path = history.commit_path(0);
        match self.store().put_opts(&path, bytes.into(), PutMode::Create.into()).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => self.delete(&history.folder, vec![marker]).await,
            Err(e) => Err(failed("write", &path)(e)),
        }
    }

    /// Gives the clone's folder hard links to files.
    async fn link(&self, from: &History, to: &History, adds: Vec<Add>) -> Result<Vec<Add>> {
        let bad = |e: object_store::path::Error| to.misfit(format!("a file's path cannot be used: {e}"));
        futures::stream::iter(adds)
            .map(|add| async move {
                let (source, target) =
                    (from.location(&add.path).map_err(bad)?, location(&to.folder, &add.path).map_err(bad)?);
                self.store().copy(&source, &target).await.map_err(failed("link", &source))?;
                Ok(add)
            })
            .buffered(LINKS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Names files by their URLs, after a marker in each folder where they lie says that they are needed.
    async fn borrow_files(
        &self,
        from: &History,
        mut sources: BTreeSet<String>,
        id: StreamId,
        adds: Vec<Add>,
    ) -> Result<(Vec<Add>, BTreeSet<String>)> {
        sources.insert(from.folder.to_string());
        let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut named = Vec::with_capacity(adds.len());
        for add in adds {
            let place =
                from.location(&add.path).map_err(|e| from.misfit(format!("a file's path cannot be used: {e}")))?;
            let within = |folder: &&String| place.as_ref().starts_with(&format!("{folder}/"));
            let folder = sources
                .iter()
                .filter(within)
                .max_by_key(|f| f.len())
                .ok_or_else(|| self.refused(from, "its files lie in another lake; clone the table there"))?;
            lists.entry(folder).or_default().push(place.as_ref()[folder.len() + 1..].to_owned());
            let path = if is_url(&add.path) { add.path.clone() } else { self.url_of(&place) };
            named.push(Add { path, ..add });
        }
        for (folder, paths) in &lists {
            let marker = marker_in(&Path::from(*folder), &id.to_string());
            let text = serde_json::to_vec(paths).map_err(|e| from.misfit(format!("{e}")))?;
            self.store().put(&marker, text.into()).await.map_err(failed("write", &marker))?;
        }
        Ok((named, lists.keys().map(|f| (*f).to_owned()).collect()))
    }

    /// What a table that is to be removed borrows of others, and what it has elsewhere.
    pub(crate) fn borrowed(&self, history: &History, state: &TableState, id: StreamId) -> Borrowed {
        let sources = state.metadata.as_ref().map(metadata_sources).unwrap_or_default().into_iter().collect();
        Borrowed { id: id.to_string(), sources, cold: cold_paths(history, state, id) }
    }

    /// Makes the cold folders of a clone's source folders that it borrows of.
    fn borrow_cold(&self, from: &History, metadata: &mut Metadata) {
        let cold = take_cold_folders(metadata);
        let cold = cold.iter().filter_map(|url| from.location(url).ok()).map(|path| path.to_string());
        let mut sources = metadata_sources(metadata);
        let before = sources.len();
        sources.extend(cold);
        if sources.len() > before {
            metadata.configuration.insert(SOURCES_KEY.to_owned(), serde_json::to_string(&sources).ok());
        }
    }

    /// Gives back what a removed clone borrowed, and deletes what only it kept of sources that were dropped.
    pub(crate) async fn give_back(&self, borrowed: &Borrowed) -> Result<()> {
        for folder in &borrowed.sources {
            let folder = Path::from(folder.as_str());
            let marker = marker_in(&folder, &borrowed.id);
            let mine = listed_in(self.store(), &marker).await?;
            let log = folder.clone().join("_delta_log");
            let objects = self.objects(&folder).await?;
            let is_there = objects.iter().any(|o| o.prefix_matches(&log) || is_table_mark(o, &folder));
            if !is_there {
                let others = cloned_files(self.store(), &folder, Some(&borrowed.id)).await?;
                let unneeded = mine.into_iter().filter(|path| !others.contains(path));
                let paths = unneeded.filter_map(|path| location(&folder, &path).ok()).collect();
                self.delete(&folder, paths).await?;
            }
            self.delete(&folder, vec![marker]).await?;
        }
        Ok(())
    }

    fn refused(&self, history: &History, reason: &str) -> Error {
        Error::Refused { table: history.table.clone(), reason: reason.to_owned() }
    }
}

/// The files of a table's folder that clones name; those that only `except` names are left out.
pub(crate) async fn cloned_files(
    store: &Arc<dyn ObjectStore>,
    folder: &Path,
    except: Option<&str>,
) -> Result<HashSet<String>> {
    let clones = folder.clone().join(CLONES);
    let markers: Vec<_> = store.list(Some(&clones)).try_collect().await.map_err(failed("list", &clones))?;
    let mut all = HashSet::new();
    for marker in markers {
        if except.is_none_or(|id| marker.location != marker_in(folder, id)) {
            all.extend(listed_in(store, &marker.location).await?);
        }
    }
    Ok(all)
}

/// Whether an object is a marker of a clone in a folder.
pub(crate) fn is_marker(location: &Path, folder: &Path) -> bool {
    location.prefix_matches(&folder.clone().join(CLONES))
}

fn marker_in(folder: &Path, id: &str) -> Path {
    folder.clone().join(CLONES).join(format!("{id}.json"))
}

async fn listed_in(store: &Arc<dyn ObjectStore>, marker: &Path) -> Result<Vec<String>> {
    let bytes = match store.get(marker).await {
        Ok(found) => found.bytes().await.map_err(failed("read", marker))?,
        Err(object_store::Error::NotFound { .. }) => return Ok(vec![]),
        Err(e) => return Err(failed("read", marker)(e)),
    };
    serde_json::from_slice(&bytes).map_err(|e| Error::Misfit {
        table: marker.to_string(),
        reason: format!("the list of a clone's files cannot be read: {e}; restore it"),
    })
}

fn metadata_sources(metadata: &Metadata) -> BTreeSet<String> {
    let text = metadata.configuration.get(SOURCES_KEY).and_then(Option::as_deref);
    text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default()
}
