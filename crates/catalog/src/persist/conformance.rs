//! Owns the suite that every catalog passes.

use uuid::Uuid;

use super::{Catalog, MemoryCatalog, SqliteCatalog};
use crate::{
    Column, DataType, Dependency, Error, Generated, ObjectId, ObjectName, PrimaryKey, Stream, StreamId, StreamOptions,
    TableSpec, View, ViewId, ViewKind, ViewOptions, ViewState,
};

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
        table: None,
    }
}

/// A small table of that name.
pub(super) fn table(name: &str) -> Stream {
    let spec = TableSpec {
        primary_key: Some(PrimaryKey { name: "k".into(), columns: vec!["a".into()] }),
        generated: vec![Generated { column: "c".into(), expression: "a + 1".into() }],
        partitioned_by: vec!["c".into()],
        sorted_by: vec!["a".into()],
        location: Some("s3://bucket/t".into()),
        ..TableSpec::default()
    };
    let mut stream = stream(name);
    stream.columns.push(Column::new("c", DataType::BigInt));
    Stream { table: Some(spec), ..stream }
}

/// A materialized view of that name over those streams.
pub(super) fn view(name: &str, inputs: &[&Stream]) -> View {
    let depends_on = inputs.iter().map(|s| Dependency { id: ObjectId::Stream(s.id), name: s.name.clone() });
    View {
        id: ViewId(Uuid::new_v4()),
        name: ObjectName::parse(name).unwrap(),
        kind: ViewKind::MaterializedView,
        query: "SELECT a, b FROM s".into(),
        columns: vec![Column::new("a", DataType::BigInt).not_null(), Column::new("b", DataType::Json)],
        named_columns: false,
        depends_on: depends_on.collect(),
        options: ViewOptions::default(),
        state: ViewState::Running,
        replacement_for: None,
        emit_on_window_close: false,
        comment: None,
        version: 1,
        created_at_ms: 7,
    }
}

/// The same view, over another view as well.
fn over(below: &View, view: View) -> View {
    let mut depends_on = view.depends_on.clone();
    depends_on.push(Dependency { id: below.object(), name: below.name.clone() });
    View { depends_on, ..view }
}

/// A stream and the view that writes it.
fn derived(name: &str, inputs: &[&Stream]) -> (Stream, View) {
    let stream = stream(name);
    let view = View { kind: ViewKind::DerivedStream { stream: stream.id }, ..view(name, inputs) };
    (stream, view)
}

/// The next version of a view.
fn next(view: &View) -> View {
    View { version: view.version + 1, ..view.clone() }
}

