//! Point reads: queries of a view's rows by their key, run without the planner, and plans that outlive the catalog they
//! were made over.

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use millstream_catalog::fault::{Code, Fault};
use millstream_process::{Outcome, Prepared, RunOptions, Session};

use crate::harness::Node;

const BY_TENS: &str = "CREATE MATERIALIZED VIEW tens AS
    SELECT id / 10 AS tens, min(name) AS first, count(*) AS n, sum(id) AS total FROM s GROUP BY id / 10";
const BY_NAME: &str = "CREATE MATERIALIZED VIEW names AS
    SELECT name, id % 3 AS rest, CAST(count(*) AS double) AS n FROM s GROUP BY name, id % 3";

/// A node with 95 rows and two views over them: `tens` has one column as its key, `names` has two.
async fn node_with_views() -> Node {
    let node = Node::start().await;
    node.create_s(2).await;
    node.write(0..95).await;
    node.ask(BY_TENS).await.unwrap();
    node.ask(BY_NAME).await.unwrap();
    node.ask("FLUSH").await.unwrap();
    node
}

async fn prepare(session: &Session, sql: &str) -> Prepared {
    let statement = session.parse(sql).unwrap().remove(0);
    session.prepare(&statement).await.unwrap()
}

async fn run(session: &Session, prepared: &Prepared, params: &[ScalarValue]) -> Result<String, Code> {
    let outcome = session.run(prepared, params, RunOptions::default()).await.map_err(|e| e.code())?;
    let Outcome::Rows { rows, .. } = outcome else { panic!("no rows") };
    let batches: Vec<RecordBatch> = rows.try_collect().await.map_err(|e| e.code())?;
    Ok(table(&batches))
}

/// The rows, one line each.
fn table(batches: &[RecordBatch]) -> String {
    let shown = pretty_format_batches(batches).unwrap().to_string();
    let lines = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    lines.map(|line| cells(line).join(",")).collect::<Vec<_>>().join(";")
}

fn long(value: i64) -> ScalarValue {
    ScalarValue::Int64(Some(value))
}

