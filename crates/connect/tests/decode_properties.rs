//! What holds for the decoder whatever it is fed: good rows read back as they were, every line of a bad body is
//! accounted for, and a row decodes alone as it decodes among others.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use bytes::Bytes;
use millstream_catalog::{Column, DataType, ObjectName, RowField, Stream, StreamId, StreamOptions};
use millstream_connect::decode::{DecodeLimits, Decoded, Format, Plan, decode};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn stream(columns: Vec<Column>) -> Stream {
    Stream {
        id: StreamId(uuid::Uuid::nil()),
        name: ObjectName::public("s").expect("a good name"),
        columns,
        checks: Vec::new(),
        watermark: None,
        partition_by: Vec::new(),
        options: StreamOptions::default(),
        comment: None,
        version: 1,
        created_at_ms: 0,
        table: None,
    }
}

/// A column of every type, and `_rest`.
fn every_type() -> Plan {
    let row = DataType::Row(vec![
        RowField { name: "a".into(), data_type: DataType::Int },
        RowField { name: "b".into(), data_type: DataType::Array(Box::new(DataType::Text)) },
    ]);
    let types = [
        DataType::Boolean,
        DataType::SmallInt,
        DataType::Int,
        DataType::BigInt,
        DataType::Real,
        DataType::Double,
        DataType::Decimal { precision: 12, scale: 3 },
        DataType::Text,
        DataType::Bytea,
        DataType::Date,
        DataType::Time,
        DataType::Timestamp,
        DataType::TimestampTz,
        DataType::Interval,
        DataType::Uuid,
        DataType::Json,
        DataType::Array(Box::new(row.clone())),
        row,
    ];
    let mut columns: Vec<Column> =
        types.into_iter().enumerate().map(|(i, data_type)| Column::new(format!("c{i}"), data_type)).collect();
    columns[2].default = Some("0".into());
    columns.push(Column::new("_rest", DataType::Json));
    let mut stream = stream(columns);
    stream.options.rest = true;
    Plan::new(&stream)
}

const GOOD_ROW: &str = concat!(
    r#"{"c0":true,"c1":-5,"c2":7,"c3":123456789012,"c4":0.5,"c5":1e10,"c6":"12.345","c7":"t\u00e9xt \"q\"","c8":"\\x00ff","#,
    r#""c9":"2026-02-03","c10":"10:11:12.5","c11":"2026-01-01 00:00:00","c12":"2026-01-01T00:00:00+01:00","c13":"P1DT2H","#,
    r#""c14":"67e55044-10b1-426f-9247-bb680e5fe0c8","c15":{"k":[1,null]},"c16":[{"a":1,"b":["x",null]},null],"c17":{"b":[],"z":1},"u":0}"#
);

fn run(plan: &Plan, format: Format, body: &[u8]) -> Option<Decoded> {
    decode(
        plan,
        format,
        &Bytes::copy_from_slice(body),
        DecodeLimits { max_row_bytes: 4096, max_decoded_bytes: 16 << 20 },
    )
    .ok()
}

