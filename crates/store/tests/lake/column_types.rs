//! Every type goes to the lake and comes back as it was.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Int16Type, IntervalMonthDayNano, SchemaRef};
use millstream_catalog::{Column, DataType, Positions, RowField};

use crate::fixture::*;

fn column(name: &str, data_type: DataType) -> Column {
    Column::new(name, data_type)
}

fn decimal(precision: u8, scale: i8) -> DataType {
    DataType::Decimal { precision, scale }
}

fn row_type() -> DataType {
    let field = |name: &str, data_type| RowField { name: name.into(), data_type };
    DataType::Row(vec![
        field("n", DataType::Int),
        field("at", DataType::Time),
        field(
            "inner",
            DataType::Row(vec![field("d", decimal(10, 2)), field("tags", DataType::Array(Box::new(DataType::Text)))]),
        ),
    ])
}

fn all_types() -> Vec<Column> {
    vec![
        column("bool", DataType::Boolean),
        column("small", DataType::SmallInt),
        column("int", DataType::Int),
        column("big", DataType::BigInt),
        column("real", DataType::Real),
        column("double", DataType::Double),
        column("dec9", decimal(9, 2)),
        column("dec18", decimal(18, 0)),
        column("dec38", decimal(38, 10)),
        column("text", DataType::Text),
        column("bytes", DataType::Bytea),
        column("date", DataType::Date),
        column("time", DataType::Time),
        column("ntz", DataType::Timestamp),
        column("tz", DataType::TimestampTz),
        column("interval", DataType::Interval),
        column("uuid", DataType::Uuid),
        column("json", DataType::Json),
        column("smalls", DataType::Array(Box::new(DataType::SmallInt))),
        column("intervals", DataType::Array(Box::new(DataType::Interval))),
        column("nested", DataType::Array(Box::new(DataType::Array(Box::new(DataType::Text))))),
        column("row", row_type()),
        column("rows", DataType::Array(Box::new(row_type()))),
    ]
}

/// Rows of extremes, ordinary values and NULLs.
const ROWS: usize = 4;

fn intervals() -> IntervalMonthDayNanoArray {
    IntervalMonthDayNanoArray::from(vec![
        Some(IntervalMonthDayNano::new(i32::MAX, i32::MAX, i64::MAX)),
        Some(IntervalMonthDayNano::new(-13, 40, -1)),
        Some(IntervalMonthDayNano::new(0, 0, 0)),
        None,
    ])
}

fn row_array(data_type: &ArrowType, rows: usize) -> ArrayRef {
    let ArrowType::Struct(fields) = data_type else { panic!("a row type") };
    let ArrowType::Struct(inner_fields) = fields[2].data_type() else { panic!("a row type") };
    let n = Int32Array::from_iter((0..rows).map(|i| (i % 3 != 2).then_some(i as i32)));
    let at = Time64MicrosecondArray::from_iter((0..rows).map(|i| Some(86_399_999_999 - i as i64)));
    let d = Decimal128Array::from_iter((0..rows).map(|i| Some(i as i128 * 100 - 1)))
        .with_precision_and_scale(10, 2)
        .unwrap();
    let ArrowType::List(item) = inner_fields[1].data_type() else { panic!("a list") };
    let tags = ListArray::new(
        item.clone(),
        OffsetBuffer::from_lengths((0..rows).map(|_| 1)),
        Arc::new(StringArray::from_iter((0..rows).map(|i| (i != 1).then(|| format!("tag {i}"))))),
        None,
    );
    let inner = StructArray::new(inner_fields.clone(), vec![Arc::new(d), Arc::new(tags)], None);
    let nulls = (0..rows).map(|i| i != 3).collect::<Vec<_>>();
    Arc::new(StructArray::new(fields.clone(), vec![Arc::new(n), Arc::new(at), Arc::new(inner)], Some(nulls.into())))
}

