//! Tables through SQL: every statement under every failure of the object store, versions, and going back.

use std::collections::BTreeMap;

use millstream_catalog::ObjectName;
use millstream_catalog::fault::{Code, Fault};
use millstream_store::fault_store::Failure;

use crate::harness::{Node, steps_apart};

/// The table's rows: id and value.
pub(crate) async fn content(node: &Node, table: &str) -> BTreeMap<i64, i64> {
    let answer = node.ask(&format!("SELECT id, v FROM {table} ORDER BY id")).await.unwrap();
    let mut rows = BTreeMap::new();
    for line in answer.lines() {
        let cells: Vec<i64> = line.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
        if let [id, v] = cells[..] {
            assert_eq!(rows.insert(id, v), None, "row {id} is there twice");
        }
    }
    rows
}

/// What a statement does to the rows.
type Effect = Box<dyn Fn(&mut BTreeMap<i64, i64>)>;

/// One statement of each kind, and what it does to the rows.
fn statement(kind: u64, n: i64) -> (String, Effect) {
    match kind % 6 {
        0 => (
            format!("INSERT INTO t SELECT i, i FROM generate_series({n}, {}) AS g(i)", n + 9),
            Box::new(move |rows| rows.extend((n..n + 10).map(|i| (i, i)))),
        ),
        1 => (
            "UPDATE t SET v = v + 1 WHERE id % 3 = 0".to_owned(),
            Box::new(|rows| rows.iter_mut().filter(|(id, _)| *id % 3 == 0).for_each(|(_, v)| *v += 1)),
        ),
        2 => (
            format!("DELETE FROM t WHERE id % 7 = {}", n % 7),
            Box::new(move |rows| rows.retain(|id, _| id % 7 != n % 7)),
        ),
        3 => (
            format!(
                "INSERT INTO t VALUES ({0}, -1), ({1}, -1) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
                n - 5,
                n
            ),
            Box::new(move |rows| rows.extend([(n - 5, -1), (n, -1)])),
        ),
        4 => (
            format!(
                "MERGE INTO t USING (SELECT * FROM generate_series({}, {n}) AS g(i)) AS s ON t.id = s.i \
                 WHEN MATCHED AND s.i % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = -2 \
                 WHEN NOT MATCHED THEN INSERT VALUES (s.i, -3)",
                n - 3
            ),
            Box::new(move |rows| {
                for i in n - 3..=n {
                    match rows.contains_key(&i) {
                        true if i % 2 == 0 => drop(rows.remove(&i)),
                        true => drop(rows.insert(i, -2)),
                        false => drop(rows.insert(i, -3)),
                    }
                }
            }),
        ),
        // Too much for the log: it goes through files.
        _ => (
            format!(
                "INSERT INTO t SELECT i, 7, repeat('x', 2000) FROM generate_series({}, {}) AS g(i)",
                1_000_000 + n * 10_000,
                1_000_000 + n * 10_000 + 8_999
            ),
            Box::new(move |rows| rows.extend((0..9000).map(|i| (1_000_000 + n * 10_000 + i, 7)))),
        ),
    }
}

