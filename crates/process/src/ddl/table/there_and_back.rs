//! Owns the property that a table's definition, written as SQL, is read back the same.

use millstream_catalog::fault::Fault;
use millstream_catalog::{
    Check, Column, DataType, Durability, Generated, LakePolicy, ObjectName, PrimaryKey, Stream, StreamId,
    StreamOptions, TableSpec,
};
use proptest::prelude::*;
use proptest::{collection, option};
use uuid::Uuid;

use super::tests::table;
use super::*;
use crate::ddl::parse;
use crate::ddl::tests::there_and_back::policy;

fn plain_type() -> impl Strategy<Value = DataType> {
    prop_oneof![
        Just(DataType::BigInt),
        Just(DataType::Text),
        Just(DataType::Uuid),
        Just(DataType::Date),
        (1u8..=38).prop_map(|precision| DataType::Decimal { precision, scale: (precision / 2) as i8 }),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("1"),
        Just("'a, b)'"),
        Just("now() - INTERVAL '1' HOUR"),
        Just("coalesce(x, 'GENERATED', (1 + 2) * 3)"),
        Just("CASE WHEN a > 0 THEN 'PRIMARY KEY' ELSE $$'$$ END"),
    ]
    .prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::of("[^\\x00]{1,20}")
}

prop_compose! {
    fn any_table()(
        schema in prop_oneof![Just("public"), Just("ops"), Just("Weird-One")],
        names in collection::vec("[a-zA-Z\" é;'-][a-zA-Z0-9_\" é;'-]{0,12}", 3..7),
        types in collection::vec(plain_type(), 7),
        nullable in collection::vec(any::<bool>(), 7),
        defaults in collection::vec(option::of(expression()), 7),
        comments in collection::vec(text(), 7),
        key in option::of(prop_oneof![Just("orders_pkey"), Just("Key"), Just("unique")]),
        generated in option::of(expression()),
        checks in collection::vec(expression(), 0..3),
        (partitioned, sorted, os) in (any::<bool>(), any::<bool>(), any::<bool>()),
        (location, comment) in (text(), text()),
        (hot, policy) in (option::of(1u64..1_000_000), policy()),
    ) -> Stream {
        let name = |i: usize| format!("{}{i}", names[i]);
        let columns = (0..names.len()).map(|i| Column {
            name: name(i),
            data_type: types[i].clone(),
            nullable: nullable[i] && !(key.is_some() && i < 2),
            default: defaults[i].clone().filter(|_| i != 2),
            comment: comments[i].clone(),
        });
        let spec = TableSpec {
            primary_key: key.map(|k| PrimaryKey { name: k.to_owned(), columns: vec![name(1), name(0)] }),
            generated: generated.map(|expression| Generated { column: name(2), expression }).into_iter().collect(),
            partitioned_by: if partitioned { vec![name(2)] } else { vec![] },
            sorted_by: if sorted { vec![name(0), name(2)] } else { vec![] },
            location,
            ..TableSpec::default()
        };
        let policy = match spec.location {
            Some(_) => LakePolicy { warm_ms: None, cold: None, ..policy },
            None => policy,
        };
        let durability = if os { Durability::Os } else { Durability::Fsync };
        Stream {
            id: StreamId(Uuid::nil()),
            name: ObjectName::new(schema, "orders").unwrap(),
            columns: columns.collect(),
            checks: checks.into_iter().enumerate().map(|(i, expr)| Check { name: format!("c {i}"), expr }).collect(),
            watermark: None,
            partition_by: vec![],
            options: StreamOptions { durability, retention_ms: hot, policy, ..StreamOptions::default() },
            comment,
            version: 1,
            created_at_ms: 0,
            table: Some(spec),
        }
    }
}

proptest! {
    #[test]
    fn parsing_what_was_rendered_gives_the_table_back(original in any_table()) {
        let sql = render_create_table(&original);
        let again = table(&sql);
        prop_assert_eq!(&again, &original, "{}", sql);
    }

    #[test]
    fn no_text_makes_the_parser_panic(
        start in prop_oneof![
            Just("create table t "), Just("create table t (a int "), Just("alter table t "), Just("drop table "),
            Just("truncate "), Just("create table t (a int, constraint "), Just("create table t as select 1 "),
        ],
        words in collection::vec(
            prop_oneof![
                Just("primary"), Just("key"), Just("generated"), Just("always"), Just("as"), Just("stored"),
                Just("with"), Just("("), Just(")"), Just("add"), Just("drop"), Just("column"), Just("1"),
                Just("a"), Just(","), Just("'x'"), Just("é"), Just("set"), Just("="), Just("type"), Just("\n"),
                Just("partitioned"), Just("by"), Just("order"), Just("location"), Just("rename"), Just("to"),
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