fn text(value: &str) -> ScalarValue {
    ScalarValue::Utf8View(Some(value.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_by_the_key_are_answered_at_once_and_as_by_their_plans() {
    let node = node_with_views().await;
    let session = node.engine.session();
    let list = |items: &[i64]| {
        let items: Vec<ScalarValue> = items.iter().map(|item| long(*item)).collect();
        ScalarValue::List(ScalarValue::new_list_nullable(&items, &arrow::datatypes::DataType::Int64))
    };
    let two = || vec![text("n7"), long(1)];
    let cases: Vec<(&str, Vec<ScalarValue>, &str)> = vec![
        ("SELECT * FROM tens WHERE tens = $1", vec![long(3)], "3,n30,10,345"),
        ("SELECT * FROM tens WHERE tens = $1", vec![long(300)], ""),
        ("SELECT * FROM tens WHERE tens = $1", vec![ScalarValue::Int64(None)], ""),
        ("SELECT total, n AS rows FROM tens t WHERE $1 = t.tens", vec![long(9)], "460,5"),
        ("SELECT first FROM tens WHERE tens = 4", vec![], "n40"),
        ("SELECT total / n AS mean, upper(first) FROM tens WHERE tens = $1", vec![long(1)], "14,N10"),
        ("SELECT n FROM tens WHERE tens = $1 AND total > 100 AND first LIKE 'n%'", vec![long(1)], "10"),
        ("SELECT n FROM tens WHERE tens = $1 AND total > 1000", vec![long(1)], ""),
        ("SELECT n FROM tens WHERE tens = $1 ORDER BY total DESC LIMIT 1", vec![long(1)], "10"),
        ("SELECT q.m FROM (SELECT tens AS k, n + 1 AS m FROM tens) q WHERE q.k = $1", vec![long(1)], "11"),
        ("SELECT 1 AS one FROM tens WHERE tens = $1", vec![long(1)], "1"),
        ("SELECT * FROM names WHERE name = $1 AND rest = $2", two(), "n7,1,1.0"),
        ("SELECT n FROM names WHERE rest = $2 AND name = $1", two(), "1.0"),
        ("SELECT tens FROM tens WHERE tens IN (1, 2, 2, 70)", vec![], "1;2"),
        ("SELECT tens FROM tens WHERE tens IN ($1, $2)", vec![long(5), long(5)], "5"),
        ("SELECT tens FROM tens WHERE tens = ANY($1)", vec![list(&[8, 6, 8, 99])], "8;6"),
        ("SELECT name FROM names WHERE name IN ('n1', 'n2') AND rest = 2", vec![], "n2"),
    ];
    for (sql, params, expected) in cases {
        let prepared = prepare(&session, sql).await;
        let at_once = session.run_at_once(&prepared, &params);
        let at_once = at_once.unwrap_or_else(|| panic!("not at once: {sql}"));
        assert_eq!(at_once.schema(), prepared.schema().unwrap(), "{sql}");
        assert_eq!(table(&[at_once]), expected, "{sql}");
        assert_eq!(run(&session, &prepared, &params).await.unwrap(), expected, "{sql}");
        let planned = format!("SELECT * FROM ({sql}) AS a UNION ALL SELECT * FROM ({sql}) AS b WHERE false");
        let planned = prepare(&session, &planned).await;
        assert!(session.run_at_once(&planned, &params).is_none());
        let mut rows: Vec<String> =
            run(&session, &planned, &params).await.unwrap().split(';').map(str::to_owned).collect();
        let mut wanted: Vec<&str> = expected.split(';').collect();
        rows.sort();
        wanted.sort();
        assert_eq!(rows, wanted, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_queries_are_left_to_their_plans() {
    let node = node_with_views().await;
    node.ask("CREATE MATERIALIZED VIEW every AS SELECT id, name FROM s WHERE id > 90").await.unwrap();
    let session = node.engine.session();
    let cases = [
        ("SELECT count(*) FROM tens WHERE tens = 1", "1"),
        ("SELECT n FROM names WHERE name = 'n7'", "1.0"),
        ("SELECT name FROM every WHERE id = 91", "n91"),
        ("SELECT n FROM tens WHERE tens = 1 AND now() > '2020-01-01'", "10"),
        ("SELECT n FROM tens WHERE tens = 1 AND n = (SELECT max(n) FROM tens)", "10"),
        ("SELECT tens FROM tens WHERE tens IN (2, 1) ORDER BY tens", "1;2"),
        ("SELECT tens FROM tens WHERE tens = 1 OR n = 5 ORDER BY 1", "1;9"),
        ("SELECT n FROM tens WHERE tens = 1 LIMIT 0", ""),
        ("SELECT n FROM tens WHERE tens = 1 OFFSET 1", ""),
        ("SELECT DISTINCT n FROM tens WHERE tens = 1", "10"),
        ("SELECT a.n FROM tens a, tens b WHERE a.tens = 1 AND b.tens = 1", "10"),
        ("SELECT id FROM s WHERE id = 5", "5"),
    ];
    for (sql, expected) in cases {
        let prepared = prepare(&session, sql).await;
        assert!(session.run_at_once(&prepared, &[]).is_none(), "{sql}");
        assert_eq!(run(&session, &prepared, &[]).await.unwrap(), expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_point_read_is_that_of_its_plan() {
    let node = node_with_views().await;
    let session = node.engine.session();
    let sql = "SELECT total / (n - 10) AS q FROM tens WHERE tens = $1";
    let prepared = prepare(&session, sql).await;
    assert_eq!(table(&[session.run_at_once(&prepared, &[long(9)]).unwrap()]), "-92");
    assert!(session.run_at_once(&prepared, &[long(1)]).is_none(), "it is to be run for its error");
    assert_eq!(run(&session, &prepared, &[long(1)]).await.unwrap_err(), Code::DivisionByZero);
    // A value of another type than the key's is compared as the plan compares it.
    let prepared = prepare(&session, "SELECT n FROM tens WHERE tens = $1").await;
    assert_eq!(run(&session, &prepared, &[ScalarValue::Int32(Some(9))]).await.unwrap(), "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_read_sees_what_its_view_has_taken_in() {
    let node = node_with_views().await;
    let session = node.engine.session();
    let prepared = prepare(&session, "SELECT n, total FROM tens WHERE tens = $1").await;
    let receipt = node.write(95..98).await;
    let options = RunOptions { after: vec![receipt.token.clone()], ..RunOptions::default() };
    let outcome = session.run(&prepared, &[long(9)], options).await.unwrap();
    let Outcome::Rows { rows, .. } = outcome else { panic!("no rows") };
    let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
    assert_eq!(table(&batches), "8,748");
    let before = node.number("SELECT count(*) FROM system.queries").await;
    assert!(session.run_at_once(&prepared, &[long(9)]).is_some());
    assert_eq!(node.number("SELECT count(*) FROM system.queries").await, before + 1, "what is at hand is not listed");
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_follow_the_catalog() {
    let node = node_with_views().await;
    let session = node.engine.session();
    let prepared = prepare(&session, "SELECT n FROM tens WHERE tens = $1").await;
    let over_stream = prepare(&session, "SELECT count(*) AS n FROM s").await;
    assert_eq!(run(&session, &prepared, &[long(9)]).await.unwrap(), "5");
    let query = "SELECT id / 10 AS tens, min(name) AS first, count(*) * 100 AS n, sum(id) AS total FROM s GROUP BY 1";
    node.ask(&format!("CREATE REPLACEMENT MATERIALIZED VIEW b FOR tens AS {query}")).await.unwrap();
    node.ask("ALTER MATERIALIZED VIEW tens APPLY REPLACEMENT b").await.unwrap();
    assert!(session.run_at_once(&prepared, &[long(9)]).is_none(), "it has to be planned again");
    assert_eq!(run(&session, &prepared, &[long(9)]).await.unwrap(), "500");
    node.ask("ALTER MATERIALIZED VIEW tens RENAME TO decades").await.unwrap();
    assert_eq!(run(&session, &prepared, &[long(9)]).await.unwrap_err(), Code::UndefinedObject);
    node.ask("ALTER MATERIALIZED VIEW decades RENAME TO tens").await.unwrap();
    assert_eq!(run(&session, &prepared, &[long(9)]).await.unwrap(), "500");
    node.ask("DROP MATERIALIZED VIEW tens").await.unwrap();
    assert_eq!(run(&session, &prepared, &[long(9)]).await.unwrap_err(), Code::UndefinedObject);
    node.ask("CREATE MATERIALIZED VIEW tens AS SELECT id / 10 AS tens, max(name) AS n FROM s GROUP BY 1")
        .await
        .unwrap();
    let changed = session.run(&prepared, &[long(9)], RunOptions::default()).await.unwrap_err();
    assert_eq!(
        (changed.code(), changed.to_string().as_str()),
        (Code::Unsupported, "cached plan must not change result type")
    );
    assert_eq!(run(&session, &over_stream, &[]).await.unwrap(), "95");
    node.ask("DROP STREAM s CASCADE").await.unwrap();
    assert_eq!(run(&session, &over_stream, &[]).await.unwrap_err(), Code::UndefinedObject);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_shared_until_the_catalog_changes() {
    let node = node_with_views().await;
    let (session, other) = (node.engine.session(), node.engine.session());
    let sql = "SELECT n FROM tens WHERE tens = $1";
    assert!(other.prepared(sql).is_none());
    prepare(&session, sql).await;
    assert!(other.prepared(sql).is_some());
    for i in 0..300 {
        prepare(&session, &format!("SELECT n FROM tens WHERE tens = {i}")).await;
        assert!(other.prepared(sql).is_some(), "what is used stays");
    }
    assert!(other.prepared("SELECT n FROM tens WHERE tens = 0").is_none(), "the oldest go");
    prepare(&session, "SELECT count(*) FROM system.streams").await;
    assert!(other.prepared("SELECT count(*) FROM system.streams").is_none());
    node.ask("CREATE STREAM other (x BIGINT)").await.unwrap();
    assert!(other.prepared(sql).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn point_reads_beside_steps_see_each_step_whole() {
    let node = std::sync::Arc::new(node_with_views().await);
    let writer = {
        let node = std::sync::Arc::clone(&node);
        tokio::spawn(async move {
            for round in 0..50 {
                node.write(1000 + round * 10..1010 + round * 10).await;
            }
        })
    };
    node.ask(
        "CREATE MATERIALIZED VIEW parts AS SELECT id % 2 AS part, count(*) AS n, count(name) AS m FROM s GROUP BY 1",
    )
    .await
    .unwrap();
    let session = node.engine.session();
    let prepared = prepare(&session, "SELECT n - m AS gap, n FROM parts WHERE part = $1").await;
    let mut last = 0;
    while !writer.is_finished() {
        let row = run(&session, &prepared, &[long(0)]).await.unwrap();
        let (gap, n) = row.split_once(',').unwrap();
        assert_eq!(gap, "0");
        let n: i64 = n.parse().unwrap();
        assert!(n >= last);
        last = n;
    }
    writer.await.unwrap();
    node.ask("FLUSH").await.unwrap();
    assert_eq!(run(&session, &prepared, &[long(1)]).await.unwrap(), "0,297");
}
