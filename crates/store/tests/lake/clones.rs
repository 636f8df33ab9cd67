//! A clone begins with another table's files and goes its own way; nothing that happens to the source reaches it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use millstream_catalog::{ObjectName, StreamId};
use millstream_store::fault_store::{Failure, FaultStore};
use millstream_store::{Error, Lake, LakeTable, RowChanges};
use object_store::ObjectStore;
use uuid::Uuid;

use crate::fixture::*;

const CLONE: StreamId = StreamId(Uuid::from_u128(8));

fn other(n: &str) -> ObjectName {
    ObjectName::public(n).unwrap()
}

async fn vacuum(table: &LakeTable) -> usize {
    let now_ms = chrono::Utc::now().timestamp_millis() + 5_000;
    table.vacuum(Duration::ZERO, now_ms, false).await.unwrap().files.len()
}

/// A table with rows 0 to 29 in three files.
async fn source(lake: &Lake) -> LakeTable {
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for i in 0..3 {
        let come = Some(numbered(i * 10..i * 10 + 10));
        let next_row = i as i64 * 10 + 10;
        table.change(RowChanges { come, next_row, ..change(i, i + 1) }).await.unwrap();
    }
    table
}

fn gone(numbers: impl IntoIterator<Item = u64>) -> Arc<roaring::RoaringTreemap> {
    Arc::new(numbers.into_iter().collect())
}

/// What a clone must live through on every store.
async fn life(lake: Lake) {
    let table = source(&lake).await;
    let older = table.snapshot_at(2).await.unwrap();
    for _ in 0..2 {
        lake.clone_table(&table, &older, &other("dev"), CLONE).await.unwrap();
    }
    drop(older);
    let clone = lake.open(&other("dev"), CLONE, schema()).await.unwrap();
    assert_eq!((clone.snapshot().next_row(), clone.snapshot().positions.total()), (20, 0));
    assert_holds(&clone, 0..20).await;
    // The source loses rows, files and at last its name.
    table.change(RowChanges { gone: gone(0..15), ..change(3, 4) }).await.unwrap();
    vacuum(&table).await;
    assert_holds(&table, 15..30).await;
    assert_holds(&clone, 0..20).await;
    // The clone goes its own way.
    let changes = RowChanges { come: Some(numbered(20..25)), gone: gone([1, 12]), next_row: 25, ..change(0, 1) };
    clone.change(changes).await.unwrap();
    let left = (0..25).filter(|n| ![1, 12].contains(n));
    assert_holds(&clone, left.clone()).await;
    vacuum(&clone).await;
    assert_holds(&table, 15..30).await;
    lake.clone_table(&clone, &clone.snapshot(), &other("dev2"), StreamId(Uuid::from_u128(9))).await.unwrap();
    drop(table);
    lake.remove(&name(), ID).await.unwrap();
    assert_holds(&lake.open(&other("dev"), CLONE, schema()).await.unwrap(), left.clone()).await;
    let again = source(&lake).await;
    vacuum(&again).await;
    drop(clone);
    lake.remove(&other("dev"), CLONE).await.unwrap();
    let second = lake.open(&other("dev2"), StreamId(Uuid::from_u128(9)), schema()).await.unwrap();
    assert_holds(&second, left).await;
    let report = second.optimize(None, chrono::Utc::now().timestamp_millis()).await.unwrap();
    assert_eq!(report.files_written, 1);
    assert_eq!(second.snapshot().rows, 23);
    lake.remove(&other("dev2"), StreamId(Uuid::from_u128(9))).await.unwrap();
    vacuum(&again).await;
    assert_holds(&again, 0..30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_on_an_object_store_keeps_its_sources_files() {
    let (lake, store) = memory_lake();
    life(lake.clone()).await;
    lake.remove(&name(), ID).await.unwrap();
    let left: Vec<String> = store.list(None).map(|o| o.unwrap().location.to_string()).collect().await;
    assert!(left.is_empty(), "what only clones kept goes with them: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_on_a_local_disk_has_links_that_every_reader_reads() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.path().display());
    let (url, store) = millstream_store::store_from_url(&url, &Default::default()).unwrap();
    let lake = Lake::new(url.clone(), store);
    let table = source(&lake).await;
    lake.clone_table(&table, &table.snapshot(), &other("dev"), CLONE).await.unwrap();
    lake.remove(&name(), ID).await.unwrap();
    let delta = deltalake_core::open_table(url.join("public/dev/").unwrap()).await.unwrap();
    let session = datafusion::prelude::SessionContext::new();
    session.register_table("t", delta.table_provider().await.unwrap()).unwrap();
    let found = session.sql("SELECT id FROM t").await.unwrap().collect().await.unwrap();
    assert_eq!(found.iter().map(|b| b.num_rows()).sum::<usize>(), 30);
    lake.remove(&other("dev"), CLONE).await.unwrap();
    life(lake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_under_a_taken_name_is_refused() {
    let (lake, _) = memory_lake();
    let table = source(&lake).await;
    lake.open(&other("dev"), StreamId(Uuid::from_u128(10)), schema()).await.unwrap();
    let error = lake.clone_table(&table, &table.snapshot(), &other("dev"), CLONE).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_whose_making_or_removal_fails_anywhere_is_there_or_not() {
    for failure in [Failure::Before, Failure::After] {
        for k in operations() {
            let store = fresh_store();
            let faulty = FaultStore::new(store.clone());
            let lake = lake_on(Arc::new(faulty.clone()));
            let table = source(&lake).await;
            faulty.fail_at(k, failure);
            let made = lake.clone_table(&table, &table.snapshot(), &other("dev"), CLONE).await;
            let removed = lake.remove(&other("dev"), CLONE).await;
            if !faulty.fired() {
                made.unwrap();
                removed.unwrap();
                break;
            }
            let lake = lake_on(store.clone());
            lake.clone_table(&table, &table.snapshot(), &other("dev"), CLONE).await.unwrap();
            assert_holds(&lake.open(&other("dev"), CLONE, schema()).await.unwrap(), 0..30).await;
            lake.remove(&name(), ID).await.unwrap();
            assert_holds(&lake.open(&other("dev"), CLONE, schema()).await.unwrap(), 0..30).await;
            lake.remove(&other("dev"), CLONE).await.unwrap();
            assert_eq!(store.list(None).count().await, 0, "operation {k} {failure:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_clone_that_failed_left_is_removed_with_it() {
    for failure in [Failure::Before, Failure::After] {
        for k in operations() {
            let store = fresh_store();
            let faulty = FaultStore::new(store.clone());
            let table = source(&lake_on(Arc::new(faulty.clone()))).await;
            let before = store.list(None).count().await;
            faulty.fail_at(k, failure);
            let made =
                lake_on(Arc::new(faulty.clone())).clone_table(&table, &table.snapshot(), &other("dev"), CLONE).await;
            if !faulty.fired() {
                made.unwrap();
                break;
            }
            lake_on(store.clone()).remove(&other("dev"), CLONE).await.unwrap();
            assert_eq!(store.list(None).count().await, before, "operation {k} {failure:?}");
            vacuum(&table).await;
            assert_holds(&table, 0..30).await;
        }
    }
}
