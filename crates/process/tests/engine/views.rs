//! Materialized views over streams: built from history, kept up to date, stacked, replaced, dropped.

use crate::harness::Node;

/// The view's rows and what its query gives, for a comparison.
async fn same(node: &Node, view: &str, query: &str) {
    node.ask("FLUSH").await.unwrap();
    let order = "ORDER BY 1, 2";
    let kept = node.ask(&format!("SELECT * FROM {view} {order}")).await.unwrap();
    let asked = node.ask(&format!("SELECT * FROM ({query}) q {order}")).await.unwrap();
    assert_eq!(kept, asked, "{view}");
}

const BY_TENS: &str = "SELECT id / 10 AS tens, count(*) AS n, sum(id) AS total FROM s GROUP BY id / 10";

#[tokio::test(flavor = "multi_thread")]
async fn a_view_over_history_in_lake_and_log_follows_new_rows() {
    let node = Node::start().await;
    node.create_s(3).await;
    node.write(0..100).await;
    node.tier().await;
    node.write(100..150).await;
    let made = node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {BY_TENS}")).await.unwrap();
    assert_eq!(made, "CREATE MATERIALIZED VIEW");
    same(&node, "tens", BY_TENS).await;
    for round in 0..5 {
        node.write(150 + round * 37..187 + round * 37).await;
        if round == 2 {
            node.tier().await;
        }
        same(&node, "tens", BY_TENS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_the_same_however_the_files_lie() {
    for partitions in [1, 3] {
        let node = Node::start().await;
        node.create_s(partitions).await;
        for round in 0..4 {
            node.write(round * 1000..(round + 1) * 1000).await;
            node.tier().await;
        }
        node.write(4000..4010).await;
        node.ask(&format!("CREATE MATERIALIZED VIEW by_files AS {BY_TENS}")).await.unwrap();
        same(&node, "by_files", BY_TENS).await;
        node.ask("OPTIMIZE s ZORDER BY (name)").await.unwrap();
        node.write(4010..4020).await;
        node.ask(&format!("CREATE MATERIALIZED VIEW filtered AS {BY_TENS}")).await.unwrap();
        same(&node, "filtered", BY_TENS).await;
        same(&node, "by_files", BY_TENS).await;
        assert_eq!(node.number("SELECT sum(n) FROM filtered").await, 4020);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_there_again_after_a_restart() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..50).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {BY_TENS}")).await.unwrap();
    node.tier().await;
    node.write(50..75).await;
    let node = node.restart().await;
    node.write(75..80).await;
    same(&node, "tens", BY_TENS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_view_goes_on_from_its_checkpoint() {
    let node = Node::start().await;
    node.create_s(3).await;
    node.write(0..1000).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {BY_TENS}")).await.unwrap();
    node.write(1000..1500).await;
    node.ask("FLUSH").await.unwrap();
    let node = node.restart().await;
    node.write(1500..1510).await;
    same(&node, "tens", BY_TENS).await;
    assert_eq!(node.number("SELECT rows_in FROM system.views").await, 10, "history was read again");
    // Rows that moved to the lake since the checkpoint are read from there.
    let node = node.restart().await;
    same(&node, "tens", BY_TENS).await;
    node.ask("DROP MATERIALIZED VIEW tens").await.unwrap();
    let node = node.restart().await;
    let left = std::fs::read_dir(node.dir.path().join("views")).map_or(0, |entries| entries.count());
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_takes_in_again_what_came_since_the_checkpoint() {
    let node = Node::start().await;
    node.create_s(2).await;
    node.write(0..300).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {BY_TENS}")).await.unwrap();
    let saved = copied(&node.dir.path().join("views"));
    node.write(300..400).await;
    node.tier().await;
    node.write(400..420).await;
    node.ask("FLUSH").await.unwrap();
    let node = node
        .restart_after(|dir| {
            std::fs::remove_dir_all(dir.join("views")).unwrap();
            std::fs::rename(saved.path(), dir.join("views")).unwrap();
        })
        .await;
    same(&node, "tens", BY_TENS).await;
    assert_eq!(node.number("SELECT rows_in FROM system.views").await, 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_larger_than_its_memory_answers_the_same() {
    let by_id = "SELECT id, count(*) AS n, sum(id) AS total FROM s GROUP BY id";
    let above = "SELECT total / 1000 AS part, count(*) AS n, max(id) AS last FROM ids GROUP BY total / 1000";
    let node = Node::start().await;
    node.create_s(3).await;
    node.write(0..30_000).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW ids WITH (memory = '64 kB') AS {by_id}")).await.unwrap();
    node.ask(&format!("CREATE MATERIALIZED VIEW parts WITH (memory = '64 kB') AS {above}")).await.unwrap();
    node.ask(&format!("CREATE MATERIALIZED VIEW all_ids AS {by_id}")).await.unwrap();
    for round in 0..6 {
        node.write(round * 6_000..round * 6_000 + 3_000).await;
        node.write(30_000 + round * 100..30_100 + round * 100).await;
        same(&node, "ids", by_id).await;
        same(&node, "parts", above).await;
    }
    let bytes = |view: &str| format!("SELECT bytes + state_bytes FROM system.views WHERE name = '{view}'");
    // Indexes stay, and a part of the rows.
    let (small, large) = (node.number(&bytes("ids")).await, node.number(&bytes("all_ids")).await);
    assert!(small < large * 4 / 5, "{small} of {large} bytes");
    let point = "WHERE id = 6001";
    let row = node.ask(&format!("SELECT * FROM ids {point}")).await.unwrap();
    assert_eq!(row, node.ask(&format!("SELECT * FROM all_ids {point}")).await.unwrap());
    let node = node.restart().await;
    same(&node, "ids", by_id).await;
    same(&node, "parts", above).await;
    node.ask("ALTER MATERIALIZED VIEW ids SET (memory = '1 GB')").await.unwrap();
    for round in 0..3 {
        node.write(round..20_000).await;
        same(&node, "ids", by_id).await;
    }
    assert!(node.number(&bytes("ids")).await > small, "what is used comes back to memory");
}

/// A copy of a folder of folders of files.
fn copied(folder: &std::path::Path) -> tempfile::TempDir {
    let copy = tempfile::TempDir::new().unwrap();
    for inner in std::fs::read_dir(folder).unwrap() {
        let inner = inner.unwrap();
        std::fs::create_dir(copy.path().join(inner.file_name())).unwrap();
        for file in std::fs::read_dir(inner.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(inner.file_name()).join(file.file_name())).unwrap();
        }
    }
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn views_stand_on_views_and_join_streams() {
    let node = Node::start().await;
    node.create_s(2).await;
    node.write(0..40).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {BY_TENS}")).await.unwrap();
    let top = "SELECT tens, total FROM tens ORDER BY total DESC, tens LIMIT 2";
    node.ask(&format!("CREATE MATERIALIZED VIEW top AS {top}")).await.unwrap();
    let joined = "SELECT s.id, t.n FROM s JOIN tens t ON s.id / 10 = t.tens WHERE t.n > 5";
    node.ask(&format!("CREATE MATERIALIZED VIEW joined AS {joined}")).await.unwrap();
    for round in 0..4 {
        node.write(40 + round * 7..47 + round * 7).await;
        same(&node, "tens", BY_TENS).await;
        same(&node, "top", top).await;
        same(&node, "joined", joined).await;
    }
    let node = node.restart().await;
    same(&node, "joined", joined).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_looked_up_and_other_filters_scan() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..100).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {BY_TENS}")).await.unwrap();
    assert_eq!(node.number("SELECT total FROM tens WHERE tens = 3").await, 345);
    assert_eq!(node.number("SELECT count(*) FROM tens WHERE tens = 77").await, 0);
    assert_eq!(node.number("SELECT count(*) FROM tens WHERE tens = 3 AND n = 11").await, 0);
    assert_eq!(node.number("SELECT count(*) FROM tens WHERE total > 400").await, 6);
    assert_eq!(node.number("SELECT a.total + b.total FROM tens a, tens b WHERE a.tens = 3 AND b.tens = 0").await, 390);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_view_stays_and_a_resumed_one_catches_up() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..20).await;
    node.ask("CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM s").await.unwrap();
    node.ask("ALTER MATERIALIZED VIEW n SUSPEND").await.unwrap();
    node.write(20..30).await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT n FROM n").await, 20);
    let node = node.restart().await;
    let suspended = "SELECT count(*) FROM system.views WHERE status = 'suspended'";
    while node.number(suspended).await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.number("SELECT n FROM n").await, 20);
    node.ask("ALTER MATERIALIZED VIEW n RESUME").await.unwrap();
    node.write(30..40).await;
    let status = "SELECT count(*) FROM system.views WHERE status = 'running'";
    while node.number(status).await == 0 {
        tokio::task::yield_now().await;
    }
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT n FROM n").await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_takes_the_place_and_dependents_follow_it() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..20).await;
    node.ask("CREATE MATERIALIZED VIEW a AS SELECT id % 2 AS k, count(*) AS n FROM s GROUP BY id % 2").await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW above AS SELECT sum(n) AS n FROM a").await.unwrap();
    let query = "SELECT id % 2 AS k, count(*) * 10 AS n FROM s GROUP BY id % 2";
    node.ask(&format!("CREATE REPLACEMENT MATERIALIZED VIEW b FOR a AS {query}")).await.unwrap();
    node.ask("ALTER MATERIALIZED VIEW a APPLY REPLACEMENT b").await.unwrap();
    node.write(20..30).await;
    same(&node, "a", query).await;
    assert_eq!(node.number("SELECT n FROM above").await, 300);
    assert!(node.ask("SELECT * FROM b").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_read_is_not_dropped_without_cascade() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.ask("CREATE MATERIALIZED VIEW a AS SELECT count(*) AS n FROM s").await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW b AS SELECT n + 1 AS n FROM a").await.unwrap();
    assert!(node.ask("DROP MATERIALIZED VIEW a").await.unwrap_err().to_string().contains("b"));
    assert!(node.ask("DROP STREAM s").await.is_err());
    assert_eq!(node.ask("DROP STREAM s CASCADE").await.unwrap(), "DROP STREAM");
    assert_eq!(node.number("SELECT count(*) FROM system.views").await, 0);
    node.create_s(1).await;
    node.ask("CREATE MATERIALIZED VIEW a AS SELECT count(*) AS n FROM s").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_computed_goes_to_quarantine() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..5).await;
    node.ask("CREATE MATERIALIZED VIEW inverse AS SELECT id, 100 / id AS i FROM s").await.unwrap();
    node.write(5..8).await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT count(*) FROM inverse").await, 7);
    let why = node.ask("SELECT stream, reason, original FROM system.quarantine").await.unwrap();
    assert!(why.contains("inverse") && why.contains("Divide by zero"), "{why}");
    let stopped = node.ask("CREATE MATERIALIZED VIEW strict AS SELECT 100 / id AS i FROM s ON ERROR STOP").await;
    assert!(stopped.unwrap_err().to_string().contains("ON ERROR STOP"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_refused_at_create() {
    let node = Node::start().await;
    node.create_s(1).await;
    for (query, part) in [
        ("SELECT id, now() AS t FROM s", "now()"),
        ("SELECT id, random() AS r FROM s", "random()"),
        ("SELECT id FROM s LIMIT 3", "ORDER BY"),
        ("SELECT sum(id) OVER (ORDER BY id) AS r FROM s", "PARTITION BY"),
        ("SELECT name FROM system.streams", "streams, tables and materialized views"),
        ("SELECT id, id FROM s", "AS"),
        ("SELECT nothing FROM s", "nothing"),
    ] {
        let refused = node.ask(&format!("CREATE MATERIALIZED VIEW v AS {query}")).await.unwrap_err().to_string();
        assert!(refused.contains(part), "{query}: {refused}");
    }
    assert_eq!(node.number("SELECT count(*) FROM system.views").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_kept_up_to_date() {
    let node = Node::start().await;
    node.create_s(1).await;
    let query = "SELECT window_start, count(*) AS n FROM \
                 TUMBLE((SELECT to_timestamp_micros(id * 10000000) AS t FROM s), t, INTERVAL '1' MINUTE) GROUP BY window_start";
    node.ask(&format!("CREATE MATERIALIZED VIEW minutes AS {query}")).await.unwrap();
    node.write(0..100).await;
    node.write(50..70).await;
    same(&node, "minutes", query).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_as_they_come() {
    use futures::StreamExt;
    use millstream_process::Outcome;

    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..4).await;
    node.ask("CREATE MATERIALIZED VIEW odd AS SELECT id % 2 AS odd, count(*) AS n FROM s GROUP BY id % 2")
        .await
        .unwrap();
    let told = node.engine.session().execute("SELECT * FROM odd EMIT CHANGES").await.unwrap();
    let Outcome::Rows { mut rows, .. } = told else { panic!("no rows") };
    let first = rows.next().await.unwrap().unwrap();
    assert_eq!(first.num_rows(), 2);
    assert_eq!(first.schema().field(0).name(), "_change");
    node.write(4..5).await;
    let changed = rows.next().await.unwrap().unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&[changed]).unwrap().to_string();
    assert!(text.contains("| delete  | 0   | 2 |") && text.contains("| insert  | 0   | 3 |"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn system_views_tells_how_fast_rows_come_and_how_far_behind_a_view_is() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {BY_TENS}")).await.unwrap();
    node.write(0..90).await;
    node.ask("FLUSH").await.unwrap();
    let of_view = |what: &str| format!("SELECT {what} FROM system.views");
    assert_eq!(node.number(&of_view("events_per_second")).await, 9, "90 rows in ten seconds");
    assert_eq!(node.number(&of_view("lag_ms + lag_rows")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_view_is_read_part_by_part() {
    let node = Node::start().await;
    node.create_s(1).await;
    for part in 0..8 {
        node.write(part * 20_000..(part + 1) * 20_000).await;
    }
    node.ask("CREATE MATERIALIZED VIEW ids AS SELECT id, count(*) AS n FROM s GROUP BY id").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT count(*) FROM ids").await, 160_000);
    assert_eq!(node.number("SELECT sum(id) FROM ids").await, 160_000 * 159_999 / 2);
    assert_eq!(node.number("SELECT count(*) FROM ids a JOIN ids b ON a.id = b.id + 1").await, 159_999);
    assert_eq!(node.number("SELECT count(*) FROM ids WHERE n = 1 AND id % 2 = 0").await, 80_000);
}
