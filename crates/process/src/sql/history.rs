//! Owns the running of the statements about a table's history.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use millstream_buffer::LogBatch;
use millstream_catalog::fault::Code;
use millstream_catalog::{OFFSET_COLUMN, ObjectName, quoted};

use super::session::{SameNames, plan_statement};
use super::time_travel::time_of;
use super::{Outcome, RowStream, Session};
use crate::background::tier_once;
use crate::ddl::{self, Command, Point};
use crate::engine::Shared;
use crate::external::refuse_others;
use crate::read::{BatchAdapter, ReadPoint};
use crate::stream::OpenStream;
use crate::tables::{Applied, AsOf, Change, Turn, named_change};
use crate::{Error, Result, Rows};

/// The columns of DESCRIBE HISTORY.
pub(super) fn history_schema() -> SchemaRef {
    let number = |name: &str, nullable| Field::new(name, DataType::Int64, nullable);
    Arc::new(Schema::new(vec![
        number("version", false),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("operation", DataType::Utf8, false),
        number("rows_added", true),
        number("rows_removed", true),
        number("files_added", false),
        number("files_removed", false),
        Field::new("parameters", DataType::Utf8, true),
    ]))
}

/// The versions of a table, newest first. What waits for the lake is merged first, so that all that was done is told.
pub(super) async fn describe(session: &Session, name: &ObjectName, limit: Option<u64>) -> Result<Outcome> {
    let table = changing(&session.shared, name)?;
    tier_once(&session.shared, &table).await?;
    let lake = crate::background::open_table(&session.shared, &table).await?;
    let commits = lake.history(limit.and_then(|n| usize::try_from(n).ok())).await?;
    let numbers = |of: fn(&millstream_store::Commit) -> Option<i64>| -> ArrayRef {
        Arc::new(commits.iter().map(of).collect::<Int64Array>())
    };
    let times = commits.iter().map(|c| c.timestamp_ms * 1000);
    let parameters = commits.iter().map(|c| {
        let pairs = c.parameters.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>();
        (!pairs.is_empty()).then(|| pairs.join(", "))
    });
    let columns: Vec<ArrayRef> = vec![
        numbers(|c| Some(c.version)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(commits.iter().map(|c| &c.operation))),
        numbers(|c| c.rows_added.map(|n| n as i64)),
        numbers(|c| c.rows_removed.map(|n| n as i64)),
        numbers(|c| Some(c.files_added as i64)),
        numbers(|c| Some(c.files_removed as i64)),
        Arc::new(parameters.collect::<StringArray>()),
    ];
    let batch = RecordBatch::try_new(history_schema(), columns)
        .map_err(|e| Error::rejected(Code::Internal, format!("a table's history does not fit its columns: {e}")))?;
    Ok(Outcome::Rows { rows: RowStream::ready(batch), tag: "DESCRIBE" })
}

/// Makes a table what it was: rows that were not there go, rows that are missing come back. It is a change like any
/// other, so the versions in between stay, and views over the table follow it.
pub(super) async fn restore(session: &Session, name: &ObjectName, point: &Point) -> Result<Outcome> {
    let shared = &session.shared;
    let table = changing(shared, name)?;
    let instead = format!("DELETE FROM {name}, then INSERT INTO {name} SELECT * FROM {name} VERSION AS OF …");
    refuse_others(&table, "RESTORE is for tables in the lake", instead)?;
    let point = resolved(shared, point)?;
    let applied = named_change(shared, &table, "RESTORE", put_back(shared, &table, name, &point)).await?;
    let notice = format!("{} rows went, {} came back", applied.gone, applied.come);
    Ok(Outcome::Done { tag: "RESTORE TABLE".to_owned(), notices: vec![notice] })
}

