//! Owns what a view reads: a stream's history and then its log, another view's answer and then its changes, or a table.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::future::BoxFuture;
use millstream_buffer::{Clock, LogBatch, LogReader};
use millstream_catalog::{Durability, PARTITION_COLUMN, Positions, StreamId, ViewId};
use millstream_store::StagedFile;
use millstream_views::{WatermarkGauge, weighted};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::changes::{Looked, Place, Sources, lower_one};
use super::open::{OpenView, Progress};
use super::table_input::TableInput;
use super::watermarks::Watermarks;
use crate::read::BatchAdapter;
use crate::stream::OpenStream;
use crate::{Error, Result};

/// One input of a view.
pub(super) enum Input {
    Stream(Box<StreamInput>),
    Table(Box<TableInput>),
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
    /// Only where the view needs them.
    watermarks: Option<Watermarks>,
}

/// A view, read change by change.
pub(super) struct ViewInput {
    view: Arc<OpenView>,
    place: Place,
    sources: Arc<Sources>,
    progress: watch::Receiver<Progress>,
}

/// How far a view below has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Below {
    view: ViewId,
    /// The place in its changelog.
    place: Place,
    /// How far it had read its streams there.
    sources: Vec<(StreamId, Positions)>,
}

/// What is new in an input.
pub(super) enum News {
    /// Rows with weights; may be empty.
    Rows(Vec<RecordBatch>),
    /// The log no longer has what comes next: it is in the lake.
    InHistory,
    /// A statement whose rows lie in files, and the position behind it.
    Files { come: Vec<StagedFile>, gone: Vec<StagedFile>, end: Positions },
    /// Nothing has what comes next any more, and why: the view is to begin anew.
    Lost(String),
    /// Likewise of a view below that was built anew, or was too fast.
    Outdated(String),
}

impl Input {
    /// With `gauge` it keeps the stream's watermark.
    pub(super) fn stream(
        stream: Arc<OpenStream>,
        schema: SchemaRef,
        gauge: Option<WatermarkGauge>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let ends = stream.log().subscribe();
        let partitions = stream.definition().stream.options.partitions;
        let position = Positions::zero(partitions);
        let adapter = BatchAdapter::new(schema);
        let watermarks = gauge.map(|gauge| Watermarks::new(gauge, partitions, clock));
        Self::Stream(Box::new(StreamInput { stream, adapter, position, reader: None, ends, watermarks }))
    }

    pub(super) fn view(view: Arc<OpenView>) -> Self {
        let progress = view.subscribe();
        Self::View(ViewInput { view, place: Place::default(), sources: Arc::default(), progress })
    }

    pub(super) fn table(table: Arc<OpenStream>, schema: SchemaRef) -> Self {
        Self::Table(Box::new(TableInput::new(table, schema)))
    }

    /// The stream or table that it reads and how far it is; `None` for a view.
    pub(super) fn position(&self) -> Option<(StreamId, &Positions)> {
        match self {
            Input::Stream(input) => Some((input.stream.id(), &input.position)),
            Input::Table(input) => Some((input.table.id(), &input.position)),
            Input::View(_) => None,
        }
    }

    /// The view that it reads; `None` for a stream or table.
    pub(super) fn view_below(&self) -> Option<Arc<OpenView>> {
        match self {
            Input::View(input) => Some(Arc::clone(&input.view)),
            Input::Stream(_) | Input::Table(_) => None,
        }
    }

    /// The view that it reads and how far it is; `None` for a stream or table.
    pub(super) fn below(&self) -> Option<Below> {
        let Input::View(input) = self else { return None };
        let sources = input.sources.iter().map(|(id, positions)| (*id, positions.clone())).collect();
        Some(Below { view: input.view.id(), place: input.place, sources })
    }

