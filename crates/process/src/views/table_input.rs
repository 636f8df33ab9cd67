//! Owns a table as an input: its rows at one instant, and then its changes, statement by statement.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int8Type, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use millstream_buffer::{LogBatch, LogReader};
use millstream_catalog::{CHANGE_COLUMN, Positions};
use millstream_store::StagedFile;
use millstream_views::weighted_schema;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::input::News;
use crate::background::open_table;
use crate::engine::Shared;
use crate::read::{BatchAdapter, scan_lake};
use crate::stream::OpenStream;
use crate::tables::{FilesOfChange, Following, TableSource, changed_rows, names_files};
use crate::{Error, Result};

/// A table, read change by change.
///
/// The columns that a view reads stay while it is there, ALTER TABLE sees to that; others may come, go and be renamed,
/// and are not looked at.
pub(super) struct TableInput {
    pub(super) table: Arc<OpenStream>,
    adapter: BatchAdapter,
    pub(super) position: Positions,
    /// Whether the rows that the table had at the position were taken.
    begun: bool,
    /// The rest of a log view that is being read.
    reader: Option<Mutex<LogReader>>,
    /// What was read and is not taken yet.
    waiting: VecDeque<LogBatch>,
    pub(super) ends: watch::Receiver<Positions>,
    _following: Option<Following>,
}

impl TableInput {
    pub(super) fn new(table: Arc<OpenStream>, schema: SchemaRef) -> Self {
        let ends = table.log().subscribe();
        let following = Following::of(&table);
        Self {
            table,
            adapter: BatchAdapter::new(schema),
            position: Positions::zero(1),
            begun: false,
            reader: None,
            waiting: VecDeque::new(),
            ends,
            _following: following,
        }
    }

    /// Whether it is to be read from its beginning.
    pub(super) fn is_new(&self) -> bool {
        !self.begun
    }

    /// Whether there is something to take at once.
    pub(super) fn is_reading(&self) -> bool {
        self.reader.is_some() || !self.waiting.is_empty()
    }

    /// The table's rows at one instant, and its position then; that is taken with [`TableInput::taken_to`].
    pub(super) async fn begin(&self, shared: &Arc<Shared>) -> Result<(SendableRecordBatchStream, Positions)> {
        let table = &self.table;
        let wrap = |e| Error::from_datafusion(e, "");
        let Some(state) = table.table() else { return Err(no_table(table)) };
        state.look(shared, table).await?;
        // A change that began before it was followed may not keep what went.
        state.settle().await;
        let snapshot = loop {
            let snapshot = state.snapshot(shared, table).await?;
            // Otherwise it was altered between the two looks.
            if snapshot.reshaped == table.definition().stream.reshaped() {
                break snapshot;
            }
        };
        let position = Positions(vec![snapshot.hot.to]);
        let source = TableSource::new(Arc::clone(shared), Arc::clone(table), true).at(snapshot);
        let place = |name: &str| source.schema().index_of(name).map_err(|e| wrap(e.into()));
        let columns = self.adapter.output().fields().iter().map(|f| place(f.name())).collect::<Result<Vec<_>>>()?;
        let session = shared.context()?.state();
        let plan = source.scan(&session, Some(&columns), &[], None).await.map_err(wrap)?;
        let rows = execute_stream(plan, session.task_ctx()).map_err(wrap)?;
        Ok((rows, position))
    }

    /// Says that everything before `position` has been taken.
    pub(super) fn taken_to(&mut self, position: Positions) {
        (self.position, self.begun, self.reader) = (position, true, None);
        self.waiting.clear();
    }

    /// Up to about `limit` rows of what is new, whole statements. May wait for the disk.
    pub(super) fn take(&mut self, limit: usize) -> Result<News> {
        let (mut rows, mut taken) = (0, Vec::new());
        while rows < limit {
            if !self.is_reading() && !self.read_on()? {
                break;
            }
            if !self.is_reading() {
                return if taken.is_empty() { Ok(News::Lost(self.lost())) } else { Ok(News::Rows(taken)) };
            }
            let Some(batch) = self.next()? else { continue };
            let end = Positions(vec![batch.base_offset + batch.batch.num_rows() as u64]);
            if let Some(text) = names_files(&batch.batch)? {
                if !taken.is_empty() {
                    self.waiting.push_front(batch);
                    break;
                }
                let files = FilesOfChange::parse(&text)?;
                if files.old.is_empty() && files.gone_rows()?.is_some() {
                    return Ok(News::Lost(self.lost()));
                }
                return Ok(News::Files { come: files.come, gone: files.old, end });
            }
            match self.delta(&batch)? {
                Some(delta) => taken.push(delta),
                None if taken.is_empty() => return Ok(News::Lost(self.lost())),
                None => {
                    self.waiting.push_front(batch);
                    break;
                }
            }
            rows += batch.batch.num_rows();
            self.position = end;
        }
        Ok(News::Rows(taken))
    }

