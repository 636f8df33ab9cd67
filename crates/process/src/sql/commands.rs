//! Owns the running of Millstream's own statements: streams made, changed, shown and dropped, and session settings.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_catalog::fault::{Code, Fault};
use millstream_catalog::{HIDDEN_COLUMNS, ObjectName, Stream};

use super::{Outcome, RowStream, Session, Statement, care, copies, history, plain_views, tables, views};
use crate::background::tier_once;
use crate::ddl::{self, AlterAction, Command, SampleDraft, StreamDraft, ViewAction};
use crate::error::chain;
use crate::files::sample_columns;
use crate::system::system_table;
use crate::{Error, Result};

/// The columns a command returns, if it returns rows, and its tag.
pub(super) fn shape(command: &Command) -> (Option<SchemaRef>, &'static str) {
    let texts = |names: &[&str]| Some(text_schema(names));
    match command {
        Command::ShowStreams { .. } => (texts(&SHOW_STREAMS), "SHOW"),
        Command::Describe { .. } => (texts(&DESCRIBE), "DESCRIBE"),
        Command::ShowCreate { .. } => (texts(&SHOW_CREATE), "SHOW"),
        Command::Show { name } => (texts(&[name.as_str()]), "SHOW"),
        Command::ShowAll => (texts(&SHOW_ALL), "SHOW"),
        Command::CreateStreamFromSample { .. } => (texts(&SHOW_CREATE), "CREATE STREAM"),
        Command::CreateTable { .. } | Command::CreateTableAs { .. } | Command::CloneTable { .. } => {
            (None, "CREATE TABLE")
        }
        Command::ConvertToDelta { .. } => (None, "CONVERT TO DELTA"),
        Command::CreateTableFromSample { .. } => (texts(&SHOW_CREATE), "CREATE TABLE"),
        Command::AlterTable { .. } => (None, "ALTER TABLE"),
        Command::DropTable { .. } => (None, "DROP TABLE"),
        Command::Truncate { .. } => (None, "TRUNCATE TABLE"),
        Command::DescribeHistory { .. } => (Some(history::history_schema()), "DESCRIBE"),
        Command::RestoreTable { .. } => (None, "RESTORE TABLE"),
        Command::CommentOnTable { .. } => (None, "COMMENT"),
        Command::ShowTables { .. } => (texts(&SHOW_TABLES), "SHOW"),
        Command::ShowCreateTable { .. } => (texts(&SHOW_CREATE), "SHOW"),
        Command::Optimize { .. } => (texts(&care::OPTIMIZE), "OPTIMIZE"),
        Command::OptimizeTemperature { .. } => (texts(&care::TEMPERATURE), "OPTIMIZE"),
        Command::Vacuum { dry_run: true, .. } => (texts(&care::VACUUM_DRY_RUN), "VACUUM"),
        Command::Vacuum { .. } => (texts(&care::VACUUM), "VACUUM"),
        Command::CreatePlainView { .. } => (None, "CREATE VIEW"),
        Command::DropPlainView { .. } => (None, "DROP VIEW"),
        Command::CommentOnPlainView { .. } => (None, "COMMENT"),
        Command::ShowPlainViews { .. } => (texts(&SHOW_PLAIN_VIEWS), "SHOW"),
        Command::ShowCreatePlainView { .. } => (texts(&SHOW_CREATE), "SHOW"),
        Command::CreateSchema { .. } => (None, "CREATE SCHEMA"),
        Command::DropSchema { .. } => (None, "DROP SCHEMA"),
        Command::ShowSchemas { .. } => (texts(&SHOW_SCHEMAS), "SHOW"),
        Command::ShowViews { .. } => (texts(&SHOW_VIEWS), "SHOW"),
        Command::ShowCreateView { .. } => (texts(&SHOW_CREATE), "SHOW"),
        Command::ExplainCreate { .. } => (texts(&EXPLAIN_CREATE), "EXPLAIN"),
        Command::EmitChanges { .. } => (None, "SELECT"),
        Command::CreateView { .. } => (None, "CREATE MATERIALIZED VIEW"),
        Command::CreateDerivedStream { .. } => (None, "CREATE STREAM"),
        Command::AlterView { .. } | Command::ApplyReplacement { .. } => (None, "ALTER MATERIALIZED VIEW"),
        Command::AlterDerivedStream { .. } => (None, "ALTER STREAM"),
        Command::DropView { .. } => (None, "DROP MATERIALIZED VIEW"),
        Command::CommentOnView { .. } => (None, "COMMENT"),
        Command::CopyFrom(_) | Command::CopyTo(_) => (None, "COPY"),
        _ => (None, ""),
    }
}