fn values(name: &str, data_type: &ArrowType) -> ArrayRef {
    match name {
        "bool" => Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), None])),
        "small" => Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), Some(0), None])),
        "int" => Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), Some(0), None])),
        "big" => Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), Some(0), None])),
        "real" => Arc::new(Float32Array::from(vec![Some(f32::MIN), Some(f32::NAN), Some(-0.0), None])),
        "double" => Arc::new(Float64Array::from(vec![Some(f64::MAX), Some(f64::NEG_INFINITY), Some(0.1), None])),
        "dec9" | "dec18" | "dec38" => {
            let ArrowType::Decimal128(precision, scale) = data_type else { panic!("a decimal") };
            let most = 10i128.pow(u32::from(*precision)) - 1;
            let array = Decimal128Array::from(vec![Some(most), Some(-most), Some(1), None]);
            Arc::new(array.with_precision_and_scale(*precision, *scale).unwrap())
        }
        "text" => Arc::new(StringArray::from(vec![Some(""), Some("größer 🦀"), Some(&"x".repeat(200)), None])),
        "bytes" => Arc::new(BinaryArray::from(vec![Some(&b""[..]), Some(&[0, 255][..]), Some(b"abc"), None])),
        "date" => Arc::new(Date32Array::from(vec![Some(-719_162), Some(0), Some(2_932_896), None])),
        "time" => Arc::new(Time64MicrosecondArray::from(vec![Some(0), Some(1), Some(86_399_999_999), None])),
        "ntz" => {
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(0), Some(253_402_300_799_999_999), None]))
        }
        "tz" => Arc::new(
            TimestampMicrosecondArray::from(vec![Some(-1), Some(1_234_567_890_123_456), Some(0), None])
                .with_timezone("UTC"),
        ),
        "interval" => Arc::new(intervals()),
        "uuid" => {
            let text = "0191d2a4-0000-7000-8000-000000000000";
            Arc::new(StringArray::from(vec![Some(text), Some(text), Some(text), None]))
        }
        "json" => Arc::new(StringArray::from(vec![Some("{\"a\": [1, null]}"), Some("null"), Some("\"s\""), None])),
        "smalls" => {
            let lists = vec![Some(vec![Some(1), None, Some(-3)]), Some(vec![]), Some(vec![None]), None];
            cast(&ListArray::from_iter_primitive::<Int16Type, _, _>(lists), data_type).unwrap()
        }
        "intervals" => list_of(data_type, Arc::new(intervals())),
        "nested" => {
            let ArrowType::List(item) = data_type else { panic!("a list") };
            let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("b")]));
            list_of(data_type, list_of(item.data_type(), texts))
        }
        "row" => row_array(data_type, ROWS),
        "rows" => {
            let ArrowType::List(item) = data_type else { panic!("a list") };
            list_of(data_type, row_array(item.data_type(), ROWS))
        }
        other => panic!("no values for {other}"),
    }
}

/// Four lists over four items: two, none, two, NULL.
fn list_of(data_type: &ArrowType, items: ArrayRef) -> ArrayRef {
    let ArrowType::List(item) = data_type else { panic!("a list") };
    let nulls = vec![true, true, true, false];
    Arc::new(ListArray::new(item.clone(), OffsetBuffer::from_lengths([2, 0, 2, 0]), items, Some(nulls.into())))
}

