//! Rows age: old files go to the cold place under every failure of the store, expired rows go, one name for all.

use std::collections::BTreeMap;

use millstream_catalog::ObjectName;
use millstream_catalog::fault::{Code, Fault};
use millstream_store::fault_store::Failure;

use crate::harness::{Node, steps_apart};

const DAY_MS: i64 = 86_400_000;

/// Options by which files go to a folder beside the lake after a day.
fn moving(node: &Node) -> String {
    format!("warm = '1 day', cold = '{}'", node.beside("cold"))
}

async fn cold_files(node: &Node) -> usize {
    node.files_under("cold", ".parquet").await
}

/// The rows of `t`: id and value.
async fn content(node: &Node) -> BTreeMap<i64, i64> {
    let answer = node.ask("SELECT id, v FROM t ORDER BY id").await.unwrap();
    let mut rows = BTreeMap::new();
    for line in answer.lines() {
        let cells: Vec<i64> = line.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
        if let [id, v] = cells[..] {
            assert_eq!(rows.insert(id, v), None, "row {id} is there twice");
        }
    }
    rows
}

/// For k = 1, 2, …: fail the k-th operation of the store through a move to the cold place, a change of a row that lies
/// there, their merge and their care.
async fn every_step(failure: Failure) {
    let (mut node, faults) = Node::on_faulty_store().await;
    let moving = moving(&node);
    node.ask(&format!("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT) WITH ({moving})")).await.unwrap();
    let name = ObjectName::public("t").unwrap();
    let mut rows = BTreeMap::new();
    let (mut k, mut n, mut quiet) = (1, 0, false);
    while !quiet {
        node.ask(&format!("INSERT INTO t SELECT i, 0 FROM generate_series({n}, {}) AS g(i)", n + 9)).await.unwrap();
        rows.extend((n..n + 10).map(|id| (id, 0)));
        node.engine.tier(&name).await.unwrap();
        node.clock.advance_ms(2 * DAY_MS);
        faults.fail_at(k, failure);
        let moved = node.ask("OPTIMIZE t TEMPERATURE").await;
        let changed = node.ask(&format!("UPDATE t SET v = v + 1 WHERE id = {n}")).await;
        if changed.is_ok() {
            rows.insert(n, 1);
        }
        let merged = node.engine.tier(&name).await;
        let fired = faults.fired();
        faults.set_outage(false);
        let context = format!("{failure:?} at {k}: {moved:?} {changed:?} {merged:?}");
        assert_eq!(content(&node).await, rows, "{context}");
        if k % 6 == 0 {
            node = node.restart().await;
            assert_eq!(content(&node).await, rows, "restarted after {context}");
        }
        // Few files are there at a time, so that each round needs about as many operations.
        let gone = n - 20;
        node.ask(&format!("DELETE FROM t WHERE id < {gone}")).await.unwrap();
        rows.retain(|id, _| *id >= gone);
        node.engine.tier(&name).await.unwrap();
        node.engine.maintain(&name).await.unwrap();
        assert_eq!(content(&node).await, rows, "cared for after {context}");
        if !fired {
            assert!(moved.is_ok() && changed.is_ok() && merged.is_ok(), "{context}");
            quiet = true;
        }
        (k, n) = (k + steps_apart(), n + 10);
    }
    assert!(k > 10, "only {k} operations were tried");
    node.clock.advance_ms(2 * DAY_MS);
    node.ask("OPTIMIZE t TEMPERATURE").await.unwrap();
    let figures =
        node.ask("SELECT lake_files = cold_files AS all_cold FROM system.tables WHERE name = 't'").await.unwrap();
    assert!(figures.contains("true"), "{figures}");
    assert_eq!(content(&node).await, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_store_fails_leaves_each_row_once() {
    every_step(Failure::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_store_reports_a_failure_leaves_each_row_once() {
    every_step(Failure::After).await;
}

/// Hangs the k-th operation of a move, for k = 1, 2, …, drops it there, and reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_cut_off_anywhere_is_made_good_by_the_next() {
    let (mut node, faults) = Node::on_faulty_store().await;
    let moving = moving(&node);
    node.ask(&format!("CREATE STREAM t (id BIGINT, v BIGINT) WITH ({moving})")).await.unwrap();
    let mut rows = BTreeMap::new();
    for k in (1..).step_by(steps_apart() as usize) {
        node.ask(&format!("INSERT INTO t VALUES ({k}, 0), (-{k}, 0)")).await.unwrap();
        rows.extend([(k, 0), (-k, 0)]);
        node.ask("FLUSH t").await.unwrap();
        node.clock.advance_ms(2 * DAY_MS);
        faults.fail_at(k as u64, Failure::Hang);
        let round = {
            let session = node.engine.session();
            tokio::spawn(async move { session.execute("OPTIMIZE t TEMPERATURE").await.map(|_| ()) })
        };
        while !faults.fired() && !round.is_finished() {
            tokio::task::yield_now().await;
        }
        let fired = faults.fired();
        round.abort();
        drop(round.await);
        faults.set_outage(false);
        assert_eq!(content(&node).await, rows, "hung at {k}");
        // A process that dies there leaves the same behind.
        node = node.restart().await;
        assert_eq!(content(&node).await, rows, "hung at {k}, restarted");
        if !fired {
            assert!(k > 5, "only {k} operations were tried");
            break;
        }
        // Few files wait at a time, so that each round needs about as many operations.
        if k % 3 == 0 {
            node.ask("OPTIMIZE t TEMPERATURE").await.unwrap();
        }
    }
    node.ask("OPTIMIZE t TEMPERATURE").await.unwrap();
    assert_eq!(node.number("SELECT lake_files - cold_files FROM system.streams WHERE name = 't'").await, 0);
    assert_eq!(content(&node).await, rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_over_two_places_has_one_name_and_its_files_are_pruned() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT)").await.unwrap();
    for ids in ["1, 1), (2, 2", "11, 11), (12, 12"] {
        node.ask(&format!("INSERT INTO t VALUES ({ids})")).await.unwrap();
        node.ask("FLUSH t").await.unwrap();
        node.clock.advance_ms(DAY_MS);
    }
    node.ask(&format!("ALTER TABLE t SET ({})", moving(&node))).await.unwrap();
    let moved = node.ask("OPTIMIZE t TEMPERATURE").await.unwrap();
    assert!(moved.contains("| t    | 1           |"), "{moved}");
    assert_eq!(cold_files(&node).await, 1);
    assert_eq!(content(&node).await, BTreeMap::from([(1, 1), (2, 2), (11, 11), (12, 12)]));
    let young = node.ask("EXPLAIN SELECT v FROM t WHERE id > 10").await.unwrap();
    let old = node.ask("EXPLAIN SELECT v FROM t WHERE id < 10").await.unwrap();
    assert!(!young.contains("cold/") && old.contains("cold/"), "{young}\n{old}");
    let record =
        "SELECT count(*) FROM system.maintenance WHERE kind = 'temperature' AND files_cooled = 1 AND bytes_cooled > 0";
    assert_eq!(node.number(record).await, 1);
    // Its key is known wherever the row lies, and a row that changes comes back to the lake's own place.
    assert_eq!(node.ask("INSERT INTO t VALUES (1, 0)").await.unwrap_err().code(), Code::UniqueViolation);
    node.ask("UPDATE t SET v = 100 WHERE id = 1").await.unwrap();
    node.ask("FLUSH t").await.unwrap();
    assert_eq!(content(&node).await, BTreeMap::from([(1, 100), (2, 2), (11, 11), (12, 12)]));
    assert_eq!(content_of(&node, "t VERSION AS OF 2").await, 4);
    let node = node.restart().await;
    assert_eq!(content(&node).await, BTreeMap::from([(1, 100), (2, 2), (11, 11), (12, 12)]));
    // OPTIMIZE leaves cold files where they are; vacuum deletes what was replaced there.
    node.ask("OPTIMIZE t TEMPERATURE").await.unwrap();
    node.ask("OPTIMIZE t").await.unwrap();
    let cold = node.number("SELECT cold_files FROM system.tables WHERE name = 't'").await;
    assert!(cold > 0);
    // Merges say by the machine's clock when files went out.
    node.clock.advance_ms(3650 * DAY_MS);
    node.ask("VACUUM t").await.unwrap();
    assert_eq!(cold_files(&node).await as i64, cold);
    node.ask("DROP TABLE t").await.unwrap();
    assert_eq!(cold_files(&node).await, 0);
}

async fn content_of(node: &Node, table: &str) -> i64 {
    node.number(&format!("SELECT count(*) FROM {table}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_rows_of_a_table_go_from_its_views_and_its_key() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT) WITH (expire = '3 days')").await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n, sum(v) AS v FROM t").await.unwrap();
    for day in 0..4 {
        node.ask(&format!("INSERT INTO t VALUES ({day}, 1), ({}, 1)", day + 100)).await.unwrap();
        node.ask("FLUSH").await.unwrap();
        node.clock.advance_ms(DAY_MS);
    }
    node.ask("UPDATE t SET v = 5 WHERE id = 0").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    let gone = node.ask("OPTIMIZE t TEMPERATURE").await.unwrap();
    assert!(gone.contains("| t    | 0           | 0           | 1             | 1            |"), "{gone}");
    // A row that was changed is as old as its change.
    let left = BTreeMap::from([(0, 5), (1, 1), (101, 1), (2, 1), (102, 1), (3, 1), (103, 1)]);
    assert_eq!(content(&node).await, left);
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT n FROM total").await, 7);
    assert_eq!(node.number("SELECT v FROM total").await, 11);
    node.ask("INSERT INTO t VALUES (100, 7)").await.unwrap();
    assert_eq!(node.ask("INSERT INTO t VALUES (101, 7)").await.unwrap_err().code(), Code::UniqueViolation);
    let node = node.restart().await;
    node.clock.advance_ms(10 * DAY_MS);
    // Care begins when the table's log was looked at, as a change does.
    node.ask("DELETE FROM t WHERE id = -1").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    node.engine.maintain(&ObjectName::public("t").unwrap()).await.unwrap();
    assert_eq!(content(&node).await, BTreeMap::new());
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT n FROM total").await, 0);
    let record = "SELECT sum(rows_expired) FROM system.maintenance WHERE kind = 'automatic'";
    assert_eq!(node.number(record).await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_s_old_files_move_and_then_expire() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.ask(&format!("ALTER STREAM s SET (hot = '1 hour', {}, expire = '3 days')", moving(&node))).await.unwrap();
    for day in 0..5 {
        node.write(day * 10..day * 10 + 10).await;
        node.tier().await;
        node.clock.advance_ms(DAY_MS);
        node.engine.maintain(&ObjectName::public("s").unwrap()).await.unwrap();
    }
    // Files that are 2 and 3 days old are at the cold place, older ones are gone, there too.
    assert_eq!(node.number("SELECT count(*) FROM s").await, 30);
    assert_eq!(node.number("SELECT min(id) FROM s").await, 20);
    node.ask("VACUUM s").await.unwrap();
    let cold = node.number("SELECT cold_files FROM system.streams WHERE name = 's'").await;
    assert_eq!((cold, cold_files(&node).await), (2, 2));
    node.ask("DROP STREAM s").await.unwrap();
    assert_eq!(cold_files(&node).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_cared_for_as_its_own_policy_says() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id BIGINT, v BIGINT) WITH (optimize = 'off', checkpoint_interval = 3)").await.unwrap();
    let name = ObjectName::public("t").unwrap();
    for id in 0..12 {
        node.ask(&format!("INSERT INTO t VALUES ({id}, 0)")).await.unwrap();
        node.engine.tier(&name).await.unwrap();
    }
    let report = node.engine.maintain(&name).await.unwrap();
    assert_eq!((report.files_compacted, report.checkpoint), (0, Some(12)));
    assert_eq!(node.engine.maintain(&name).await.unwrap().checkpoint, None);
    // Asked for, it is done all the same; what it replaced stays as long as the table says.
    node.ask("ALTER TABLE t SET (vacuum_retention = '2 days')").await.unwrap();
    let packed = node.ask("OPTIMIZE t").await.unwrap();
    assert!(packed.contains("| t    | 12            | 1           |"), "{packed}");
    assert_eq!(node.engine.maintain(&name).await.unwrap().files_vacuumed, 0);
    node.clock.advance_ms(2 * DAY_MS);
    assert_eq!(node.engine.maintain(&name).await.unwrap().files_vacuumed, 12);
    let node = node.restart().await;
    node.ask("ALTER TABLE t SET (target_file_size = '64 kB')").await.unwrap();
    let wide = "INSERT INTO t SELECT i, CAST(random() * 1e15 AS BIGINT) FROM generate_series(1, 60000) AS g(i)";
    node.ask(wide).await.unwrap();
    node.engine.tier(&name).await.unwrap();
    assert!(node.number("SELECT lake_files FROM system.tables WHERE name = 't'").await > 2);
    let shown = node.ask("SELECT options FROM system.tables WHERE name = 't'").await.unwrap();
    let all = "optimize = 'off', target_file_size = '64 kB', vacuum_retention = '2 days', checkpoint_interval = 3";
    assert!(shown.contains(all), "{shown}");
    assert_eq!(content_of(&node, "t").await, 60_012);
}

#[tokio::test]
async fn a_cold_place_that_statements_may_not_touch_is_refused() {
    let node = Node::start().await;
    let refused = node.ask("CREATE TABLE t (id BIGINT) WITH (warm = '1 day', cold = 'file:///srv/cold')").await;
    let error = refused.unwrap_err();
    assert_eq!(error.code(), Code::Denied);
    assert!(error.to_string().contains("files.root"), "{error}");
    node.ask("CREATE TABLE t (id BIGINT)").await.unwrap();
    let refused = node.ask("ALTER TABLE t SET (warm = '1 day')").await.unwrap_err();
    assert!(refused.to_string().contains("warm and cold go together"), "{refused}");
}
