//! Arrow streams: what converts, what costs a row, what costs the body.

use arrow::array::*;
use arrow::datatypes::{DataType as ArrowType, Field, Int32Type, Schema};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, RowField};

use super::super::tests::{shown, stream};
use super::super::{Format, decode as decode_body};
use super::*;

fn written(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let mut out = Vec::new();
    let options = IpcWriteOptions::default().try_with_compression(compression).expect("known");
    let mut writer = StreamWriter::try_new_with_options(&mut out, &batches[0].schema(), options).expect("a schema");
    batches.iter().for_each(|batch| writer.write(batch).expect("memory takes everything"));
    writer.finish().expect("memory takes everything");
    drop(writer);
    out
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).expect("equal lengths")
}

fn run(columns: Vec<Column>, body: &[u8]) -> Result<Decoded, Error> {
    decode_body(
        &Plan::new(&stream(columns)),
        Format::ArrowStream,
        &Bytes::copy_from_slice(body),
        DecodeLimits::default(),
    )
}

/// Kept values, and the rows and codes of those that are not.
type Outcome = (Vec<String>, Vec<(u64, Code)>);

fn one(array: impl Array + 'static, data_type: DataType) -> Result<Outcome, Error> {
    let body = written(&[batch(vec![("v", Arc::new(array))])], None);
    let decoded = run(vec![Column::new("v", data_type)], &body)?;
    let rejected = decoded.rejected.iter().map(|r| (r.line, r.code)).collect();
    Ok((shown(&decoded, 0), rejected))
}

#[test]
fn columns_are_matched_by_name_over_several_batches() {
    let first = batch(vec![
        ("name", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("zip", Arc::new(Int32Array::from(vec![Some(1), None]))),
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
    ]);
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let body = written(&[first.clone(), first.slice(1, 1)], compression);
        let mut with_default = Column::new("d", DataType::Int);
        with_default.default = Some("1".into());
        let columns = vec![Column::new("id", DataType::Int), Column::new("name", DataType::Text), with_default];
        let decoded = run(columns, &body).expect("valid");
        assert_eq!(
            (shown(&decoded, 0), shown(&decoded, 1)),
            (vec!["1".into(), "2".into(), "2".into()], vec!["a".into(), "b".into(), "b".into()])
        );
        assert_eq!(decoded.unknown_fields, 1);
        assert_eq!(decoded.missing[2].as_ref().map(|m| m.count_set_bits()), Some(3));
        assert_eq!(decoded.origins.reader(&body).locate(2), (3, "{\"name\":\"b\",\"id\":2}".into()));
    }
}

#[test]
fn a_value_that_does_not_fit_costs_its_row() {
    let row = |line, code| vec![(line, code)];
    let (kept, rejected) = one(Int64Array::from(vec![Some(1), Some(1 << 40), None]), DataType::Int).expect("castable");
    assert_eq!((kept, rejected), (vec!["1".into(), "∅".into()], row(2, Code::OutOfRange)));
    let (kept, rejected) = one(Float64Array::from(vec![1.0, 1.5, -3.0]), DataType::Int).expect("castable");
    assert_eq!((kept, rejected), (vec!["1".into(), "-3".into()], row(2, Code::InvalidValue)));
    let (_, rejected) = one(Float64Array::from(vec![f64::NAN, 2.0]), DataType::BigInt).expect("castable");
    assert_eq!(rejected.len(), 1);
    let (kept, rejected) = one(Float64Array::from(vec![1e300, 0.5]), DataType::Real).expect("castable");
    assert_eq!((kept, rejected), (vec!["0.5".into()], row(1, Code::OutOfRange)));
    let decimals = Decimal128Array::from(vec![150, 200]).with_precision_and_scale(10, 2).expect("fits");
    let (kept, rejected) = one(decimals, DataType::Int).expect("castable");
    assert_eq!((kept, rejected), (vec!["2".into()], row(1, Code::InvalidValue)));
    let (kept, rejected) = one(StringArray::from(vec!["7", "x"]), DataType::SmallInt).expect("castable");
    assert_eq!((kept, rejected), (vec!["7".into()], row(2, Code::InvalidValue)));
    let (kept, rejected) = one(StringArray::from(vec!["{}", "{"]), DataType::Json).expect("castable");
    assert_eq!((kept, rejected), (vec!["{}".into()], row(2, Code::InvalidValue)));
}

#[test]
fn times_keep_their_instant_whatever_their_unit_and_zone() {
    let seconds = TimestampSecondArray::from(vec![1_767_225_600]).with_timezone("Europe/Paris");
    let (kept, _) = one(seconds, DataType::TimestampTz).expect("castable");
    assert_eq!(kept, ["2026-01-01T00:00:00Z"]);
    let (kept, rejected) = one(TimestampSecondArray::from(vec![i64::MAX]), DataType::Timestamp).expect("castable");
    assert_eq!((kept.len(), rejected.len()), (0, 1));
    let (kept, _) =
        one(TimestampNanosecondArray::from(vec![1_767_225_600_000_001_999]), DataType::TimestampTz).expect("castable");
    assert_eq!(kept, ["2026-01-01T00:00:00.000001Z"]);
    let (kept, _) = one(Date32Array::from(vec![1]), DataType::Timestamp).expect("castable");
    assert_eq!(kept, ["1970-01-02T00:00:00"]);
}

