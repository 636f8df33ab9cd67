//! Owns changes of a table's rows: one Delta commit brings rows in and takes rows out.
//!
//! A row goes by its number, the hidden column `_offset`. Files that hold rows which go are found by their statistics
//! and then by reading that one column; they are written again without these rows, the others stay as they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use chrono::Utc;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::kernel::{Add, Transaction};
use futures::{StreamExt, TryStreamExt};
use millstream_catalog::{OFFSET_COLUMN, Positions};
use roaring::RoaringTreemap;

use crate::Result;
use crate::action::{About, Action};
use crate::layout::{Folders, values_of};
use crate::merge::MergeOrder;
use crate::order::sorted;
use crate::staged::StagedFile;
use crate::state::{FileEntry, TableState, rows_app_id, same_positions};
use crate::stats::FileStats;
use crate::table::{InFlight, LakeSnapshot, LakeTable, Step};

/// Tries of a change whose files another process replaces meanwhile.
const CHANGE_TRIES: u32 = 8;

/// What a range of a table's changelog does to its files.
pub struct RowChanges {
    /// The operation that the commit carries, in Delta's words: `WRITE`, `MERGE`, `UPDATE`, `DELETE`, ….
    pub operation: String,
    /// Where the caller believes the table to be.
    pub start: Positions,
    /// Where the table is afterwards.
    pub end: Positions,
    /// The number of the next row that the table gets.
    pub next_row: i64,
    /// Rows that come, full schema in log types.
    pub come: Option<SendableRecordBatchStream>,
    /// Files of rows that come, written before by [`LakeTable::stage`].
    pub staged: Vec<StagedFile>,
    /// Numbers of rows that go, from the table's files and from `staged`.
    pub gone: Arc<RoaringTreemap>,
}

/// Files that were written again without some of their rows.
#[derive(Default)]
struct Rewritten {
    /// The files that held such rows.
    touched: Vec<Arc<FileEntry>>,
    /// What takes their place.
    adds: Vec<Add>,
    /// Rows that went.
    gone: u64,
    /// Rows that were copied.
    copied: u64,
    _kept: Vec<Arc<InFlight>>,
}

impl LakeTable {
    /// Brings rows in and takes rows out by one Delta commit, with `end` and `next_row` as application transactions.
    /// When it returns, everything is synced and the snapshot includes it.
    ///
    /// As with [`LakeTable::append`], a table that is not at `start` is left as it is and its snapshot returned, and
    /// the call may be dropped at any time. Memory is bounded: rows go from file to file in batches.
    pub async fn change(&self, changes: RowChanges) -> Result<Arc<LakeSnapshot>> {
        let RowChanges { operation, start, end, next_row, come, staged, gone } = changes;
        let snapshot = self.certain_snapshot().await?;
        if !same_positions(&snapshot.positions, &start) || same_positions(&start, &end) {
            return Ok(snapshot);
        }
        self.check_forward(&start, &end)?;
        let now_ms = Utc::now().timestamp_millis();
        let (came, _kept) = self.write_coming(come, now_ms).await?;
        let staged: Vec<Arc<FileEntry>> =
            self.keep_staged(&staged).into_iter().map(|f| Arc::new(FileEntry::new(f.add))).collect();
        let fixed: Vec<Action> = came.into_iter().map(Action::Add).chain(self.progress(&start, &end)?).collect();
        for _ in 0..CHANGE_TRIES {
            let _rewrite = match gone.is_empty() {
                true => None,
                false => Some(self.inner.rewrite.lock().await),
            };
            let state = self.certain_snapshot().await?.state.clone();
            let of_table = self.rewrite_without(&state, state.files.values(), &gone, now_ms).await?;
            let of_staged = self.rewrite_without(&state, staged.iter(), &gone, now_ms).await?;
            let mut actions = fixed.clone();
            actions.extend(staged_adds(&staged, &of_staged));
            actions.extend(of_table.touched.iter().map(|f| Action::Remove(f.removal(now_ms, true))));
            actions.extend(of_table.adds.iter().cloned().map(Action::Add));
            let about = about_change(&operation, now_ms, &actions, &of_table);
            let after = self
                .commit(about, |state| {
                    let due = self.is_due(state, &start, &end)?;
                    let fresh = of_table.touched.iter().all(|f| state.holds(f));
                    Ok(match due && fresh {
                        true => Step::Write(with_next_row(&actions, state, self.inner.id, next_row)),
                        false => Step::Done,
                    })
                })
                .await?;
            if same_positions(&after.positions, &end) {
                return Ok(after);
            }
            tracing::info!(table = %self.inner.url, "files went while they were rewritten, beginning again");
        }
        Err(self.inner.history.misfit(format!(
            "its files were replaced {CHANGE_TRIES} times while rows were taken out of them; stop the other writers"
        )))
    }