fn blank_lines(body: &[u8]) -> usize {
    body.split(|b| *b == b'\n').filter(|line| line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r'))).count()
}

/// Every line is a row, a rejected row or blank; and each row, sent alone, decodes to the same values.
fn check_lines(plan: &Plan, body: &[u8]) {
    let text_start = body.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n'));
    if text_start.is_none_or(|at| body[at] == b'[') || body.starts_with(b"\xef\xbb\xbf") {
        return;
    }
    let Some(decoded) = run(plan, Format::JsonLines, body) else { return };
    let lines = body.split(|b| *b == b'\n').count();
    assert_eq!(decoded.batch.num_rows() + decoded.rejected.len() + blank_lines(body), lines);
    let mut origins = decoded.origins.reader(body);
    for row in 0..decoded.batch.num_rows() {
        let (line, text) = origins.locate(row);
        assert!((1..=lines as u64).contains(&line));
        let alone = run(plan, Format::JsonLines, text.as_bytes()).expect("a row that was accepted");
        assert_eq!(alone.batch, decoded.batch.slice(row, 1), "{text}");
    }
    for rejected in &decoded.rejected {
        let line = body.split(|b| *b == b'\n').nth(rejected.line as usize - 1).expect("an existing line");
        assert!(rejected.column.is_some_and(|column| column as usize <= line.len() + 1), "{rejected:?}");
    }
}

/// Changes a few bytes: flips, removals, insertions, copies of other parts.
fn mutate(rng: &mut StdRng, body: &mut Vec<u8>) {
    const SHARP: &[u8] = b"{}[]\",:\\\n\r\0\xff\xc3-+.eE019untf ";
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..body.len().max(1));
        match rng.random_range(0..5) {
            _ if body.is_empty() => body.push(b'{'),
            0 => body[at] ^= 1 << rng.random_range(0..8),
            1 => {
                body.remove(at);
            }
            2 => body.insert(at, SHARP[rng.random_range(0..SHARP.len())]),
            3 => body[at] = SHARP[rng.random_range(0..SHARP.len())],
            _ => {
                let end = (at + rng.random_range(1..20)).min(body.len());
                let piece = body[at..end].to_vec();
                let to = rng.random_range(0..body.len());
                body.splice(to..to, piece);
            }
        }
    }
}

