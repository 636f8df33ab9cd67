//! Owns changes of tables that others write to: one Delta commit of a statement's rows, over what it read.
//!
//! The statement read a snapshot and says which of its rows go, by their numbers there (`numbered.rs`), and which come.
//! Files that hold rows which go are written again without them. The commit is made behind whatever others committed
//! meanwhile, as long as they took none of these files out, and changed neither columns nor properties; else it fails
//! as a clash and nothing is changed. An application transaction has the number of the last commit made here, and so
//! tells whether one whose outcome was open is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use chrono::Utc;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::DeltaTable;
use deltalake_core::checkpoints::create_checkpoint;
use deltalake_core::kernel::{Add, Transaction};
use futures::StreamExt;
use millstream_catalog::StreamId;
use object_store::ObjectStoreExt;
use parking_lot::Mutex;
use roaring::RoaringTreemap;
use uuid::Uuid;

use crate::action::{About, Action};
use crate::features::unwritable;
use crate::history::History;
use crate::layout::{Folders, values_of};
use crate::numbered::PLACE_BITS;
use crate::staged::StagedFile;
use crate::state::{FileEntry, TableState};
use crate::table::{InFlight, LakeSnapshot, LakeTable, Step};
use crate::write::location;
use crate::{Error, Result};

/// A checkpoint of the log is written after this many commits, as other writers do.
const CHECKPOINT_EVERY: i64 = 100;

/// What a statement does to a table that others write to.
#[derive(Debug)]
pub struct RowEdit {
    /// The operation, in Delta's words: `WRITE`, `UPDATE`, `DELETE`, `MERGE`.
    pub operation: String,
    /// What the statement read.
    pub base: Arc<LakeSnapshot>,
    /// Files with the rows that come, written by [`LakeTable::stage`].
    pub come: Vec<StagedFile>,
    /// The rows that go, by their numbers in `base`.
    pub gone: RoaringTreemap,
    /// Whether rows came because others were not there: rows that somebody else added meanwhile are a clash then.
    pub missed_rows: bool,
}

/// A file of the base that loses rows.
struct Touched {
    file: Arc<FileEntry>,
    /// The places of the rows that go.
    gone: RoaringTreemap,
}

/// What takes the place of one.
struct Rewritten {
    adds: Vec<Add>,
    copied: u64,
    _kept: Arc<InFlight>,
}

impl LakeTable {
    /// Refuses a table whose rows may not be changed here; `takes_out` says whether rows go.
    pub fn check_writable(&self, snapshot: &LakeSnapshot, takes_out: bool) -> Result<()> {
        let refused = |reason: String| Err(Error::Refused { table: self.inner.url.to_string(), reason });
        let (Some(protocol), Some(metadata)) = (&snapshot.state.protocol, &snapshot.state.metadata) else {
            return refused("it has no schema".to_owned());
        };
        if snapshot.is_kept_by_millstream() {
            return refused(
                "a Millstream keeps it, and would not notice what is changed here; write to it there".to_owned(),
            );
        }
        match unwritable(protocol, metadata, takes_out) {
            None => Ok(()),
            Some(feature) if feature == "appendOnly" => {
                refused("its rows only come (delta.appendOnly); take that property off to change or delete rows".into())
            }
            Some(feature) => refused(format!(
                "it needs the Delta feature {feature}, which Millstream does not write; drop the feature with the engine \
                 that made the table, or write there"
            )),
        }
    }

    /// Commits a statement's change. When it returns, everything is synced and the snapshot includes it. After a
    /// failure nothing is changed, or the next look shows that all is.
    pub async fn edit(&self, edit: RowEdit) -> Result<Arc<LakeSnapshot>> {
        let RowEdit { operation, base, come, gone, missed_rows } = edit;
        self.check_writable(&base, !gone.is_empty())?;
        let now_ms = Utc::now().timestamp_millis();
        let touched = touched(&base.state, &gone);
        let (mut rewritten, mut copied) = (Vec::new(), 0);
        for touched in &touched {
            let part = self.rewrite(&base.state, touched, now_ms).await?;
            copied += part.copied;
            rewritten.push(part);
        }
        let came: u64 = come.iter().map(StagedFile::rows).sum();
        let about = About::new(operation, now_ms)
            .with_metric("numOutputRows", came + copied)
            .with_metric("numInsertedRows", came)
            .with_metric("numDeletedRows", gone.len())
            .with_metric("numCopiedRows", copied);
        let about = if gone.is_empty() { about.with_parameter("mode", "Append") } else { about };
        let mut actions: Vec<Action> = touched.iter().map(|t| Action::Remove(t.file.removal(now_ms, true))).collect();
        actions.extend(rewritten.iter().flat_map(|r| r.adds.iter().cloned()).map(Action::Add));
        actions.extend(come.iter().map(|file| Action::Add(file.add.clone())));
        // A number that no other commit has, so that an earlier one's that comes late is not taken for it.
        let mine = (Uuid::new_v4().as_u64_pair().1 >> 1) as i64;
        let committed = self.commit(about, |state| {
            let app = edits_app_id(self.inner.id);
            if state.txns.get(&app) == Some(&mine) {
                return Ok(Step::Done);
            }
            self.check_clash(&base.state, state, &touched, missed_rows)?;
            let txn = Action::Txn(Transaction::new(app, mine));
            Ok(Step::Write(actions.iter().cloned().chain([txn]).collect()))
        });
        let committed = committed.await;
        match &committed {
            Ok(after) => self.checkpoint_beside_others(after).await,
            // Nothing of it is there, so its files are nobody's.
            Err(Error::Clash { .. }) => self.delete_written(&actions).await,
            Err(_) => {}
        }
        committed
    }

