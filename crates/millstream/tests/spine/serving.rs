//! What comes out over HTTP: formats, parameters, positions to wait for, health, metrics and system tables.

use serde_json::json;

use crate::support::{Client, LOG_ONLY, Node, Setup, block_on, table};

async fn node_with_rows(dir: &tempfile::TempDir) -> (Node, Client) {
    let node = Node::start(Setup::new(dir.path(), LOG_ONLY)).await;
    let client = node.client();
    client.sql("CREATE STREAM served (id BIGINT NOT NULL, name TEXT)").await;
    client.ingest("served", "{\"id\":1,\"name\":\"a,\\\"b\\\"\"}\n{\"id\":2}\n", &[]).await.ok();
    (node, client)
}

#[test]
fn each_accepted_format_gives_the_same_rows() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = node_with_rows(&dir).await;
        let query = json!({ "sql": "SELECT id, name FROM served ORDER BY id" });
        let ask = |accept: &'static str| client.try_sql(query.clone(), accept);

        let reply = ask("application/json").await.expect("it answers").ok();
        let rows = table(&reply);
        assert_eq!(rows.columns, ["id", "name"]);
        assert_eq!(serde_json::Value::from_iter(rows.rows), json!([[1, "a,\"b\""], [2, null]]));
        assert_eq!(reply.body["columns"][0]["type"], "bigint", "{}", reply.text());

        let reply = ask("application/x-ndjson").await.expect("it answers").ok();
        let lines: Vec<serde_json::Value> =
            reply.text().lines().map(|l| serde_json::from_str(l).expect("a line is JSON")).collect();
        assert_eq!(lines[0], json!({ "id": 1, "name": "a,\"b\"" }));
        assert_eq!((lines.len(), &lines[1]["id"]), (2, &json!(2)));

        let reply = ask("text/csv").await.expect("it answers").ok();
        assert_eq!(reply.text().replace("\r\n", "\n"), "id,name\n1,\"a,\"\"b\"\"\"\n2,\n");

        let reply = ask("application/vnd.apache.arrow.stream").await.expect("it answers").ok();
        let batches = arrow::ipc::reader::StreamReader::try_new(reply.bytes.as_slice(), None).expect("it is Arrow");
        assert_eq!(batches.map(|b| b.expect("a batch").num_rows()).sum::<usize>(), 2);

        let reply = ask("application/vnd.apache.parquet").await.expect("it answers").ok();
        let bytes = bytes::Bytes::from(reply.bytes);
        let parquet = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes);
        let parquet = parquet.and_then(|b| b.build()).expect("it is Parquet");
        assert_eq!(parquet.map(|b| b.expect("a batch").num_rows()).sum::<usize>(), 2);

        ask("image/png").await.expect("it answers").refused(406, "not_acceptable");
    });
}

#[test]
fn parameters_take_their_types_from_the_query() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = node_with_rows(&dir).await;
        let body =
            json!({ "sql": "SELECT id FROM served WHERE id = $1 OR name = $2 ORDER BY id", "params": [2, "a,\"b\""] });
        let reply = client.try_sql(body, "application/json").await.expect("it answers").ok();
        assert_eq!(table(&reply).ints(), [[1], [2]]);
        let body = json!({ "sql": "SELECT id FROM served WHERE id = $1", "params": [] });
        let reply = client.try_sql(body, "application/json").await.expect("it answers");
        assert_eq!(reply.status, 400, "a parameter is missing: {}", reply.text());
    });
}

#[test]
fn a_query_after_a_position_sees_the_rows_before_it() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = node_with_rows(&dir).await;
        for id in 3..20 {
            let written = client.ingest("served", format!("{{\"id\":{id}}}"), &[]).await.ok();
            let body = json!({ "sql": "SELECT max(id) FROM served", "after": written.body["position"] });
            let reply = client.try_sql(body, "application/json").await.expect("it answers").ok();
            assert_eq!(table(&reply).ints(), [[id]]);
        }
        let body = json!({ "sql": "SELECT 1", "after": "not a token" });
        let reply = client.try_sql(body, "application/json").await.expect("it answers");
        assert_eq!(reply.status, 400, "{}", reply.text());
    });
}

#[test]
fn hidden_columns_are_there_by_name_only() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = node_with_rows(&dir).await;
        assert_eq!(client.sql("SELECT * FROM served").await.columns, ["id", "name"]);
        let named = "SELECT _partition, _offset, id FROM served WHERE _ingest_time > TIMESTAMPTZ '2020-01-01 00:00:00+00' \
                     ORDER BY _offset";
        assert_eq!(client.sql(named).await.ints(), [[0, 0, 1], [0, 1, 2]]);
    });
}

#[test]
fn health_metrics_and_system_tables_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let (_node, client) = node_with_rows(&dir).await;
        for path in ["/healthz", "/readyz"] {
            client.get(path).await.ok();
        }
        let metrics = client.get("/metrics").await.ok().text();
        assert!(metrics.lines().any(|l| l.starts_with("millstream_")), "{metrics}");
        for line in metrics.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let value = line.rsplit(' ').next().unwrap_or_default();
            assert!(value.parse::<f64>().is_ok(), "not a sample: {line}");
        }
        let streams = client.sql("SELECT rows, lag_rows FROM system.streams WHERE name = 'served'").await;
        assert_eq!(streams.ints(), [[2, 2]]);
        for name in ["quarantine", "queries", "jobs"] {
            assert!(client.number(&format!("SELECT count(*) FROM system.{name}")).await >= 0);
        }
    });
}
