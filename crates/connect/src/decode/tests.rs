//! Decoding as a whole: what each type takes and refuses, what a bad row costs, what is accounted for.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Int64Type, TimestampMicrosecondType};
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, DataType, ObjectName, RowField, Stream, StreamId, StreamOptions};

use super::*;

pub(super) fn stream(columns: Vec<Column>) -> Stream {
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

fn keeping_rest(mut columns: Vec<Column>) -> Stream {
    columns.push(Column::new("_rest", DataType::Json));
    let mut stream = stream(columns);
    stream.options.rest = true;
    stream
}

pub(super) fn run(stream: &Stream, format: Format, body: impl AsRef<[u8]>) -> Decoded {
    decode(&Plan::new(stream), format, &Bytes::copy_from_slice(body.as_ref()), DecodeLimits::default())
        .expect("the body is decoded")
}

fn json(columns: Vec<Column>, body: impl AsRef<[u8]>) -> Decoded {
    run(&stream(columns), Format::JsonLines, body)
}

/// A column's values as text, `∅` for NULL.
pub(super) fn shown(decoded: &Decoded, column: usize) -> Vec<String> {
    let array = match decoded.batch.column(column).data_type() {
        ArrowType::Timestamp(unit, Some(_)) => {
            let zoned = ArrowType::Timestamp(*unit, Some("+00:00".into()));
            cast(decoded.batch.column(column), &zoned).expect("only the zone's name changes")
        }
        _ => decoded.batch.column(column).clone(),
    };
    let options = arrow::util::display::FormatOptions::default().with_null("∅");
    let formatter = arrow::util::display::ArrayFormatter::try_new(&array, &options).expect("printable");
    (0..array.len()).map(|i| formatter.value(i).to_string()).collect()
}

/// One value into a column of a type: its text, or the refusal's code.
fn value(data_type: &DataType, json_value: &str) -> Result<String, Code> {
    let decoded = json(vec![Column::new("v", data_type.clone())], format!("{{\"v\":{json_value}}}"));
    match decoded.rejected.first() {
        Some(rejected) => {
            assert!(rejected.field.as_deref().is_none_or(|f| f.starts_with('v')), "{rejected:?}");
            Err(rejected.code)
        }
        None => Ok(shown(&decoded, 0).remove(0)),
    }
}

#[track_caller]
fn takes(data_type: DataType, cases: &[(&str, &str)]) {
    for (json_value, expected) in cases {
        assert_eq!(value(&data_type, json_value).as_deref(), Ok(*expected), "{json_value} into {data_type}");
    }
    assert_eq!(value(&data_type, "null").as_deref(), Ok("∅"), "null into {data_type}");
}

#[track_caller]
fn refuses(data_type: DataType, code: Code, cases: &[&str]) {
    for json_value in cases {
        assert_eq!(value(&data_type, json_value), Err(code), "{json_value} into {data_type}");
    }
}

#[test]
fn integers_are_taken_when_they_are_integral_and_in_range() {
    takes(DataType::SmallInt, &[("32767", "32767"), ("-32768", "-32768"), ("\"12\"", "12")]);
    takes(DataType::Int, &[("2147483647", "2147483647"), ("1e3", "1000"), ("7.0", "7"), ("\" 7 \"", "7")]);
    takes(DataType::BigInt, &[("9223372036854775807", "9223372036854775807"), ("-0", "0")]);
    refuses(DataType::SmallInt, Code::OutOfRange, &["32768", "\"-32769\""]);
    refuses(DataType::Int, Code::OutOfRange, &["2147483648", "1e300"]);
    refuses(DataType::BigInt, Code::OutOfRange, &["9223372036854775808", "1e999999999999999999999"]);
    refuses(DataType::Int, Code::InvalidValue, &["1.5", "\"x\"", "\"\"", "\"1.5\"", "01", "+1", "0x1", "NaN", "-"]);
    refuses(DataType::Int, Code::TypeMismatch, &["true", "[1]", "{\"a\":1}"]);
}

#[test]
fn floats_are_nearest_and_never_silently_infinite() {
    takes(DataType::Double, &[("19.99", "19.99"), ("1e22", "1e22"), ("\"NaN\"", "NaN"), ("\"-Infinity\"", "-inf")]);
    takes(DataType::Real, &[("0.1", "0.1"), ("16777217", "16777216.0")]);
    refuses(DataType::Double, Code::OutOfRange, &["1e400", "\"-1e400\""]);
    refuses(DataType::Real, Code::OutOfRange, &["1e39"]);
    refuses(DataType::Double, Code::InvalidValue, &["NaN", "Infinity", "-Infinity", ".5", "5.", "\"five\""]);
}

#[test]
fn decimals_are_exact() {
    let decimal = DataType::Decimal { precision: 38, scale: 10 };
    takes(
        decimal.clone(),
        &[
            ("0.1", "0.1000000000"),
            ("\"1234567890123456789012345678.0123456789\"", "1234567890123456789012345678.0123456789"),
        ],
    );
    takes(DataType::Decimal { precision: 4, scale: 2 }, &[("19.995", "20.00"), ("-0.005", "-0.01"), ("1e1", "10.00")]);
    refuses(DataType::Decimal { precision: 4, scale: 2 }, Code::OutOfRange, &["100", "99.995"]);
    refuses(decimal, Code::InvalidValue, &["\"NaN\"", "\"1,5\""]);
}

#[test]
fn text_takes_strings_and_plain_values_as_they_are_written() {
    takes(DataType::Text, &[(r#""a\"\u00e9\n""#, "a\"é\n"), ("1.50", "1.50"), ("true", "true"), ("\"\"", "")]);
    refuses(DataType::Text, Code::TypeMismatch, &["{}", "[]"]);
    refuses(DataType::Text, Code::InvalidEncoding, &[r#""\ud800""#]);
    refuses(DataType::Text, Code::InvalidValue, &[r#""\q""#, "\"\u{1}\"", "\"open"]);
}

#[test]
fn booleans_are_not_numbers() {
    takes(DataType::Boolean, &[("true", "true"), ("false", "false"), ("\"T\"", "true"), ("\"0\"", "false")]);
    refuses(DataType::Boolean, Code::TypeMismatch, &["1", "0"]);
    refuses(DataType::Boolean, Code::InvalidValue, &["\"maybe\"", "True", "tru"]);
}

#[test]
fn times_are_read_and_kept_as_utc() {
    takes(
        DataType::TimestampTz,
        &[
            ("\"2026-01-01T02:00:00+02:00\"", "2026-01-01T00:00:00Z"),
            ("\"2026-01-01 00:00:00.25\"", "2026-01-01T00:00:00.250Z"),
            ("1767225600000", "2026-01-01T00:00:00Z"),
        ],
    );
    takes(
        DataType::Timestamp,
        &[("\"2026-01-01T02:00:00+02:00\"", "2026-01-01T00:00:00"), ("\"2026-01-01\"", "2026-01-01T00:00:00")],
    );
    takes(DataType::Date, &[("\"2024-02-29\"", "2024-02-29")]);
    takes(DataType::Time, &[("\"23:59:59.5\"", "23:59:59.500")]);
    takes(DataType::Interval, &[("\"P1DT2H\"", "1 days 2 hours")]);
    refuses(DataType::TimestampTz, Code::InvalidValue, &["1767225600", "\"yesterday\"", "1.5"]);
    refuses(DataType::TimestampTz, Code::OutOfRange, &["\"2026-02-30T00:00:00Z\""]);
    refuses(DataType::Date, Code::TypeMismatch, &["20240229", "true"]);
}

#[test]
fn uuids_and_bytes_are_checked_and_made_uniform() {
    takes(DataType::Uuid, &[("\"67E55044-10B1-426F-9247-BB680E5FE0C8\"", "67e55044-10b1-426f-9247-bb680e5fe0c8")]);
    takes(DataType::Bytea, &[(r#""\\x00fF""#, "00ff"), ("\"aGk=\"", "6869"), ("\"aGk\"", "6869"), ("\"\"", "")]);
    refuses(DataType::Uuid, Code::InvalidValue, &["\"67e55044\""]);
    refuses(DataType::Uuid, Code::TypeMismatch, &["5"]);
    refuses(DataType::Bytea, Code::InvalidValue, &[r#""\\x0""#, r#""\\xzz""#, "\"a b\""]);
}

#[test]
fn json_keeps_the_text_of_any_value_that_is_well_formed() {
    takes(
        DataType::Json,
        &[(r#"{"b": 1,"a":[1.50,"x"]}"#, r#"{"b": 1,"a":[1.50,"x"]}"#), ("\"s\"", "\"s\""), ("1e2", "1e2")],
    );
    refuses(DataType::Json, Code::InvalidValue, &["{\"a\":}", "[1,]", "{a:1}", "01", r#"["\x"]"#]);
    refuses(DataType::Json, Code::InvalidEncoding, &[r#"{"\udc00":1}"#]);
}

#[test]
fn arrays_and_rows_lie_in_each_other() {
    let item = DataType::Row(vec![
        RowField { name: "sku".into(), data_type: DataType::Text },
        RowField { name: "n".into(), data_type: DataType::Array(Box::new(DataType::Int)) },
    ]);
    let items = DataType::Array(Box::new(item));
    takes(
        items.clone(),
        &[(r#"[{"n":[1,null],"sku":"a"},null,{}]"#, "[{sku: a, n: [1, ∅]}, ∅, {sku: ∅, n: ∅}]"), ("[]", "[]")],
    );
    let decoded = json(vec![Column::new("items", items)], r#"{"items":[{"sku":"a"},{"n":[1,"x"]}]}"#);
    assert_eq!(decoded.rejected[0].field.as_deref(), Some("items[1].n[1]"));
    assert_eq!(decoded.rejected[0].column, Some(31));
    refuses(DataType::Array(Box::new(DataType::Int)), Code::TypeMismatch, &["1", "\"[1]\"", "{}"]);
}

#[test]
fn too_deep_a_value_is_refused_without_exhausting_the_stack() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(value(&DataType::Json, &deep(120)).is_ok());
    assert_eq!(value(&DataType::Json, &deep(200)), Err(Code::InvalidValue));
    assert_eq!(value(&DataType::Json, &"[".repeat(1_000_000)), Err(Code::InvalidValue));
    assert_eq!(value(&DataType::Json, &"{\"a\":".repeat(1_000_000)), Err(Code::InvalidValue));
}

#[test]
fn a_bad_row_costs_itself_alone_and_says_where() {
    let columns = vec![Column::new("id", DataType::BigInt), Column::new("name", DataType::Text)];
    let body = "{\"id\":1,\"name\":\"a\"}\n\n{\"id\":2,\"name\":\"b\"\n{\"name\":\"c\",\"id\":\"x\"}\r\n{\"id\":4,\"name\":\"d\"} {}\n{\"id\":5}";
    let decoded = json(columns, body);
    assert_eq!(shown(&decoded, 0), ["1", "5"]);
    assert_eq!(shown(&decoded, 1), ["a", "∅"]);
    let places: Vec<_> = decoded.rejected.iter().map(|r| (r.line, r.column, r.field.as_deref())).collect();
    assert_eq!(places, [(3, Some(19), None), (4, Some(18), Some("id")), (5, Some(21), None)]);
    assert_eq!(decoded.rejected[0].text, "{\"id\":2,\"name\":\"b\"");
    assert_eq!(decoded.rejected[1].reason, "\"x\" is not a valid bigint");
    assert!(decoded.rejected[0].reason.contains("found the end of the line"), "{}", decoded.rejected[0].reason);
}

#[test]
fn rows_tell_their_line_and_text_later() {
    let body = "\n{\"id\":1}\n{}x\n\n  {\"id\":2} \n";
    let decoded = json(vec![Column::new("id", DataType::BigInt)], body);
    let mut reader = decoded.origins.reader(body.as_bytes());
    assert_eq!(reader.locate(0), (2, "{\"id\":1}".into()));
    assert_eq!(reader.locate(1), (5, "{\"id\":2}".into()));
}

#[test]
fn invalid_utf8_costs_the_line_it_stands_on() {
    let body = b"{\"t\":\"good\"}\n{\"t\":\"b\xffd\"}\n{\"t\":\"\xc3\xa9\"}\n";
    let decoded = json(vec![Column::new("t", DataType::Text)], body);
    assert_eq!(shown(&decoded, 0), ["good", "é"]);
    let rejected = &decoded.rejected[0];
    assert_eq!((rejected.line, rejected.column, rejected.code), (2, Some(8), Code::InvalidEncoding));
    assert_eq!(rejected.text, "{\"t\":\"b\u{fffd}d\"}");
    let decoded =
        run(&stream(vec![Column::new("t", DataType::Text)]), Format::Json, b"[{\"t\":\"\xff\"},{\"t\":\"a\"}]");
    assert_eq!((decoded.batch.num_rows(), decoded.rejected[0].code), (1, Code::InvalidEncoding));
}

#[test]
fn a_row_over_the_limit_is_rejected_and_its_text_cut() {
    let limits = DecodeLimits { max_row_bytes: 100, ..DecodeLimits::default() };
    let long = "x".repeat(100_000);
    let body = format!("{{\"t\":\"{long}\"}}\n{{\"t\":\"a\"}}\n{{\"t\":\"{long}");
    let plan = Plan::new(&stream(vec![Column::new("t", DataType::Text)]));
    let decoded = decode(&plan, Format::JsonLines, &Bytes::from(body), limits).expect("the body is decoded");
    assert_eq!(shown(&decoded, 0), ["a"]);
    assert_eq!(decoded.rejected[0].code, Code::TooLarge);
    assert!(decoded.rejected[0].text.len() < 66_000 && decoded.rejected[0].text.contains("100008 bytes in all"));
    assert!(decoded.rejected[1].text.len() < 200);
}

#[test]
fn the_last_of_two_equal_fields_counts() {
    let columns = vec![Column::new("a", DataType::Int), Column::new("b", DataType::Text)];
    let decoded = json(columns, "{\"a\":1,\"b\":\"x\",\"a\":2,\"b\":null}\n{\"a\":3,\"b\":\"y\"}");
    assert_eq!((shown(&decoded, 0), shown(&decoded, 1)), (vec!["2".into(), "3".into()], vec!["∅".into(), "y".into()]));
}

#[test]
fn a_missing_field_is_told_from_null_where_there_is_a_default() {
    let mut with_default = Column::new("b", DataType::Int);
    with_default.default = Some("7".into());
    let decoded =
        json(vec![Column::new("a", DataType::Int), with_default], "{\"a\":1}\n{\"b\":null}\n{\"b\":2}\nx\n{}");
    assert!(decoded.missing[0].is_none());
    let missing: Vec<bool> = decoded.missing[1].as_ref().expect("two rows lack b").iter().collect();
    assert_eq!(missing, [true, false, false, true]);
    assert_eq!(shown(&decoded, 1), ["∅", "∅", "2", "∅"]);
}

#[test]
fn unknown_fields_are_counted_once_per_kept_row() {
    let row = DataType::Row(vec![RowField { name: "x".into(), data_type: DataType::Int }]);
    let columns = vec![Column::new("a", DataType::Int), Column::new("r", row)];
    let decoded = json(columns, "{\"a\":1,\"z\":{\"q\":[]},\"r\":{\"x\":1,\"y\":2}}\n{\"z\":1,\"a\":\"bad\"}");
    assert_eq!(decoded.unknown_fields, 2);
}

#[test]
fn unknown_fields_are_kept_in_rest_under_their_path() {
    let row = DataType::Row(vec![RowField { name: "x".into(), data_type: DataType::Int }]);
    let columns = vec![Column::new("r", row.clone()), Column::new("l", DataType::Array(Box::new(row)))];
    let body = concat!(
        "{\"z\":{\"q\": [1]},\"r\":{\"y\":2},\"l\":[{\"x\":1},{\"w\":\"\\u00e9\"}]}\n",
        "{\"r\":{\"x\":1}}\n",
        "{\"_rest\":{\"z\":1},\"k\":null}\n",
        "{\"_rest\":null}\n{\"_rest\":5}\n{\"bad\":1,\"r\":5}\n{}",
    );
    let decoded = run(&keeping_rest(columns), Format::JsonLines, body);
    let expected =
        [r#"{"z":{"q": [1]},"r.y":2,"l[1].w":"\u00e9"}"#, "∅", r#"{"z":1,"k":null}"#, "∅", r#"{"_rest":5}"#, "∅"];
    assert_eq!(shown(&decoded, 2), expected);
    assert_eq!((decoded.unknown_fields, decoded.rejected.len()), (0, 1));
    for text in decoded.batch.column(2).as_string::<i32>().iter().flatten() {
        serde_json::from_str::<serde_json::Value>(text).expect("_rest is JSON");
    }
}

#[test]
fn names_with_escapes_match_and_case_matters() {
    let columns = vec![Column::new("é\"x", DataType::Int), Column::new("B", DataType::Int)];
    let decoded = json(columns, "{\"\\u00e9\\\"x\":1,\"b\":2, \"B\" : 3 }");
    assert_eq!(
        (shown(&decoded, 0), shown(&decoded, 1), decoded.unknown_fields),
        (vec!["1".into()], vec!["3".into()], 1)
    );
}

#[test]
fn arrays_objects_and_lines_are_told_apart_by_their_first_byte() {
    let ids = |format, body: &str| shown(&run(&stream(vec![Column::new("id", DataType::Int)]), format, body), 0);
    for format in [Format::Json, Format::JsonLines] {
        assert_eq!(ids(format, " [ {\"id\":1} ,\n{\n\"id\":2}\n] \n"), ["1", "2"]);
        assert_eq!(ids(format, "[]"), [""; 0]);
        assert_eq!(ids(format, "[{\"id\":1},]"), ["1"]);
        assert_eq!(ids(format, "\u{feff}{\"id\":1}\n{\"id\":2}"), ["1", "2"]);
        assert_eq!(ids(format, " \n\n"), [""; 0]);
        assert_eq!(ids(format, ""), [""; 0]);
    }
    assert_eq!(ids(Format::Json, "{\n  \"id\": 1\n}\n"), ["1"]);
}

#[test]
fn an_array_goes_on_behind_a_bad_row_where_it_can() {
    let s = stream(vec![Column::new("id", DataType::Int)]);
    let decoded = run(
        &s,
        Format::Json,
        "[{\"id\":1},{\"id\":\"x\"},\n{\"id\":NaN, \"s\":\"}\"},{\"id\":2},7,null,{\"id\":3,},{\"id\":4}]",
    );
    assert_eq!(shown(&decoded, 0), ["1", "2", "4"]);
    let texts: Vec<_> = decoded.rejected.iter().map(|r| r.text.as_str()).collect();
    assert_eq!(texts, ["{\"id\":\"x\"}", "{\"id\":NaN, \"s\":\"}\"}", "7", "null", "{\"id\":3,}"]);
    assert_eq!((decoded.rejected[0].line, decoded.rejected[1].line), (1, 2));
    assert_eq!((decoded.rejected[1].column, decoded.rejected[2].column), (Some(7), Some(30)));
}

#[test]
fn an_array_that_breaks_off_keeps_the_rows_before_and_rejects_the_rest_once() {
    let s = stream(vec![Column::new("id", DataType::Int)]);
    for (body, rest) in [
        ("[{\"id\":1},{\"id\":2", "{\"id\":2"),
        ("[{\"id\":1},{\"id\":\"open},\n{\"id\":3}]", "{\"id\":\"open},\n{\"id\":3}]"),
        ("[{\"id\":1} {\"id\":2}]", "{\"id\":2}]"),
        ("[{\"id\":1}", ""),
        ("[{\"id\":1}] x", "x"),
    ] {
        let decoded = run(&s, Format::Json, body);
        assert_eq!(shown(&decoded, 0), ["1"], "{body}");
        assert_eq!(decoded.rejected.len(), 1, "{body}");
        assert_eq!(decoded.rejected[0].text, rest, "{body}");
    }
}

#[test]
fn rows_that_would_take_far_more_memory_than_their_text_are_refused() {
    let columns: Vec<_> = (0..50).map(|i| Column::new(format!("c{i}"), DataType::Interval)).collect();
    let plan = Plan::new(&stream(columns));
    let limits = DecodeLimits { max_decoded_bytes: 1 << 20, ..DecodeLimits::default() };
    let error = decode(&plan, Format::JsonLines, &"{}\n".repeat(10_000).into(), limits).expect_err("too many");
    assert!(matches!(error, Error::TooManyRows { .. }), "{error}");
    let row =
        DataType::Row((0..50).map(|i| RowField { name: format!("f{i}"), data_type: DataType::Interval }).collect());
    let plan = Plan::new(&stream(vec![Column::new("l", DataType::Array(Box::new(row)))]));
    let body = format!("{{\"l\":[{}{{}}]}}\n{{\"l\":[{{}}]}}", "{},".repeat(10_000));
    let decoded = decode(&plan, Format::JsonLines, &Bytes::from(body), limits).expect("the body is decoded");
    assert_eq!((decoded.batch.num_rows(), decoded.rejected[0].code), (1, Code::TooLarge));
}

#[test]
fn valid_rows_decode_as_arrow_json_decodes_them() {
    let columns = vec![
        Column::new("i", DataType::BigInt),
        Column::new("d", DataType::Double),
        Column::new("t", DataType::Text),
        Column::new("ts", DataType::Timestamp),
        Column::new("l", DataType::Array(Box::new(DataType::Int))),
    ];
    let s = stream(columns);
    let mut body = String::new();
    for i in 0..500i64 {
        body += &format!(
            "{{\"i\":{},\"d\":{},\"t\":\"x{}\\n\\u00e9\",\"ts\":\"2026-0{}-01T0{}:00:00.{:06}Z\",\"l\":[{i},null]}}\n",
            i * 7_919_191_919,
            (i as f64).exp() / 3.7,
            "é".repeat(i as usize % 9),
            i % 9 + 1,
            i % 10,
            i * 13
        );
    }
    let ours = run(&s, Format::JsonLines, &body);
    assert_eq!(ours.rejected, []);
    let mut theirs =
        arrow::json::ReaderBuilder::new(s.schema()).with_batch_size(1000).build_decoder().expect("a schema");
    theirs.decode(body.as_bytes()).expect("valid");
    assert_eq!(ours.batch, theirs.flush().expect("valid").expect("rows"));
}

#[test]
fn typed_columns_have_the_types_of_the_stream() {
    let decoded = json(vec![Column::new("a", DataType::TimestampTz), Column::new("b", DataType::BigInt)], "{\"b\":5}");
    assert_eq!(decoded.batch.column(0).as_primitive::<TimestampMicrosecondType>().timezone(), Some("UTC"));
    assert_eq!(decoded.batch.column(1).as_primitive::<Int64Type>().value(0), 5);
    assert_eq!(cast(decoded.batch.column(1), &ArrowType::Utf8).expect("castable").len(), 1);
}

#[test]
fn rejected_rows_count_against_the_memory_of_the_request() {
    let plan = Plan::new(&stream(vec![Column::new("id", DataType::Int)]));
    let limits = DecodeLimits { max_decoded_bytes: 1 << 20, ..DecodeLimits::default() };
    for (format, body) in [
        (Format::JsonLines, "x\n".repeat(10_000)),
        (Format::Json, format!("[{}1]", "0,".repeat(10_000))),
        (Format::Csv, format!("id\n{}", "x\n".repeat(10_000))),
    ] {
        let error = decode(&plan, format, &Bytes::copy_from_slice(body.as_bytes()), limits).expect_err("too many");
        assert!(matches!(error, Error::TooManyRows { .. }), "{error}");
    }
}

#[test]
fn fields_in_another_order_than_the_columns_are_found_each_time() {
    let columns: Vec<_> = ["a", "b", "c", "d"].into_iter().map(|name| Column::new(name, DataType::Int)).collect();
    let body = "{\"d\":1,\"b\":2}\n{\"d\":3,\"b\":4}\n{\"a\":5,\"d\":6,\"x\":0,\"b\":7,\"c\":8}\n{}\n{\"d\":9,\"x\":1,\"c\":10}\n{\"a\":11,\"b\":12}";
    let decoded = json(columns, body);
    assert_eq!(shown(&decoded, 0), ["∅", "∅", "5", "∅", "∅", "11"]);
    assert_eq!(shown(&decoded, 1), ["2", "4", "7", "∅", "∅", "12"]);
    assert_eq!(shown(&decoded, 2), ["∅", "∅", "8", "∅", "10", "∅"]);
    assert_eq!(shown(&decoded, 3), ["1", "3", "6", "∅", "9", "∅"]);
}
