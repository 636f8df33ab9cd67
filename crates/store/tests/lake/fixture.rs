//! Owns what the lake's tests share: a small stream, its rows, and how a table is read back.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream;
use millstream_catalog::{Column, DataType, ObjectName, Positions, Stream, StreamId, StreamOptions};
use millstream_store::{Lake, LakeSnapshot, LakeTable, RowChanges, store_from_url};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use url::Url;
use uuid::Uuid;

use crate::servers::S3Server;

pub const ID: StreamId = StreamId(Uuid::from_u128(7));

pub fn stream_of(columns: Vec<Column>) -> Stream {
    Stream {
        id: ID,
        name: name(),
        columns,
        checks: vec![],
        watermark: None,
        partition_by: vec![],
        options: StreamOptions::default(),
        comment: None,
        version: 1,
        created_at_ms: 0,
        table: None,
    }
}

pub fn name() -> ObjectName {
    ObjectName::public("events").unwrap()
}

/// `id bigint, text text` and the hidden columns.
pub fn schema() -> SchemaRef {
    stream_of(vec![Column::new("id", DataType::BigInt).not_null(), Column::new("text", DataType::Text)]).full_schema()
}

/// A lake on a fresh store.
pub fn memory_lake() -> (Lake, Arc<dyn ObjectStore>) {
    let store = fresh_store();
    (lake_on(store.clone()), store)
}

/// A store of one's own: in memory or, with `MILLSTREAM_TEST_LAKE=s3`, a bucket on the tests' S3 server.
pub fn fresh_store() -> Arc<dyn ObjectStore> {
    if !on_s3() {
        return Arc::new(InMemory::new());
    }
    let server = S3Server::shared("the lake on S3").unwrap();
    store_from_url(&format!("s3://{}/", server.new_bucket()), &server.options()).unwrap().1
}

fn on_s3() -> bool {
    std::env::var("MILLSTREAM_TEST_LAKE").is_ok_and(|kind| kind == "s3")
}

/// The operations that tests let fail, one by one; a request to S3 takes milliseconds, so there not each is tried.
pub fn operations() -> impl Iterator<Item = u64> {
    (1..).step_by(if on_s3() { 9 } else { 1 })
}

/// How long a test waits for what hangs.
pub fn patience() -> Duration {
    Duration::from_millis(if on_s3() { 3_000 } else { 200 })
}

pub fn lake_on(store: Arc<dyn ObjectStore>) -> Lake {
    Lake::new(Url::parse("memory:///lake/").unwrap(), store)
}

/// The row at an offset is known from its place.
pub fn row_id(partition: u32, offset: u64) -> i64 {
    i64::from(partition) * 1_000_000 + offset as i64
}

pub fn text_of(id: i64) -> Option<String> {
    (id % 5 != 0).then(|| format!("text {id}"))
}

/// The rows between two positions, partition by partition, as the engine hands them over.
pub fn batches(schema: &SchemaRef, start: &Positions, end: &Positions) -> Vec<RecordBatch> {
    let mut all = Vec::new();
    for partition in 0..end.0.len() as u32 {
        let offsets: Vec<u64> = (start.get(partition)..end.get(partition)).collect();
        for chunk in offsets.chunks(7) {
            let ids: Vec<i64> = chunk.iter().map(|&o| row_id(partition, o)).collect();
            let columns: Vec<ArrayRef> = schema
                .fields()
                .iter()
                .map(|field| -> ArrayRef {
                    match field.name().as_str() {
                        "id" => Arc::new(Int64Array::from(ids.clone())),
                        "note" => Arc::new(StringArray::from(vec!["n"; chunk.len()])),
                        "text" => Arc::new(ids.iter().map(|&id| text_of(id)).collect::<StringArray>()),
                        "_partition" => Arc::new(Int32Array::from(vec![partition as i32; chunk.len()])),
                        "_offset" => Arc::new(chunk.iter().map(|&o| o as i64).collect::<Int64Array>()),
                        "_ingest_time" => {
                            Arc::new(TimestampMicrosecondArray::from(vec![1_000_000; chunk.len()]).with_timezone("UTC"))
                        }
                        _ => arrow::array::new_null_array(field.data_type(), chunk.len()),
                    }
                })
                .collect();
            all.push(RecordBatch::try_new(schema.clone(), columns).unwrap());
        }
    }
    all
}

