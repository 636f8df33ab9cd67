//! Owns the task of a view: it builds the answer from the history of its inputs, then follows them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::StreamExt;
use futures::future::select_all;
use millstream_catalog::fault::Code;
use millstream_catalog::{OnError, ViewState};
use millstream_views::{Dataflow, Refused, StepOutput, weighted};
use tokio::sync::mpsc;

use super::changes::Sources;
use super::checkpoints::{Checkpoints, Restored, remove_state};
use super::input::{Input, News};
use super::open::{OpenView, Progress, Status};
use super::plan::{dataflow, object_name};
use crate::background::backoff;
use crate::engine::Shared;
use crate::ingest::{QuarantinedRow, quarantine_rows};
use crate::{Error, Result};

/// Rows that one step takes from one input.
const STEP_ROWS: usize = 64 * 1024;

/// Runs until the view is dropped or the engine stops. What fails is begun again from nothing, after a pause.
pub(crate) async fn follow(shared: Arc<Shared>, view: Arc<OpenView>) {
    keep_up(&shared, &view).await;
    if view.is_dropped() {
        remove_state(&shared, view.id());
    }
}

async fn keep_up(shared: &Arc<Shared>, view: &Arc<OpenView>) {
    let job = shared.jobs.register("view", &view.name().to_string());
    loop {
        job.started();
        let Err(error) = run(shared, view).await else { return };
        let text = crate::error::chain(&error);
        tracing::warn!(view = %view.name(), error = %text, "the view is built again after a pause");
        view.report(|progress| {
            progress.status = Status::Failed;
            progress.error = Some(text);
        });
        let pause: Duration = backoff(job.failed(&error));
        tokio::select! {
            () = view.closing.cancelled() => return,
            () = view.redefined.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One life of the dataflow. Returns when the view closes, or with an error.
async fn run(shared: &Arc<Shared>, view: &Arc<OpenView>) -> Result<()> {
    let started = tokio::select! {
        () = view.closing.cancelled() => return Ok(()),
        started = start(shared, view) => started,
    };
    let (mut running, mut saved) = started?;
    view.publish(Arc::clone(running.flow.answer()), running.sources(), running.flow.grows());
    running.report_size();
    loop {
        // Begun before the state is looked at, so that a SUSPEND right behind the look is not missed.
        let redefined = view.redefined.notified();
        tokio::select! {
            () = view.closing.cancelled() => break,
            () = wait_while_suspended(view) => {}
        }
        tokio::select! {
            () = view.closing.cancelled() => break,
            () = redefined => {}
            () = running.changed() => running.advance().await?,
        }
        saved.save_if_due(&mut running.flow, &running.inputs)?;
    }
    saved.save(&mut running.flow, &running.inputs)
}

/// The dataflow with everything taken in that was there at the start: from its last checkpoint, or from nothing.
async fn start(shared: &Arc<Shared>, view: &Arc<OpenView>) -> Result<(Running, Checkpoints)> {
    let definition = view.definition();
    wait_for_views_below(shared, view).await;
    view.report(|progress| {
        progress.status = Status::Building;
        progress.history = (0, 0);
    });
    let flow = dataflow(shared, &definition.query, &definition.columns).await?;
    let mut running = Running::new(shared, flow, Output::View(Arc::clone(view)))?;
    let (mut saved, restored) = Checkpoints::open(shared, view.id(), &mut running.flow, &mut running.inputs)?;
    match restored {
        Restored::Yes => {
            view.report(|progress| progress.sources = Arc::new(running.sources()));
            // A suspended view stays as it was, restarts notwithstanding.
            if definition.state == ViewState::Running {
                running.catch_up().await?;
            }
        }
        Restored::Nothing => running.build().await?,
        Restored::Unusable => {
            // A restore that failed halfway leaves nothing to build on.
            let flow = dataflow(shared, &definition.query, &definition.columns).await?;
            running = Running::new(shared, flow, Output::View(Arc::clone(view)))?;
            running.build().await?;
        }
    }
    saved.save(&mut running.flow, &running.inputs)?;
    Ok((running, saved))
}

/// Sends the answer of a dataflow, each row as one that comes, and then what changes in it, until nobody listens.
pub(crate) async fn send_changes(shared: Arc<Shared>, flow: Dataflow, listener: mpsc::Sender<Result<RecordBatch>>) {
    let gone = listener.clone();
    let sending = async {
        let mut running = Running::new(&shared, flow, Output::Listener(listener.clone()))?;
        running.build().await?;
        for rows in running.flow.answer().snapshot().batches()? {
            running.tell(weighted(&rows, 1)?).await;
        }
        loop {
            running.changed().await;
            running.advance().await?;
        }
    };
    let ended: Result<()> = tokio::select! {
        ended = sending => ended,
        () = gone.closed() => return,
        () = shared.live.cancelled() => Err(Error::rejected(Code::ShuttingDown, "the node is stopping")),
    };
    if let Err(error) = ended {
        // The listener may have left; then there is nobody to tell.
        drop(gone.send(Err(error)).await);
    }
}

async fn wait_while_suspended(view: &OpenView) {
    if view.definition().state == ViewState::Running {
        return;
    }
    view.report(|progress| progress.status = Status::Suspended);
    loop {
        let resumed = view.redefined.notified();
        if view.definition().state == ViewState::Running {
            break;
        }
        resumed.await;
    }
    view.report(|progress| progress.status = Status::Running);
}

async fn wait_for_views_below(shared: &Shared, view: &OpenView) {
    for dependency in &view.definition().depends_on {
        if let Some(below) = shared.view(&dependency.name) {
            let mut progress = below.subscribe();
            let there = progress.wait_for(|p| matches!(p.status, Status::Running | Status::Suspended));
            if there.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn open_input(shared: &Shared, input: &millstream_views::ViewInput) -> Result<Input> {
    let name = object_name(&input.table)
        .ok_or_else(|| Error::rejected(Code::Internal, format!("{} is no object's name", input.table)))?;
    match shared.view(&name) {
        Some(below) => Ok(Input::view(below)),
        None => Ok(Input::stream(shared.stream(&name)?, Arc::clone(&input.schema))),
    }
}

/// Where the changes go.
enum Output {
    View(Arc<OpenView>),
    Listener(mpsc::Sender<Result<RecordBatch>>),
}

/// A dataflow at work.
struct Running {
    shared: Arc<Shared>,
    flow: Dataflow,
    inputs: Vec<Input>,
    output: Output,
}

impl Running {
    fn new(shared: &Arc<Shared>, flow: Dataflow, output: Output) -> Result<Self> {
        let inputs = flow.inputs().iter().map(|input| open_input(shared, input)).collect::<Result<_>>()?;
        Ok(Self { shared: Arc::clone(shared), flow, inputs, output })
    }

    fn report(&self, change: impl FnOnce(&mut Progress)) {
        if let Output::View(view) = &self.output {
            view.report(change);
        }
    }

    /// Reads the history of every input.
    async fn build(&mut self) -> Result<()> {
        // The first step is taken in any case: some answers have rows over nothing.
        let nothing = self.inputs.iter().map(|_| vec![]).collect();
        self.step_unpublished(nothing).await?;
        for i in 0..self.inputs.len() {
            match &mut self.inputs[i] {
                Input::Stream(_) => self.read_history(i, false).await?,
                Input::View(input) => {
                    input.ready().await;
                    let rows = input.begin()?;
                    let deltas = self.only(i, rows);
                    self.step_unpublished(deltas).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes in what came since the checkpoint, before anybody sees the answer.
    async fn catch_up(&mut self) -> Result<()> {
        let ends: Vec<_> = self.inputs.iter().map(Input::end).collect();
        for (i, end) in ends.iter().enumerate() {
            while !self.inputs[i].has_read(end) {
                match tokio::task::block_in_place(|| self.inputs[i].take(STEP_ROWS))? {
                    News::Rows(rows) => {
                        let deltas = self.only(i, rows);
                        self.step_unpublished(deltas).await?;
                    }
                    News::InHistory => self.read_history(i, false).await?,
                }
            }
        }
        Ok(())
    }

    /// Reads what lies between an input's position and the end of its log, in steps of bounded size.
    async fn read_history(&mut self, i: usize, published: bool) -> Result<()> {
        let Input::Stream(input) = &self.inputs[i] else { return Ok(()) };
        let (mut rows, end, all) = input.history(&self.shared).await?;
        self.report(|progress| progress.history.1 += all);
        let (mut waiting, mut count) = (Vec::new(), 0);
        loop {
            let batch = rows.next().await.transpose().map_err(|e| Error::from_datafusion(e, ""))?;
            let done = batch.is_none();
            if let Some(batch) = batch {
                count += batch.num_rows();
                waiting.push(weighted(&batch, 1)?);
            }
            if count >= STEP_ROWS || done && count > 0 {
                let deltas = self.only(i, std::mem::take(&mut waiting));
                self.report(|progress| progress.history.0 += count as u64);
                count = 0;
                if published {
                    self.step_published(deltas).await?;
                } else {
                    self.step_unpublished(deltas).await?;
                }
            }
            if done {
                break;
            }
        }
        if let Input::Stream(input) = &mut self.inputs[i] {
            input.taken_to(end);
        }
        if published {
            // Only now are all rows before the new position in the answer: that is to be told.
            let nothing = self.inputs.iter().map(|_| vec![]).collect();
            self.step_published(nothing).await?;
        }
        Ok(())
    }

    fn only(&self, i: usize, rows: Vec<RecordBatch>) -> Vec<Vec<RecordBatch>> {
        let mut deltas: Vec<Vec<RecordBatch>> = self.inputs.iter().map(|_| vec![]).collect();
        deltas[i] = rows;
        deltas
    }

    /// How far every stream has been read.
    fn sources(&self) -> Sources {
        let mut sources = Sources::new();
        self.inputs.iter().for_each(|input| input.add_sources(&mut sources));
        sources
    }

    /// Returns when there may be something new.
    async fn changed(&mut self) {
        if self.inputs.is_empty() {
            std::future::pending::<()>().await;
        }
        select_all(self.inputs.iter_mut().map(Input::changed)).await;
    }

    /// Takes in what is new.
    async fn advance(&mut self) -> Result<()> {
        let mut deltas = Vec::with_capacity(self.inputs.len());
        let mut in_history = Vec::new();
        for (i, input) in self.inputs.iter_mut().enumerate() {
            match tokio::task::block_in_place(|| input.take(STEP_ROWS))? {
                News::Rows(rows) => deltas.push(rows),
                News::InHistory => {
                    in_history.push(i);
                    deltas.push(vec![]);
                }
            }
        }
        self.step_published(deltas).await?;
        for i in in_history {
            self.read_history(i, true).await?;
        }
        Ok(())
    }

    async fn step_unpublished(&mut self, deltas: Vec<Vec<RecordBatch>>) -> Result<()> {
        let output = self.step(deltas).await?;
        Ok(self.flow.answer().apply(&output.delta)?)
    }

    async fn step_published(&mut self, deltas: Vec<Vec<RecordBatch>>) -> Result<()> {
        let output = self.step(deltas).await?;
        match &self.output {
            Output::View(view) => view.change(&output.delta, self.sources(), self.shared.options.clock.now_us())?,
            Output::Listener(_) => self.tell(output.delta).await,
        }
        self.report_size();
        Ok(())
    }

    async fn tell(&self, delta: RecordBatch) {
        if let Output::Listener(listener) = &self.output
            && delta.num_rows() > 0
        {
            // Whoever left is noticed by who waits for it.
            drop(listener.send(Ok(delta)).await);
        }
    }

    async fn step(&mut self, deltas: Vec<Vec<RecordBatch>>) -> Result<StepOutput> {
        let rows: usize = deltas.iter().flatten().map(RecordBatch::num_rows).sum();
        let output = self.flow.step(deltas).await?;
        if let Output::View(view) = &self.output {
            view.count(rows as u64, output.refused.len() as u64);
            if !output.refused.is_empty() {
                refuse(&self.shared, view, &output.refused).await?;
            }
        }
        Ok(output)
    }

    fn report_size(&mut self) {
        let (_, bytes) = self.flow.state_size();
        self.report(|progress| progress.state_bytes = bytes as u64);
    }
}

/// Rows that an expression failed on go to quarantine, or end the view.
async fn refuse(shared: &Shared, view: &OpenView, refused: &[Refused]) -> Result<()> {
    let name = view.name();
    if view.definition().options.on_error == OnError::Stop {
        let first = &refused[0];
        return Err(Error::rejected(
            Code::InvalidValue,
            format!(
                "materialized view {name} stops at a row it cannot compute (ON ERROR STOP): {}: {}",
                first.reason, first.row
            ),
        ));
    }
    let rows = refused.iter().map(|r| QuarantinedRow { reason: r.reason.clone(), text: r.row.clone() });
    quarantine_rows(shared, &name, rows.collect()).await
}