const SHOW_STREAMS: [&str; 5] = ["name", "partitions", "columns", "comment", "query"];
pub(super) const SHOW_TABLES: [&str; 4] = ["name", "columns", "primary_key", "comment"];
pub(super) const SHOW_PLAIN_VIEWS: [&str; 4] = ["name", "columns", "query", "comment"];
pub(super) const SHOW_SCHEMAS: [&str; 1] = ["name"];
const DESCRIBE: [&str; 5] = ["column", "type", "nullable", "default", "comment"];
pub(super) const SHOW_CREATE: [&str; 2] = ["name", "sql"];
pub(super) const SHOW_VIEWS: [&str; 5] = ["name", "state", "columns", "query", "comment"];
pub(super) const EXPLAIN_CREATE: [&str; 1] = ["plan"];
const SHOW_ALL: [&str; 2] = ["name", "setting"];

/// Runs a command, apart from its caller's future.
pub(super) fn start<'a>(session: &'a Session, statement: &'a Statement) -> BoxFuture<'a, Result<Outcome>> {
    run(session, statement).boxed()
}

/// Runs a command about tables, apart from those about anything else.
fn of_tables<'a>(session: &'a Session, command: &'a Command, text: &'a str) -> BoxFuture<'a, Result<Outcome>> {
    tables::run(session, command, text).boxed()
}

/// Runs a command about plain views and schemas, apart from those about anything else.
fn of_plain_views<'a>(session: &'a Session, command: &'a Command, text: &'a str) -> BoxFuture<'a, Result<Outcome>> {
    plain_views::run(session, command, text).boxed()
}

/// Runs a command about views that are kept up to date, apart from those about anything else.
fn of_views<'a>(session: &'a Session, command: &'a Command, text: &'a str) -> BoxFuture<'a, Result<Outcome>> {
    views::run(session, command, text).boxed()
}

