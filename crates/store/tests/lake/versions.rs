//! A table's earlier versions are read while their files are there, found by time, and listed.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use millstream_catalog::{Column, DataType};
use millstream_store::{Error, LakeOptions, LakeSnapshot, LakeTable, RowChanges};

use crate::fixture::*;

async fn numbers_of(table: &LakeTable, snapshot: &Arc<LakeSnapshot>) -> Vec<i64> {
    let found = session(table, snapshot).sql("SELECT _offset FROM t ORDER BY 1").await.unwrap();
    let found: Vec<RecordBatch> = found.collect().await.unwrap();
    found.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// Versions 1 to 5: ten rows each, of which each later version takes the first of the one before.
async fn table() -> LakeTable {
    table_with_checkpoints(100).await
}

async fn table_with_checkpoints(every: i64) -> LakeTable {
    let (lake, _) = memory_lake();
    let lake =
        lake.with_options(LakeOptions { compact_min_files: 100, checkpoint_every: every, ..LakeOptions::default() });
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for i in 0..5 {
        let gone = Arc::new(if i == 0 { Default::default() } else { [i * 10 - 10].into_iter().collect() });
        let come = Some(numbered(i * 10..i * 10 + 10));
        table.change(RowChanges { come, gone, ..change(i, i + 1) }).await.unwrap();
    }
    table
}

fn model(version: i64) -> Vec<i64> {
    (0..version * 10).filter(|n| n % 10 != 0 || *n >= (version - 1) * 10).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_read_as_it_was() {
    let table = table().await;
    for version in 0..=5 {
        let snapshot = table.snapshot_at(version).await.unwrap();
        assert_eq!((snapshot.version, snapshot.positions.get(0)), (version, version as u64));
        assert_eq!(numbers_of(&table, &snapshot).await, model(version));
    }
    for version in [-1, 6] {
        let error = table.snapshot_at(version).await.unwrap_err();
        assert!(matches!(error, Error::NoVersion { oldest: 0, newest: 5, .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_files_were_vacuumed_names_those_that_can_be_read() {
    let table = table().await;
    let held = table.snapshot_at(3).await.unwrap();
    let now_ms = chrono::Utc::now().timestamp_millis() + 1000;
    table.maintain(Duration::ZERO, now_ms).await.unwrap();
    assert_eq!(numbers_of(&table, &held).await, model(3), "what is read stays");
    let error = table.snapshot_at(2).await.unwrap_err();
    assert!(matches!(error, Error::NoVersion { oldest: 3, newest: 5, .. }), "{error}");
    drop(held);
    table.maintain(Duration::ZERO, now_ms + 1000).await.unwrap();
    let error = table.snapshot_at(3).await.unwrap_err().to_string();
    assert!(error.starts_with("version 3 of the Delta table at"), "{error}");
    assert!(error.ends_with("versions 5 to 5 can"), "{error}");
    assert_eq!(numbers_of(&table, &table.snapshot_at(5).await.unwrap()).await, model(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_finds_the_version_that_was_the_newest_then() {
    let table = table().await;
    let commits = table.history(None).await.unwrap();
    let at: Vec<i64> = commits.iter().rev().map(|c| c.timestamp_ms).collect();
    for time in at.iter().copied().chain([at[5] + 1_000_000]) {
        let expected = at.iter().rposition(|&t| t <= time).unwrap() as i64;
        assert_eq!(table.version_at(time).await.unwrap(), expected);
    }
    let error = table.version_at(at[0] - 1).await.unwrap_err();
    assert!(matches!(error, Error::NoVersion { oldest: 0, newest: 5, .. }), "{error}");
    assert!(error.to_string().starts_with("version as of 20"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_tells_what_each_commit_did() {
    let table = table().await;
    let commits = table.history(None).await.unwrap();
    let versions: Vec<i64> = commits.iter().map(|c| c.version).collect();
    assert_eq!(versions, [5, 4, 3, 2, 1, 0]);
    assert_eq!(commits[5].operation, "CREATE TABLE");
    assert_eq!((commits[5].rows_added, commits[5].rows_removed), (Some(0), Some(0)));
    assert_eq!((commits[0].rows_added, commits[0].rows_removed), (Some(10), Some(1)));
    assert_eq!((commits[0].files_added, commits[0].files_removed), (2, 1));
    assert_eq!(commits[0].metrics["numOutputRows"], "19");
    let two: Vec<i64> = table.history(Some(2)).await.unwrap().iter().map(|c| c.version).collect();
    assert_eq!(two, [5, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_has_the_columns_it_had() {
    let table = table().await;
    let wider = stream_of(vec![
        Column::new("id", DataType::BigInt).not_null(),
        Column::new("text", DataType::Text),
        Column::new("at", DataType::Time),
    ])
    .full_schema();
    table.set_schema(wider.clone()).await.unwrap();
    let columns = |snapshot: &Arc<LakeSnapshot>| {
        let schema = table.provider(snapshot).unwrap().schema();
        schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>()
    };
    assert_eq!(columns(&table.snapshot_at(5).await.unwrap()).len(), 5);
    table.change(RowChanges { gone: Arc::new([41].into_iter().collect()), ..change(5, 6) }).await.unwrap();
    let old = table.snapshot_at(6).await.unwrap();
    assert_eq!(columns(&old), columns(&table.snapshot()));
    assert_eq!(columns(&old)[2], ("at".to_owned(), DataType::Time.to_arrow()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cleaned_says_how_far_it_goes_back() {
    let table = table_with_checkpoints(3).await;
    let far = chrono::Utc::now().timestamp_millis() + 7_200_000;
    table.maintain(Duration::from_secs(3600), far).await.unwrap();
    table.change(RowChanges { come: Some(numbered(50..60)), ..change(5, 6) }).await.unwrap();
    let error = table.snapshot_at(1).await.unwrap_err();
    assert!(matches!(error, Error::NoVersion { oldest: 5, newest: 6, .. }), "{error}");
    assert_eq!(numbers_of(&table, &table.snapshot_at(5).await.unwrap()).await, model(5));
    assert!(!table.history(None).await.unwrap().is_empty());
}
