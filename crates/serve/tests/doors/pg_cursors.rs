//! Owns the tests of cursors on the PostgreSQL wire: declared, fetched in parts, moved, closed.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::fixture::Node;

/// The first column of the rows of a statement.
async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

async fn refusal(client: &Client, sql: &str) -> SqlState {
    client.simple_query(sql).await.unwrap_err().code().cloned().unwrap()
}

const NUMBERS: &str = "SELECT value FROM generate_series(1, 10) ORDER BY value";

#[tokio::test]
async fn a_cursor_gives_its_rows_in_parts() {
    let node = Node::start().await;
    let client = node.connect().await;
    client.simple_query(&format!("BEGIN; DECLARE c NO SCROLL CURSOR FOR {NUMBERS}")).await.unwrap();
    assert_eq!(texts(&client, "FETCH c").await, ["1"]);
    assert_eq!(texts(&client, "FETCH FORWARD 2 FROM c").await, ["2", "3"]);
    assert!(texts(&client, "MOVE 2 IN c").await.is_empty());
    assert_eq!(texts(&client, "FETCH NEXT FROM \"c\"; FETCH RELATIVE 2 FROM c").await, ["6", "8"]);
    assert_eq!(texts(&client, "FETCH ABSOLUTE 9 FROM c").await, ["9"]);
    assert_eq!(texts(&client, "FETCH ALL FROM c").await, ["10"]);
    assert!(texts(&client, "FETCH ALL FROM c").await.is_empty());
    client.simple_query("CLOSE c").await.unwrap();
    assert_eq!(refusal(&client, "FETCH c").await, SqlState::INVALID_CURSOR_NAME);
    client.simple_query("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn a_cursor_ends_with_its_transaction_unless_it_is_held() {
    let node = Node::start().await;
    let client = node.connect().await;
    client.simple_query(&format!("BEGIN; DECLARE c CURSOR FOR {NUMBERS}")).await.unwrap();
    client.simple_query(&format!("DECLARE held CURSOR WITH HOLD FOR {NUMBERS}")).await.unwrap();
    client.simple_query("COMMIT").await.unwrap();
    assert_eq!(refusal(&client, "FETCH c").await, SqlState::INVALID_CURSOR_NAME);
    assert_eq!(texts(&client, "FETCH 2 FROM held").await, ["1", "2"]);
    client.simple_query(&format!("BEGIN; DECLARE undone CURSOR WITH HOLD FOR {NUMBERS}")).await.unwrap();
    client.simple_query("ROLLBACK").await.unwrap();
    assert_eq!(refusal(&client, "FETCH undone").await, SqlState::INVALID_CURSOR_NAME);
    assert_eq!(texts(&client, "FETCH 1 FROM held").await, ["3"]);
    client.simple_query("CLOSE ALL").await.unwrap();
    assert_eq!(refusal(&client, "FETCH held").await, SqlState::INVALID_CURSOR_NAME);
}

#[tokio::test]
async fn a_cursor_holds_its_running_query_and_not_its_result() {
    let node = Node::start().await;
    let client = node.connect().await;
    client.simple_query("BEGIN; DECLARE c CURSOR FOR SELECT value FROM generate_series(1, 100000000)").await.unwrap();
    assert_eq!(texts(&client, "FETCH 3 FROM c").await, ["1", "2", "3"]);
    let given = node.rows_when_the_query_stands_still().await;
    assert!(given < 1_000_000, "{given} rows were made for three");
    assert_eq!(texts(&client, "SELECT 7").await, ["7"], "other statements run beside it");
    client.simple_query("MOVE 200000 FROM c").await.unwrap();
    assert_eq!(texts(&client, "FETCH FROM c").await, ["200004"]);
}

#[tokio::test]
async fn what_a_cursor_cannot_do_has_its_sqlstate() {
    let node = Node::start().await;
    let client = node.connect().await;
    let declare = format!("DECLARE c CURSOR FOR {NUMBERS}");
    assert_eq!(refusal(&client, &declare).await, SqlState::NO_ACTIVE_SQL_TRANSACTION);
    let twice = format!("DECLARE held CURSOR WITH HOLD FOR {NUMBERS}");
    client.simple_query(&twice).await.unwrap();
    assert_eq!(refusal(&client, &twice).await, SqlState::DUPLICATE_CURSOR);
    assert_eq!(refusal(&client, "FETCH PRIOR FROM held").await, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert_eq!(texts(&client, "FETCH 1 FROM held").await, ["1"], "a refusal leaves it where it is");
    assert_eq!(refusal(&client, "CLOSE nowhere").await, SqlState::INVALID_CURSOR_NAME);
    assert_eq!(refusal(&client, "DECLARE d CURSOR WITH HOLD FOR DROP STREAM x").await, SqlState::SYNTAX_ERROR);
    let error = client.simple_query("DECLARE d CURSOR WITH HOLD FOR SELECT nope").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code(), &SqlState::UNDEFINED_COLUMN);
    assert_eq!(error.position(), Some(&tokio_postgres::error::ErrorPosition::Original(39)));
}

#[tokio::test]
async fn a_cursor_takes_parameters_and_gives_binary_rows() {
    let node = Node::start().await;
    let mut client = node.connect().await;
    let block = client.transaction().await.unwrap();
    let declare = "DECLARE c CURSOR FOR SELECT value FROM generate_series(1, 10) WHERE value > $1 ORDER BY value";
    block.execute(declare, &[&7_i64]).await.unwrap();
    let rows = block.query("FETCH 2 FROM c", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [8, 9]);
    let rows = block.query("FETCH ALL FROM c", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [10]);
    assert_eq!(block.execute("CLOSE c", &[]).await.unwrap(), 0);
    block.commit().await.unwrap();
}
