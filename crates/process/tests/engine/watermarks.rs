//! EMIT ON WINDOW CLOSE: closed windows only, once, whatever is late, idle or stopped.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use millstream_catalog::ObjectName;
use millstream_process::Rows;

use crate::harness::Node;

const BY_TEN: &str = "SELECT window_end, count(*) AS n FROM TUMBLE(e, ts, INTERVAL '10' SECOND) GROUP BY window_end";

/// A stream `e (k TEXT, a BIGINT, ts TIMESTAMPTZ)` by `k`, its watermark 5 s behind.
async fn create(node: &Node, name: &str, partitions: u32) {
    let sql = format!(
        "CREATE STREAM {name} (k TEXT, a BIGINT, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) \
         PARTITION BY (k) WITH (partitions = {partitions})"
    );
    node.ask(&sql).await.unwrap();
}

/// Appends rows with these keys and seconds.
async fn send(node: &Node, stream: &str, rows: &[(&str, i64)]) {
    let stream = node.engine.stream(&ObjectName::public(stream).unwrap()).unwrap();
    let ts = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.1 * 1_000_000)).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
        Arc::new(ts),
    ];
    let batch = RecordBatch::try_new(stream.definition().schema(), columns).unwrap();
    let admitted = stream.admit(Rows { missing: vec![None; batch.num_columns()], batch }).unwrap();
    stream.append(admitted.batch, vec![], None).await.unwrap();
}

