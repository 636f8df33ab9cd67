//! Clones of tables: their own from the first row, whatever becomes of the source, whatever fails while they are made.

use std::collections::BTreeMap;

use millstream_catalog::ObjectName;
use millstream_catalog::fault::{Code, Fault};
use millstream_store::fault_store::Failure;

use crate::harness::{Node, steps_apart};
use crate::tables::content;

const ORDERS: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT DEFAULT 5 CHECK (v > -100), \
                      day DATE GENERATED ALWAYS AS (DATE '2020-01-01' + CAST(id AS int)) STORED) ORDER BY (v)";

/// Rows in files, rows in the log, rows that went.
async fn source(node: &Node) -> BTreeMap<i64, i64> {
    node.ask(ORDERS).await.unwrap();
    node.ask("INSERT INTO t SELECT i, i FROM generate_series(1, 20) AS g(i)").await.unwrap();
    node.ask("FLUSH t").await.unwrap();
    node.ask("DELETE FROM t WHERE id % 5 = 0").await.unwrap();
    node.ask("INSERT INTO t VALUES (100, 1)").await.unwrap();
    (1..=20).filter(|id| id % 5 != 0).map(|id| (id, id)).chain([(100, 1)]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_a_table_of_its_own() {
    let node = Node::start().await;
    let rows = source(&node).await;
    assert_eq!(node.ask("CREATE TABLE dev SHALLOW CLONE t").await.unwrap(), "CREATE TABLE");
    assert_eq!(content(&node, "dev").await, rows, "what was in the log alone is there too");
    // Constraints, defaults and computed columns are those of the source.
    assert_eq!(node.ask("INSERT INTO dev VALUES (1, 1)").await.unwrap_err().code(), Code::UniqueViolation);
    assert_eq!(node.ask("INSERT INTO dev VALUES (2000, -200)").await.unwrap_err().code(), Code::CheckViolation);
    node.ask("INSERT INTO dev (id) VALUES (31)").await.unwrap();
    assert_eq!(node.number("SELECT v FROM dev WHERE day = DATE '2020-02-01'").await, 5);
    let view = "CREATE MATERIALIZED VIEW per AS SELECT count(*) AS n, sum(v) AS sum FROM dev";
    node.ask(view).await.unwrap();
    node.ask("UPDATE dev SET v = 50 WHERE id <= 2").await.unwrap();
    node.ask("DELETE FROM dev WHERE id = 3").await.unwrap();
    assert_eq!(content(&node, "t").await, rows, "the source does not see it");
    // Nothing that happens to the source is seen.
    node.ask("UPDATE t SET v = 0").await.unwrap();
    node.ask("FLUSH t").await.unwrap();
    node.ask("VACUUM t RETAIN 0 HOURS").await.unwrap();
    node.ask("DROP TABLE t").await.unwrap();
    let mut own = rows;
    own.extend([(31, 5), (1, 50), (2, 50)]);
    own.remove(&3);
    assert_eq!(content(&node, "dev").await, own);
    let node = node.restart().await;
    assert_eq!(content(&node, "dev").await, own);
    node.ask("FLUSH dev").await.unwrap();
    node.ask("INSERT INTO dev VALUES (3, 3)").await.unwrap();
    own.insert(3, 3);
    assert_eq!(content(&node, "dev").await, own);
    let sums = (own.len() as i64, own.values().sum::<i64>());
    node.ask("FLUSH").await.unwrap();
    assert_eq!((node.number("SELECT n FROM per").await, node.number("SELECT sum FROM per").await), sums);
    let numbers = "SELECT count(*) FROM (SELECT _offset FROM dev GROUP BY _offset HAVING count(*) > 1) AS twice";
    assert_eq!(node.number(numbers).await, 0, "no row's number is given twice");
    node.ask("DROP TABLE dev CASCADE").await.unwrap();
    assert_eq!(node.files_under("lake", ".parquet").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_begins_where_it_is_told_to() {
    let node = Node::start().await;
    source(&node).await;
    node.ask("CREATE TABLE first CLONE t VERSION AS OF 1").await.unwrap();
    assert_eq!(content(&node, "first").await, (1..=20).map(|id| (id, id)).collect());
    node.ask("INSERT INTO first VALUES (5, 1)").await.unwrap_err();
    let missing = node.ask("CREATE TABLE other CLONE t VERSION AS OF 99").await.unwrap_err().to_string();
    assert!(missing.contains("version 99 of table t"), "{missing}");
    assert_eq!(node.ask("SELECT * FROM other").await.unwrap_err().code(), Code::UndefinedObject);
    node.ask("CREATE STREAM s (id BIGINT)").await.unwrap();
    let stream = node.ask("CREATE TABLE other CLONE s").await.unwrap_err();
    assert_eq!(stream.code(), Code::WrongObjectType);
    assert!(stream.hint().is_some_and(|hint| hint.contains("AS SELECT")), "{stream}");
    assert_eq!(node.ask("CREATE TABLE first CLONE t").await.unwrap_err().code(), Code::DuplicateObject);
    assert_eq!(node.ask("CREATE TABLE IF NOT EXISTS first CLONE t").await.unwrap(), "CREATE TABLE");
    assert_eq!(node.ask("CREATE TABLE other CLONE nothing").await.unwrap_err().code(), Code::UndefinedObject);
}

/// A time between two merges: rows of files, of the log, of files that wait to be merged, and some that went.
#[tokio::test(flavor = "multi_thread")]
async fn a_clone_of_a_time_is_what_the_table_was_then() {
    let node = Node::start().await;
    // Versions of the lake have the times of the machine.
    let now_us = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    node.clock.advance_ms((now_us - 1_700_000_000_000_000) / 1000);
    node.ask("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT, pad TEXT)").await.unwrap();
    node.ask("INSERT INTO t SELECT i, i FROM generate_series(1, 20) AS g(i)").await.unwrap();
    node.ask("FLUSH t").await.unwrap();
    node.clock.advance_ms(60_000);
    node.ask("DELETE FROM t WHERE id % 2 = 0").await.unwrap();
    node.ask("INSERT INTO t SELECT i, 7, repeat('x', 2000) FROM generate_series(1000, 9999) AS g(i)").await.unwrap();
    node.ask("DELETE FROM t WHERE id BETWEEN 2000 AND 3999").await.unwrap();
    node.ask("INSERT INTO t VALUES (2, 70)").await.unwrap();
    let then = content(&node, "t").await;
    node.clock.advance_ms(60_000);
    node.ask("DELETE FROM t").await.unwrap();
    let time = chrono::DateTime::from_timestamp_micros(now_us + 90_000_000).unwrap().to_rfc3339();
    node.ask(&format!("CREATE TABLE dev CLONE t FOR SYSTEM_TIME AS OF TIMESTAMPTZ '{time}'")).await.unwrap();
    assert_eq!(content(&node, "dev").await, then);
    node.ask("INSERT INTO dev VALUES (2, 1)").await.unwrap_err();
    node.ask("DROP TABLE t").await.unwrap();
    let node = node.restart().await;
    assert_eq!(content(&node, "dev").await, then);
    node.ask("FLUSH dev").await.unwrap();
    assert_eq!(content(&node, "dev").await, then);
}

/// For k = 1, 2, …: fail the k-th operation of the object store while a clone is made.
async fn every_step(failure: Failure) {
    let (mut node, faults) = Node::on_faulty_store().await;
    let rows = source(&node).await;
    node.engine.tier(&ObjectName::public("t").unwrap()).await.unwrap();
    let mut k = 1;
    loop {
        faults.fail_at(k, failure);
        let made = node.ask("CREATE TABLE dev CLONE t").await;
        let fired = faults.fired();
        faults.set_outage(false);
        let context = format!("{failure:?} at {k}: {made:?}");
        if k % 4 == 0 {
            node = node.restart().await;
        }
        assert_eq!(content(&node, "t").await, rows, "{context}");
        match &made {
            Ok(_) => assert_eq!(content(&node, "dev").await, rows, "{context}"),
            Err(_) => {
                let error = node.ask("SELECT * FROM dev").await.unwrap_err();
                assert_eq!(error.code(), Code::UndefinedObject, "{context}");
            }
        }
        if !fired {
            made.unwrap();
            break;
        }
        if made.is_ok() {
            node.ask("DROP TABLE dev").await.unwrap();
        }
        k += steps_apart();
    }
    assert!(k > 5, "only {k} operations were tried");
    node.ask("DROP TABLE t").await.unwrap();
    assert_eq!(content(&node, "dev").await, rows);
    node.ask("DROP TABLE dev").await.unwrap();
    assert_eq!(node.files_under("lake", ".parquet").await, 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_whose_store_fails_is_there_or_not() {
    every_step(Failure::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_whose_store_reports_a_failure_is_there_or_not() {
    every_step(Failure::After).await;
}