/// Runs a command.
async fn run(session: &Session, statement: &Statement) -> Result<Outcome> {
    let shared = &session.shared;
    match statement.command() {
        Command::CreateStream { stream, if_not_exists } => create(session, stream.clone(), *if_not_exists).await,
        Command::CreateStreamFromSample { sample, if_not_exists } => from_sample(session, sample, *if_not_exists).await,
        Command::AlterStream { name, if_exists, action } => alter(session, name, *if_exists, action).await,
        Command::DropStream { name, if_exists, cascade } => {
            let dropped = shared.drop_stream(name, *if_exists, *cascade).await?;
            Ok(noticed("DROP STREAM", dropped, || format!("stream {name} does not exist, skipped")))
        }
        Command::ShowStreams { like } => show_streams(session, like.as_deref()),
        Command::Describe { name } => describe(session, name).await,
        Command::ShowCreate { name } => {
            let stream = Arc::clone(&shared.stream_alone(name, "SHOW CREATE")?.definition().stream);
            match shared.writer(name) {
                Some(view) => {
                    let sql = ddl::render_create_derived(&stream, &view.definition());
                    rows_of(&SHOW_CREATE, vec![vec![Some(name.to_string()), Some(sql)]], "SHOW")
                }
                None => show_create(&stream, "SHOW"),
            }
        }
        Command::Comment { name, column, text } if shared.view(name).is_some() => {
            let action = ViewAction::SetComment { column: column.clone(), text: text.clone() };
            shared.alter_view(name, &action).await?;
            done("COMMENT")
        }
        Command::Comment { name, column, text } if shared.plain_view(name).is_some() => {
            shared.comment_on_plain_view(name, column.clone(), text.clone()).await?;
            done("COMMENT")
        }
        Command::Comment { name, column, text } => {
            if column.is_none() {
                shared.stream_alone(name, "COMMENT ON")?;
            }
            let action = AlterAction::SetComment { column: column.clone(), text: text.clone() };
            shared.alter_stream(name, |stream| ddl::altered(stream, &action)).await?;
            done("COMMENT")
        }
        Command::CopyFrom(copy) => copies::from(session, copy, &statement.text).await,
        Command::CopyTo(copy) => copies::to(session, copy, &statement.text).await,
        command @ (Command::CreateTable { .. }
        | Command::CreateTableFromSample { .. }
        | Command::CreateTableAs { .. }
        | Command::CloneTable { .. }
        | Command::ConvertToDelta { .. }
        | Command::AlterTable { .. }
        | Command::DropTable { .. }
        | Command::Truncate { .. }
        | Command::DescribeHistory { .. }
        | Command::RestoreTable { .. }
        | Command::ShowTables { .. }
        | Command::ShowCreateTable { .. }
        | Command::CommentOnTable { .. }) => of_tables(session, command, &statement.text).await,
        command @ (Command::Optimize { .. } | Command::OptimizeTemperature { .. } | Command::Vacuum { .. }) => {
            care::run(session, command).await
        }
        command @ (Command::CreatePlainView { .. }
        | Command::DropPlainView { .. }
        | Command::ShowPlainViews { .. }
        | Command::ShowCreatePlainView { .. }
        | Command::CommentOnPlainView { .. }
        | Command::CreateSchema { .. }
        | Command::DropSchema { .. }
        | Command::ShowSchemas { .. }) => of_plain_views(session, command, &statement.text).await,
        Command::Discard { tag } if *tag == "DISCARD ALL" || *tag == "DISCARD TEMP" => {
            shared.drop_all_temporary(&session.temporary_schema()).await;
            if *tag == "DISCARD TEMP" { done(tag) } else { session_command(session, statement.command()) }
        }
        Command::Flush { name } => flush(session, name.as_ref()).await,
        command @ (Command::CreateView { .. }
        | Command::CreateDerivedStream { .. }
        | Command::AlterView { .. }
        | Command::AlterDerivedStream { .. }
        | Command::ApplyReplacement { .. }
        | Command::DropView { .. }
        | Command::ShowViews { .. }
        | Command::ShowCreateView { .. }
        | Command::CommentOnView { .. }
        | Command::ExplainCreate { .. }
        | Command::EmitChanges { .. }) => of_views(session, command, &statement.text).await,
        Command::Sql(_) => Err(Error::rejected(Code::Internal, "a query was run as a command")),
        setting => session_command(session, setting),
    }
}

/// Commands that concern the session alone.
fn session_command(session: &Session, command: &Command) -> Result<Outcome> {
    let mut settings = session.settings.lock();
    match command {
        Command::Show { name } => {
            let value = settings.get(name).map(str::to_owned);
            drop(settings);
            show_setting(name, value)
        }
        Command::ShowAll => {
            let rows = settings.all().map(|(k, v)| vec![Some(k.to_owned()), Some(v.to_owned())]);
            rows_of(&SHOW_ALL, rows.collect(), "SHOW")
        }
        Command::Set { name, value: Some(value), .. } => {
            settings.set(name, value)?;
            done("SET")
        }
        Command::Set { name, value: None, .. } => {
            settings.reset(name);
            done("SET")
        }
        Command::Reset { name: Some(name) } => {
            settings.reset(name);
            done("RESET")
        }
        Command::Reset { name: None } => {
            settings.reset_all();
            done("RESET")
        }
        Command::Discard { tag } => {
            settings.reset_all();
            done(tag)
        }
        Command::Begin { tag } | Command::Nothing { tag } => done(tag),
        Command::Commit => done("COMMIT"),
        Command::Rollback | Command::RollbackTo { .. } => done("ROLLBACK"),
        Command::Savepoint { .. } => done("SAVEPOINT"),
        Command::Release { .. } => done("RELEASE"),
        Command::Deallocate { name: None } => done("DEALLOCATE ALL"),
        Command::Deallocate { .. } => done("DEALLOCATE"),
        other => Err(Error::rejected(Code::Internal, format!("{other:?} is not a session command"))),
    }
}

pub(super) fn done(tag: &str) -> Result<Outcome> {
    Ok(Outcome::Done { tag: tag.to_owned(), notices: vec![] })
}

/// The tag, with a notice when nothing was done.
pub(super) fn noticed(tag: &str, changed: bool, notice: impl FnOnce() -> String) -> Outcome {
    let notices = if changed { vec![] } else { vec![notice()] };
    Outcome::Done { tag: tag.to_owned(), notices }
}