/// The seconds at which windows ended and their counts, `10:3 20:1`.
async fn closed(node: &Node, view: &str) -> String {
    node.ask("FLUSH").await.unwrap();
    let sql = format!(
        "SELECT coalesce(string_agg(CAST(extract(epoch FROM window_end) AS BIGINT) || ':' || n, ' ' \
         ORDER BY window_end), '') AS s FROM {view}"
    );
    let text = node.ask(&sql).await.unwrap();
    text.lines().nth(3).unwrap().trim_matches(['|', ' ']).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_come_when_the_watermark_has_passed_them() {
    let node = Node::start().await;
    create(&node, "e", 1).await;
    send(&node, "e", &[("a", 1), ("a", 7), ("a", 12)]).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW w AS {BY_TEN} EMIT ON WINDOW CLOSE")).await.unwrap();
    assert_eq!(closed(&node, "w").await, "");
    send(&node, "e", &[("a", 8), ("a", 15)]).await;
    assert_eq!(closed(&node, "w").await, "10:3");
    // 9 is behind the watermark, 10.
    send(&node, "e", &[("a", 9), ("a", 11), ("a", 40)]).await;
    assert_eq!(closed(&node, "w").await, "10:3 20:3");
    assert_eq!(node.number("SELECT late_rows FROM system.views").await, 1);
    assert_eq!(node.number("SELECT refused_rows FROM system.views").await, 0);
    assert_eq!(node.number("SELECT extract(epoch FROM watermark) FROM system.views").await, 35);
    let why = node.ask("SELECT stream, reason, original FROM system.quarantine").await.unwrap();
    assert!(why.contains("w ") && why.contains("late: ts is 1970-01-01T00:00:09Z, behind the watermark"), "{why}");
    let node = node.restart().await;
    assert_eq!(closed(&node, "w").await, "10:3 20:3");
    send(&node, "e", &[("a", 34), ("a", 36), ("a", 50)]).await;
    assert_eq!(closed(&node, "w").await, "10:3 20:3 40:1");
}

/// Two keys that lie in different partitions of `e`.
async fn apart(node: &Node) -> [&'static str; 2] {
    let keys = ["a", "b", "c", "d", "e", "f"];
    create(node, "probe", 2).await;
    send(node, "probe", &keys.map(|k| (k, 0))).await;
    let mut of = [None; 2];
    for key in keys {
        let partition = node.number(&format!("SELECT max(_partition) FROM probe WHERE k = '{key}'")).await;
        of[partition as usize] = Some(key);
    }
    node.ask("DROP STREAM probe").await.unwrap();
    of.map(Option::unwrap)
}

/// Waits until the view shows these windows.
async fn until_closed(node: &Node, view: &str, windows: &str) {
    while closed(node, view).await != windows {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_holds_windows_open_until_it_is_idle() {
    let node = Node::start().await;
    create(&node, "e", 2).await;
    let [one, two] = apart(&node).await;
    let idle = "WITH (idle_timeout = '10 s')";
    node.ask(&format!("CREATE MATERIALIZED VIEW w {idle} AS {BY_TEN} EMIT ON WINDOW CLOSE")).await.unwrap();
    send(&node, "e", &[(one, 1), (one, 50)]).await;
    assert_eq!(closed(&node, "w").await, "", "nothing is known of the other partition");
    send(&node, "e", &[(two, 2), (two, 17)]).await;
    assert_eq!(closed(&node, "w").await, "10:2");
    // Out of order between the partitions, and not late.
    send(&node, "e", &[(two, 13), (one, 51)]).await;
    assert_eq!(node.number("SELECT late_rows FROM system.views").await, 0);
    node.clock.advance_ms(9_000);
    send(&node, "e", &[(one, 52)]).await;
    assert_eq!(closed(&node, "w").await, "10:2");
    node.clock.advance_ms(1_000);
    until_closed(&node, "w", "10:2 20:2").await;
    assert_eq!(node.number("SELECT extract(epoch FROM watermark) FROM system.views").await, 47);
    send(&node, "e", &[(two, 46), (two, 47)]).await;
    assert_eq!(closed(&node, "w").await, "10:2 20:2");
    assert_eq!(node.number("SELECT late_rows FROM system.views").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watermark_stays_when_nothing_comes_at_all() {
    let node = Node::start().await;
    create(&node, "e", 2).await;
    let [one, two] = apart(&node).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW w AS {BY_TEN} EMIT ON WINDOW CLOSE")).await.unwrap();
    send(&node, "e", &[(one, 50), (two, 17)]).await;
    assert_eq!(closed(&node, "w").await, "");
    node.clock.advance_ms(3_600_000);
    // What wakes the view now is the row.
    send(&node, "e", &[(two, 18), (two, 26)]).await;
    assert_eq!(closed(&node, "w").await, "20:2", "the other partition is idle");
    assert_eq!(node.number("SELECT late_rows FROM system.views").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_makes_no_row_late_in_whatever_order_it_is_read() {
    let node = Node::start().await;
    create(&node, "e", 2).await;
    let [one, two] = apart(&node).await;
    for second in 0..50 {
        send(&node, "e", &[(one, 100 + second)]).await;
        if second == 25 {
            node.engine.tier(&ObjectName::public("e").unwrap()).await.unwrap();
        }
    }
    for second in 0..50 {
        send(&node, "e", &[(two, second)]).await;
    }
    node.ask(&format!("CREATE MATERIALIZED VIEW w AS {BY_TEN} EMIT ON WINDOW CLOSE")).await.unwrap();
    assert_eq!(closed(&node, "w").await, "10:10 20:10 30:10 40:10");
    assert_eq!(node.number("SELECT late_rows FROM system.views").await, 0);
    // What came while the node was down is read behind the checkpoint, one partition far ahead of the other.
    let node = node.restart().await;
    send(&node, "e", &[(one, 300), (two, 90), (two, 60)]).await;
    assert_eq!(closed(&node, "w").await, "10:10 20:10 30:10 40:10 50:10 70:1");
    assert_eq!(node.number("SELECT late_rows FROM system.views").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_closes_is_refused_at_create() {
    let node = Node::start().await;
    create(&node, "e", 1).await;
    node.create_s(1).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW v AS {BY_TEN} EMIT ON WINDOW CLOSE")).await.unwrap();
    for (query, part) in [
        ("SELECT k, count(*) AS n FROM e GROUP BY k", "group by window_start or window_end"),
        ("SELECT id / 10 AS tens, count(*) AS n FROM s GROUP BY 1", "WATERMARK FOR"),
        ("SELECT window_end, n FROM v", "CREATE STREAM"),
    ] {
        let sql = format!("CREATE MATERIALIZED VIEW w AS {query} EMIT ON WINDOW CLOSE");
        let refused = node.ask(&sql).await.unwrap_err().to_string();
        assert!(refused.contains("EMIT ON WINDOW CLOSE") && refused.contains(part), "{query}: {refused}");
    }
    let shown =
        node.ask(&format!("EXPLAIN CREATE MATERIALIZED VIEW w AS {BY_TEN} EMIT ON WINDOW CLOSE")).await.unwrap();
    assert!(shown.contains("by window_end, until the watermark passes"), "{shown}");
}