    /// Goes on reading a view from there. False when it is another view, or does not have what comes next.
    pub(super) fn go_on_from(&mut self, below: &Below) -> bool {
        let Input::View(input) = self else { return false };
        if input.view.id() != below.view {
            return false;
        }
        input.place = below.place;
        input.sources = Arc::new(below.sources.iter().cloned().collect());
        !matches!(input.view.change_at(below.place, 0), (_, Looked::Gone))
    }

    /// Says that a stream's rows before `position` have been taken.
    pub(super) fn taken_to(&mut self, position: Positions) {
        match self {
            Input::Stream(input) => input.taken_to(position),
            Input::Table(input) => input.taken_to(position),
            Input::View(_) => {}
        }
    }

    /// The watermark now; `None` when it does not move, or there is none.
    pub(super) fn watermark(&self) -> Option<i64> {
        let Input::Stream(input) = self else { return None };
        input.watermarks.as_ref()?.now(|partition| input.is_unread(partition))
    }

    /// When the watermark passes `at` though nothing comes.
    pub(super) fn watermark_moves_at(&self, at: Option<i64>) -> Option<i64> {
        let Input::Stream(input) = self else { return None };
        input.watermarks.as_ref()?.moves_at(at, |partition| input.is_unread(partition))
    }

    /// Changes the time after which a partition without news is idle.
    pub(super) fn idle_after(&mut self, idle_us: i64) {
        if let Some(watermarks) = self.watermarks_mut() {
            watermarks.idle_after(idle_us);
        }
    }

    /// What the watermark of each partition has reached; empty where there is none.
    pub(super) fn watermarks_reached(&self) -> Vec<Option<i64>> {
        let Input::Stream(input) = self else { return vec![] };
        input.watermarks.as_ref().map(Watermarks::reached).unwrap_or_default()
    }

    /// Takes over what the watermark of each partition had reached.
    pub(super) fn restore_watermarks(&mut self, reached: &[Option<i64>]) {
        if let Some(watermarks) = self.watermarks_mut() {
            watermarks.restore(reached);
        }
    }

    fn watermarks_mut(&mut self) -> Option<&mut Watermarks> {
        match self {
            Input::Stream(input) => input.watermarks.as_mut(),
            Input::Table(_) | Input::View(_) => None,
        }
    }

    /// The end of a stream's log now.
    pub(super) fn end(&self) -> Positions {
        match self {
            Input::Stream(input) => input.stream.log().view().end().clone(),
            Input::Table(input) => input.table.log().view().end().clone(),
            Input::View(_) => Positions::default(),
        }
    }

    /// Whether everything before `end` has been taken.
    pub(super) fn has_read(&self, end: &Positions) -> bool {
        match self {
            Input::Stream(input) => input.position.covers(end),
            Input::Table(input) => input.position.covers(end),
            Input::View(_) => true,
        }
    }

    /// Rows between the input's position and `end`.
    pub(super) fn rows_to(&self, end: &Positions) -> u64 {
        match self {
            Input::Stream(input) => end.rows_since(&input.position),
            Input::Table(input) => end.rows_since(&input.position),
            Input::View(_) => 0,
        }
    }

    /// Makes what was read as durable as what is said of it: a log without fsync could else lose rows that a checkpoint
    /// counts as read, and give their offsets again; and a view below would give what came behind its last checkpoint
    /// in other steps. False when such a view makes no checkpoint now.
    pub(super) async fn sync(&self) -> Result<bool> {
        match self {
            Input::Stream(input) => sync_lazy(&input.stream).await.map(|()| true),
            Input::Table(input) => sync_lazy(&input.table).await.map(|()| true),
            Input::View(input) => Ok(input.view.save_to(input.place).await),
        }
    }

