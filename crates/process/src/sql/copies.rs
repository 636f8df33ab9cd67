//! Owns the running of COPY for a session.

use std::sync::Arc;

use super::{ColumnNames, Outcome, RowStream, SameNames, Session, plan_statement};
use crate::Result;
use crate::ddl::{CopyFrom, CopyTo};
use crate::files::{CopyJob, copy_to};
use crate::read::ReadPoint;
use crate::sql::rows::Query;
use crate::sql::session::permitted;

/// Runs COPY … FROM; what a client sends is taken by the outcome.
pub(super) async fn from(session: &Session, copy: &CopyFrom, text: &str) -> Result<Outcome> {
    let guard = session.shared.queries.begin(text)?;
    session.runs(guard.cancel_token());
    let timeout = session.settings.lock().timeout();
    let job = CopyJob::new(&session.shared, copy, guard, timeout)?;
    if copy.files.is_empty() {
        return Ok(Outcome::CopyIn(job.take_client()));
    }
    let (tag, notices) = job.take_files().await?;
    Ok(Outcome::Done { tag, notices })
}

/// Runs COPY … TO; what a client takes is the outcome.
pub(super) async fn to(session: &Session, copy: &CopyTo, text: &str) -> Result<Outcome> {
    let shared = &session.shared;
    let plan = plan_statement(shared, &copy.query.statement, text, SameNames::ToldApart).await?;
    permitted(&plan)?;
    let names = ColumnNames::of(&copy.query.statement, plan.schema().as_arrow());
    let guard = shared.queries.begin(text)?;
    session.runs(guard.cancel_token());
    let number = guard.id();
    let mut state = shared.context()?.state();
    state.mark_start_execution();
    state.config_mut().set_extension(Arc::new(ReadPoint::default()));
    let timeout = session.settings.lock().timeout();
    let query = Query { sql: text.to_owned(), plan, prepared: None, names, state, timeout, guard };
    let rows = RowStream::start(&shared.workers, query).await?;
    match &copy.file {
        Some(file) => {
            let (_job, measure) = shared.jobs.statement("copy", &format!("to {file}"), number);
            let count = copy_to(shared, rows, file, &copy.options, &measure).await?;
            Ok(Outcome::Done { tag: format!("COPY {count}"), notices: vec![] })
        }
        None => Ok(Outcome::CopyOut { rows, options: copy.options.clone() }),
    }
}
