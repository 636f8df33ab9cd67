//! Rows that come and go by one commit each, whatever is retried and whoever merges files meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use millstream_store::fault_store::{Failure, FaultStore};
use millstream_store::{Lake, LakeOptions, LakeTable, Result, RowChanges};
use object_store::ObjectStore;

use crate::fixture::*;

fn small_files(lake: Lake) -> Lake {
    lake.with_options(LakeOptions { compact_min_files: 2, checkpoint_every: 4, ..LakeOptions::default() })
}

async fn care(table: &LakeTable) -> Result<()> {
    table.maintain(Duration::ZERO, chrono::Utc::now().timestamp_millis() + 1000).await.map(|_| ())
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Arc<roaring::RoaringTreemap> {
    Arc::new(numbers.into_iter().collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_and_go_by_one_commit_and_other_files_stay() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for (log, first) in [(0, 0), (10, 10), (20, 20)] {
        let come = Some(numbered(first..first + 10));
        let next_row = first as i64 + 10;
        table.change(RowChanges { come, next_row, ..change(log, log + 10) }).await.unwrap();
    }
    let before = table.snapshot();
    assert_eq!((before.version, before.files, before.next_row()), (3, 3, 30));
    let gone = numbers([12, 13]);
    assert!(before.touches(&gone) && !before.touches(&numbers([30, 31])));
    let changes = RowChanges { come: Some(numbered(30..33)), next_row: 33, gone, ..change(30, 35) };
    let after = table.change(changes).await.unwrap();
    assert_eq!((after.version, after.files, after.next_row(), &after.positions), (4, 4, 33, &at([35])));
    assert_holds(&table, (0..12).chain(14..33)).await;
    let commit = &table.history(Some(1)).await.unwrap()[0];
    assert_eq!((commit.operation.as_str(), commit.version), ("MERGE", 4));
    assert_eq!((commit.files_added, commit.files_removed), (2, 1), "files without such rows stay");
    assert_eq!((commit.rows_added, commit.rows_removed), (Some(3), Some(2)));
    assert_eq!(commit.metrics["numCopiedRows"], "8");
    let again = lake.open(&name(), ID, schema()).await.unwrap();
    assert_eq!(again.snapshot().next_row(), 33);
    assert_holds(&again, (0..12).chain(14..33)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_repeated_or_from_elsewhere_commits_nothing() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for _ in 0..2 {
        let changes = RowChanges { come: Some(numbered(0..10)), next_row: 10, ..change(0, 10) };
        assert_eq!(table.change(changes).await.unwrap().version, 1);
    }
    for _ in 0..2 {
        let changes = RowChanges { gone: numbers([4]), next_row: 10, ..change(10, 11) };
        assert_eq!(table.change(changes).await.unwrap().version, 2);
    }
    let elsewhere = RowChanges { gone: numbers([5]), ..change(20, 21) };
    assert_eq!(table.change(elsewhere).await.unwrap().positions, at([11]));
    assert_holds(&table, (0..4).chain(5..10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_goes_as_a_whole_is_taken_out_and_none_written() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    table.change(RowChanges { come: Some(numbered(0..10)), ..change(0, 10) }).await.unwrap();
    table.change(RowChanges { come: Some(numbered(10..20)), ..change(10, 20) }).await.unwrap();
    let after = table.change(RowChanges { gone: numbers(0..10), ..change(20, 30) }).await.unwrap();
    assert_eq!(after.files, 1);
    let commit = &table.history(Some(1)).await.unwrap()[0];
    assert_eq!((commit.files_added, commit.files_removed, commit.rows_removed), (0, 1, Some(10)));
    assert_holds(&table, 10..20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_range_holds_a_number_but_not_its_row_stays() {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    table.change(RowChanges { come: Some(numbered(0..10)), ..change(0, 10) }).await.unwrap();
    table.change(RowChanges { gone: numbers([4, 5]), ..change(10, 12) }).await.unwrap();
    assert!(table.snapshot().touches(&numbers([4])), "statistics alone cannot tell");
    table.change(RowChanges { gone: numbers([4, 5]), ..change(12, 13) }).await.unwrap();
    let commit = &table.history(Some(1)).await.unwrap()[0];
    assert_eq!((commit.version, commit.files_added, commit.files_removed), (3, 0, 0));
    assert_eq!(table.snapshot().positions, at([13]));
    assert_holds(&table, (0..4).chain(6..10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_by_another_process_is_seen_and_the_change_made_on_its_files() {
    for _ in 0..10 {
        let (lake, _) = memory_lake();
        let lake = small_files(lake);
        let one = lake.open(&name(), ID, schema()).await.unwrap();
        for i in 0..6 {
            one.change(RowChanges { come: Some(numbered(i * 10..i * 10 + 10)), ..change(i, i + 1) }).await.unwrap();
        }
        let other = lake.open(&name(), ID, schema()).await.unwrap();
        let changes = RowChanges { gone: numbers((0..60).step_by(7)), ..change(6, 7) };
        let (changed, merged) =
            tokio::join!(one.change(changes), other.maintain(Duration::from_secs(3600), 1_000_000_000_000));
        assert_eq!(changed.unwrap().positions, at([7]));
        merged.unwrap();
        assert_holds(&one, (0..60).filter(|n| n % 7 != 0)).await;
        assert_holds(&lake.open(&name(), ID, schema()).await.unwrap(), (0..60).filter(|n| n % 7 != 0)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_on_while_files_are_merged() {
    let (lake, _) = memory_lake();
    let table = small_files(lake).open(&name(), ID, schema()).await.unwrap();
    let changes = {
        let table = table.clone();
        tokio::spawn(async move {
            for i in 0..30 {
                let gone = numbers(if i == 0 { vec![] } else { vec![i * 10 - 1, i * 5] });
                let come = Some(numbered(i * 10..i * 10 + 10));
                table.change(RowChanges { come, gone, ..change(i, i + 1) }).await.unwrap();
            }
        })
    };
    while !changes.is_finished() {
        care(&table).await.unwrap();
        tokio::task::yield_now().await;
    }
    changes.await.unwrap();
    care(&table).await.unwrap();
    let gone: BTreeSet<u64> = (1..30).flat_map(|i| [i * 10 - 1, i * 5]).collect();
    assert_holds(&table, (0..300).filter(|n| !gone.contains(n))).await;
    assert!(table.snapshot().files < 10, "{} files", table.snapshot().files);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_delta_readers_see_the_rows_that_are_left() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.path().display());
    let (url, store) = millstream_store::store_from_url(&url, &Default::default()).unwrap();
    let lake = small_files(Lake::new(url.clone(), store));
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    run(&table, &mut 0).await.unwrap();
    let delta = deltalake_core::open_table(url.join("public/events/").unwrap()).await.unwrap();
    let history: Vec<_> = delta.history(None).try_collect().await.unwrap();
    assert!(history.iter().any(|c| c.operation.as_deref() == Some("MERGE")));
    let session = SessionContext::new();
    session.register_table("t", delta.table_provider().await.unwrap()).unwrap();
    let found = session.sql("SELECT _offset FROM t ORDER BY 1").await.unwrap().collect().await.unwrap();
    let offsets: Vec<i64> = found
        .iter()
        .flat_map(|b| b.column(0).as_any().downcast_ref::<arrow::array::Int64Array>().unwrap().values().to_vec())
        .collect();
    assert_eq!(offsets, left_after(STEPS.len()).into_iter().map(|n| n as i64).collect::<Vec<_>>());
}

/// A step of the run: where the log ends, rows that come, rows that come by staged files, rows that go.
type ChangeStep = (u64, std::ops::Range<u64>, std::ops::Range<u64>, &'static [u64]);

const STEPS: [ChangeStep; 5] = [
    (10, 0..10, 0..0, &[]),
    (15, 10..14, 0..0, &[3, 4]),
    (20, 14..14, 14..30, &[5, 12, 20]),
    (30, 0..0, 0..0, &[0, 1, 2, 6, 7, 8, 9]),
    (32, 30..33, 33..36, &[29]),
];

/// The rows after the first steps.
fn left_after(steps: usize) -> BTreeSet<u64> {
    let mut left = BTreeSet::new();
    for (_, come, staged, gone) in &STEPS[..steps] {
        left.extend(come.clone().chain(staged.clone()));
        left.retain(|n| !gone.contains(n));
    }
    left
}

fn steps_at(position: u64) -> usize {
    STEPS.iter().position(|s| s.0 == position).map_or(0, |i| i + 1)
}

/// Goes through the steps from where the table is.
async fn run(table: &LakeTable, done: &mut usize) -> Result<()> {
    loop {
        let here = table.snapshot().positions.get(0);
        let at_step = steps_at(here);
        *done = (*done).max(at_step);
        if at_step == 3 {
            care(table).await?;
        }
        let Some((end, come, staged, gone)) = STEPS.get(at_step) else { break };
        let staged = match staged.is_empty() {
            true => vec![],
            false => table.stage(numbered(staged.clone())).await?,
        };
        let come = (!come.is_empty()).then(|| numbered(come.clone()));
        let gone = numbers(gone.iter().copied());
        let next_row = *left_after(at_step + 1).last().unwrap() as i64 + 1;
        let after = table.change(RowChanges { come, staged, gone, next_row, ..change(here, *end) }).await?;
        assert_eq!(after.positions, at([*end]));
    }
    care(table).await
}

async fn every_step(failure: Failure) {
    for k in operations() {
        assert!(k < 1000, "the run never needs fewer operations");
        let store = fresh_store();
        let faulty = FaultStore::new(store.clone());
        faulty.fail_at(k, failure);
        let mut done = 0;
        let what = format!("operation {k} {failure:?}");
        let outcome = match small_files(lake_on(Arc::new(faulty.clone()))).open(&name(), ID, schema()).await {
            Ok(table) => run(&table, &mut done).await,
            Err(e) => Err(e),
        };
        if !faulty.fired() {
            outcome.unwrap();
            break;
        }
        let table = small_files(lake_on(store.clone())).open(&name(), ID, schema()).await.unwrap();
        let reached = steps_at(table.snapshot().positions.get(0));
        assert!(reached >= done, "{what}: {done} changes were reported done, {reached} are there");
        assert_holds(&table, left_after(reached)).await;
        run(&table, &mut done).await.unwrap();
        assert_holds(&table, left_after(STEPS.len())).await;
        assert_eq!(table.snapshot().next_row(), 36, "{what}");
        let names: Vec<String> = store.list(None).map(|o| o.unwrap().location.to_string()).collect().await;
        let files = names.iter().filter(|n| n.ends_with(".parquet") && !n.contains("_delta_log")).count() as u64;
        assert_eq!(files, table.snapshot().files, "{what}: orphans stay: {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_any_step_of_a_change_leaves_it_undone_or_done() {
    every_step(Failure::Before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_a_change_done_but_reported_failed_is_not_done_twice() {
    every_step(Failure::After).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_hangs_anywhere_can_be_dropped_and_tried_again() {
    for k in operations() {
        let faulty = FaultStore::new(fresh_store());
        let table = lake_on(Arc::new(faulty.clone())).open(&name(), ID, schema()).await.unwrap();
        table.change(RowChanges { come: Some(numbered(0..10)), ..change(0, 10) }).await.unwrap();
        faulty.fail_at(k, Failure::Hang);
        let changes = || RowChanges { come: Some(numbered(10..12)), gone: numbers([3]), ..change(10, 13) };
        let outcome = tokio::time::timeout(patience(), table.change(changes())).await;
        if !faulty.fired() {
            outcome.unwrap().unwrap();
            break;
        }
        assert_eq!(table.change(changes()).await.unwrap().positions, at([13]), "operation {k}");
        assert_holds(&table, (0..3).chain(4..12)).await;
    }
}
