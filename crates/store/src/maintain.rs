//! Owns a table's care: merging small files, checkpoints of its log, deleting what nobody needs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use deltalake_core::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::Result;
use crate::action::{About, Action};
use crate::clone::cloned_files;
use crate::history::History;
use crate::lake::{LakeOptions, failed};
use crate::layout::{Folders, PartitionValues, values_of};
use crate::merge::{MergeOrder, merge_plan, merge_session};
use crate::order::sorted;
use crate::state::{FileEntry, TableState};
use crate::table::{LakeTable, Step};
use crate::temperature::is_within;

/// Files merged at once: each holds a decoded batch while rows are put in order.
pub(crate) const MAX_FILES_PER_MERGE: usize = 64;

/// What a round of care did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaintenanceReport {
    /// Files that were merged away.
    pub files_compacted: u64,
    /// Files that took their place.
    pub files_written: u64,
    /// Files deleted for good.
    pub files_vacuumed: u64,
    /// Bytes of the files that were merged away.
    pub bytes_compacted: u64,
    /// Bytes of those that took their place.
    pub bytes_written: u64,
    /// Bytes of the files deleted for good.
    pub bytes_vacuumed: u64,
    /// The version that a checkpoint of the log was written for.
    pub checkpoint: Option<i64>,
}

/// What a VACUUM deleted, or would delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VacuumReport {
    /// The files, by their paths in the table's folder.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

/// Files that are to be replaced by such with the same rows.
pub(crate) struct Rewriting {
    /// The files, all of one folder.
    pub files: Vec<Arc<FileEntry>>,
    /// What the commit says.
    pub about: About,
    /// A tag that the new files get.
    pub tag: Option<(String, String)>,
}

impl LakeTable {
    /// Merges small files, writes a checkpoint when due, deletes files that were replaced longer than `retention` ago.
    ///
    /// Appends go on meanwhile: only the commit of a merge waits for theirs.
    pub async fn maintain(&self, retention: Duration, now_ms: i64) -> Result<MaintenanceReport> {
        let _care = self.inner.care.lock().await;
        let mut report = MaintenanceReport::default();
        for files in self.merges_due().await? {
            self.merge(files, now_ms, &mut report).await?;
        }
        let kept_since_ms = kept_since(retention, now_ms);
        report.checkpoint = self.checkpoint_when_due(kept_since_ms).await?;
        let doomed = self.doomed(kept_since_ms).await?;
        report.bytes_vacuumed = doomed.iter().map(|(_, object)| object.size).sum();
        report.files_vacuumed = self.delete(doomed).await?;
        Ok(report)
    }

    /// Groups of files to merge. The state that they are of is let go: vacuum keeps what a state needs.
    async fn merges_due(&self) -> Result<Vec<Vec<Arc<FileEntry>>>> {
        let state = &self.refresh().await?.state;
        Ok(plan_merges(state, &state.cold_folders(self.inner.id), &self.options()))
    }

    /// Replaces files by fewer with the same rows.
    pub(crate) async fn merge(
        &self,
        files: Vec<Arc<FileEntry>>,
        now_ms: i64,
        report: &mut MaintenanceReport,
    ) -> Result<()> {
        let order = MergeOrder::of(&files);
        let work = Rewriting { files, about: About::new("OPTIMIZE", now_ms), tag: None };
        let inner = &self.inner;
        let read = async |files: Vec<Arc<FileEntry>>, schema: SchemaRef| {
            let session = merge_session(&inner.engine_url, &inner.history.store);
            let plan = merge_plan(&inner.engine_url, &inner.history, schema, &files, order)?;
            sorted(plan.execute(0, session.task_ctx())?, &inner.layout().sorted_by)
        };
        self.replace(work, read, report).await
    }

