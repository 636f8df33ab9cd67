//! Whatever operation on the store fails, and however, the table equals the model after it is opened again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use millstream_catalog::{Column, DataType, Positions};
use millstream_store::fault_store::{Failure, FaultStore};
use millstream_store::{Codec, Lake, LakeOptions, LakeTable, Result};
use object_store::ObjectStore;

use crate::fixture::*;

/// The positions that the run goes through; each is one append.
fn stops() -> Vec<Positions> {
    vec![at([4]), at([9, 2]), at([9, 6]), at([15, 6])]
}

fn lake(store: Arc<dyn ObjectStore>) -> Lake {
    lake_on(store).with_options(LakeOptions {
        compact_min_files: 2,
        checkpoint_every: 4,
        target_file_bytes: 1 << 20,
        row_group_rows: 8,
        row_group_bytes: 1 << 20,
        codec: Codec::Lz4,
        part_bytes: 1 << 10,
    })
}

fn wider() -> arrow::datatypes::SchemaRef {
    stream_of(vec![
        Column::new("id", DataType::BigInt).not_null(),
        Column::new("text", DataType::Text),
        Column::new("more", DataType::Timestamp),
    ])
    .full_schema()
}

/// Everything a table goes through. An append resumes where the table says it is, as the engine does.
async fn run(lake: &Lake, done: &mut usize) -> Result<()> {
    let table = lake.open(&name(), ID, schema()).await?;
    for (i, end) in stops().into_iter().enumerate() {
        let start = table.snapshot().positions.clone();
        if !start.covers(&end) {
            let snapshot = table.append(&start, &end, rows(&start, &end)).await?;
            assert!(snapshot.positions.covers(&end));
        }
        *done = (*done).max(i + 1);
        if i == 1 {
            care(&table).await?;
        }
    }
    table.set_schema(wider()).await?;
    care(&table).await
}

/// Maintenance that keeps nothing but what is in use.
async fn care(table: &LakeTable) -> Result<()> {
    let now_ms = chrono::Utc::now().timestamp_millis() + 1000;
    table.maintain(Duration::ZERO, now_ms).await.map(|_| ())
}

/// Rows committed: at least what was reported done, and a whole number of appends.
async fn check(store: &Arc<dyn ObjectStore>, done: usize, what: &str) {
    let lake = lake(store.clone());
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    let here = table.snapshot().positions.clone();
    let stops = stops();
    let at_stop = stops.iter().position(|s| s.covers(&here) && here.covers(s));
    let reached = at_stop.map_or(0, |i| i + 1);
    assert!(at_stop.is_some() || here.total() == 0, "{what}: positions {here:?}");
    assert!(reached >= done, "{what}: {done} appends were reported done, {reached} are there");
    assert_is(&table, &here).await;
}

async fn every_step(failure: Failure) {
    for k in operations() {
        assert!(k < 1000, "the run never needs fewer operations");
        let store = fresh_store();
        let faulty = FaultStore::new(store.clone());
        let lake_under_fault = lake(Arc::new(faulty.clone()));
        faulty.fail_at(k, failure);
        let mut done = 0;
        let outcome = run(&lake_under_fault, &mut done).await;
        let what = format!("operation {k} {failure:?}");
        if !faulty.fired() {
            outcome.unwrap();
            break;
        }
        check(&store, done, &what).await;
        // The same run over it, now that the store works, must end where it always ends.
        run(&lake(store.clone()), &mut done).await.unwrap();
        check(&store, stops().len(), &what).await;
        let names: Vec<String> = store.list(None).map(|o| o.unwrap().location.to_string()).collect().await;
        let files = names.iter().filter(|n| n.ends_with(".parquet") && !n.contains("_delta_log")).count();
        assert!(files <= 2, "{what}: orphans stay: {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_any_step_loses_and_doubles_nothing() {
    every_step(Failure::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_done_but_reported_failed_loses_and_doubles_nothing() {
    every_step(Failure::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_lived_through_a_failure_goes_on_in_the_same_process() {
    for k in operations().take_while(|k| *k < 60) {
        for failure in [Failure::Before, Failure::After] {
            let store = fresh_store();
            let faulty = FaultStore::new(store.clone());
            let table = lake(Arc::new(faulty.clone())).open(&name(), ID, schema()).await.unwrap();
            faulty.fail_at(k, failure);
            for end in stops() {
                for attempt in 0.. {
                    assert!(attempt < 3, "one failure takes more than one retry");
                    let start = table.snapshot().positions.clone();
                    if table.append(&start, &end, rows(&start, &end)).await.is_ok_and(|s| s.positions == end) {
                        break;
                    }
                }
                care(&table).await.ok();
            }
            assert_is(&table, &stops()[3]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_fails_appends_and_its_end_lets_them_through() {
    let store = fresh_store();
    let faulty = FaultStore::new(store);
    let table = lake(Arc::new(faulty.clone())).open(&name(), ID, schema()).await.unwrap();
    faulty.set_outage(true);
    let end = at([5]);
    let error = table.append(&Positions::default(), &end, rows(&Positions::default(), &end)).await.unwrap_err();
    assert_eq!(millstream_catalog::fault::Fault::code(&error), millstream_catalog::fault::Code::IoError);
    faulty.set_outage(false);
    append_to(&table, &end).await;
    assert_is(&table, &end).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_cut_short_is_finished_by_the_next_open() {
    for k in operations() {
        let store = fresh_store();
        let faulty = FaultStore::new(store.clone());
        let lake = lake(Arc::new(faulty.clone()));
        let table = lake.open(&name(), ID, schema()).await.unwrap();
        append_to(&table, &at([5])).await;
        faulty.fail_at(k, Failure::Before);
        let outcome = lake.remove(&name(), ID).await;
        if !faulty.fired() {
            outcome.unwrap();
            break;
        }
        assert!(outcome.is_err());
        let marked = store
            .list(None)
            .any(|o| futures::future::ready(o.is_ok_and(|o| o.location.as_ref().ends_with("_millstream_dropped"))))
            .await;
        if marked {
            let fresh =
                lake.open(&name(), millstream_catalog::StreamId(uuid::Uuid::from_u128(9)), schema()).await.unwrap();
            assert_eq!(fresh.snapshot().rows, 0, "operation {k}");
        } else {
            assert_is(&lake.open(&name(), ID, schema()).await.unwrap(), &at([5])).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_hangs_anywhere_can_be_dropped_and_tried_again() {
    for k in operations() {
        let store = fresh_store();
        let faulty = FaultStore::new(store.clone());
        let table = lake(Arc::new(faulty.clone())).open(&name(), ID, schema()).await.unwrap();
        append_to(&table, &at([3])).await;
        let (start, end) = (at([3]), at([9]));
        faulty.fail_at(k, Failure::Hang);
        let outcome = tokio::time::timeout(patience(), table.append(&start, &end, rows(&start, &end)));
        let outcome = outcome.await;
        if !faulty.fired() {
            outcome.unwrap().unwrap();
            assert!(k > 3, "an append takes more operations than that");
            break;
        }
        let snapshot = table.append(&start, &end, rows(&start, &end)).await.unwrap();
        assert_eq!(snapshot.positions, end, "operation {k}");
        assert_is(&table, &end).await;
    }
}
