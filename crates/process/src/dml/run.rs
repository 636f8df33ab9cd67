//! Owns the running of a planned change, up to its answer.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;
use futures::{StreamExt, stream};
use millstream_catalog::fault::Code;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::insert::{Insert, Source};
use super::returning::Returning;
use super::row_change::Shown;
use super::work::{Done, Work, insert_rows, upsert_rows};
use super::{PlannedChange, What};
use crate::sql::{cancelled, defect, expired, timed_out};
use crate::tables::{Kept, Upserted};
use crate::{Error, Outcome, Result, RowStream, Session};

/// Runs a change; `text` is its statement. It is all done, and durable, when this returns, or nothing of it is.
pub(crate) async fn run(
    session: &Session,
    change: &Arc<PlannedChange>,
    text: &str,
    params: &[ScalarValue],
    timeout: Option<Duration>,
) -> Result<Outcome> {
    if let Some(done) = at_once(session, change, params).await? {
        return Ok(outcome(change, done));
    }
    let shared = &session.shared;
    let guard = shared.queries.begin(text)?;
    session.runs(guard.cancel_token());
    let cancel = guard.cancel_token().clone();
    let end = CancellationToken::new();
    // Set however this ends, also when the client has left and this is dropped.
    let _ended = end.clone().drop_guard();
    let (job, measure) = shared.jobs.statement(change.verb(), &change.target.stream.name.to_string(), guard.id());
    let work = Work::new(Arc::clone(shared), Arc::clone(change), text, params, (guard, measure), end);
    let mut working = AbortOnDropHandle::new(shared.workers.handle().spawn({
        let work = Arc::clone(&work);
        async move {
            let _job = job;
            work.go().await
        }
    }));
    let stopped = tokio::select! {
        done = &mut working => return answer(&work, change, done.unwrap_or_else(|broken| Err(defect(&broken)))),
        () = cancel.cancelled() => cancelled(),
        () = expired(timeout) => timed_out(timeout),
    };
    if work.stop() {
        work.guard.finish(Some(&stopped));
        return Err(stopped);
    }
    // It is being made durable already: it is told what came of it.
    let done = working.await.unwrap_or_else(|broken| Err(defect(&broken)));
    answer(&work, change, done)
}

fn answer(work: &Work, change: &PlannedChange, done: Result<Done>) -> Result<Outcome> {
    work.guard.finish(done.as_ref().err());
    Ok(outcome(change, done?))
}

fn outcome(change: &PlannedChange, done: Done) -> Outcome {
    match done.returned {
        Some(rows) => Outcome::Rows { rows: RowStream::ready(rows), tag: change.tag },
        None => Outcome::Done { tag: format!("{} {}", change.tag, done.rows), notices: vec![] },
    }
}

/// Rows that are at hand, added without a query and without a place among the running statements.
async fn at_once(session: &Session, change: &PlannedChange, params: &[ScalarValue]) -> Result<Option<Done>> {
    let What::Insert(insert) = &change.what else { return Ok(None) };
    // A commit beside others takes its time: it can be stopped, and is seen.
    if change.target.open.is_others() {
        return Ok(None);
    }
    let Insert { source: Source::Values(values), conflict } = insert.as_ref() else { return Ok(None) };
    if !values.is_at_hand() || change.returning.as_ref().is_some_and(|returning| !returning.is_plain()) {
        return Ok(None);
    }
    let rows = values.rows(&change.target, params, &[])?;
    let (shared, target) = (&session.shared, &change.target);
    let (applied, came) = match conflict {
        None => {
            let kept = Kept::default();
            let keep = change.returning.as_ref().map(|_| &kept);
            let applied = insert_rows(shared, target, stream::once(async { Ok(rows) }).boxed(), keep).await?;
            (applied, kept.into_inner())
        }
        Some(conflict) => match upsert_rows(shared, target, conflict, rows).await? {
            Some(Upserted { applied, came }) => (applied, vec![came]),
            None => return Ok(None),
        },
    };
    session.shared.queries.count();
    let returned = match &change.returning {
        Some(returning) => {
            let rows = returning.shown(inserted(came))?;
            let rows = rows.iter().filter_map(|rows| returning.at_once(rows)).collect::<Result<Vec<_>>>()?;
            Some(returning.joined(&rows)?)
        }
        None => None,
    };
    Ok(Some(Done { rows: applied.come, returned }))
}

/// Rows that came by an INSERT, as RETURNING shows them.
pub(super) fn inserted(kept: Vec<RecordBatch>) -> Vec<(Shown, Option<RecordBatch>)> {
    let shown = || Shown { old: None, action: "INSERT", others: vec![] };
    kept.into_iter().map(|rows| (shown(), Some(rows))).collect()
}

impl Returning {
    /// Whether it computes nothing.
    pub(super) fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    /// The rows that it is asked of, with the rows that came where there are any.
    pub(super) fn shown(&self, rows: Vec<(Shown, Option<RecordBatch>)>) -> Result<Vec<RecordBatch>> {
        rows.into_iter().map(|(shown, come)| shown.rows(come.as_ref(), self.acts, &self.rows)).collect()
    }

    /// Rows of the result as one batch.
    pub(super) fn joined(&self, rows: &[RecordBatch]) -> Result<RecordBatch> {
        arrow::compute::concat_batches(&self.schema, rows)
            .map_err(|e| Error::rejected(Code::Internal, format!("returned rows do not fit: {e}")))
    }
}
