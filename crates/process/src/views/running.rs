//! Owns a dataflow at work: what it takes of its inputs, step by step, and where what it gives goes.
//!
//! A step takes one delta per input and moves the positions with it, so that between two steps the positions of the
//! inputs say exactly which rows are in the state. Checkpoints are made there and nowhere else.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::future::select_all;
use futures::{FutureExt, StreamExt};
use millstream_catalog::fault::Code;
use millstream_catalog::{OnError, Positions, View, ViewKind};
use millstream_store::StagedFile;
use millstream_views::{Dataflow, Refused, WatermarkGauge, consolidate, weighted, weighted_schema};
use tokio::sync::mpsc;

use super::changes::{Changes, Sources};
use super::checkpoints::{Checkpoints, Restored, memory_limit};
use super::failure::{Failure, Outcome};
use super::input::{Input, News};
use super::open::{OpenView, Progress, Status};
use super::outbox::Outbox;
use super::plan::object_name;
use super::saved_changes::Unsaved;
use super::watermarks::idle_us;
use crate::engine::Shared;
use crate::{Error, FaultPoint, Result};

/// Rows that one step takes from one input.
const STEP_ROWS: usize = 64 * 1024;
/// Rows of history that are read at once where every step is shown: they are one step.
const SHOWN_ROWS: u64 = 128 * 1024;
/// Rows of history that are read at once where nobody looks yet.
const UNSEEN_ROWS: u64 = 4 << 20;

/// Where the changes go.
pub(super) enum Output {
    /// To a view's answer; `shown` once others see it.
    View { view: Arc<OpenView>, shown: bool },
    /// To the stream that the view writes.
    Stream { view: Arc<OpenView> },
    /// To somebody who listens; `shown` once the answer was told.
    Listener { listener: mpsc::Sender<Result<RecordBatch>>, shown: bool },
}

impl Output {
    fn view(&self) -> Option<&Arc<OpenView>> {
        match self {
            Output::View { view, .. } | Output::Stream { view } => Some(view),
            Output::Listener { .. } => None,
        }
    }
}

/// What a view has beside its answer.
struct Kept {
    checkpoints: Checkpoints,
    outbox: Outbox,
}

/// A dataflow at work.
pub(super) struct Running {
    shared: Arc<Shared>,
    pub(super) flow: Dataflow,
    inputs: Vec<Input>,
    output: Output,
    kept: Option<Kept>,
    /// The changelog that a checkpoint had, until others see it.
    changes: Option<Changes>,
    /// What changed while several steps are to be seen as one.
    gathered: Option<Vec<RecordBatch>>,
}

impl Running {
    /// A dataflow that has read nothing.
    pub(super) fn new(shared: &Arc<Shared>, flow: Dataflow, output: Output) -> Result<Self> {
        let inputs = open_inputs(shared, &flow)?;
        let (shared, kept, changes, gathered) = (Arc::clone(shared), None, None, None);
        let mut running = Self { shared, flow, inputs, output, kept, changes, gathered };
        running.redefined();
        Ok(running)
    }

    /// Takes up the last checkpoint, and delivers what a crash left of it. `outbox` is what the view has beside its
    /// answer. Call it first.
    pub(super) async fn restore(&mut self, outbox: Outbox) -> Outcome<Restored> {
        let Some(view) = self.output.view().map(Arc::clone) else { return Ok(Restored::Nothing) };
        let (mut checkpoints, restored) = Checkpoints::open(&self.shared, &view, &mut self.flow, &mut self.inputs)?;
        if restored == Restored::Yes {
            let changes = checkpoints.deliver_again(&self.shared, &view, &mut self.flow, &outbox).await?;
            self.changes = view.stream().is_none().then_some(changes);
        }
        self.kept = Some(Kept { checkpoints, outbox });
        Ok(restored)
    }

