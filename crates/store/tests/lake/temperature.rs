//! Cold files: moved by one commit, read with the others, kept for clones, gone with the table.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use millstream_catalog::{ObjectName, StreamId};
use millstream_store::{Cooled, Lake, LakeTable, RowChanges, store_from_url};
use roaring::RoaringTreemap;
use tempfile::TempDir;
use uuid::Uuid;

use crate::fixture::*;

const CLONE: StreamId = StreamId(Uuid::from_u128(8));
/// After all rows of the tests came, and before now.
const LATER_MS: i64 = 2_000_000;

fn place(dir: &TempDir) -> String {
    format!("file://{}/cold/", dir.path().display())
}

fn files_in(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let paths = entries.map(|e| e.unwrap().path());
    paths
        .map(|p| if p.is_dir() { files_in(&p) } else { usize::from(p.extension().is_some_and(|e| e == "parquet")) })
        .sum()
}

fn cold_files(dir: &TempDir) -> usize {
    files_in(&dir.path().join("cold"))
}

fn name_of(n: &str) -> ObjectName {
    ObjectName::public(n).unwrap()
}

/// A table with rows 0 to 29 in three files.
async fn three_files(lake: &Lake) -> LakeTable {
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for i in 0..3 {
        let come = Some(numbered(i * 10..i * 10 + 10));
        table.change(RowChanges { come, next_row: i as i64 * 10 + 10, ..change(i, i + 1) }).await.unwrap();
    }
    table
}

fn gone(numbers: impl IntoIterator<Item = u64>) -> Arc<RoaringTreemap> {
    Arc::new(numbers.into_iter().collect())
}

async fn vacuum(table: &LakeTable) {
    table.vacuum(Duration::ZERO, Utc::now().timestamp_millis() + 5_000, false).await.unwrap();
}

/// What a table with cold files lives through, whatever its lake lies on.
async fn life(lake: Lake, dir: &TempDir) {
    let table = three_files(&lake).await;
    let before = table.snapshot();
    assert_eq!(table.cool(&place(dir), 0, 1).await.unwrap(), Cooled::default());
    assert_eq!(table.cool(&place(dir), LATER_MS, 1).await.unwrap(), Cooled { files: 3, bytes: before.bytes });
    assert_eq!(table.cool(&place(dir), LATER_MS, 1).await.unwrap(), Cooled::default());
    assert_eq!(table.snapshot().cold(ID).files, 3);
    assert_holds(&table, 0..30).await;
    assert_holds(&lake.open(&name(), ID, schema()).await.unwrap(), 0..30).await;
    drop(before);
    vacuum(&table).await;
    assert_holds(&table, 0..30).await;
    // Rows of cold files go; what is left is warm again.
    table.change(RowChanges { gone: gone([3]), ..change(3, 4) }).await.unwrap();
    assert_eq!(table.snapshot().cold(ID).files, 2);
    vacuum(&table).await;
    assert_eq!(cold_files(dir), 2);
    let left = (0..30).filter(|n| *n != 3);
    assert_holds(&table, left.clone()).await;
    // Neither care nor OPTIMIZE brings cold files back.
    table.optimize(None, 1).await.unwrap();
    table.optimize(Some(vec!["id".into()]), 1).await.unwrap();
    assert_eq!(table.snapshot().cold(ID).files, 2);
    // A clone reads them too, and they outlive the table for it.
    lake.clone_table(&table, &table.snapshot(), &name_of("dev"), CLONE).await.unwrap();
    let clone = lake.open(&name_of("dev"), CLONE, schema()).await.unwrap();
    assert_holds(&clone, left.clone()).await;
    assert_eq!(clone.snapshot().cold(CLONE), Cooled::default());
    vacuum(&clone).await;
    table.change(RowChanges { gone: gone(10..30), ..change(4, 5) }).await.unwrap();
    vacuum(&table).await;
    assert_holds(&table, left.clone().filter(|n| *n < 10)).await;
    assert_holds(&clone, left.clone()).await;
    drop(table);
    lake.remove(&name(), ID).await.unwrap();
    assert_holds(&lake.open(&name_of("dev"), CLONE, schema()).await.unwrap(), left).await;
    drop(clone);
    lake.remove(&name_of("dev"), CLONE).await.unwrap();
    assert_eq!(cold_files(dir), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_a_disk_has_cold_files_in_another_folder() {
    let dir = TempDir::new().unwrap();
    let (url, store) = store_from_url(&format!("file://{}/lake", dir.path().display()), &Default::default()).unwrap();
    life(Lake::new(url, store), &dir).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_an_object_store_has_cold_files_in_another_store() {
    let dir = TempDir::new().unwrap();
    life(memory_lake().0, &dir).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_goes_leaves_the_cold_files_of_its_source() {
    let dir = TempDir::new().unwrap();
    let (lake, _) = memory_lake();
    let table = three_files(&lake).await;
    table.cool(&place(&dir), LATER_MS, 1).await.unwrap();
    lake.clone_table(&table, &table.snapshot(), &name_of("dev"), CLONE).await.unwrap();
    lake.remove(&name_of("dev"), CLONE).await.unwrap();
    vacuum(&table).await;
    assert_holds(&table, 0..30).await;
    assert_eq!(cold_files(&dir), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_follow_when_the_cold_place_is_another() {
    let dir = TempDir::new().unwrap();
    let (lake, _) = memory_lake();
    let table = three_files(&lake).await;
    table.cool(&place(&dir), LATER_MS, 1).await.unwrap();
    let colder = format!("file://{}/colder", dir.path().display());
    assert_eq!(table.cool(&colder, LATER_MS, 1).await.unwrap().files, 3);
    vacuum(&table).await;
    assert_eq!((cold_files(&dir), files_in(&dir.path().join("colder"))), (0, 3));
    assert_eq!(table.snapshot().cold(ID).files, 3);
    assert_holds(&table, 0..30).await;
    lake.remove(&name(), ID).await.unwrap();
    assert_eq!(files_in(&dir.path().join("colder")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_keeps_the_urls_of_cold_files() {
    let dir = TempDir::new().unwrap();
    let (lake, _) = memory_lake();
    let policy = millstream_catalog::LakePolicy { checkpoint_interval: Some(1), ..Default::default() };
    let table = three_files(&lake).await;
    table.set_policy(&policy);
    table.cool(&place(&dir), LATER_MS, 1).await.unwrap();
    let report = table.maintain(Duration::ZERO, Utc::now().timestamp_millis() + 5_000).await.unwrap();
    assert!(report.checkpoint.is_some(), "{report:?}");
    let again = lake.open(&name(), ID, schema()).await.unwrap();
    assert_eq!(again.snapshot().cold(ID).files, 3);
    assert_holds(&again, 0..30).await;
}
