//! Owns tables whose columns go, or get other names or types: every file is written again with the new columns, and
//! one commit puts these files in the place of the others.
//!
//! Rows keep their numbers, so nothing that goes by numbers sees a difference. A table says in a property of which
//! version of its definition its columns are; what was begun for a version and not committed is begun again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use chrono::Utc;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::kernel::Add;
use futures::StreamExt;
use millstream_catalog::{HIDDEN_COLUMNS, ObjectName, StreamId};

use crate::Result;
use crate::action::{About, Action};
use crate::evolve::owner;
use crate::lake::{Lake, unstorable};
use crate::layout::{Folders, Layout, PartitionValues, file_schema};
use crate::merge::MergeOrder;
use crate::schema::{delta_field, has_timestamp_ntz, lake_schema, log_field};
use crate::state::{FileEntry, TableState};
use crate::table::{InFlight, LakeSnapshot, LakeTable, Step};

/// The table property with the version of the definition that the columns are of.
pub(crate) const RESHAPED_KEY: &str = "millstream.reshaped";
/// Tries of a table whose files another process replaces meanwhile.
const TRIES: u32 = 4;

/// Gives the columns that begin with a DEFAULT, for so many rows.
pub type Fill = Arc<dyn Fn(usize) -> Result<RecordBatch, ArrowError> + Send + Sync>;

/// What becomes of a table's columns.
#[derive(Clone)]
pub struct Reshape {
    /// The operation that the commit carries, in Delta's words: `DROP COLUMNS`, `RENAME COLUMN`, ….
    pub operation: String,
    /// The full schema, log types.
    pub schema: SchemaRef,
    /// How rows are laid out; its version is that of the definition.
    pub layout: Layout,
    /// The columns that keep values: what each is called, and what it was called.
    pub kept: Vec<(String, String)>,
    /// The columns that begin with a DEFAULT.
    pub fill: Option<Fill>,
}

/// A table's rows with other columns, in files that no commit names yet.
#[derive(Debug)]
pub struct ReshapedFiles {
    /// The files that they take the place of.
    of: BTreeSet<String>,
    adds: Vec<Add>,
    rows: u64,
    _kept: Vec<Arc<InFlight>>,
}

impl LakeSnapshot {
    /// The version of the definition that the columns are of; 0 while they were only added to.
    pub fn reshaped(&self) -> u32 {
        reshaped_of(&self.state)
    }
}

