//! Owns what a view reads: a stream's history and then its log, or another view's answer and then its changes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::filter::FilterExecBuilder;
use futures::future::BoxFuture;
use millstream_buffer::{LogBatch, LogReader};
use millstream_catalog::fault::Code;
use millstream_catalog::{OFFSET_COLUMN, PARTITION_COLUMN, Positions, StreamId};
use millstream_views::weighted;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::changes::Sources;
use super::open::{OpenView, Progress, Status};
use crate::engine::Shared;
use crate::read::{BatchAdapter, ReadPoint, StreamTable};
use crate::stream::OpenStream;
use crate::{Error, Result};

/// One input of a view.
pub(super) enum Input {
    Stream(Box<StreamInput>),
    View(ViewInput),
}

/// A stream, read in the order of its log.
pub(super) struct StreamInput {
    stream: Arc<OpenStream>,
    adapter: BatchAdapter,
    position: Positions,
    /// The rest of a log view that is being read.
    reader: Option<Mutex<LogReader>>,
    ends: watch::Receiver<Positions>,
}

/// A view, read change by change.
pub(super) struct ViewInput {
    view: Arc<OpenView>,
    next: u64,
    sources: Arc<Sources>,
    progress: watch::Receiver<Progress>,
}

/// What is new in an input.
pub(super) enum News {
    /// Rows with weights; may be empty.
    Rows(Vec<RecordBatch>),
    /// The log no longer has what comes next: it is in the lake.
    InHistory,
}

impl Input {
    pub(super) fn stream(stream: Arc<OpenStream>, schema: SchemaRef) -> Self {
        let ends = stream.log().subscribe();
        let position = Positions::zero(stream.definition().stream.options.partitions);
        let adapter = BatchAdapter::new(schema);
        Self::Stream(Box::new(StreamInput { stream, adapter, position, reader: None, ends }))
    }

    pub(super) fn view(view: Arc<OpenView>) -> Self {
        let progress = view.subscribe();
        Self::View(ViewInput { view, next: 0, sources: Arc::default(), progress })
    }

    /// The stream that it reads and how far it is; `None` for a view.
    pub(super) fn position(&self) -> Option<(StreamId, &Positions)> {
        match self {
            Input::Stream(input) => Some((input.stream.id(), &input.position)),
            Input::View(_) => None,
        }
    }

    /// Says that a stream's rows before `position` have been taken.
    pub(super) fn taken_to(&mut self, position: Positions) {
        if let Input::Stream(input) = self {
            input.taken_to(position);
        }
    }

    /// The end of a stream's log now.
    pub(super) fn end(&self) -> Positions {
        match self {
            Input::Stream(input) => input.stream.log().view().end().clone(),
            Input::View(_) => Positions::default(),
        }
    }

    /// Whether everything before `end` has been taken.
    pub(super) fn has_read(&self, end: &Positions) -> bool {
        match self {
            Input::Stream(input) => input.position.covers(end),
            Input::View(_) => true,
        }
    }

    /// Adds how far this input has been read; where several know of a stream, the least counts.
    pub(super) fn add_sources(&self, sources: &mut Sources) {
        match self {
            Input::Stream(input) => least(sources, input.stream.id(), &input.position),
            Input::View(input) => input.sources.iter().for_each(|(id, positions)| least(sources, *id, positions)),
        }
    }

    /// Returns when there may be something new. May be dropped and called again.
    pub(super) fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let closed = match self {
                Input::Stream(input) if input.reader.is_some() => return,
                Input::Stream(input) => {
                    let position = input.position.clone();
                    input.ends.wait_for(|end| !position.covers(end)).await.is_err()
                }
                Input::View(input) => {
                    let (next, sources) = (input.next, Arc::clone(&input.sources));
                    let changed = |p: &Progress| p.changes_end != next || p.sources != sources;
                    input.progress.wait_for(changed).await.is_err()
                }
            };
            // A dropped input sends nothing any more; the view's own end comes from elsewhere.
            if closed {
                std::future::pending::<()>().await;
            }
        })
    }

    /// Up to about `limit` rows of what is new. May wait for the disk: call it where blocking is allowed.
    pub(super) fn take(&mut self, limit: usize) -> Result<News> {
        match self {
            Input::Stream(input) => input.take(limit),
            Input::View(input) => input.take(),
        }
    }
}

fn least(sources: &mut Sources, id: StreamId, positions: &Positions) {
    let Some(known) = sources.get_mut(&id) else {
        sources.insert(id, positions.clone());
        return;
    };
    for (i, offset) in known.0.iter_mut().enumerate() {
        *offset = (*offset).min(positions.get(i as u32));
    }
}