    /// Begins with another dataflow, in place of one that a restore left unusable.
    pub(super) fn begin_anew(&mut self, flow: Dataflow) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.checkpoints.begin_anew();
        }
        self.inputs = open_inputs(&self.shared, &flow)?;
        (self.flow, self.changes) = (flow, None);
        if let (Some(kept), Some(view)) = (&self.kept, self.output.view()) {
            kept.checkpoints.limit_memory(&mut self.flow, memory_limit(&self.shared, view))?;
        }
        self.redefined();
        Ok(())
    }

    /// Takes over options that can change while it runs.
    pub(super) fn redefined(&mut self) {
        if let Some(view) = self.output.view() {
            let idle_us = idle_us(&view.definition().options);
            self.inputs.iter_mut().for_each(|input| input.idle_after(idle_us));
            self.flow.change_memory_limit(memory_limit(&self.shared, view));
        }
    }

    pub(super) fn report(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(view) = self.output.view() {
            view.report(change);
        }
    }

    /// Takes a step over nothing, which comes first in any case: some answers have rows then.
    pub(super) async fn begin(&mut self) -> Outcome<()> {
        let nothing = self.nothing();
        self.step(nothing).await
    }

    /// Reads the history of every input, before anybody sees the answer.
    pub(super) async fn build(&mut self) -> Outcome<()> {
        self.begin().await?;
        self.begin_tables().await?;
        for i in 0..self.inputs.len() {
            if let Input::View(input) = &mut self.inputs[i] {
                input.ready().await;
                let rows = input.begin()?;
                let deltas = self.only(i, rows);
                self.step(deltas).await?;
            }
        }
        self.catch_up().await
    }

    /// Reads the rows that tables have, of those that are not read yet.
    pub(super) async fn begin_tables(&mut self) -> Outcome<()> {
        for i in self.looked_up_first() {
            let Input::Table(input) = &self.inputs[i] else { continue };
            if !input.is_new() {
                continue;
            }
            let (rows, position) = input.begin(&self.shared).await?;
            self.steps_over(i, rows, 1).await?;
            self.inputs[i].taken_to(position);
        }
        Ok(())
    }

    /// Takes rows in, a step for some of them at a time.
    async fn steps_over(&mut self, i: usize, mut rows: SendableRecordBatchStream, weight: i64) -> Outcome<()> {
        let (mut waiting, mut count) = (Vec::new(), 0);
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|e| Error::from_datafusion(e, ""))?;
            count += batch.num_rows();
            waiting.push(weighted(&batch, weight)?);
            if count >= STEP_ROWS {
                let deltas = self.only(i, std::mem::take(&mut waiting));
                count = 0;
                self.step(deltas).await?;
            }
        }
        let deltas = self.only(i, waiting);
        self.step(deltas).await
    }

    /// Takes in a statement whose rows lie in files; others see all of it or nothing.
    async fn read_files(&mut self, i: usize, come: &[StagedFile], gone: &[StagedFile], end: Positions) -> Outcome<()> {
        let own = self.gather();
        for (files, weight) in [(gone, -1), (come, 1)] {
            let Input::Table(input) = &self.inputs[i] else { return Ok(()) };
            if files.is_empty() {
                continue;
            }
            let rows = match input.rows_of(&self.shared, files).await {
                Ok(rows) => rows,
                Err(error) => return Err(self.lost(crate::error::chain(&error))),
            };
            if let Err(failure) = self.steps_over(i, rows, weight).await {
                // The files may be gone; the table has their rows.
                return Err(self.lost(crate::error::chain(&failure.error)));
            }
        }
        self.inputs[i].taken_to(end);
        if own { self.give_gathered().await } else { Ok(()) }
    }

    /// Takes in what is not in the log, or says that it is not to be had.
    async fn read_more(&mut self, i: usize, news: News) -> Outcome<()> {
        match news {
            News::Rows(rows) => {
                let deltas = self.only(i, rows);
                self.step(deltas).await
            }
            News::InHistory => self.read_history(i).await,
            News::Files { come, gone, end } => self.read_files(i, &come, &gone, end).await,
            News::Lost(reason) => Err(self.lost(reason)),
            News::Outdated(reason) => Err(Failure::outdated(Error::rejected(Code::Busy, reason))),
        }
    }

    /// The failure of a view that has to begin anew.
    fn lost(&self, reason: String) -> Failure {
        if let Some(view) = self.output.view() {
            view.begins_anew();
        }
        Error::rejected(Code::Busy, format!("{reason}; the view is built anew")).into()
    }

    /// From now on steps are seen together; false when they are already.
    fn gather(&mut self) -> bool {
        let begins = self.gathered.is_none();
        self.gathered.get_or_insert_default();
        begins
    }

    /// Shows what was gathered.
    async fn give_gathered(&mut self) -> Outcome<()> {
        let Some(deltas) = self.gathered.take() else { return Ok(()) };
        let delta = consolidate(&weighted_schema(self.flow.schema()), &deltas)?;
        if self.output.view().is_none_or(|view| view.stream().is_none()) {
            let given = deltas.iter().map(RecordBatch::num_rows).sum();
            self.flow.gave_together(given, delta.num_rows());
        }
        self.give(delta).await
    }

    /// Takes in what is there now, before anybody sees the answer.
    pub(super) async fn catch_up(&mut self) -> Outcome<()> {
        let ends = self.ends();
        self.expect_history(&ends);
        for i in self.looked_up_first() {
            let end = &ends[i];
            while !self.inputs[i].has_read(end) {
                let news = self.take(i)?;
                self.read_more(i, news).await?;
                // Those below keep their changes for a while only.
                self.take_views().await?;
                self.settle().await?;
                self.save_if_due().await?;
            }
        }
        self.take_views().await
    }

    /// Takes in what is new in views below.
    async fn take_views(&mut self) -> Outcome<()> {
        for i in 0..self.inputs.len() {
            if self.inputs[i].view_below().is_none() {
                continue;
            }
            match self.take(i)? {
                News::Rows(rows) if rows.is_empty() => {}
                news => self.read_more(i, news).await?,
            }
        }
        Ok(())
    }

    /// The ends of the inputs now.
    pub(super) fn ends(&self) -> Vec<Positions> {
        self.inputs.iter().map(Input::end).collect()
    }

    /// Whether everything before these ends is read.
    pub(super) fn has_read(&self, ends: &[Positions]) -> bool {
        self.inputs.iter().zip(ends).all(|(input, end)| input.has_read(end))
    }

    /// Says how much history is to be read.
    pub(super) fn expect_history(&self, ends: &[Positions]) {
        let rows = self.inputs.iter().zip(ends).map(|(input, end)| input.rows_to(end)).sum();
        self.report(|progress| progress.history = (0, rows));
    }

    fn take(&mut self, i: usize) -> Result<News> {
        self.take_up_to(i, STEP_ROWS)
    }

    fn take_up_to(&mut self, i: usize, rows: usize) -> Result<News> {
        tokio::task::block_in_place(|| self.inputs[i].take(rows))
    }

    /// Reads some of what the log of an input no longer has.
    async fn read_history(&mut self, i: usize) -> Outcome<()> {
        let Input::Stream(input) = &mut self.inputs[i] else { return Ok(()) };
        let unseen = matches!(self.output, Output::View { shown: false, .. } | Output::Listener { shown: false, .. });
        let limit = if unseen { UNSEEN_ROWS } else { SHOWN_ROWS };
        let (mut rows, end) = input.history(&self.shared, limit, !unseen).await?;
        let (mut waiting, mut count) = (Vec::new(), 0);
        while let Some(batch) = rows.next().await {
            let Input::Stream(input) = &mut self.inputs[i] else { return Ok(()) };
            let batch = input.noted(batch.map_err(|e| Error::from_datafusion(e, ""))?)?;
            count += batch.num_rows();
            waiting.push(weighted(&batch, 1)?);
            if unseen && count >= STEP_ROWS {
                let deltas = self.only(i, std::mem::take(&mut waiting));
                count = 0;
                self.step(deltas).await?;
            }
        }
        self.inputs[i].taken_to(end);
        let deltas = self.only(i, waiting);
        self.step(deltas).await
    }

    fn nothing(&self) -> Vec<Vec<RecordBatch>> {
        self.inputs.iter().map(|_| vec![]).collect()
    }

    fn only(&self, i: usize, rows: Vec<RecordBatch>) -> Vec<Vec<RecordBatch>> {
        let mut deltas = self.nothing();
        deltas[i] = rows;
        deltas
    }

    /// How far every stream has been read.
    pub(super) fn sources(&self) -> Sources {
        let mut sources = Sources::new();
        self.inputs.iter().for_each(|input| input.add_sources(&mut sources));
        sources
    }

    /// Returns when there may be something new.
    pub(super) async fn changed(&mut self) {
        if self.inputs.is_empty() {
            std::future::pending::<()>().await;
        }
        let moves_at = self.watermark_moves_at();
        let news = select_all(self.inputs.iter_mut().map(Input::changed));
        let Some(at_us) = moves_at else {
            news.await;
            return;
        };
        tokio::select! {
            _ = news => {}
            () = self.shared.options.clock.until(at_us) => {}
        }
    }

    /// The views that it reads.
    pub(super) fn views_below(&self) -> Vec<Arc<OpenView>> {
        self.inputs.iter().filter_map(Input::view_below).collect()
    }

    /// When the watermark of an input moves though nothing comes.
    fn watermark_moves_at(&self) -> Option<i64> {
        let inputs = self.inputs.iter().enumerate();
        inputs.filter_map(|(i, input)| input.watermark_moves_at(self.flow.watermark(i))).min()
    }

    /// Says before a step how far the inputs' watermarks are.
    fn advance_watermarks(&mut self) {
        for (i, input) in self.inputs.iter().enumerate() {
            if let Some(at_us) = input.watermark() {
                self.flow.advance_watermark(i, at_us);
            }
        }
    }

    /// The least watermark of the inputs that have one.
    fn watermark(&self) -> Option<i64> {
        let with_one = (0..self.inputs.len()).filter(|i| self.flow.watermark_gauge(*i).is_some());
        with_one.map(|i| self.flow.watermark(i)).min().flatten()
    }

    /// Takes in what is new: for a stream several steps, since each commit costs a sync of the disk.
    pub(super) async fn advance(&mut self) -> Outcome<()> {
        loop {
            self.advance_once().await?;
            let full = self.kept.as_ref().is_some_and(|kept| kept.outbox.is_full());
            if !self.gathers() || full || self.changed().now_or_never().is_none() {
                break;
            }
        }
        self.settle().await
    }

    /// Whether a commit may hold several steps. Where a row ends the stream, what came before it is not to wait for it.
    fn gathers(&self) -> bool {
        match &self.output {
            Output::Stream { view } => view.definition().options.on_error != OnError::Stop,
            Output::View { .. } | Output::Listener { .. } => false,
        }
    }

    /// The numbers of the inputs, those first that are looked up.
    fn looked_up_first(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..self.inputs.len()).collect();
        numbers.sort_by_key(|i| !self.flow.inputs()[*i].looked_up);
        numbers
    }

    /// Takes in what is new of the inputs that others look up, so that rows see all that was there when they came.
    async fn advance_looked_up(&mut self) -> Outcome<()> {
        for i in (0..self.inputs.len()).filter(|i| self.flow.inputs()[*i].looked_up).collect::<Vec<_>>() {
            let end = self.inputs[i].end();
            while !self.inputs[i].has_read(&end) {
                let news = self.take(i)?;
                self.read_more(i, news).await?;
            }
        }
        Ok(())
    }

    async fn advance_once(&mut self) -> Outcome<()> {
        self.advance_looked_up().await?;
        let (mut deltas, mut later) = (self.nothing(), Vec::new());
        // What is looked up is taken last and whole: it came before the rows that were taken, or with them.
        for i in self.looked_up_first().into_iter().rev() {
            let looked_up = self.flow.inputs()[i].looked_up;
            let limit = if looked_up { usize::MAX } else { STEP_ROWS };
            loop {
                match self.take_up_to(i, limit)? {
                    News::Rows(rows) => deltas[i] = rows,
                    // The positions are behind rows that were taken and are not there yet.
                    news if looked_up => {
                        self.gather();
                        self.read_more(i, news).await?;
                        continue;
                    }
                    news => later.insert(0, (i, news)),
                }
                break;
            }
        }
        if deltas.iter().any(|rows| !rows.is_empty()) || later.is_empty() {
            self.step(deltas).await?;
        }
        self.give_gathered().await?;
        for (i, news) in later {
            self.read_more(i, news).await?;
        }
        Ok(())
    }

    /// Takes a step. The positions of the inputs are behind what it takes already, unless nobody sees the answer.
    async fn step(&mut self, deltas: Vec<Vec<RecordBatch>>) -> Outcome<()> {
        let rows: usize = deltas.iter().flatten().map(RecordBatch::num_rows).sum();
        self.advance_watermarks();
        let output = self.flow.step(deltas).await?;
        if let Some(view) = self.output.view() {
            let now_us = self.shared.options.clock.now_us();
            view.count(rows as u64, output.refused.len() as u64, output.late.len() as u64, now_us);
            let watermark_us = self.watermark();
            view.report(|progress| {
                if progress.status == Status::Building {
                    progress.history.0 += rows as u64;
                }
                progress.unsettled |= !output.refused.is_empty() || !output.late.is_empty();
                progress.watermark_us = watermark_us;
            });
            stop_at(view, &output.refused)?;
        }
        if let Some(kept) = &mut self.kept {
            kept.outbox.set_aside(output.refused);
            kept.outbox.set_aside(output.late);
        }
        match &mut self.gathered {
            Some(gathered) => {
                gathered.push(output.delta);
                Ok(())
            }
            None => self.give(output.delta).await,
        }
    }

    /// Has a change of the answer go where it goes.
    async fn give(&mut self, delta: RecordBatch) -> Outcome<()> {
        match &self.output {
            Output::View { shown: false, .. } | Output::Listener { shown: false, .. } => {
                self.flow.answer().apply(&delta)?;
                if let Some(changes) = self.changes.as_mut().filter(|_| delta.num_rows() > 0) {
                    changes.push(delta, self.shared.options.clock.now_us());
                }
            }
            Output::View { shown: true, .. } if self.closes_now(&delta) => {
                let sources = self.sources();
                if let Some(kept) = &mut self.kept {
                    kept.outbox.close(delta, sources);
                }
            }
            Output::View { view, shown: true } => {
                view.change(&delta, self.sources(), self.shared.options.clock.now_us())?;
            }
            Output::Listener { shown: true, .. } => self.tell(delta).await,
            Output::Stream { .. } => {
                if let Some(kept) = &mut self.kept {
                    kept.outbox.add(&delta)?;
                }
            }
        }
        Ok(())
    }

    /// Lets logs of tables forget what no restart asks for.
    fn release_logs(&self) {
        let Some(view) = self.output.view() else { return };
        if let Some(checkpoints) = self.kept.as_ref().map(|kept| &kept.checkpoints).filter(|c| c.are_made()) {
            if let Some(saved) = checkpoints.positions() {
                view.needs_logs_from(saved);
            }
            return;
        }
        let live: Vec<_> = self.inputs.iter().filter_map(Input::position).map(|(id, at)| (id, at.clone())).collect();
        view.needs_logs_from(&live);
    }

    /// Whether a delta has closed windows, or comes behind such: they are shown when they are committed.
    fn closes_now(&self, delta: &RecordBatch) -> bool {
        let wait = self.kept.as_ref().is_some_and(|kept| kept.outbox.has_closed());
        self.flow.closes() && (delta.num_rows() > 0 || wait)
    }

    /// Sees to what steps gave beside an answer: commits it and delivers it. What a stream reports as read is in it.
    pub(super) async fn settle(&mut self) -> Outcome<()> {
        let waits = self.kept.as_ref().is_some_and(|kept| !kept.outbox.is_empty());
        if waits {
            self.save().await?;
        }
        let sources = matches!(self.output, Output::Stream { .. }).then(|| Arc::new(self.sources()));
        self.report(|progress| {
            progress.unsettled = false;
            if let Some(sources) = sources {
                progress.sources = sources;
            }
        });
        self.report_size();
        self.release_logs();
        Ok(())
    }

    /// Writes a checkpoint, unless nothing came since the last one.
    pub(super) async fn save(&mut self) -> Outcome<()> {
        let changes = self.unsaved_changes();
        let Some(Kept { checkpoints, outbox }) = &mut self.kept else { return Ok(()) };
        self.shared.faults.reach(FaultPoint::OutboxGathered)?;
        checkpoints.save(&self.shared, &mut self.flow, &self.inputs, outbox, changes).await?;
        let saved = checkpoints.changes_end();
        self.report(|progress| {
            progress.changes_saved = saved;
            progress.saves += 1;
        });
        Ok(())
    }

    /// Writes a checkpoint if the last one is old.
    pub(super) async fn save_if_due(&mut self) -> Outcome<()> {
        match self.kept.as_ref().is_some_and(|kept| kept.checkpoints.is_due()) {
            true => self.save().await,
            false => Ok(()),
        }
    }

    /// What a checkpoint is to have of the changelog. The changes themselves are in it where the view says how long they
    /// are kept, and where another view goes on from them.
    fn unsaved_changes(&self) -> Option<Unsaved> {
        let (Output::View { view, shown }, Some(kept)) = (&self.output, &self.kept) else { return None };
        let last = kept.checkpoints.saved_changes();
        let definition = view.definition();
        let wanted = definition.options.retention_ms.is_some() || definition.options.retention_bytes.is_some();
        let goes_on_from_it = |above: &OpenView| {
            let definition_above = above.definition();
            definition_above.reads(definition.object()) && !reads_streams_alone(&definition_above)
        };
        let keep = wanted || self.shared.views().iter().any(|above| goes_on_from_it(above));
        match &self.changes {
            Some(changes) => Some(Unsaved::of(changes, last, keep)),
            None if *shown => view.unsaved_changes(last, keep),
            None => None,
        }
    }

    /// Shows the answer to readers; from now on each step changes what they see.
    pub(super) async fn show(&mut self) -> Outcome<()> {
        let sources = self.sources();
        match &mut self.output {
            Output::View { view, shown } => {
                let changes = self.changes.take().unwrap_or_else(|| view.new_changes());
                view.publish(Arc::clone(self.flow.answer()), changes, sources, self.flow.grows());
                *shown = true;
            }
            Output::Listener { shown, .. } => {
                *shown = true;
                for rows in self.flow.answer().snapshot().batches()? {
                    self.tell(weighted(&rows, 1)?).await;
                }
            }
            Output::Stream { .. } => {}
        }
        self.report_size();
        Ok(())
    }

    async fn tell(&self, delta: RecordBatch) {
        if let Output::Listener { listener, .. } = &self.output
            && delta.num_rows() > 0
        {
            // Whoever left is noticed by who waits for it.
            drop(listener.send(Ok(delta)).await);
        }
    }

    fn report_size(&mut self) {
        let (_, bytes) = self.flow.state_size();
        self.report(|progress| progress.state_bytes = bytes as u64);
    }
}

