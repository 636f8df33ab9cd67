//! Every format and encoding that producers send gives the same rows.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;

use crate::support::{Client, LOG_ONLY, Node, Reply, Setup, block_on};

const NDJSON: &str = "{\"id\":1,\"name\":\"one\",\"price\":1.5}\n{\"id\":2,\"name\":null,\"price\":2}\n{\"id\":3,\"name\":\"drei\",\"price\":-0.25}\n";
const ARRAY: &str = r#"[{"id":1,"name":"one","price":1.5}, {"id":2,"price":2.0},
  {"name":"drei","price":-0.25,"id":3}]"#;
const CSV: &str = "name,id,price\none,1,1.5\n,2,2\n\"drei\",3,-0.25\n";

fn arrow_stream() -> Vec<u8> {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("name", Arc::new(StringArray::from(vec![Some("one"), None, Some("drei")]))),
        ("price", Arc::new(Float64Array::from(vec![1.5, 2.0, -0.25]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("the columns fit");
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).expect("a header is written");
    writer.write(&batch).and_then(|()| writer.finish()).expect("a batch is written");
    drop(writer);
    bytes
}

async fn expect_three_rows(client: &Client, stream: &str, reply: Reply) {
    let reply = reply.ok();
    assert_eq!((reply.count("accepted"), reply.count("quarantined")), (3, 0), "{stream}: {}", reply.text());
    assert_eq!(reply.body["duplicate"], false);
    assert_eq!(reply.body["position"], format!("{stream}:0-3"), "{}", reply.text());
    assert_eq!(reply.body["offsets"], serde_json::json!([{ "partition": 0, "start": 0, "end": 3 }]));
    let rows = client.sql(&format!("SELECT id, name, price FROM {stream} ORDER BY id")).await.rows;
    let expected = serde_json::json!([[1, "one", 1.5], [2, null, 2.0], [3, "drei", -0.25]]);
    assert_eq!(serde_json::Value::from_iter(rows), expected, "{stream}");
}

#[test]
fn every_format_gives_the_same_rows() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let node = Node::start(Setup::new(dir.path(), LOG_ONLY)).await;
        let client = node.client();
        let bodies: [(&str, &str, Vec<u8>); 4] = [
            ("ndjson", "application/x-ndjson", NDJSON.into()),
            ("json_array", "application/json", ARRAY.into()),
            ("csv", "text/csv", CSV.into()),
            ("arrow_stream", "application/vnd.apache.arrow.stream", arrow_stream()),
        ];
        for (name, content_type, body) in bodies {
            for encoding in ["identity", "gzip", "zstd"] {
                let stream = format!("{name}_{encoding}");
                client.sql(&format!("CREATE STREAM {stream} (id BIGINT NOT NULL, name TEXT, price DOUBLE)")).await;
                let body = match encoding {
                    "gzip" => gzip(&body),
                    "zstd" => zstd::encode_all(body.as_slice(), 3).expect("it compresses"),
                    _ => body.clone(),
                };
                let mut headers = vec![("content-type", content_type)];
                if encoding != "identity" {
                    headers.push(("content-encoding", encoding));
                }
                let reply = client.ingest(&stream, body, &headers).await;
                expect_three_rows(&client, &stream, reply).await;
            }
        }
    });
}

#[test]
fn a_single_json_object_is_a_row() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let node = Node::start(Setup::new(dir.path(), LOG_ONLY)).await;
        let client = node.client();
        client.sql("CREATE STREAM one (id BIGINT, at TIMESTAMPTZ)").await;
        let body = "{\n  \"id\": 7,\n  \"at\": \"2026-01-01T00:00:00Z\"\n}";
        let reply = client.ingest("one", body, &[("content-type", "application/json")]).await.ok();
        assert_eq!(reply.count("accepted"), 1, "{}", reply.text());
        assert_eq!(client.number("SELECT id FROM one").await, 7);
    });
}

#[test]
fn every_type_comes_in_and_goes_out() {
    let dir = tempfile::tempdir().expect("a folder");
    block_on(async {
        let node = Node::start(Setup::new(dir.path(), LOG_ONLY)).await;
        let client = node.client();
        client
            .sql(
                "CREATE STREAM kinds (b BOOLEAN, si SMALLINT, i INT, bi BIGINT, r REAL, d DOUBLE PRECISION, \
                 dec DECIMAL(12,3), t TEXT, day DATE, tm TIME, ts TIMESTAMP, tz TIMESTAMPTZ, u UUID, j JSON, \
                 list INT[], nested ROW(x INT, y TEXT))",
            )
            .await;
        let body = concat!(
            r#"{"b":true,"si":-32768,"i":2147483647,"bi":9007199254740993,"r":0.5,"d":1e300,"dec":123456789.125,"#,
            r#""t":"añ\u00e9\"","day":"2013-01-31","tm":"13:14:15.000001","ts":"2013-01-31T13:14:15","#,
            r#""tz":"2013-01-31T13:14:15-05:00","u":"2f6a1bd0-8f3e-4a52-9d2c-0123456789ab","j":{"k":[1,{"z":null}]},"#,
            r#""list":[1,null,3],"nested":{"x":1,"y":"why"}}"#,
            "\n"
        );
        let reply = client.ingest("kinds", body, &[]).await.ok();
        assert_eq!((reply.count("accepted"), reply.count("quarantined")), (1, 0), "{}", reply.text());
        let row = "SELECT count(*) FROM kinds WHERE b AND si = -32768 AND i = 2147483647 AND bi = 9007199254740993 \
                   AND r = 0.5 AND d = 1e300 AND dec = 123456789.125 AND t = 'añé\"' AND day = DATE '2013-01-31' \
                   AND ts = TIMESTAMP '2013-01-31 13:14:15' AND tz = TIMESTAMPTZ '2013-01-31 18:14:15+00' \
                   AND u = '2f6a1bd0-8f3e-4a52-9d2c-0123456789ab' AND list[3] = 3 AND nested['x'] = 1 \
                   AND tm = TIME '13:14:15.000001'";
        assert_eq!(client.number(row).await, 1, "{:?}", client.sql("SELECT * FROM kinds").await);
        let big = client.sql("SELECT bi FROM kinds").await;
        assert_eq!(crate::support::int(big.value()), 9_007_199_254_740_993, "a big integer keeps its last digit");
    });
}

pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("it compresses")
}