/// A short, repeatable run of what the fuzz target does without end.
#[test]
fn mutated_bodies_never_panic_and_every_line_is_accounted_for() {
    let seed = std::env::var("MILLSTREAM_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_260_101);
    println!("seed {seed}; set MILLSTREAM_TEST_SEED to try another");
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = every_type();
    let decoded = run(&plan, Format::JsonLines, GOOD_ROW.as_bytes()).unwrap();
    assert_eq!(decoded.rejected, [], "the row that is mutated is a good one");
    assert_eq!(decoded.batch.column(18).as_string::<i32>().value(0), r#"{"c17.z":1,"u":0}"#);
    let csv = "c2,c7,c12,c16,extra\r\n1,\"a \"\"b\"\"\",2026-01-01,\"[{\"\"a\"\":1}]\",x\n,,,,\n3,\"c\nd\",1767225600000,null,\n";
    for _ in 0..3_000 {
        let mut lines = [GOOD_ROW, "", GOOD_ROW, "{\"c3\":5}"].join("\n").into_bytes();
        mutate(&mut rng, &mut lines);
        check_lines(&plan, &lines);
        let mut array = format!("[{GOOD_ROW},{{}},\n{GOOD_ROW}]").into_bytes();
        mutate(&mut rng, &mut array);
        run(&plan, Format::Json, &array);
        let mut table = csv.as_bytes().to_vec();
        mutate(&mut rng, &mut table);
        run(&plan, Format::Csv, &table);
    }
}

#[test]
fn a_body_of_any_bytes_never_panics() {
    let mut rng = StdRng::seed_from_u64(7);
    let plan = every_type();
    for _ in 0..3_000 {
        let body: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
        for format in [Format::JsonLines, Format::Json, Format::Csv, Format::ArrowStream] {
            run(&plan, format, &body);
        }
        check_lines(&plan, &body);
    }
}

type Row = (Option<i64>, Option<f64>, Option<String>, Option<bool>, Option<Vec<Option<i32>>>);

fn row() -> impl Strategy<Value = Row> {
    let float = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    (
        prop::option::of(any::<i64>()),
        prop::option::of(float),
        prop::option::of(".*"),
        prop::option::of(any::<bool>()),
        prop::option::of(prop::collection::vec(prop::option::of(any::<i32>()), 0..5)),
    )
}

/// The row as JSON, its fields in another order and with other blanks for each `style`.
fn written(row: &Row, style: usize) -> String {
    let mut fields = [
        ("i", serde_json::json!(row.0)),
        ("d", serde_json::json!(row.1)),
        ("t", serde_json::json!(row.2)),
        ("b", serde_json::json!(row.3)),
        ("l", serde_json::json!(row.4)),
    ];
    fields.rotate_left(style % 5);
    let (blank, colon) = [("", ":"), (" ", " : ")][style % 2];
    let fields = fields.iter().filter(|(_, value)| !style.is_multiple_of(3) || !value.is_null());
    let fields: Vec<String> = fields.map(|(name, value)| format!("{blank}\"{name}\"{colon}{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn check_values(rows: &[Row], decoded: &Decoded) {
    let batch = &decoded.batch;
    let list = batch.column(4).as_list::<i32>();
    for (i, (int, double, text, flag, items)) in rows.iter().enumerate() {
        let given = |column: usize| batch.column(column).is_valid(i);
        assert_eq!(given(0).then(|| batch.column(0).as_primitive::<Int64Type>().value(i)), *int);
        let value = given(1).then(|| batch.column(1).as_primitive::<Float64Type>().value(i));
        assert_eq!(value.map(f64::to_bits), double.map(f64::to_bits));
        assert_eq!(given(2).then(|| batch.column(2).as_string::<i32>().value(i)), text.as_deref());
        assert_eq!(given(3).then(|| batch.column(3).as_boolean().value(i)), *flag);
        let value = given(4).then(|| list.value(i).as_primitive::<Int32Type>().iter().collect::<Vec<_>>());
        assert_eq!(&value, items);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn rows_written_as_json_read_back_as_they_were(rows in prop::collection::vec(row(), 0..20), style in 0usize..30) {
        let columns = vec![
            Column::new("i", DataType::BigInt),
            Column::new("d", DataType::Double),
            Column::new("t", DataType::Text),
            Column::new("b", DataType::Boolean),
            Column::new("l", DataType::Array(Box::new(DataType::Int))),
        ];
        let plan = Plan::new(&stream(columns));
        let lines: Vec<String> = rows.iter().enumerate().map(|(i, row)| written(row, style + i)).collect();
        let body = lines.join("\n");
        let decoded = run(&plan, Format::JsonLines, body.as_bytes()).expect("small");
        prop_assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        check_values(&rows, &decoded);
        let array = run(&plan, Format::Json, format!("[{}]", lines.join(",\n")).as_bytes()).expect("small");
        prop_assert_eq!(&array.batch, &decoded.batch);

        let mut with_bad_rows = String::new();
        for line in &lines {
            with_bad_rows += &format!("{line}\n{{\"i\":1,\"t\":\"lost\",\"l\":[1,\"x\"]}}\n{{\"i\":\n");
        }
        let mixed = run(&plan, Format::JsonLines, with_bad_rows.as_bytes()).expect("small");
        prop_assert_eq!(mixed.rejected.len(), 2 * rows.len());
        check_values(&rows, &mixed);
    }

    #[test]
    fn any_text_read_as_any_type_is_taken_or_refused(text in ".{0,40}", bare in "[-+0-9.eE]{0,24}") {
        let plan = every_type();
        for column in 0..18 {
            let quoted = serde_json::json!({ format!("c{column}"): text }).to_string();
            check_lines(&plan, quoted.as_bytes());
            check_lines(&plan, format!("{{\"c{column}\":{bare}}}").as_bytes());
            check_lines(&plan, format!("{{\"c{column}\":\"{bare}\"}}").as_bytes());
        }
    }

    #[test]
    fn a_number_is_taken_exactly_when_serde_takes_it(text in "-?[0-9]{1,22}(\\.[0-9]{1,22})?([eE][-+]?[0-9]{1,3})?") {
        let plan = Plan::new(&stream(vec![Column::new("d", DataType::Double)]));
        let decoded = run(&plan, Format::JsonLines, format!("{{\"d\":{text}}}").as_bytes()).expect("small");
        let is_json = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok();
        let value = text.parse::<f64>().ok().filter(|v| is_json && v.is_finite());
        let taken = (decoded.batch.num_rows() == 1).then(|| decoded.batch.column(0).as_primitive::<Float64Type>().value(0));
        prop_assert_eq!(taken.map(f64::to_bits), value.map(f64::to_bits));
    }
}
