//! COPY over the PostgreSQL wire: text, CSV and binary, in and out, and clients that give up.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};

use crate::fixture::Node;

async fn sent(node: &Node, copy: &str, text: &[u8]) -> Result<u64, tokio_postgres::Error> {
    let client = node.connect().await;
    let sink = client.copy_in(copy).await?;
    futures::pin_mut!(sink);
    // In pieces that end anywhere.
    for piece in text.chunks(7) {
        sink.send(Bytes::copy_from_slice(piece)).await?;
    }
    sink.finish().await
}

async fn taken(node: &Node, copy: &str) -> Vec<u8> {
    let client = node.connect().await;
    let stream = client.copy_out(copy).await.unwrap();
    futures::pin_mut!(stream);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_in_and_come_out_in_every_form() {
    let node = Node::start().await;
    node.sql("CREATE STREAM s (id BIGINT, name TEXT, at TIMESTAMPTZ, d DECIMAL(8,2), l INT[], u UUID, b BYTEA)").await;
    let text = "1\ta\\tb\t2026-11-21 05:06:07+00\t1.50\t{1,NULL}\t0b7b8a7e-0f0f-4c3c-9d4b-1c2d3e4f5a6b\t\\\\x00ff\n\
                2\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n";
    assert_eq!(sent(&node, "COPY s FROM STDIN", text.as_bytes()).await.unwrap(), 2);
    let out = taken(&node, "COPY (SELECT * FROM s ORDER BY id) TO STDOUT").await;
    assert_eq!(String::from_utf8(out).unwrap(), text);
    let csv = taken(&node, "COPY (SELECT id, name FROM s ORDER BY id) TO STDOUT (FORMAT csv, HEADER)").await;
    assert_eq!(String::from_utf8(csv).unwrap(), "id,name\n1,a\tb\n2,\n");
    let binary = taken(&node, "COPY (SELECT * FROM s ORDER BY id) TO STDOUT (FORMAT binary)").await;
    node.sql("CREATE STREAM r (id BIGINT, name TEXT, at TIMESTAMPTZ, d DECIMAL(8,2), l INT[], u UUID, b BYTEA)").await;
    assert_eq!(sent(&node, "COPY r FROM STDIN BINARY", &binary).await.unwrap(), 2);
    let out = taken(&node, "COPY (SELECT * FROM r ORDER BY id) TO STDOUT").await;
    assert_eq!(String::from_utf8(out).unwrap(), text);
    let csv = "name,id\n\"x, \"\"y\"\"\",3\n";
    assert_eq!(sent(&node, "COPY s FROM STDIN WITH (FORMAT csv, HEADER true)", csv.as_bytes()).await.unwrap(), 1);
    let out = taken(&node, "COPY (SELECT name FROM s WHERE id = 3) TO STDOUT (FORMAT csv, QUOTE '|')").await;
    assert_eq!(String::from_utf8(out).unwrap(), "\"x, \"\"y\"\"\"\n".replace("\"x, \"\"y\"\"\"", "|x, \"y\"|"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_told_and_the_connection_goes_on() {
    let node = Node::start().await;
    node.sql("CREATE STREAM s (id INT, name TEXT)").await;
    let client = node.connect().await;
    let error = sent(&node, "COPY s FROM STDIN", b"1\ta\nx\tb\n").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "22P02");
    assert!(error.message().contains("line 2") && error.message().contains("\"id\""), "{}", error.message());
    let mut broken = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]);
    broken.put_i16(3);
    let error = sent(&node, "COPY s FROM STDIN (FORMAT binary)", &broken).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "22P04");
    {
        // Dropped before its end: the client says that it failed.
        let sink = client.copy_in::<_, Bytes>("COPY s FROM STDIN").await.unwrap();
        futures::pin_mut!(sink);
        sink.send(Bytes::from_static(b"1\ta\n")).await.unwrap();
    }
    let rows = client.query_one("SELECT count(*) FROM s", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 0);
    assert_eq!(sent(&node, "COPY s FROM STDIN (ON_ERROR quarantine)", b"1\ta\nx\tb\n").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_says_where_copy_of_a_client_belongs() {
    let node = Node::start().await;
    node.sql("CREATE STREAM s (id INT)").await;
    for copy in ["COPY s FROM STDIN", "COPY s TO STDOUT"] {
        let answer = node.sql(copy).await;
        assert!(answer.to_string().contains("PostgreSQL wire"), "{answer}");
    }
}
