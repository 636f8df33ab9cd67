//! Streams that a query writes: each row once, over history and what comes, through restarts and failures.

use millstream_catalog::ObjectName;
use millstream_process::FaultPoint;

use crate::harness::Node;

const EVEN: &str = "SELECT id, name FROM s WHERE id % 2 = 0";

/// Waits until the stream has taken in everything, and compares it with what its query gives: each row as often.
async fn same(node: &Node, stream: &str, query: &str) {
    node.ask("FLUSH").await.unwrap();
    same_now(node, stream, query).await;
}

async fn same_now(node: &Node, stream: &str, query: &str) {
    for (one, other) in [(stream, query), (query, stream)] {
        let select = |of: &str| if of.contains(' ') { of.to_owned() } else { format!("SELECT * FROM {of}") };
        let sql = format!("SELECT count(*) FROM (({}) EXCEPT ALL ({})) d", select(one), select(other));
        assert_eq!(node.number(&sql).await, 0, "{stream}: {sql}");
    }
}

/// Asks until a query of one number gives another than 0.
async fn until(node: &Node, sql: &str) {
    while node.number(sql).await == 0 {
        tokio::task::yield_now().await;
    }
}

async fn refused(node: &Node, sql: &str) -> String {
    node.ask(sql).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_history_in_lake_and_log_follows_new_rows() {
    let node = Node::start().await;
    node.create_s(3).await;
    node.write(0..100).await;
    node.tier().await;
    node.write(100..150).await;
    let made = node.ask(&format!("CREATE STREAM even AS {EVEN}")).await.unwrap();
    assert_eq!(made, "CREATE STREAM");
    same_now(&node, "even", EVEN).await;
    for round in 0..5 {
        node.write(150 + round * 37..187 + round * 37).await;
        if round == 2 {
            node.tier().await;
        }
        same(&node, "even", EVEN).await;
    }
    let status = node.ask("SELECT status, rows_in, lag_rows FROM system.views").await.unwrap();
    assert!(status.contains("| running | 335     | 0        |"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_only_the_lake_has_come_in_the_order_of_their_partition() {
    let node = Node::start().await;
    node.create_s(1).await;
    for round in 0..4 {
        node.write(round * 50_000..(round + 1) * 50_000).await;
        node.tier().await;
    }
    // The log is trimmed a whole segment at a time: a restart begins a new one.
    let node = node.restart().await;
    node.write(200_000..200_010).await;
    node.tier().await;
    node.ask("CREATE STREAM all_of_it AS SELECT id FROM s").await.unwrap();
    same(&node, "all_of_it", "SELECT id FROM s").await;
    assert_eq!(node.number("SELECT count(*) FROM all_of_it WHERE id <> _offset").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_taken_in_by_parts_and_goes_on_after_a_failure() {
    let node = Node::start().await;
    node.create_s(3).await;
    for round in 0..8 {
        node.write(round * 50_000..(round + 1) * 50_000).await;
        if round % 3 == 2 {
            node.tier().await;
        }
    }
    node.engine.faults().fail_at(Some(FaultPoint::OutboxDelivered));
    // More than one commit holds.
    let query = "SELECT id, repeat(name, 20) AS names FROM s WHERE id % 2 = 0";
    let made = refused(&node, &format!("CREATE STREAM even AS {query}")).await;
    assert!(made.contains("OutboxDelivered"), "{made}");
    let first = node.number("SELECT count(*) FROM even").await;
    assert!(first > 0 && first < 200_000, "{first} rows at the first commit");
    let node = node.restart().await;
    node.write(400_000..400_100).await;
    same(&node, "even", query).await;
    assert_eq!(node.number("SELECT history_rows > 0 AND status = 'running' FROM system.views").await, 1);
    assert!(node.number("SELECT rows_in FROM system.views").await < 400_100, "history was read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_stand_on_streams_and_views_on_them() {
    let node = Node::start().await;
    node.create_s(2).await;
    node.write(0..40).await;
    node.ask(&format!("CREATE STREAM even AS {EVEN}")).await.unwrap();
    node.ask("CREATE STREAM fourth AS SELECT id / 4 AS n FROM even WHERE id % 4 = 0").await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n, sum(n) AS total FROM fourth").await.unwrap();
    for round in 0..4 {
        let next = 40 + round * 400;
        let written = node.write(next..next + 400).await;
        same(&node, "even", EVEN).await;
        same(&node, "fourth", "SELECT id / 4 AS n FROM s WHERE id % 4 = 0").await;
        same(&node, "total", "SELECT count(*) AS n, sum(id / 4) AS total FROM s WHERE id % 4 = 0").await;
        assert_eq!(written.accepted, 400);
    }
    let node = node.restart().await;
    node.write(5000..5040).await;
    same(&node, "fourth", "SELECT id / 4 AS n FROM s WHERE id % 4 = 0").await;
    same(&node, "total", "SELECT count(*) AS n, sum(id / 4) AS total FROM s WHERE id % 4 = 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_behind_a_position_sees_what_came_of_it_in_streams_and_views_above() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.ask(&format!("CREATE STREAM even AS {EVEN}")).await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM even").await.unwrap();
    for round in 0..20 {
        let token = node.write(round * 10..(round + 1) * 10).await.token;
        for sql in ["SELECT count(*) AS n FROM even", "SELECT n FROM n"] {
            let count = node.number_after(sql, &token).await;
            assert_eq!(count, (round + 1) * 5, "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_rows_only_come_can_be_read_by_a_stream() {
    let node = Node::start().await;
    node.create_s(2).await;
    node.write(0..100).await;
    node.ask("CREATE MATERIALIZED VIEW small AS SELECT id, upper(name) AS name FROM s WHERE id < 500").await.unwrap();
    node.ask("CREATE STREAM odd AS SELECT v.name, v.id + 1 AS next FROM small v WHERE id % 2 = 1").await.unwrap();
    let query = "SELECT upper(name) AS name, id + 1 AS next FROM s WHERE id % 2 = 1 AND id < 500";
    same(&node, "odd", query).await;
    let node = node.restart().await;
    node.write(450..550).await;
    same(&node, "odd", query).await;
    assert!(refused(&node, "DROP MATERIALIZED VIEW small").await.contains("odd"));
    node.ask("CREATE REPLACEMENT MATERIALIZED VIEW other FOR small AS SELECT id, name FROM s").await.unwrap();
    let error = refused(&node, "ALTER MATERIALIZED VIEW small APPLY REPLACEMENT other").await;
    assert!(error.contains("stream odd") || error.contains("public.odd"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_keep_state_give_each_row_once() {
    let node = Node::start().await;
    node.create_s(2).await;
    node.write(0..50).await;
    let distinct = "SELECT DISTINCT id / 10 AS tens FROM s";
    let joined = "SELECT a.id AS a, b.id AS b FROM s a JOIN s b ON a.id = b.id * 2";
    let constants = "SELECT 1 AS x UNION ALL SELECT 2";
    for (name, query) in [("tens", distinct), ("doubles", joined), ("constants", constants)] {
        node.ask(&format!("CREATE STREAM {name} AS {query}")).await.unwrap();
    }
    let mut node = node;
    for round in 0..3 {
        node.write(50 + round * 20..90 + round * 20).await;
        same(&node, "tens", distinct).await;
        same(&node, "doubles", joined).await;
        same(&node, "constants", constants).await;
        node = node.restart().await;
    }
    same(&node, "doubles", joined).await;
    same(&node, "constants", constants).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_at_any_point_of_the_protocol_loses_and_repeats_nothing() {
    for point in [FaultPoint::OutboxGathered, FaultPoint::OutboxCommitted, FaultPoint::OutboxDelivered] {
        let mut node = Node::start().await;
        node.create_s(2).await;
        node.write(0..30).await;
        let inverse = "SELECT id, 100 / (id % 10) AS i FROM s WHERE id >= 10";
        let query = "SELECT id, 100 / (id % 10) AS i FROM s WHERE id >= 10 AND id % 10 <> 0";
        node.ask(&format!("CREATE STREAM inverse AS {inverse}")).await.unwrap();
        let mut rows = 30;
        for round in 0..4 {
            node.ask("FLUSH").await.unwrap();
            node.engine.faults().fail_at(Some(point));
            node.write(rows..rows + 25).await;
            until(&node, "SELECT count(*) FROM system.views WHERE status = 'failed'").await;
            rows += 25;
            if round % 2 == 0 {
                // The task goes on by itself when what failed is over.
                node.engine.faults().fail_at(None);
                until(&node, "SELECT count(*) FROM system.views WHERE status = 'running'").await;
            } else {
                // The node dies, and rows come before the task does anything.
                node = node.restart().await;
                node.write(rows..rows + 5).await;
                rows += 5;
            }
            same(&node, "inverse", query).await;
            let failing = node.number("SELECT count(*) FROM s WHERE id >= 10 AND id % 10 = 0").await;
            let set_aside = node.number("SELECT count(*) FROM system.quarantine").await;
            assert_eq!(set_aside, failing, "quarantine after {point:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_sets_a_row_aside_once() {
    for point in [FaultPoint::OutboxCommitted, FaultPoint::OutboxDelivered] {
        let node = Node::start().await;
        node.create_s(1).await;
        node.write(0..5).await;
        node.ask("CREATE MATERIALIZED VIEW inverse AS SELECT id, 100 / id AS i FROM s").await.unwrap();
        assert_eq!(node.number("SELECT count(*) FROM system.quarantine").await, 1);
        node.engine.faults().fail_at(Some(point));
        node.write(0..3).await;
        until(&node, "SELECT count(*) FROM system.views WHERE status = 'failed'").await;
        let node = node.restart().await;
        node.ask("FLUSH").await.unwrap();
        assert_eq!(node.number("SELECT count(*) FROM inverse").await, 6);
        assert_eq!(node.number("SELECT count(*) FROM system.quarantine").await, 2, "after {point:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_rows_back_is_refused_with_its_operator() {
    let node = Node::start().await;
    node.create_s(1).await;
    let error = refused(&node, "CREATE STREAM n AS SELECT name, count(*) AS n FROM s GROUP BY name").await;
    for part in ["stream n", "count(", "CREATE MATERIALIZED VIEW", "EMIT ON WINDOW CLOSE"] {
        assert!(error.contains(part), "{error}");
    }
    node.ask("CREATE MATERIALIZED VIEW v AS SELECT name, max(id) AS newest FROM s GROUP BY name").await.unwrap();
    assert!(refused(&node, "CREATE STREAM n AS SELECT * FROM v").await.contains("max("));
    let outer = "SELECT a.id, b.name FROM s a LEFT JOIN s b ON a.id = b.id + 1";
    assert!(refused(&node, &format!("CREATE STREAM n AS {outer}")).await.contains("left join"));
    assert!(refused(&node, "SELECT * FROM n").await.contains("n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_cannot_write_to_it() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.ask(&format!("CREATE STREAM even AS {EVEN}")).await.unwrap();
    let error = node.engine.stream(&ObjectName::public("even").unwrap()).unwrap_err().to_string();
    assert!(error.contains("even") && error.contains("its query"), "{error}");
    assert_eq!(refused(&node, "INSERT INTO even VALUES (1, 'x')").await, error);
    assert!(refused(&node, "ALTER STREAM even ADD COLUMN x INT").await.contains("query"));
    assert!(refused(&node, "ALTER STREAM s SUSPEND").await.contains("producers"));
    assert!(refused(&node, "DROP MATERIALIZED VIEW even").await.contains("stream"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_with_what_it_reads_and_leaves_nothing() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..10).await;
    node.ask(&format!("CREATE STREAM even AS {EVEN}")).await.unwrap();
    node.ask("CREATE STREAM fourth AS SELECT id FROM even WHERE id % 4 = 0").await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM fourth").await.unwrap();
    assert!(refused(&node, "DROP STREAM s").await.contains("even"));
    assert!(refused(&node, "DROP STREAM even").await.contains("fourth"));
    assert!(refused(&node, "DROP STREAM fourth").await.contains("n"));
    node.ask("DROP MATERIALIZED VIEW n").await.unwrap();
    node.ask("DROP STREAM fourth").await.unwrap();
    assert!(refused(&node, "SELECT * FROM fourth").await.contains("fourth"));
    // The name is free again.
    node.ask("CREATE STREAM fourth AS SELECT id FROM even WHERE id % 4 = 0").await.unwrap();
    assert_eq!(node.number("SELECT count(*) FROM fourth").await, 3);
    node.ask("CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM fourth").await.unwrap();
    assert_eq!(node.ask("DROP STREAM s CASCADE").await.unwrap(), "DROP STREAM");
    assert_eq!(node.number("SELECT count(*) FROM system.views").await, 0);
    assert_eq!(node.number("SELECT count(*) FROM system.streams WHERE schema = 'public'").await, 0);
    let node = node.restart().await;
    let left = |folder: &str| std::fs::read_dir(node.dir.path().join(folder)).map_or(0, |entries| entries.count());
    assert_eq!((left("views"), left("log")), (0, 1), "state, and logs beside that of the quarantine");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_its_query() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.ask(
        "CREATE STREAM even (number, label) PARTITION BY (number) WITH (partitions = 2) AS SELECT id, name FROM s",
    )
    .await
    .unwrap();
    let shown = node.ask("SHOW CREATE STREAM even").await.unwrap();
    assert!(shown.contains("PARTITION BY (number)") && shown.contains("SELECT id, name FROM s"), "{shown}");
    assert!(node.ask("SHOW STREAMS").await.unwrap().contains("SELECT id, name FROM s"));
    assert!(node.ask("DESCRIBE even").await.unwrap().contains("label"));
    node.write(0..64).await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT count(DISTINCT _partition) FROM even").await, 2);
    assert_eq!(node.number("SELECT count(*) FROM even").await, 64);
    assert_eq!(node.ask("CREATE STREAM IF NOT EXISTS even AS SELECT id FROM s").await.unwrap(), "CREATE STREAM");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_stream_stays_and_a_resumed_one_catches_up() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..20).await;
    node.ask(&format!("CREATE STREAM even AS {EVEN}")).await.unwrap();
    node.ask("ALTER STREAM even SUSPEND").await.unwrap();
    node.write(20..30).await;
    node.ask("FLUSH").await.unwrap();
    let node = node.restart().await;
    until(&node, "SELECT count(*) FROM system.views WHERE status = 'suspended'").await;
    assert_eq!(node.number("SELECT count(*) FROM even").await, 10);
    node.ask("ALTER STREAM even RESUME").await.unwrap();
    until(&node, "SELECT count(*) FROM system.views WHERE status = 'running'").await;
    same(&node, "even", EVEN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_error_stop_stays_stopped_until_it_is_changed() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(1..10).await;
    node.ask("CREATE STREAM inverse AS SELECT id, 100 / id AS i FROM s ON ERROR STOP").await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW sums AS SELECT sum(100 / id) AS n FROM s ON ERROR STOP").await.unwrap();
    assert_eq!(node.number("SELECT count(*) FROM inverse").await, 9);
    // What a restart finds is as it was before the row.
    let node = node.restart().await;
    until(&node, "SELECT count(*) = 2 FROM system.views WHERE status = 'running'").await;
    let total = node.number("SELECT n FROM sums").await;
    node.write(0..1).await;
    let failed = "SELECT count(*) = 2 FROM system.views WHERE status = 'failed'";
    until(&node, failed).await;
    let steps = "SELECT sum(steps) FROM system.views";
    let before = node.number(steps).await;
    node.write(20..30).await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number(steps).await, before, "it goes on trying");
    assert_eq!(node.number("SELECT count(*) FROM inverse").await, 9);
    let why = node.ask("SELECT last_error FROM system.views WHERE name = 'inverse'").await.unwrap();
    assert!(why.contains("ON ERROR STOP") && why.contains("Divide by zero"), "{why}");
    let jobs = node.ask("SELECT status FROM system.jobs WHERE kind = 'view'").await.unwrap();
    assert_eq!(jobs.matches("stopped").count(), 2, "{jobs}");
    // A restart tries once, and RESUME once more.
    let node = node.restart().await;
    until(&node, failed).await;
    assert_eq!(node.number("SELECT n FROM sums").await, total);
    assert_eq!(node.number("SELECT count(*) FROM inverse").await, 9);
    let before = node.number(steps).await;
    node.ask("ALTER STREAM inverse RESUME").await.unwrap();
    while node.number(steps).await == before {
        tokio::task::yield_now().await;
    }
    until(&node, failed).await;
    node.ask("ALTER MATERIALIZED VIEW sums SET (on_error = 'quarantine')").await.unwrap();
    node.ask("ALTER STREAM inverse SET (on_error = 'quarantine')").await.unwrap();
    until(&node, "SELECT count(*) = 2 FROM system.views WHERE status = 'running'").await;
    same(&node, "inverse", "SELECT id, 100 / id AS i FROM s WHERE id <> 0").await;
    same(&node, "sums", "SELECT sum(100 / id) AS n FROM s WHERE id <> 0").await;
    assert_eq!(node.number("SELECT count(*) FROM system.quarantine").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_read_by_all_its_columns_can_get_another() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..10).await;
    node.ask("CREATE STREAM copy AS SELECT * FROM s WHERE id > 2").await.unwrap();
    node.ask("CREATE STREAM behind AS SELECT *, id + 1 AS next FROM s").await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW kept AS SELECT *, id + 1 AS next FROM s").await.unwrap();
    node.ask("ALTER STREAM s ADD COLUMN more TEXT").await.unwrap();
    node.write(10..20).await;
    same(&node, "copy", "SELECT id, name FROM s WHERE id > 2").await;
    let node = node.restart().await;
    node.write(20..30).await;
    same(&node, "copy", "SELECT id, name FROM s WHERE id > 2").await;
    same(&node, "behind", "SELECT id, name, id + 1 AS next FROM s").await;
    same(&node, "kept", "SELECT id, name, id + 1 AS next FROM s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_its_state_is_not_written_again() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..10).await;
    node.ask(&format!("CREATE STREAM even AS {EVEN}")).await.unwrap();
    let node = node.restart_after(|dir| std::fs::remove_dir_all(dir.join("views")).unwrap()).await;
    until(&node, "SELECT count(*) FROM system.views WHERE status = 'failed'").await;
    let why = node.ask("SELECT last_error FROM system.views").await.unwrap();
    assert!(why.contains("stream public.even") || why.contains("stream even"), "{why}");
    assert_eq!(node.number("SELECT count(*) FROM even").await, 5);
}
