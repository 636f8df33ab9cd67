//! Owns the task of a view: it takes up the last checkpoint or begins with history, then follows its inputs.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::future::select_all;
use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectName, ViewState};
use millstream_views::Dataflow;
use tokio::sync::mpsc;

use super::checkpoints::{Restored, remove_state};
use super::failure::{Attempts, Failure, Outcome};
use super::open::{OpenView, Status};
use super::outbox::Outbox;
use super::plan::dataflow;
use super::running::{Output, Running};
use crate::engine::Shared;
use crate::jobs::Job;
use crate::{Error, Result};

/// A view that waited this long for something new had taken in everything.
const IDLE_US: i64 = 1000;

/// Runs until the view is dropped or the engine stops.
pub(crate) async fn follow(shared: Arc<Shared>, view: Arc<OpenView>) {
    let _ending = Ending(Arc::clone(&view));
    keep_up(&shared, &view).await;
    if view.is_dropped() {
        remove_state(&shared, view.id());
    }
}

/// Says that a view's task has ended, however it ended.
struct Ending(Arc<OpenView>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ends();
    }
}

/// Runs the view again and again. What fails begins anew from the last checkpoint, after a pause; what would fail again
/// in any case stays failed until the view is changed or resumed.
async fn keep_up(shared: &Arc<Shared>, view: &Arc<OpenView>) {
    let job = shared.jobs.register("view", &view.name().to_string());
    let mut attempts = Attempts::default();
    loop {
        job.started();
        let Err(failure) = run(shared, view, &job).await else { return };
        if view.closing.is_cancelled() {
            return;
        }
        // Begun before the failure is told, so that a RESUME right behind it is not missed.
        let redefined = view.redefined.notified();
        let pause = attempts.pause(&failure, shared.options.clock.now_us());
        if pause.is_some_and(|pause| pause.is_zero()) {
            tracing::info!(view = %view.name(), reason = %failure.error, "the view begins again");
            continue;
        }
        if pause.is_none() && view.is_to_begin_anew() {
            attempts = Attempts::default();
            continue;
        }
        let text = crate::error::chain(&failure.error);
        match pause {
            Some(_) => job.failed(&failure.error),
            None => job.stopped(&failure.error),
        };
        if pause.is_none() && view.stream().is_none() && !view.is_published() {
            show_saved(shared, view).await;
        }
        view.report(|progress| {
            progress.status = Status::Failed;
            progress.error = Some(text);
        });
        let pausing = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = view.closing.cancelled() => return,
            () = redefined => attempts = Attempts::default(),
            () = pausing => {}
        }
    }
}

/// One life of the dataflow. Returns when the view closes, or with a failure.
async fn run(shared: &Arc<Shared>, view: &Arc<OpenView>, job: &Job) -> Outcome<()> {
    let now_us = || shared.options.clock.now_us();
    let begun_us = now_us();
    let anew = view.take_begins_anew();
    let started = tokio::select! {
        () = view.closing.cancelled() => return Ok(()),
        () = outdated(view) => return Err(outdated_below()),
        started = start(shared, view, anew) => started,
    };
    let mut running = started?;
    // A stream is there for readers from its first row on; it is built when it has what was there at the start.
    let ends = if view.stream().is_some() { running.ends() } else { vec![] };
    running.expect_history(&ends);
    running.show().await?;
    job.goes_on();
    view.is_up_to(begun_us);
    loop {
        // Begun before the state is looked at, so that a SUSPEND right behind the look is not missed.
        let redefined = view.redefined.notified();
        if !goes_on(view, &mut running).await? {
            break;
        }
        if view.is_to_begin_anew() {
            return Err(outdated_below());
        }
        if view.progress().status == Status::Building && running.has_read(&ends) {
            view.runs();
        }
        let waits_from_us = now_us();
        running.redefined();
        tokio::select! {
            biased;
            () = view.closing.cancelled() => break,
            () = redefined => {}
            () = view.save_wanted.notified() => {
                running.save().await?;
                continue;
            }
            // What came behind a SUSPEND is not taken, though both woke the task.
            () = running.changed(), if view.definition().state == ViewState::Running => {
                let woken_us = now_us();
                if woken_us - waits_from_us > IDLE_US {
                    view.is_up_to(woken_us);
                }
                running.advance().await?;
                view.is_up_to(woken_us);
                job.goes_on();
            }
        }
        running.save_if_due().await?;
    }
    running.save().await
}

