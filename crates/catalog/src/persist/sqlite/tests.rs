//! Owns the tests of the file: its layouts, its formats, and what is refused.

use super::*;
use crate::persist::conformance::{stream, table, view};

#[tokio::test]
async fn what_was_created_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    let first = SqliteCatalog::open(&path).await.unwrap();
    first.create_stream(&stream("kept")).await.unwrap();
    let gone = stream("gone");
    first.create_stream(&gone).await.unwrap();
    first.drop_stream(gone.id).await.unwrap();
    first.close().await;

    let second = SqliteCatalog::open(&path).await.unwrap();
    let names: Vec<_> = second.streams().await.unwrap().iter().map(|s| s.name.to_string()).collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(second.list_dropped().await.unwrap().len(), 1);
}

#[tokio::test]
async fn commits_are_synced_to_the_write_ahead_log() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
    let mode: String = sqlx::query("PRAGMA journal_mode").fetch_one(&catalog.pool).await.unwrap().get(0);
    let synchronous: i64 = sqlx::query("PRAGMA synchronous").fetch_one(&catalog.pool).await.unwrap().get(0);
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let catalog = SqliteCatalog::open(&path).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&catalog.pool).await.unwrap();
    catalog.close().await;
    let message = SqliteCatalog::open(&path).await.unwrap_err().to_string();
    assert!(message.contains("has format 99"), "{message}");
    assert!(message.contains("newer millstream"), "{message}");
}

#[tokio::test]
async fn a_definition_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
    catalog.create_stream(&stream("s")).await.unwrap();
    sqlx::raw_sql("UPDATE streams SET format = 7").execute(&catalog.pool).await.unwrap();
    let message = catalog.streams().await.unwrap_err().to_string();
    assert!(message.starts_with("stream s has format 7"), "{message}");
}

#[tokio::test]
async fn a_damaged_definition_names_its_stream() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
    catalog.create_stream(&stream("s")).await.unwrap();
    sqlx::raw_sql("UPDATE streams SET definition = '{'").execute(&catalog.pool).await.unwrap();
    let error = catalog.streams().await.unwrap_err();
    assert_eq!(error.to_string(), "the catalog's entry for stream s cannot be read");
}

#[tokio::test]
async fn a_file_that_is_no_catalog_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    std::fs::write(&path, "these are not the bytes you are looking for, by a long way").unwrap();
    assert!(matches!(SqliteCatalog::open(&path).await, Err(Error::Storage { action: "opened", .. })));
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("these are not"));
}

/// A definition as format 1 writes it. Never change the file: catalogs that are out there hold the like.
const DEFINITION_1: &str = include_str!("../../../fixtures/definition-1.json");

#[tokio::test]
async fn a_definition_of_every_format_so_far_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
    sqlx::query("INSERT INTO streams VALUES ('x', 'public', 'flights', 3, 1, ?)")
        .bind(DEFINITION_1)
        .execute(&catalog.pool)
        .await
        .unwrap();
    let stream = catalog.streams().await.unwrap().remove(0);
    stream.validate().unwrap();
    assert_eq!((stream.columns.len(), stream.version, stream.options.partitions), (18, 3, 4));
    let written: serde_json::Value = serde_json::from_str(&rows::encode(&stream).unwrap()).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(DEFINITION_1).unwrap());
}

/// A table as format 2 writes it. Never change the file.
const TABLE_2: &str = include_str!("../../../fixtures/table-2.json");

#[tokio::test]
async fn a_table_is_written_in_a_format_that_those_who_know_streams_alone_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
    sqlx::query("INSERT INTO streams VALUES ('0b7b8a7e0f0f4c3c9d4b1c2d3e4f5a6c', 'public', 'orders', 2, 2, ?)")
        .bind(TABLE_2)
        .execute(&catalog.pool)
        .await
        .unwrap();
    let orders = catalog.streams().await.unwrap().remove(0);
    orders.validate().unwrap();
    let written: serde_json::Value = serde_json::from_str(&rows::encode(&orders).unwrap()).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(TABLE_2).unwrap());

    catalog.create_stream(&table("t")).await.unwrap();
    catalog.create_stream(&stream("s")).await.unwrap();
    let rows = sqlx::query("SELECT name, format FROM streams ORDER BY name").fetch_all(&catalog.pool).await.unwrap();
    let formats: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(formats, [("orders".into(), 2), ("s".into(), 1), ("t".into(), 2)]);
}

/// Views as format 1 writes them. Never change the files.
const VIEWS_1: [&str; 2] =
    [include_str!("../../../fixtures/view-1.json"), include_str!("../../../fixtures/derived-1.json")];

#[tokio::test]
async fn a_view_of_every_format_so_far_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
    for (id, definition) in VIEWS_1.iter().enumerate() {
        sqlx::query("INSERT INTO views VALUES (?1, 'public', ?1, 3, 1, ?2)")
            .bind(id.to_string())
            .bind(definition)
            .execute(&catalog.pool)
            .await
            .unwrap();
    }
    let views = catalog.views().await.unwrap();
    assert_eq!(views.iter().map(|v| v.name.name()).collect::<Vec<_>>(), ["delays_next", "severe"]);
    for (view, definition) in views.iter().zip(VIEWS_1) {
        view.validate().unwrap();
        let written: serde_json::Value = serde_json::from_str(&rows::encode(view).unwrap()).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(definition).unwrap());
    }
    sqlx::raw_sql("UPDATE views SET format = 7").execute(&catalog.pool).await.unwrap();
    let message = catalog.views().await.unwrap_err().to_string();
    assert!(message.starts_with("view 0 has format 7"), "{message}");
}

#[tokio::test]
async fn a_file_from_before_views_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let old = SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql(include_str!("../../../fixtures/catalog-1.sql")).execute(&old).await.unwrap();
    old.close().await;

    let catalog = SqliteCatalog::open(&path).await.unwrap();
    let streams = catalog.streams().await.unwrap();
    assert_eq!(streams.iter().map(|s| s.name.name()).collect::<Vec<_>>(), ["flights"]);
    assert_eq!(catalog.list_dropped().await.unwrap().len(), 1);
    assert_eq!(catalog.views().await.unwrap(), []);
    let first = view("v", &[&streams[0]]);
    catalog.create_view(&first).await.unwrap();
    catalog.close().await;

    let again = SqliteCatalog::open(&path).await.unwrap();
    assert_eq!(again.views().await.unwrap(), [first]);
    let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(&again.pool).await.unwrap().get(0);
    assert_eq!(version, 3);
}

#[tokio::test]
async fn two_files_handles_never_give_one_name_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c");
    let (left, right) = (SqliteCatalog::open(&path).await.unwrap(), SqliteCatalog::open(&path).await.unwrap());
    for round in 0..20 {
        let name = format!("n{round}");
        let (stream, view) = (stream(&name), view(&name, &[]));
        let (a, b) = tokio::join!(left.create_stream(&stream), right.create_view(&view));
        assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "{a:?} {b:?}");
    }
}
