//! Bad input costs what is bad and nothing else, with an error that names the place.

use std::io::Write;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::formats::gzip;
use crate::support::{Client, LOG_ONLY, Node, Setup, Table, block_on, poll, text};

/// A node with one stream, `strict`.
async fn strict_node(dir: &tempfile::TempDir, variables: &[(&str, &str)]) -> (Node, Client) {
    let mut setup = Setup::new(dir.path(), LOG_ONLY);
    for (name, value) in variables {
        setup = setup.with(name, *value);
    }
    let node = Node::start(setup).await;
    let client = node.client();
    client
        .sql(
            "CREATE STREAM strict (id BIGINT NOT NULL, small SMALLINT, name TEXT DEFAULT 'nobody', \
             CONSTRAINT positive CHECK (id > 0))",
        )
        .await;
    (node, client)
}

async fn quarantine(client: &Client) -> Table {
    client.sql("SELECT original, reason, stream FROM system.quarantine ORDER BY _offset").await
}

#[test]
fn one_bad_row_costs_one_row_and_its_error_names_line_and_field() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = strict_node(&dir, &[]).await;
        let lines: &[(&[u8], &str)] = &[
            (b"{\"id\":1}", ""),
            (b"{\"id\":2,", "invalid_value"),
            (b"{\"id\":\"three\"}", "invalid_value"),
            (b"{\"id\":4,\"small\":40000}", "numeric_value_out_of_range"),
            (b"{\"small\":5}", "not_null_violation"),
            (b"{\"id\":-6}", "check_violation"),
            (b"{\"id\":7,\"name\":\"\xff\xfe\"}", "invalid_encoding"),
            (b"{\"id\":8,\"small\":null,\"name\":null}", ""),
            (b"{\"id\":99999999999999999999}", "numeric_value_out_of_range"),
            (b"[1,2]", "invalid_value"),
        ];
        let body: Vec<u8> = lines.iter().flat_map(|(line, _)| [line, &b"\n"[..]].concat()).collect();
        let reply = client.ingest("strict", body, &[]).await.ok();
        assert_eq!((reply.count("accepted"), reply.count("quarantined")), (2, 8), "{}", reply.text());
        let errors = reply.body["errors"].as_array().expect("errors are listed");
        let expected: Vec<(u64, &str)> =
            lines.iter().zip(1..).filter(|((_, code), _)| !code.is_empty()).map(|((_, code), n)| (n, *code)).collect();
        let found: Vec<(u64, &str)> =
            errors.iter().map(|e| (e["line"].as_u64().unwrap_or(0), e["code"].as_str().unwrap_or(""))).collect();
        assert_eq!(found, expected, "{}", reply.text());
        for (line, field) in [(3, "id"), (4, "small"), (5, "id")] {
            let error = errors.iter().find(|e| e["line"] == line).expect("it is listed");
            assert_eq!(error["field"], field, "{error}");
        }
        let kept = quarantine(&client).await;
        assert_eq!(kept.rows.len(), 8, "{kept:?}");
        for ((line, _), row) in lines.iter().filter(|(_, code)| !code.is_empty()).zip(&kept.rows) {
            assert_eq!(text(&row[0]), String::from_utf8_lossy(line), "the original text is kept");
            assert!(!text(&row[1]).is_empty(), "a reason is kept");
        }
        let rows = client.sql("SELECT id, name FROM strict ORDER BY id").await.rows;
        let expected = serde_json::json!([[1, "nobody"], [8, null]]);
        assert_eq!(serde_json::Value::from_iter(rows), expected, "a default is for what is missing, not for NULL");
    });
}

#[test]
fn an_unknown_stream_a_bad_name_and_a_strange_format_are_refused_by_code() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = strict_node(&dir, &[]).await;
        client.ingest("nowhere", "{}", &[]).await.refused(404, "undefined_object");
        client.ingest("no%20where%2F..", "{}", &[]).await.refused(400, "invalid_name");
        let strange = [("content-type", "application/pdf")];
        client.ingest("strict", "%PDF", &strange).await.refused(415, "unsupported_media_type");
        let strange = [("content-encoding", "br")];
        client.ingest("strict", "{}", &strange).await.refused(415, "unsupported_media_type");
    });
}

#[test]
fn a_key_used_again_with_other_content_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = strict_node(&dir, &[]).await;
        let key = [("idempotency-key", "k1")];
        let first = client.ingest("strict", "{\"id\":1}\n{\"id\":0}\n", &key).await.ok();
        let again = client.ingest("strict", "{\"id\":1}\n{\"id\":0}\n", &key).await.ok();
        assert_eq!(again.body["duplicate"], true, "{}", again.text());
        for field in ["accepted", "quarantined", "offsets", "position"] {
            assert_eq!(again.body[field], first.body[field], "{field}");
        }
        client.ingest("strict", "{\"id\":2}\n", &key).await.refused(422, "idempotency_key_reused");
        assert_eq!(client.number("SELECT count(*) FROM strict").await, 1);
        assert_eq!(client.number("SELECT count(*) FROM system.quarantine").await, 1);
    });
}

