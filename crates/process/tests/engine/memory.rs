//! Statements over more rows than fit into memory end with the right answer.

use crate::harness::Node;

/// Rows of some 200 bytes that do not compress.
const ROWS: i64 = 1_000_000;
/// Memory of all queries together, a sixth of the rows' size.
const MEMORY: usize = 32 << 20;

async fn numbers(node: &Node, table: &str) -> (i64, i64, i64) {
    let of = async |what: &str| node.number(&format!("SELECT {what} FROM {table}")).await;
    (of("count(*)").await, of("sum(id)").await, of("sum(length(pad))").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_memory_is_copied_and_made() {
    let node = Node::with_query_memory(MEMORY).await;
    let pad = (0..6).map(|n| format!("md5(CAST(i * 7 + {n} AS TEXT))")).collect::<Vec<_>>().join(" || ");
    let rows = format!("SELECT i AS id, {pad} AS pad FROM generate_series(1, {ROWS}) AS g(i)");
    node.ask(&format!("COPY ({rows}) TO 'big.parquet'")).await.unwrap();
    node.ask("CREATE TABLE t (id BIGINT PRIMARY KEY, pad TEXT)").await.unwrap();
    assert_eq!(node.ask("COPY t FROM 'big.parquet'").await.unwrap(), format!("COPY {ROWS}"));
    let all = (ROWS, ROWS * (ROWS + 1) / 2, ROWS * 192);
    assert_eq!(numbers(&node, "t").await, all);
    node.ask("CREATE TABLE u AS SELECT id, upper(pad) AS pad FROM t").await.unwrap();
    assert_eq!(numbers(&node, "u").await, all);
    let node = node.restart().await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(numbers(&node, "t").await, all);
    assert_eq!(numbers(&node, "u").await, all);
}
