//! What a session has for itself: temporary tables and a search path.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use millstream_catalog::fault::{Code, Fault};
use millstream_process::{Error, Outcome, Session};

use crate::harness::Node;

/// Runs a statement in a session and gives its rows as a table of text, or its tag.
async fn ask(session: &Session, sql: &str) -> Result<String, Error> {
    match session.execute(sql).await? {
        Outcome::Rows { rows, .. } => {
            let batches: Vec<RecordBatch> = rows.try_collect().await?;
            Ok(pretty_format_batches(&batches).unwrap().to_string())
        }
        Outcome::Done { tag, .. } => Ok(tag),
        copy => panic!("{sql} wants a client: {copy:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_tables_are_seen_by_their_session_alone() {
    let node = Node::start().await;
    let (one, two) = (node.engine.session(), node.engine.session());
    for (session, v) in [(&one, 1), (&two, 2)] {
        ask(session, "CREATE TEMP TABLE t (v int PRIMARY KEY)").await.unwrap();
        ask(session, &format!("INSERT INTO t VALUES ({v})")).await.unwrap();
    }
    for (session, v) in [(&one, "1"), (&two, "2")] {
        let found = ask(session, "SELECT v FROM t").await.unwrap();
        assert!(found.contains(&format!("| {v} |")), "{found}");
    }
    assert_eq!(node.ask("SELECT * FROM t").await.unwrap_err().code(), Code::UndefinedObject);
    // By its full name a session has its own, and no other's.
    let (mut own, mut denied) = (0, 0);
    for n in 1..10 {
        match ask(&one, &format!("SELECT v + 0 AS other FROM pg_temp_{n}.t")).await {
            Ok(found) => {
                assert!(found.contains("| 1 "), "{found}");
                own += 1;
            }
            Err(error) => denied += i32::from(error.code() == Code::Denied),
        }
    }
    assert_eq!((own, denied), (1, 8));
    assert_eq!(ask(&one, "DISCARD ALL").await.unwrap(), "DISCARD ALL");
    assert_eq!(ask(&one, "SELECT * FROM t").await.unwrap_err().code(), Code::UndefinedObject);
    assert!(ask(&two, "SELECT v FROM t").await.unwrap().contains("| 2 |"));
    let left = node.engine.health();
    assert!(left.problems.is_empty(), "{left:?}");
    assert_eq!(node.files_under("lake/pg_temp_1", "").await + node.files_under("lake/pg_temp_2", "").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_tables_are_counted_to_the_memory_of_queries_and_give_it_back() {
    const FILL: &str = "INSERT INTO t SELECT i, md5(CAST(i AS text)) || md5(CAST(i + 1 AS text)) || \
                        md5(CAST(i + 2 AS text)) FROM generate_series(1, 250000) AS g(i)";
    let node = Node::with_query_memory(64 << 20).await;
    let one = node.engine.session();
    ask(&one, "CREATE TEMP TABLE t (id bigint, pad text)").await.unwrap();
    let mut filled = 0;
    let refused = loop {
        match ask(&one, FILL).await {
            Ok(_) => filled += 1,
            Err(error) => break error,
        }
        assert!(filled < 50, "nothing limits what temporary tables hold");
    };
    assert_eq!(refused.code(), Code::OutOfMemory, "{refused}");
    assert!(refused.to_string().contains("temporary tables are in memory"), "{refused}");
    let count = format!("| {} |", filled * 250_000);
    let found = ask(&one, "SELECT count(*) AS n FROM t").await.unwrap();
    assert!(found.contains(&count) && filled > 0, "{found}");
    // What ends with its session is there for the next.
    drop(one);
    let two = node.engine.session();
    ask(&two, "CREATE TEMP TABLE t (id bigint, pad text)").await.unwrap();
    let again = async {
        while ask(&two, "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 250000) AS g(i)").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("the memory comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_keeps_its_meaning_whatever_the_path_is() {
    let node = Node::start().await;
    let session = node.engine.session();
    for sql in [
        "CREATE SCHEMA a",
        "CREATE SCHEMA b",
        "CREATE TABLE a.t (v int)",
        "CREATE TABLE b.t (v int)",
        "INSERT INTO a.t VALUES (1)",
        "INSERT INTO b.t VALUES (2)",
        "SET search_path = a, b",
        "CREATE MATERIALIZED VIEW m AS SELECT sum(v) AS v FROM t",
        "CREATE VIEW w AS SELECT m.v + t.v AS v FROM m CROSS JOIN t",
        "SET search_path = b, a",
        "INSERT INTO t VALUES (40)",
    ] {
        ask(&session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    ask(&session, "FLUSH").await.unwrap();
    assert!(ask(&session, "SELECT v FROM w").await.unwrap().contains("| 2 |"));
    assert!(ask(&session, "SELECT sum(v) AS v FROM t").await.unwrap().contains("| 42 |"));
    let node = node.restart().await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT v FROM a.w").await, 2);
    let error = ask(&node.engine.session(), "SELECT v FROM w").await.unwrap_err();
    assert_eq!(error.code(), Code::UndefinedObject);
}
