//! Appends commit once, whatever is retried.

use crate::fixture::*;
use futures::StreamExt;
use millstream_catalog::{ObjectName, Positions};
use millstream_store::{Error, LakeOptions};
use object_store::ObjectStore;

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_back_and_the_snapshot_counts_them() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    assert_eq!(table.snapshot().version, 0);
    append_to(&table, &at([10, 3])).await;
    append_to(&table, &at([10, 20])).await;
    let snapshot = table.snapshot();
    assert_eq!((snapshot.version, snapshot.files), (2, 2));
    assert!(snapshot.bytes > 0);
    assert_is(&table, &at([10, 20])).await;
    let again = lake.open(&name(), ID, schema()).await.unwrap();
    assert_eq!(again.snapshot().version, 2);
    assert_is(&again, &at([10, 20])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_repeated_with_the_same_start_and_end_commits_once() {
    let (lake, store) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    let (start, end) = (Positions::default(), at([5]));
    for _ in 0..3 {
        let snapshot = table.append(&start, &end, rows(&start, &end)).await.unwrap();
        assert_eq!(snapshot.positions, end);
        assert_eq!(snapshot.version, 1);
    }
    assert_is(&table, &end).await;
    let files = store
        .list(None)
        .filter(|o| futures::future::ready(o.as_ref().is_ok_and(|o| o.location.as_ref().ends_with(".parquet"))));
    assert_eq!(files.count().await, 1, "a repeated append writes no file");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_that_append_the_same_range_commit_once() {
    let (lake, _) = memory_lake();
    let one = lake.open(&name(), ID, schema()).await.unwrap();
    let other = lake.open(&name(), ID, schema()).await.unwrap();
    let (start, end) = (Positions::default(), at([50]));
    let (a, b) =
        tokio::join!(one.append(&start, &end, rows(&start, &end)), other.append(&start, &end, rows(&start, &end)));
    assert_eq!(a.unwrap().positions, end);
    assert_eq!(b.unwrap().positions, end);
    for table in [&one, &other] {
        assert_eq!(table.snapshot().version, 1);
        assert_is(table, &end).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_overtaken_by_another_range_is_refused_and_leaves_nothing() {
    let (lake, _) = memory_lake();
    let one = lake.open(&name(), ID, schema()).await.unwrap();
    let other = lake.open(&name(), ID, schema()).await.unwrap();
    append_to(&one, &at([3])).await;
    let (start, end) = (Positions::default(), at([5]));
    let error = other.append(&start, &end, rows(&start, &end)).await.unwrap_err();
    assert!(matches!(error, Error::Misfit { .. }), "{error}");
    assert_is(&other, &at([3])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_not_as_many_as_the_offsets_are_refused() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    let (start, end) = (Positions::default(), at([5]));
    let error = table.append(&start, &end, rows(&start, &at([4]))).await.unwrap_err();
    assert!(error.to_string().contains("4 rows came for the 5 offsets"), "{error}");
    assert_is(&table, &start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_ranges_become_files_of_the_target_size() {
    let (lake, _) = memory_lake();
    let lake =
        lake.with_options(LakeOptions { target_file_bytes: 1024, row_group_rows: 100, ..LakeOptions::default() });
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([3000])).await;
    assert!(table.snapshot().files > 3, "{} files", table.snapshot().files);
    assert_is(&table, &at([3000])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_stream_is_refused() {
    let (lake, _) = memory_lake();
    lake.open(&name(), ID, schema()).await.unwrap();
    let other = millstream_catalog::StreamId(uuid::Uuid::from_u128(8));
    let error = lake.open(&name(), other, schema()).await.unwrap_err();
    assert!(error.to_string().contains("belongs to another stream"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_table_is_gone_and_its_neighbours_stay() {
    let (lake, store) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([5])).await;
    let neighbour = ObjectName::public("events2").unwrap();
    let other = lake.open(&neighbour, ID, schema()).await.unwrap();
    append_to(&other, &at([5])).await;
    lake.remove(&name(), ID).await.unwrap();
    lake.remove(&name(), ID).await.unwrap();
    let left: Vec<String> = store.list(None).map(|o| o.unwrap().location.to_string()).collect().await;
    assert!(left.iter().all(|p| p.starts_with("lake/public/events2/")), "{left:?}");
    let fresh = lake.open(&name(), millstream_catalog::StreamId(uuid::Uuid::from_u128(9)), schema()).await.unwrap();
    assert_eq!(fresh.snapshot().rows, 0);
    lake.remove(&name(), ID).await.unwrap();
    let fresh = lake.open(&name(), millstream_catalog::StreamId(uuid::Uuid::from_u128(9)), schema()).await.unwrap();
    assert_eq!(fresh.snapshot().version, 0, "a late removal leaves the stream that took the name alone");
    assert_is(&lake.open(&neighbour, ID, schema()).await.unwrap(), &at([5])).await;
}