    /// Opens what is new in the log; false when there is nothing. Opens nothing where the log has lost it.
    fn read_on(&mut self) -> Result<bool> {
        let view = self.table.log().view();
        if self.position.covers(view.end()) {
            return Ok(false);
        }
        if self.position.covers(view.start()) {
            let reader = match view.resident(&self.position) {
                Some(batches) => Box::new(batches.into_iter().map(Ok)) as LogReader,
                None => view.read(&self.position)?,
            };
            self.reader = Some(Mutex::new(reader));
        }
        Ok(true)
    }

    /// The next piece of the log; those that name files stand alone.
    fn next(&mut self) -> Result<Option<LogBatch>> {
        if let Some(batch) = self.waiting.pop_front() {
            return Ok(Some(batch));
        }
        let next = self.reader.as_mut().and_then(|reader| reader.get_mut().next());
        let Some(batch) = next.transpose()? else {
            self.reader = None;
            return Ok(None);
        };
        self.waiting.extend(pieces(&batch));
        Ok(self.waiting.pop_front())
    }

    /// The rows of a piece with their weights; `None` where some went whose content was not kept.
    fn delta(&self, batch: &LogBatch) -> Result<Option<RecordBatch>> {
        let Some((rows, changes)) = changed_rows(batch, &self.adapter)? else { return Ok(None) };
        let weights: ArrayRef = Arc::new(Int64Array::from_iter_values(changes.values().iter().map(|c| i64::from(*c))));
        let columns = rows.columns().iter().cloned().chain([weights]).collect();
        let delta = RecordBatch::try_new(weighted_schema(&rows.schema()), columns);
        Ok(Some(delta.map_err(|e| Error::from_datafusion(e.into(), ""))?))
    }

    /// The rows in files that a change names.
    pub(super) async fn rows_of(
        &self,
        shared: &Arc<Shared>,
        files: &[StagedFile],
    ) -> Result<SendableRecordBatchStream> {
        let wrap = |e| Error::from_datafusion(e, "");
        let lake = open_table(shared, &self.table).await?;
        let provider = lake.staged_provider(files)?;
        let session = shared.context()?.state();
        let plan = scan_lake(provider.as_ref(), &session, &self.adapter.output(), &[], None).await.map_err(wrap)?;
        execute_stream(plan, session.task_ctx()).map_err(wrap)
    }

    fn lost(&self) -> String {
        format!("changes of table {} are not kept from where the view is", self.table.name())
    }
}

/// The parts of a piece of the log, one for each record that names files.
fn pieces(batch: &LogBatch) -> Vec<LogBatch> {
    let kinds = batch.batch.column_by_name(CHANGE_COLUMN).map(|kinds| kinds.as_primitive::<Int8Type>());
    let zeros: Vec<usize> = match kinds {
        Some(kinds) => (0..kinds.len()).filter(|i| kinds.value(*i) == 0).collect(),
        None => vec![],
    };
    let (mut pieces, mut begin) = (Vec::with_capacity(1), 0);
    let part = |from: usize, to: usize| LogBatch {
        base_offset: batch.base_offset + from as u64,
        batch: batch.batch.slice(from, to - from),
        ..batch.clone()
    };
    for zero in zeros {
        if begin < zero {
            pieces.push(part(begin, zero));
        }
        pieces.push(part(zero, zero + 1));
        begin = zero + 1;
    }
    if begin < batch.batch.num_rows() {
        pieces.push(part(begin, batch.batch.num_rows()));
    }
    pieces
}

fn no_table(table: &OpenStream) -> Error {
    let message = format!("{} is read as a table and is none", table.name());
    Error::rejected(millstream_catalog::fault::Code::Internal, message)
}
