//! Owns the tests of values on the PostgreSQL wire, in text and in binary, as results and as parameters.

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::{FromSql, ToSql, Type};

use crate::fixture::Node;

/// Every value's expression, its type, and its text form.
const VALUES: [(&str, Type, &str); 20] = [
    ("true", Type::BOOL, "t"),
    ("arrow_cast(-7, 'Int16')", Type::INT2, "-7"),
    ("arrow_cast(70000, 'Int32')", Type::INT4, "70000"),
    ("9007199254740993", Type::INT8, "9007199254740993"),
    ("arrow_cast(7, 'UInt64')", Type::INT8, "7"),
    ("arrow_cast(0.1, 'Float32')", Type::FLOAT4, "0.1"),
    ("1e300", Type::FLOAT8, "1e+300"),
    ("CAST('-1234.50' AS DECIMAL(10, 2))", Type::NUMERIC, "-1234.50"),
    ("'naïve'", Type::TEXT, "naïve"),
    ("NULL", Type::TEXT, "NULL"),
    ("arrow_cast('hi', 'Binary')", Type::BYTEA, "\\x6869"),
    ("DATE '2013-01-31'", Type::DATE, "2013-01-31"),
    ("TIME '05:15:00.25'", Type::TIME, "05:15:00.25"),
    ("TIMESTAMP '2013-01-31 05:15:00'", Type::TIMESTAMP, "2013-01-31 05:15:00"),
    (
        "arrow_cast('2013-01-31T05:15:00.5Z', 'Timestamp(Microsecond, Some(\"UTC\"))')",
        Type::TIMESTAMPTZ,
        "2013-01-31 05:15:00.5+00",
    ),
    ("INTERVAL '14 months -3 days 4 hours 5 minutes 6 seconds'", Type::INTERVAL, "1 year 2 mons -3 days +04:05:06"),
    ("make_array(1, NULL, 3)", Type::INT8_ARRAY, "{1,NULL,3}"),
    ("make_array('a b', '', 'x\"y')", Type::TEXT_ARRAY, "{\"a b\",\"\",\"x\\\"y\"}"),
    ("named_struct('a', 1, 'b', make_array(true))", Type::JSON, "{\"a\":1,\"b\":[true]}"),
    ("make_array(make_array(1), make_array(2, 3))", Type::JSON, "[[1],[2,3]]"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_type_has_its_oid_and_text_form() {
    let node = Node::start().await;
    let client = node.connect().await;
    for (expression, data_type, text) in VALUES {
        let sql = format!("SELECT {expression} AS v");
        let statement = client.prepare(&sql).await.unwrap_or_else(|e| panic!("{expression}: {e}"));
        assert_eq!(statement.columns()[0].type_(), &data_type, "{expression}");
        let messages = client.simple_query(&sql).await.unwrap_or_else(|e| panic!("{expression}: {e}"));
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL")),
            _ => None,
        });
        assert_eq!(row, Some(text), "{expression}");
    }
}

/// A value's bytes as they came.
struct Raw(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(Some(raw.to_vec())))
    }
    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(None))
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_has_its_binary_form() {
    let node = Node::start().await;
    let client = node.connect().await;
    let binary = async |expression: &str| -> Option<Vec<u8>> {
        let row = client.query_one(&format!("SELECT {expression} AS v"), &[]).await;
        row.unwrap_or_else(|e| panic!("{expression}: {e}")).get::<_, Raw>(0).0
    };
    let hex = async |expression: &str| -> String {
        binary(expression).await.unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    for (expression, expected) in [
        ("true", "01"),
        ("arrow_cast(-7, 'Int16')", "fff9"),
        ("arrow_cast(70000, 'Int32')", "00011170"),
        ("1", "0000000000000001"),
        ("1.5", "3ff8000000000000"),
        ("CAST('-1234.50' AS DECIMAL(10, 2))", "000200004000000204d21388"),
        ("'hi'", "6869"),
        ("arrow_cast('hi', 'Binary')", "6869"),
        ("DATE '2000-01-02'", "00000001"),
        ("TIME '00:00:01'", "00000000000f4240"),
        ("TIMESTAMP '2000-01-01 00:00:01'", "00000000000f4240"),
        ("INTERVAL '1 month 2 days 1 second'", "00000000000f42400000000200000001"),
        ("make_array(1, NULL)", "0000000100000001000000140000000200000001000000080000000000000001ffffffff"),
        ("named_struct('a', 1)", "7b2261223a317d"),
    ] {
        assert_eq!(hex(expression).await, expected, "{expression}");
    }
    assert_eq!(binary("NULL").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_taken_in_binary() {
    let node = Node::start().await;
    let client = node.connect().await;
    let typed = async |data_type: Type, value: &(dyn ToSql + Sync)| -> String {
        let statement = client.prepare_typed("SELECT CAST($1 AS VARCHAR) AS v", &[data_type]).await.unwrap();
        client.query_one(&statement, &[value]).await.unwrap().get(0)
    };
    assert_eq!(typed(Type::TEXT, &"x").await, "x");
    let rows = client
        .query("SELECT value FROM generate_series(1, 5) WHERE value > $1 AND value <> $2", &[&2_i64, &4_i64])
        .await;
    let values: Vec<i64> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(values, [3, 5]);
    let smaller =
        client.prepare_typed("SELECT value FROM generate_series(1, 5) WHERE value > $1", &[Type::INT2]).await.unwrap();
    assert_eq!(client.query(&smaller, &[&3_i16]).await.unwrap().len(), 2);
    let any = client.query("SELECT value FROM generate_series(1, 5) WHERE value = ANY($1)", &[&vec![1_i64, 5]]).await;
    let values: Vec<i64> = any.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(values, [1, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameters_declared_type_is_its_columns_type() {
    let node = Node::start().await;
    let client = node.connect().await;
    for data_type in [Type::INT4, Type::INT8, Type::FLOAT8, Type::BOOL, Type::DATE, Type::TIMESTAMPTZ, Type::TEXT_ARRAY]
    {
        let statement = client.prepare_typed("SELECT $1 AS v", std::slice::from_ref(&data_type)).await.unwrap();
        assert_eq!(statement.columns()[0].type_(), &data_type);
    }
    let statement = client.prepare_typed("SELECT $1 AS v, $2 AS w", &[Type::INT4, Type::BOOL]).await.unwrap();
    let row = client.query_one(&statement, &[&7_i32, &true]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, bool>(1)), (7, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn now_is_an_instant() {
    let node = Node::start().await;
    let client = node.connect().await;
    let statement = client.prepare("SELECT now(), TIMESTAMPTZ '2013-01-01 05:00:00'").await.unwrap();
    let types: Vec<_> = statement.columns().iter().map(|column| column.type_().clone()).collect();
    assert_eq!(types, [Type::TIMESTAMPTZ, Type::TIMESTAMPTZ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn uuid_and_json_columns_have_their_own_types() {
    let node = Node::start().await;
    let client = node.connect().await;
    client.simple_query("CREATE STREAM t (id UUID, doc JSON, tags TEXT[], amount DECIMAL(8, 2))").await.unwrap();
    let statement = client.prepare("SELECT id, doc, tags, amount FROM t").await.unwrap();
    let types: Vec<_> = statement.columns().iter().map(|column| column.type_().clone()).collect();
    assert_eq!(types, [Type::UUID, Type::JSON, Type::TEXT_ARRAY, Type::NUMERIC]);
}
