//! A stream that gains columns keeps its history.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_catalog::{Column, DataType};
use object_store::{ObjectStore, ObjectStoreExt};

use crate::fixture::*;

fn wider() -> SchemaRef {
    stream_of(vec![
        Column::new("id", DataType::BigInt).not_null(),
        Column::new("text", DataType::Text),
        Column::new("at", DataType::Timestamp),
        Column::new("note", DataType::Text).not_null(),
    ])
    .full_schema()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_column_is_null_in_older_files_and_hidden_columns_stay_last() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([5])).await;
    let before = table.snapshot();
    table.set_schema(wider()).await.unwrap();
    table.set_schema(wider()).await.unwrap();
    assert_eq!(table.snapshot().version, before.version + 1, "metadata only, and once");
    assert_eq!(table.snapshot().files, before.files);
    let (start, end) = (at([5]), at([8]));
    let wide = batches(&wider(), &start, &end);
    table.append(&start, &end, stream_batches(&wider(), wide)).await.unwrap();
    for table in [table.clone(), lake.open(&name(), ID, wider()).await.unwrap()] {
        assert_is(&table, &end).await;
        let provider = table.provider(&table.snapshot()).unwrap();
        let names: Vec<String> = provider.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["id", "text", "at", "note", "_partition", "_offset", "_ingest_time"]);
        let found = query(&table, "SELECT _offset FROM t WHERE note IS NULL").await;
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
        let found = query(&table, "SELECT _offset FROM t WHERE note = 'n'").await;
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    }
    assert_eq!(table.provider(&before).unwrap().schema().fields().len(), 5, "an older snapshot keeps its schema");
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_with_more_columns_adds_them() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([5])).await;
    let table = lake.open(&name(), ID, wider()).await.unwrap();
    assert_eq!(table.snapshot().version, 2);
    assert_is(&table, &at([5])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_another_type_is_refused() {
    let (lake, _) = memory_lake();
    lake.open(&name(), ID, schema()).await.unwrap();
    let other = stream_of(vec![Column::new("id", DataType::Text)]).full_schema();
    let error = lake.open(&name(), ID, other).await.unwrap_err().to_string();
    assert!(error.contains("\"id\"") && error.contains("long") && error.contains("string"), "{error}");
}

/// Gives the table's one file a deletion vector, a roaring bitmap in base 85: rows 3, 4, 7, 11, 18 and 29 are gone.
/// What was there goes before or behind what comes: writers differ, Spark's puts it behind.
async fn delete_six_rows(store: &dyn ObjectStore, version: u64, remove_first: bool) {
    let log = "lake/public/events/_delta_log";
    let commit = store.get(&format!("{log}/{version:020}.json").into()).await.unwrap().bytes().await.unwrap();
    let lines = std::str::from_utf8(&commit).unwrap().lines();
    let actions: Vec<serde_json::Value> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
    let mut add = actions.iter().find(|a| a["add"].is_object()).unwrap().clone();
    let remove = serde_json::json!({"remove": {
        "path": add["add"]["path"], "dataChange": true, "deletionTimestamp": 1, "extendedFileMetadata": false,
    }});
    add["add"]["deletionVector"] = serde_json::json!({
        "storageType": "i", "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        "sizeInBytes": 44, "cardinality": 6,
    });
    let protocol = serde_json::json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"],
    }});
    let (one, other) = if remove_first { (remove, add) } else { (add, remove) };
    let text = [protocol, one, other].map(|a| a.to_string()).join("\n");
    store.put(&format!("{log}/{:020}.json", version + 1).into(), text.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_others_deleted_with_a_deletion_vector_are_gone() {
    six_deleted_rows_are_gone(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_a_commit_have_no_order() {
    six_deleted_rows_are_gone(false).await;
}

async fn six_deleted_rows_are_gone(remove_first: bool) {
    let (lake, store) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([30])).await;
    delete_six_rows(&store, 1, remove_first).await;
    append_to(&table, &at([35])).await;
    assert_eq!(table.snapshot().rows, 29);
    table.maintain(std::time::Duration::ZERO, chrono::Utc::now().timestamp_millis()).await.unwrap();
    for table in [table, lake.open(&name(), ID, schema()).await.unwrap()] {
        let offsets: Vec<i64> = places(&table).await.into_iter().map(|(_, offset, _)| offset).collect();
        let left: Vec<i64> = (0..35).filter(|o| ![3, 4, 7, 11, 18, 29].contains(o)).collect();
        assert_eq!(offsets, left);
        let found = query(&table, "SELECT text FROM t WHERE _offset = 8 AND text = 'text 8'").await;
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    }
}
