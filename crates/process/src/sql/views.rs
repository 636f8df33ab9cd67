//! Owns the running of the statements about views.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millstream_catalog::DEFAULT_SCHEMA;
use millstream_catalog::fault::Code;
use tokio::sync::mpsc;

use super::commands::{EXPLAIN_CREATE, SHOW_CREATE, SHOW_VIEWS, done, matches_like, noticed, rows_of};
use super::{Outcome, Prepared, RowStream, Session, Statement};
use crate::ddl::{self, Command, QueryText, ViewAction, ViewDraft};
use crate::views::{explain, plan_query, send_changes, wait_until_built};
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
        Command::EmitChanges { query } => changes(session, query, text).await,
        _ => Err(Error::rejected(
            Code::Unsupported,
            "streams that a query writes are not supported yet: CREATE MATERIALIZED VIEW keeps the same query",
        )),
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

fn show(session: &Session, like: Option<&str>) -> Result<Outcome> {
    let views = session.shared.views();
    let rows = views
        .iter()
        .filter(|v| v.name().schema() == DEFAULT_SCHEMA)
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
    let query = match create {
        Command::CreateView { view, .. } => &view.query,
        Command::CreateDerivedStream { stream, .. } => &stream.query,
        _ => return Err(Error::rejected(Code::Internal, "EXPLAIN CREATE of something without a query")),
    };
    let planned = plan_query(&session.shared, &query.statement, text).await?;
    let lines = explain(&session.shared, planned).await?;
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

async fn changes(session: &Session, query: &QueryText, text: &str) -> Result<Outcome> {
    let shared = Arc::clone(&session.shared);
    let flow = plan_query(&shared, &query.statement, text).await?.dataflow(&shared).await?;
    let schema = changes_schema(flow.schema());
    let (deltas, mut listen) = mpsc::channel(DELTAS_AHEAD);
    let (output, rows) = mpsc::channel(DELTAS_AHEAD);
    let workers = shared.workers.handle();
    let sending = workers.spawn(send_changes(shared, flow, deltas));
    let shown = Arc::clone(&schema);
    let task = tokio::spawn(async move {
        // The task below ends when nobody listens to it any more.
        let _sending = sending;
        while let Some(delta) = listen.recv().await {
            if output.send(delta.and_then(|d| told(&d, &shown))).await.is_err() {
                break;
            }
        }
    });
    Ok(Outcome::Rows { rows: RowStream::live(schema, rows, task), tag: "SELECT" })
}

/// A delta as rows: `insert` for each that comes, `delete` for each that goes; what goes first.
fn told(delta: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let width = delta.num_columns() - 1;
    let weights = delta.column(width).as_primitive::<Int64Type>();
    let mut order: Vec<u32> = Vec::with_capacity(delta.num_rows());
    for goes in [true, false] {
        for (i, weight) in weights.values().iter().enumerate() {
            if (*weight < 0) == goes {
                order.extend(std::iter::repeat_n(i as u32, weight.unsigned_abs() as usize));
            }
        }
    }
    let words = order.iter().map(|i| if weights.value(*i as usize) < 0 { "delete" } else { "insert" });
    let words: ArrayRef = Arc::new(StringArray::from_iter_values(words));
    let order = arrow::array::UInt32Array::from(order);
    let wrap = |e: arrow::error::ArrowError| {
        Error::rejected(Code::Internal, format!("a change does not fit its columns: {e}"))
    };
    let mut columns = vec![words];
    for column in &delta.columns()[..width] {
        columns.push(arrow::compute::take(column, &order, None).map_err(wrap)?);
    }
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(wrap)
}