    /// Replaces files of one folder by such with the same rows, which `read` gives.
    pub(crate) async fn replace<F>(
        &self,
        work: Rewriting,
        read: impl FnOnce(Vec<Arc<FileEntry>>, SchemaRef) -> F,
        report: &mut MaintenanceReport,
    ) -> Result<()>
    where
        F: Future<Output = datafusion::common::Result<SendableRecordBatchStream>>,
    {
        let Rewriting { files, about, tag } = work;
        let (inner, now_ms) = (&self.inner, about.now_ms);
        let _rewrite = inner.rewrite.lock().await;
        let snapshot = self.snapshot();
        if !files.iter().all(|f| snapshot.state.holds(f)) {
            return Ok(());
        }
        let values = values_of(&files[0].add.partition_values, snapshot.state.partitioned_by());
        let (writer, _in_flight) = self.writer(&snapshot.state, Folders::Fixed(values), now_ms)?;
        let rows = read(files.clone(), writer.file_schema.clone()).await;
        let rows = rows.map_err(|e| self.failed("merge files of", e.into()))?;
        let written = writer.write(rows).await.map_err(|e| self.failed("merge files of", e))?;
        let expected: u64 = files.iter().filter_map(|f| f.stats.rows).sum();
        if written.rows != expected {
            return Err(inner.history.misfit(format!(
                "{} files that should have {expected} rows gave {}; nothing was merged, restore the files",
                files.len(),
                written.rows
            )));
        }
        let mut actions: Vec<Action> = files.iter().map(|f| Action::Remove(f.removal(now_ms, false))).collect();
        for mut add in written.adds.clone() {
            add.data_change = false;
            if let Some((name, value)) = &tag {
                add.tags.get_or_insert_default().insert(name.clone(), Some(value.clone()));
            }
            actions.push(Action::Add(add));
        }
        let after = self
            .commit(about, |state| {
                let there = files.iter().all(|f| state.holds(f));
                Ok(if there { Step::Write(actions.clone()) } else { Step::Done })
            })
            .await?;
        // When the files went out otherwise, the merge is void and its output an orphan.
        if written.adds.iter().all(|add| after.state.files.contains_key(&add.path)) {
            report.files_compacted += files.len() as u64;
            report.bytes_compacted += files.iter().map(|f| u64::try_from(f.add.size).unwrap_or(0)).sum::<u64>();
            report.files_written += written.adds.len() as u64;
            report.bytes_written += written.adds.iter().map(|a| u64::try_from(a.size).unwrap_or(0)).sum::<u64>();
        }
        Ok(())
    }

    /// Writes a checkpoint when enough commits came since the last, and deletes log files from before it that are old
    /// enough.
    async fn checkpoint_when_due(&self, kept_since_ms: i64) -> Result<Option<i64>> {
        let inner = &self.inner;
        let snapshot = self.snapshot();
        if snapshot.version - snapshot.state.checkpoint.unwrap_or(0) < self.options().checkpoint_every {
            return Ok(None);
        }
        let failed = |e: DeltaTableError| self.failed("write a checkpoint of", e.into());
        let mut table = DeltaTable::new(inner.log_store());
        let version = u64::try_from(snapshot.version).unwrap_or(0);
        table.load_version(version).await.map_err(failed)?;
        create_checkpoint(&table, None).await.map_err(failed)?;
        self.tidy(|state| state.checkpoint = state.checkpoint.max(Some(snapshot.version))).await;
        let deleted = cleanup_expired_logs_for(version, table.log_store().as_ref(), kept_since_ms, None)
            .await
            .map_err(|e| self.failed("clean the log of", e.into()))?;
        tracing::debug!(table = %inner.url, version, deleted, "checkpoint written");
        Ok(Some(snapshot.version))
    }

    /// The data files in the table's folder and at its cold places, whether they are in the table or not.
    pub(crate) async fn list_data_files(&self) -> Result<Vec<(String, ObjectMeta)>> {
        let History { store, folder, .. } = &self.inner.history;
        let listed: Vec<_> = store.list(Some(folder)).try_collect().await.map_err(failed("list", folder))?;
        let own = listed.into_iter().filter_map(|object| Some((data_file(&object.location, folder)?, object)));
        let mut all: Vec<_> = own.collect();
        for (url, folder) in self.cold_locations()? {
            let listed: Vec<_> = store.list(Some(&folder)).try_collect().await.map_err(failed("list", &folder))?;
            let named = |object: ObjectMeta| Some((format!("{url}/{}", data_file(&object.location, &folder)?), object));
            all.extend(listed.into_iter().filter_map(named));
        }
        Ok(all)
    }

    /// The files that clones of the table need, in its folder and at its cold places.
    async fn needed_by_clones(&self) -> Result<HashSet<String>> {
        let History { store, folder, .. } = &self.inner.history;
        let mut needed = cloned_files(store, folder, None).await?;
        for (url, folder) in self.cold_locations()? {
            let there = cloned_files(store, &folder, None).await?;
            needed.extend(there.into_iter().map(|file| format!("{url}/{file}")));
        }
        Ok(needed)
    }

    /// Deletes data files that were replaced, or never committed, longer than `retention` ago and that nobody reads. A
    /// dry run only says which they are.
    ///
    /// Versions whose files went cannot be read any more: see [`LakeTable::snapshot_at`].
    pub async fn vacuum(&self, retention: Duration, now_ms: i64, dry_run: bool) -> Result<VacuumReport> {
        let _care = self.inner.care.lock().await;
        let doomed = self.doomed(kept_since(retention, now_ms)).await?;
        let report = VacuumReport {
            bytes: doomed.iter().map(|(_, object)| object.size).sum(),
            files: doomed.iter().map(|(path, _)| path.clone()).collect(),
        };
        if !dry_run {
            self.delete(doomed).await?;
        }
        Ok(report)
    }

