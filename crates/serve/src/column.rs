//! Owns a result column's values, whatever Arrow form they came in, and how each is written as plain text and as JSON.
//!
//! Plain text is ISO 8601 for dates and times, digits for numbers, `\x…` for bytes, JSON for anything nested: what CSV
//! holds. JSON is the same with quotes, except that booleans and the binary numbers stand bare; decimals are strings, since
//! most readers would turn them into floats, and so are `NaN` and the infinities, which JSON numbers cannot say.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use crate::calendar::{put_date, put_iso_interval, put_time, put_timestamp};
use crate::sql_type::SqlType;

/// A column's values, ready to be written one by one.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) values: Values,
    nulls: Option<arrow::buffer::NullBuffer>,
}

/// The values by type; a slot that is null holds nothing of meaning.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    Bool(BooleanArray),
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    Float4(Float32Array),
    Float8(Float64Array),
    Numeric(Decimal128Array),
    WideNumeric(Decimal256Array),
    Text(StringArray),
    Uuid(StringArray),
    Json(StringArray),
    Bytea(BinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    TimestampTz(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    Array(ListArray, Box<Column>),
    Row(Vec<(String, Column)>),
}

impl Column {
    /// The values of an array as those of a SQL type. Values that the type cannot hold are an error.
    pub(crate) fn new(sql_type: &SqlType, array: &ArrayRef) -> Result<Self, ArrowError> {
        let nulls = array.logical_nulls();
        let array = to_form(sql_type, array)?;
        let nulls = array.logical_nulls().or(nulls);
        Ok(Self { values: values_of(sql_type, &array)?, nulls })
    }

    /// Whether the value is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Writes a value that is not NULL as plain text.
    pub(crate) fn put_plain(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Bool(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
            Values::Int2(array) => put_display(array.value(row), out),
            Values::Int4(array) => put_display(array.value(row), out),
            Values::Int8(array) => put_display(array.value(row), out),
            Values::Float4(array) => {
                put_float(array.value(row).into(), |out| put_json_value(&array.value(row), out), out)
            }
            Values::Float8(array) => put_float(array.value(row), |out| put_json_value(&array.value(row), out), out),
            Values::Numeric(array) => out.extend_from_slice(array.value_as_string(row).as_bytes()),
            Values::WideNumeric(array) => out.extend_from_slice(array.value_as_string(row).as_bytes()),
            Values::Text(array) | Values::Uuid(array) | Values::Json(array) => {
                out.extend_from_slice(array.value(row).as_bytes());
            }
            Values::Bytea(array) => put_hex(array.value(row), out),
            Values::Date(array) => put_date(array.value(row).into(), out),
            Values::Time(array) => put_time(array.value(row), out),
            Values::Timestamp(array) => put_timestamp(array.value(row), b'T', "", out),
            Values::TimestampTz(array) => put_timestamp(array.value(row), b'T', "Z", out),
            Values::Interval(array) => put_iso_interval(array.value(row), out),
            Values::Array(..) | Values::Row(_) => self.put_json(row, out),
        }
    }

    /// Writes a value as JSON, NULL as `null`.
    pub(crate) fn put_json(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match &self.values {
            Values::Bool(_) | Values::Int2(_) | Values::Int4(_) | Values::Int8(_) => self.put_plain(row, out),
            Values::Float4(array) if array.value(row).is_finite() => self.put_plain(row, out),
            Values::Float8(array) if array.value(row).is_finite() => self.put_plain(row, out),
            Values::Text(array) | Values::Uuid(array) => put_json_value(array.value(row), out),
            Values::Json(array) => put_embedded_json(array.value(row), out),
            Values::Array(lists, items) => put_json_array(lists, items, row, out),
            Values::Row(fields) => put_json_object(fields, row, out),
            _ => {
                out.push(b'"');
                let start = out.len();
                self.put_plain(row, out);
                escape_backslash(start, out);
                out.push(b'"');
            }
        }
    }
}

/// Casts an array to the one form its SQL type is written from.
fn to_form(sql_type: &SqlType, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if matches!(sql_type, SqlType::Row(_)) && matches!(array.data_type(), DataType::Struct(_)) {
        return Ok(array.clone());
    }
    if let (SqlType::Array(_), DataType::List(_)) = (sql_type, array.data_type()) {
        return Ok(array.clone());
    }
    if let DataType::Map(..) | DataType::Union(..) = array.data_type() {
        return nested_as_json(array);
    }
    let form = match (sql_type, array.data_type()) {
        (SqlType::Array(_), DataType::LargeList(item) | DataType::FixedSizeList(item, _))
        | (SqlType::Array(_), DataType::ListView(item) | DataType::LargeListView(item)) => DataType::List(item.clone()),
        _ => sql_type.arrow_form(),
    };
    if *array.data_type() == form {
        return Ok(array.clone());
    }
    if array.data_type().is_null() {
        return Ok(new_null_array(&form, array.len()));
    }
    cast_with_options(array, &form, &CastOptions { safe: false, ..Default::default() })
}

fn values_of(sql_type: &SqlType, array: &ArrayRef) -> Result<Values, ArrowError> {
    Ok(match sql_type {
        SqlType::Bool => Values::Bool(array.as_boolean().clone()),
        SqlType::Int2 => Values::Int2(array.as_primitive::<Int16Type>().clone()),
        SqlType::Int4 => Values::Int4(array.as_primitive::<Int32Type>().clone()),
        SqlType::Int8 => Values::Int8(array.as_primitive::<Int64Type>().clone()),
        SqlType::Float4 => Values::Float4(array.as_primitive::<Float32Type>().clone()),
        SqlType::Float8 => Values::Float8(array.as_primitive::<Float64Type>().clone()),
        SqlType::Numeric { precision, .. } if *precision > 38 => {
            Values::WideNumeric(array.as_primitive::<Decimal256Type>().clone())
        }
        SqlType::Numeric { .. } => Values::Numeric(array.as_primitive::<Decimal128Type>().clone()),
        SqlType::Text => Values::Text(array.as_string::<i32>().clone()),
        SqlType::Uuid => Values::Uuid(array.as_string::<i32>().clone()),
        SqlType::Json => Values::Json(array.as_string::<i32>().clone()),
        SqlType::Bytea => Values::Bytea(array.as_binary::<i32>().clone()),
        SqlType::Date => Values::Date(array.as_primitive::<Date32Type>().clone()),
        SqlType::Time => Values::Time(array.as_primitive::<Time64MicrosecondType>().clone()),
        SqlType::Timestamp => Values::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone()),
        SqlType::TimestampTz => Values::TimestampTz(array.as_primitive::<TimestampMicrosecondType>().clone()),
        SqlType::Interval => Values::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone()),
        SqlType::Array(item) => {
            let lists = array.as_list::<i32>().clone();
            let items = Column::new(item, lists.values())?;
            Values::Array(lists, Box::new(items))
        }
        SqlType::Row(fields) => Values::Row(row_fields(fields, array.as_struct())?),
    })
}

