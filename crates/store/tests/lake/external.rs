//! Tables that others write to: read at their newest version, changed by commits that nobody's are lost to.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use millstream_catalog::StreamId;
use millstream_store::fault_store::{Failure, FaultStore};
use millstream_store::{Error, LakeOptions, LakeTable, RowEdit, convert_to_delta};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use roaring::RoaringTreemap;
use url::Url;
use uuid::Uuid;

use crate::fixture::fresh_store;

const ONE: StreamId = StreamId(Uuid::from_u128(1));
const OTHER: StreamId = StreamId(Uuid::from_u128(2));

fn place() -> Url {
    Url::parse("memory:///shared/orders").unwrap()
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("part", DataType::Int64, true),
    ]))
}

fn batch(ids: &[i64]) -> RecordBatch {
    let columns_of: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("n{id}")))),
        Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| id % 2))),
    ];
    RecordBatch::try_new(columns(), columns_of).unwrap()
}

fn rows(ids: impl IntoIterator<Item = i64>) -> SendableRecordBatchStream {
    let ids: Vec<i64> = ids.into_iter().collect();
    Box::pin(RecordBatchStreamAdapter::new(columns(), futures::stream::iter([Ok(batch(&ids))])))
}

/// A new table, partitioned, as one writer has it.
async fn made(store: &Arc<dyn ObjectStore>) -> LakeTable {
    LakeTable::create_at(&place(), store, &columns(), &["part".to_owned()]).await.unwrap();
    opened(store, ONE).await
}

async fn opened(store: &Arc<dyn ObjectStore>, id: StreamId) -> LakeTable {
    LakeTable::open_at(&place(), store, id, &[], LakeOptions::default()).await.unwrap().unwrap()
}

/// The rows that an edit of what `table` shows now takes out and brings in.
async fn edit_of(table: &LakeTable, gone: &[i64], come: &[i64]) -> RowEdit {
    let base = table.newest().await.unwrap();
    let mut numbers = RoaringTreemap::new();
    let session = SessionContext::new();
    session.register_table("t", table.numbered_provider(&base).unwrap()).unwrap();
    let found = session.sql("SELECT id, _offset FROM t").await.unwrap().collect().await.unwrap();
    for batch in found {
        let (ids, places) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
        for (id, place) in ids.values().iter().zip(places.values()) {
            if gone.contains(id) {
                assert!(numbers.insert(*place as u64), "two rows have the number {place}");
            }
        }
    }
    let come = if come.is_empty() { vec![] } else { table.stage(rows(come.iter().copied())).await.unwrap() };
    RowEdit { operation: "MERGE".to_owned(), base, come, gone: numbers, missed_rows: false }
}

