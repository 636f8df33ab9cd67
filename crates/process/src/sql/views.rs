//! Owns the running of the statements about views.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_catalog::fault::Code;
use tokio::sync::mpsc;

use super::commands::{EXPLAIN_CREATE, SHOW_CREATE, SHOW_VIEWS, done, matches_like, noticed, rows_of};
use super::rows::{cancelled, expired, timed_out};
use super::{Outcome, Prepared, RowStream, Session, Statement};
use crate::ddl::{self, Command, DerivedStreamDraft, QueryText, ViewAction, ViewDraft};
use crate::queries::QueryGuard;
use crate::views::{Form, plan_query, send_changes, unweighted, wait_until_built};
use crate::{Error, Result};

/// The first column of EMIT CHANGES: whether the row comes or goes.
const CHANGE: &str = "_change";

/// Deltas that may wait for a slow client.
const DELTAS_AHEAD: usize = 4;

/// Runs a command about views.
pub(super) async fn run(session: &Session, command: &Command, text: &str) -> Result<Outcome> {
    let shared = &session.shared;
    match command {
        Command::CreateView { view, if_not_exists } => create(session, view, *if_not_exists, text).await,
        Command::AlterView { name, if_exists, action } => {
            if *if_exists && shared.view(name).is_none() {
                return Ok(noticed("ALTER MATERIALIZED VIEW", false, || format!("{name} does not exist, skipped")));
            }
            let changed = shared.alter_view(name, action).await?;
            Ok(noticed("ALTER MATERIALIZED VIEW", changed, || format!("{name} is like that already, skipped")))
        }
        Command::ApplyReplacement { name, if_exists, replacement } => {
            if *if_exists && shared.view(name).is_none() {
                return Ok(noticed("ALTER MATERIALIZED VIEW", false, || format!("{name} does not exist, skipped")));
            }
            shared.apply_replacement(name, replacement, patience(session)).await?;
            done("ALTER MATERIALIZED VIEW")
        }
        Command::DropView { name, if_exists, cascade } => match shared.drop_view(name, *if_exists, *cascade).await? {
            None => Ok(noticed("DROP MATERIALIZED VIEW", false, || format!("{name} does not exist, skipped"))),
            Some(gone) => {
                let notices = gone.iter().skip(1).map(|also| format!("drop cascades to {also}")).collect();
                Ok(Outcome::Done { tag: "DROP MATERIALIZED VIEW".to_owned(), notices })
            }
        },
        Command::ShowViews { like } => show(session, like.as_deref()),
        Command::ShowCreateView { name } => {
            let definition = shared.existing_view(name)?.definition();
            let replaces = definition.replacement_for;
            let replaces = shared.views().into_iter().find(|v| Some(v.id()) == replaces).map(|v| v.name());
            let sql = ddl::render_create_view(&definition, replaces.as_ref());
            rows_of(&SHOW_CREATE, vec![vec![Some(name.to_string()), Some(sql)]], "SHOW")
        }
        Command::CommentOnView { name, text } => {
            shared.alter_view(name, &ViewAction::SetComment { column: None, text: text.clone() }).await?;
            done("COMMENT")
        }
        Command::ExplainCreate { create, .. } => explain_create(session, create, text).await,
        Command::EmitChanges { query } => changes(session, query, text, None).await,
        Command::CreateDerivedStream { stream, if_not_exists } => {
            create_stream(session, stream, *if_not_exists, text).await
        }
        Command::AlterDerivedStream { name, if_exists, action } => {
            if *if_exists && !shared.knows(name) {
                return Ok(noticed("ALTER STREAM", false, || format!("stream {name} does not exist, skipped")));
            }
            let changed = shared.alter_writer(name, action).await?;
            Ok(noticed("ALTER STREAM", changed, || format!("stream {name} is like that already, skipped")))
        }
        other => Err(Error::rejected(Code::Internal, format!("{other:?} is not about views"))),
    }
}

fn patience(session: &Session) -> Duration {
    session.settings.lock().timeout().unwrap_or(session.shared.options.statement_timeout)
}

/// Creates a view and waits until it has read its history, unless that takes longer than a statement may.
async fn create(session: &Session, draft: &ViewDraft, if_not_exists: bool, text: &str) -> Result<Outcome> {
    const TAG: &str = "CREATE MATERIALIZED VIEW";
    let name = draft.name.clone();
    let Some(view) = session.shared.create_view(draft.clone(), if_not_exists, text).await? else {
        return Ok(noticed(TAG, false, || format!("materialized view {name} already exists, skipped")));
    };
    // A little less than the statement has, so that it ends with a notice and not with an error.
    let built = wait_until_built(&view, patience(session).mul_f32(0.9)).await?;
    Ok(noticed(TAG, built, || {
        format!("materialized view {name} is still being built; system.views shows how far it is")
    }))
}

/// Creates a stream that a query writes, and waits until it has what the history gives, unless that takes longer than a
/// statement may.
async fn create_stream(
    session: &Session,
    draft: &DerivedStreamDraft,
    if_not_exists: bool,
    text: &str,
) -> Result<Outcome> {
    const TAG: &str = "CREATE STREAM";
    let name = draft.name.clone();
    let Some(view) = session.shared.create_derived_stream(draft.clone(), if_not_exists, text).await? else {
        return Ok(noticed(TAG, false, || format!("stream {name} already exists, skipped")));
    };
    let built = wait_until_built(&view, patience(session).mul_f32(0.9)).await?;
    Ok(noticed(TAG, built, || {
        format!("stream {name} still takes in the history of its query; system.views shows how far it is")
    }))
}

