//! Owns the tables of the tests and the random values of their columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef, TimeUnit};
use millstream_views::InputKind;
use rand::Rng;
use rand::rngs::StdRng;

/// The tables. `id` tells the rows of a table apart; `g` and `w` have none, and hold equal rows.
pub(crate) const TABLES: [&str; 7] = ["s", "p", "g", "c", "d", "w", "e"];

/// Whether rows of the table only come.
pub(crate) fn grows(table: usize) -> bool {
    table < 3
}

pub(crate) fn number(table: &str) -> usize {
    TABLES.iter().position(|t| *t == table).unwrap()
}

pub(crate) fn kind_of(table: &datafusion::common::TableReference) -> Option<InputKind> {
    let table = TABLES.iter().position(|t| *t == table.table())?;
    Some(if grows(table) { InputKind::AppendOnly } else { InputKind::Changing })
}

fn structure() -> Fields {
    Fields::from(vec![Field::new("n", DataType::Int32, true), Field::new("s", DataType::Utf8, true)])
}

pub(crate) fn schema(table: usize) -> SchemaRef {
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let columns: Vec<(&str, DataType)> = match TABLES[table] {
        "g" => vec![("k", DataType::Int32), ("a", DataType::Int64), ("t", DataType::Utf8), ("y", DataType::Float64)],
        "w" => vec![
            ("k", DataType::Int16),
            ("a", DataType::Int32),
            ("t", DataType::LargeUtf8),
            ("flag", DataType::Boolean),
            ("x", DataType::Float64),
        ],
        "e" => vec![
            ("id", DataType::Int64),
            ("k", DataType::Int64),
            ("t", DataType::Utf8View),
            ("m", DataType::Decimal128(10, 3)),
            ("ts", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ],
        _ => vec![
            ("id", DataType::Int64),
            ("k", DataType::Int32),
            ("a", DataType::Int64),
            ("x", DataType::Float64),
            ("t", DataType::Utf8),
            ("flag", DataType::Boolean),
            ("day", DataType::Date32),
            ("ts", micros(None)),
            ("y", DataType::Float64),
            ("m", DataType::Decimal128(12, 2)),
            ("tz", micros(Some("UTC"))),
            ("l", DataType::List(Arc::new(Field::new("item", DataType::Int64, true)))),
            ("o", DataType::Struct(structure())),
        ],
    };
    let never_null = |name: &str| name == "id" || name == "ts";
    let fields = columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, !never_null(name)));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// One row for each id.
pub(crate) fn rows(random: &mut StdRng, table: usize, ids: &[i64]) -> RecordBatch {
    let schema = schema(table);
    let columns = schema.fields().iter().map(|field| {
        let column = if field.name() == "id" {
            Arc::new(Int64Array::from(ids.to_vec()))
        } else {
            values(random, field.name(), ids.len(), if field.is_nullable() { 0.12 } else { 0.0 })
        };
        cast(&column, field.data_type()).unwrap()
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Values for a column of that name.
fn values(random: &mut StdRng, name: &str, n: usize, nulls: f64) -> ArrayRef {
    let present: Vec<bool> = (0..n).map(|_| !random.random_bool(nulls)).collect();
    let present = present.into_iter();
    let micros = |random: &mut StdRng| 1_700_000_000_000_000 + random.random_range(0..600) * 1_000_000;
    match name {
        "k" => Arc::new(Int32Array::from_iter(present.map(|p| p.then(|| random.random_range(0..6))))),
        "a" => Arc::new(Int64Array::from_iter(present.map(|p| p.then(|| random.random_range(-20..100))))),
        // Quarters add up exactly.
        "x" => {
            Arc::new(Float64Array::from_iter(present.map(|p| p.then(|| f64::from(random.random_range(-80..80)) / 4.0))))
        }
        "y" => {
            let odd = [0.0, -0.0, 1.5, -2.0, f64::NAN, f64::INFINITY];
            Arc::new(Float64Array::from_iter(present.map(|p| p.then(|| odd[random.random_range(0..odd.len())]))))
        }
        "m" => Arc::new(
            Decimal128Array::from_iter(present.map(|p| p.then(|| random.random_range(-9000..9000))))
                .with_precision_and_scale(10, 2)
                .unwrap(),
        ),
        "t" => {
            let texts = ["red", "green", "blue", "", "a\"b", "Grün"];
            Arc::new(StringArray::from_iter(present.map(|p| p.then(|| texts[random.random_range(0..texts.len())]))))
        }
        "flag" => Arc::new(BooleanArray::from_iter(present.map(|p| p.then(|| random.random_bool(0.5))))),
        "day" => Arc::new(Date32Array::from_iter(present.map(|p| p.then(|| random.random_range(19_000..19_010))))),
        "ts" => Arc::new(TimestampMicrosecondArray::from_iter_values(present.map(|_| micros(random)))),
        "tz" => Arc::new(
            TimestampMicrosecondArray::from_iter(present.map(|p| p.then(|| micros(random)))).with_timezone("UTC"),
        ),
        "l" => Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(present.map(|p| {
            let n = random.random_range(0..4);
            p.then(|| (0..n).map(|_| random.random_bool(0.9).then(|| random.random_range(0..5))).collect::<Vec<_>>())
        }))),
        _ => {
            let nulls = present.collect::<Vec<bool>>().into();
            let columns = vec![values(random, "k", n, nulls_inside()), values(random, "t", n, nulls_inside())];
            Arc::new(StructArray::new(structure(), columns, Some(nulls)))
        }
    }
}

/// How often a field of a struct is NULL.
fn nulls_inside() -> f64 {
    0.1
}
