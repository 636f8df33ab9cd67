//! Owns the views of the crash test: one of each kind of node, each equal to its query after every restart.

use std::time::{Duration, Instant};

use crate::STREAM;
use crate::support::Client;

/// How long the views may take to take in everything.
const PATIENCE: Duration = Duration::from_secs(40);

/// Names and queries; `{s}` is the stream.
const VIEWS: &[(&str, &str)] = &[
    ("v_linear", "SELECT writer, seq, upper(note) AS note FROM {s} WHERE seq % 7 = 0"),
    ("v_total", "SELECT count(*) AS n, sum(seq) AS total, max(seq) AS newest FROM {s}"),
    ("v_groups", "SELECT writer, shard, count(*) AS n, avg(seq) AS mean FROM {s} GROUP BY writer, shard"),
    ("v_distinct", "SELECT DISTINCT shard, writer FROM {s}"),
    ("v_count_distinct", "SELECT shard, count(DISTINCT seq) AS n FROM {s} GROUP BY shard"),
    (
        "v_join",
        "SELECT a.writer, a.seq FROM {s} a JOIN {s} b ON a.seq = b.seq AND a.writer = b.writer + 1 WHERE a.seq % 5 = 0",
    ),
    (
        "v_outer",
        "SELECT a.seq, b.writer FROM (SELECT seq FROM {s} WHERE writer = 0) a \
         LEFT JOIN (SELECT seq, writer FROM {s} WHERE writer = 1) b ON a.seq = b.seq",
    ),
    (
        "v_newest",
        "SELECT writer, seq FROM (SELECT writer, seq, row_number() OVER (PARTITION BY writer ORDER BY seq DESC) AS n \
         FROM {s}) q WHERE n <= 3",
    ),
    ("v_top", "SELECT writer, seq FROM {s} ORDER BY seq DESC, writer LIMIT 5"),
    ("v_above", "SELECT n, count(*) AS groups FROM v_groups GROUP BY n"),
];

/// Makes the views.
pub async fn create(client: &Client) {
    for (name, query) in VIEWS {
        client.sql(&format!("CREATE MATERIALIZED VIEW {name} AS {}", query.replace("{s}", STREAM))).await;
    }
}

/// Waits until the views have taken in everything, and compares each with its query. Nobody writes meanwhile.
pub async fn check(client: &Client) {
    let behind =
        "SELECT name, status, lag_rows, last_error FROM system.views WHERE status <> 'running' OR lag_rows > 0";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = client.sql(behind).await.rows;
        if rows.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "views that do not take in everything: {rows:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (name, query) in VIEWS {
        let (query, kept) = (query.replace("{s}", STREAM), format!("SELECT * FROM {name}"));
        for (one, other) in [(&kept, &query), (&query, &kept)] {
            let sql = format!("SELECT count(*) FROM (({one}) EXCEPT ALL ({other})) d");
            assert_eq!(client.number(&sql).await, 0, "view {name} is not what its query gives: {sql}");
        }
    }
}