async fn ids(table: &LakeTable) -> Vec<i64> {
    let snapshot = table.newest().await.unwrap();
    let session = SessionContext::new();
    session.register_table("t", table.provider(&snapshot).unwrap()).unwrap();
    let found = session.sql("SELECT id, name, part FROM t ORDER BY id").await.unwrap().collect().await.unwrap();
    let mut ids = vec![];
    for batch in found {
        for (row, id) in batch.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
            assert_eq!(batch.column(1).as_string_view().value(row), format!("n{id}"));
            assert_eq!(batch.column(2).as_primitive::<Int64Type>().value(row), id % 2);
            ids.push(*id);
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_see_and_keep_each_others_changes() {
    let store = fresh_store();
    let one = made(&store).await;
    one.edit(edit_of(&one, &[], &(0..20).collect::<Vec<_>>()).await).await.unwrap();
    let other = opened(&store, OTHER).await;
    assert_eq!(ids(&other).await, (0..20).collect::<Vec<_>>());
    // Both read the same version; what they change is apart.
    let (mine, theirs) = (edit_of(&one, &[3, 5], &[100]).await, edit_of(&other, &[2], &[200, 201]).await);
    other.edit(theirs).await.unwrap();
    one.edit(mine).await.unwrap();
    let left: Vec<i64> = (0..20).filter(|id| ![2, 3, 5].contains(id)).chain([100, 200, 201]).collect();
    assert_eq!((ids(&one).await, ids(&other).await), (left.clone(), left.clone()));
    // Both take rows out of one file: the second one has to look again.
    let (mine, theirs) = (edit_of(&one, &[4], &[]).await, edit_of(&other, &[6], &[]).await);
    other.edit(theirs).await.unwrap();
    let clash = one.edit(mine).await.unwrap_err();
    assert!(matches!(clash, Error::Clash { .. }), "{clash}");
    one.edit(edit_of(&one, &[4], &[]).await).await.unwrap();
    assert_eq!(ids(&other).await, left.iter().copied().filter(|id| ![4, 6].contains(id)).collect::<Vec<_>>());
    // Rows that came because none were there clash with those that somebody added.
    let mine = RowEdit { missed_rows: true, ..edit_of(&one, &[], &[300]).await };
    other.edit(edit_of(&other, &[], &[301]).await).await.unwrap();
    assert!(matches!(one.edit(mine).await.unwrap_err(), Error::Clash { .. }));
    // A file of which all rows go is not written again.
    let all = ids(&one).await;
    let after = one.edit(edit_of(&one, &all, &[]).await).await.unwrap();
    assert_eq!((after.files, ids(&other).await), (0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_whose_store_fails_is_there_once_or_not() {
    for failure in [Failure::Before, Failure::After] {
        for k in 1.. {
            let store = fresh_store();
            let faulty = FaultStore::new(store.clone());
            let handle: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
            let table = made(&handle).await;
            table.edit(edit_of(&table, &[], &(0..20).collect::<Vec<_>>()).await).await.unwrap();
            let edit = edit_of(&table, &[1, 2, 3], &[100]).await;
            faulty.fail_at(k, failure);
            let done = table.edit(edit).await;
            let fired = faulty.fired();
            faulty.set_outage(false);
            let mut expected: Vec<i64> = (0..20).collect();
            if done.is_ok() {
                expected = (0..20).filter(|id| !(1..=3).contains(id)).chain([100]).collect();
            }
            assert_eq!(ids(&table).await, expected, "{failure:?} at {k}: {done:?}");
            assert_eq!(ids(&opened(&store, OTHER).await).await, expected, "{failure:?} at {k}: {done:?}");
            if !fired {
                done.unwrap();
                assert!(k > 2, "only {k} operations were tried");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_be_written_says_which_feature_it_needs() {
    let store = fresh_store();
    let one = made(&store).await;
    one.edit(edit_of(&one, &[], &[1, 2]).await).await.unwrap();
    let commit = |version: i64| Path::from(format!("shared/orders/_delta_log/{version:020}.json"));
    let first = store.get(&commit(0)).await.unwrap().bytes().await.unwrap();
    let line = String::from_utf8(first.to_vec()).unwrap();
    let metadata = line.lines().find(|l| l.contains("metaData")).unwrap();
    let with = |property: &str| metadata.replace("\"configuration\":{}", &format!("\"configuration\":{{{property}}}"));
    store.put(&commit(2), with("\"delta.appendOnly\":\"true\"").into()).await.unwrap();
    one.edit(edit_of(&one, &[], &[3]).await).await.unwrap();
    let refused = one.edit(edit_of(&one, &[1], &[]).await).await.unwrap_err().to_string();
    assert!(refused.contains("delta.appendOnly"), "{refused}");
    let mapped = format!(
        "{}\n{}",
        r#"{"protocol":{"minReaderVersion":2,"minWriterVersion":5}}"#,
        with("\"delta.columnMapping.mode\":\"name\"")
    );
    store.put(&commit(4), mapped.into()).await.unwrap();
    for error in [
        one.newest().await.unwrap_err(),
        LakeTable::open_at(&place(), &store, ONE, &[], LakeOptions::default()).await.unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("columnMapping") && error.contains("orders"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_log_leads_elsewhere_is_refused() {
    let store = fresh_store();
    let one = made(&store).await;
    let add = r#"{"add":{"path":"memory:///elsewhere/part-1.parquet","partitionValues":{},"size":9,"modificationTime":0,"dataChange":true}}"#;
    store.put(&Path::from(format!("shared/orders/_delta_log/{:020}.json", 1)), add.into()).await.unwrap();
    for error in [
        one.newest().await.unwrap_err(),
        LakeTable::open_at(&place(), &store, ONE, &[], LakeOptions::default()).await.unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("elsewhere/part-1.parquet") && error.contains("orders"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_somebody_deleted_by_a_vector_meanwhile_are_a_clash() {
    let store = fresh_store();
    let one = made(&store).await;
    one.edit(edit_of(&one, &[], &[1, 3, 5]).await).await.unwrap();
    let commit = |version: i64| Path::from(format!("shared/orders/_delta_log/{version:020}.json"));
    let written = store.get(&commit(1)).await.unwrap().bytes().await.unwrap();
    let line = std::str::from_utf8(&written).unwrap().lines().find(|l| l.starts_with("{\"add\"")).unwrap();
    let mut add: serde_json::Value = serde_json::from_str(line).unwrap();
    let mine = edit_of(&one, &[3], &[]).await;
    // The path stays, and with it only the rows that the vector leaves.
    let remove =
        serde_json::json!({"remove": {"path": add["add"]["path"], "dataChange": true, "deletionTimestamp": 1}});
    add["add"]["deletionVector"] = serde_json::json!({
        "storageType": "i", "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
        "sizeInBytes": 44, "cardinality": 6,
    });
    store.put(&commit(2), format!("{add}\n{remove}").into()).await.unwrap();
    let error = one.edit(mine).await.unwrap_err();
    assert!(matches!(error, Error::Clash { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_whose_log_leads_elsewhere_is_refused() {
    let store = fresh_store();
    made(&store).await;
    let commit = |version: i64| Path::from(format!("shared/orders/_delta_log/{version:020}.json"));
    let add = r#"{"add":{"path":"memory:///elsewhere/part-1.parquet","partitionValues":{},"size":9,"modificationTime":0,"dataChange":true}}"#;
    let remove = r#"{"remove":{"path":"memory:///elsewhere/part-1.parquet","dataChange":true,"deletionTimestamp":1}}"#;
    store.put(&commit(1), add.into()).await.unwrap();
    store.put(&commit(2), remove.into()).await.unwrap();
    let one = opened(&store, ONE).await;
    assert_eq!(ids(&one).await, Vec::<i64>::new());
    let error = one.snapshot_at(1).await.unwrap_err().to_string();
    assert!(error.contains("elsewhere/part-1.parquet"), "{error}");
    assert_eq!(one.snapshot_at(0).await.unwrap().files, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_made_anew_in_its_place_is_read_from_its_beginning() {
    let store = fresh_store();
    let one = made(&store).await;
    one.edit(edit_of(&one, &[], &[1, 2]).await).await.unwrap();
    assert_eq!(ids(&one).await, [1, 2]);
    // Its log gets as long as the first one's was, and then longer.
    for rows in [vec![7], vec![8, 9]] {
        let objects: Vec<_> = store.list(Some(&Path::from("shared/orders"))).try_collect().await.unwrap();
        for object in objects {
            store.delete(&object.location).await.unwrap();
        }
        let other = made(&store).await;
        for &row in &rows {
            other.edit(edit_of(&other, &[], &[row]).await).await.unwrap();
        }
        assert_eq!(ids(&one).await, rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cleaned_up_is_read_again() {
    let store = fresh_store();
    let (one, other) = (made(&store).await, opened(&store, OTHER).await);
    for id in 0..3 {
        one.edit(edit_of(&one, &[], &[id]).await).await.unwrap();
    }
    // Another one's table took this one's place, and its log begins later.
    let log = |name: &str| Path::from(format!("shared/orders/_delta_log/{name}"));
    let table = deltalake_core::DeltaTable::new(deltalake_core::logstore::default_logstore(
        Arc::new(object_store::prefix::PrefixStore::new(store.clone(), Path::from("shared/orders"))),
        store.clone(),
        &Url::parse("memory:///shared/orders/").unwrap(),
        &Default::default(),
    ));
    let mut table = table;
    table.load().await.unwrap();
    deltalake_core::checkpoints::create_checkpoint(&table, None).await.unwrap();
    for version in 0..=2 {
        store.delete(&log(&format!("{version:020}.json"))).await.unwrap();
    }
    assert_eq!(ids(&other).await, [0, 1, 2]);
}

async fn put_parquet(store: &Arc<dyn ObjectStore>, path: &str, batch: &RecordBatch) {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    store.put(&Path::from(path), bytes.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_parquet_files_becomes_a_table_where_it_is() {
    let store = fresh_store();
    let plain = |ids: &[i64]| batch(ids).project(&[0, 1]).unwrap();
    for (name, ids) in [("part=0/a.parquet", &[0, 2, 4][..]), ("part=1/b%20c.parquet", &[1, 3])] {
        put_parquet(&store, &format!("shared/orders/{name}"), &plain(ids)).await;
    }
    put_parquet(&store, "shared/orders/_hidden/x.parquet", &plain(&[9])).await;
    let part = [Field::new("part", DataType::Int64, true)];
    let unnamed = convert_to_delta(&place(), &store, &[]).await.unwrap_err().to_string();
    assert!(unnamed.contains("PARTITIONED BY (part …)"), "{unnamed}");
    let done = convert_to_delta(&place(), &store, &part).await.unwrap();
    assert_eq!((done.files, done.rows), (2, 5));
    let twice = convert_to_delta(&place(), &store, &part).await.unwrap_err().to_string();
    assert!(twice.contains("a Delta table already"), "{twice}");
    let table = opened(&store, ONE).await;
    assert_eq!(ids(&table).await, [0, 1, 2, 3, 4]);
    table.edit(edit_of(&table, &[1, 4], &[6]).await).await.unwrap();
    assert_eq!(ids(&table).await, [0, 2, 3, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_go_together_make_no_table() {
    let store = fresh_store();
    put_parquet(&store, "shared/orders/a.parquet", &batch(&[1])).await;
    let column: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let other = RecordBatch::try_from_iter([("id", column)]).unwrap();
    put_parquet(&store, "shared/orders/b.parquet", &other).await;
    let error = convert_to_delta(&place(), &store, &[]).await.unwrap_err().to_string();
    assert!(error.contains("b.parquet") && error.contains("\"id\""), "{error}");
    store.put(&Path::from("shared/orders/b.parquet"), "PAR1 no".into()).await.unwrap();
    let error = convert_to_delta(&place(), &store, &[]).await.unwrap_err().to_string();
    assert!(error.contains("b.parquet") && error.contains("not sound"), "{error}");
    assert!(LakeTable::open_at(&place(), &store, ONE, &[], LakeOptions::default()).await.unwrap().is_none());
}
