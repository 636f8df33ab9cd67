//! Rows lie in the folders of their values and in order, and every reader finds them there.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::array::{Decimal128Array, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::physical_plan::{SendableRecordBatchStream, displayable};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use millstream_catalog::{Column, DataType};
use millstream_store::{Error, Lake, LakeOptions, LakeTable, Layout, RowChanges};
use object_store::ObjectStore;

use crate::fixture::*;

const REGIONS: [Option<&str>; 5] = [Some("north"), Some("a/b c=ü%"), None, Some(""), Some("south")];

fn layout(partitioned_by: &[&str], sorted_by: &[&str]) -> Layout {
    let owned = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
    Layout { partitioned_by: owned(partitioned_by), sorted_by: owned(sorted_by), reshaped: 0 }
}

/// `id`, `region`, `day` and the hidden columns: the columns that name folders are in the middle.
fn regional() -> SchemaRef {
    stream_of(vec![
        Column::new("id", DataType::BigInt),
        Column::new("region", DataType::Text),
        Column::new("day", DataType::Date),
        Column::new("note", DataType::Text),
    ])
    .full_schema()
}

fn regional_rows(numbers: std::ops::Range<u64>) -> SendableRecordBatchStream {
    let schema = regional();
    let numbers: Vec<i64> = numbers.map(|n| n as i64).collect();
    let region = |n: &i64| REGIONS[*n as usize % REGIONS.len()];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers.iter().map(|n| 1_000 - n))),
        Arc::new(numbers.iter().map(region).collect::<StringArray>()),
        Arc::new(Date32Array::from_iter_values(numbers.iter().map(|n| 20_000 + (*n / 30) as i32))),
        Arc::new(numbers.iter().map(|n| text_of(*n)).collect::<StringArray>()),
        Arc::new(Int32Array::from(vec![0; numbers.len()])),
        Arc::new(Int64Array::from(numbers.clone())),
        Arc::new(TimestampMicrosecondArray::from(vec![1_000_000; numbers.len()]).with_timezone("UTC")),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    stream_batches(&schema, vec![batch])
}

async fn regional_table(lake: &Lake) -> LakeTable {
    lake.open_laid_out(&name(), ID, regional(), layout(&["region", "day"], &[])).await.unwrap()
}