async fn create(session: &Session, draft: StreamDraft, if_not_exists: bool) -> Result<Outcome> {
    let name = draft.name.clone();
    let created = session.shared.create_stream(draft, if_not_exists).await?;
    Ok(noticed("CREATE STREAM", created, || format!("stream {name} already exists, skipped")))
}

async fn from_sample(session: &Session, sample: &SampleDraft, if_not_exists: bool) -> Result<Outcome> {
    let name = sample.name.clone();
    if !(if_not_exists && session.shared.knows(&name)) {
        let columns = sample_columns(&session.shared, &sample.path, sample.format).await?;
        let draft = sample.clone().with_columns(columns);
        session.shared.create_stream(draft, if_not_exists).await?;
    }
    let made = Arc::clone(&session.shared.stream(&name)?.definition().stream);
    show_create(&made, "CREATE STREAM")
}

async fn alter(session: &Session, name: &ObjectName, if_exists: bool, action: &AlterAction) -> Result<Outcome> {
    if if_exists && !session.shared.knows(name) {
        return Ok(noticed("ALTER STREAM", false, || format!("stream {name} does not exist, skipped")));
    }
    session.shared.stream_alone(name, "ALTER")?;
    let changed = session.shared.alter_stream(name, |stream| ddl::altered(stream, action)).await?;
    Ok(noticed("ALTER STREAM", changed, || format!("stream {name} is like that already, skipped")))
}

/// Waits until every view has taken in what was acknowledged, and moves what is in the log to the lake.
async fn flush(session: &Session, name: Option<&ObjectName>) -> Result<Outcome> {
    let streams = match name {
        Some(name) => vec![session.shared.stream(name)?],
        None => {
            session.shared.flush_views(session.shared.options.statement_timeout).await?;
            session.shared.streams()
        }
    };
    let mut failed = None;
    for stream in streams {
        // The others' rows go to the lake all the same.
        if let Err(error) = tier_once(&session.shared, &stream).await {
            failed.get_or_insert_with(|| Error::Rejected {
                code: error.code(),
                message: format!("{} {}: {}", stream.kind(), stream.name(), chain(&error)),
                hint: error.hint(),
                position: None,
            });
        }
    }
    failed.map_or_else(|| done("FLUSH"), Err)
}

fn show_streams(session: &Session, like: Option<&str>) -> Result<Outcome> {
    let streams = session.shared.streams();
    let rows = streams
        .iter()
        .filter(|s| !s.name().is_system() && s.kind() == "stream")
        .filter(|s| like.is_none_or(|pattern| matches_like(s.name().name(), pattern)))
        .map(|s| {
            let stream = &s.definition().stream;
            vec![
                Some(stream.name.to_string()),
                Some(stream.options.partitions.to_string()),
                Some(stream.columns.len().to_string()),
                stream.comment.clone(),
                session.shared.writer(&stream.name).map(|view| view.definition().query.clone()),
            ]
        });
    rows_of(&SHOW_STREAMS, rows.collect(), "SHOW")
}

async fn describe(session: &Session, name: &ObjectName) -> Result<Outcome> {
    if name.is_system()
        && let Some(table) = system_table(&session.shared, name.name())
    {
        let schema = table.schema();
        let rows = schema.fields().iter().map(|f| {
            let nullable = Some(if f.is_nullable() { "yes" } else { "no" }.to_owned());
            vec![Some(f.name().clone()), Some(f.data_type().to_string().to_lowercase()), nullable, None, None]
        });
        return rows_of(&DESCRIBE, rows.collect(), "DESCRIBE");
    }
    if let Some(view) = session.shared.view(name).or_else(|| session.shared.plain_view(name)) {
        let definition = view.definition();
        let rows = definition.columns.iter().map(|c| {
            let nullable = Some(if c.nullable { "yes" } else { "no" }.to_owned());
            vec![Some(c.name.clone()), Some(c.data_type.to_string()), nullable, None, c.comment.clone()]
        });
        return rows_of(&DESCRIBE, rows.collect(), "DESCRIBE");
    }
    let stream = Arc::clone(&session.shared.stream(name)?.definition().stream);
    let yes_no = |yes| Some(if yes { "yes" } else { "no" }.to_owned());
    let mut rows: Vec<Vec<Option<String>>> = stream
        .columns
        .iter()
        .map(|c| {
            let (nullable, default) = (yes_no(c.nullable), tables::default_of(&stream, c));
            vec![Some(c.name.clone()), Some(c.data_type.to_string()), nullable, default, c.comment.clone()]
        })
        .collect();
    let hidden = match stream.table {
        None => [("int", "the partition"), ("bigint", "offset in its partition"), ("timestamptz", "when accepted")],
        Some(_) => {
            [("int", "0"), ("bigint", "the row's number, a new one with each UPDATE"), ("timestamptz", "when written")]
        }
    };
    for (column, (data_type, comment)) in HIDDEN_COLUMNS.iter().zip(hidden) {
        let comment = Some(format!("hidden: {comment}"));
        rows.push(vec![Some((*column).to_owned()), Some(data_type.to_owned()), yes_no(false), None, comment]);
    }
    rows_of(&DESCRIBE, rows, "DESCRIBE")
}

