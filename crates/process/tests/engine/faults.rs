//! Tiering under every single failure of the object store.

use std::time::Duration;

use millstream_catalog::ObjectName;
use millstream_store::fault_store::Failure;

use crate::harness::{Node, steps_apart};

/// Every row once, whatever lies where.
async fn assert_whole(node: &Node, rows: i64, context: &str) {
    // Ids are 0, 1, …: with the right count and sum, the distinct count leaves no room for a loss or a repeat.
    let sql = "SELECT count(*) AS rows, count(DISTINCT id) AS ids, sum(id) AS sum FROM s";
    let answer = node.ask(sql).await.unwrap();
    let found: Vec<i64> = answer.split(['|', '\n', ' ']).filter_map(|word| word.parse().ok()).collect();
    assert_eq!(found, [rows, rows, rows * (rows - 1) / 2], "{context}");
}

/// For k = 1, 2, …: fail the k-th operation of a round, try again, and compare with the model. Ends when no round of
/// the last few needed k operations: rounds that merge files need more than those that do not.
async fn every_step(failure: Failure) {
    let (mut node, faults) = Node::on_faulty_store().await;
    node.create_s(2).await;
    node.write(0..10).await;
    node.tier().await;
    let name = ObjectName::public("s").unwrap();
    let (mut rows, mut k, mut quiet_rounds, mut failures) = (10, 1, 0, 0);
    while quiet_rounds < 5 {
        node.write(rows..rows + 10).await;
        rows += 10;
        faults.fail_at(k, failure);
        // Either answer is right: what counts is what is there.
        let tiered = node.engine.tier(&name).await;
        let kept = node.engine.maintain(&name).await;
        let fired = faults.fired();
        faults.set_outage(false);
        assert_whole(&node, rows, &format!("{failure:?} at {k}")).await;
        node.tier().await;
        // Files that were not merged are, so that each round needs about as many operations.
        node.engine.maintain(&name).await.unwrap();
        assert_whole(&node, rows, &format!("{failure:?} at {k}, tried again")).await;
        if k % 4 == 0 {
            node = node.restart().await;
            assert_whole(&node, rows, &format!("{failure:?} at {k}, restarted")).await;
        }
        if fired {
            (k, quiet_rounds, failures) = (k + 1, 0, failures + 1);
        } else {
            assert!(tiered.is_ok() && kept.is_ok(), "{tiered:?} {kept:?}");
            quiet_rounds += 1;
        }
    }
    assert!(failures >= 3, "only {failures} operations were tried");
}

#[tokio::test]
async fn a_failed_operation_loses_and_repeats_nothing() {
    every_step(Failure::Before).await;
}

#[tokio::test]
async fn an_operation_that_was_done_but_reported_failed_loses_and_repeats_nothing() {
    every_step(Failure::After).await;
}

/// In the background a node opens the tables of its streams, and merges them when their rows are old.
#[tokio::test]
async fn a_node_closes_while_its_store_does_not_answer() {
    let (mut node, faults) = Node::on_faulty_store().await;
    node.create_s(1).await;
    for tiers in [false, true] {
        if tiers {
            node.tier().await;
        }
        node.write(0..10).await;
        faults.fail_at(1, Failure::Hang);
        node.clock.advance_ms(2 * 86_400_000);
        while !faults.fired() {
            tokio::task::yield_now().await;
        }
        let closed = tokio::time::timeout(Duration::from_secs(30), node.restart()).await;
        node = closed.expect("the node waits for its store");
        faults.set_outage(false);
    }
}

#[tokio::test]
async fn ingest_and_queries_go_on_while_the_store_is_down() {
    let (node, faults) = Node::on_faulty_store().await;
    node.create_s(1).await;
    faults.set_outage(true);
    node.write(0..100).await;
    assert!(node.engine.tier(&ObjectName::public("s").unwrap()).await.is_err());
    assert_whole(&node, 100, "while the store is down").await;
    faults.set_outage(false);
    assert_eq!(node.tier().await, 100);
    assert_whole(&node, 100, "after").await;
}

/// Hangs the k-th operation of a compaction, for k = 1, 2, …, and tiers meanwhile. Only where the compaction looks at
/// the table's log, or commits, does tiering wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn tiering_commits_while_a_compaction_is_under_way() {
    const FILES: i64 = 12;
    let (node, faults) = Node::on_faulty_store().await;
    node.create_s(1).await;
    let name = ObjectName::public("s").unwrap();
    let mut rows = 0;
    for _ in 0..FILES {
        node.write(rows..rows + 10).await;
        node.tier().await;
        rows += 10;
    }
    let mut beside = 0;
    for k in (1..=2 * FILES).step_by(steps_apart() as usize) {
        node.write(rows..rows + 10).await;
        rows += 10;
        faults.fail_at(k as u64, Failure::Hang);
        let care = tokio::spawn({
            let (engine, name) = (node.engine.clone(), name.clone());
            async move { engine.maintain(&name).await }
        });
        while !faults.fired() {
            assert!(!care.is_finished(), "the compaction needed fewer than {k} operations");
            tokio::task::yield_now().await;
        }
        let tiered = tokio::time::timeout(Duration::from_secs(2), node.engine.tier(&name)).await;
        if let Ok(tiered) = tiered {
            assert_eq!(tiered.unwrap(), 10);
            beside += 1;
        }
        care.abort();
        drop(care.await);
        node.tier().await;
        assert_whole(&node, rows, &format!("hung at {k}")).await;
    }
    faults.set_outage(false);
    assert!(node.engine.maintain(&name).await.unwrap().files_compacted > 0);
    assert_whole(&node, rows, "compacted").await;
    assert!(beside >= FILES / steps_apart() as i64, "tiering went on at {beside} operations only");
}
