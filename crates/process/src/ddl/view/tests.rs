//! Owns the tests of the statements about views: what is read, what is refused, and the way there and back.

use millstream_catalog::fault::Fault;
use millstream_catalog::{
    Column, DataType, Dependency, ObjectId, ObjectName, OnError, Stream, StreamId, View, ViewId, ViewState,
};
use uuid::Uuid;

use super::*;
use crate::ddl::{Command, parse, parse_query};

pub(super) const OLD: ViewId = ViewId(Uuid::from_u128(7));

pub(super) fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn one(sql: &str) -> Command {
    let mut statements = parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0).command
}

fn draft(sql: &str) -> ViewDraft {
    match one(sql) {
        Command::CreateView { view, .. } => *view,
        other => panic!("{sql} gave {other:?}"),
    }
}

pub(super) fn derived_draft(sql: &str) -> DerivedStreamDraft {
    match one(sql) {
        Command::CreateDerivedStream { stream, .. } => *stream,
        other => panic!("{sql} gave {other:?}"),
    }
}

pub(super) fn inputs() -> Vec<Dependency> {
    vec![Dependency { id: ObjectId::Stream(StreamId(Uuid::from_u128(1))), name: name("t") }]
}

/// The view that a statement makes, over a query with two columns.
fn view(sql: &str) -> View {
    let columns = vec![Column::new("a", DataType::BigInt).not_null(), Column::new("b", DataType::Text)];
    view_of(sql, columns)
}

pub(super) fn view_of(sql: &str, columns: Vec<Column>) -> View {
    let draft = draft(sql);
    let old = draft.replacement_for.as_ref().map(|_| OLD);
    draft.into_view(ViewId(Uuid::nil()), columns, inputs(), old, 5).unwrap()
}

pub(super) fn derived_of(sql: &str, columns: Vec<Column>) -> (Stream, View) {
    let ids = (StreamId(Uuid::from_u128(3)), ViewId(Uuid::from_u128(4)));
    derived_draft(sql).into_definitions(ids, columns, inputs(), 5).unwrap()
}

/// The error, as `code at position: message (hint)`.
fn refusal(sql: &str) -> String {
    let error = match parse(sql) {
        Err(error) => error,
        Ok(_) => return "taken".to_owned(),
    };
    let position = error.position().map_or_else(|| "-".to_owned(), |p| p.to_string());
    let hint = error.hint().map_or_else(String::new, |h| format!(" ({h})"));
    format!("{} at {position}: {error}{hint}", error.code().name())
}

