//! Owns OPTIMIZE: files of a good size, and rows in an order by which statistics leave files out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result as EngineResult;
use datafusion::execution::SendableRecordBatchStream;
use uuid::Uuid;

use crate::action::About;
use crate::layout::{PartitionValues, values_of};
use crate::maintain::{MAX_FILES_PER_MERGE, MaintenanceReport, Rewriting};
use crate::merge::{MergeOrder, merge_plan, merge_session};
use crate::order::sorted;
use crate::state::{FileEntry, TableState};
use crate::table::LakeTable;
use crate::temperature::is_within;
use crate::zorder::{KEY_COLUMNS, MAX_COLUMNS, ZOrder};
use crate::{Error, Result};

/// The tag that marks the files of one ordering of a folder: its columns, and which one it was.
pub(crate) const CLUSTERED_TAG: &str = "millstream.clustered";

impl LakeTable {
    /// Merges files into such of the target size. With columns to order by (`zorder`, else what the table is sorted
    /// by) the rows of each folder are sorted anew and all its files written again, unless they were since the last
    /// row came or went. No row changes; readers and writers go on meanwhile.
    pub async fn optimize(&self, zorder: Option<Vec<String>>, now_ms: i64) -> Result<MaintenanceReport> {
        let _care = self.inner.care.lock().await;
        let state = self.refresh().await?.state.clone();
        let layout = self.inner.layout();
        let columns = zorder.as_deref().unwrap_or(&layout.sorted_by);
        self.check_order(&state, columns)?;
        let mut report = MaintenanceReport::default();
        if columns.is_empty() {
            self.pack(now_ms, &mut report).await?;
            return Ok(report);
        }
        for files in self.folders(&state) {
            if is_clustered(&files, columns) {
                continue;
            }
            let about = About::new("OPTIMIZE", now_ms)
                .with_parameter("zOrderBy", serde_json::to_string(columns).unwrap_or_default());
            let tag = (CLUSTERED_TAG.to_owned(), clustered(columns));
            let work = Rewriting { files, about, tag: Some(tag) };
            self.replace(work, |files, schema| self.ordered(files, schema, columns), &mut report).await?;
        }
        Ok(report)
    }

    /// Merges small files until no two of them fit into one.
    async fn pack(&self, now_ms: i64, report: &mut MaintenanceReport) -> Result<()> {
        loop {
            let before = report.files_compacted;
            let state = self.snapshot().state.clone();
            for files in
                self.folders(&state).into_iter().flat_map(|files| packs(files, self.options().target_file_bytes))
            {
                self.merge(files, now_ms, report).await?;
            }
            if report.files_compacted == before {
                return Ok(());
            }
        }
    }

    /// The rows of files in the order of columns.
    async fn ordered(
        &self,
        files: Vec<Arc<FileEntry>>,
        schema: SchemaRef,
        columns: &[String],
    ) -> EngineResult<SendableRecordBatchStream> {
        if let [_] = columns {
            return sorted(self.read_all(&files, schema)?, columns);
        }
        let fields = columns.iter().map(|c| schema.field_with_name(c).cloned()).collect::<Result<Vec<_>, _>>()?;
        let total = files.iter().filter_map(|f| f.stats.rows).sum();
        let zorder = ZOrder::of(columns, self.read_all(&files, Arc::new(Schema::new(fields)))?, total).await?;
        sorted(zorder.with_keys(self.read_all(&files, schema)?), &KEY_COLUMNS.map(str::to_owned))
    }

    /// All rows of files, one file after the other.
    pub(crate) fn read_all(
        &self,
        files: &[Arc<FileEntry>],
        schema: SchemaRef,
    ) -> EngineResult<SendableRecordBatchStream> {
        let inner = &self.inner;
        let session = merge_session(&inner.engine_url, &inner.history.store);
        merge_plan(&inner.engine_url, &inner.history, schema, files, MergeOrder::Concatenated)?
            .execute(0, session.task_ctx())
    }

    /// The files of each folder that can be rewritten, in the order of their rows; those at a cold place stay there.
    fn folders(&self, state: &TableState) -> Vec<Vec<Arc<FileEntry>>> {
        let cold = state.cold_folders(self.inner.id);
        let mut folders: BTreeMap<PartitionValues, Vec<Arc<FileEntry>>> = BTreeMap::new();
        let can_be = |f: &&Arc<FileEntry>| {
            f.add.deletion_vector.is_none() && f.stats.rows.is_some() && !is_within(&f.add.path, &cold)
        };
        for file in state.files.values().filter(can_be) {
            let values = values_of(&file.add.partition_values, state.partitioned_by());
            folders.entry(values).or_default().push(file.clone());
        }
        let mut folders: Vec<_> = folders.into_values().collect();
        folders.iter_mut().for_each(|files| files.sort_by_cached_key(|f| MergeOrder::key(f)));
        folders
    }

    fn check_order(&self, state: &TableState, columns: &[String]) -> Result<()> {
        let refused = |reason: String| Err(Error::Refused { table: self.inner.url.to_string(), reason });
        if columns.len() > MAX_COLUMNS {
            return refused(format!("rows cannot be ordered by {} columns; name at most {MAX_COLUMNS}", columns.len()));
        }
        for column in columns {
            let field = state.log_schema.as_ref().and_then(|s| s.field_with_name(column).ok().cloned());
            match field {
                None => return refused(format!("it has no column {column:?} to order rows by")),
                Some(field) if field.data_type().is_nested() => {
                    return refused(format!("rows cannot be ordered by column {column:?}, which is nested"));
                }
                Some(_) if state.partitioned_by().contains(column) => {
                    return refused(format!("column {column:?} names folders already; order by another one"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Files that together make one of the target size.
fn packs(files: Vec<Arc<FileEntry>>, target_bytes: usize) -> Vec<Vec<Arc<FileEntry>>> {
    let mut packs: Vec<Vec<Arc<FileEntry>>> = Vec::new();
    let mut bytes = 0;
    for file in files {
        let size = usize::try_from(file.add.size).unwrap_or(usize::MAX);
        if size > target_bytes / 4 * 3 {
            continue;
        }
        bytes += size;
        match packs.last_mut() {
            Some(pack) if bytes <= target_bytes && pack.len() < MAX_FILES_PER_MERGE => pack.push(file),
            _ => {
                bytes = size;
                packs.push(vec![file]);
            }
        }
    }
    packs.retain(|pack| pack.len() > 1);
    packs
}

/// What the files of a new ordering are marked with.
fn clustered(columns: &[String]) -> String {
    format!("{} {}", Uuid::new_v4(), columns.join(","))
}

/// Whether files came of one ordering by these columns.
fn is_clustered(files: &[Arc<FileEntry>], columns: &[String]) -> bool {
    let tag = |f: &Arc<FileEntry>| f.add.tags.as_ref().and_then(|t| t.get(CLUSTERED_TAG).cloned().flatten());
    let first = files.first().and_then(tag);
    first.as_ref().is_some_and(|t| t.split_once(' ').is_some_and(|(_, by)| by == columns.join(",")))
        && files.iter().all(|f| tag(f) == first)
}
