//! Owns the property that a view's definition, written as SQL, is read back the same.

use millstream_catalog::fault::Fault;
use millstream_catalog::{
    Column, DataType, Durability, ObjectName, OnError, StreamId, StreamOptions, View, ViewId, ViewKind, ViewOptions,
    ViewState,
};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use super::tests::{OLD, derived_draft, derived_of, inputs, name, view_of};
use super::*;
use crate::ddl::parse;

fn query() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("SELECT a, b FROM t"),
        Just("SELECT * FROM t JOIN u ON error"),
        Just("SELECT * FROM t emit"),
        Just("SELECT 'EMIT ON WINDOW CLOSE', 'ON ERROR STOP' AS b FROM t"),
        Just("SELECT 1 -- EMIT CHANGES ; ON ERROR STOP\n  + 2, 3"),
        Just("(SELECT 1, 2) UNION ALL (SELECT 2, 3)"),
        Just("WITH x AS (SELECT 1 AS a, 2 AS b)\nSELECT a, b FROM x ORDER BY a LIMIT 3"),
        Just("VALUES (1, 'a;b'), (2, $$;'$$)"),
        Just("SELECT \"EMIT\", \"é\" FROM ops.t /* WITH (a = 1) */ WHERE x IN (SELECT 1)"),
        Just("SELECT count(*), E'\\n' FROM HOP(t, ts, INTERVAL '1' HOUR, INTERVAL '2' HOUR) GROUP BY window_start"),
    ]
    .prop_map(str::to_owned)
}

fn amount() -> impl Strategy<Value = Option<u64>> {
    option::of(prop_oneof![1u64..100_000, (1u64..400).prop_map(|d| d * 86_400_000)])
}

fn on_error() -> impl Strategy<Value = OnError> {
    prop_oneof![Just(OnError::Quarantine), Just(OnError::Stop)]
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    let column = ("[a-zA-Z_\" é;'-][a-zA-Z0-9_\" é;'-]{0,12}", option::of("[^\\x00]{1,20}"));
    (column, any::<bool>()).prop_map(|((name, comment), named)| {
        let comment = comment.filter(|_| named);
        let first = Column { name: format!("{name}0"), comment, ..Column::new("", DataType::BigInt) };
        vec![first, Column::new("b", DataType::Text).not_null()]
    })
}

prop_compose! {
    fn any_view()(
        schema in prop_oneof![Just("public"), Just("ops"), Just("Weird-One")],
        query in query(),
        columns in columns(),
        named in any::<bool>(),
        (retention_ms, retention_bytes, memory_bytes) in (amount(), amount(), amount()),
        idle_timeout_ms in prop_oneof![amount(), Just(Some(ViewOptions::NEVER_MS))],
        on_error in on_error(),
        replaces in any::<bool>(),
        emit_on_window_close in any::<bool>(),
        comment in option::of("[^\\x00]{1,30}"),
    ) -> View {
        let named_columns = named || columns.iter().any(|c| c.comment.is_some());
        View {
            id: ViewId(Uuid::nil()),
            name: ObjectName::new(schema, "Select").unwrap(),
            kind: ViewKind::MaterializedView,
            query,
            columns,
            named_columns,
            depends_on: inputs(),
            options: ViewOptions { retention_ms, retention_bytes, memory_bytes, on_error, idle_timeout_ms },
            state: ViewState::Running,
            replacement_for: replaces.then_some(OLD),
            emit_on_window_close,
            comment,
            version: 1,
            created_at_ms: 5,
        }
    }
}

/// The query's own columns: without the names and comments that CREATE gives.
fn of_query(columns: &[Column], named: bool) -> Vec<Column> {
    let own = |(i, c): (usize, &Column)| Column {
        name: if named { format!("q{i}") } else { c.name.clone() },
        comment: None,
        ..c.clone()
    };
    columns.iter().enumerate().map(own).collect()
}

proptest! {
    #[test]
    fn parsing_what_was_rendered_gives_the_view_back(original in any_view()) {
        let old = name("ops.old");
        let sql = render_create_view(&original, original.replacement_for.map(|_| &old));
        let again = view_of(&sql, of_query(&original.columns, original.named_columns));
        prop_assert_eq!(&again, &original, "{}", sql);
    }

    #[test]
    fn parsing_what_was_rendered_gives_the_derived_stream_back(
        seed in any_view(), partitions in 1u32..=1024, os in any::<bool>(), keyed in any::<bool>(), lake in amount(),
    ) {
        let stream_options = StreamOptions {
            partitions,
            retention_ms: seed.options.retention_ms,
            retention_bytes: seed.options.retention_bytes,
            durability: if os { Durability::Os } else { Durability::Fsync },
            rest: false,
            lake_retention_ms: lake,
            policy: Default::default(),
        };
        let given = seed.columns.iter().map(|c| ColumnName { name: c.name.clone(), comment: c.comment.clone() });
        let original = DerivedStreamDraft {
            name: seed.name.clone(),
            columns: if seed.named_columns { given.collect() } else { vec![] },
            watermark: None,
            partition_by: if keyed { vec!["b".to_owned()] } else { vec![] },
            stream_options,
            query: derived_draft(&format!("create stream s as {}", seed.query)).query,
            options: ViewOptions { retention_ms: None, retention_bytes: None, ..seed.options.clone() },
            emit_on_window_close: seed.emit_on_window_close,
            comment: seed.comment.clone(),
        };
        let own = of_query(&seed.columns, seed.named_columns);
        let ids = (StreamId(Uuid::from_u128(3)), ViewId(Uuid::from_u128(4)));
        let (stream, view) = original.into_definitions(ids, own.clone(), inputs(), 5).unwrap();
        let sql = render_create_derived(&stream, &view);
        prop_assert_eq!(derived_of(&sql, own), (stream, view), "{}", sql);
    }

    #[test]
    fn no_text_makes_the_parser_panic(
        start in prop_oneof![
            Just("create materialized view v as "), Just("create stream s as "), Just("select "),
            Just("create materialized view v"), Just("explain create "), Just("alter materialized view "),
        ],
        words in proptest::collection::vec(
            prop_oneof![
                Just("emit"), Just("on"), Just("window"), Just("close"), Just("changes"), Just("error"),
                Just("stop"), Just("with"), Just("("), Just(")"), Just("as"), Just("select"), Just("1"),
                Just("a"), Just(","), Just("'x'"), Just("é"), Just("from"), Just("="), Just("$1"), Just("\n"),
            ],
            0..12,
        ),
    ) {
        let sql = format!("{start}{}", words.join(" "));
        if let Err(error) = parse(&sql) {
            let length = sql.chars().count();
            prop_assert!(error.position().is_none_or(|p| (1..=length + 1).contains(&p)), "{error} in {sql:?}");
        }
    }
}
