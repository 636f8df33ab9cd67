//! Owns temperature: old files move to a cold place, as a whole, and stay the table's.
//!
//! A file that moved is named by its URL in the table's log, so there is one table, one snapshot, one commit for each
//! step: files are copied, then one commit takes the old names out and the new ones in. Readers see the one or the
//! other; what a crash leaves at the cold place is in no commit, and vacuum deletes it there as it does in the table's
//! own folder.
//!
//! ```text
//! <cold place>/<table's id>/part-….parquet        the files of one table
//! <cold place>/<table's id>/_millstream_table     there while the table is
//! ```
//!
//! The places that a table ever had are a property of it, set before the first file goes there. Rows of cold files
//! change and go as others do: what is left of such a file is written to the table's own folder, and moves again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deltalake_core::kernel::Add;
use futures::{StreamExt, TryStreamExt};
use millstream_catalog::StreamId;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::action::{About, Action, Metadata};
use crate::history::History;
use crate::lake::failed;
use crate::state::{FileEntry, TableState};
use crate::table::{InFlight, LakeSnapshot, LakeTable, Step};
use crate::write::is_url;
use crate::{Error, Result};

/// The table property that lists the folders of its cold files, as URLs in a JSON list.
const COLD_KEY: &str = "millstream.cold";
/// The object in a cold folder that says that its table is there.
const TABLE_MARK: &str = "_millstream_table";
/// Files copied at once.
const COPIES_AT_ONCE: usize = 4;
/// Files that one commit moves, at most,
const MOST_FILES: usize = 64;
/// and about how many bytes.
const MOST_BYTES: u64 = 512 << 20;
/// Parts of one copy under way at once.
const PARTS_AT_ONCE: usize = 4;