    /// Data files that no state needs: replaced, or never committed, before `kept_since_ms`.
    async fn doomed(&self, kept_since_ms: i64) -> Result<Vec<(String, ObjectMeta)>> {
        // The order matters. A file in the list was announced before it; when it is not announced any more, it is in
        // the states that are looked at last, or its removal is.
        let listed = self.list_data_files().await?;
        let in_flight = self.inner.in_flight.lock().clone();
        let newest = self.refresh().await?;
        let states = self.states_in_use();
        // A clone's list is there before it lets go of the snapshot it is made of.
        let cloned = self.needed_by_clones().await?;
        let is_doomed = |(path, object): &(String, ObjectMeta)| {
            let used = in_flight.contains_key(path)
                || newest.state.files.contains_key(path)
                || cloned.contains(path)
                || states.iter().any(|state| state.files.contains_key(path));
            let since = match newest.state.tombstones.get(path) {
                Some(&removed_ms) => removed_ms,
                None => object.last_modified.timestamp_millis(),
            };
            !used && since <= kept_since_ms
        };
        Ok(listed.into_iter().filter(is_doomed).collect())
    }

    /// Deletes data files for good; returns how many went.
    async fn delete(&self, doomed: Vec<(String, ObjectMeta)>) -> Result<u64> {
        let History { store, folder, .. } = &self.inner.history;
        let mut gone = HashSet::new();
        let names: HashMap<Path, String> = doomed.into_iter().map(|(name, object)| (object.location, name)).collect();
        let locations: Vec<_> = names.keys().cloned().map(Ok).collect();
        let mut results = store.delete_stream(futures::stream::iter(locations).boxed());
        while let Some(result) = results.next().await {
            match result {
                Ok(location) => gone.extend(names.get(&location).cloned()),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(failed("delete files under", folder)(e)),
            }
        }
        if !gone.is_empty() {
            self.tidy(|state| state.tombstones.retain(|path, _| !gone.contains(path))).await;
        }
        Ok(gone.len() as u64)
    }
}

/// The time before which what was replaced may go.
fn kept_since(retention: Duration, now_ms: i64) -> i64 {
    now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
}

/// A data file's path in its table; `None` for the log and for names that Delta keeps hidden.
fn data_file(location: &Path, folder: &Path) -> Option<String> {
    let parts: Vec<_> = location.prefix_match(folder)?.collect();
    let hidden = parts.iter().any(|p| p.as_ref().starts_with(['_', '.']) && !p.as_ref().contains('='));
    let path = parts.iter().map(|p| p.as_ref()).collect::<Vec<_>>().join("/");
    (!hidden && path.ends_with(".parquet")).then_some(path)
}

/// Files below this size are all of like size: to write their rows again costs nothing to speak of.
const ALL_ALIKE: u64 = 64 << 10;

/// Groups of small files to merge, in the order of their rows. Files merge with files of like size, so that a row is
/// rewritten a few times at most. Those at a cold place stay there.
fn plan_merges(state: &TableState, cold: &[String], options: &LakeOptions) -> Vec<Vec<Arc<FileEntry>>> {
    let small = (options.target_file_bytes / 4) as u64;
    let mut classes: BTreeMap<(PartitionValues, u32), Vec<Arc<FileEntry>>> = Default::default();
    for file in state.files.values() {
        let size = u64::try_from(file.add.size).unwrap_or(u64::MAX);
        let movable = file.add.deletion_vector.is_none() && file.stats.rows.is_some();
        if size < small && movable && !is_within(&file.add.path, cold) {
            let folder = values_of(&file.add.partition_values, state.partitioned_by());
            classes.entry((folder, size.max(ALL_ALIKE).ilog2() / 2)).or_default().push(file.clone());
        }
    }
    let mut merges = Vec::new();
    for mut files in classes.into_values() {
        files.sort_by_cached_key(|f| MergeOrder::key(f));
        let mut group: Vec<Arc<FileEntry>> = Vec::new();
        let mut bytes = 0;
        for file in files {
            let size = usize::try_from(file.add.size).unwrap_or(0);
            if group.len() == MAX_FILES_PER_MERGE || bytes + size > options.target_file_bytes {
                merges.push(std::mem::take(&mut group));
                bytes = 0;
            }
            bytes += size;
            group.push(file);
        }
        merges.push(group);
    }
    merges.retain(|group| group.len() >= options.compact_min_files.max(2));
    merges
}
