//! Streams made, changed and dropped; rows refused; requests repeated.

use millstream_catalog::fault::{Code, Fault};
use millstream_process::QuarantinedRow;

use crate::harness::Node;

#[tokio::test]
async fn a_repeated_request_adds_nothing_and_gets_its_receipt_again() {
    let node = Node::start().await;
    node.create_s(2).await;
    let refused = || vec![QuarantinedRow { reason: "line 3: bad".into(), text: "{".into() }];
    let first = node.write_keyed(0..10, Some("k1"), refused()).await.unwrap();
    let node = node.restart().await;
    let again = node.write_keyed(0..10, Some("k1"), refused()).await.unwrap();
    assert!(again.duplicate && !first.duplicate);
    assert_eq!((again.accepted, again.quarantined, &again.ranges), (10, 1, &first.ranges));
    assert_eq!(node.number("SELECT count(*) FROM s").await, 10);
    assert_eq!(node.number("SELECT count(*) FROM system.quarantine").await, 1);
    let other = node.write_keyed(5..9, Some("k1"), vec![]).await.unwrap_err();
    assert_eq!(other.code(), Code::KeyReused);
}

#[tokio::test]
async fn refused_rows_are_in_quarantine_with_reason_and_text() {
    let node = Node::start().await;
    node.create_s(1).await;
    let refused = vec![QuarantinedRow { reason: "line 2: not a number".into(), text: "{\"id\":\"x\"}".into() }];
    node.write_keyed(0..1, None, refused).await.unwrap();
    let rows = node.ask("SELECT stream, reason, original FROM system.quarantine").await.unwrap();
    assert!(rows.contains("| s      | line 2: not a number | {\"id\":\"x\"} |"), "{rows}");
}

#[tokio::test]
async fn a_column_can_be_added_and_older_rows_have_it_null() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..5).await;
    node.tier().await;
    node.write(5..8).await;
    node.ask("ALTER STREAM s ADD COLUMN extra DOUBLE").await.unwrap();
    assert_eq!(node.number("SELECT count(*) FROM s WHERE extra IS NULL").await, 8);
    node.tier().await;
    let node = node.restart().await;
    assert_eq!(node.number("SELECT count(*) FROM s WHERE extra IS NULL").await, 8);
}

#[tokio::test]
async fn a_dropped_stream_is_gone_and_its_name_is_free() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..5).await;
    node.tier().await;
    node.ask("DROP STREAM s").await.unwrap();
    let error = node.ask("SELECT * FROM s").await.unwrap_err();
    assert_eq!(error.code(), Code::UndefinedObject);
    node.create_s(1).await;
    assert_eq!(node.number("SELECT count(*) FROM s").await, 0);
    let node = node.restart().await;
    assert_eq!(node.number("SELECT count(*) FROM s").await, 0);
    let logs = std::fs::read_dir(node.dir.path().join("log")).unwrap().count();
    assert_eq!(logs, 2, "the dropped stream's log folder is gone");
}

#[tokio::test]
async fn the_platforms_own_streams_are_not_open_to_writers() {
    let node = Node::start().await;
    let name = millstream_catalog::ObjectName::new("system", "quarantine").unwrap();
    assert_eq!(node.engine.stream(&name).unwrap_err().code(), Code::Denied);
    assert_eq!(node.ask("DROP STREAM system.quarantine").await.unwrap_err().code(), Code::Denied);
}

#[tokio::test]
async fn system_streams_shows_where_the_rows_are() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..5).await;
    node.tier().await;
    node.write(5..7).await;
    let sql = "SELECT rows, lag_rows, log_end, lake_position, problem FROM system.streams WHERE name = 's'";
    let rows = node.ask(sql).await.unwrap();
    assert!(rows.contains("| 7    | 2        | 0-7     | 0-5           |         |"), "{rows}");
}
