//! Owns the tests of each answer format: what values look like, and that results stream.

use std::io::Cursor;

use arrow::ipc::reader::StreamReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::fixture::Node;

/// A row of every kind of value.
const KINDS: &str = "SELECT \
    arrow_cast(1, 'Int16') AS small, 9007199254740993 AS big, CAST(12.50 AS DECIMAL(8, 2)) AS price, \
    CAST('NaN' AS DOUBLE) AS nan, 'say \"hi\", ok' AS text, '' AS empty, NULL AS missing, \
    arrow_cast('hello', 'Binary') AS raw, DATE '2013-01-31' AS day, TIMESTAMP '2013-01-31 05:15:00.25' AS at, \
    arrow_cast('2013-01-31T05:15:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))') AS instant, \
    INTERVAL '1 day 2 hours' AS span, make_array(1, NULL, 3) AS list, named_struct('a', 1, 'b', 'x') AS nested";

#[tokio::test(flavor = "multi_thread")]
async fn json_values_are_exact_and_nested() {
    let node = Node::start().await;
    let answer = node.sql(KINDS).await;
    let names: Vec<&str> = answer["columns"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "smallint",
            "bigint",
            "decimal(8,2)",
            "double precision",
            "text",
            "text",
            "text",
            "bytea",
            "date",
            "timestamp",
            "timestamptz",
            "interval",
            "bigint[]",
            "row(a bigint, b text)"
        ]
    );
    assert_eq!(
        answer["rows"][0],
        json!([
            1, 9_007_199_254_740_993_i64, "12.50", "NaN", "say \"hi\", ok", "", null, "\\x68656c6c6f", "2013-01-31",
            "2013-01-31T05:15:00.25", "2013-01-31T05:15:00Z", "P1DT2H", [1, null, 3], {"a": 1, "b": "x"}
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_is_an_object_per_line() {
    let node = Node::start().await;
    let sql = json!({"sql": "SELECT value, 'a' AS \"na\"\"me\" FROM generate_series(1, 3) ORDER BY 1"});
    let response = node.post("application/x-ndjson", sql).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    assert_eq!(
        text,
        "{\"value\":1,\"na\\\"me\":\"a\"}\n{\"value\":2,\"na\\\"me\":\"a\"}\n{\"value\":3,\"na\\\"me\":\"a\"}\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_tells_null_from_empty_text_and_quotes_what_needs_it() {
    let node = Node::start().await;
    let response = node.post("text/csv", json!({"sql": KINDS})).await;
    let text = response.text().await.unwrap();
    assert_eq!(
        text,
        "small,big,price,nan,text,empty,missing,raw,day,at,instant,span,list,nested\r\n\
         1,9007199254740993,12.50,NaN,\"say \"\"hi\"\", ok\",\"\",,\\x68656c6c6f,2013-01-31,2013-01-31T05:15:00.25,\
         2013-01-31T05:15:00Z,P1DT2H,\"[1,null,3]\",\"{\"\"a\"\":1,\"\"b\"\":\"\"x\"\"}\"\r\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_and_parquet_hold_every_row() {
    let node = Node::start().await;
    let sql = json!({"sql": "SELECT value AS v FROM generate_series(1, 300000)"});
    let arrow = node.post("application/vnd.apache.arrow.stream", sql.clone()).await.bytes().await.unwrap();
    let rows: usize =
        StreamReader::try_new(Cursor::new(arrow), None).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 300_000);
    let parquet = node.post("application/vnd.apache.parquet", sql).await.bytes().await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap();
    assert!(reader.metadata().num_row_groups() > 1, "the file was held whole");
    let rows: usize = reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 300_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_result_is_valid_in_every_format() {
    let node = Node::start().await;
    let sql = json!({"sql": "SELECT 1 AS a WHERE false"});
    let json: Value = node.post("application/json", sql.clone()).await.json().await.unwrap();
    assert_eq!(json["rows"], json!([]));
    assert_eq!(node.post("text/csv", sql.clone()).await.text().await.unwrap(), "a\r\n");
    assert_eq!(node.post("application/x-ndjson", sql.clone()).await.text().await.unwrap(), "");
    let arrow = node.post("application/vnd.apache.arrow.stream", sql.clone()).await.bytes().await.unwrap();
    assert_eq!(StreamReader::try_new(Cursor::new(arrow), None).unwrap().count(), 0);
    let parquet = node.post("application/vnd.apache.parquet", sql).await.bytes().await.unwrap();
    assert_eq!(ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap().metadata().file_metadata().num_rows(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_takes_intervals_as_text() {
    let node = Node::start().await;
    let sql = json!({"sql": "SELECT INTERVAL '1 day' AS span, 1 AS a"});
    let parquet = node.post("application/vnd.apache.parquet", sql).await.bytes().await.unwrap();
    let batch = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap().build().unwrap().next().unwrap().unwrap();
    let spans = arrow::array::AsArray::as_string::<i32>(batch.column(0));
    assert_eq!(spans.value(0), "P1D");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_holds_the_query_back() {
    let node = Node::start().await;
    for format in ["application/json", "text/csv", "application/vnd.apache.arrow.stream"] {
        let mut response = node.post(format, json!({"sql": "SELECT * FROM generate_series(1, 100000000000)"})).await;
        response.chunk().await.unwrap();
        let rows = node.rows_when_the_query_stands_still().await;
        assert!(rows < 3_000_000, "{rows} rows were made for a client that reads none, as {format}");
        drop(response);
        node.until_no_query_runs().await;
    }
}