/// The dataflow from its last checkpoint, or from nothing: a view's with everything taken in that was there at the
/// start, a stream's as the checkpoint left it.
async fn start(shared: &Arc<Shared>, view: &Arc<OpenView>, anew: bool) -> Outcome<Running> {
    view.report(|progress| {
        progress.status = Status::Building;
        progress.history = (0, 0);
        // What a failure left of a step is seen to before it runs.
        progress.unsettled = false;
    });
    match view.stream() {
        Some(_) => start_stream(shared, view, anew).await,
        None => start_view(shared, view, anew).await,
    }
}

/// Returns once the view is to begin anew though it has begun.
async fn outdated(view: &OpenView) {
    loop {
        let redefined = view.redefined.notified();
        if view.is_to_begin_anew() {
            return;
        }
        redefined.await;
    }
}

fn outdated_below() -> Failure {
    Failure::outdated(Error::rejected(Code::Busy, "a view below it was replaced"))
}

/// Shows the answer of the last checkpoint, of a view that does not go on from it.
async fn show_saved(shared: &Arc<Shared>, view: &Arc<OpenView>) {
    let shown = async {
        let output = Output::View { view: Arc::clone(view), shown: false };
        let mut running = Running::new(shared, dataflow(shared, &view.definition()).await?, output)?;
        if running.restore(Outbox::new(Arc::clone(view), None)).await? == Restored::Yes {
            running.show().await?;
        }
        Ok::<_, Failure>(())
    };
    if let Err(failure) = shown.await {
        tracing::warn!(view = %view.name(), error = %failure.error, "the view's last answer cannot be shown");
    }
}

async fn start_view(shared: &Arc<Shared>, view: &Arc<OpenView>, anew: bool) -> Outcome<Running> {
    let definition = view.definition();
    wait_for_views_below(shared, view).await;
    let output = Output::View { view: Arc::clone(view), shown: false };
    let mut running = Running::new(shared, dataflow(shared, &definition).await?, output)?;
    let stands_on_views = !running.views_below().is_empty();
    view.report(|progress| progress.stands_on_views = stands_on_views);
    match running.restore(Outbox::new(Arc::clone(view), None)).await? {
        Restored::Yes if anew => {
            running.begin_anew(dataflow(shared, &definition).await?)?;
            running.build().await?;
        }
        Restored::Yes => {
            let sources = Arc::new(running.sources());
            view.report(|progress| progress.sources = sources);
            // A suspended view stays as it was, restarts notwithstanding.
            if definition.state == ViewState::Running {
                running.catch_up().await?;
            }
        }
        Restored::Nothing => running.build().await?,
        Restored::Unusable(_) => {
            running.begin_anew(dataflow(shared, &definition).await?)?;
            running.build().await?;
        }
    }
    running.save().await?;
    running.settle().await?;
    Ok(running)
}

