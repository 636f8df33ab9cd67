//! Merging, checkpoints and vacuum change no row and no position.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use chrono::Utc;
use futures::StreamExt;
use millstream_store::{Lake, LakeOptions};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::fixture::*;

const HOUR: Duration = Duration::from_secs(3600);

fn lake() -> (Lake, Arc<dyn ObjectStore>) {
    let (lake, store) = memory_lake();
    (lake.with_options(LakeOptions { compact_min_files: 4, checkpoint_every: 5, ..LakeOptions::default() }), store)
}

async fn data_files(store: &dyn ObjectStore) -> Vec<object_store::path::Path> {
    store
        .list(None)
        .map(|o| o.unwrap().location)
        .filter(|p| futures::future::ready(p.as_ref().ends_with(".parquet") && !p.as_ref().contains("_delta_log")))
        .collect()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_become_one_and_rows_stay_in_order() {
    let (lake, store) = lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for i in 1..=6 {
        append_to(&table, &at([i * 10, i * 3])).await;
    }
    let before = table.snapshot();
    let report = table.maintain(Duration::ZERO, Utc::now().timestamp_millis() + 1000).await.unwrap();
    assert_eq!((report.files_compacted, report.files_written), (6, 1));
    let after = table.snapshot();
    assert_eq!((after.files, after.rows, &after.positions), (1, 78, &before.positions));
    assert_is(&table, &at([60, 18])).await;
    drop(before);
    table.maintain(Duration::ZERO, Utc::now().timestamp_millis() + 2000).await.unwrap();
    let files = data_files(&store).await;
    assert_eq!(files.len(), 1);
    let bytes = store.get(&files[0]).await.unwrap().bytes().await.unwrap();
    let mut places = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let partition = batch.column_by_name("_partition").unwrap().as_primitive::<Int32Type>().clone();
        let offset = batch.column_by_name("_offset").unwrap().as_primitive::<Int64Type>().clone();
        places.extend((0..batch.num_rows()).map(|i| (partition.value(i), offset.value(i))));
    }
    assert!(places.is_sorted(), "rows lie by partition and offset");
    assert_is(&lake.open(&name(), ID, schema()).await.unwrap(), &at([60, 18])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_in_use_keeps_its_files_and_retention_keeps_the_others() {
    let (lake, store) = lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for i in 1..=4 {
        append_to(&table, &at([i * 10])).await;
    }
    let old = table.snapshot();
    let session = session(&table, &old);
    let plan =
        session.sql("SELECT count(id), sum(_offset) FROM t").await.unwrap().create_physical_plan().await.unwrap();
    let now_ms = Utc::now().timestamp_millis();
    table.maintain(HOUR, now_ms).await.unwrap();
    assert_eq!(data_files(&store).await.len(), 5, "retention keeps replaced files");
    drop(old);
    let report = table.maintain(HOUR, now_ms + 7_200_000).await.unwrap();
    assert_eq!(report.files_vacuumed, 0, "a plan reads them");
    let found = datafusion::physical_plan::collect(plan.clone(), session.task_ctx()).await.unwrap();
    assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), 40);
    drop((plan, session));
    // The threads that ran the plan let go of it a moment later.
    let mut vacuumed = 0;
    for _ in 0..10_000 {
        vacuumed = table.maintain(HOUR, now_ms + 7_200_000).await.unwrap().files_vacuumed;
        if vacuumed > 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(vacuumed, 4);
    assert_is(&table, &at([40])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_go_after_the_retention_and_what_is_not_ours_stays() {
    let (lake, store) = lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([10])).await;
    for path in ["part-orphan.parquet", "notes.txt", "_change_data/x.parquet"] {
        store.put(&format!("lake/public/events/{path}").into(), "x".into()).await.unwrap();
    }
    let now_ms = Utc::now().timestamp_millis();
    assert_eq!(table.maintain(HOUR, now_ms).await.unwrap().files_vacuumed, 0);
    assert_eq!(table.maintain(HOUR, now_ms + 7_200_000).await.unwrap().files_vacuumed, 1);
    assert!(store.head(&"lake/public/events/notes.txt".into()).await.is_ok());
    assert!(store.head(&"lake/public/events/_change_data/x.parquet".into()).await.is_ok());
    assert_is(&table, &at([10])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_carries_positions_files_and_schema_when_the_log_is_gone() {
    let (lake, store) = lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for i in 1..=7 {
        append_to(&table, &at([i * 10, i])).await;
    }
    let far = Utc::now().timestamp_millis() + 7_200_000;
    table.maintain(HOUR, far).await.unwrap();
    append_to(&table, &at([71, 7])).await;
    let names: Vec<String> = store
        .list(Some(&"lake/public/events/_delta_log".into()))
        .map(|o| o.unwrap().location.filename().unwrap_or_default().to_owned())
        .collect()
        .await;
    assert!(names.iter().any(|n| n.ends_with(".checkpoint.parquet")), "{names:?}");
    assert!(!names.contains(&"00000000000000000000.json".to_owned()), "old commits go: {names:?}");
    let again = lake.open(&name(), ID, schema()).await.unwrap();
    assert_eq!(again.snapshot().version, table.snapshot().version);
    assert_is(&again, &at([71, 7])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_go_on_while_files_are_merged() {
    let (lake, _) = lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    let appends = {
        let table = table.clone();
        tokio::spawn(async move {
            for i in 1..=40 {
                append_to(&table, &at([i * 5])).await;
            }
        })
    };
    let mut merged = 0;
    while !appends.is_finished() {
        merged += table.maintain(HOUR, Utc::now().timestamp_millis()).await.unwrap().files_compacted;
        tokio::task::yield_now().await;
    }
    appends.await.unwrap();
    merged += table.maintain(HOUR, Utc::now().timestamp_millis()).await.unwrap().files_compacted;
    assert!(merged > 0);
    assert_is(&table, &at([200])).await;
    assert_is(&lake.open(&name(), ID, schema()).await.unwrap(), &at([200])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_one_size_are_rewritten_few_times() {
    let (lake, _) = lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    let mut rewritten = 0;
    for i in 1..=64 {
        append_to(&table, &at([i * 5])).await;
        rewritten += table.maintain(HOUR, Utc::now().timestamp_millis()).await.unwrap().files_compacted;
    }
    assert!(table.snapshot().files < 16, "{} files", table.snapshot().files);
    assert!(rewritten < 64 * 4, "{rewritten} files were rewritten for 64 appends");
    assert_is(&table, &at([320])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_files_go_and_positions_stay() {
    let (lake, _) = lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([10])).await;
    // The fixture's rows were accepted one second after 1970 began.
    assert_eq!(table.expire(1000, Utc::now().timestamp_millis()).await.unwrap(), 0);
    assert_eq!(table.expire(1001, Utc::now().timestamp_millis()).await.unwrap(), 1);
    let snapshot = table.snapshot();
    assert_eq!((snapshot.rows, &snapshot.positions), (0, &at([10])));
    append_to(&table, &at([12])).await;
    assert_eq!(places(&table).await.len(), 2);
}
