//! Owns the running of the statements about tables.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::StreamExt;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, ObjectName, Stream};

use super::commands::{SHOW_CREATE, SHOW_TABLES, done, matches_like, noticed, rows_of};
use super::{Outcome, Session, history};
use crate::ddl::{self, Command, SampleDraft, StreamDraft, TableAction, TableAsDraft};
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
        Command::AlterTable { name, if_exists, actions } => {
            const TAG: &str = "ALTER TABLE";
            if *if_exists && shared.kind_of(name).is_none() {
                return Ok(noticed(TAG, false, || format!("table {name} does not exist, skipped")));
            }
            let changed = shared.alter_table(name, actions).await?;
            Ok(noticed(TAG, changed, || format!("table {name} is like that already, skipped")))
        }
        Command::DropTable { names, if_exists, cascade } => {
            let missing = shared.drop_tables(names, *if_exists, *cascade).await?;
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
            shared.alter_table(name, &[action]).await?;
            done("COMMENT")
        }
        other => Err(Error::rejected(Code::Internal, format!("{other:?} is not about tables"))),
    }
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
    refuse_location(&draft)?;
    let created = session.shared.create_stream(draft, if_not_exists).await?;
    Ok(there_already(session, &name, created))
}

/// Done, with a notice when something of that name was there.
fn there_already(session: &Session, name: &ObjectName, created: bool) -> Outcome {
    let kind = session.shared.kind_of(name).unwrap_or("table");
    noticed("CREATE TABLE", created, || format!("{kind} {name} already exists, skipped"))
}

fn refuse_location(draft: &StreamDraft) -> Result<()> {
    match draft.table.as_ref().and_then(|spec| spec.location.as_ref()) {
        None => Ok(()),
        Some(_) => Err(Error::rejected(Code::Unsupported, "LOCATION is not supported: a table lies in the lake")),
    }
}

async fn from_sample(session: &Session, sample: &SampleDraft, if_not_exists: bool) -> Result<Outcome> {
    const TAG: &str = "CREATE TABLE";
    let name = sample.name.clone();
    if !(if_not_exists && session.shared.kind_of(&name).is_some()) {
        let columns = sample_columns(&session.shared, &sample.path, sample.format).await?;
        let draft = sample.clone().with_columns(columns);
        refuse_location(&draft)?;
        session.shared.create_stream(draft, if_not_exists).await?;
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
        let count = session.shared.create_filled_table(table, rows).await?;
        return done(&format!("SELECT {count}"));
    }
    let created = session.shared.create_stream(table, if_not_exists).await?;
    Ok(there_already(session, &name, created))
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
