//! Owns the tests of point reads over the PostgreSQL wire: rows of a view by its key, prepared once and run many times.

use futures::future::join_all;
use serde_json::json;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::fixture::Node;

/// A node with a view that counts and adds up what came for each of 20 words.
async fn node_with_words() -> Node {
    let node = Node::start().await;
    node.sql("CREATE STREAM s (id BIGINT, word TEXT, price DECIMAL(8,2))").await;
    let rows: Vec<_> = (0..100).map(|i| json!({"id": i, "word": format!("w{}", i % 20), "price": "1.25"})).collect();
    node.insert("s", json!(rows)).await;
    let made = node
        .sql("CREATE MATERIALIZED VIEW words AS SELECT word, count(*) AS n, sum(price) AS total, max(id) AS last FROM s GROUP BY word")
        .await;
    assert_eq!(made["status"], "CREATE MATERIALIZED VIEW", "{made}");
    node.sql("CREATE MATERIALIZED VIEW ids AS SELECT id, max(word) AS word, sum(price) AS total FROM s GROUP BY id")
        .await;
    node.sql("FLUSH").await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_point_read_is_run_again_and_again() {
    let node = node_with_words().await;
    let client = node.connect().await;
    let read = client.prepare("SELECT n, last, word FROM words WHERE word = $1").await.unwrap();
    assert_eq!(read.params(), [Type::TEXT]);
    for i in 0..60_i64 {
        let row = client.query_one(&read, &[&format!("w{}", i % 20)]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (5, 80 + i % 20));
        assert_eq!(row.get::<_, &str>(2), format!("w{}", i % 20));
    }
    assert!(client.query_opt(&read, &[&"nothing"]).await.unwrap().is_none());
    assert!(client.query_opt(&read, &[&None::<&str>]).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_other_types_are_read_as_the_keys() {
    let node = node_with_words().await;
    let client = node.connect().await;
    let sql = "SELECT word FROM ids WHERE id = $1";
    let declared = [(Type::INT2, 7_i16)];
    for (given, value) in declared {
        let read = client.prepare_typed(sql, &[given]).await.unwrap();
        assert_eq!(client.query_one(&read, &[&value]).await.unwrap().get::<_, &str>(0), "w7");
    }
    let read = client.prepare_typed(sql, &[Type::INT4]).await.unwrap();
    assert_eq!(client.query_one(&read, &[&7_i32]).await.unwrap().get::<_, &str>(0), "w7");
    let read = client.prepare_typed(sql, &[Type::TEXT]).await.unwrap();
    let wrong = client.query_one(&read, &[&"seven"]).await.unwrap_err();
    assert_eq!(wrong.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION), "{wrong}");
    let any = client.query("SELECT id FROM ids WHERE id = ANY($1)", &[&vec![3_i64, 5, 3, 5000]]).await.unwrap();
    assert_eq!(any.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [3, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_gives_point_reads_in_parts() {
    let node = node_with_words().await;
    let mut client = node.connect().await;
    let read = client.prepare("SELECT id FROM ids WHERE id IN (1, 2, $1)").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind(&read, &[&3_i64]).await.unwrap();
    let mut ids = vec![];
    loop {
        let rows = transaction.query_portal(&portal, 2).await.unwrap();
        if rows.is_empty() {
            break;
        }
        assert!(rows.len() <= 2);
        ids.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert_eq!(ids, [1, 2, 3]);
    let failed = transaction.query("SELECT nothing", &[]).await.unwrap_err();
    assert_eq!(failed.code(), Some(&SqlState::UNDEFINED_COLUMN));
    let refused = transaction.query(&read, &[&3_i64]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.unwrap();
    assert_eq!(client.query(&read, &[&3_i64]).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn simple_queries_of_one_row_are_answered_too() {
    let node = node_with_words().await;
    let client = node.connect().await;
    for _ in 0..3 {
        let messages = client.simple_query("SELECT n, total FROM words WHERE word = 'w3';").await.unwrap();
        let values = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some((row.get(0), row.get(1))),
            _ => None,
        });
        assert_eq!(values, Some((Some("5"), Some("6.25"))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_point_reads_outlive_the_views_replacement_and_not_its_end() {
    let node = node_with_words().await;
    let client = node.connect().await;
    let read = client.prepare("SELECT n FROM words WHERE word = $1").await.unwrap();
    assert_eq!(client.query_one(&read, &[&"w1"]).await.unwrap().get::<_, i64>(0), 5);
    let query = "SELECT word, count(*) + 100 AS n, sum(price) AS total, max(id) AS last FROM s GROUP BY word";
    node.sql(&format!("CREATE REPLACEMENT MATERIALIZED VIEW b FOR words AS {query}")).await;
    let applied = node.sql("ALTER MATERIALIZED VIEW words APPLY REPLACEMENT b").await;
    assert_eq!(applied["status"], "ALTER MATERIALIZED VIEW", "{applied}");
    assert_eq!(client.query_one(&read, &[&"w1"]).await.unwrap().get::<_, i64>(0), 105);
    node.sql("DROP MATERIALIZED VIEW words").await;
    let gone = client.query_one(&read, &[&"w1"]).await.unwrap_err();
    assert_eq!(gone.code(), Some(&SqlState::UNDEFINED_TABLE));
    node.sql("CREATE MATERIALIZED VIEW words AS SELECT word, max(word) AS n FROM s GROUP BY word").await;
    let changed = client.query_one(&read, &[&"w1"]).await.unwrap_err();
    assert_eq!(changed.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    let message = changed.as_db_error().map(tokio_postgres::error::DbError::message);
    assert_eq!(message, Some("cached plan must not change result type"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_read_while_rows_come() {
    let node = node_with_words().await;
    let clients = join_all((0..16).map(|_| node.connect())).await;
    let readers = clients.iter().enumerate().map(|(i, client)| async move {
        let read = client.prepare("SELECT n, total FROM words WHERE word = $1").await.unwrap();
        let word = format!("w{i}");
        let mut last = 0;
        while last < 25 {
            let row = client.query_one(&read, &[&word]).await.unwrap();
            let n: i64 = row.get(0);
            assert!(n >= last && n % 5 == 0, "{n} after {last}");
            last = n;
        }
    });
    let writer = async {
        for _ in 0..4 {
            let rows: Vec<_> =
                (0..100).map(|i| json!({"id": i, "word": format!("w{}", i % 20), "price": "1.00"})).collect();
            node.insert("s", json!(rows)).await;
        }
    };
    futures::join!(join_all(readers), writer);
}