/// For k = 1, 2, …: fail the k-th operation of the object store through a statement, its merge and its care.
async fn every_step(failure: Failure) {
    let (mut node, faults) = Node::on_faulty_store().await;
    node.ask("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT, pad TEXT)").await.unwrap();
    let name = ObjectName::public("t").unwrap();
    let mut rows = BTreeMap::new();
    let mut n = 10;
    for kind in 0..6 {
        let mut k = 1;
        loop {
            let (sql, apply) = statement(kind, n);
            n += 20;
            faults.fail_at(k, failure);
            let done = node.ask(&sql).await;
            if done.is_ok() {
                apply(&mut rows);
            }
            let merged = node.engine.tier(&name).await;
            let kept = node.engine.maintain(&name).await;
            let fired = faults.fired();
            faults.set_outage(false);
            let context = format!("{failure:?} at {k} of {sql}: {done:?}");
            assert_eq!(content(&node, "t").await, rows, "{context}");
            node.engine.tier(&name).await.unwrap();
            assert_eq!(content(&node, "t").await, rows, "merged after {context}");
            if k % 5 == 0 {
                node = node.restart().await;
                assert_eq!(content(&node, "t").await, rows, "restarted after {context}");
            }
            if kind == 5 {
                node.ask("DELETE FROM t WHERE id >= 1000000").await.unwrap();
                rows.retain(|id, _| *id < 1_000_000);
            }
            if !fired {
                assert!(done.is_ok() && merged.is_ok() && kept.is_ok(), "{context}: {merged:?} {kept:?}");
                break;
            }
            k += steps_apart();
        }
        assert!(k > 3, "only {k} operations were tried");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_store_fails_leaves_the_table_as_before_or_after() {
    every_step(Failure::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_store_reports_a_failure_leaves_the_table_as_before_or_after() {
    every_step(Failure::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_fails_tells_why_and_takes_the_other_tables() {
    let (node, faults) = Node::on_faulty_store().await;
    node.ask("CREATE TABLE a (id BIGINT)").await.unwrap();
    node.ask("CREATE TABLE b (id BIGINT)").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    node.ask("INSERT INTO a VALUES (1)").await.unwrap();
    node.ask("INSERT INTO b VALUES (1)").await.unwrap();
    faults.fail_at(1, Failure::Before);
    let error = node.ask("FLUSH").await.unwrap_err();
    assert_eq!(error.code(), Code::IoError);
    let message = error.to_string();
    assert!(message.starts_with("table ") && message.contains("injected failure"), "{message}");
    let there = "SELECT count(*) FROM system.tables WHERE lake_rows = 1";
    assert_eq!(node.number(there).await, 1);
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number(there).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_as_it_was_and_goes_back() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await.unwrap();
    node.ask("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    let first = node.number("SELECT max(version) FROM (SELECT 1 AS version)").await;
    assert_eq!(first, 1, "the table was made as version 0 and merged as version 1");
    node.ask("UPDATE t SET v = v + 1").await.unwrap();
    node.ask("DELETE FROM t WHERE id = 2").await.unwrap();
    node.ask("INSERT INTO t VALUES (4, 40)").await.unwrap();
    let now = BTreeMap::from([(1, 11), (3, 31), (4, 40)]);
    assert_eq!(content(&node, "t").await, now);
    let then = BTreeMap::from([(1, 10), (2, 20), (3, 30)]);
    assert_eq!(content(&node, "t VERSION AS OF 1").await, then);
    assert_eq!(content(&node, "t VERSION AS OF 0").await, BTreeMap::new());
    let history = node.ask("DESCRIBE HISTORY t").await.unwrap();
    assert!(history.contains("MERGE") && history.contains("CREATE TABLE"), "{history}");
    let joined = "SELECT count(*) FROM t JOIN t VERSION AS OF 1 AS old ON t.id = old.id WHERE t.v > old.v";
    assert_eq!(node.number(joined).await, 2);
    assert_eq!(node.ask("RESTORE TABLE t TO VERSION AS OF 1").await.unwrap(), "RESTORE TABLE");
    let history = node.ask("DESCRIBE HISTORY t").await.unwrap();
    assert!(history.contains("RESTORE") && !history.contains("TRUNCATE"), "{history}");
    assert_eq!(content(&node, "t").await, then);
    let node = node.restart().await;
    assert_eq!(content(&node, "t").await, then);
    node.ask("FLUSH").await.unwrap();
    assert_eq!(content(&node, "t").await, then);
    assert_eq!(content(&node, "t VERSION AS OF 2").await, now);
    let error = node.ask("SELECT * FROM t VERSION AS OF 99").await.unwrap_err().to_string();
    assert!(error.contains("99"), "{error}");
    node.ask("INSERT INTO t VALUES (2, 0)").await.unwrap_err();
    node.ask("INSERT INTO t VALUES (9, 0)").await.unwrap();
    node.ask("TRUNCATE t").await.unwrap();
    let history = node.ask("DESCRIBE HISTORY t").await.unwrap();
    assert!(history.contains("TRUNCATE"), "{history}");
    assert_eq!(content(&node, "t").await, BTreeMap::new());
}
