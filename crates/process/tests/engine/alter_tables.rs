//! ALTER TABLE over rows that are there: under every failure of the object store, across restarts, under views.

use std::sync::Arc;
use std::time::Duration;

use millstream_catalog::ObjectName;
use millstream_catalog::fault::{Code, Fault};
use millstream_process::{FaultPoint, Outcome};
use millstream_store::fault_store::Failure;

use crate::harness::{Node, steps_apart};

/// A table with rows in the lake, in the log, in both and gone again.
async fn fill(node: &Node, table: &str) {
    for sql in [
        "CREATE TABLE {} (id int PRIMARY KEY, v int, day date, pad text DEFAULT 'x') PARTITIONED BY (day)",
        "INSERT INTO {} SELECT i, i * 10, CASE WHEN i % 2 = 0 THEN DATE '2020-01-01' END FROM generate_series(1, 8) AS g(i)",
        "FLUSH TABLE {}",
        "INSERT INTO {} VALUES (9, 90, NULL, 'late'), (10, NULL, DATE '2021-02-03', NULL)",
        "UPDATE {} SET v = v + 1 WHERE id IN (2, 9)",
        "DELETE FROM {} WHERE id IN (1, 8)",
    ] {
        node.ask(&sql.replace("{}", table)).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
}

/// All rows with their columns, or why there are none.
async fn content(node: &Node, table: &str) -> String {
    node.ask(&format!("SELECT *, _offset FROM {table} ORDER BY id")).await.unwrap_or_else(|e| e.to_string())
}

/// All rows, whatever their numbers.
async fn rows(node: &Node, table: &str) -> String {
    node.ask(&format!("SELECT * FROM {table} ORDER BY id")).await.unwrap_or_else(|e| e.to_string())
}

/// Asks until the answer is this: a view that begins anew takes a moment.
async fn becomes(node: &Node, sql: &str, expected: i64) {
    let asked = async {
        loop {
            if let Ok(answer) = node.ask(sql).await
                && answer.contains(&format!(" {expected} "))
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap_or_else(|_| panic!("{sql} is not {expected}"));
}

const CHANGES: [&str; 8] = [
    "RENAME COLUMN v TO w",
    "RENAME COLUMN day TO \"the day\"",
    "DROP COLUMN pad",
    "ALTER COLUMN v TYPE decimal(14,2), ALTER id TYPE bigint",
    "ADD COLUMN d int NOT NULL DEFAULT 7 CHECK (d > 0)",
    "DROP COLUMN v, ADD COLUMN v text DEFAULT 'new', DROP CONSTRAINT {}_pkey",
    "ADD CONSTRAINT positive CHECK (v >= 0), ALTER id SET DEFAULT 1",
    "RENAME TO {}_renamed",
];

/// For k = 1, 2, …: fail the k-th operation of the object store through each change.
async fn every_step(failure: Failure) {
    let (mut node, faults) = Node::on_faulty_store().await;
    for (n, change) in CHANGES.iter().enumerate() {
        let mut k = 1;
        loop {
            let table = format!("t{n}_{k}");
            let change = change.replace("{}", &table);
            let renamed = format!("{table}_renamed");
            fill(&node, &table).await;
            let before = content(&node, &table).await;
            faults.fail_at(k, failure);
            let done = node.ask(&format!("ALTER TABLE {table} {change}")).await;
            let fired = faults.fired();
            faults.set_outage(false);
            let context = format!("{failure:?} at {k} of {change}: {done:?}");
            let name = if done.is_ok() && change.starts_with("RENAME TO") { &renamed } else { &table };
            let after = content(&node, name).await;
            match &done {
                // What was refused changed nothing.
                Err(_) => assert_eq!(after, before, "{context}"),
                Ok(_) => assert!(after != before || n >= 6, "{context}\n{after}"),
            }
            let shown = node.ask(&format!("SHOW CREATE TABLE {name}")).await.unwrap();
            if k % 3 == 0 {
                node = node.restart().await;
                assert_eq!(content(&node, name).await, after, "restarted after {context}");
            }
            assert_eq!(node.ask(&format!("SHOW CREATE TABLE {name}")).await.unwrap(), shown, "{context}");
            node.ask(&format!("INSERT INTO {name} (id) VALUES (100)"))
                .await
                .unwrap_or_else(|e| panic!("{context}: {e}"));
            node.ask(&format!("UPDATE {name} SET id = id + 1 WHERE id >= 9")).await.unwrap();
            let last = content(&node, name).await;
            node.ask(&format!("FLUSH TABLE {name}")).await.unwrap();
            assert_eq!(content(&node, name).await, last, "merged after {context}");
            node.engine.maintain(&ObjectName::public(name.as_str()).unwrap()).await.unwrap();
            assert_eq!(content(&node, name).await, last, "cared for after {context}");
            node.ask(&format!("DROP TABLE {name}")).await.unwrap();
            if !fired {
                done.unwrap();
                break;
            }
            k += steps_apart();
        }
        assert!(k > 1 || n >= 6, "only {k} operations were tried of {change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alter_whose_store_fails_leaves_the_table_as_before_or_after() {
    every_step(Failure::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alter_whose_store_reports_a_failure_leaves_the_table_as_before_or_after() {
    every_step(Failure::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_is_carried_out_by_the_next_reader_or_the_next_start() {
    let mut node = Node::start().await;
    for (n, change) in CHANGES.iter().enumerate().take(6) {
        for restarted in [false, true] {
            let (cut, whole) = (format!("cut{n}{restarted}"), format!("whole{n}{restarted}"));
            for table in [&cut, &whole] {
                fill(&node, table).await;
            }
            node.ask(&format!("ALTER TABLE {whole} {}", change.replace("{}", &whole))).await.unwrap();
            node.engine.faults().fail_at(Some(FaultPoint::AlterDecided));
            node.ask(&format!("ALTER TABLE {cut} {}", change.replace("{}", &cut))).await.unwrap();
            node.engine.faults().fail_at(None);
            if restarted {
                node = node.restart().await;
            }
            assert_eq!(rows(&node, &cut).await, rows(&node, &whole).await, "{change}");
            // Both go on alike.
            for table in [&cut, &whole] {
                node.ask(&format!("INSERT INTO {table} (id) VALUES (50)")).await.unwrap();
                node.ask(&format!("FLUSH TABLE {table}")).await.unwrap();
            }
            assert_eq!(rows(&node, &cut).await, rows(&node, &whole).await, "{change}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_forbid_a_constraint_are_named() {
    let node = Node::start().await;
    fill(&node, "t").await;
    let refused = async |action: &str| {
        let error = node.ask(&format!("ALTER TABLE t {action}")).await.unwrap_err();
        (error.code(), error.to_string())
    };
    let before = content(&node, "t").await;
    for (action, code, said) in [
        (
            "ALTER v SET NOT NULL",
            Code::NotNullViolation,
            "column \"v\" is null, and it must not be; it is (10, NULL, 2021-02-03, NULL)",
        ),
        (
            "ADD CONSTRAINT few CHECK (v < 90)",
            Code::CheckViolation,
            "check constraint \"few\" does not hold: v < 90; it is (9, 91, NULL, late)",
        ),
        ("ADD COLUMN e text NOT NULL", Code::NotNullViolation, "column \"e\" is null"),
        ("ADD COLUMN e int DEFAULT 3 CHECK (e > v)", Code::CheckViolation, "\"t_e_check\" does not hold: e > v"),
        ("DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (v)", Code::NotNullViolation, "column \"v\" is null"),
    ] {
        let (found, message) = refused(action).await;
        assert_eq!(found, code, "{action}: {message}");
        assert!(message.contains(said) && message.contains("table t has a row that forbids it"), "{action}: {message}");
        assert_eq!(content(&node, "t").await, before, "{action}");
    }
    node.ask("UPDATE t SET pad = 'x'").await.unwrap();
    let (code, message) = refused("DROP CONSTRAINT t_pkey, ADD CONSTRAINT pads PRIMARY KEY (pad)").await;
    assert_eq!(
        (code, message.as_str()),
        (Code::UniqueViolation, "primary key \"pads\" of table t cannot be added: (pad) = (x) is there twice")
    );
    node.ask("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, pad)").await.unwrap();
    node.ask("INSERT INTO t VALUES (9, 1, NULL, 'y')").await.unwrap();
    let twice = node.ask("INSERT INTO t VALUES (9, 1, NULL, 'y')").await.unwrap_err();
    assert_eq!(twice.code(), Code::UniqueViolation);
    node.ask("ALTER TABLE t DROP CONSTRAINT t_pkey").await.unwrap();
    node.ask("INSERT INTO t VALUES (9, 1, NULL, 'y')").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_keeps_the_columns_that_it_reads() {
    let node = Node::start().await;
    fill(&node, "t").await;
    node.ask("CREATE MATERIALIZED VIEW sums AS SELECT day, sum(v) AS total FROM t GROUP BY day").await.unwrap();
    node.ask("CREATE VIEW ids AS SELECT id FROM (SELECT * FROM t) AS x").await.unwrap();
    node.ask("CREATE VIEW above AS SELECT total FROM sums").await.unwrap();
    let refused = async |action: &str| {
        let error = node.ask(&format!("ALTER TABLE t {action}")).await.unwrap_err();
        assert_eq!(error.code(), Code::DependentObjects, "{action}: {error}");
        error.to_string()
    };
    assert_eq!(
        refused("DROP COLUMN v").await,
        "column \"v\" of table t cannot be dropped: materialized view \"sums\" reads it"
    );
    assert_eq!(
        refused("ALTER COLUMN id TYPE bigint").await,
        "column \"id\" of table t cannot be given another type: view \"ids\" reads it"
    );
    assert!(refused("RENAME COLUMN day TO d").await.contains("materialized view \"sums\" reads it"));
    assert!(refused("RENAME TO u").await.contains("cannot be renamed while"));
    // What none of them reads may change; they go on over the others.
    node.ask("ALTER TABLE t DROP COLUMN pad, ADD COLUMN more int DEFAULT 3").await.unwrap();
    node.ask("INSERT INTO t (id, v) VALUES (20, 1000)").await.unwrap();
    const SUM: &str = "SELECT sum(total) FROM above";
    let expected = node.number("SELECT sum(v) FROM t").await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number(SUM).await, expected);
    let node = node.restart().await;
    node.ask("UPDATE t SET v = v + 1 WHERE id = 20").await.unwrap();
    becomes(&node, SUM, expected + 1).await;
    node.ask("ALTER TABLE t DROP COLUMN v CASCADE").await.unwrap();
    assert!(node.ask("SELECT * FROM sums").await.is_err() && node.ask("SELECT * FROM above").await.is_err());
    assert_eq!(node.number("SELECT count(*) FROM ids").await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_goes_on_while_other_columns_come_and_go() {
    let mut node = Node::start().await;
    fill(&node, "t").await;
    node.ask("CREATE MATERIALIZED VIEW sums AS SELECT id % 2 AS odd, sum(v) AS total FROM t GROUP BY odd")
        .await
        .unwrap();
    let steps = ["DROP COLUMN pad", "ADD COLUMN more int DEFAULT 3", "RENAME COLUMN more TO less", "DROP COLUMN less"];
    for (n, step) in steps.into_iter().enumerate() {
        node.ask("UPDATE t SET v = v + 1 WHERE id % 3 = 0").await.unwrap();
        node.ask(&format!("ALTER TABLE t {step}")).await.unwrap();
        node.ask("DELETE FROM t WHERE id = (SELECT min(id) FROM t)").await.unwrap();
        node.ask(&format!("INSERT INTO t (id, v) VALUES ({}, 7)", 100 + n)).await.unwrap();
        node.ask("FLUSH").await.unwrap();
        let differ = "SELECT count(*) FROM (SELECT id % 2 AS odd, sum(v) AS total FROM t GROUP BY odd) AS q \
                      FULL JOIN sums ON sums.odd = q.odd AND sums.total = q.total \
                      WHERE sums.odd IS NULL OR q.odd IS NULL";
        assert_eq!(node.number(differ).await, 0, "{step}");
        assert_eq!(node.number("SELECT count(*) FROM system.views WHERE status <> 'running'").await, 0, "{step}");
        if n % 2 == 1 {
            node = node.restart().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_folders_are_free_again_when_tables_change_places() {
    let mut node = Node::start().await;
    for table in ["a", "b"] {
        node.ask(&format!("CREATE TABLE {table} (id int, name text)")).await.unwrap();
        node.ask(&format!("INSERT INTO {table} VALUES (1, '{table}')")).await.unwrap();
        node.ask(&format!("FLUSH TABLE {table}")).await.unwrap();
    }
    for sql in ["ALTER TABLE a RENAME TO old", "ALTER TABLE b RENAME TO a", "CREATE TABLE b (id int, name text)"] {
        node.ask(sql).await.unwrap();
    }
    node.ask("INSERT INTO b VALUES (1, 'new')").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    for _ in 0..2 {
        for (table, name) in [("old", "a"), ("a", "b"), ("b", "new")] {
            let sql = format!("SELECT count(*) FROM {table} WHERE name = '{name}'");
            assert_eq!(node.number(&sql).await, 1, "{table}");
        }
        node = node.restart().await;
    }
    let error = node.ask("CREATE STREAM x (id int)").await;
    assert!(error.is_ok());
    node.ask("ALTER TABLE a RENAME TO c").await.unwrap();
    node.ask("DROP TABLE b").await.unwrap();
    let error = node.ask("CREATE STREAM b (id int)").await.unwrap_err();
    assert_eq!(error.to_string(), "stream b would lie in the folder of table c, which was called so");
    node.ask("DROP TABLE c, old").await.unwrap();
    let left = node.files_under("lake/public", "").await;
    assert_eq!(left, node.files_under("lake/public/x", "").await, "files of others are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_failed_to_be_made_leaves_another_of_its_name() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id int)").await.unwrap();
    node.ask("ALTER TABLE t RENAME TO old").await.unwrap();
    let failing = tokio::spawn({
        let engine = node.engine.clone();
        let sql = "CREATE TABLE t AS SELECT CAST(CASE WHEN i = 4000000 THEN 'x' ELSE '1' END AS int) AS id \
                   FROM generate_series(1, 4000000) AS g(i)";
        async move { engine.session().execute(sql).await.map(|_| ()) }
    });
    let running = "SELECT count(*) FROM system.jobs WHERE status = 'running' AND kind = 'create table'";
    while node.number(running).await == 0 && !failing.is_finished() {
        tokio::task::yield_now().await;
    }
    node.ask("CREATE TABLE t (id int)").await.unwrap();
    node.ask("INSERT INTO t VALUES (7)").await.unwrap();
    assert!(!failing.is_finished(), "the other statement is to end later");
    failing.await.unwrap().unwrap_err();
    assert_eq!(node.number("SELECT id FROM t").await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_come_with_columns_are_held_against_the_rules() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id int)").await.unwrap();
    let cold = "warm = '1 day', cold = 'file:///elsewhere'";
    for sql in [
        format!("CREATE TABLE u WITH ({cold}) AS SELECT 1 AS id"),
        format!("ALTER TABLE t SET ({cold}), ADD COLUMN v int"),
        format!("ALTER TABLE t SET ({cold})"),
    ] {
        let error = node.ask(&sql).await.unwrap_err();
        assert_eq!(error.code(), Code::Denied, "{sql}: {error}");
    }
    node.ask("ALTER TABLE t SET (durability = 'os'), ADD COLUMN v int").await.unwrap();
    node.ask("INSERT INTO t VALUES (1, 2)").await.unwrap();
    assert_eq!(node.number("SELECT v FROM t").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_before_a_column_changed_are_refused_and_those_behind_are_read() {
    let node = Node::start().await;
    fill(&node, "t").await;
    node.ask("ALTER TABLE t ADD COLUMN more int DEFAULT 1").await.unwrap();
    assert_eq!(node.number("SELECT count(more) FROM t VERSION AS OF 1").await, 0, "it was not there yet");
    node.ask("ALTER TABLE t RENAME v TO w").await.unwrap();
    let error = node.ask("SELECT * FROM t VERSION AS OF 1").await.unwrap_err();
    assert!(
        error.to_string().contains("version 1 of table t cannot be read: a column was dropped, renamed"),
        "{error}"
    );
    node.ask("INSERT INTO t (id, w) VALUES (30, 5)").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    let history = node.ask("DESCRIBE HISTORY t").await.unwrap();
    assert!(history.contains("CHANGE COLUMNS"), "{history}");
    let newest = node.number("SELECT lake_version FROM system.tables WHERE name = 't'").await;
    assert_eq!(node.number(&format!("SELECT count(*) FROM t VERSION AS OF {}", newest - 1)).await, 8);
    node.ask(&format!("RESTORE TABLE t TO VERSION AS OF {}", newest - 1)).await.unwrap();
    assert_eq!(node.number("SELECT count(*) FROM t").await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_readers_go_on_while_a_table_is_altered() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id bigint PRIMARY KEY, v int, w int)").await.unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..4i64)
        .map(|writer| {
            let (engine, stop) = (node.engine.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut written, mut n) = (0, 0);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    n += 1;
                    let sql = match n % 3 {
                        0 => format!("UPDATE t SET id = id WHERE id = {}", writer + n),
                        _ => format!("INSERT INTO t (id) VALUES ({})", writer * 1_000_000 + n),
                    };
                    match engine.session().execute(&sql).await {
                        Ok(Outcome::Done { tag, .. }) => written += i64::from(tag.starts_with("INSERT")),
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => assert_eq!(error.code(), Code::SerializationFailure, "{sql}: {error}"),
                    }
                }
                written
            })
        })
        .collect();
    for round in 0..12 {
        let sql = match round % 4 {
            0 => "ALTER TABLE t RENAME v TO x",
            1 => "ALTER TABLE t RENAME x TO v",
            2 => "ALTER TABLE t DROP COLUMN w",
            _ => "ALTER TABLE t ADD COLUMN w int DEFAULT 1",
        };
        node.ask(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let count = node.ask("SELECT count(*), count(DISTINCT id) FROM t").await.unwrap();
        assert!(count.contains("count"), "{count}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    assert_eq!(node.number("SELECT count(*) FROM t").await, written);
    let node = node.restart().await;
    assert_eq!(node.number("SELECT count(DISTINCT id) FROM t").await, written);
}