fn show(session: &Session, like: Option<&str>) -> Result<Outcome> {
    let views = session.shared.views();
    let rows = views
        .iter()
        .filter(|v| v.stream().is_none())
        .filter(|v| like.is_none_or(|pattern| matches_like(v.name().name(), pattern)))
        .map(|v| {
            let definition = v.definition();
            vec![
                Some(definition.name.to_string()),
                Some(v.progress().status.to_string()),
                Some(definition.columns.len().to_string()),
                Some(definition.query.clone()),
                definition.comment.clone(),
            ]
        });
    rows_of(&SHOW_VIEWS, rows.collect(), "SHOW")
}

async fn explain_create(session: &Session, create: &Command, text: &str) -> Result<Outcome> {
    let (query, is_stream, closes) = match create {
        Command::CreateView { view, .. } => (&view.query, false, view.emit_on_window_close),
        Command::CreateDerivedStream { stream, .. } => (&stream.query, true, stream.emit_on_window_close),
        _ => return Err(Error::rejected(Code::Internal, "EXPLAIN CREATE of something without a query")),
    };
    let planned = plan_query(&session.shared, &query.statement, text).await?;
    let lines = planned.explain(&session.shared, Form { is_stream, closes }).await?;
    let rows = lines.lines().map(|line| vec![Some(line.to_owned())]);
    rows_of(&EXPLAIN_CREATE, rows.collect(), "EXPLAIN")
}

/// Plans `query EMIT CHANGES`: its columns, behind one that says whether the row comes or goes.
pub(super) async fn prepare_changes(session: &Session, statement: &Statement, query: &QueryText) -> Result<Prepared> {
    let planned = plan_query(&session.shared, &query.statement, &statement.text).await?;
    let fields = planned.columns.iter().map(millstream_catalog::Column::to_field);
    let schema = crate::read::reader_schema(&Schema::new(fields.collect::<Vec<_>>()));
    Ok(Prepared::command(statement.clone(), Some(changes_schema(&schema)), "SELECT"))
}

fn changes_schema(rows: &SchemaRef) -> SchemaRef {
    let change = Arc::new(Field::new(CHANGE, DataType::Utf8, false));
    Arc::new(Schema::new([change].into_iter().chain(rows.fields().iter().cloned()).collect::<Vec<_>>()))
}

/// Runs `query EMIT CHANGES` until its client has had enough; only a timeout that was asked for ends it.
pub(super) async fn changes(
    session: &Session,
    query: &QueryText,
    text: &str,
    timeout: Option<Duration>,
) -> Result<Outcome> {
    let shared = Arc::clone(&session.shared);
    let guard = Arc::new(shared.queries.begin_live(text)?);
    session.runs(guard.cancel_token());
    let flow = plan_query(&shared, &query.statement, text).await?.dataflow(&shared).await?;
    let schema = changes_schema(flow.schema());
    let (deltas, listen) = mpsc::channel(DELTAS_AHEAD);
    let (output, rows) = mpsc::channel(DELTAS_AHEAD);
    let workers = shared.workers.handle();
    // Ends when nobody listens to it any more. Until then it counts as running, whatever became of its client.
    let running = Arc::clone(&guard);
    workers.spawn(async move {
        send_changes(shared, flow, deltas).await;
        drop(running);
    });
    let task = tokio::spawn(tell(listen, output, Arc::clone(&schema), guard, timeout));
    Ok(Outcome::Rows { rows: RowStream::live(schema, rows, task), tag: "SELECT" })
}

/// Passes changes on to the client until there are no more, nobody wants them, or they are cancelled.
async fn tell(
    mut deltas: mpsc::Receiver<Result<RecordBatch>>,
    output: mpsc::Sender<Result<RecordBatch>>,
    schema: SchemaRef,
    guard: Arc<QueryGuard>,
    timeout: Option<Duration>,
) {
    let cancel = guard.cancel_token().clone();
    let passing = async {
        while let Some(delta) = deltas.recv().await {
            let rows = told(&delta?, &schema)?;
            guard.add_rows(rows.num_rows());
            if output.send(Ok(rows)).await.is_err() {
                return Err(cancelled());
            }
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = passing => ended,
        () = cancel.cancelled() => Err(cancelled()),
        () = expired(timeout) => Err(timed_out(timeout)),
    };
    guard.finish(ended.as_ref().err());
    if let Err(error) = ended {
        // The client may have left, and one that reads nothing is not waited for.
        drop(deltas);
        drop(guard);
        drop(output.send(Err(error)).await);
    }
}

/// A delta as rows: `insert` for each that comes, `delete` for each that goes; what goes first.
fn told(delta: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let shown = Arc::new(Schema::new(schema.fields()[1..].to_vec()));
    let (rows, going) = unweighted(delta, &shown)?;
    let words = (0..rows.num_rows()).map(|i| if i < going { "delete" } else { "insert" });
    let words: ArrayRef = Arc::new(StringArray::from_iter_values(words));
    let columns = std::iter::once(words).chain(rows.columns().iter().cloned()).collect();
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|e| Error::rejected(Code::Internal, format!("a change does not fit its columns: {e}")))
}
