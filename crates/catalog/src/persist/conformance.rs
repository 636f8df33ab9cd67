//! Owns the suite that every catalog passes.

use uuid::Uuid;

use super::{Catalog, MemoryCatalog, SqliteCatalog};
use crate::{Column, DataType, Error, ObjectName, Stream, StreamId, StreamOptions};

/// A small stream of that name.
pub(super) fn stream(name: &str) -> Stream {
    Stream {
        id: StreamId(Uuid::new_v4()),
        name: ObjectName::parse(name).unwrap(),
        columns: vec![Column::new("a", DataType::BigInt).not_null(), Column::new("b", DataType::Json)],
        checks: vec![],
        watermark: None,
        partition_by: vec![],
        options: StreamOptions::default(),
        comment: None,
        version: 1,
        created_at_ms: 7,
    }
}

macro_rules! conforms {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::MemoryCatalog::new()).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                let dir = tempfile::tempdir().unwrap();
                super::$test(&super::SqliteCatalog::open(dir.path().join("catalog")).await.unwrap()).await;
            })*
        }
    };
}

conforms!(
    streams_come_back_as_they_were_by_name,
    a_taken_name_is_refused,
    an_alter_replaces_the_version_before_it_only,
    a_drop_leaves_a_tombstone_until_it_is_forgotten,
    an_unknown_stream_is_not_found,
    one_of_two_racing_alters_wins,
);

async fn streams_come_back_as_they_were_by_name(catalog: &dyn Catalog) {
    let (b, a, other) = (stream("b"), stream("a"), stream("ops.a"));
    for s in [&b, &a, &other] {
        catalog.create_stream(s).await.unwrap();
    }
    assert_eq!(catalog.streams().await.unwrap(), [other, a, b]);
}

async fn a_taken_name_is_refused(catalog: &dyn Catalog) {
    let first = stream("s");
    catalog.create_stream(&first).await.unwrap();
    let error = catalog.create_stream(&stream("s")).await.unwrap_err();
    assert_eq!(error.to_string(), "stream \"s\" already exists");
    let same_id = Stream { name: ObjectName::parse("t").unwrap(), ..first.clone() };
    assert!(matches!(catalog.create_stream(&same_id).await, Err(Error::AlreadyExists { .. })));
    assert_eq!(catalog.streams().await.unwrap(), [first]);
}

async fn an_alter_replaces_the_version_before_it_only(catalog: &dyn Catalog) {
    let first = stream("s");
    catalog.create_stream(&first).await.unwrap();
    let second = Stream { version: 2, comment: Some("two".into()), ..first.clone() };
    catalog.alter_stream(&second).await.unwrap();
    for version in [1, 2, 4] {
        let stale = Stream { version, ..first.clone() };
        assert!(matches!(catalog.alter_stream(&stale).await, Err(Error::Changed { .. })), "version {version}");
    }
    assert_eq!(catalog.streams().await.unwrap(), [second]);
}

async fn a_drop_leaves_a_tombstone_until_it_is_forgotten(catalog: &dyn Catalog) {
    let (first, other) = (stream("s"), stream("t"));
    for s in [&other, &first] {
        catalog.create_stream(s).await.unwrap();
    }
    catalog.drop_stream(other.id).await.unwrap();
    catalog.drop_stream(first.id).await.unwrap();
    assert_eq!(catalog.streams().await.unwrap(), []);
    let ids: Vec<_> = catalog.list_dropped().await.unwrap().into_iter().map(|d| (d.id, d.name)).collect();
    assert_eq!(ids, [(other.id, other.name), (first.id, first.name.clone())]);

    let again = stream("s");
    assert!(matches!(catalog.create_stream(&again).await, Err(Error::DropUnfinished { .. })));
    catalog.forget_dropped(first.id).await.unwrap();
    catalog.forget_dropped(first.id).await.unwrap();
    assert_eq!(catalog.list_dropped().await.unwrap().len(), 1);
    catalog.create_stream(&again).await.unwrap();
    assert_eq!(catalog.streams().await.unwrap(), [again]);
}

async fn an_unknown_stream_is_not_found(catalog: &dyn Catalog) {
    let ghost = Stream { version: 2, ..stream("ghost") };
    assert!(matches!(catalog.alter_stream(&ghost).await, Err(Error::NotFound { .. })));
    assert!(matches!(catalog.drop_stream(ghost.id).await, Err(Error::NotFound { .. })));
    assert_eq!(catalog.list_dropped().await.unwrap(), []);
}

async fn one_of_two_racing_alters_wins(catalog: &dyn Catalog) {
    let first = stream("s");
    catalog.create_stream(&first).await.unwrap();
    let left = Stream { version: 2, comment: Some("left".into()), ..first.clone() };
    let right = Stream { version: 2, comment: Some("right".into()), ..first.clone() };
    let (a, b) = tokio::join!(catalog.alter_stream(&left), catalog.alter_stream(&right));
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1);
}
