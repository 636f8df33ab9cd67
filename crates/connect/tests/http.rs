//! The HTTP door over a real engine: what each request gets, and that nothing is stored when it gets an error.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures::StreamExt;
use millstream_buffer::SystemClock;
use millstream_catalog::{Catalog, Column, DataType, MemoryCatalog, ObjectName, Stream, StreamId, StreamOptions};
use millstream_connect::{Limits, router};
use millstream_process::{Engine, EngineOptions, FileAccess, LogEngine};
use object_store::local::LocalFileSystem;
use serde_json::{Value, json};
use tower::ServiceExt;
use url::Url;

/// An open engine with one stream `s (id bigint not null, name text)` and the door to it.
struct Node {
    router: Router,
    engine: Engine,
    _data: tempfile::TempDir,
}

fn stream() -> Stream {
    Stream {
        id: StreamId(uuid::Uuid::from_u128(1)),
        name: ObjectName::public("s").unwrap(),
        columns: vec![Column::new("id", DataType::BigInt).not_null(), Column::new("name", DataType::Text)],
        checks: Vec::new(),
        watermark: None,
        partition_by: Vec::new(),
        options: StreamOptions::default(),
        comment: None,
        version: 1,
        created_at_ms: 0,
        table: None,
    }
}

async fn node(limits: Limits) -> Node {
    let data = tempfile::tempdir().unwrap();
    let store_dir = data.path().join("store");
    std::fs::create_dir_all(&store_dir).unwrap();
    let catalog = Arc::new(MemoryCatalog::new());
    catalog.create_stream(&stream()).await.unwrap();
    let engine = Engine::open(EngineOptions {
        data_dir: data.path().to_owned(),
        catalog,
        store_url: Url::from_directory_path(&store_dir).unwrap(),
        store: Arc::new(LocalFileSystem::new_with_prefix(&store_dir).unwrap()),
        log_engine: LogEngine::Memory,
        clock: Arc::new(SystemClock),
        query_memory_bytes: 64 << 20,
        view_memory_bytes: 256 << 20,
        statement_timeout: Duration::from_secs(30),
        max_queries: 4,
        ingest_queue_bytes: 64 << 20,
        log_memory_bytes: 64 << 20,
        tier_bytes: 1 << 40,
        tier_age: Duration::from_secs(86_400),
        maintenance_interval: Duration::from_secs(86_400),
        vacuum_retention: Duration::from_secs(86_400),
        files: FileAccess::under("."),
    });
    let engine = engine.await.unwrap();
    Node { router: router(engine.clone(), limits), engine, _data: data }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Node {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn post(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.send(Method::POST, "/v1/streams/s", headers, body).await
    }

    async fn lines(&self, body: impl Into<Body>) -> Answer {
        self.post(&[("content-type", "application/x-ndjson")], body).await
    }

    /// The next row gets offset `rows`: so many are in the stream.
    async fn holds(&self, rows: u64) {
        let answer = self.lines("{\"id\":0}").await;
        assert_eq!(answer.body["offsets"][0]["start"], rows, "{}", answer.body);
    }
}

async fn plain() -> Node {
    node(Limits::default()).await
}

#[track_caller]
fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), &answer.body["code"]), (status, &json!(code)), "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn good_rows_are_stored_and_bad_ones_told_of_by_line() {
    let node = plain().await;
    let body = "{\"id\":1,\"x\":2}\n{\"id\":\"one\"}\n\n{\"name\":\"n\"}\n{\"id\":2}\n{\"id\":3";
    let answer = node.lines(body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let reply = &answer.body;
    assert_eq!((&reply["accepted"], &reply["quarantined"]), (&json!(2), &json!(3)));
    assert_eq!(reply["offsets"], json!([{"partition": 0, "start": 0, "end": 2}]));
    assert_eq!((&reply["position"], &reply["duplicate"]), (&json!("s:0-2"), &json!(false)));
    assert_eq!(reply["unknown_fields"], 1);
    let errors = reply["errors"].as_array().unwrap();
    let lines: Vec<_> = errors.iter().map(|e| e["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 4, 6]);
    assert_eq!((&errors[0]["column"], &errors[0]["field"]), (&json!(7), &json!("id")));
    assert_eq!(
        (&errors[0]["code"], &errors[0]["message"]),
        (&json!("invalid_value"), &json!("\"one\" is not a valid bigint"))
    );
    assert_eq!(errors[1]["code"], "not_null_violation");
    node.engine.shutdown().await;
}

#[tokio::test]
async fn a_request_of_bad_rows_alone_is_stored_in_quarantine() {
    let node = plain().await;
    let answer = node.lines("x\n".repeat(25)).await;
    assert_eq!((answer.status.as_u16(), &answer.body["quarantined"]), (200, &json!(25)));
    assert_eq!(answer.body["errors"].as_array().unwrap().len(), 10);
    node.holds(0).await;
    let empty = node.lines("").await;
    assert_eq!((empty.status.as_u16(), &empty.body["accepted"]), (200, &json!(0)));
}

#[tokio::test]
async fn every_format_and_compression_reaches_the_stream() {
    let node = plain().await;
    let ok = |answer: Answer, rows: u64| assert_eq!(answer.body["accepted"], rows, "{}", answer.body);
    ok(node.post(&[("content-type", "application/json")], "[{\"id\":1},{\"id\":2}]").await, 2);
    ok(node.post(&[("content-type", "application/json")], "{\"id\":3}").await, 1);
    ok(node.post(&[("content-type", "text/csv")], "name,id\nx,4\n").await, 1);
    ok(node.post(&[], "{\"id\":5}").await, 1);
    let ndjson = ("content-type", "application/x-ndjson");
    ok(node.post(&[ndjson, ("content-encoding", "gzip")], gzip(b"{\"id\":6}\n")).await, 1);
    let packed = zstd::encode_all(b"{\"id\":7}".as_slice(), 1).unwrap();
    ok(node.post(&[ndjson, ("content-encoding", "zstd")], packed).await, 1);
    let large: String = (0..50_000).map(|id| format!("{{\"id\":{id},\"name\":\"row {id}\"}}\n")).collect();
    ok(node.lines(large).await, 50_000);
    let ids = Arc::new(arrow::array::Int64Array::from(vec![1, 2]));
    let batch = arrow::array::RecordBatch::try_from_iter([("id", ids as _)]).unwrap();
    let mut ipc = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut ipc, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    ok(node.post(&[("content-type", "application/vnd.apache.arrow.stream")], ipc).await, 2);
    node.holds(50_009).await;
}

#[tokio::test]
async fn a_retry_with_its_key_adds_nothing_and_a_key_with_other_content_is_refused() {
    let node = plain().await;
    let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "k-1")];
    let body = "{\"id\":1}\nbad\n{\"id\":2}";
    let first = node.post(&headers, body).await;
    let again = node.post(&headers, body).await;
    assert_eq!((&first.body["duplicate"], &again.body["duplicate"]), (&json!(false), &json!(true)));
    for member in ["accepted", "quarantined", "offsets", "position"] {
        assert_eq!(first.body[member], again.body[member], "{member}");
    }
    problem(&node.post(&headers, "{\"id\":9}").await, 422, "idempotency_key_reused");
    let long = "x".repeat(256);
    problem(&node.post(&[("idempotency-key", &long)], "{\"id\":9}").await, 400, "invalid_request");
    node.holds(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_query_writes_takes_no_rows() {
    let node = plain().await;
    node.engine.session().execute("CREATE STREAM derived AS SELECT id FROM s").await.unwrap();
    let headers = [("content-type", "application/x-ndjson")];
    let answer = node.send(Method::POST, "/v1/streams/derived", &headers, "{\"id\":1}").await;
    problem(&answer, 400, "wrong_object_type");
    assert!(answer.body["hint"].as_str().unwrap().contains("SHOW CREATE STREAM derived"), "{}", answer.body);
}

#[tokio::test]
async fn requests_that_are_wrong_get_the_status_that_says_so() {
    let node = plain().await;
    let to = |path: &'static str| node.send(Method::POST, path, &[("content-type", "application/json")], "{}");
    problem(&to("/v1/streams/none").await, 404, "undefined_object");
    problem(&to("/v1/streams/a.b.c").await, 400, "invalid_name");
    problem(&to("/v1/streams/%2e%2e%2fx").await, 400, "invalid_name");
    problem(&to("/v1/streams/%ff").await, 400, "invalid_name");
    problem(&to("/v1/streams/system.quarantine").await, 403, "denied");
    let answer = node.post(&[("content-type", "application/x-www-form-urlencoded")], "{}").await;
    problem(&answer, 415, "unsupported_media_type");
    assert!(answer.body["hint"].as_str().unwrap().contains("application/x-ndjson"), "{}", answer.body);
    problem(&node.post(&[("content-encoding", "br")], "{}").await, 415, "unsupported_media_type");
    problem(&node.post(&[("content-type", "text/csv")], "a,b\n1,2").await, 400, "invalid_request");
    problem(
        &node.post(&[("content-type", "application/vnd.apache.arrow.stream")], "junk").await,
        400,
        "invalid_request",
    );
    problem(&node.post(&[("content-encoding", "gzip")], "not gzip").await, 400, "invalid_request");
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        let answer = node.send(method, "/v1/streams/s", &[], Body::empty()).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["allow"]), (405, &"POST".parse().unwrap()));
    }
    node.holds(0).await;
}