/// Makes a table's rows those of another version.
async fn put_back(shared: &Arc<Shared>, table: &Arc<OpenStream>, name: &ObjectName, point: &AsOf) -> Result<Applied> {
    let turn = Turn::of(shared, table).await?;
    let columns: Vec<String> = table.definition().stream.columns.iter().map(|c| quoted(&c.name)).collect();
    let columns = columns.iter().map(|c| format!("a.{c}")).collect::<Vec<_>>().join(", ");
    let now = relation(name, name.name());
    let then = relation(name, &point.name_for(name.name()));
    let only = |these: &str, those: &str| {
        format!(
            "SELECT {columns}, a.{OFFSET_COLUMN} FROM {these} AS a WHERE NOT EXISTS \
             (SELECT 1 FROM {those} AS b WHERE b.{OFFSET_COLUMN} = a.{OFFSET_COLUMN})"
        )
    };
    // Both are planned before anything is changed, so that a version that is not there changes nothing.
    let gone = rows_of_query(shared, &only(&now, &then)).await?;
    let come = rows_of_query(shared, &only(&then, &now)).await?;
    let wrap = |e| Error::from_datafusion(e, "");
    let gone = gone.map(move |rows| Ok(Change { gone: Some(rows.map_err(wrap)?), come: None }));
    let form = form_of(table);
    let come = come.map(move |rows| Ok(Change { gone: None, come: Some(form(&rows.map_err(wrap)?)?) }));
    turn.apply(gone.chain(come).boxed(), None).await
}

/// The table of that name; a stream has no versions.
fn changing(shared: &Arc<Shared>, name: &ObjectName) -> Result<Arc<OpenStream>> {
    let found = shared.stream(name)?;
    match found.table() {
        Some(_) => Ok(found),
        None => {
            let message = format!("{name} is a stream: its rows only come, and it has no versions");
            Err(Error::rejected(Code::WrongObjectType, message))
        }
    }
}

/// The point that is written.
pub(super) fn resolved(shared: &Arc<Shared>, point: &Point) -> Result<AsOf> {
    match point {
        Point::Version(version) => Ok(AsOf::Version(*version)),
        Point::Time(text) => {
            let state = shared.context()?.state();
            let dialect = state.config_options().sql_parser.dialect;
            let parsed = state.sql_to_expr_with_alias(text, &dialect).map_err(|e| Error::from_datafusion(e, ""))?;
            time_of(parsed.expr, &state)
        }
    }
}

fn relation(name: &ObjectName, table: &str) -> String {
    format!("{}.{}", quoted(name.schema()), quoted(table))
}

/// Runs a query that the engine wrote.
async fn rows_of_query(shared: &Arc<Shared>, sql: &str) -> Result<SendableRecordBatchStream> {
    let Some(parsed) = ddl::parse(sql)?.pop() else {
        return Err(Error::rejected(Code::Internal, "a query of the engine's own is empty"));
    };
    let Command::Sql(statement) = &parsed.command else {
        return Err(Error::rejected(Code::Internal, "a query of the engine's own is a command"));
    };
    let wrap = |e| Error::from_datafusion(e, "");
    let plan = plan_statement(shared, statement, sql, SameNames::ToldApart).await?;
    let mut state = shared.context()?.state();
    state.config_mut().set_extension(Arc::new(ReadPoint::default()));
    let plan = state.create_physical_plan(&plan).await.map_err(wrap)?;
    execute_stream(plan, state.task_ctx()).map_err(wrap)
}

/// Gives rows as readers see them the table's own types.
fn form_of(table: &OpenStream) -> impl Fn(&RecordBatch) -> Result<Rows> + use<> {
    let own = Arc::clone(&table.definition().schema);
    let nullable = own.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    let adapter = BatchAdapter::new(Arc::new(Schema::new(nullable)));
    move |rows| {
        let rows = LogBatch { partition: 0, base_offset: 0, ingest_time_us: 0, batch: rows.clone() };
        let batch = adapter.adapt(&rows).map_err(|e| Error::from_datafusion(e, ""))?;
        Ok(Rows { missing: vec![None; batch.num_columns()], batch })
    }
}
