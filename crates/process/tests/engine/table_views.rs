//! Views over tables: an INSERT, UPDATE or DELETE corrects every view above, once, through merges and restarts.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use millstream_catalog::ObjectName;
use millstream_process::Rows;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::Node;

/// Views by name: over one table, over two, over a table and a stream, and over each other.
const VIEWS: [(&str, &str); 13] = [
    ("plain", "SELECT id, k, a * 2 AS a, b FROM t WHERE a > -10"),
    ("sums", "SELECT k, count(*) AS n, sum(a) AS a, avg(a) AS m, count(DISTINCT b) AS d FROM t GROUP BY k"),
    ("most", "SELECT k, max(a) AS most, min(b) AS b FROM t GROUP BY k HAVING count(*) > 1"),
    ("whole", "SELECT count(*) AS n, sum(a) AS a FROM t"),
    ("kinds", "SELECT DISTINCT k, b FROM t"),
    ("pairs", "SELECT t.id, u.id AS other, u.a FROM t JOIN u ON t.k = u.k AND t.a < u.a"),
    ("outer_pairs", "SELECT t.id, u.id AS other FROM t LEFT JOIN u ON t.k = u.k WHERE t.a IS NOT NULL"),
    ("fed", "SELECT s.id, t.b, t.id AS other FROM s JOIN t ON s.k = t.k"),
    ("unmet", "SELECT t.id FROM t WHERE NOT EXISTS (SELECT 1 FROM s WHERE s.k = t.k AND s.id > 3)"),
    (
        "first",
        "SELECT * FROM (SELECT id, k, row_number() OVER (PARTITION BY k ORDER BY a DESC NULLS LAST, id) AS n FROM t) WHERE n <= 2",
    ),
    ("top", "SELECT id, a FROM t ORDER BY a DESC NULLS LAST, id LIMIT 5"),
    ("hourly", "SELECT window_start, count(*) AS n FROM TUMBLE(u, at, INTERVAL '10' MINUTE) GROUP BY window_start"),
    ("above", "SELECT n, count(*) AS ks, sum(a) AS a FROM sums GROUP BY n"),
];

async fn start() -> Node {
    let node = Node::start().await;
    for sql in [
        "CREATE TABLE t (id BIGINT PRIMARY KEY, k INT, a INT, b TEXT)",
        "CREATE TABLE u (id BIGINT, k INT, a INT, at TIMESTAMP NOT NULL)",
        "CREATE STREAM s (id BIGINT, k BIGINT)",
    ] {
        node.ask(sql).await.unwrap();
    }
    node
}

