//! Owns the streams of the crash test that queries write: each row once, whatever was cut short.

use crate::STREAM;
use crate::support::Client;

/// Names, queries, and what the queries come to over the main stream, `{s}`.
const STREAMS: &[(&str, &str, &str)] = &[
    (
        "d_filtered",
        "SELECT writer, seq, upper(note) AS note FROM {s} WHERE shard < 5",
        "SELECT writer, seq, upper(note) AS note FROM {s} WHERE shard < 5",
    ),
    (
        "d_above",
        "SELECT writer, seq * 2 AS twice FROM d_filtered WHERE seq % 3 = 0",
        "SELECT writer, seq * 2 AS twice FROM {s} WHERE shard < 5 AND seq % 3 = 0",
    ),
    (
        "d_inverse",
        "SELECT writer, seq, 10 / (seq % 50) AS i FROM {s} WHERE seq % 2 = 0",
        "SELECT writer, seq, 10 / (seq % 50) AS i FROM {s} WHERE seq % 2 = 0 AND seq % 50 <> 0",
    ),
];

/// Makes the streams, and a view over the topmost.
pub async fn create(client: &Client) {
    for (name, query, _) in STREAMS {
        client.sql(&format!("CREATE STREAM {name} AS {}", query.replace("{s}", STREAM))).await;
    }
    client
        .sql("CREATE MATERIALIZED VIEW v_over_derived AS SELECT writer, sum(twice) AS n FROM d_above GROUP BY writer")
        .await;
}

/// Waits until the streams have taken in everything, and compares each with its query; nobody writes meanwhile. Rows that
/// the last one cannot compute are in quarantine, each once.
pub async fn check(client: &Client) {
    client.sql("FLUSH").await;
    for (name, _, query) in STREAMS {
        same(client, &format!("SELECT * FROM {name}"), &query.replace("{s}", STREAM)).await;
    }
    let total =
        format!("SELECT writer, sum(seq * 2) AS n FROM {STREAM} WHERE shard < 5 AND seq % 3 = 0 GROUP BY writer");
    same(client, "SELECT * FROM v_over_derived", &total).await;
    let set_aside = client.number("SELECT count(*) FROM system.quarantine WHERE stream = 'd_inverse'").await;
    let failing = client.number(&format!("SELECT count(*) FROM {STREAM} WHERE seq % 50 = 0")).await;
    assert_eq!(set_aside, failing, "rows that d_inverse cannot compute, in quarantine and in the stream");
}

async fn same(client: &Client, kept: &str, query: &str) {
    for (one, other) in [(kept, query), (query, kept)] {
        let sql = format!("SELECT count(*) FROM (({one}) EXCEPT ALL ({other})) d");
        assert_eq!(client.number(&sql).await, 0, "rows too many or too few: {sql}");
    }
}