async fn numbers(table: &LakeTable, sql: &str) -> Vec<i64> {
    let found = query(table, sql).await;
    found.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

async fn folders(store: &dyn ObjectStore) -> Vec<String> {
    let listed = store.list(None).map(|o| o.unwrap().location.to_string());
    let mut folders: Vec<String> = listed
        .filter(|p| futures::future::ready(p.ends_with(".parquet") && !p.contains("_delta_log")))
        .map(|p| p["lake/public/events/".len()..].rsplit_once('/').map_or(String::new(), |(f, _)| f.to_owned()))
        .collect()
        .await;
    folders.dedup();
    folders
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_lie_in_the_folders_of_their_values_and_scans_leave_the_others_out() {
    let (lake, store) = memory_lake();
    let table = regional_table(&lake).await;
    table.append(&at([0]), &at([60]), regional_rows(0..60)).await.unwrap();
    assert_eq!(table.snapshot().files, 10);
    let folders = folders(&store).await;
    assert_eq!(folders[0], "region=__HIVE_DEFAULT_PARTITION__/day=2024-10-04");
    assert!(folders.iter().any(|f| f == "region=a%2Fb%20c%3D%C3%BC%25/day=2024-10-05"), "{folders:?}");
    for table in [table.clone(), regional_table(&lake).await] {
        assert_eq!(numbers(&table, "SELECT _offset FROM t ORDER BY 1").await, (0..60).collect::<Vec<_>>());
        for (filter, keep) in
            [("region = 'south'", 4), ("region IS NULL", 2), ("region = ''", 3), ("region = 'a/b c=ü%'", 1)]
        {
            let sql = format!("SELECT _offset FROM t WHERE {filter} AND day = DATE '2024-10-05' ORDER BY 1");
            assert_eq!(numbers(&table, &sql).await, (30..60).filter(|n| n % 5 == keep).collect::<Vec<_>>(), "{filter}");
        }
        let found = query(&table, "SELECT day, note, region, count(*) FROM t GROUP BY 1, 2, 3").await;
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 50, "NULL notes of one day fall together");
    }
    let session = session(&table, &table.snapshot());
    let plan = session.sql("SELECT id FROM t WHERE region = 'north'").await.unwrap().create_physical_plan().await;
    let text = displayable(plan.unwrap().as_ref()).indent(true).to_string();
    assert_eq!(text.matches(".parquet").count(), 2, "{text}");
    let counted = session.sql("SELECT count(*), max(day) FROM t").await.unwrap().create_physical_plan().await;
    let text = displayable(counted.unwrap().as_ref()).indent(true).to_string();
    assert!(!text.contains("DataSourceExec"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_merges_stay_in_their_folders() {
    let (lake, _) = memory_lake();
    let lake = lake.with_options(LakeOptions { compact_min_files: 2, ..LakeOptions::default() });
    let table = regional_table(&lake).await;
    for i in 0..3 {
        let come = Some(regional_rows(i * 10..i * 10 + 10));
        table.change(RowChanges { come, ..change(i, i + 1) }).await.unwrap();
    }
    assert_eq!(table.snapshot().files, 15);
    let staged = table.stage(regional_rows(30..40)).await.unwrap();
    assert_eq!(staged.len(), 5);
    let both = table.provider_with_staged(&table.snapshot(), &staged).unwrap();
    let session = SessionContext::new();
    session.register_table("t", both).unwrap();
    let sql = "SELECT count(*) FROM t WHERE region = 'south'";
    let found = session.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(found[0].column(0).as_primitive::<Int64Type>().value(0), 8);
    let gone = Arc::new([4, 5, 33].into_iter().collect());
    table.change(RowChanges { staged, gone, ..change(3, 4) }).await.unwrap();
    let left: Vec<i64> = (0..40).filter(|n| ![4, 5, 33].contains(n)).collect();
    assert_eq!(numbers(&table, "SELECT _offset FROM t ORDER BY 1").await, left);
    let report = table.maintain(Duration::ZERO, chrono::Utc::now().timestamp_millis() + 1000).await.unwrap();
    assert_eq!(report.files_written, 5, "one file per folder that had several");
    assert_eq!(table.snapshot().files, 10);
    assert_eq!(numbers(&table, "SELECT _offset FROM t ORDER BY 1").await, left);
    let south: Vec<i64> = left.iter().copied().filter(|n| n % 5 == 4).collect();
    assert_eq!(numbers(&table, "SELECT _offset FROM t WHERE region = 'south' ORDER BY 1").await, south);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_plain_type_names_folders_that_delta_rs_reads_too() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.path().display());
    let (url, store) = millstream_store::store_from_url(&url, &Default::default()).unwrap();
    let lake = Lake::new(url.clone(), store);
    let kinds = [
        ("b", DataType::Boolean),
        ("i", DataType::Int),
        ("m", DataType::Decimal { precision: 12, scale: 2 }),
        ("d", DataType::Date),
        ("t", DataType::Timestamp),
        ("z", DataType::TimestampTz),
        ("s", DataType::Text),
    ];
    let names: Vec<&str> = kinds.iter().map(|(n, _)| *n).collect();
    let mut columns = vec![Column::new("id", DataType::BigInt)];
    columns.extend(kinds.iter().map(|(n, t)| Column::new(*n, t.clone())));
    let schema = stream_of(columns).full_schema();
    let table = lake.open_laid_out(&name(), ID, schema.clone(), layout(&names, &[])).await.unwrap();
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2])),
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Int32Array::from(vec![Some(-7), None])),
        Arc::new(Decimal128Array::from(vec![Some(-1234), None]).with_precision_and_scale(12, 2).unwrap()),
        Arc::new(Date32Array::from(vec![Some(19_999), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_001), None]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![Some("x: y"), None])),
        Arc::new(Int32Array::from(vec![0, 0])),
        Arc::new(Int64Array::from(vec![0, 1])),
        Arc::new(TimestampMicrosecondArray::from(vec![1_000_000; 2]).with_timezone("UTC")),
    ];
    let batch = RecordBatch::try_new(schema.clone(), arrays).unwrap();
    table.append(&at([0]), &at([2]), stream_batches(&schema, vec![batch])).await.unwrap();
    let delta = deltalake_core::open_table(url.join("public/events/").unwrap()).await.unwrap();
    let other = SessionContext::new();
    other.register_table("t", delta.table_provider().await.unwrap()).unwrap();
    let own = session(&table, &table.snapshot());
    let list = names.join(", ");
    for session in [own, other] {
        let sql = format!("SELECT id, {list} FROM t ORDER BY id");
        let found = session.sql(&sql).await.unwrap().collect().await.unwrap();
        let text = datafusion::arrow::util::pretty::pretty_format_batches(&found).unwrap().to_string();
        let row = "| 1  | true | -7 | -12.34 | 2024-10-03 | 2023-11-14T22:13:20.123456 | 2023-11-14T22:13:20.000001Z | x: y |";
        assert!(text.contains(row), "{text}");
        let sql = "SELECT id FROM t WHERE z = '2023-11-14T22:13:20.000001Z' AND m < 0 AND b AND i = -7";
        let found = session.sql(sql).await.unwrap().collect().await.unwrap();
        assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_partition_columns_than_the_tables_are_refused() {
    let (lake, _) = memory_lake();
    regional_table(&lake).await;
    let error = lake.open_laid_out(&name(), ID, regional(), layout(&["day"], &[])).await.unwrap_err();
    assert!(error.to_string().contains("it is partitioned by [\"region\", \"day\"]"), "{error}");
}

/// The ids in the order of their rows in each file.
async fn ids_in_files(store: &dyn ObjectStore, table: &LakeTable) -> Vec<Vec<i64>> {
    use object_store::ObjectStoreExt;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    table.vacuum(Duration::ZERO, chrono::Utc::now().timestamp_millis() + 1000, false).await.unwrap();
    let mut all = Vec::new();
    for object in store.list(None).map(Result::unwrap).collect::<Vec<_>>().await {
        if object.location.as_ref().ends_with(".parquet") && !object.location.as_ref().contains("_delta_log") {
            let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            let ids = |b: RecordBatch| b.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
            all.push(reader.flat_map(|b| ids(b.unwrap())).collect());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tables_sort_order_is_that_of_its_files_through_merges_and_changes() {
    let (lake, store) = memory_lake();
    let lake = lake.with_options(LakeOptions { compact_min_files: 2, ..LakeOptions::default() });
    let table = lake.open_laid_out(&name(), ID, regional(), layout(&[], &["id"])).await.unwrap();
    for i in 0..3 {
        let come = Some(regional_rows(i * 10..i * 10 + 10));
        table.change(RowChanges { come, ..change(i, i + 1) }).await.unwrap();
    }
    let ids = ids_in_files(&store, &table).await;
    assert!(ids.len() == 3 && ids.iter().all(|ids| ids.is_sorted()), "{ids:?}");
    table.change(RowChanges { gone: Arc::new([3, 14].into_iter().collect()), ..change(3, 4) }).await.unwrap();
    assert!(ids_in_files(&store, &table).await.iter().all(|ids| ids.is_sorted()));
    table.maintain(Duration::ZERO, chrono::Utc::now().timestamp_millis() + 1000).await.unwrap();
    let ids = ids_in_files(&store, &table).await;
    assert!(ids.len() == 1 && ids[0].len() == 28 && ids[0].is_sorted(), "{ids:?}");
    assert_eq!(numbers(&table, "SELECT _offset FROM t ORDER BY 1").await.len(), 28);
}

/// A table of numbers `x` and `y` that have nothing to do with each other, in files of 1,000 rows.
async fn plane(lake: &Lake) -> LakeTable {
    let schema = stream_of(vec![Column::new("x", DataType::BigInt), Column::new("y", DataType::BigInt)]).full_schema();
    let table = lake.open(&name(), ID, schema.clone()).await.unwrap();
    for i in 0..8_u64 {
        let numbers: Vec<i64> = (i as i64 * 1000..i as i64 * 1000 + 1000).collect();
        let scattered = |by: i64| Arc::new(Int64Array::from_iter_values(numbers.iter().map(|n| n * by % 7919)));
        let columns: Vec<ArrayRef> = vec![
            scattered(31),
            scattered(1009),
            Arc::new(Int32Array::from(vec![0; 1000])),
            Arc::new(Int64Array::from(numbers.clone())),
            Arc::new(TimestampMicrosecondArray::from(vec![1_000_000; 1000]).with_timezone("UTC")),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let rows = stream_batches(&schema, vec![batch]);
        table.append(&at([i * 1000]), &at([i * 1000 + 1000]), rows).await.unwrap();
    }
    table
}

async fn files_read(table: &LakeTable, filter: &str) -> usize {
    let session = session(table, &table.snapshot());
    let plan = session.sql(&format!("SELECT x FROM t WHERE {filter}")).await.unwrap().create_physical_plan().await;
    displayable(plan.unwrap().as_ref()).indent(true).to_string().matches(".parquet").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn z_order_lets_scans_leave_files_out_by_either_column() {
    let (lake, _) = memory_lake();
    let lake = lake.with_options(LakeOptions {
        target_file_bytes: 1 << 10,
        row_group_rows: 200,
        compact_min_files: 1000,
        ..LakeOptions::default()
    });
    let table = plane(&lake).await;
    let before = table.snapshot();
    for filter in ["x < 200", "y < 200"] {
        assert!(files_read(&table, filter).await as u64 * 4 > before.files * 3, "nearly all files have such rows");
    }
    let columns = Some(vec!["x".to_owned(), "y".to_owned()]);
    let report = table.optimize(columns.clone(), chrono::Utc::now().timestamp_millis()).await.unwrap();
    assert_eq!(report.files_compacted, before.files);
    let after = table.snapshot();
    assert_eq!((after.rows, after.version), (8000, before.version + 1));
    for filter in ["x < 200", "y < 200"] {
        let read = files_read(&table, filter).await as u64;
        assert!(after.files > 8 && read * 2 <= after.files, "{filter}: {read} of {}", after.files);
    }
    assert_eq!(numbers(&table, "SELECT _offset FROM t ORDER BY 1").await, (0..8000).collect::<Vec<_>>());
    let commit = &table.history(Some(1)).await.unwrap()[0];
    assert_eq!((commit.operation.as_str(), commit.rows_added), ("OPTIMIZE", Some(0)));
    assert_eq!(commit.parameters["zOrderBy"], r#"["x","y"]"#);
    let again = table.optimize(columns, chrono::Utc::now().timestamp_millis()).await.unwrap();
    assert_eq!(again.files_compacted, 0, "it is in that order already");
    assert_eq!(table.snapshot().version, after.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn optimize_packs_small_files_and_vacuum_tells_what_goes() {
    let (lake, store) = memory_lake();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for i in 1..=5 {
        append_to(&table, &at([i * 10])).await;
    }
    let now_ms = chrono::Utc::now().timestamp_millis() + 1000;
    let report = table.optimize(None, now_ms).await.unwrap();
    assert_eq!((report.files_compacted, report.files_written), (5, 1));
    assert!(report.bytes_compacted > report.bytes_written);
    assert_is(&table, &at([50])).await;
    let hour = Duration::from_secs(3600);
    assert_eq!(table.vacuum(hour, now_ms, false).await.unwrap().files.len(), 0, "retention keeps them");
    let dry = table.vacuum(Duration::ZERO, now_ms, true).await.unwrap();
    assert_eq!((dry.files.len(), folders(&store).await.len()), (5, 1));
    assert_eq!(store.list(None).count().await, 5 + 1 + 7, "nothing went");
    assert_eq!(table.vacuum(Duration::ZERO, now_ms, false).await.unwrap(), dry);
    assert_eq!(store.list(None).count().await, 1 + 7);
    assert_is(&table, &at([50])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_is_refused() {
    let (lake, _) = memory_lake();
    let table = regional_table(&lake).await;
    for (columns, part) in [
        (vec!["nothing"], "no column \"nothing\""),
        (vec!["day"], "names folders already"),
        (vec!["id"; 9], "at most 8"),
    ] {
        let columns = columns.into_iter().map(str::to_owned).collect();
        let error = table.optimize(Some(columns), 0).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains(part), "{error}");
    }
}
