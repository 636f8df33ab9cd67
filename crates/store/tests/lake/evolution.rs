//! A stream that gains columns keeps its history.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_catalog::{Column, DataType};

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
