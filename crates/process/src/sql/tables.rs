//! Owns the running of the statements about tables.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::{FutureExt, StreamExt};
use millstream_catalog::fault::{Code, Fault};
use millstream_catalog::{Column, ObjectName, Stream};
use tokio_util::sync::CancellationToken;

use super::commands::{SHOW_CREATE, SHOW_TABLES, done, matches_like, noticed, rows_of};
use super::{Outcome, Session, expired, history, timed_out};
use crate::ddl::{self, Command, SampleDraft, StreamDraft, TableAction, TableAsDraft, is_temporary};
use crate::dml;
use crate::files::sample_columns;
use crate::views::plan_query;
use crate::{Error, Result, Rows};

/// Runs a command about tables.
pub(super) async fn run(session: &Session, command: &Command, text: &str) -> Result<Outcome> {
    let shared = &session.shared;
    match command {
        Command::CreateTable { table, if_not_exists } => create(session, (**table).clone(), *if_not_exists).await,
        Command::CreateTableFromSample { sample, if_not_exists } => from_sample(session, sample, *if_not_exists).await,
        Command::CreateTableAs { table, if_not_exists } => create_as(session, table, *if_not_exists, text).await,
        Command::CloneTable { name, source, point, if_not_exists } => {
            let point = point.as_ref().map(|point| history::resolved(shared, point)).transpose()?;
            let created = shared.clone_table(name, source, point, *if_not_exists).await?;
            Ok(there_already(session, name, created))
        }
        Command::ConvertToDelta { path, partitioned_by } => {
            let done = shared.convert_to_delta(path, partitioned_by).await?;
            let notice =
                format!("{} rows in {} files; CREATE TABLE … LOCATION gives them a name", done.rows, done.files);
            Ok(Outcome::Done { tag: "CONVERT TO DELTA".to_owned(), notices: vec![notice] })
        }
        Command::AlterTable { name, if_exists, actions } => {
            const TAG: &str = "ALTER TABLE";
            if *if_exists && shared.kind_of(name).is_none() {
                return Ok(noticed(TAG, false, || format!("table {name} does not exist, skipped")));
            }
            let changed = alter(session, name, actions, text).await?;
            Ok(noticed(TAG, changed, || format!("table {name} is like that already, skipped")))
        }
        Command::DropTable { names, if_exists, cascade } => {
            let (temporary, others): (Vec<_>, Vec<_>) = names.iter().cloned().partition(is_temporary);
            // Those that are not there are told before any goes.
            let gone = temporary.iter().find(|name| shared.kind_of(name).is_none());
            if let Some(name) = gone.filter(|_| !*if_exists) {
                shared.stream(name)?;
            }
            let mut missing = match others.is_empty() {
                true => vec![],
                false => shared.drop_tables(&others, *if_exists, *cascade).await?,
            };
            for name in temporary {
                if !shared.drop_temporary(&name).await {
                    missing.push(name);
                }
            }
            let notices = missing.iter().map(|name| format!("table {name} does not exist, skipped")).collect();
            Ok(Outcome::Done { tag: "DROP TABLE".to_owned(), notices })
        }
        Command::Truncate { names } => {
            dml::truncate(session, text, names).await?;
            done("TRUNCATE TABLE")
        }
        Command::DescribeHistory { name, limit } => history::describe(session, name, *limit).await,
        Command::RestoreTable { name, point } => history::restore(session, name, point).await,
        Command::ShowTables { like } => show(session, like.as_deref()),
        Command::ShowCreateTable { name } => {
            show_create(&shared.table(name, "SHOW CREATE")?.definition().stream, "SHOW")
        }
        Command::CommentOnTable { name, text } => {
            let action = TableAction::SetComment { column: None, text: text.clone() };
            shared.table(name, "COMMENT ON")?;
            shared.alter_table(name, &[action], &CancellationToken::new()).await?;
            done("COMMENT")
        }
        other => Err(Error::rejected(Code::Internal, format!("{other:?} is not about tables"))),
    }
}

/// Changes a table's definition. A cancel and the time limit end it as long as nothing is decided.
async fn alter(session: &Session, name: &ObjectName, actions: &[TableAction], text: &str) -> Result<bool> {
    let shared = &session.shared;
    let guard = shared.queries.begin(text)?;
    session.runs(guard.cancel_token());
    let stop = guard.cancel_token().child_token();
    // Set however this ends, also when the client has left and this is dropped.
    let _ended = stop.clone().drop_guard();
    let timeout = session.timeout();
    let mut altering = shared.alter_table(name, actions, &stop).boxed();
    let late = tokio::select! {
        done = &mut altering => {
            guard.finish(done.as_ref().err());
            return done;
        }
        () = expired(timeout) => timed_out(timeout),
    };
    stop.cancel();
    // What was decided meanwhile is told as it is.
    let done = match altering.await {
        Err(error) if error.code() == Code::Cancelled => Err(late),
        done => done,
    };
    guard.finish(done.as_ref().err());
    done
}