pub fn stream_batches(schema: &SchemaRef, batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema.clone(), stream::iter(batches.into_iter().map(Ok))))
}

pub fn rows(start: &Positions, end: &Positions) -> SendableRecordBatchStream {
    let schema = schema();
    let batches = batches(&schema, start, end);
    stream_batches(&schema, batches)
}

pub fn at<const N: usize>(offsets: [u64; N]) -> Positions {
    Positions(offsets.to_vec())
}

/// Appends rows from where the table is up to `end`.
pub async fn append_to(table: &LakeTable, end: &Positions) -> Arc<LakeSnapshot> {
    let start = table.snapshot().positions.clone();
    table.append(&start, end, rows(&start, end)).await.unwrap()
}

pub fn session(table: &LakeTable, snapshot: &Arc<LakeSnapshot>) -> SessionContext {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    session.register_table("t", table.provider(snapshot).unwrap()).unwrap();
    session
}

pub async fn query(table: &LakeTable, sql: &str) -> Vec<RecordBatch> {
    session(table, &table.snapshot()).sql(sql).await.unwrap().collect().await.unwrap()
}

/// Every row's partition, offset and id, in order.
pub async fn places(table: &LakeTable) -> Vec<(i32, i64, i64)> {
    let found = query(table, "SELECT _partition, _offset, id FROM t ORDER BY 1, 2").await;
    let mut places = Vec::new();
    for batch in found {
        let partition = batch.column(0).as_primitive::<Int32Type>();
        let offset = batch.column(1).as_primitive::<Int64Type>();
        let id = batch.column(2).as_primitive::<Int64Type>();
        places.extend((0..batch.num_rows()).map(|i| (partition.value(i), offset.value(i), id.value(i))));
    }
    places
}

/// What a table at `end` must hold.
pub fn model(end: &Positions) -> Vec<(i32, i64, i64)> {
    (0..end.0.len() as u32).flat_map(|p| (0..end.get(p)).map(move |o| (p as i32, o as i64, row_id(p, o)))).collect()
}

pub async fn assert_is(table: &LakeTable, end: &Positions) {
    assert_eq!(places(table).await, model(end));
    let snapshot = table.snapshot();
    assert_eq!(snapshot.rows, end.total());
    assert!(snapshot.positions.covers(end) && end.covers(&snapshot.positions), "{:?}", snapshot.positions);
}

/// A table's rows with these numbers, as they come by a change.
pub fn numbered(numbers: std::ops::Range<u64>) -> SendableRecordBatchStream {
    let schema = schema();
    let batches = batches(&schema, &at([numbers.start]), &at([numbers.end]));
    stream_batches(&schema, batches)
}

/// A change that moves the log from `start` to `end` and does nothing else.
pub fn change(start: u64, end: u64) -> RowChanges {
    RowChanges {
        operation: "MERGE".into(),
        start: at([start]),
        end: at([end]),
        next_row: 0,
        come: None,
        staged: vec![],
        gone: Arc::default(),
    }
}

/// Checks that a table holds the rows with these numbers, and says so.
pub async fn assert_holds(table: &LakeTable, numbers: impl IntoIterator<Item = u64>) {
    let expected: Vec<_> = numbers.into_iter().map(|n| (0, n as i64, row_id(0, n))).collect();
    assert_eq!(places(table).await, expected);
    assert_eq!(table.snapshot().rows, expected.len() as u64);
}