#[test]
fn nested_values_convert_and_their_faults_have_a_path() {
    let lists = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![Some(1 << 40)]),
        Some(vec![]),
    ]);
    let item = DataType::Array(Box::new(DataType::Int));
    let body = written(&[batch(vec![("v", Arc::new(lists.clone()))])], None);
    let decoded = run(vec![Column::new("v", item)], &body).expect("castable");
    assert_eq!(shown(&decoded, 0), ["[1, ∅]", "∅", "[]"]);
    assert_eq!(decoded.rejected[0].field.as_deref(), Some("v[0]"));
    let (kept, _) = one(lists, DataType::Json).expect("castable");
    assert_eq!(kept, ["[1,null]", "∅", "[1099511627776]", "[]"]);
    let rows = StructArray::from(vec![(
        Arc::new(Field::new("b", ArrowType::Utf8, true)),
        Arc::new(StringArray::from(vec!["1", "x"])) as ArrayRef,
    )]);
    let row = DataType::Row(vec![
        RowField { name: "a".into(), data_type: DataType::Int },
        RowField { name: "b".into(), data_type: DataType::Int },
    ]);
    let (kept, rejected) = one(rows, row).expect("castable");
    assert_eq!((kept, rejected), (vec!["{a: ∅, b: 1}".into()], vec![(2, Code::InvalidValue)]));
}

#[test]
fn unknown_columns_are_kept_in_rest() {
    let source = batch(vec![
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ("x", Arc::new(StringArray::from(vec![Some("q\""), None, None]))),
        ("_rest", Arc::new(StringArray::from(vec![Some("{\"k\":1}"), Some("{\"k\":2}"), None]))),
    ]);
    let mut s = stream(vec![Column::new("id", DataType::Int), Column::new("_rest", DataType::Json)]);
    s.options.rest = true;
    let body = written(&[source], None);
    let decoded =
        decode_body(&Plan::new(&s), Format::ArrowStream, &Bytes::copy_from_slice(&body), DecodeLimits::default())
            .expect("valid");
    assert_eq!(shown(&decoded, 1), ["{\"k\":1,\"x\":\"q\\\"\"}", "{\"k\":2}", "∅"]);
    assert_eq!(decoded.unknown_fields, 0);
}

#[test]
fn a_column_without_a_way_in_refuses_the_body() {
    for (array, data_type) in [
        (Arc::new(Int32Array::from(vec![1])) as ArrayRef, DataType::Boolean),
        (Arc::new(BooleanArray::from(vec![true])), DataType::Int),
        (Arc::new(Int64Array::from(vec![1])), DataType::TimestampTz),
        (Arc::new(BinaryArray::from(vec![b"x".as_slice()])), DataType::Text),
    ] {
        let body = written(&[batch(vec![("v", array)])], None);
        assert!(matches!(run(vec![Column::new("v", data_type)], &body), Err(Error::IpcColumn { .. })));
    }
}

#[test]
fn a_stream_cut_or_damaged_anywhere_is_refused_or_read_but_never_panics() {
    let source = batch(vec![
        ("id", Arc::new(Int32Array::from_iter_values(0..100))),
        ("t", Arc::new(StringArray::from_iter_values((0..100).map(|i| "x".repeat(i))))),
    ]);
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let body = written(std::slice::from_ref(&source), compression);
        let columns = || vec![Column::new("id", DataType::Int), Column::new("t", DataType::Text)];
        // The last 8 bytes are the end marker, which a stream may leave out.
        for cut in (0..body.len() - 8).step_by(7) {
            let result = run(columns(), &body[..cut]);
            assert!(result.map_or(true, |decoded| decoded.batch.num_rows() == 0), "cut at {cut}");
        }
        for place in 0..body.len() {
            let mut damaged = body.clone();
            damaged[place] ^= 0x41;
            let _ = run(columns(), &damaged).map(|decoded| decoded.batch.num_rows());
        }
    }
}

#[test]
fn buffers_that_unpack_beyond_the_limit_are_refused() {
    let zeros = batch(vec![("id", Arc::new(Int64Array::from(vec![0; 1 << 20])))]);
    let limits = DecodeLimits { max_decoded_bytes: 1 << 20, ..DecodeLimits::default() };
    let plan = Plan::new(&stream(vec![Column::new("id", DataType::BigInt)]));
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let body = written(std::slice::from_ref(&zeros), Some(compression));
        assert!(body.len() < 1 << 18);
        let error =
            decode_body(&plan, Format::ArrowStream, &Bytes::copy_from_slice(&body), limits).expect_err("a bomb");
        assert!(matches!(error, Error::DecompressedTooLarge { .. }), "{error}");
    }
}

#[test]
fn a_dictionary_that_expands_beyond_the_limit_is_refused() {
    let values = StringArray::from(vec!["x".repeat(1 << 16)]);
    let keys = Int32Array::from(vec![0; 1000]);
    let dictionary = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values)).expect("keys in range");
    let body = written(&[batch(vec![("t", Arc::new(dictionary))])], None);
    let limits = DecodeLimits { max_decoded_bytes: 1 << 20, ..DecodeLimits::default() };
    let plan = Plan::new(&stream(vec![Column::new("t", DataType::Text)]));
    let error = decode_body(&plan, Format::ArrowStream, &Bytes::copy_from_slice(&body), limits).expect_err("a bomb");
    assert!(matches!(error, Error::DecompressedTooLarge { .. }), "{error}");
    assert_eq!(
        decode_body(&plan, Format::ArrowStream, &Bytes::copy_from_slice(&body), DecodeLimits::default())
            .expect("fits")
            .batch
            .num_rows(),
        1000
    );
}

#[test]
fn nulls_without_bytes_cannot_ask_for_endless_memory() {
    let schema = Arc::new(Schema::new(vec![Field::new("n", ArrowType::Null, true)]));
    let nulls = RecordBatch::try_new(schema, vec![Arc::new(NullArray::new(1 << 40))]).expect("no bytes");
    let body = written(&[nulls], None);
    let error = run(vec![Column::new("n", DataType::BigInt)], &body).expect_err("too many");
    assert!(matches!(error, Error::TooManyRows { .. }), "{error}");
}
