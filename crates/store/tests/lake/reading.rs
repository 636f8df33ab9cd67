//! Scans read no more than they must, and say so.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use millstream_store::LakeTable;
use millstream_store::fault_store::FaultStore;
use std::sync::Arc;

use crate::fixture::*;

async fn plan(table: &LakeTable, sql: &str) -> Arc<dyn ExecutionPlan> {
    session(table, &table.snapshot()).sql(sql).await.unwrap().create_physical_plan().await.unwrap()
}

fn text(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(true).to_string()
}

async fn table() -> LakeTable {
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for i in 1..=4 {
        append_to(&table, &at([i * 100])).await;
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_reads_no_file() {
    let plan = text(&plan(&table().await, "SELECT count(*) FROM t").await);
    assert!(!plan.contains("DataSourceExec"), "{plan}");
    let found = query(&table().await, "SELECT count(*), max(_offset), min(id) FROM t").await;
    assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), 400);
    assert_eq!(found[0].column(1).as_primitive::<Int64Type>().value(0), 399);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_match_are_not_in_the_plan() {
    let table = table().await;
    let one = text(&plan(&table, "SELECT id FROM t WHERE _offset BETWEEN 120 AND 130").await);
    assert_eq!(one.matches(".parquet").count(), 1, "{one}");
    assert!(one.contains("predicate="), "the row groups get the filter too: {one}");
    let none = text(&plan(&table, "SELECT id FROM t WHERE _offset > 1000").await);
    assert!(none.contains("EmptyExec"), "{none}");
    let rows: usize = query(&table, "SELECT id FROM t WHERE _offset BETWEEN 120 AND 130")
        .await
        .iter()
        .map(RecordBatch::num_rows)
        .sum();
    assert_eq!(rows, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn projections_and_limits_reach_the_scan() {
    let table = table().await;
    let plan = text(&plan(&table, "SELECT id FROM t LIMIT 3").await);
    assert!(plan.contains("projection=[id]") && plan.contains("limit=3"), "{plan}");
    assert_eq!(plan.matches(".parquet").count(), 1, "one file has enough rows: {plan}");
    let rows: usize = query(&table, "SELECT id FROM t LIMIT 3").await.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_spread_over_the_threads() {
    let plan = plan(&table().await, "SELECT text, count(*) FROM t GROUP BY text").await;
    assert!(text(&plan).contains("file_groups={2 groups"), "{}", text(&plan));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_stays_at_its_snapshot() {
    let table = table().await;
    let old = table.snapshot();
    append_to(&table, &at([450])).await;
    let count = |session: datafusion::prelude::SessionContext| async move {
        let found = session.sql("SELECT count(id) FROM t").await.unwrap().collect().await.unwrap();
        found[0].column(0).as_primitive::<Int64Type>().value(0)
    };
    assert_eq!(count(session(&table, &old)).await, 400);
    assert_eq!(count(session(&table, &table.snapshot())).await, 450);
}

#[tokio::test(flavor = "multi_thread")]
async fn footers_are_read_once_for_many_queries() {
    let table = table().await;
    let session = session(&table, &table.snapshot());
    let run = || async { session.sql("SELECT sum(id) FROM t").await.unwrap().collect().await.unwrap() };
    run().await;
    let cache = session.runtime_env().cache_manager.get_file_metadata_cache();
    let entries = cache.list_entries();
    assert_eq!(entries.len(), 4);
    run().await;
    assert!(cache.list_entries().values().all(|e| e.hits > 0), "the second query takes them from the cache");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_is_fetched_in_one_request() {
    let store = FaultStore::new(fresh_store());
    let table = lake_on(Arc::new(store.clone())).open(&name(), ID, schema()).await.unwrap();
    append_to(&table, &at([100])).await;
    let session = session(&table, &table.snapshot());
    session.sql("SET datafusion.execution.parquet.pushdown_filters = true").await.unwrap();
    for _ in 0..3 {
        store.set_outage(false);
        let found = session.sql("SELECT text, _offset FROM t WHERE id % 2 = 0").await.unwrap().collect().await.unwrap();
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 50);
        assert_eq!(store.operations(), 1);
    }
}