/// The names of what is there: streams, then views.
async fn names(catalog: &dyn Catalog) -> (Vec<String>, Vec<String>) {
    let streams = catalog.streams().await.unwrap().iter().map(|s| s.name.to_string()).collect();
    (streams, catalog.views().await.unwrap().iter().map(|v| v.name.to_string()).collect())
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
    tables_come_back_as_they_were_among_streams,
    a_table_does_not_become_a_stream,
    a_renamed_table_keeps_its_folder_until_it_is_gone,
    an_alter_drops_what_does_not_go_with_it_or_nothing,
    an_announced_stream_is_listed_as_dropped_until_it_is_there,
    a_schema_goes_when_nothing_lies_in_it,
    a_plain_view_gets_another_query_while_nothing_keeps_its_rows,
    views_come_back_as_they_were_by_name,
    streams_and_views_share_one_namespace,
    a_view_needs_what_it_reads,
    an_altered_view_keeps_its_query_and_its_inputs,
    a_derived_stream_comes_and_goes_with_its_view,
    a_derived_stream_keeps_its_name_and_its_columns,
    what_is_read_cannot_be_dropped_alone,
    a_cascade_drops_all_or_nothing,
    a_dropped_view_frees_its_name_and_leaves_a_tombstone,
    a_replacement_takes_the_name_and_the_readers,
    a_replacement_that_does_not_fit_is_refused,
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

async fn tables_come_back_as_they_were_among_streams(catalog: &dyn Catalog) {
    let (s, t) = (stream("s"), table("a"));
    catalog.create_stream(&s).await.unwrap();
    catalog.create_stream(&t).await.unwrap();
    assert_eq!(catalog.streams().await.unwrap(), [t.clone(), s]);
    let taken = |result: crate::Result<()>| result.unwrap_err().to_string();
    assert_eq!(taken(catalog.create_stream(&stream("a")).await), "table \"a\" already exists");
    assert_eq!(taken(catalog.create_stream(&table("s")).await), "stream \"s\" already exists");
    assert_eq!(taken(catalog.create_view(&view("a", &[])).await), "table \"a\" already exists");
    let v = view("v", &[&t]);
    catalog.create_view(&v).await.unwrap();
    let message = catalog.drop_stream(t.id).await.unwrap_err().to_string();
    assert!(message.starts_with("table \"a\" cannot be dropped while materialized view \"v\" reads it"), "{message}");
    catalog.drop_objects(&[ObjectId::View(v.id), ObjectId::Stream(t.id)]).await.unwrap();
    assert_eq!(catalog.list_dropped().await.unwrap().len(), 1);
}

async fn a_table_does_not_become_a_stream(catalog: &dyn Catalog) {
    let (s, t) = (stream("s"), table("t"));
    catalog.create_stream(&s).await.unwrap();
    catalog.create_stream(&t).await.unwrap();
    let next = Stream { version: 2, comment: Some("two".into()), ..t.clone() };
    catalog.alter_stream(&next).await.unwrap();
    for changed in [Stream { version: 3, table: None, ..next.clone() }, Stream { version: 2, table: next.table, ..s }] {
        let message = catalog.alter_stream(&changed).await.unwrap_err().to_string();
        assert!(message.ends_with("it cannot become another kind of object"), "{message}");
    }
}

async fn a_renamed_table_keeps_its_folder_until_it_is_gone(catalog: &dyn Catalog) {
    let first = table("old");
    catalog.create_stream(&first).await.unwrap();
    let mut second = Stream { version: 2, name: ObjectName::parse("new").unwrap(), ..first.clone() };
    second.table.as_mut().unwrap().folder = Some("old".into());
    catalog.alter_stream(&second).await.unwrap();
    assert_eq!(catalog.streams().await.unwrap(), [second.clone()]);
    assert_eq!(second.folder().to_string(), "old");
    catalog.drop_stream(second.id).await.unwrap();
    let left = catalog.list_dropped().await.unwrap();
    assert_eq!(left, [crate::DroppedStream { id: first.id, name: ObjectName::parse("old").unwrap() }]);
    assert!(matches!(catalog.create_stream(&table("old")).await, Err(Error::DropUnfinished { .. })));
    catalog.create_stream(&table("new")).await.unwrap();
}

async fn an_alter_drops_what_does_not_go_with_it_or_nothing(catalog: &dyn Catalog) {
    let t = table("t");
    catalog.create_stream(&t).await.unwrap();
    let (v, above) = (view("v", &[&t]), view("above", &[]));
    let above = over(&v, above);
    for view in [&v, &above] {
        catalog.create_view(view).await.unwrap();
    }
    let next = Stream { version: 2, comment: Some("less".into()), ..t.clone() };
    assert!(matches!(catalog.alter_and_drop(&next, &[v.object()]).await, Err(Error::InUse { .. })));
    assert_eq!(catalog.streams().await.unwrap(), [t]);
    catalog.alter_and_drop(&next, &[above.object(), v.object()]).await.unwrap();
    assert_eq!(catalog.streams().await.unwrap(), [next]);
    assert_eq!(catalog.views().await.unwrap(), []);
}

async fn an_announced_stream_is_listed_as_dropped_until_it_is_there(catalog: &dyn Catalog) {
    let t = table("t");
    catalog.announce_stream(&t).await.unwrap();
    assert_eq!(catalog.list_dropped().await.unwrap().len(), 1);
    assert!(matches!(catalog.create_stream(&stream("t")).await, Err(Error::DropUnfinished { .. })));
    assert!(matches!(catalog.announce_stream(&stream("t")).await, Err(Error::DropUnfinished { .. })));
    catalog.create_stream(&t).await.unwrap();
    assert_eq!(catalog.list_dropped().await.unwrap(), []);
    assert_eq!(catalog.streams().await.unwrap(), [t]);
}

async fn a_schema_goes_when_nothing_lies_in_it(catalog: &dyn Catalog) {
    catalog.create_schema("ops").await.unwrap();
    catalog.create_schema("b").await.unwrap();
    assert_eq!(catalog.schemas().await.unwrap(), ["b", "ops"]);
    assert!(matches!(catalog.create_schema("ops").await, Err(Error::AlreadyExists { .. })));
    assert!(matches!(catalog.create_schema("a b").await, Err(Error::InvalidName { .. })));
    let (s, v) = (stream("ops.s"), view("ops.v", &[]));
    catalog.create_stream(&s).await.unwrap();
    catalog.create_view(&v).await.unwrap();
    let message = catalog.drop_schema("ops").await.unwrap_err().to_string();
    assert!(message.contains("materialized view \"ops.v\" lies in it and stream \"ops.s\" lies in it"), "{message}");
    catalog.drop_objects(&[v.object(), ObjectId::Stream(s.id)]).await.unwrap();
    assert!(matches!(catalog.drop_schema("ops").await, Err(Error::DropUnfinished { .. })));
    catalog.forget_dropped(s.id).await.unwrap();
    catalog.drop_schema("ops").await.unwrap();
    assert!(matches!(catalog.drop_schema("ops").await, Err(Error::NotFound { .. })));
    assert_eq!(catalog.schemas().await.unwrap(), ["b"]);
}

async fn a_plain_view_gets_another_query_while_nothing_keeps_its_rows(catalog: &dyn Catalog) {
    let plain = |name: &str, inputs: &[&Stream]| View { kind: ViewKind::PlainView, ..view(name, inputs) };
    let (s, t) = (stream("s"), stream("t"));
    catalog.create_stream(&s).await.unwrap();
    catalog.create_stream(&t).await.unwrap();
    let below = plain("below", &[&s]);
    catalog.create_view(&below).await.unwrap();
    let above = over(&below, plain("above", &[&s]));
    catalog.create_view(&above).await.unwrap();
    assert!(catalog.drop_view(below.id).await.unwrap_err().to_string().contains("view \"above\" reads it"));
    let other = View { query: "SELECT a, b FROM t".into(), depends_on: plain("x", &[&t]).depends_on, ..next(&below) };
    let narrow = View { columns: other.columns[..1].to_vec(), ..other.clone() };
    assert!(catalog.alter_view(&narrow).await.unwrap_err().to_string().contains("it has no column \"b\""));
    let circle = View { depends_on: over(&above, other.clone()).depends_on, ..other.clone() };
    assert!(catalog.alter_view(&circle).await.unwrap_err().to_string().contains("it would read itself"));
    catalog.alter_view(&other).await.unwrap();
    let kept = over(&above, view("kept", &[&t]));
    catalog.create_view(&kept).await.unwrap();
    let message = catalog.alter_view(&View { query: "SELECT 1, 2".into(), ..next(&other) }).await.unwrap_err();
    assert!(message.to_string().contains("cannot be replaced while materialized view \"kept\" reads it"), "{message}");
    catalog.alter_view(&View { comment: Some("x".into()), ..next(&other) }).await.unwrap();
    assert_eq!(names(catalog).await.1, ["above", "below", "kept"]);
}

async fn views_come_back_as_they_were_by_name(catalog: &dyn Catalog) {
    let s = stream("s");
    catalog.create_stream(&s).await.unwrap();
    let (b, a, other) = (view("b", &[&s]), view("a", &[&s]), view("ops.a", &[]));
    for v in [&b, &a, &other] {
        catalog.create_view(v).await.unwrap();
    }
    assert_eq!(catalog.views().await.unwrap(), [other, a, b]);
}

async fn streams_and_views_share_one_namespace(catalog: &dyn Catalog) {
    let (s, v) = (stream("s"), view("v", &[]));
    catalog.create_stream(&s).await.unwrap();
    catalog.create_view(&v).await.unwrap();
    let refused = |result: crate::Result<()>| result.unwrap_err().to_string();
    assert_eq!(refused(catalog.create_view(&view("s", &[])).await), "stream \"s\" already exists");
    assert_eq!(refused(catalog.create_view(&view("v", &[])).await), "materialized view \"v\" already exists");
    assert_eq!(refused(catalog.create_stream(&stream("v")).await), "materialized view \"v\" already exists");
    let (stream_s, view_s) = derived("s", &[]);
    assert_eq!(refused(catalog.create_derived_stream(&stream_s, &view_s).await), "stream \"s\" already exists");
    let same_id = View { id: v.id, ..view("w", &[]) };
    assert!(matches!(catalog.create_view(&same_id).await, Err(Error::AlreadyExists { .. })));
    let renamed = View { name: s.name.clone(), ..next(&v) };
    assert_eq!(refused(catalog.alter_view(&renamed).await), "stream \"s\" already exists");
    let renamed = Stream { name: v.name.clone(), version: 2, ..s.clone() };
    assert_eq!(refused(catalog.alter_stream(&renamed).await), "materialized view \"v\" already exists");

    catalog.drop_stream(s.id).await.unwrap();
    assert!(matches!(catalog.create_view(&view("s", &[])).await, Err(Error::DropUnfinished { .. })));
    catalog.forget_dropped(s.id).await.unwrap();
    catalog.create_view(&view("s", &[])).await.unwrap();
    assert_eq!(names(catalog).await, (vec![], vec!["s".into(), "v".into()]));
}

async fn a_view_needs_what_it_reads(catalog: &dyn Catalog) {
    let ghost = stream("ghost");
    let refused = |result: crate::Result<()>| result.unwrap_err().to_string();
    assert_eq!(refused(catalog.create_view(&view("v", &[&ghost])).await), "stream \"ghost\" does not exist");
    let over_ghost = over(&view("below", &[]), view("v", &[]));
    assert_eq!(refused(catalog.create_view(&over_ghost).await), "materialized view \"below\" does not exist");
    catalog.create_stream(&ghost).await.unwrap();
    let other_name = Stream { name: ObjectName::parse("other").unwrap(), ..ghost.clone() };
    assert!(matches!(catalog.create_view(&view("v", &[&other_name])).await, Err(Error::Changed { .. })));
    let itself = view("v", &[]);
    assert!(matches!(catalog.create_view(&over(&itself, itself.clone())).await, Err(Error::InvalidDefinition { .. })));
    catalog.create_view(&view("v", &[&ghost])).await.unwrap();
}

async fn an_altered_view_keeps_its_query_and_its_inputs(catalog: &dyn Catalog) {
    let (s, other) = (stream("s"), stream("other"));
    catalog.create_stream(&s).await.unwrap();
    catalog.create_stream(&other).await.unwrap();
    let first = view("v", &[&s]);
    assert!(matches!(catalog.alter_view(&next(&first)).await, Err(Error::NotFound { .. })));
    catalog.create_view(&first).await.unwrap();
    let second = View { state: ViewState::Suspended, name: ObjectName::parse("w").unwrap(), ..next(&first) };
    catalog.alter_view(&second).await.unwrap();
    assert!(matches!(catalog.alter_view(&second).await, Err(Error::Changed { .. })));
    for bad in [
        View { query: "SELECT 1".into(), ..next(&second) },
        View { columns: vec![Column::new("a", DataType::Text)], ..next(&second) },
        View { depends_on: view("v", &[&other]).depends_on, ..next(&second) },
        View { replacement_for: Some(ViewId(Uuid::new_v4())), ..next(&second) },
        View { kind: ViewKind::DerivedStream { stream: s.id }, ..next(&second) },
    ] {
        assert!(matches!(catalog.alter_view(&bad).await, Err(Error::InvalidDefinition { .. })), "{bad:?}");
    }
    assert_eq!(catalog.views().await.unwrap(), [second]);
}

async fn a_derived_stream_comes_and_goes_with_its_view(catalog: &dyn Catalog) {
    let (stream_d, view_d) = derived("d", &[]);
    for broken in [view("d", &[]), View { name: ObjectName::parse("e").unwrap(), ..view_d.clone() }] {
        let result = catalog.create_derived_stream(&stream_d, &broken).await;
        assert!(matches!(result, Err(Error::InvalidDefinition { .. })));
    }
    assert!(matches!(catalog.create_view(&view_d).await, Err(Error::InvalidDefinition { .. })));
    assert_eq!(names(catalog).await, (vec![], vec![]));
    catalog.create_derived_stream(&stream_d, &view_d).await.unwrap();
    assert_eq!(catalog.streams().await.unwrap(), std::slice::from_ref(&stream_d));
    assert_eq!(catalog.views().await.unwrap(), std::slice::from_ref(&view_d));
    catalog.drop_stream(stream_d.id).await.unwrap();
    assert_eq!(names(catalog).await, (vec![], vec![]));
    assert_eq!(catalog.list_dropped().await.unwrap()[0].id, stream_d.id);
    assert_eq!(catalog.list_dropped_views().await.unwrap()[0].id, view_d.id);

    let (stream_e, view_e) = derived("e", &[]);
    catalog.create_derived_stream(&stream_e, &view_e).await.unwrap();
    catalog.drop_view(view_e.id).await.unwrap();
    assert_eq!(names(catalog).await, (vec![], vec![]));
    assert_eq!(catalog.list_dropped().await.unwrap().len(), 2);
}

async fn a_derived_stream_keeps_its_name_and_its_columns(catalog: &dyn Catalog) {
    let (first, written) = derived("d", &[]);
    catalog.create_derived_stream(&first, &written).await.unwrap();
    let second = Stream { comment: Some("kept".into()), version: 2, ..first.clone() };
    catalog.alter_stream(&second).await.unwrap();
    let name = ObjectName::parse("e").unwrap();
    let mut wider = Stream { version: 3, ..second.clone() };
    wider.columns.push(Column::new("c", DataType::Text));
    for bad in [Stream { name: name.clone(), version: 3, ..second.clone() }, wider] {
        assert!(matches!(catalog.alter_stream(&bad).await, Err(Error::InvalidDefinition { .. })));
    }
    let renamed = View { name, ..next(&written) };
    assert!(matches!(catalog.alter_view(&renamed).await, Err(Error::InvalidDefinition { .. })));
    catalog.alter_view(&View { state: ViewState::Suspended, ..next(&written) }).await.unwrap();
    assert_eq!(catalog.streams().await.unwrap(), [second]);
}

async fn what_is_read_cannot_be_dropped_alone(catalog: &dyn Catalog) {
    let s = stream("s");
    catalog.create_stream(&s).await.unwrap();
    let (stream_d, view_d) = derived("d", &[&s]);
    catalog.create_derived_stream(&stream_d, &view_d).await.unwrap();
    let v = view("v", &[&s, &stream_d]);
    catalog.create_view(&v).await.unwrap();
    let message = catalog.drop_stream(s.id).await.unwrap_err().to_string();
    assert_eq!(
        message,
        "stream \"s\" cannot be dropped while materialized view \"v\" reads it and stream \"d\" reads it: \
         drop that first, or add CASCADE"
    );
    assert!(matches!(catalog.drop_view(view_d.id).await, Err(Error::InUse { .. })));
    let replacement = View { replacement_for: Some(v.id), ..view("next", &[&s]) };
    catalog.create_view(&replacement).await.unwrap();
    let message = catalog.drop_view(v.id).await.unwrap_err().to_string();
    assert!(message.contains("while materialized view \"next\" is to replace it"), "{message}");
    let name = ObjectName::parse("t").unwrap();
    let renamed = Stream { name, version: 2, ..s.clone() };
    assert!(matches!(catalog.alter_stream(&renamed).await, Err(Error::InUse { .. })));
    assert_eq!(names(catalog).await.1, ["d", "next", "v"]);
    assert_eq!(catalog.list_dropped_views().await.unwrap(), []);
}

async fn a_cascade_drops_all_or_nothing(catalog: &dyn Catalog) {
    let s = stream("s");
    catalog.create_stream(&s).await.unwrap();
    let (stream_d, view_d) = derived("d", &[&s]);
    catalog.create_derived_stream(&stream_d, &view_d).await.unwrap();
    let v = over(&view_d, view("v", &[]));
    catalog.create_view(&v).await.unwrap();
    let ghost = ObjectId::View(ViewId(Uuid::new_v4()));
    let all = [ObjectId::Stream(s.id), ObjectId::View(view_d.id), ObjectId::Stream(stream_d.id), v.object()];
    assert!(matches!(catalog.drop_objects(&all[..3]).await, Err(Error::InUse { .. })));
    assert!(matches!(catalog.drop_objects(&[all[0], all[1], all[3], ghost]).await, Err(Error::NotFound { .. })));
    assert_eq!(names(catalog).await, (vec!["d".into(), "s".into()], vec!["d".into(), "v".into()]));
    catalog.drop_objects(&all).await.unwrap();
    assert_eq!(names(catalog).await, (vec![], vec![]));
    assert_eq!(catalog.list_dropped().await.unwrap().len(), 2);
    assert_eq!(catalog.list_dropped_views().await.unwrap().len(), 2);
}

async fn a_dropped_view_frees_its_name_and_leaves_a_tombstone(catalog: &dyn Catalog) {
    let (first, other) = (view("v", &[]), view("w", &[]));
    for v in [&other, &first] {
        catalog.create_view(v).await.unwrap();
    }
    catalog.drop_view(other.id).await.unwrap();
    catalog.drop_view(first.id).await.unwrap();
    assert!(matches!(catalog.drop_view(first.id).await, Err(Error::NotFound { .. })));
    let again = view("v", &[]);
    catalog.create_view(&again).await.unwrap();
    let ids: Vec<_> = catalog.list_dropped_views().await.unwrap().into_iter().map(|d| (d.id, d.name)).collect();
    assert_eq!(ids, [(other.id, other.name.clone()), (first.id, first.name)]);
    catalog.forget_dropped_view(other.id).await.unwrap();
    catalog.forget_dropped_view(other.id).await.unwrap();
    assert_eq!(catalog.list_dropped_views().await.unwrap().len(), 1);
    assert_eq!(catalog.views().await.unwrap(), [again]);
}

async fn a_replacement_takes_the_name_and_the_readers(catalog: &dyn Catalog) {
    let s = stream("s");
    catalog.create_stream(&s).await.unwrap();
    let old = View { comment: Some("kept".into()), ..view("a", &[&s]) };
    catalog.create_view(&old).await.unwrap();
    let reader = over(&old, view("reader", &[&s]));
    catalog.create_view(&reader).await.unwrap();
    let mut new = View { replacement_for: Some(old.id), ..view("b", &[&s]) };
    new.columns.insert(0, Column::new("more", DataType::Text));
    let rival = View { replacement_for: Some(old.id), ..view("c", &[]) };
    catalog.create_view(&new).await.unwrap();
    catalog.create_view(&rival).await.unwrap();
    assert!(matches!(catalog.create_view(&over(&new, view("early", &[]))).await, Err(Error::InvalidDefinition { .. })));

    let changed = catalog.swap_view(old.id, new.id).await.unwrap();
    let expected = View { name: old.name.clone(), replacement_for: None, comment: Some("kept".into()), ..next(&new) };
    assert_eq!(changed[0], expected);
    let mut others: Vec<_> = changed[1..].iter().map(|v| v.name.to_string()).collect();
    others.sort();
    assert_eq!(others, ["c", "reader"]);
    let views = catalog.views().await.unwrap();
    assert_eq!(views[0], expected);
    assert_eq!((views[1].replacement_for, views[1].version), (Some(new.id), 2));
    assert_eq!(views[2].depends_on[1], Dependency { id: new.object(), name: old.name.clone() });
    assert_eq!(views[2].depends_on[0], reader.depends_on[0]);
    assert!(matches!(catalog.alter_view(&next(&reader)).await, Err(Error::Changed { .. })));
    let dropped = catalog.list_dropped_views().await.unwrap();
    assert_eq!((dropped[0].id, dropped.len()), (old.id, 1));
}

async fn a_replacement_that_does_not_fit_is_refused(catalog: &dyn Catalog) {
    let s = stream("s");
    catalog.create_stream(&s).await.unwrap();
    let old = view("a", &[&s]);
    catalog.create_view(&old).await.unwrap();
    let between = over(&old, view("between", &[]));
    catalog.create_view(&between).await.unwrap();
    let replacement = |name: &str| View { replacement_for: Some(old.id), ..view(name, &[&s]) };
    let mut narrow = replacement("b");
    narrow.columns.pop();
    let message = catalog.create_view(&narrow).await.unwrap_err().to_string();
    assert_eq!(
        message,
        "invalid definition of materialized view b: it has no column \"b\", which a has, and other views read it"
    );
    let mut other = replacement("b");
    other.columns[0] = Column::new("a", DataType::Text);
    let message = catalog.create_view(&other).await.unwrap_err().to_string();
    assert!(message.contains("column \"a\" is text where a has bigint"), "{message}");
    let circle = over(&between, replacement("b"));
    let message = catalog.create_view(&circle).await.unwrap_err().to_string();
    assert!(message.ends_with("it reads a, which it is to replace"), "{message}");
    let first = replacement("b");
    catalog.create_view(&first).await.unwrap();
    let second = View { replacement_for: Some(first.id), ..view("c", &[]) };
    assert!(matches!(catalog.create_view(&second).await, Err(Error::InvalidDefinition { .. })));
    let ghost = View { replacement_for: Some(ViewId(Uuid::new_v4())), ..view("c", &[]) };
    assert!(matches!(catalog.create_view(&ghost).await, Err(Error::NotFound { .. })));
    let message = catalog.swap_view(between.id, first.id).await.unwrap_err().to_string();
    assert!(message.ends_with("it was not created as a replacement for between"), "{message}");
    assert!(matches!(catalog.swap_view(first.id, ViewId(Uuid::new_v4())).await, Err(Error::NotFound { .. })));
    assert_eq!(names(catalog).await.1, ["a", "b", "between"]);
}
