//! Owns the tests of the PostgreSQL wire as a driver uses it: queries, errors, transactions, cancelling, leaving.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use millstream_serve::pg::PgLimits;
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::fixture::Node;

fn code(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("none", SqlState::code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_with_parameters_answers_rows() {
    let node = Node::start().await;
    let client = node.connect().await;
    let rows = client
        .query("SELECT column1, column2 FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c')) WHERE column1 >= $1", &[&2_i64])
        .await
        .unwrap();
    let rows: Vec<(i64, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [(2, "b"), (3, "c")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_query_runs_every_statement_and_stops_at_the_first_failure() {
    let node = Node::start().await;
    let client = node.connect().await;
    let messages = client.simple_query("CREATE STREAM a (x BIGINT); SELECT 1 AS one; SELECT 2 AS two").await.unwrap();
    let values: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    assert_eq!(values, ["1", "2"]);
    assert!(matches!(messages[0], SimpleQueryMessage::CommandComplete(0)));
    assert!(matches!(messages.last(), Some(SimpleQueryMessage::CommandComplete(1))));
    let error = client.simple_query("SELECT 1; SELECT nothing; CREATE STREAM b (x BIGINT)").await.unwrap_err();
    assert_eq!(code(&error), "42703");
    let missing = client.simple_query("SELECT * FROM b").await.unwrap_err();
    assert_eq!(code(&missing), "42P01");
    assert!(client.simple_query("").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_the_same_name_are_told_apart() {
    let node = Node::start().await;
    let client = node.connect().await;
    let row = client.query_one("SELECT 1, 1, count(*), count(*) FROM system.streams", &[]).await.unwrap();
    let names: Vec<_> = row.columns().iter().map(|column| column.name()).collect();
    assert_eq!(names, ["?column?", "?column?_2", "count", "count_2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_sqlstate_and_position() {
    let node = Node::start().await;
    let client = node.connect().await;
    for (sql, expected) in [
        ("SELEC 1", "42601"),
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT nothing FROM system.streams", "42703"),
        ("SELECT no_such_function(1)", "42883"),
        ("SELECT 1 / 0", "22012"),
        ("CREATE STREAM a (x NOSUCHTYPE)", "0A000"),
        ("DROP STREAM nowhere", "42P01"),
    ] {
        let error = client.simple_query(sql).await.unwrap_err();
        assert_eq!(code(&error), expected, "{sql}: {error:?}");
        let error = client.query(sql, &[]).await.unwrap_err();
        assert_eq!(code(&error), expected, "{sql}: {error:?}");
    }
    let error = client.simple_query("SELECT 1; SELECT é, nothing FROM system.streams").await.unwrap_err();
    let error = error.as_db_error().unwrap().clone();
    assert!(error.position().is_some(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_block_refuses_everything_until_it_ends() {
    let node = Node::start().await;
    let client = node.connect().await;
    client.simple_query("BEGIN").await.unwrap();
    client.simple_query("SELECT nothing").await.unwrap_err();
    assert_eq!(code(&client.simple_query("SELECT 1").await.unwrap_err()), "25P02");
    assert_eq!(code(&client.query("SELECT 1", &[]).await.unwrap_err()), "25P02");
    client.simple_query("ROLLBACK").await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
    let mut client = client;
    let transaction = client.transaction().await.unwrap();
    assert_eq!(transaction.query_one("SELECT 7::bigint", &[]).await.unwrap().get::<_, i64>(0), 7);
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_ends_the_statement_and_the_connection_goes_on() {
    let node = Node::start().await;
    let client = node.connect().await;
    let cancel = client.cancel_token();
    let query = client.simple_query("SELECT count(*) FROM generate_series(1, 100000000000)");
    pin_mut!(query);
    let cancelling = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            cancel.cancel_query(NoTls).await.unwrap();
        }
    };
    let ended = tokio::select! {
        result = &mut query => result,
        () = cancelling => unreachable!("cancels until the query ends"),
    };
    assert_eq!(code(&ended.unwrap_err()), "57014");
    client.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_its_query() {
    let node = Node::start().await;
    for sql in
        ["SELECT count(*) FROM generate_series(1, 100000000000)", "SELECT * FROM generate_series(1, 100000000000)"]
    {
        let config = format!("host=127.0.0.1 port={} user=a", node.pg.port());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let query = client.query_raw::<_, i64, _>(sql, []);
        let _ = tokio::time::timeout(Duration::from_millis(200), query).await;
        connection.abort();
        drop(client);
        node.until_no_query_runs().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_streams() {
    let node = Node::start().await;
    let client = node.connect().await;
    let rows = client.query_raw::<_, i64, _>("SELECT value FROM generate_series(1, 1000000)", []).await.unwrap();
    pin_mut!(rows);
    let (mut count, mut sum) = (0_u64, 0_i64);
    while let Some(row) = rows.next().await {
        count += 1;
        sum += row.unwrap().get::<_, i64>(0);
    }
    assert_eq!((count, sum), (1_000_000, 500_000_500_000));
    assert_eq!(rows.rows_affected(), Some(1_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_holds_the_query_back() {
    let node = Node::start().await;
    let client = node.connect().await;
    let sql = "SELECT value FROM generate_series(1, 100000000000)";
    let rows = client.query_raw::<_, i64, _>(sql, []).await.unwrap();
    pin_mut!(rows);
    rows.next().await.unwrap().unwrap();
    let made = node.rows_when_the_query_stands_still().await;
    assert!(made < 3_000_000, "{made} rows were made for a client that reads none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_timeout_is_a_setting() {
    let node = Node::start().await;
    let client = node.connect().await;
    client.simple_query("SET statement_timeout = '50ms'").await.unwrap();
    let error = client.simple_query("SELECT count(*) FROM generate_series(1, 100000000000)").await.unwrap_err();
    assert_eq!(code(&error), "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_told_so() {
    let node = Node::start_within(PgLimits { max_connections: 2, ..Default::default() }).await;
    let (one, _two) = (node.connect().await, node.connect().await);
    let error = node.try_connect().await.err().unwrap();
    assert_eq!(code(&error), "53300");
    drop(one);
    for _ in 0..200 {
        if node.try_connect().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the slot was not freed");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_lets_a_running_statement_end_and_dismisses_idle_clients() {
    let mut node = Node::start().await;
    let (idle, busy) = (node.connect().await, node.connect().await);
    let query = busy.query_one("SELECT count(*) FROM generate_series(1, 20000000)", &[]);
    pin_mut!(query);
    // The query is under way once it has been polled and nothing came back.
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut query).await.is_err());
    node.stop();
    assert_eq!(query.await.unwrap().get::<_, i64>(0), 20_000_000);
    (&mut node.pg_served).await.unwrap();
    assert!(idle.simple_query("SELECT 1").await.is_err());
    assert!(node.try_connect().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_startup_message_are_taken() {
    let node = Node::start().await;
    let config = format!(
        "host=127.0.0.1 port={} user=a application_name=suite options='-c statement_timeout=123ms'",
        node.pg.port()
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    for (setting, expected) in
        [("application_name", "suite"), ("statement_timeout", "123ms"), ("server_version", "16.6")]
    {
        let row = client.query_one(&format!("SHOW {setting}"), &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), expected);
    }
}