/// What a round moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cooled {
    /// Files that went to the cold place.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl LakeTable {
    /// Moves the files to `place` (a URL) of which every row was accepted before `before_ms`. No row changes, and
    /// readers and writers go on meanwhile; what was moved when the call fails or is dropped stays moved.
    pub async fn cool(&self, place: &str, before_ms: i64, now_ms: i64) -> Result<Cooled> {
        let _care = self.inner.care.lock().await;
        let folder = format!("{}/{}", place.trim_end_matches('/'), self.inner.id);
        let state = self.refresh().await?.state.clone();
        let mut old = old_files(&state, Some(&folder), before_ms);
        // Files that a clone borrows are not its own to move: they would be copied.
        let own = state.cold_folders(self.inner.id);
        old.retain(|file| !is_url(&file.add.path) || is_within(&file.add.path, &own));
        drop(state);
        let mut cooled = Cooled::default();
        if old.is_empty() {
            return Ok(cooled);
        }
        self.note_cold_folder(&folder, now_ms).await?;
        while !old.is_empty() {
            let mut bytes = 0;
            let fits = old.iter().take(MOST_FILES).take_while(|file| {
                bytes += size_of(&file.add);
                bytes <= MOST_BYTES
            });
            let rest = old.split_off(fits.count().max(1));
            let done = self.move_files(&old, &folder, before_ms, now_ms).await?;
            cooled.files += done.files;
            cooled.bytes += done.bytes;
            old = rest;
        }
        Ok(cooled)
    }

    /// A part of a snapshot: the files of which every row was accepted before `before_ms`, the oldest that have about
    /// `most_rows` rows. `None` when there are none.
    pub fn old_part(&self, snapshot: &LakeSnapshot, before_ms: i64, most_rows: u64) -> Option<Arc<LakeSnapshot>> {
        let mut rows = 0;
        let old = old_files(&snapshot.state, None, before_ms).into_iter().take_while(|file| {
            let takes = rows < most_rows;
            rows += file.stats.rows.unwrap_or(0);
            takes
        });
        let files: BTreeMap<String, Arc<FileEntry>> = old.map(|file| (file.add.path.clone(), file)).collect();
        if files.is_empty() {
            return None;
        }
        let mut state = snapshot.state.as_ref().clone();
        state.files = files;
        state.all_stats = Default::default();
        let part = Arc::new(LakeSnapshot::new(state, self.inner.id));
        self.keep_published(&part);
        Some(part)
    }

    /// Copies files and commits that the copies take their place.
    async fn move_files(&self, files: &[Arc<FileEntry>], folder: &str, before_ms: i64, now_ms: i64) -> Result<Cooled> {
        let in_flight = self.in_flight();
        let copies: Vec<Add> = futures::stream::iter(files.to_vec())
            .map(|file| self.copy(file, folder, &in_flight))
            .buffered(COPIES_AT_ONCE)
            .try_collect()
            .await?;
        let mut actions: Vec<Action> = files.iter().map(|f| Action::Remove(f.removal(now_ms, false))).collect();
        actions.extend(copies.iter().cloned().map(Action::Add));
        let about = About::new("COOL", now_ms)
            .with_parameter("place", folder)
            .with_parameter("acceptedBefore", before_ms.to_string());
        let after = self
            .commit(about, |state| {
                let there = files.iter().all(|f| state.holds(f));
                Ok(if there { Step::Write(actions.clone()) } else { Step::Done })
            })
            .await?;
        // When one of the files went out otherwise nothing moved, and the copies are orphans: the next round tries.
        match copies.iter().all(|add| after.state.files.contains_key(&add.path)) {
            true => Ok(Cooled { files: copies.len() as u64, bytes: copies.iter().map(size_of).sum() }),
            false => Ok(Cooled::default()),
        }
    }

    /// Copies a file into a cold folder under a name of its own. Returns the action that brings the copy in.
    async fn copy(&self, file: Arc<FileEntry>, folder: &str, in_flight: &InFlight) -> Result<Add> {
        let history = &self.inner.history;
        let kind =
            file.add.path.rsplit('/').next().and_then(|name| name.split_once('.')).map_or("parquet", |(_, kind)| kind);
        let name = format!("{folder}/part-{}.{kind}", Uuid::now_v7());
        in_flight.announce(&name);
        let bad = |e: object_store::path::Error| history.misfit(format!("a file's path cannot be used: {e}"));
        let (from, to) = (history.location(&file.add.path).map_err(bad)?, history.location(&name).map_err(bad)?);
        let found = history.store.get(&from).await.map_err(failed("read", &from))?;
        let mut bytes = found.into_stream();
        let mut upload = BufWriter::with_capacity(history.store.clone(), to.clone(), self.options().part_bytes)
            .with_max_concurrency(PARTS_AT_ONCE);
        let mut size = 0;
        let copied = async {
            while let Some(part) = bytes.try_next().await.map_err(failed("read", &from))? {
                size += part.len() as u64;
                upload.put(part).await.map_err(failed("write", &to))?;
            }
            if size != size_of(&file.add) {
                return Err(history.misfit(format!(
                    "file {} should have {} bytes and has {size}; it stays where it is, restore it",
                    file.add.path, file.add.size
                )));
            }
            Ok(())
        };
        if let Err(error) = copied.await {
            upload.abort().await.ok();
            return Err(error);
        }
        let ended = upload.shutdown().await;
        ended.map_err(|source| Error::Store { action: "write", path: to.to_string(), source: Box::new(source) })?;
        Ok(Add { path: name, data_change: false, ..file.add.clone() })
    }

    /// Says in the table's properties, and in the folder, that files of the table are there.
    async fn note_cold_folder(&self, folder: &str, now_ms: i64) -> Result<()> {
        let history = &self.inner.history;
        let mark = self.location(folder)?.join(TABLE_MARK);
        if self.snapshot().state.cold_folders(self.inner.id).iter().any(|known| known == folder) {
            return Ok(());
        }
        let table = self.inner.url.to_string();
        history.store.put(&mark, table.into_bytes().into()).await.map_err(failed("write", &mark))?;
        self.commit(About::new("SET TBLPROPERTIES", now_ms).with_parameter(COLD_KEY, folder), |state| {
            let Some(metadata) = &state.metadata else { return Ok(Step::Done) };
            let mut folders: BTreeSet<String> = state.cold_folders(self.inner.id).into_iter().collect();
            if !folders.insert(folder.to_owned()) {
                return Ok(Step::Done);
            }
            let mut metadata = metadata.clone();
            metadata.configuration.insert(COLD_KEY.to_owned(), serde_json::to_string(&folders).ok());
            Ok(Step::Write(vec![Action::Metadata(metadata)]))
        })
        .await?;
        Ok(())
    }

    fn location(&self, url: &str) -> Result<Path> {
        let history = &self.inner.history;
        history.location(url).map_err(|e| history.misfit(format!("a place cannot be used: {e}")))
    }

    /// The folders of the table's cold files: their URLs, and where they are in the store.
    pub(crate) fn cold_locations(&self) -> Result<Vec<(String, Path)>> {
        let folders = self.snapshot().state.cold_folders(self.inner.id);
        folders.into_iter().map(|url| Ok((url.clone(), self.location(&url)?))).collect()
    }
}