fn show_create(stream: &Stream, tag: &'static str) -> Result<Outcome> {
    let row = vec![Some(stream.name.to_string()), Some(ddl::render_create(stream))];
    rows_of(&SHOW_CREATE, vec![row], tag)
}

fn show_setting(name: &str, value: Option<String>) -> Result<Outcome> {
    let value = value
        .ok_or_else(|| Error::rejected(Code::InvalidRequest, format!("no setting {name:?}; SHOW ALL lists them")))?;
    rows_of(&[name], vec![vec![Some(value)]], "SHOW")
}

fn text_schema(names: &[&str]) -> SchemaRef {
    let fields = names.iter().map(|name| Field::new(*name, DataType::Utf8, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

pub(super) fn rows_of(names: &[&str], rows: Vec<Vec<Option<String>>>, tag: &'static str) -> Result<Outcome> {
    let columns = (0..names.len())
        .map(|i| Arc::new(StringArray::from_iter(rows.iter().map(|row| row[i].as_deref()))) as ArrayRef);
    let batch = RecordBatch::try_new(text_schema(names), columns.collect())
        .map_err(|e| Error::rejected(Code::Internal, format!("a command's rows do not fit: {e}")))?;
    Ok(Outcome::Rows { rows: RowStream::ready(batch), tag })
}

/// SQL's LIKE with `%` and `_`, without an escape. Only the last `%` is ever tried again, so that no pattern takes
/// longer than text times pattern.
pub(super) fn matches_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut t, mut p, mut retry) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('%') => {
                p += 1;
                retry = Some((t, p));
            }
            Some(c) if *c == '_' || *c == text[t] => (t, p) = (t + 1, p + 1),
            _ => match retry {
                Some((start, after)) => {
                    (t, p) = (start + 1, after);
                    retry = Some((t, after));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_views_say_what_they_return() {
        let shown = |sql: &str| {
            let (schema, tag) = shape(&ddl::parse(sql).unwrap().remove(0).command);
            let names = schema.map(|s| s.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(" "));
            format!("{tag}: {}", names.unwrap_or_default())
        };
        let cases = [
            ("create materialized view v as select 1", "CREATE MATERIALIZED VIEW: "),
            ("create stream s as select 1", "CREATE STREAM: "),
            ("alter materialized view v suspend", "ALTER MATERIALIZED VIEW: "),
            ("alter materialized view v apply replacement w", "ALTER MATERIALIZED VIEW: "),
            ("alter stream s resume", "ALTER STREAM: "),
            ("drop materialized view v", "DROP MATERIALIZED VIEW: "),
            ("comment on materialized view v is 'x'", "COMMENT: "),
            ("show materialized views", "SHOW: name state columns query comment"),
            ("show create materialized view v", "SHOW: name sql"),
            ("explain create stream s as select 1", "EXPLAIN: plan"),
            ("select 1 emit changes", "SELECT: "),
        ];
        for (sql, expected) in cases {
            assert_eq!(shown(sql), expected, "{sql}");
        }
    }

    #[test]
    fn like_knows_its_two_wildcards() {
        assert!(matches_like("flights", "fl%"));
        assert!(matches_like("flights", "%i_h%"));
        assert!(matches_like("", "%"));
        assert!(!matches_like("flights", "fl"));
        assert!(!matches_like("flights", "_lights_"));
        assert!(matches_like("aXbXc", "a%X%c"));
        assert!(!matches_like(&"a".repeat(60), &format!("{}b", "%a".repeat(30))));
    }
}
