//! Owns the tests of changes over the wires: parameters, tags, rows that are returned, blocks that cannot be undone.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::fixture::Node;

const TABLE: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT DEFAULT 'none', n INT)";

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_change_tells_its_parameters_and_what_it_did() {
    let node = Node::start().await;
    node.sql(TABLE).await;
    let client = node.connect().await;
    let insert = client.prepare("INSERT INTO t (id, n) VALUES ($1, $2)").await.unwrap();
    assert_eq!(insert.params(), [Type::INT8, Type::INT4]);
    assert!(insert.columns().is_empty());
    for id in 0..5_i64 {
        assert_eq!(client.execute(&insert, &[&id, &1_i32]).await.unwrap(), 1);
    }
    let update = client.prepare("UPDATE t SET n = n + $1 WHERE id < $2 RETURNING id, n AS now").await.unwrap();
    assert_eq!(update.columns().iter().map(|c| c.name()).collect::<Vec<_>>(), ["id", "now"]);
    let mut rows: Vec<(i64, i32)> =
        client.query(&update, &[&5_i32, &2_i64]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    rows.sort_unstable();
    assert_eq!(rows, [(0, 6), (1, 6)]);
    assert_eq!(client.execute("DELETE FROM t WHERE n = 6", &[]).await.unwrap(), 2);
    let taken = client.execute(&insert, &[&3_i64, &1_i32]).await.unwrap_err();
    assert_eq!(taken.code(), Some(&SqlState::UNIQUE_VIOLATION));
    let answer = node.sql("INSERT INTO t (id) VALUES (10), (11)").await;
    assert_eq!(answer["status"], "INSERT 0 2", "{answer}");
    let answer = node.sql("DELETE FROM t WHERE id > 10 RETURNING id").await;
    assert_eq!(answer["rows"][0][0], 11, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_changed_something_is_committed_or_told_that_it_stays() {
    let node = Node::start().await;
    node.sql(TABLE).await;
    let client = node.connect().await;
    client.batch_execute("BEGIN; INSERT INTO t (id) VALUES (1); COMMIT").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO t (id) VALUES (2) RETURNING id").await.unwrap();
    let stays = client.batch_execute("ROLLBACK").await.unwrap_err();
    assert_eq!(stays.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    assert!(stays.as_db_error().unwrap().hint().is_some());
    client.batch_execute("BEGIN; SELECT 1; ROLLBACK").await.unwrap();
    client.batch_execute("BEGIN; DELETE FROM t WHERE id = 1; SELECT nothing").await.unwrap_err();
    let stays = client.batch_execute("COMMIT").await.unwrap_err();
    assert_eq!(stays.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    let left: i64 = client.query_one("SELECT min(id) FROM t", &[]).await.unwrap().get(0);
    assert_eq!(left, 2);
}