    async fn write_coming(
        &self,
        come: Option<SendableRecordBatchStream>,
        now_ms: i64,
    ) -> Result<(Vec<Add>, Option<Arc<InFlight>>)> {
        let Some(rows) = come else { return Ok((vec![], None)) };
        let (written, kept) = self.write(&self.snapshot().state, rows, now_ms).await?;
        Ok((written.adds, Some(kept)))
    }

    /// Writes those of the files that hold rows which go again, without them.
    async fn rewrite_without<'a>(
        &self,
        state: &TableState,
        files: impl Iterator<Item = &'a Arc<FileEntry>>,
        gone: &Arc<RoaringTreemap>,
        now_ms: i64,
    ) -> Result<Rewritten> {
        let mut touched = Vec::new();
        for file in files.filter(|f| may_hold(&f.stats, gone)) {
            if file.add.deletion_vector.is_some() {
                return Err(self.inner.history.misfit(format!(
                    "file {} has a deletion vector, which another writer made; rewrite it there (REORG TABLE … APPLY \
                     (PURGE)), then rows can be changed again",
                    file.add.path
                )));
            }
            if certainly_holds(&file.stats, gone) || self.holds(file, gone).await? {
                touched.push(file.clone());
            }
        }
        let folder = |f: &FileEntry| values_of(&f.add.partition_values, state.partitioned_by());
        touched.sort_by_cached_key(|f| (folder(f), MergeOrder::key(f)));
        let groups = groups(&touched, self.options().target_file_bytes);
        let mut all = Rewritten { touched: touched.clone(), ..Rewritten::default() };
        // One after the other: a writer encodes its columns side by side, and two would hold twice as many rows.
        for group in groups {
            let part = self.rewrite_group(state, group, gone, now_ms).await?;
            all.adds.extend(part.adds);
            all.gone += part.gone;
            all.copied += part.copied;
            all._kept.extend(part._kept);
        }
        Ok(all)
    }

    async fn rewrite_group(
        &self,
        state: &TableState,
        mut files: Vec<Arc<FileEntry>>,
        gone: &Arc<RoaringTreemap>,
        now_ms: i64,
    ) -> Result<Rewritten> {
        let mut all = Rewritten::default();
        files.retain(|file| match gone_entirely(&file.stats, gone) {
            Some(rows) => {
                all.gone += rows;
                false
            }
            None => true,
        });
        if files.is_empty() {
            return Ok(all);
        }
        let values = values_of(&files[0].add.partition_values, state.partitioned_by());
        let (writer, kept) = self.writer(state, Folders::Fixed(values), now_ms)?;
        let read = Arc::new(AtomicU64::new(0));
        let mut rows = without(self.read_rows(&files, writer.file_schema.clone())?, gone.clone(), read.clone());
        if files.len() > 1 {
            let order = &self.inner.layout().sorted_by;
            rows = sorted(rows, order).map_err(|e| self.failed("sort rows of", e.into()))?;
        }
        let written = writer.write(rows).await.map_err(|e| self.failed("rewrite files of", e))?;
        let read = read.load(Ordering::Acquire);
        let expected: Option<u64> = files.iter().map(|f| f.stats.rows).sum();
        if expected.is_some_and(|expected| expected != read) {
            return Err(self.inner.history.misfit(format!(
                "{} files that should have {} rows gave {read}; nothing was changed, restore the files",
                files.len(),
                expected.unwrap_or(0)
            )));
        }
        all.gone += read.saturating_sub(written.rows);
        all.copied = written.rows;
        all.adds = written.adds;
        all._kept.push(kept);
        Ok(all)
    }

    /// Whether a file holds a row that goes, by reading its row numbers.
    async fn holds(&self, file: &Arc<FileEntry>, gone: &RoaringTreemap) -> Result<bool> {
        let numbers = Arc::new(Schema::new(vec![Field::new(OFFSET_COLUMN, DataType::Int64, true)]));
        let mut rows = self.read_rows(std::slice::from_ref(file), numbers)?;
        while let Some(batch) = rows.try_next().await.map_err(|e| self.failed("read row numbers of", e.into()))? {
            if row_numbers(&batch).is_some_and(|numbers| any_gone(numbers, gone)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl LakeTable {
    fn read_rows(&self, files: &[Arc<FileEntry>], schema: SchemaRef) -> Result<SendableRecordBatchStream> {
        self.read_all(files, schema).map_err(|e| self.failed("read files of", e.into()))
    }
}

impl LakeSnapshot {
    /// The number of the table's next row, as the last change left it.
    pub fn next_row(&self) -> i64 {
        self.next_row
    }

    /// Whether any file's range of row numbers holds one of these.
    pub fn touches(&self, gone: &RoaringTreemap) -> bool {
        self.state.files.values().any(|file| may_hold(&file.stats, gone))
    }

    /// Bytes of the files that may hold one of these rows: what a change that takes them out may write again.
    pub fn bytes_touched(&self, gone: &RoaringTreemap) -> u64 {
        let touched = self.state.files.values().filter(|file| may_hold(&file.stats, gone));
        touched.map(|file| u64::try_from(file.add.size).unwrap_or(0)).sum()
    }
}

/// Staged files as they are, and what takes the place of those that hold rows which go.
fn staged_adds(staged: &[Arc<FileEntry>], rewritten: &Rewritten) -> Vec<Action> {
    let touched = |file: &Arc<FileEntry>| rewritten.touched.iter().any(|t| t.add.path == file.add.path);
    let whole = staged.iter().filter(|f| !touched(f)).map(|f| f.add.clone());
    whole.chain(rewritten.adds.iter().cloned()).map(Action::Add).collect()
}

/// What the commit of a change says about itself.
fn about_change(operation: &str, now_ms: i64, actions: &[Action], of_table: &Rewritten) -> About {
    let output: u64 = actions
        .iter()
        .filter_map(|action| match action {
            Action::Add(add) => FileStats::parse(add.stats.as_deref(), None).rows,
            _ => None,
        })
        .sum();
    About::new(operation, now_ms)
        .with_metric("numOutputRows", output)
        .with_metric("numInsertedRows", output.saturating_sub(of_table.copied))
        .with_metric("numDeletedRows", of_table.gone)
        .with_metric("numCopiedRows", of_table.copied)
}

/// The actions, with the next row's number where it moves on.
fn with_next_row(
    actions: &[Action],
    state: &TableState,
    id: millstream_catalog::StreamId,
    next_row: i64,
) -> Vec<Action> {
    let moved = (next_row > state.next_row(id)).then(|| Action::Txn(Transaction::new(rows_app_id(id), next_row)));
    actions.iter().cloned().chain(moved).collect()
}

/// How many of the numbers lie in a file's range; `None` when the range is not known.
fn gone_in_range(stats: &FileStats, gone: &RoaringTreemap) -> Option<u64> {
    let (first, last) = number_range(stats)?;
    Some(gone.range_cardinality(first..=last))
}

fn number_range(stats: &FileStats) -> Option<(u64, u64)> {
    let (first, last) = stats.range(OFFSET_COLUMN)?;
    Some((u64::try_from(first).ok()?, u64::try_from(last).ok()?))
}

fn may_hold(stats: &FileStats, gone: &RoaringTreemap) -> bool {
    !gone.is_empty() && gone_in_range(stats, gone) != Some(0)
}

/// Whether a file has a row for each number of its range, so that its statistics tell which rows it holds.
fn is_dense(stats: &FileStats) -> bool {
    number_range(stats).is_some_and(|(first, last)| stats.rows == last.checked_sub(first).map(|n| n + 1))
}

fn certainly_holds(stats: &FileStats, gone: &RoaringTreemap) -> bool {
    is_dense(stats) && may_hold(stats, gone)
}

/// The rows of a file that goes as a whole, as its statistics tell.
fn gone_entirely(stats: &FileStats, gone: &RoaringTreemap) -> Option<u64> {
    let (first, last) = number_range(stats)?;
    let all = last.checked_sub(first)? + 1;
    (gone.range_cardinality(first..=last) == all).then_some(stats.rows?)
}

/// Files that are rewritten together: small ones of one folder up to a file's target size, in the order of their rows.
fn groups(files: &[Arc<FileEntry>], target_bytes: usize) -> Vec<Vec<Arc<FileEntry>>> {
    let mut groups: Vec<Vec<Arc<FileEntry>>> = Vec::new();
    let small = target_bytes / 4;
    let mut bytes = 0;
    for file in files {
        let size = usize::try_from(file.add.size).unwrap_or(0);
        bytes += size;
        let joins = |group: &[Arc<FileEntry>]| {
            size < small && bytes <= target_bytes && group[0].add.partition_values == file.add.partition_values
        };
        match groups.last_mut() {
            Some(group) if joins(group) => group.push(file.clone()),
            _ => {
                bytes = size;
                groups.push(vec![file.clone()]);
            }
        }
    }
    groups
}

/// The rows whose numbers are not gone; `read` counts all that came.
fn without(
    rows: SendableRecordBatchStream,
    gone: Arc<RoaringTreemap>,
    read: Arc<AtomicU64>,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let left = rows.map(move |batch| {
        let batch = batch?;
        read.fetch_add(batch.num_rows() as u64, Ordering::AcqRel);
        Ok(left_of(&batch, &gone)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, left))
}

fn left_of(batch: &RecordBatch, gone: &RoaringTreemap) -> Result<RecordBatch, ArrowError> {
    match row_numbers(batch) {
        Some(numbers) if any_gone(numbers, gone) => {
            let keep: BooleanArray = numbers.iter().map(|&n| Some(!is_gone(n, gone))).collect();
            filter_record_batch(batch, &keep)
        }
        _ => Ok(batch.clone()),
    }
}

fn row_numbers(batch: &RecordBatch) -> Option<&[i64]> {
    let column = batch.column_by_name(OFFSET_COLUMN)?.as_primitive_opt::<Int64Type>()?;
    (column.null_count() == 0).then(|| &column.values()[..])
}

fn any_gone(numbers: &[i64], gone: &RoaringTreemap) -> bool {
    let least = numbers.iter().min().and_then(|&n| u64::try_from(n).ok());
    let most = numbers.iter().max().and_then(|&n| u64::try_from(n).ok());
    match (least, most) {
        (Some(least), Some(most)) if gone.range_cardinality(least..=most) == 0 => false,
        _ => numbers.iter().any(|&n| is_gone(n, gone)),
    }
}

fn is_gone(number: i64, gone: &RoaringTreemap) -> bool {
    u64::try_from(number).is_ok_and(|n| gone.contains(n))
}
