//! P3: one name, whole history, whatever part of it lies in the log and what in the lake.

use crate::harness::Node;

const CHECK: &str = "SELECT count(*) - count(DISTINCT id) + (max(id) + 1 - count(*)) FROM s";

#[tokio::test]
async fn acknowledged_rows_are_read_from_the_log() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..10).await;
    assert_eq!(node.number("SELECT count(*) FROM s").await, 10);
    assert_eq!(node.number("SELECT sum(id) FROM s").await, 45);
}

#[tokio::test]
async fn rows_are_seen_once_while_they_move_to_the_lake() {
    let node = Node::start().await;
    node.create_s(3).await;
    for round in 0..6 {
        node.write(round * 100..round * 100 + 100).await;
        assert_eq!(node.number("SELECT count(*) FROM s").await, (round + 1) * 100);
        if round % 2 == 1 {
            assert_eq!(node.tier().await, 200);
        }
        assert_eq!(node.number("SELECT count(*) FROM s").await, (round + 1) * 100);
        assert_eq!(node.number(CHECK).await, 0, "round {round}");
    }
}

#[tokio::test]
async fn history_survives_a_restart_in_log_and_lake() {
    let node = Node::start().await;
    node.create_s(2).await;
    node.write(0..500).await;
    node.tier().await;
    node.write(500..700).await;
    let node = node.restart().await;
    assert_eq!(node.number("SELECT count(*) FROM s").await, 700);
    assert_eq!(node.number(CHECK).await, 0);
    node.write(700..800).await;
    assert_eq!(node.number("SELECT count(*) FROM s WHERE name LIKE 'n7%'").await, 111);
}

#[tokio::test]
async fn hidden_columns_can_be_named_and_stay_out_of_the_star() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..3).await;
    node.tier().await;
    node.write(3..5).await;
    let star = node.ask("SELECT * FROM s ORDER BY id LIMIT 1").await.unwrap();
    assert!(!star.contains("_offset"), "{star}");
    let named =
        node.ask("SELECT *, _offset AS o, _partition FROM s WHERE _offset >= 2 ORDER BY _offset").await.unwrap();
    assert_eq!(
        named,
        "+----+------+---+------------+\n\
         | id | name | o | _partition |\n\
         +----+------+---+------------+\n\
         | 2  | n2   | 2 | 0          |\n\
         | 3  | n3   | 3 | 0          |\n\
         | 4  | n4   | 4 | 0          |\n\
         +----+------+---+------------+"
    );
    let times = node.number("SELECT count(DISTINCT _ingest_time) FROM s").await;
    assert!(times >= 1);
}

#[tokio::test]
async fn a_stream_named_twice_is_read_at_one_instant() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..50).await;
    node.tier().await;
    node.write(50..60).await;
    let pairs = "SELECT count(*) FROM s a JOIN s b ON a.id = b.id";
    assert_eq!(node.number(pairs).await, 60);
}

#[tokio::test]
async fn limits_and_projections_reach_both_parts() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..100).await;
    node.tier().await;
    node.write(100..200).await;
    let plan = node.ask("EXPLAIN SELECT name FROM s LIMIT 5").await.unwrap();
    assert!(plan.contains("LogScanExec: stream=s, from=memory, rows=100, limit=5"), "{plan}");
    let plan = node.ask("EXPLAIN SELECT id FROM s WHERE _offset >= 199").await.unwrap();
    assert!(plan.contains("LogScanExec"), "{plan}");
    let plan = node.ask("EXPLAIN SELECT id FROM s WHERE _offset < 50").await.unwrap();
    assert!(plan.contains("pruned_rows=100"), "{plan}");
    let count = node.ask("EXPLAIN SELECT count(*) FROM s").await.unwrap();
    assert!(count.contains("PlaceholderRowExec"), "a count needs no scan: {count}");
}

#[tokio::test]
async fn rows_of_the_lake_without_a_partner_go_before_they_are_joined() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..1000).await;
    node.tier().await;
    let join = "SELECT count(*) FROM s JOIN (SELECT id FROM s WHERE id IN (3, 500, 997)) few ON s.id = few.id";
    assert_eq!(node.number(join).await, 3);
    let plan = node.ask(&format!("EXPLAIN ANALYZE {join}")).await.unwrap();
    let sieve = plan.lines().find(|line| line.contains("SieveExec"));
    assert!(sieve.is_some_and(|line| line.contains("output_rows=3,")), "{plan}");
}

#[tokio::test]
async fn a_position_token_is_waited_for() {
    use millstream_process::{Outcome, RunOptions};
    let node = Node::start().await;
    node.create_s(1).await;
    let receipt = node.write(0..5).await;
    let session = node.engine.session();
    let statement = session.parse("SELECT count(*) FROM s").unwrap().remove(0);
    let prepared = session.prepare(&statement).await.unwrap();
    let options = RunOptions { after: vec![receipt.token.clone()], timeout: None };
    assert!(matches!(session.run(&prepared, &[], options).await.unwrap(), Outcome::Rows { .. }));

    let mut ahead = receipt.token;
    ahead.positions.set(0, 6);
    let waiting = RunOptions { after: vec![ahead], timeout: Some(std::time::Duration::from_secs(30)) };
    let (waited, _) = tokio::join!(session.run(&prepared, &[], waiting), node.write(5..6));
    assert!(waited.is_ok());
}