    /// Adds how far this input has been read; where several know of a stream, the least counts.
    pub(super) fn add_sources(&self, sources: &mut Sources) {
        match self {
            Input::Stream(input) => least(sources, input.stream.id(), &input.position),
            Input::Table(input) => least(sources, input.table.id(), &input.position),
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
                Input::Table(input) if input.is_reading() => return,
                Input::Table(input) => {
                    let position = input.position.clone();
                    input.ends.wait_for(|end| !position.covers(end)).await.is_err()
                }
                Input::View(input) => {
                    let (place, sources) = (input.place, Arc::clone(&input.sources));
                    let changed = |p: &Progress| p.changes_end != place || p.sources != sources;
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
            Input::Table(input) => input.take(limit),
            Input::View(input) => input.take(),
        }
    }
}

/// Syncs the log of a stream that does not do so with every append.
pub(super) async fn sync_lazy(stream: &OpenStream) -> Result<()> {
    if stream.definition().stream.options.durability == Durability::Os {
        stream.log().sync().await?;
    }
    Ok(())
}

fn least(sources: &mut Sources, id: StreamId, positions: &Positions) {
    match sources.get_mut(&id) {
        Some(known) => lower_one(known, positions),
        None => drop(sources.insert(id, positions.clone())),
    }
}

impl StreamInput {
    pub(super) fn stream(&self) -> &Arc<OpenStream> {
        &self.stream
    }

    /// How far it has been read.
    pub(super) fn position(&self) -> &Positions {
        &self.position
    }

    /// The columns that go on.
    pub(super) fn output(&self) -> SchemaRef {
        self.adapter.output()
    }

    pub(super) fn has_watermark(&self) -> bool {
        self.watermarks.is_some()
    }

    /// Keeps the watermark where it is until what is being read has been taken.
    pub(super) fn hold_watermark(&mut self) {
        if let Some(watermarks) = &mut self.watermarks {
            watermarks.hold(true);
        }
    }

    /// Says that everything before `position` has been taken.
    pub(super) fn taken_to(&mut self, position: Positions) {
        self.position = position;
        self.reader = None;
        if let Some(watermarks) = &mut self.watermarks {
            watermarks.hold(false);
        }
    }

    /// A batch of history as the view takes it; its event times are taken note of.
    pub(super) fn noted(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let Some(watermarks) = &mut self.watermarks else { return Ok(batch) };
        let wrap = |e: ArrowError| Error::from_datafusion(e.into(), "");
        let partitions = batch.column(batch.schema().index_of(PARTITION_COLUMN).map_err(wrap)?);
        let wanted: Vec<usize> = (0..self.adapter.output().fields().len()).collect();
        let rows = batch.project(&wanted).map_err(wrap)?;
        watermarks.saw_mixed(partitions, &rows)?;
        Ok(rows)
    }

    /// Whether a partition has rows that were not taken yet.
    fn is_unread(&self, partition: u32) -> bool {
        self.position.get(partition) < self.ends.borrow().get(partition)
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

    fn adapted(&mut self, batch: &LogBatch) -> Result<RecordBatch> {
        let rows = self.adapter.adapt(batch).map_err(|e| Error::from_datafusion(e, ""))?;
        if let Some(watermarks) = &mut self.watermarks {
            watermarks.saw(batch.partition, &rows)?;
        }
        Ok(weighted(&rows, 1)?)
    }
}

impl ViewInput {
    /// The answer below as it is now; changes are taken from there on.
    pub(super) fn begin(&mut self) -> Result<Vec<RecordBatch>> {
        let (answer, place, sources) = self.view.snapshot()?;
        (self.place, self.sources) = (place, sources);
        let batches = answer.batches()?;
        Ok(batches.iter().map(|b| weighted(b, 1)).collect::<Result<_, _>>()?)
    }

    /// Waits until there is an answer below.
    pub(super) async fn ready(&mut self) {
        self.view.has_answer().await;
    }

    fn take(&mut self) -> Result<News> {
        let Some((changes, place, sources)) = self.view.changes_since(self.place) else {
            let name = self.view.name();
            return Ok(News::Outdated(format!("changes of materialized view {name} are gone that were not read yet")));
        };
        self.progress.mark_unchanged();
        (self.place, self.sources) = (place, sources);
        Ok(News::Rows(changes.into_iter().map(|c| c.delta).collect()))
    }
}
