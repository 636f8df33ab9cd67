//! Staged files are read beside the table before their commit, and stay while they are needed.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use millstream_store::{LakeTable, RowChanges, StagedFile};
use object_store::ObjectStore;

use crate::fixture::*;

async fn data_files(store: &dyn ObjectStore) -> usize {
    let files = store.list(None).filter(|o| {
        let path = o.as_ref().unwrap().location.to_string();
        futures::future::ready(path.ends_with(".parquet") && !path.contains("_delta_log"))
    });
    files.count().await
}

async fn vacuum_all(table: &LakeTable) -> u64 {
    let now_ms = chrono::Utc::now().timestamp_millis() + 1000;
    table.maintain(Duration::ZERO, now_ms).await.unwrap().files_vacuumed
}

async fn count_and_sum(provider: Arc<dyn TableProvider>) -> (i64, Option<i64>) {
    let session = SessionContext::new();
    session.register_table("t", provider).unwrap();
    let found = session.sql("SELECT count(*), sum(_offset) FROM t").await.unwrap().collect().await.unwrap();
    let column = |i: usize| found[0].column(i).as_primitive::<Int64Type>().clone();
    (column(0).value(0), column(1).iter().next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn staged_rows_are_read_beside_the_table_and_by_nobody_else() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    table.change(RowChanges { come: Some(numbered(0..10)), ..change(0, 10) }).await.unwrap();
    let snapshot = table.snapshot();
    let staged = table.stage(numbered(10..20)).await.unwrap();
    assert_eq!((staged.len(), staged[0].rows(), staged[0].row_range()), (1, 10, Some((10, 19))));
    assert!(staged[0].bytes() > 0);
    assert_holds(&table, 0..10).await;
    assert_eq!(count_and_sum(table.provider_with_staged(&snapshot, &staged).unwrap()).await, (20, Some(190)));
    assert_eq!(count_and_sum(table.staged_provider(&staged).unwrap()).await, (10, Some(145)));
    assert_eq!(count_and_sum(table.staged_provider(&[]).unwrap()).await, (0, None));
    let after = table.change(RowChanges { staged: staged.clone(), ..change(10, 11) }).await.unwrap();
    assert_eq!(after.files, 2);
    assert_holds(&table, 0..20).await;
    let both = table.provider_with_staged(&after, &staged).unwrap();
    assert_eq!(count_and_sum(both).await, (20, Some(190)), "what the snapshot has is read once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_reads_its_staged_files() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    let staged = table.stage(numbered(0..7)).await.unwrap();
    assert_eq!(count_and_sum(table.provider_with_staged(&table.snapshot(), &staged).unwrap()).await, (7, Some(21)));
    assert!(table.stage(numbered(7..7)).await.unwrap().is_empty(), "no rows, no file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_stays_until_it_is_let_go_of() {
    let (lake, store) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    let staged = table.stage(numbered(0..10)).await.unwrap();
    assert_eq!(vacuum_all(&table).await, 0);
    let text = serde_json::to_string(&staged).unwrap();
    let reader = table.provider_with_staged(&table.snapshot(), &staged).unwrap();
    drop(staged);
    assert_eq!(vacuum_all(&table).await, 0, "a reader has it");
    // A start in which the log names the file.
    let again = lake.open(&name(), ID, schema()).await.unwrap();
    let named: Vec<StagedFile> = serde_json::from_str(&text).unwrap();
    let kept = again.keep_staged(&named);
    drop((reader, named));
    assert_eq!(vacuum_all(&again).await, 0);
    again.change(RowChanges { staged: kept.clone(), ..change(0, 1) }).await.unwrap();
    assert_holds(&again, 0..10).await;
    drop(kept);
    assert_eq!(vacuum_all(&again).await, 0, "now it is the table's");
    again.stage(numbered(10..20)).await.unwrap();
    assert_eq!((data_files(&store).await, vacuum_all(&again).await), (2, 1), "one that nobody names goes");
    assert_holds(&again, 0..10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_file_with_rows_that_went_is_written_again_without_them() {
    let (lake, store) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    let staged = table.stage(numbered(0..10)).await.unwrap();
    let untouched = table.stage(numbered(10..20)).await.unwrap();
    let path = untouched[0].path().to_owned();
    let gone = Arc::new([2, 3, 30].into_iter().collect());
    let staged: Vec<StagedFile> = staged.into_iter().chain(untouched).collect();
    table.change(RowChanges { staged, gone, ..change(0, 5) }).await.unwrap();
    assert_holds(&table, (0..2).chain(4..20)).await;
    let commit = &table.history(Some(1)).await.unwrap()[0];
    assert_eq!((commit.files_added, commit.files_removed, commit.rows_added), (2, 0, Some(18)));
    assert_eq!(vacuum_all(&table).await, 1);
    let names: Vec<String> = store.list(None).map(|o| o.unwrap().location.to_string()).collect().await;
    assert!(names.iter().any(|n| n.ends_with(&path)), "the other is taken in as it is");
}