fn reshaped_of(state: &TableState) -> u32 {
    let version = state.metadata.as_ref().and_then(|m| m.configuration.get(RESHAPED_KEY)?.as_deref());
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl Lake {
    /// Gives a table the columns that its definition asks for, if it does not have them. A table that is not there is
    /// left so. For a table that nobody has opened.
    pub async fn finish_reshape(&self, name: &ObjectName, id: StreamId, reshape: &Reshape) -> Result<()> {
        let history = self.history(name);
        self.finish_removal(&history).await?;
        let state = history.load().await?;
        let own = state.metadata.as_ref().and_then(|m| owner(m)) == Some(id.to_string().as_str());
        if state.version < 0 || !own || reshaped_of(&state) >= reshape.layout.reshaped {
            return Ok(());
        }
        let (url, layout) = (self.table_url(name), reshape.layout.clone());
        let table = LakeTable::new(history, url, self.engine_url(), id, self.options(), layout, state);
        for _ in 0..TRIES {
            let files = table.stage_reshaped(reshape).await?;
            if table.take_reshaped(reshape, &files).await? {
                return Ok(());
            }
        }
        Err(table.inner.history.misfit(format!(
            "its files were replaced {TRIES} times while they were given other columns; stop the other writers"
        )))
    }
}

impl LakeTable {
    /// Writes all rows again, with other columns, to files that are in no commit.
    pub async fn stage_reshaped(&self, reshape: &Reshape) -> Result<ReshapedFiles> {
        let state = self.certain_snapshot().await?.state.clone();
        if let Some(feature) = state.protocol.as_ref().and_then(|p| p.unwritable()) {
            return Err(self.inner.history.misfit(format!("it needs {feature}, which Millstream does not write")));
        }
        let old = columns_of(&state).ok_or_else(|| self.inner.history.misfit("its schema cannot be read".into()))?;
        let target = TableState { log_schema: Some(reshape.schema.clone()), ..TableState::clone(&state) };
        let mut files: Vec<Arc<FileEntry>> = state.files.values().cloned().collect();
        files.sort_by_cached_key(|file| MergeOrder::key(file));
        let mut done =
            ReshapedFiles { of: state.files.keys().cloned().collect(), adds: vec![], rows: 0, _kept: vec![] };
        for file in files {
            let (adds, rows, kept) = self.reshape_file(file, &target, &old, reshape).await?;
            done.adds.extend(adds);
            done.rows += rows;
            done._kept.push(kept);
        }
        Ok(done)
    }

    /// Puts files in the place of those that they were made of, and gives the table their columns. Returns false when
    /// the table has other files by now; true also when it has these columns already.
    pub async fn take_reshaped(&self, reshape: &Reshape, files: &ReshapedFiles) -> Result<bool> {
        let now_ms = Utc::now().timestamp_millis();
        let version = reshape.layout.reshaped;
        let about = About::new(&reshape.operation, now_ms)
            .with_metric("numInsertedRows", 0)
            .with_metric("numDeletedRows", 0)
            .with_metric("numCopiedRows", files.rows);
        let after = self
            .commit(about, |state| {
                if reshaped_of(state) >= version || !files.of.iter().eq(state.files.keys()) {
                    return Ok(Step::Done);
                }
                let mut actions = self.new_columns(state, reshape)?;
                actions.extend(state.files.values().map(|file| Action::Remove(file.removal(now_ms, true))));
                actions.extend(files.adds.iter().cloned().map(Action::Add));
                Ok(Step::Write(actions))
            })
            .await?;
        if after.reshaped() < version {
            return Ok(false);
        }
        self.inner.set_layout(reshape.layout.clone());
        self.tidy(|state| state.set_log_schema(reshape.schema.clone())).await;
        Ok(true)
    }

    /// The metadata with other columns.
    fn new_columns(&self, state: &TableState, reshape: &Reshape) -> Result<Vec<Action>> {
        let history = &self.inner.history;
        let (Some(metadata), Some(protocol)) = (&state.metadata, &state.protocol) else {
            return Err(history.misfit("its log has no schema; restore the first commit or remove the folder".into()));
        };
        let fields = reshape.schema.fields().iter();
        let fields = fields.map(|f| delta_field(f).ok_or_else(|| history.misfit(unstorable(f.name()))));
        let mut metadata = metadata.clone();
        metadata.set_fields(fields.collect::<Result<Vec<_>>>()?);
        metadata.partition_columns.clone_from(&reshape.layout.partitioned_by);
        metadata.configuration.insert(RESHAPED_KEY.to_owned(), Some(reshape.layout.reshaped.to_string()));
        let mut actions = vec![];
        if has_timestamp_ntz(reshape.schema.fields()) && !protocol.allows_timestamp_ntz() {
            actions.push(Action::Protocol(protocol.clone().with_timestamp_ntz()));
        }
        actions.push(Action::Metadata(metadata));
        Ok(actions)
    }

    async fn reshape_file(
        &self,
        file: Arc<FileEntry>,
        target: &TableState,
        old: &SchemaRef,
        reshape: &Reshape,
    ) -> Result<(Vec<Add>, u64, Arc<InFlight>)> {
        let history = &self.inner.history;
        if file.add.deletion_vector.is_some() {
            return Err(history.misfit(format!(
                "file {} has a deletion vector, which another writer made; rewrite it there (REORG TABLE … APPLY \
                 (PURGE)), then columns can be changed",
                file.add.path
            )));
        }
        let partitioned_by = target.partitioned_by();
        let names: Vec<&str> = partitioned_by.iter().map(String::as_str).collect();
        // A column that names folders may get another name, and keeps its place.
        let value =
            |(now, then): (&String, &String)| (now.clone(), file.add.partition_values.get(then).cloned().flatten());
        let values: PartitionValues = reshape.layout.partitioned_by.iter().zip(partitioned_by).map(value).collect();
        let (writer, kept) = self.writer(target, Folders::Fixed(values), Utc::now().timestamp_millis())?;
        let rows = self.read_all(std::slice::from_ref(&file), file_schema(&lake_schema(old), &names));
        let rows = reshaped(rows.map_err(|e| self.failed("read files of", e.into()))?, reshape);
        let written = writer.write(rows).await.map_err(|e| self.failed("rewrite files of", e))?;
        if file.stats.rows.is_some_and(|expected| expected != written.rows) {
            return Err(history.misfit(format!(
                "file {} should have {} rows and gave {}; nothing was changed, restore the file",
                file.add.path,
                file.stats.rows.unwrap_or(0),
                written.rows
            )));
        }
        Ok((written.adds, written.rows, kept))
    }
}

/// The columns that a table's files have, in log types.
fn columns_of(state: &TableState) -> Option<SchemaRef> {
    let fields = state.metadata.as_ref()?.fields().ok()?;
    Some(Arc::new(Schema::new(fields.iter().map(log_field).collect::<Option<Vec<Field>>>()?)))
}

/// Rows under their new names, with what begins with a DEFAULT; the writer gives them their types.
fn reshaped(rows: SendableRecordBatchStream, reshape: &Reshape) -> SendableRecordBatchStream {
    let hidden = HIDDEN_COLUMNS.iter().map(|name| ((*name).to_owned(), (*name).to_owned()));
    let kept: HashMap<String, String> = reshape.kept.iter().cloned().chain(hidden).collect();
    let fill = reshape.fill.clone();
    let rows = rows.map(move |batch| Ok(reshaped_batch(&batch?, &kept, fill.as_ref())?));
    Box::pin(RecordBatchStreamAdapter::new(reshape.schema.clone(), rows))
}

fn reshaped_batch(
    batch: &RecordBatch,
    kept: &HashMap<String, String>,
    fill: Option<&Fill>,
) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = (vec![], vec![]);
    let mut add = |name: &str, column: &ArrayRef| {
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column.clone());
    };
    for (name, from) in kept {
        if let Some(column) = batch.column_by_name(from) {
            add(name, column);
        }
    }
    if let Some(fill) = fill {
        let filled = fill(rows)?;
        filled.schema().fields().iter().zip(filled.columns()).for_each(|(field, column)| add(field.name(), column));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}
