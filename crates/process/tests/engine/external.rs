//! Tables that others write to: one Delta table under several hands, and every failure of its store.

use std::collections::BTreeMap;

use millstream_catalog::fault::{Code, Fault};
use millstream_store::fault_store::Failure;

use crate::harness::{Node, steps_apart};
use crate::tables::content;

async fn ok(node: &Node, sql: &str) {
    node.ask(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_others_is_read_and_changed_under_a_name() {
    let node = Node::start().await;
    let place = node.beside("shared/t");
    life(node, &place).await;
}

/// A table at a place, from its first row to another name.
pub(crate) async fn life(node: Node, place: &str) {
    let columns = "id BIGINT NOT NULL, v BIGINT, day DATE";
    ok(&node, &format!("CREATE TABLE t ({columns}) PARTITIONED BY (day) LOCATION '{place}'")).await;
    ok(&node, "INSERT INTO t SELECT i, i, DATE '2026-01-01' + CAST(i % 3 AS int) FROM generate_series(1, 30) AS g(i)")
        .await;
    let mut rows: BTreeMap<i64, i64> = (1..=30).map(|i| (i, i)).collect();
    assert_eq!(content(&node, "t").await, rows);
    node.create_s(1).await;
    node.write(0..10).await;
    assert_eq!(node.number("SELECT count(*) FROM t JOIN s ON s.id = t.id WHERE t.day = DATE '2026-01-02'").await, 3);
    ok(&node, "UPDATE t SET v = 0 WHERE id > 20").await;
    ok(&node, "DELETE FROM t USING s WHERE s.id = t.id").await;
    rows = (10..=30).map(|i| (i, if i > 20 { 0 } else { i })).collect();
    assert_eq!(content(&node, "t").await, rows);
    ok(&node, "UPDATE t SET day = NULL, v = v + 1 WHERE id = 10").await;
    rows.insert(10, 11);
    assert_eq!(node.number("SELECT id FROM t WHERE day IS NULL").await, 10);
    // Too large for one batch, through the same one commit.
    ok(&node, "INSERT INTO t (id, v) SELECT i, 7 FROM generate_series(1000, 60999) AS g(i)").await;
    assert_eq!(node.number("SELECT count(*) FROM t").await, 60_021);
    ok(&node, "DELETE FROM t WHERE id >= 1000 AND id % 2 = 0").await;
    assert_eq!(node.number("SELECT count(*) FROM t").await, 30_021);
    ok(&node, "DELETE FROM t WHERE id >= 1000").await;
    let history = node.ask("DESCRIBE HISTORY t").await.unwrap();
    assert!(history.contains("DELETE") && history.contains("MERGE") && history.contains("CREATE TABLE"), "{history}");
    assert_eq!(node.number("SELECT count(*) FROM t VERSION AS OF 1").await, 30);
    let node = node.restart().await;
    assert_eq!(content(&node, "t").await, rows);
    ok(&node, "DROP TABLE t").await;
    ok(&node, &format!("CREATE TABLE u LOCATION '{place}'")).await;
    assert_eq!(content(&node, "u").await, rows);
    ok(&node, "CREATE TABLE kept AS SELECT * FROM u").await;
    assert_eq!(content(&node, "kept").await, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_on_one_table_lose_nothing() {
    let one = Node::start().await;
    let other = Node::with_files_under(one.dir.path()).await;
    let place = one.beside("shared/t");
    lose_nothing(one, other, &place, 15).await;
}

/// Two engines, each with inserts and changes of its own rows.
pub(crate) async fn lose_nothing(one: Node, other: Node, place: &str, rounds: i64) {
    ok(&one, &format!("CREATE TABLE t (id BIGINT, v BIGINT) LOCATION '{place}'")).await;
    ok(&other, &format!("CREATE TABLE theirs LOCATION '{place}'")).await;
    let work = |node: &Node, table: &'static str, first: i64| {
        let engine = node.engine.clone();
        async move {
            let mut added = 0;
            for round in 0..rounds {
                let id = first + round;
                // A clash says so and changes nothing; it is tried again.
                for sql in [
                    format!("INSERT INTO {table} VALUES ({id}, 0)"),
                    format!("UPDATE {table} SET v = v + 1 WHERE id >= {first} AND id < {first} + 1000"),
                ] {
                    loop {
                        match engine.session().execute(&sql).await {
                            Ok(_) => break,
                            Err(e) if e.code() == Code::SerializationFailure => {}
                            Err(e) => panic!("{sql}: {e}"),
                        }
                    }
                }
                added += round + 1;
            }
            added
        }
    };
    let (a, b) = tokio::join!(work(&one, "t", 1000), work(&other, "theirs", 5000));
    let sum = "SELECT sum(v) FROM t";
    assert_eq!(one.number(sum).await, a + b);
    assert_eq!(other.number("SELECT count(DISTINCT id) FROM theirs").await, 2 * rounds);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_others_add_are_seen() {
    let one = Node::start().await;
    ok(&one, "CREATE TABLE t (id BIGINT, v BIGINT) LOCATION 'shared/t'").await;
    ok(&one, "INSERT INTO t VALUES (1, 1)").await;
    let log = one.dir.path().join("shared/t/_delta_log");
    let first = std::fs::read_to_string(log.join("00000000000000000000.json")).unwrap();
    let metadata = first.lines().find(|l| l.contains("metaData")).unwrap();
    let added = metadata.replacen(
        "[{",
        "[{\\\"name\\\":\\\"more\\\",\\\"type\\\":\\\"string\\\",\\\"nullable\\\":true,\\\"metadata\\\":{}},{",
        1,
    );
    assert_ne!(added, metadata);
    std::fs::write(log.join("00000000000000000002.json"), added).unwrap();
    // The first look finds them, the next statement has them.
    assert_eq!(one.number("SELECT count(*) FROM t").await, 1);
    ok(&one, "INSERT INTO t (id, v, more) VALUES (2, 2, 'x')").await;
    assert_eq!(one.number("SELECT count(more) FROM t").await, 1);
    let one = one.restart().await;
    assert_eq!(one.number("SELECT id FROM t WHERE more = 'x'").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_others_put_in_another_order_get_their_own_values() {
    let one = Node::start().await;
    ok(&one, "CREATE TABLE t (a BIGINT, b BIGINT) LOCATION 'shared/t'").await;
    ok(&one, "INSERT INTO t VALUES (1, 2)").await;
    let log = one.dir.path().join("shared/t/_delta_log");
    let first = std::fs::read_to_string(log.join("00000000000000000000.json")).unwrap();
    let metadata = first.lines().find(|l| l.contains("metaData")).unwrap();
    let turned = metadata.replace("\\\"a\\\"", "\\\"c\\\"").replace("\\\"b\\\"", "\\\"a\\\"");
    let turned = turned.replace("\\\"c\\\"", "\\\"b\\\"");
    assert_ne!(turned, metadata);
    std::fs::write(log.join("00000000000000000002.json"), turned).unwrap();
    // The statement was planned for the columns as they were: it changes nothing, and runs when it is tried again.
    let error = one.ask("INSERT INTO t VALUES (3, 4)").await.unwrap_err();
    assert_eq!(error.code(), Code::SerializationFailure, "{error}");
    ok(&one, "INSERT INTO t VALUES (4, 3)").await;
    assert_eq!(one.number("SELECT sum(a * 10 + b) FROM t").await, 12 + 34);
}

/// What a statement does to rows: id and value.
type Effect = fn(&mut BTreeMap<i64, i64>);

/// For k = 1, 2, …: fail the k-th operation of the object store through a statement.
async fn every_step(failure: Failure) {
    let (mut node, faults) = Node::on_faulty_store().await;
    let place = node.beside("shared/t");
    ok(&node, &format!("CREATE TABLE t (id BIGINT, v BIGINT) LOCATION '{place}'")).await;
    ok(&node, "INSERT INTO t SELECT i, i FROM generate_series(1, 20) AS g(i)").await;
    let mut rows: BTreeMap<i64, i64> = (1..=20).map(|i| (i, i)).collect();
    let statements: [(&str, Effect); 3] = [
        ("UPDATE t SET v = v + 1 WHERE id % 3 = 0", |rows| {
            rows.iter_mut().filter(|(id, _)| *id % 3 == 0).for_each(|(_, v)| *v += 1)
        }),
        (
            "MERGE INTO t USING (VALUES (1), (100)) AS s (id) ON t.id = s.id WHEN MATCHED THEN DELETE \
             WHEN NOT MATCHED THEN INSERT VALUES (s.id, 0)",
            |rows| {
                for id in [1, 100] {
                    if rows.remove(&id).is_none() {
                        rows.insert(id, 0);
                    }
                }
            },
        ),
        ("DELETE FROM t WHERE id = (SELECT min(id) FROM t WHERE id > 1)", |rows| {
            let least = *rows.keys().find(|id| **id > 1).unwrap();
            rows.remove(&least);
        }),
    ];
    for (sql, apply) in statements {
        let mut k = 1;
        loop {
            faults.fail_at(k, failure);
            let done = node.ask(sql).await;
            let fired = faults.fired();
            faults.set_outage(false);
            if done.is_ok() {
                apply(&mut rows);
            }
            let context = format!("{failure:?} at {k} of {sql}: {done:?}");
            assert_eq!(content(&node, "t").await, rows, "{context}");
            if k % 5 == 0 {
                node = node.restart().await;
                assert_eq!(content(&node, "t").await, rows, "restarted after {context}");
            }
            if rows.len() < 5 {
                ok(&node, "INSERT INTO t SELECT i, i FROM generate_series(200, 220) AS g(i)").await;
                rows.extend((200..=220).map(|i| (i, i)));
            }
            if !fired {
                done.unwrap();
                break;
            }
            k += steps_apart();
        }
        assert!(k > 3, "only {k} operations were tried");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_store_fails_is_all_there_or_not() {
    every_step(Failure::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_store_reports_a_failure_is_all_there_or_not() {
    every_step(Failure::After).await;
}
