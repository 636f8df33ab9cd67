//! On a local disk, what is reported done was synced, in the right order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_store::{Lake, Synced, SyncedLocal, store_from_url};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use parking_lot::Mutex;
use url::Url;

use crate::fixture::*;

fn watched() -> (Arc<SyncedLocal>, Arc<Mutex<Vec<Synced>>>) {
    let seen: Arc<Mutex<Vec<Synced>>> = Arc::default();
    let sink = seen.clone();
    (Arc::new(SyncedLocal::watched(move |event| sink.lock().push(event))), seen)
}

fn position(seen: &[Synced], wanted: impl Fn(&Synced) -> bool) -> usize {
    seen.iter().position(wanted).unwrap_or_else(|| panic!("not synced; synced: {seen:#?}"))
}

fn file_like(part: &'static str) -> impl Fn(&Synced) -> bool {
    move |event| matches!(event, Synced::File(path) if path.to_string_lossy().contains(part))
}

fn folder(path: PathBuf) -> impl Fn(&Synced) -> bool {
    move |event| *event == Synced::Folder(path.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_syncs_data_before_the_commit_and_every_folder_on_the_way() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().canonicalize().unwrap();
    let (store, seen) = watched();
    let lake = Lake::new(Url::from_directory_path(base.join("lake")).unwrap(), store);
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    {
        let seen = seen.lock();
        let commit = position(&seen, file_like("00000000000000000000.json"));
        for made_in in [base.clone(), base.join("lake"), base.join("lake/public"), base.join("lake/public/events")] {
            assert!(position(&seen, folder(made_in)) < commit, "a new folder's name is synced before the commit");
        }
        let log = base.join("lake/public/events/_delta_log");
        assert!(seen[commit..].contains(&Synced::Folder(log)), "then the commit's name");
    }
    seen.lock().clear();
    append_to(&table, &at([100])).await;
    let seen = seen.lock();
    let data = position(&seen, file_like(".parquet"));
    let commit = position(&seen, file_like("00000000000000000001.json"));
    let table_folder = position(&seen, folder(base.join("lake/public/events")));
    let log_folder = position(&seen, folder(base.join("lake/public/events/_delta_log")));
    assert!(data < table_folder && table_folder < commit && commit < log_folder, "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_write_is_synced() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().canonicalize().unwrap();
    let (store, seen) = watched();
    let path = |name: &str| Path::from_absolute_path(base.join(name)).unwrap();
    let check = |what: &str, name: &str| {
        let seen = std::mem::take(&mut *seen.lock());
        let file = seen.iter().position(
            |e| matches!(e, Synced::File(p) if p.starts_with(base.join("x")) && p.to_string_lossy().contains(name)),
        );
        let folder = seen.iter().rposition(|e| *e == Synced::Folder(base.join("x")));
        assert!(file.is_some() && folder > file, "{what}: {seen:#?}");
    };
    store.put(&path("x/a"), "1".into()).await.unwrap();
    check("put", "a");
    store.put_opts(&path("x/b"), "1".into(), PutMode::Create.into()).await.unwrap();
    check("put if absent", "b");
    let again = store.put_opts(&path("x/b"), "2".into(), PutMode::Create.into()).await;
    assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
    seen.lock().clear();
    let mut upload = store.put_multipart(&path("x/c")).await.unwrap();
    upload.put_part("12".into()).await.unwrap();
    upload.complete().await.unwrap();
    check("multipart", "c");
    store.copy(&path("x/a"), &path("x/d")).await.unwrap();
    check("copy", "d");
    store.copy_if_not_exists(&path("x/a"), &path("x/e")).await.unwrap();
    check("copy if absent", "e");
    store.rename(&path("x/a"), &path("x/f")).await.unwrap();
    check("rename", "f");
    store.rename_if_not_exists(&path("x/b"), &path("x/g")).await.unwrap();
    check("rename if absent", "g");
    assert_eq!(store.get(&path("x/g")).await.unwrap().bytes().await.unwrap(), "1");
    let left = std::fs::read_dir(base.join("x")).unwrap().count();
    assert_eq!(left, 5, "no staging file stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_a_table_syncs_its_log_folder_first() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().canonicalize().unwrap();
    let url = Url::from_directory_path(&base).unwrap();
    Lake::new(url.clone(), watched().0).open(&name(), ID, schema()).await.unwrap();
    let (store, seen) = watched();
    Lake::new(url, store).open(&name(), ID, schema()).await.unwrap();
    position(&seen.lock(), folder(base.join("public/events/_delta_log")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_on_a_local_folder_lives_through_its_whole_life() {
    let root = tempfile::tempdir().unwrap();
    let text = format!("file://{}/some lake", root.path().display()).replace(' ', "%20");
    let (url, store) = store_from_url(&text, &BTreeMap::new()).unwrap();
    whole_life(Lake::new(url, store)).await;
}

/// What every store must allow.
pub async fn whole_life(lake: Lake) {
    use millstream_store::LakeOptions;
    let lake = lake.with_options(LakeOptions { compact_min_files: 3, checkpoint_every: 3, ..LakeOptions::default() });
    lake.remove(&name(), ID).await.unwrap();
    let table = lake.open(&name(), ID, schema()).await.unwrap();
    for i in 1..=5 {
        append_to(&table, &at([i * 10, i])).await;
    }
    let now_ms = chrono::Utc::now().timestamp_millis();
    let report = table.maintain(Duration::ZERO, now_ms + 5_000).await.unwrap();
    assert_eq!((report.files_compacted, report.files_vacuumed), (5, 5));
    append_to(&table, &at([60, 6])).await;
    assert_is(&table, &at([60, 6])).await;
    let again = lake.open(&name(), ID, schema()).await.unwrap();
    assert_is(&again, &at([60, 6])).await;
    let start = at([50, 5]);
    let twice = again.append(&start, &at([60, 6]), rows(&start, &at([60, 6]))).await.unwrap();
    assert_eq!(twice.version, table.snapshot().version, "the range is there already");
    lake.remove(&name(), ID).await.unwrap();
    assert_eq!(lake.open(&name(), ID, schema()).await.unwrap().snapshot().rows, 0);
    lake.remove(&name(), ID).await.unwrap();
}