async fn start_stream(shared: &Arc<Shared>, view: &Arc<OpenView>, anew: bool) -> Outcome<Running> {
    let definition = view.definition();
    let mut flow = dataflow(shared, &definition).await?;
    flow.keep_no_answer();
    let stream = shared.stream(&definition.name)?;
    let outbox = Outbox::new(Arc::clone(view), Some(Arc::clone(&stream)));
    let mut running = Running::new(shared, flow, Output::Stream { view: Arc::clone(view) })?;
    match running.restore(outbox).await? {
        Restored::Yes if anew => return Err(cannot_go_on(view, "changes of a table that it looks up are not kept")),
        Restored::Yes => {}
        Restored::Nothing if stream.log().view().end().total() == 0 => {
            running.begin().await?;
            running.begin_tables().await?;
            running.save().await?;
        }
        Restored::Nothing => return Err(cannot_go_on(view, "it is gone")),
        Restored::Unusable(reason) => return Err(cannot_go_on(view, &reason)),
    }
    let sources = Arc::new(running.sources());
    view.report(|progress| progress.sources = sources);
    Ok(running)
}

/// What is written cannot be taken back, so a stream is not begun anew.
fn cannot_go_on(view: &OpenView, reason: &str) -> Failure {
    let name = view.name();
    Failure::lasting(Error::rejected(
        Code::DataCorrupted,
        format!(
            "stream {name} is not written any further, since the state of its query cannot be used: {reason}; its rows \
             stay, create another stream of the query and drop this one"
        ),
    ))
}

/// Sends the answer of a dataflow, each row as one that comes, and then what changes in it, until nobody listens.
pub(crate) async fn send_changes(shared: Arc<Shared>, flow: Dataflow, listener: mpsc::Sender<Result<RecordBatch>>) {
    let gone = listener.clone();
    let sending = async {
        let output = Output::Listener { listener: listener.clone(), shown: false };
        let mut running = Running::new(&shared, flow, output)?;
        let lost = first_ended(running.views_below());
        let following = async {
            running.build().await?;
            running.show().await?;
            loop {
                running.changed().await;
                running.advance().await?;
            }
        };
        tokio::select! {
            ended = following => ended,
            name = lost => {
                let message = format!("materialized view {name}, which the query reads, was dropped or replaced");
                Err(Error::rejected(Code::UndefinedObject, message).into())
            }
        }
    };
    let ended: Outcome<()> = tokio::select! {
        biased;
        () = shared.live.cancelled() => Err(Error::rejected(Code::ShuttingDown, "the node is stopping").into()),
        () = gone.closed() => return,
        ended = sending => ended,
    };
    if let Err(failure) = ended {
        // The listener may have left; then there is nobody to tell.
        drop(gone.send(Err(failure.error)).await);
    }
}

/// The name of the first of these views whose task ends.
async fn first_ended(views: Vec<Arc<OpenView>>) -> ObjectName {
    if views.is_empty() {
        return std::future::pending().await;
    }
    let (_, first, _) = select_all(views.iter().map(|view| Box::pin(view.ended()))).await;
    views[first].name()
}

/// Waits while the view is suspended; false when it closes.
async fn goes_on(view: &OpenView, running: &mut Running) -> Outcome<bool> {
    if view.definition().state != ViewState::Running {
        // It stays as it is now through restarts.
        running.save().await?;
    }
    let resumed = wait_while_suspended(view);
    tokio::pin!(resumed);
    loop {
        tokio::select! {
            biased;
            () = view.closing.cancelled() => return Ok(false),
            () = &mut resumed => return Ok(true),
            () = view.save_wanted.notified() => running.save().await?,
        }
    }
}

async fn wait_while_suspended(view: &OpenView) {
    if view.definition().state == ViewState::Running {
        return;
    }
    let before = view.progress().status;
    view.report(|progress| progress.status = Status::Suspended);
    loop {
        let resumed = view.redefined.notified();
        if view.definition().state == ViewState::Running {
            break;
        }
        resumed.await;
    }
    view.report(|progress| progress.status = if view.is_to_begin_anew() { Status::Building } else { before });
}

async fn wait_for_views_below(shared: &Shared, view: &OpenView) {
    for dependency in &view.definition().depends_on {
        if let Some(below) = shared.view(&dependency.name) {
            below.has_answer().await;
        }
    }
}