#[test]
fn a_zip_bomb_is_refused_and_memory_stays_flat() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (node, client) = strict_node(&dir, &[("MILLSTREAM_INGEST_MAX_BODY", "16MiB")]).await;
        let before = node.resident_bytes();
        let mebibyte = vec![b' '; 1 << 20];
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..512 {
            bomb.write_all(&mebibyte).expect("memory takes it");
        }
        let bomb = bomb.finish().expect("memory takes it");
        let zstd_bomb =
            zstd::encode_all(std::io::Read::take(std::io::repeat(b'\n'), 512 << 20), 3).expect("it compresses");
        assert!(bomb.len() < 1 << 20 && zstd_bomb.len() < 1 << 20, "the bombs are small");
        client.ingest("strict", bomb, &[("content-encoding", "gzip")]).await.refused(413, "too_large");
        client.ingest("strict", zstd_bomb, &[("content-encoding", "zstd")]).await.refused(413, "too_large");
        let grown = node.resident_bytes().saturating_sub(before);
        assert!(grown < 128 << 20, "memory grew by {} MiB", grown >> 20);
        assert_eq!(client.number("SELECT count(*) FROM strict").await, 0);
    });
}

#[test]
fn damaged_compression_adds_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = strict_node(&dir, &[]).await;
        let rows: String = (1..2000).map(|id| format!("{{\"id\":{id}}}\n")).collect();
        let mut cut = gzip(rows.as_bytes());
        cut.truncate(cut.len() / 2);
        let reply = client.ingest("strict", cut, &[("content-encoding", "gzip")]).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert_eq!(client.number("SELECT count(*) FROM strict").await, 0);
    });
}

#[test]
fn a_huge_line_costs_itself_and_memory_stays_flat() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (node, client) = strict_node(&dir, &[("MILLSTREAM_INGEST_MAX_ROW", "1MiB")]).await;
        let huge = format!("{{\"id\":1}}\n{{\"id\":2,\"name\":\"{}\"}}\n{{\"id\":3}}\n", "x".repeat(2 << 20));
        let reply = client.ingest("strict", huge, &[]).await.ok();
        assert_eq!((reply.count("accepted"), reply.count("quarantined")), (2, 1), "{}", reply.text());
        assert_eq!(
            (&reply.body["errors"][0]["line"], &reply.body["errors"][0]["code"]),
            (&2.into(), &"too_large".into())
        );

        let before = node.resident_bytes();
        let mut endless = TcpStream::connect(node.http).await.expect("the node listens");
        let head = "POST /v1/streams/strict HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        endless.write_all(head.as_bytes()).await.expect("the head is taken");
        let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
        let mut sent = 0;
        while sent < 2048 && endless.write_all(&chunk).await.is_ok() {
            sent += 1;
        }
        let grown = node.resident_bytes().saturating_sub(before);
        assert!(sent < 2048, "a 2 GB line is cut short");
        assert!(grown < 256 << 20, "memory grew by {} MiB", grown >> 20);
        let mut reply = Vec::new();
        let _ = endless.read_to_end(&mut reply).await;
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 413"), "{reply}");
        assert_eq!(client.number("SELECT count(*) FROM strict").await, 2);
    });
}

#[test]
fn a_half_sent_body_adds_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (node, client) = strict_node(&dir, &[]).await;
        let mut half = TcpStream::connect(node.http).await.expect("the node listens");
        let request = "POST /v1/streams/strict HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
                       content-length: 1000\r\n\r\n{\"id\":1}\n{\"id\":2}\n{\"id\":3";
        half.write_all(request.as_bytes()).await.expect("half of it is taken");
        half.shutdown().await.expect("the connection closes");
        let mut reply = Vec::new();
        let _ = half.read_to_end(&mut reply).await;
        assert!(!String::from_utf8_lossy(&reply).starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply));
        client.ingest("strict", "{\"id\":10}\n", &[]).await.ok();
        poll("the node to answer", 10, || async { client.is_ready().await.then_some(()) }).await;
        assert_eq!(client.number("SELECT count(*) FROM strict").await, 1, "only the whole request counts");
    });
}

#[test]
fn unknown_fields_are_kept_when_the_stream_asks_and_counted_otherwise() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = strict_node(&dir, &[]).await;
        client.sql("CREATE STREAM keeping (id BIGINT) WITH (rest = true)").await;
        let body = "{\"id\":1,\"extra\":{\"a\":[1,2]},\"more\":null}\n{\"id\":2}\n";
        let counted = client.ingest("strict", body, &[]).await.ok();
        assert_eq!(counted.count("unknown_fields"), 2, "{}", counted.text());
        client.ingest("keeping", body, &[]).await.ok();
        let kept = client.sql("SELECT _rest FROM keeping WHERE id = 1").await;
        let kept: serde_json::Value = match kept.value() {
            serde_json::Value::String(s) => serde_json::from_str(s).expect("_rest is JSON"),
            other => other.clone(),
        };
        assert_eq!(kept, serde_json::json!({ "extra": { "a": [1, 2] }, "more": null }));
    });
}

#[test]
fn bad_sql_is_answered_with_its_code_and_place() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = strict_node(&dir, &[]).await;
        let syntax = client.statement("SELECT * FROM strict WHERE").await.refused(400, "syntax_error");
        assert!(syntax.body["message"].as_str().or(syntax.body["detail"].as_str()).is_some(), "{}", syntax.text());
        client.statement("SELECT * FROM nowhere").await.refused(404, "undefined_object");
        client.statement("SELECT missing FROM strict").await.refused(400, "undefined_column");
        client.statement("SELECT nofunction(1)").await.refused(400, "undefined_function");
        client.statement("SELECT 1/0").await.refused(400, "division_by_zero");
        client.statement("CREATE STREAM strict (id INT)").await.refused(409, "duplicate_object");
        client.statement("CREATE STREAM wrong (id INT, id INT)").await.refused(400, "duplicate_column");
        client.statement("CREATE STREAM wrong (id money)").await.refused(400, "feature_not_supported");
        client.statement("CREATE STREAM wrong ()").await.refused(400, "syntax_error");
        assert_eq!(client.number("SELECT 1").await, 1);
    });
}