    /// Deletes the files that actions would have brought in.
    async fn delete_written(&self, actions: &[Action]) {
        let History { store, folder, .. } = &self.inner.history;
        for action in actions {
            let Action::Add(add) = action else { continue };
            let Ok(place) = location(folder, &add.path) else { continue };
            if let Err(error) = store.delete(&place).await {
                tracing::debug!(file = %place, %error, "a file that no commit names stays until it is vacuumed");
            }
        }
    }

    /// Writes a checkpoint of the log when many commits came since the last: a table that is written here alone has no
    /// one else who does. Without one the table is only slower to open.
    async fn checkpoint_beside_others(&self, snapshot: &LakeSnapshot) {
        if snapshot.version - snapshot.state.checkpoint.unwrap_or(0) < CHECKPOINT_EVERY {
            return;
        }
        let mut table = DeltaTable::new(self.inner.log_store());
        let written = async {
            table.load_version(u64::try_from(snapshot.version).unwrap_or(0)).await?;
            create_checkpoint(&table, None).await
        };
        if let Err(error) = written.await {
            tracing::warn!(table = %self.inner.url, %error, "no checkpoint of the table's log was written");
        }
        self.tidy(|state| state.checkpoint = state.checkpoint.max(Some(snapshot.version))).await;
    }

    /// Refuses to commit over what others did since the statement read.
    fn check_clash(&self, base: &TableState, now: &TableState, touched: &[Touched], missed_rows: bool) -> Result<()> {
        let clash = |reason: String| Err(Error::Clash { table: self.inner.url.to_string(), reason });
        if base.metadata != now.metadata || base.protocol != now.protocol {
            return clash("its columns or properties are others now".to_owned());
        }
        if let Some(lost) = touched.iter().find(|t| !now.holds(&t.file)) {
            return clash(format!("somebody else changed rows of file {}", lost.file.add.path));
        }
        if missed_rows && now.files.keys().any(|path| !base.files.contains_key(path)) {
            return clash("somebody else added rows".to_owned());
        }
        Ok(())
    }

    /// Writes a file again without the rows that go.
    async fn rewrite(&self, state: &TableState, touched: &Touched, now_ms: i64) -> Result<Rewritten> {
        let file = &touched.file;
        if file.stats.rows == Some(touched.gone.len()) {
            return Ok(Rewritten { adds: vec![], copied: 0, _kept: self.in_flight() });
        }
        let values = values_of(&file.add.partition_values, state.partitioned_by());
        let (writer, kept) = self.writer(state, Folders::Fixed(values), now_ms)?;
        let rows = self.read_all(std::slice::from_ref(file), writer.file_schema.clone());
        let rows = rows.map_err(|e| self.failed("read files of", e.into()))?;
        let read = Arc::new(Mutex::new(0));
        let left = without(rows, touched.gone.clone(), read.clone());
        let written = writer.write(left).await.map_err(|e| self.failed("rewrite files of", e))?;
        let read = *read.lock();
        if file.stats.rows.is_some_and(|rows| rows != read) {
            return Err(self.inner.history.misfit(format!(
                "file {} should have {} rows and gave {read}; nothing was changed, restore the file",
                file.add.path,
                file.stats.rows.unwrap_or(0)
            )));
        }
        Ok(Rewritten { adds: written.adds, copied: written.rows, _kept: kept })
    }
}

/// The files that hold rows which go.
fn touched(base: &TableState, gone: &RoaringTreemap) -> Vec<Touched> {
    let mut by_file: BTreeMap<u64, RoaringTreemap> = BTreeMap::new();
    for number in gone {
        by_file.entry(number >> PLACE_BITS).or_default().insert(number & ((1 << PLACE_BITS) - 1));
    }
    let files = base.files.values().zip(0..);
    files.filter_map(|(file, i)| by_file.remove(&i).map(|gone| Touched { file: file.clone(), gone })).collect()
}

/// The rows of a file without those at these places; `read` counts all that came.
fn without(rows: SendableRecordBatchStream, gone: RoaringTreemap, read: Arc<Mutex<u64>>) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let left = rows.map(move |batch| {
        let batch = batch?;
        let first = {
            let mut read = read.lock();
            let first = *read;
            *read += batch.num_rows() as u64;
            first
        };
        let end = first + batch.num_rows() as u64;
        if gone.range_cardinality(first..end) == 0 {
            return Ok(batch);
        }
        let keep: BooleanArray = (first..end).map(|place| Some(!gone.contains(place))).collect();
        Ok(filter_record_batch(&batch, &keep)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, left))
}

/// The application id that tells of the last commit made here.
fn edits_app_id(id: StreamId) -> String {
    format!("millstream/{id}:edits")
}