fn batch(schema: &SchemaRef) -> RecordBatch {
    let place = batches(&crate::fixture::schema(), &Positions::default(), &at([ROWS as u64])).remove(0);
    let columns = schema
        .fields()
        .iter()
        .map(|f| match f.name().starts_with('_') {
            true => place.column_by_name(f.name()).unwrap().clone(),
            false => values(f.name(), f.data_type()),
        })
        .collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_as_it_was() {
    let schema = stream_of(all_types()).full_schema();
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema.clone()).await.unwrap();
    let written = batch(&schema);
    let end = at([ROWS as u64]);
    table.append(&Positions::default(), &end, stream_batches(&schema, vec![written.clone()])).await.unwrap();
    for table in [table, lake.open(&name(), ID, schema.clone()).await.unwrap()] {
        let found = query(&table, "SELECT * FROM t ORDER BY _offset").await;
        let found = arrow::compute::concat_batches(&found[0].schema(), &found).unwrap();
        for (field, column) in schema.fields().iter().zip(written.columns()) {
            let got = found.column_by_name(field.name()).unwrap();
            let text = field.data_type() == &ArrowType::Utf8;
            let wanted = if text { ArrowType::Utf8View } else { field.data_type().clone() };
            assert_eq!(got.data_type(), &wanted, "type of {}", field.name());
            let got = cast(got, field.data_type()).unwrap();
            assert_eq!(&got, column, "values of {}", field.name());
            let metadata = found.schema().field_with_name(field.name()).unwrap().metadata().clone();
            assert_eq!(&metadata, field.metadata(), "metadata of {}", field.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_on_every_plain_type_find_their_row() {
    let schema = stream_of(all_types()).full_schema();
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema.clone()).await.unwrap();
    let end = at([ROWS as u64]);
    table.append(&Positions::default(), &end, stream_batches(&schema, vec![batch(&schema)])).await.unwrap();
    for filter in [
        "small = -32768",
        "int = -2147483648",
        "big < -9223372036854775807",
        "real < -1e38",
        "double > 1e300",
        "dec9 = CAST('9999999.99' AS DECIMAL(9, 2))",
        "dec38 > CAST('999999999999999999999999999' AS DECIMAL(38, 10))",
        "text = '' AND _offset = 0",
        "date = DATE '0001-01-01'",
        "time = arrow_cast('00:00:00', 'Time64(Microsecond)')",
        "ntz = TIMESTAMP '1969-12-31 23:59:59.999999'",
        "tz < TIMESTAMP '1970-01-01 00:00:00Z'",
        "\"interval\" = INTERVAL '2147483647 months 2147483647 days 9223372036.854775807 seconds' OR bool AND _offset = 0",
        "_offset = 0 AND _partition = 0",
    ] {
        let found = query(&table, &format!("SELECT _offset FROM t WHERE {filter}")).await;
        let rows: usize = found.iter().map(RecordBatch::num_rows).sum();
        let plan = query(&table, &format!("EXPLAIN SELECT _offset FROM t WHERE {filter}")).await;
        let plan = arrow::util::pretty::pretty_format_batches(&plan).unwrap();
        assert_eq!(rows, 1, "WHERE {filter}:\n{plan}");
    }
    let found = query(&table, "SELECT count(*) FROM t WHERE text IS NULL AND row IS NULL AND smalls IS NULL").await;
    assert_eq!(found[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn extremes_of_text_are_right_even_where_bounds_are_cut() {
    let schema =
        stream_of(vec![Column::new("id", DataType::BigInt), Column::new("text", DataType::Text)]).full_schema();
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema.clone()).await.unwrap();
    let longest = format!("{}🦀🦀", "x".repeat(62));
    let rows = batches(&schema, &Positions::default(), &at([2])).remove(0);
    let mut columns = rows.columns().to_vec();
    columns[1] = Arc::new(StringArray::from(vec![longest.as_str(), "a"]));
    let rows = RecordBatch::try_new(schema.clone(), columns).unwrap();
    table.append(&Positions::default(), &at([2]), stream_batches(&schema, vec![rows])).await.unwrap();
    let found = query(&table, "SELECT max(text), min(text), max(id) FROM t").await;
    assert_eq!(found[0].column(0).as_string_view().value(0), longest);
    assert_eq!(found[0].column(1).as_string_view().value(0), "a");
    let found = query(&table, "SELECT id FROM t WHERE text > 'xxxxxxxxxxxxxxxxxxxxxxxxx'").await;
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nan_is_found_above_every_number() {
    let schema = stream_of(vec![Column::new("id", DataType::BigInt), Column::new("x", DataType::Double)]).full_schema();
    let (lake, _) = memory_lake();
    let table = lake.open(&name(), ID, schema.clone()).await.unwrap();
    let end = at([14]);
    let rows: Vec<RecordBatch> = batches(&schema, &Positions::default(), &end)
        .into_iter()
        .enumerate()
        .map(|(i, rows)| {
            let mut columns = rows.columns().to_vec();
            let x = [1.0, 2.0, if i == 1 { f64::NAN } else { 3.0 }];
            columns[1] = Arc::new(Float64Array::from_iter_values((0..rows.num_rows()).map(|r| x[r % 3])));
            RecordBatch::try_new(schema.clone(), columns).unwrap()
        })
        .collect();
    table.append(&Positions::default(), &end, stream_batches(&schema, rows)).await.unwrap();
    assert_eq!(table.snapshot().files, 2, "rows before the first NaN keep their bounds");
    let found = query(&table, "SELECT id FROM t WHERE x > 100").await;
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let found = query(&table, "SELECT count(x), count(*) FROM t").await;
    assert_eq!(found[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 14);
}