impl StreamInput {
    /// A stream of everything from the input's position on, from lake and log, and the position behind it. The
    /// number of rows is an estimate.
    pub(super) async fn history(&self, shared: &Arc<Shared>) -> Result<(SendableRecordBatchStream, Positions, u64)> {
        let point = Arc::new(ReadPoint::default());
        let snapshot = point.snapshot(shared, &self.stream).await?;
        let end = snapshot.log.end().clone();
        let mut state = shared.context()?.state();
        state.config_mut().set_extension(point);
        let wrap = |e| Error::from_datafusion(e, "");
        let table = StreamTable::new(Arc::clone(shared), Arc::clone(&self.stream), true);
        let wanted = self.adapter.output();
        let filter = (self.position.total() > 0).then(|| behind(&self.position));
        let mut columns: Vec<usize> = wanted
            .fields()
            .iter()
            .map(|f| table.schema().index_of(f.name()))
            .collect::<Result<_, _>>()
            .map_err(|e| wrap(e.into()))?;
        let width = columns.len();
        if filter.is_some() {
            for name in [PARTITION_COLUMN, OFFSET_COLUMN] {
                let index = table.schema().index_of(name).map_err(|e| wrap(e.into()))?;
                if !columns.contains(&index) {
                    columns.push(index);
                }
            }
        }
        let filters: Vec<Expr> = filter.clone().into_iter().collect();
        let mut plan = table.scan(&state, Some(&columns), &filters, None).await.map_err(wrap)?;
        if let Some(filter) = filter {
            let schema = datafusion::common::DFSchema::try_from(plan.schema()).map_err(wrap)?;
            let predicate = state.create_physical_expr(filter, &schema).map_err(wrap)?;
            let kept = FilterExecBuilder::new(predicate, plan).apply_projection(Some((0..width).collect()));
            plan = Arc::new(kept.and_then(FilterExecBuilder::build).map_err(wrap)?);
        }
        let rows = end.rows_since(&self.position);
        let stream = execute_stream(plan, state.task_ctx()).map_err(wrap)?;
        Ok((stream, end, rows))
    }

    /// Says that everything before `position` has been taken.
    pub(super) fn taken_to(&mut self, position: Positions) {
        self.position = position;
        self.reader = None;
    }

    fn take(&mut self, limit: usize) -> Result<News> {
        let mut rows = 0;
        let mut batches = Vec::new();
        while rows < limit {
            if self.reader.is_none() {
                let view = self.stream.log().view();
                if self.position.covers(view.end()) {
                    break;
                }
                if !self.position.covers(view.start()) {
                    return if batches.is_empty() { Ok(News::InHistory) } else { Ok(News::Rows(batches)) };
                }
                let reader = match view.resident(&self.position) {
                    Some(batches) => Box::new(batches.into_iter().map(Ok)) as LogReader,
                    None => view.read(&self.position)?,
                };
                self.reader = Some(Mutex::new(reader));
            }
            let next = self.reader.as_mut().and_then(|reader| reader.get_mut().next());
            let Some(batch) = next.transpose()? else {
                self.reader = None;
                // What came meanwhile is for the next step.
                break;
            };
            rows += batch.batch.num_rows();
            batches.push(self.adapted(&batch)?);
            self.position.set(batch.partition, batch.base_offset + batch.batch.num_rows() as u64);
        }
        Ok(News::Rows(batches))
    }

    fn adapted(&self, batch: &LogBatch) -> Result<RecordBatch> {
        let rows = self.adapter.adapt(batch).map_err(|e| Error::from_datafusion(e, ""))?;
        Ok(weighted(&rows, 1)?)
    }
}

/// Rows at or behind the positions.
fn behind(positions: &Positions) -> Expr {
    let per_partition = positions.0.iter().enumerate().map(|(partition, offset)| {
        col(PARTITION_COLUMN).eq(lit(partition as i32)).and(col(OFFSET_COLUMN).gt_eq(lit(*offset as i64)))
    });
    per_partition.reduce(Expr::or).unwrap_or_else(|| lit(true))
}

impl ViewInput {
    /// The answer below as it is now; changes are taken from there on.
    pub(super) fn begin(&mut self) -> Result<Vec<RecordBatch>> {
        let (answer, next, sources) = self.view.snapshot()?;
        self.next = next;
        self.sources = sources;
        let batches = answer.batches()?;
        Ok(batches.iter().map(|b| weighted(b, 1)).collect::<Result<_, _>>()?)
    }

    /// Waits until there is an answer below.
    pub(super) async fn ready(&mut self) {
        let there = self.progress.wait_for(|p| p.status == Status::Running || p.status == Status::Suspended);
        if there.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn take(&mut self) -> Result<News> {
        let Some((changes, sources)) = self.view.changes_since(self.next) else {
            return Err(Error::rejected(
                Code::Busy,
                format!("changes of materialized view {} are gone that were not read yet", self.view.name()),
            ));
        };
        self.progress.mark_unchanged();
        self.next = changes.last().map_or(self.next, |change| change.offset + 1);
        self.sources = sources;
        Ok(News::Rows(changes.into_iter().map(|c| c.delta).collect()))
    }
}
