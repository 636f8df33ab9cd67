//! EMIT ON WINDOW CLOSE: closed windows only, once, whatever is late, idle or stopped.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use millstream_catalog::ObjectName;
use millstream_process::{FaultPoint, Rows};

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

/// Waits until a view has this status.
async fn until_status(node: &Node, status: &str) {
    let sql = format!("SELECT count(*) FROM system.views WHERE status = '{status}'");
    while node.number(&sql).await == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_at_any_point_shows_each_window_once_and_as_it_was() {
    for point in [FaultPoint::OutboxGathered, FaultPoint::OutboxCommitted, FaultPoint::OutboxDelivered] {
        for made in ["MATERIALIZED VIEW", "STREAM"] {
            let node = Node::start().await;
            create(&node, "e", 1).await;
            node.ask(&format!("CREATE {made} w AS {BY_TEN} EMIT ON WINDOW CLOSE")).await.unwrap();
            send(&node, "e", &[("a", 1), ("a", 17)]).await;
            assert_eq!(closed(&node, "w").await, "10:1", "{made} at {point:?}");
            node.engine.faults().fail_at(Some(point));
            // 3 is late, and the window of 20 closes.
            send(&node, "e", &[("a", 12), ("a", 3), ("a", 26)]).await;
            until_status(&node, "failed").await;
            let node = node.restart().await;
            assert_eq!(closed(&node, "w").await, "10:1 20:2", "{made} at {point:?}");
            send(&node, "e", &[("a", 36)]).await;
            assert_eq!(closed(&node, "w").await, "10:1 20:2 30:1", "{made} at {point:?}");
            assert_eq!(node.number("SELECT count(*) FROM system.quarantine").await, 1, "{made} at {point:?}");
            let node = node.restart().await;
            assert_eq!(closed(&node, "w").await, "10:1 20:2 30:1", "{made} at {point:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_were_seen_stay_though_more_rows_come_while_the_node_is_down() {
    let node = Node::start().await;
    create(&node, "e", 1).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW w AS {BY_TEN} EMIT ON WINDOW CLOSE")).await.unwrap();
    for second in 0..30 {
        send(&node, "e", &[("a", second), ("a", (second - 5).max(0)), ("a", (second - 7).max(0))]).await;
    }
    let seen = closed(&node, "w").await;
    let late = node.number("SELECT late_rows FROM system.views").await;
    let node = node.restart().await;
    assert_eq!(closed(&node, "w").await, seen);
    assert_eq!(node.number("SELECT count(*) FROM system.quarantine").await, late);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_closed_windows_can_be_grouped_again() {
    let node = Node::start().await;
    create(&node, "e", 1).await;
    let tens = format!("CREATE STREAM w (WATERMARK FOR window_end AS window_end) AS {BY_TEN} EMIT ON WINDOW CLOSE");
    node.ask(&tens).await.unwrap();
    node.ask(
        "CREATE MATERIALIZED VIEW c AS SELECT minute AS window_end, n FROM \
         (SELECT date_trunc('minute', window_end) AS minute, sum(n) AS n FROM w GROUP BY 1) q EMIT ON WINDOW CLOSE",
    )
    .await
    .unwrap();
    for second in 0..90 {
        send(&node, "e", &[("a", second * 2)]).await;
    }
    assert_eq!(closed(&node, "w").await.split(' ').count(), 17);
    assert_eq!(closed(&node, "c").await, "0:25 60:30");
    let node = node.restart().await;
    assert_eq!(closed(&node, "c").await, "0:25 60:30");
    assert_eq!(node.number("SELECT sum(late_rows) FROM system.views").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_bounded_joins_close() {
    let node = Node::start().await;
    create(&node, "e", 2).await;
    create(&node, "f", 1).await;
    let idle = "WITH (idle_timeout = '1 s')";
    let session = "SELECT window_end, count(*) AS n FROM SESSION(e PARTITION BY k, ts, INTERVAL '3' SECOND) GROUP BY k, window_end";
    node.ask(&format!("CREATE MATERIALIZED VIEW w {idle} AS {session} EMIT ON WINDOW CLOSE")).await.unwrap();
    let join = "SELECT e.ts AS window_end, coalesce(f.a, -1) AS n FROM e LEFT JOIN f ON e.k = f.k \
                AND f.ts BETWEEN e.ts AND e.ts + INTERVAL '10' SECOND";
    node.ask(&format!("CREATE STREAM j {idle} AS {join} EMIT ON WINDOW CLOSE")).await.unwrap();
    send(&node, "e", &[("a", 1), ("a", 2), ("b", 3)]).await;
    send(&node, "f", &[("a", 11)]).await;
    let node = node.restart().await;
    send(&node, "e", &[("a", 30), ("b", 30)]).await;
    send(&node, "f", &[("b", 15), ("b", 40)]).await;
    node.ask("FLUSH").await.unwrap();
    node.clock.advance_ms(1_000);
    send(&node, "e", &[("a", 31), ("b", 31)]).await;
    until_closed(&node, "w", "5:2 6:1").await;
    until_closed(&node, "j", "1:11 2:11 3:-1").await;
}