/// What stands in a column's place when it is not given.
pub(super) fn default_of(stream: &Stream, column: &Column) -> Option<String> {
    let mut generated = stream.table.iter().flat_map(|spec| &spec.generated);
    match generated.find(|g| g.column == column.name) {
        Some(g) => Some(format!("generated: {}", g.expression)),
        None => column.default.clone(),
    }
}

async fn create(session: &Session, draft: StreamDraft, if_not_exists: bool) -> Result<Outcome> {
    let name = draft.name.clone();
    let created = make(session, draft, if_not_exists).await?;
    Ok(there_already(session, &name, created))
}

async fn make(session: &Session, draft: StreamDraft, if_not_exists: bool) -> Result<bool> {
    let external = draft.table.as_ref().is_some_and(|spec| spec.location.is_some());
    match is_temporary(&draft.name) {
        true if external => {
            Err(Error::rejected(Code::Unsupported, "a temporary table has no LOCATION: leave out TEMPORARY"))
        }
        true => Ok(session.shared.create_temporary(draft, if_not_exists, None).await?.is_some()),
        false if external => session.shared.create_external(draft, if_not_exists).await,
        false => session.shared.create_stream(draft, if_not_exists).await,
    }
}

/// Done, with a notice when something of that name was there.
fn there_already(session: &Session, name: &ObjectName, created: bool) -> Outcome {
    let kind = session.shared.kind_of(name).unwrap_or("table");
    noticed("CREATE TABLE", created, || format!("{kind} {name} already exists, skipped"))
}

fn refuse_location(draft: &StreamDraft) -> Result<()> {
    match draft.table.as_ref().and_then(|spec| spec.location.as_ref()) {
        None => Ok(()),
        Some(_) => Err(Error::Rejected {
            code: Code::Unsupported,
            message: "a table at a LOCATION cannot be made with its rows".to_owned(),
            hint: Some("CREATE TABLE name (columns) LOCATION '…', then INSERT INTO name SELECT …".to_owned()),
            position: None,
        }),
    }
}

async fn from_sample(session: &Session, sample: &SampleDraft, if_not_exists: bool) -> Result<Outcome> {
    const TAG: &str = "CREATE TABLE";
    let name = sample.name.clone();
    if !(if_not_exists && session.shared.kind_of(&name).is_some()) {
        let columns = sample_columns(&session.shared, &sample.path, sample.format).await?;
        let draft = sample.clone().with_columns(columns);
        make(session, draft, if_not_exists).await?;
    }
    show_create(&session.shared.table(&name, "SHOW CREATE")?.definition().stream, TAG)
}

async fn create_as(session: &Session, draft: &TableAsDraft, if_not_exists: bool, text: &str) -> Result<Outcome> {
    let name = draft.name.clone();
    if if_not_exists && session.shared.kind_of(&name).is_some() {
        return Ok(there_already(session, &name, false));
    }
    let planned = plan_query(&session.shared, &draft.query.statement, text).await?;
    let table = draft.clone().with_columns(planned.columns.clone())?;
    refuse_location(&table)?;
    if draft.with_data {
        let fields: Vec<Field> = table.columns.iter().map(Column::to_field).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let (rows, number) = session.rows_of_plan(planned.conformed()?, text).await?;
        let (_job, measure) = session.shared.jobs.statement("create table", &name.to_string(), number);
        let rows = rows.map(move |batch| {
            let batch = batch?;
            measure.add_rows(batch.num_rows() as u64);
            rows_to_insert(&batch, &schema)
        });
        let rows = rows.boxed();
        let count = match is_temporary(&name) {
            true => session.shared.create_temporary(table, false, Some(rows)).await?.unwrap_or(0),
            false => session.shared.create_filled_table(table, rows).await?,
        };
        return done(&format!("SELECT {count}"));
    }
    create(session, table, if_not_exists).await
}

/// A query's rows in the types that a table keeps.
fn rows_to_insert(batch: &RecordBatch, schema: &SchemaRef) -> Result<Rows> {
    let wrap = |e: arrow::error::ArrowError| Error::from_datafusion(e.into(), "");
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>().map_err(wrap)?;
    let missing = vec![None; columns.len()];
    let batch = RecordBatch::try_new(Arc::clone(schema), columns).map_err(wrap)?;
    Ok(Rows { batch, missing })
}

fn show_create(table: &Arc<Stream>, tag: &'static str) -> Result<Outcome> {
    let row = vec![Some(table.name.to_string()), Some(ddl::render_create_table(table))];
    rows_of(&SHOW_CREATE, vec![row], tag)
}

fn show(session: &Session, like: Option<&str>) -> Result<Outcome> {
    let tables = session.shared.streams().into_iter().filter(|t| t.kind() == "table");
    let shown = tables.filter(|t| like.is_none_or(|pattern| matches_like(t.name().name(), pattern)));
    let rows = shown.map(|t| {
        let table = Arc::clone(&t.definition().stream);
        let key = table.table.as_ref().and_then(|spec| spec.primary_key.as_ref());
        vec![
            Some(table.name.to_string()),
            Some(table.columns.len().to_string()),
            key.map(|key| key.columns.join(", ")),
            table.comment.clone(),
        ]
    });
    rows_of(&SHOW_TABLES, rows.collect(), "SHOW")
}