async fn make_views(node: &Node, views: &[(&str, &str)]) {
    for (name, query) in views {
        node.ask(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await.unwrap();
    }
}

/// Each view equals its query.
async fn same(node: &Node, views: &[(&str, &str)], when: &str) {
    node.ask("FLUSH").await.unwrap();
    same_now(node, views, when).await;
}

async fn same_now(node: &Node, views: &[(&str, &str)], when: &str) {
    for (name, query) in views {
        for (one, other) in [
            (format!("SELECT * FROM {name}"), (*query).to_owned()),
            ((*query).to_owned(), format!("SELECT * FROM {name}")),
        ] {
            let sql = format!("SELECT count(*) FROM (({one}) EXCEPT ALL ({other})) d");
            let wrong = node.number(&sql).await;
            assert_eq!(
                wrong,
                0,
                "{when}: {name}: {sql}\n{}",
                node.ask("SELECT name, status, last_error FROM system.views").await.unwrap()
            );
        }
    }
}

fn row(random: &mut StdRng, id: i64, at: bool) -> String {
    let k = random.random_range(0..5);
    let a = if random.random_bool(0.1) { "NULL".to_owned() } else { random.random_range(-20..20).to_string() };
    match at {
        true => format!("({id}, {k}, {a}, TIMESTAMP '2026-01-01 00:{:02}:00')", random.random_range(0..60)),
        false => format!("({id}, {k}, {a}, 'b{}')", random.random_range(0..4)),
    }
}

/// A statement at random.
fn statement(random: &mut StdRng) -> String {
    let table = if random.random_bool(0.6) { "t" } else { "u" };
    let (modulus, rest) = (random.random_range(2..9), random.random_range(0..4));
    match random.random_range(0..6) {
        0..=2 => {
            let begin = random.random_range(0..1_000_000_000_i64);
            let rows: Vec<String> =
                (begin..begin + random.random_range(1..12)).map(|id| row(random, id, table == "u")).collect();
            format!("INSERT INTO {table} VALUES {}", rows.join(", "))
        }
        3 => format!("UPDATE {table} SET a = a + 1, k = (k + 1) % 5 WHERE id % {modulus} = {rest}"),
        4 => format!("UPDATE {table} SET a = {} WHERE k = {rest}", random.random_range(-5..5)),
        _ => format!("DELETE FROM {table} WHERE id % {modulus} = {rest}"),
    }
}

async fn feed(node: &Node, rows: &[(i64, i64)]) {
    let stream = node.engine.stream(&ObjectName::public("s").unwrap()).unwrap();
    let first = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let second = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let columns = vec![Arc::new(first) as _, Arc::new(second) as _];
    let batch = RecordBatch::try_new(stream.definition().schema(), columns).unwrap();
    let admitted = stream.admit(Rows { missing: vec![None; 2], batch }).unwrap();
    stream.append(admitted.batch, vec![], None).await.unwrap();
}

async fn merge(node: &Node, table: &str) {
    node.engine.tier(&ObjectName::public(table).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_tables_correct_every_view_above() {
    for seed in 0..2 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut node = start().await;
        for _ in 0..6 {
            node.ask(&statement(&mut random)).await.unwrap();
        }
        merge(&node, "t").await;
        node.ask(&statement(&mut random)).await.unwrap();
        make_views(&node, &VIEWS).await;
        same_now(&node, &VIEWS, "built").await;
        for round in 0..16 {
            for _ in 0..random.random_range(1..4) {
                node.ask(&statement(&mut random)).await.unwrap();
            }
            let rows: Vec<_> =
                (0..random.random_range(0..4)).map(|i| (round * 10 + i, random.random_range(0..5))).collect();
            feed(&node, &rows).await;
            match random.random_range(0..5) {
                0 => node = node.restart().await,
                1 => merge(&node, "t").await,
                2 => merge(&node, "u").await,
                _ => {}
            }
            same(&node, &VIEWS, &format!("seed {seed}, round {round}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_built_while_its_table_changes() {
    let node = Arc::new(start().await);
    let mut random = StdRng::seed_from_u64(7);
    node.ask("INSERT INTO t SELECT i, i % 5, i % 40 - 20, 'b' FROM generate_series(1, 20000) AS g(i)").await.unwrap();
    let writer = Arc::clone(&node);
    let writing = tokio::spawn(async move {
        for _ in 0..40 {
            writer.ask(&statement(&mut random)).await.unwrap();
        }
    });
    make_views(&node, &VIEWS).await;
    writing.await.unwrap();
    same(&node, &VIEWS, "behind the writer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_too_large_for_the_log_changes_views_at_once() {
    let node = start().await;
    let views = &VIEWS[1..4];
    make_views(&node, views).await;
    let big = "INSERT INTO t SELECT i, i % 5, i % 40 - 20, repeat('b', 400) FROM generate_series(1, 45000) AS g(i)";
    node.ask(big).await.unwrap();
    same(&node, views, "inserted").await;
    assert_eq!(node.number("SELECT n FROM whole").await, 45_000);
    node.ask("UPDATE t SET a = a + 1, b = b || 'c' WHERE id % 10 <> 0").await.unwrap();
    same(&node, views, "updated").await;
    merge(&node, "t").await;
    let node = node.restart().await;
    node.ask("DELETE FROM t WHERE id % 10 <> 0").await.unwrap();
    same(&node, views, "deleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_goes_on_from_its_checkpoint_over_a_table() {
    let node = start().await;
    node.ask("INSERT INTO t SELECT i, i % 5, i, 'b' FROM generate_series(1, 5000) AS g(i)").await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW sums AS SELECT k, sum(a) AS a FROM t GROUP BY k").await.unwrap();
    merge(&node, "t").await;
    let node = node.restart().await;
    node.ask("UPDATE t SET a = 0 WHERE id <= 10").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT sum(a) FROM sums").await, 5000 * 5001 / 2 - 55);
    assert_eq!(
        node.number("SELECT rows_in FROM system.views WHERE name = 'sums'").await,
        20,
        "the table was read again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_look_tables_up() {
    let node = start().await;
    node.ask("INSERT INTO t VALUES (1, 1, 10, 'one'), (2, 2, 20, 'two')").await.unwrap();
    feed(&node, &[(1, 1), (2, 3)]).await;
    let now = "FOR SYSTEM_TIME AS OF PROCTIME()";
    let query = format!("SELECT s.id, t.b FROM s LEFT JOIN t {now} ON s.k = t.k");
    node.ask(&format!("CREATE STREAM named AS {query}")).await.unwrap();
    node.ask("FLUSH").await.unwrap();
    node.ask("UPDATE t SET b = 'eins' WHERE id = 1").await.unwrap();
    node.ask("INSERT INTO t VALUES (3, 3, 30, 'drei')").await.unwrap();
    feed(&node, &[(3, 1), (4, 3)]).await;
    node.ask("FLUSH").await.unwrap();
    let node = node.restart().await;
    node.ask("DELETE FROM t WHERE id = 1").await.unwrap();
    feed(&node, &[(5, 1), (6, 3)]).await;
    node.ask("FLUSH").await.unwrap();
    let expected = "VALUES (1, 'one'), (2, NULL), (3, 'eins'), (4, 'drei'), (5, NULL), (6, 'drei')";
    for (one, other) in [("SELECT id, b FROM named", expected), (expected, "SELECT id, b FROM named")] {
        assert_eq!(
            node.number(&format!("SELECT count(*) FROM (({one}) EXCEPT ALL ({other})) d")).await,
            0,
            "{}",
            node.ask("SELECT * FROM named").await.unwrap()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_stand_on_a_table_is_refused() {
    let node = start().await;
    node.ask("CREATE STREAM e (k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)").await.unwrap();
    let refused = [
        (
            "CREATE STREAM x AS SELECT id FROM t WHERE a > 1",
            "stream x can only be given rows, and its query takes rows back that it gave, in \"Source: t (rows come and go)\"",
        ),
        (
            "CREATE STREAM x AS SELECT e.k, window_end, count(*) AS n FROM TUMBLE(e, ts, INTERVAL '1' HOUR) e JOIN t ON e.k = t.k GROUP BY e.k, window_end EMIT ON WINDOW CLOSE",
            "EMIT ON WINDOW CLOSE over t cannot be kept up to date incrementally: its rows come and go",
        ),
        (
            "CREATE MATERIALIZED VIEW x AS SELECT id, _ingest_time FROM t",
            "_ingest_time cannot be read by a view over table t",
        ),
    ];
    for (sql, expected) in refused {
        let error = node.ask(sql).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{sql}\n{error}");
    }
    let explained =
        node.ask("EXPLAIN CREATE MATERIALIZED VIEW x AS SELECT k, max(a) AS a FROM t GROUP BY k").await.unwrap();
    assert!(explained.contains("Source: t (rows come and go)") && explained.contains("Keyed: "), "{explained}");
}
