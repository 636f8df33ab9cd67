//! Queries: their limits, their end, their errors.

use std::time::Duration;

use futures::StreamExt;
use millstream_catalog::fault::{Code, Fault};
use millstream_process::{Outcome, RunOptions};

use crate::harness::Node;

const ENDLESS: &str =
    "SELECT sum(a.value * b.value % 7) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_over_its_time_is_ended() {
    let node = Node::start().await;
    let session = node.engine.session();
    session.execute("SET statement_timeout = '50ms'").await.unwrap();
    let error = session.execute(ENDLESS).await.unwrap_err();
    assert_eq!(error.code(), Code::Timeout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_can_be_cancelled_from_elsewhere() {
    let node = Node::start().await;
    let session = node.engine.session();
    let canceller = session.canceller();
    let (result, ()) = tokio::join!(session.execute(ENDLESS), async {
        while node.number("SELECT count(*) FROM system.queries WHERE status = 'running' AND sql LIKE '%1000000%'").await
            < 2
        {
            tokio::task::yield_now().await;
        }
        canceller.cancel();
    });
    assert_eq!(result.unwrap_err().code(), Code::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_query() {
    let node = Node::start().await;
    let sql = "SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let Outcome::Rows { mut rows, .. } = node.engine.session().execute(sql).await.unwrap() else { panic!() };
    rows.next().await.unwrap().unwrap();
    drop(rows);
    while node.number("SELECT count(*) FROM system.queries WHERE status = 'running'").await > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.number("SELECT count(*) FROM system.queries WHERE status = 'cancelled'").await, 1);
}

/// Joins that try pair after pair and give no row.
const BARREN: [&str; 3] = [
    "SELECT a.value FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b ON a.value * b.value < 0",
    "SELECT a.value FROM generate_series(1, 1000000) a JOIN generate_series(1, 1000000) b \
     ON a.value % 2 = b.value % 2 AND a.value * b.value < 0",
    "SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value + b.value = -1",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_gives_no_rows_stops_with_its_statement() {
    let node = Node::start().await;
    let session = node.engine.session();
    session.execute("SET statement_timeout = '300ms'").await.unwrap();
    for sql in BARREN {
        assert_eq!(session.execute(sql).await.unwrap_err().code(), Code::Timeout, "{sql}");
        let ended = std::time::Instant::now();
        while node.number("SELECT count(*) FROM system.queries WHERE status = 'running'").await > 1 {
            assert!(ended.elapsed() < Duration::from_secs(2), "still computing: {sql}");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn parameters_are_typed_by_the_statement() {
    use datafusion::common::ScalarValue;
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..10).await;
    let session = node.engine.session();
    let statement = session.parse("SELECT count(*) FROM s WHERE id > $1 AND name <> $2").unwrap().remove(0);
    let prepared = session.prepare(&statement).await.unwrap();
    let types: Vec<String> = prepared.parameter_types().iter().map(|t| format!("{t:?}")).collect();
    assert_eq!(types, ["Some(Int64)", "Some(Utf8View)"]);
    let params = [ScalarValue::Int64(Some(4)), ScalarValue::Utf8(Some("n7".into()))];
    let outcome = session.run(&prepared, &params, RunOptions::default()).await.unwrap();
    assert!(matches!(outcome, Outcome::Rows { .. }));
    let missing = session.run(&prepared, &[], RunOptions::default()).await.unwrap_err();
    assert_eq!(missing.code(), Code::InvalidRequest);
}

#[tokio::test]
async fn errors_have_the_code_and_place_a_client_expects() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..1).await;
    let cases = [
        ("SELEC 1", Code::SyntaxError),
        ("SELECT * FROM nowhere", Code::UndefinedObject),
        ("SELECT nothing FROM s", Code::UndefinedColumn),
        ("SELECT nofunction(id) FROM s", Code::UndefinedFunction),
        ("SELECT 1/(id - id) FROM s", Code::DivisionByZero),
        ("SELECT CAST(name AS BIGINT) FROM s", Code::InvalidValue),
        ("CREATE STREAM s (id INT)", Code::DuplicateObject),
        ("CREATE TABLE s (id INT)", Code::DuplicateObject),
        ("COPY s TO '/tmp/x.csv'", Code::Denied),
        ("DROP STREAM nowhere", Code::UndefinedObject),
        ("CREATE STREAM other.t (id INT)", Code::UndefinedSchema),
    ];
    for (sql, code) in cases {
        let error = node.ask(sql).await.unwrap_err();
        assert_eq!(error.code(), code, "{sql}: {error}");
    }
    let error = node.ask("SELECT id,\n  nothing FROM s").await.unwrap_err();
    assert_eq!(error.position(), Some(14), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_queries_than_may_run_are_refused_at_once() {
    let node = Node::start().await;
    let sql = "SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let mut running = vec![];
    for _ in 0..16 {
        running.push(node.engine.session().execute(sql).await.unwrap());
    }
    assert_eq!(node.ask("SELECT 1").await.unwrap_err().code(), Code::Busy);
    drop(running);
    let limit = tokio::time::Instant::now() + Duration::from_secs(30);
    while node.ask("SELECT 1").await.is_err() {
        assert!(tokio::time::Instant::now() < limit, "the places were not given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sorts_and_joins_larger_than_their_memory_spill_and_what_cannot_is_refused() {
    let node = Node::with_query_memory(48 << 20).await;
    let sort = "SELECT max(n) FROM \
        (SELECT row_number() OVER (ORDER BY value % 1000, value) AS n FROM generate_series(1, 3000000))";
    assert_eq!(node.number(sort).await, 3_000_000);
    let join =
        "SELECT count(*) FROM generate_series(1, 3000000) a JOIN generate_series(1, 3000000) b ON a.value = b.value";
    assert_eq!(node.number(join).await, 3_000_000);
    let whole = "SELECT length(string_agg(repeat('x', 1000), '')) FROM generate_series(1, 200000)";
    let error = node.ask(whole).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfMemory, "{error}");
    assert_eq!(node.number("SELECT count(*) FROM generate_series(1, 10)").await, 10, "the memory was given back");
}