const DELAYS: &str = "
    CREATE MATERIALIZED VIEW IF NOT EXISTS ops.delays (Carrier COMMENT 'two', \"Mean Delay\")
    COMMENT 'by the hour' WITH (retention = '7 days', retention_size = '1 GB', memory = '256 MB') AS
    SELECT carrier,  avg(delay) FILTER (WHERE x <> 'EMIT CHANGES') -- of all
      FROM TUMBLE(flights, at, INTERVAL '1' HOUR) GROUP BY 1 ON ERROR STOP EMIT ON WINDOW CLOSE; SELECT 1";

#[test]
fn a_create_statement_gives_every_part_of_the_view() {
    let first = parse(DELAYS).unwrap().remove(0).command;
    let Command::CreateView { view, if_not_exists: true } = first else { panic!("not taken") };
    assert_eq!(view.name.to_string(), "ops.delays");
    let names: Vec<_> = view.columns.iter().map(|c| (c.name.as_str(), c.comment.as_deref())).collect();
    assert_eq!(names, [("carrier", Some("two")), ("Mean Delay", None)]);
    assert_eq!(
        view.query.text,
        "SELECT carrier,  avg(delay) FILTER (WHERE x <> 'EMIT CHANGES') -- of all\n      \
         FROM TUMBLE(flights, at, INTERVAL '1' HOUR) GROUP BY 1"
    );
    assert_eq!(*parse_query(&view.query.text).unwrap(), *view.query.statement);
    assert_eq!((view.options.retention_ms, view.options.retention_bytes), (Some(604_800_000), Some(1 << 30)));
    assert_eq!((view.options.memory_bytes, view.options.on_error), (Some(256 << 20), OnError::Stop));
    assert!(view.emit_on_window_close);
    assert_eq!((view.comment.as_deref(), view.replacement_for), (Some("by the hour"), None));
}

#[test]
fn a_create_stream_with_a_query_gives_a_derived_stream() {
    let sql = "create stream if not exists severe partition by (carrier) comment 'bad' \
               with (partitions = 4, retention = '1 day', memory = '1 GB') as select * from flights where d > 120 \
               on error stop with (durability = 'os')";
    let Command::CreateDerivedStream { stream, if_not_exists: true } = one(sql) else { panic!("not taken") };
    assert_eq!(stream.query.text, "select * from flights where d > 120");
    assert_eq!((stream.partition_by.clone(), stream.comment.as_deref()), (vec!["carrier".to_owned()], Some("bad")));
}

#[test]
fn a_query_ends_where_the_clauses_behind_it_begin() {
    let cases = [
        ("select 1 emit on window close", "select 1"),
        ("select 1 On Error Quarantine", "select 1"),
        ("select 1 with data", "select 1"),
        ("select 1 with (memory = '1 GB') emit on window close on error stop", "select 1"),
        ("select * from t emit emit on window close", "select * from t emit"),
        ("select * from t join u on error", "select * from t join u on error"),
        ("select * from t join u on error on error stop", "select * from t join u on error"),
        ("select * from t join u on error notnull", "select * from t join u on error notnull"),
        ("select a from t order by emit desc", "select a from t order by emit desc"),
        ("select 'x on error stop'", "select 'x on error stop'"),
        ("select \"on\", \"error\", \"stop\" from t", "select \"on\", \"error\", \"stop\" from t"),
        ("(select 1) union all (select 2)", "(select 1) union all (select 2)"),
        ("with x as (select 1) select * from x", "with x as (select 1) select * from x"),
        ("values (1), (2)", "values (1), (2)"),
        ("select 1 -- emit on window close", "select 1"),
        ("select /* ; */ $$é;$$", "select /* ; */ $$é;$$"),
        (
            "select * from session(t partition by k, ts, interval '1' hour) emit on window close",
            "select * from session(t partition by k, ts, interval '1' hour)",
        ),
        (
            "select * from table(tumble(table t, descriptor(ts), interval '1' hour))",
            "select * from table(tumble(table t, descriptor(ts), interval '1' hour))",
        ),
    ];
    for (tail, query) in cases {
        assert_eq!(draft(&format!("create materialized view v as {tail}")).query.text, query, "{tail}");
        assert_eq!(derived_draft(&format!("create stream v as {tail}")).query.text, query, "{tail}");
    }
}

#[test]
fn the_parse_of_a_query_is_located_in_its_statement() {
    let sql = "create materialized view v as\n  select nosuch from t emit on window close";
    let text = format!("{:?}", draft(sql).query.statement);
    assert!(text.contains("Location(2,10)"), "{text}");
}

#[test]
fn statements_about_views_are_read() {
    let v = || name("v");
    let alter = |action| Command::AlterView { name: v(), if_exists: false, action };
    assert_eq!(one("alter materialized view v suspend"), alter(ViewAction::SetState(ViewState::Suspended)));
    assert_eq!(one("ALTER MATERIALIZED VIEW public.V RESUME;"), alter(ViewAction::SetState(ViewState::Running)));
    assert_eq!(
        one("alter materialized view if exists ops.v rename to w"),
        Command::AlterView { name: name("ops.v"), if_exists: true, action: ViewAction::Rename(name("ops.w")) }
    );
    assert_eq!(
        one("alter materialized view v set (memory = 'none', on_error = stop)"),
        alter(ViewAction::SetOptions(vec![ViewOptionChange::Memory(None), ViewOptionChange::OnError(OnError::Stop)]))
    );
    assert_eq!(
        one("alter materialized view v reset (retention)"),
        alter(ViewAction::SetOptions(vec![ViewOptionChange::Retention(None)]))
    );
    assert_eq!(
        one("alter materialized view if exists v apply replacement w"),
        Command::ApplyReplacement { name: v(), if_exists: true, replacement: name("w") }
    );
    assert_eq!(
        one("alter stream v suspend"),
        Command::AlterDerivedStream { name: v(), if_exists: false, action: ViewAction::SetState(ViewState::Suspended) }
    );
    let stop = ViewAction::SetOptions(vec![ViewOptionChange::OnError(OnError::Stop)]);
    assert_eq!(
        one("alter stream v set (on_error = 'stop')"),
        Command::AlterDerivedStream { name: v(), if_exists: false, action: stop }
    );
    let default = ViewAction::SetOptions(vec![ViewOptionChange::OnError(OnError::Quarantine)]);
    assert_eq!(
        one("alter stream v reset (on_error)"),
        Command::AlterDerivedStream { name: v(), if_exists: false, action: default }
    );
    assert!(parse("alter stream v set (on_error = 'stop', retention = '1 day')").is_err());
    let drop = |if_exists, cascade| Command::DropView { name: v(), if_exists, cascade };
    assert_eq!(one("drop materialized view v restrict"), drop(false, false));
    assert_eq!(one("drop materialized view if exists v cascade"), drop(true, true));
    assert_eq!(one("show materialized views"), Command::ShowViews { like: None });
    assert_eq!(one("show materialized views like 'd%'"), Command::ShowViews { like: Some("d%".into()) });
    assert_eq!(one("show create materialized view v"), Command::ShowCreateView { name: v() });
    for sql in ["describe v", "describe materialized view v", "desc stream v"] {
        assert_eq!(one(sql), Command::Describe { name: v() }, "{sql}");
    }
    assert_eq!(one("describe materialized"), Command::Describe { name: name("materialized") });
    assert_eq!(
        one("comment on materialized view v is 'x'"),
        Command::CommentOnView { name: v(), text: Some("x".into()) }
    );
    let Command::CreateView { view, .. } = one("create replacement materialized view w for v as select 1") else {
        panic!("not taken")
    };
    assert_eq!((view.name, view.replacement_for), (name("w"), Some(v())));
    assert!(matches!(one("explain select 1"), Command::Sql(_)));
}

#[test]
fn an_explained_create_is_the_create() {
    for (sql, verbose) in [
        ("create materialized view v as select 1 emit on window close", false),
        ("create stream v as select 1", true),
        ("create replacement materialized view w for v as select 1", true),
    ] {
        let explain = format!("explain {}{sql}", if verbose { "verbose " } else { "" });
        let Command::ExplainCreate { create, verbose: found } = one(&explain) else { panic!("{explain}") };
        assert_eq!(found, verbose);
        match (*create, one(sql)) {
            (Command::CreateView { view: a, .. }, Command::CreateView { view: b, .. }) => {
                assert_eq!((a.query.text, a.emit_on_window_close), (b.query.text, b.emit_on_window_close));
            }
            (Command::CreateDerivedStream { stream: a, .. }, Command::CreateDerivedStream { stream: b, .. }) => {
                assert_eq!(a.query.text, b.query.text);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_query_that_asks_for_changes_is_kept_without_the_words() {
    for sql in ["SELECT * FROM v WHERE a = 'EMIT' EMIT CHANGES;", "with x as (select 1) select * from x emit changes"] {
        let Command::EmitChanges { query } = one(sql) else { panic!("{sql}") };
        assert!(sql.starts_with(&query.text) && !query.text.to_lowercase().contains("changes"), "{}", query.text);
    }
    let Command::EmitChanges { query } = one("(select 1) emit changes") else { panic!("not taken") };
    assert_eq!(query.text, "(select 1)");
    assert!(matches!(one("select emit from t"), Command::Sql(_)));
    assert!(matches!(one("select emit changes from t"), Command::Sql(_)));
    assert!(matches!(one("select 'emit changes'"), Command::Sql(_)));
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_its_fix() {
    let cases = [
        ("create materialized", "syntax_error at 20: expected VIEW, found the end of the statement"),
        ("create materialized view", "syntax_error at 25: expected a view name, found the end of the statement"),
        (
            "create materialized view v",
            "syntax_error at 27: expected the columns' names, WITH, COMMENT, or AS and the query, found the end of the statement",
        ),
        ("create materialized view v as", "syntax_error at 30: expected a query, found the end of the statement"),
        ("create materialized view v as on error stop", "syntax_error at 31: expected a query, found \"on\""),
        (
            "create materialized view v as selec 1",
            "syntax_error at 31: expected an SQL statement, found \"selec\" (did you mean SELECT?)",
        ),
        (
            "select 'é'; create materialized view v as\n select (1 emit on window close",
            "syntax_error at 53: expected ), found the end of the query",
        ),
        ("create materialized view v as select (1", "syntax_error at 40: expected ), found the end of the statement"),
        ("create stream v as select a b c", "syntax_error at 31: expected end of statement, found \"c\""),
        (
            "create materialized view v as insert into t values (1)",
            "syntax_error at 31: expected a query: SELECT, WITH or VALUES",
        ),
        (
            "create materialized view v as select 1 emit on window",
            "syntax_error at 54: expected CLOSE, found the end of the statement",
        ),
        (
            "create materialized view v as select 1 emit on window clos",
            "syntax_error at 55: expected CLOSE, found \"clos\"",
        ),
        (
            "create materialized view v as select a from t emit on window close limit 5",
            "syntax_error at 47: EMIT ON WINDOW CLOSE stands behind the whole query, with LIMIT and all else before it",
        ),
        (
            "create materialized view v as select 1 on error stopp",
            "syntax_error at 49: expected QUARANTINE or STOP after ON ERROR, found \"stopp\" (did you mean STOP?)",
        ),
        (
            "create materialized view v as select 1 on error stop on error stop",
            "syntax_error at 54: ON ERROR is given twice",
        ),
        (
            "create materialized view v with (on_error = stop) as select 1 on error stop",
            "syntax_error at 63: ON ERROR is given twice, as a clause and as option on_error",
        ),
        (
            "create materialized view v with (memory = '1 GB') as select 1 with (memory = '1 GB')",
            "syntax_error at 63: WITH is given twice",
        ),
        (
            "create materialized view v with (memroy = '1 GB') as select 1",
            "invalid_request at 34: unknown option \"memroy\", did you mean memory? (the options are retention, retention_size, memory, on_error, idle_timeout)",
        ),
        (
            "create materialized view v with (partitions = 2) as select 1",
            "invalid_request at 34: unknown option \"partitions\" (the options are retention, retention_size, memory, on_error, idle_timeout)",
        ),
        (
            "create materialized view v with (memory = 'much') as select 1",
            "invalid_request at 43: option memory = \"much\" must be a size such as '10 GB' or '512 MB' (1 kB is 1024 bytes), or 'none'",
        ),
        (
            "create stream v with (memroy = '1 GB') as select 1",
            "invalid_request at 23: unknown option \"memroy\", did you mean memory? (the options are partitions, hot, retention_size, durability, rest, expire, warm, cold, optimize, target_file_size, vacuum_retention, checkpoint_interval, memory, on_error, idle_timeout)",
        ),
        (
            "create stream v with (on_error = 'ignore') as select 1",
            "invalid_request at 34: option on_error = \"ignore\" must be 'quarantine' or 'stop'",
        ),
        (
            "create stream v with (rest = true) as select 1",
            "invalid_request at 17: option rest keeps what producers send beyond the columns; a query gives its columns alone",
        ),
        (
            "create stream v (a int) as select 1",
            "syntax_error at 20: column \"a\" has the type that the query gives it: leave all but its name out",
        ),
        ("create materialized view v (a, A) as select 1, 2", "duplicate_column at 32: column \"a\" is named twice"),
        (
            "create materialized view v as select 1 with no data",
            "feature_not_supported at 40: a view is filled from the start, WITH NO DATA is not supported: leave it out, or SUSPEND the view",
        ),
        (
            "create materialized view v as select * from t emit changes",
            "feature_not_supported at 47: a view keeps its changes for whoever asks: leave EMIT CHANGES out here, and read it with SELECT … EMIT CHANGES",
        ),
        (
            "create materialized view v as select * from t where a = $1",
            "invalid_definition at 57: a view's query takes no parameters, write a value in place of $1",
        ),
        (
            "create or replace materialized view v as select 1",
            "feature_not_supported at 1: a materialized view is replaced beside the old one: CREATE REPLACEMENT MATERIALIZED VIEW b FOR a AS …, then ALTER MATERIALIZED VIEW a APPLY REPLACEMENT b",
        ),
        ("create replacement materialized view b as select 1", "syntax_error at 40: expected FOR, found \"as\""),
        (
            "create materialized view system.v as select 1",
            "denied at 26: system.v is the platform's own: nothing in schema \"system\" can be made or changed",
        ),
        (
            "alter materialized view v suspnd",
            "syntax_error at 27: expected SUSPEND, RESUME, APPLY REPLACEMENT, SET, RESET or RENAME TO, found \"suspnd\" (did you mean SUSPEND?)",
        ),
        (
            "alter materialized view v as select 1",
            "feature_not_supported at 27: a view's query cannot be altered: CREATE REPLACEMENT MATERIALIZED VIEW b FOR a AS …, then ALTER MATERIALIZED VIEW a APPLY REPLACEMENT b",
        ),
        (
            "alter materialized view v rename to ops.w",
            "feature_not_supported at 37: a view stays in its schema when it is renamed, that of v is \"public\"",
        ),
        (
            "alter materialized view v resume now",
            "syntax_error at 34: expected the end of the statement, found \"now\"",
        ),
        (
            "drop materialized view a, b",
            "syntax_error at 25: DROP MATERIALIZED VIEW takes one view, write a statement for each",
        ),
        (
            "refresh materialized view concurrently v",
            "feature_not_supported at 1: a materialized view is always fresh, there is nothing to refresh: every row changes it as it comes in",
        ),
        (
            "explain analyze create materialized view v as select 1",
            "feature_not_supported at 1: EXPLAIN ANALYZE would have to make the view: write EXPLAIN CREATE …, and see system.views for one that runs",
        ),
        (
            "explain create stream s (a int)",
            "feature_not_supported at 9: a stream that producers fill has no plan: EXPLAIN takes CREATE STREAM … AS and a query",
        ),
        (
            "explain select * from v emit changes",
            "feature_not_supported at 25: EXPLAIN takes the query without EMIT CHANGES, or CREATE MATERIALIZED VIEW … AS it",
        ),
        (
            "select * from v emit on window close",
            "feature_not_supported at 17: EMIT ON WINDOW CLOSE belongs to CREATE MATERIALIZED VIEW and CREATE STREAM … AS: what asks once sees the windows that are there, what asks for EMIT CHANGES sees them change",
        ),
        (
            "select * from v emit changes limit 5",
            "syntax_error at 17: EMIT CHANGES stands behind the whole query, with LIMIT and all else before it",
        ),
        ("select * from v emit change", "syntax_error at 22: expected CHANGES, found \"change\""),
        ("select * fom v emit changes", "syntax_error at 14: expected end of statement, found \"v\""),
    ];
    let mut wrong = String::new();
    for (sql, expected) in cases {
        let found = refusal(sql);
        if found != expected {
            wrong.push_str(&format!("\n{sql}\n  expected {expected}\n  found    {found}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let misspelt = refusal("create materialised view v as select 1");
    assert!(misspelt.ends_with("(did you mean MATERIALIZED?)"), "{misspelt}");
}

#[test]
fn names_of_columns_are_given_from_the_left() {
    let given = view("create materialized view v (x) as select a, b from t");
    assert_eq!(given.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["x", "b"]);
    let sql = "create materialized view v (x, y, z) as select a, b from t";
    let error = draft(sql).into_view(ViewId(Uuid::nil()), given.columns, inputs(), None, 5).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid definition of materialized view v: it names 3 columns and its query gives 2"
    );
}

#[test]
fn an_alter_gives_the_next_definition() {
    let first = view("create materialized view v as select a, b from t");
    let act = |view: &View, sql: &str| match one(sql) {
        Command::AlterView { action, .. } => altered_view(view, &action),
        Command::CommentOnView { text, .. } => altered_view(view, &ViewAction::SetComment { column: None, text }),
        Command::Comment { column, text, .. } => altered_view(view, &ViewAction::SetComment { column, text }),
        other => panic!("{other:?}"),
    };
    let second = act(&first, "alter materialized view v suspend").unwrap().unwrap();
    assert_eq!((second.version, second.state), (2, ViewState::Suspended));
    assert_eq!(act(&second, "alter materialized view v suspend").unwrap(), None);
    let third = act(&second, "alter materialized view v set (memory = '1 MB')").unwrap().unwrap();
    assert_eq!(third.options.memory_bytes, Some(1 << 20));
    let fourth = act(&third, "comment on column v.b is 'text'").unwrap().unwrap();
    assert_eq!((fourth.columns[1].comment.as_deref(), fourth.named_columns), (Some("text"), true));
    let fifth = act(&fourth, "alter materialized view v rename to w").unwrap().unwrap();
    assert_eq!((fifth.name.to_string(), fifth.version), ("w".to_owned(), 5));
    let sixth = act(&fifth, "comment on materialized view v is 'all'").unwrap().unwrap();
    assert_eq!(sixth.comment.as_deref(), Some("all"));
    let error = act(&first, "comment on column v.z is 'x'").unwrap_err();
    assert_eq!(error.to_string(), "materialized view \"v\" has no column \"z\"");
}

#[test]
fn a_rendered_view_reads_well() {
    let sql = "create replacement materialized view w (x comment 'it''s') for v as select 1";
    assert!(parse(sql).is_err());
    let sql = "create replacement materialized view w for v (x comment 'it''s', \"Y\") with (memory = '1024 kB') \
               comment 'c' as select  a,b from t emit on window close on error stop";
    let expected = "CREATE REPLACEMENT MATERIALIZED VIEW w FOR v (x COMMENT 'it''s', \"Y\")\nCOMMENT 'c'\n\
                    WITH (memory = '1 MB')\nAS\nselect  a,b from t\nEMIT ON WINDOW CLOSE\nON ERROR STOP";
    assert_eq!(render_create_view(&view(sql), Some(&name("v"))), expected);
    let sql = "create stream s partition by (a) with (partitions = 2, memory = '1 GB') as select a, b from t";
    let columns = vec![Column::new("a", DataType::BigInt), Column::new("b", DataType::Text)];
    let (stream, view) = derived_of(sql, columns);
    assert_eq!(
        render_create_derived(&stream, &view),
        "CREATE STREAM s\nPARTITION BY (a)\nWITH (partitions = 2, memory = '1 GB')\nAS\nselect a, b from t"
    );
    assert_eq!((stream.columns.clone(), stream.options.partitions), (view.columns, 2));
}

#[test]
fn a_plain_view_is_read_and_rendered_the_same() {
    let sql = "CREATE VIEW ops.\"V\" (a COMMENT 'it''s', b)\nCOMMENT 'both'\nAS\nSELECT 1, 'as' AS x -- two\n  FROM t";
    let Command::CreatePlainView { view, or_replace: false, if_not_exists: false } = one(sql) else {
        panic!("not taken")
    };
    let columns = vec![Column::new("q", DataType::BigInt), Column::new("r", DataType::Text)];
    let made = view.into_view(ViewId(Uuid::nil()), columns, inputs(), 5).unwrap();
    assert_eq!(made.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((made.kind.word(), made.comment.as_deref()), ("view", Some("both")));
    assert_eq!(render_create_plain_view(&made), sql);
    assert!(matches!(
        one("create or replace view v as select 1 as a"),
        Command::CreatePlainView { or_replace: true, .. }
    ));
    let names = vec![name("a"), name("ops.b")];
    assert_eq!(
        one("drop view if exists a, ops.b cascade"),
        Command::DropPlainView { names, if_exists: true, cascade: true }
    );
    assert_eq!(one("show views like 'x'"), Command::ShowPlainViews { like: Some("x".into()) });
    assert_eq!(one("show create view v"), Command::ShowCreatePlainView { name: name("v") });
    assert_eq!(one("comment on view v is null"), Command::CommentOnPlainView { name: name("v"), text: None });
    for (sql, expected) in [
        ("create temp view v as select 1", "feature_not_supported at 1: there are no temporary views"),
        ("create recursive view v as select 1", "feature_not_supported at 1: write CREATE VIEW name AS WITH RECURSIVE"),
        ("create view v with (a = 1) as select 1", "feature_not_supported at 15: a view keeps nothing"),
        ("create view v as select $1", "invalid_definition at 25: a view's query takes no parameters"),
        ("create view v", "syntax_error at 14: expected the columns' names, COMMENT, or AS and the query"),
        ("alter view v rename to w", "feature_not_supported at 1: ALTER VIEW is not supported"),
    ] {
        let refused = refusal(sql);
        assert!(refused.starts_with(expected), "{sql}: {refused}");
    }
}

#[test]
fn statements_about_schemas_are_read() {
    let create = |if_not_exists| Command::CreateSchema { name: "ops".into(), if_not_exists };
    assert_eq!(one("create schema ops"), create(false));
    assert_eq!(one("CREATE SCHEMA IF NOT EXISTS Ops"), create(true));
    let names = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(
        one("drop schema if exists a, b cascade"),
        Command::DropSchema { names, if_exists: true, cascade: true }
    );
    assert_eq!(one("show schemas"), Command::ShowSchemas { like: None });
    assert!(
        refusal("create schema a authorization me").starts_with("feature_not_supported at 17: there are no accounts")
    );
    assert!(refusal("alter schema a rename to b").starts_with("feature_not_supported at 1: a schema keeps its name"));
}