fn row_fields(fields: &[(String, SqlType)], array: &StructArray) -> Result<Vec<(String, Column)>, ArrowError> {
    fields
        .iter()
        .zip(array.columns())
        .map(|((name, item), values)| Ok((name.clone(), Column::new(item, values)?)))
        .collect()
}

/// Maps and unions, which SQL here cannot name, as JSON text.
fn nested_as_json(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new("value", array.data_type().clone(), true));
    let options = arrow::json::EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = arrow::json::writer::make_encoder(&field, array, &options)?;
    let mut text = Vec::new();
    let rows: StringArray = (0..array.len())
        .map(|row| {
            text.clear();
            (!encoder.is_null(row)).then(|| {
                encoder.encode(row, &mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        })
        .collect();
    Ok(Arc::new(rows))
}

fn put_json_array(lists: &ListArray, items: &Column, row: usize, out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, item) in list_range(lists, row).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        items.put_json(item, out);
    }
    out.push(b']');
}

fn put_json_object(fields: &[(String, Column)], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (name, column)) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        put_json_value(name.as_str(), out);
        out.push(b':');
        column.put_json(row, out);
    }
    out.push(b'}');
}

/// Where the items of one list lie among all items.
pub(crate) fn list_range(lists: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = lists.value_offsets();
    let at = |i: usize| usize::try_from(offsets[i]).unwrap_or(0);
    at(row)..at(row + 1)
}

/// Writes anything that serde knows as JSON.
pub(crate) fn put_json_value<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Writing to memory fails for maps without text keys only, which never come here.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.extend_from_slice(b"null");
    }
}

/// JSON text as part of a JSON document, on one line; text that is not JSON becomes a string.
fn put_embedded_json(text: &str, out: &mut Vec<u8>) {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return put_json_value(text, out);
    }
    // Inside its strings JSON holds line breaks in escaped form only: these are all between tokens.
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
}

/// Of the plain forms only `\x…` needs escaping in a JSON string.
fn escape_backslash(start: usize, out: &mut Vec<u8>) {
    if out.get(start) == Some(&b'\\') {
        out.insert(start, b'\\');
    }
}

fn put_float(value: f64, put_finite: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    match value {
        value if value.is_nan() => out.extend_from_slice(b"NaN"),
        f64::INFINITY => out.extend_from_slice(b"Infinity"),
        f64::NEG_INFINITY => out.extend_from_slice(b"-Infinity"),
        _ => put_finite(out),
    }
}

/// Bytes as `\x` and hexadecimal digits.
pub(crate) fn put_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.extend_from_slice(b"\\x");
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Writes a value by its `Display`.
pub(crate) fn put_display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
}