/// Whether views below stand for their queries in it, as far as that is known without its plan.
fn reads_streams_alone(view: &View) -> bool {
    view.emit_on_window_close || matches!(view.kind, ViewKind::DerivedStream { .. })
}

fn open_inputs(shared: &Shared, flow: &Dataflow) -> Result<Vec<Input>> {
    let inputs = flow.inputs().iter().enumerate();
    inputs.map(|(i, input)| open_input(shared, input, flow.watermark_gauge(i))).collect()
}

fn open_input(shared: &Shared, input: &millstream_views::ViewInput, gauge: Option<&WatermarkGauge>) -> Result<Input> {
    let name = object_name(&input.table)
        .ok_or_else(|| Error::rejected(Code::Internal, format!("{} is no object's name", input.table)))?;
    match shared.view(&name) {
        Some(below) => Ok(Input::view(below)),
        None => {
            let (stream, schema) = (shared.stream(&name)?, Arc::clone(&input.schema));
            if stream.table().is_some() {
                return Ok(Input::table(stream, schema));
            }
            let clock = Arc::clone(&shared.options.clock);
            Ok(Input::stream(stream, schema, gauge.cloned(), clock))
        }
    }
}

/// Ends a view that is not to go on behind a row that it cannot compute.
fn stop_at(view: &OpenView, refused: &[Refused]) -> Outcome<()> {
    let definition = view.definition();
    let Some(first) = refused.first().filter(|_| definition.options.on_error == OnError::Stop) else { return Ok(()) };
    let (kind, name) = (definition.kind.word(), &definition.name);
    Err(Failure::lasting(Error::rejected(
        Code::InvalidValue,
        format!("{kind} {name} stops at a row it cannot compute (ON ERROR STOP): {}: {}", first.reason, first.row),
    )))
}