#[tokio::test]
async fn bodies_over_a_limit_get_413_and_leave_nothing() {
    let limits = Limits { body_bytes: 1000, decoded_bytes: 100_000, ..Limits::default() };
    let node = node(limits).await;
    let large = "{\"id\":1}\n".repeat(200);
    let chunks: Vec<Result<Bytes, std::io::Error>> =
        large.as_bytes().chunks(100).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    problem(&node.lines(Body::from_stream(futures::stream::iter(chunks))).await, 413, "too_large");
    let declared = node.post(&[("content-length", "1800")], large.clone()).await;
    problem(&declared, 413, "too_large");
    let rows = b"{\"id\":1}\n".repeat(100_000 / 9 + 1);
    let bomb = zstd::encode_all(rows.as_slice(), 3).unwrap();
    assert!(bomb.len() < 1000);
    problem(&node.post(&[("content-encoding", "zstd")], bomb).await, 413, "too_large");
    node.holds(0).await;
}

#[tokio::test]
async fn a_half_sent_body_leaves_nothing() {
    let node = plain().await;
    let sent = futures::stream::iter([
        Ok(Bytes::from_static(b"{\"id\":1}\n{\"id\":2}\n")),
        Err(std::io::Error::other("connection reset")),
    ]);
    let answer = node.lines(Body::from_stream(sent)).await;
    problem(&answer, 400, "invalid_request");
    assert_eq!(answer.headers["connection"], "close");
    node.holds(0).await;
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let node = node(Limits { body_idle: Duration::from_millis(20), ..Limits::default() }).await;
    let sent = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\"id\":1}\n"))])
        .chain(futures::stream::pending());
    problem(&node.lines(Body::from_stream(sent)).await, 400, "invalid_request");
}

#[tokio::test]
async fn bodies_beyond_the_memory_for_all_get_429_until_there_is_room() {
    let node = node(Limits { in_flight_bytes: 1000, requests: 2, ..Limits::default() }).await;
    let (hold, held) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
    hold.unbounded_send(Ok(Bytes::from(vec![b' '; 900]))).unwrap();
    let router = node.router.clone();
    let request = Request::post("/v1/streams/s").header("content-length", "900");
    let slow = tokio::spawn(router.oneshot(request.body(Body::from_stream(held)).unwrap()));
    // The slow request runs as soon as this one yields; it holds its 900 bytes until its body ends.
    while !node.lines(" ".repeat(200)).await.status.is_client_error() {
        tokio::task::yield_now().await;
    }
    let answer = node.lines(" ".repeat(200)).await;
    problem(&answer, 429, "too_busy");
    assert_eq!(answer.headers["retry-after"], "1");
    drop(hold);
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    assert_eq!(node.lines(" ".repeat(200)).await.status, 200);
}