impl LakeSnapshot {
    /// The part of a table's files that lies at its cold places: files and bytes.
    pub fn cold(&self, id: StreamId) -> Cooled {
        let folders = self.state.cold_folders(id);
        let mut cold = Cooled::default();
        for file in self.state.files.values().filter(|file| is_within(&file.add.path, &folders)) {
            cold.files += 1;
            cold.bytes += size_of(&file.add);
        }
        cold
    }
}

impl TableState {
    /// The folders of a table's cold files, as URLs.
    pub fn cold_folders(&self, id: StreamId) -> Vec<String> {
        let mut folders = self.metadata.as_ref().map(listed).unwrap_or_default();
        // Those of a clone's source are not its own.
        folders.retain(|folder| folder.ends_with(&id.to_string()));
        folders
    }
}

/// Whether a file's name says that it lies in one of these folders.
pub(crate) fn is_within(file: &str, folders: &[String]) -> bool {
    folders.iter().any(|folder| file.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')))
}

/// Takes the cold folders out of a table's properties: a clone has its own.
pub(crate) fn take_cold_folders(metadata: &mut Metadata) -> Vec<String> {
    let folders = listed(metadata);
    metadata.configuration.remove(COLD_KEY);
    folders
}

/// Whether an object says that the table of a cold folder is there.
pub(crate) fn is_table_mark(location: &Path, folder: &Path) -> bool {
    *location == folder.clone().join(TABLE_MARK)
}

/// Where a table's cold folders are in the store.
pub(crate) fn cold_paths(history: &History, state: &TableState, id: StreamId) -> Vec<String> {
    let folders = state.cold_folders(id);
    folders.iter().filter_map(|url| history.location(url).ok()).map(|path| path.to_string()).collect()
}

fn listed(metadata: &Metadata) -> Vec<String> {
    let text = metadata.configuration.get(COLD_KEY).and_then(Option::as_deref);
    text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default()
}

/// The files of which every row was accepted before then, oldest first, but for those that lie in a folder.
fn old_files(state: &TableState, but: Option<&str>, before_ms: i64) -> Vec<Arc<FileEntry>> {
    let but: Vec<String> = but.into_iter().map(str::to_owned).collect();
    let old = |file: &&Arc<FileEntry>| is_old(file, before_ms) && !is_within(&file.add.path, &but);
    let mut files: Vec<Arc<FileEntry>> = state.files.values().filter(old).cloned().collect();
    files.sort_by_key(|file| file.stats.newest_ingest_ms());
    files
}

/// Whether every row of a file was accepted before then.
pub(crate) fn is_old(file: &FileEntry, before_ms: i64) -> bool {
    file.add.deletion_vector.is_none() && file.stats.newest_ingest_ms().is_some_and(|ms| ms < before_ms)
}

fn size_of(add: &Add) -> u64 {
    u64::try_from(add.size).unwrap_or(0)
}
