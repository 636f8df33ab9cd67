//! Owns how a result's rows become DataRow messages, in PostgreSQL's text and binary forms.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};
use pgwire::messages::data::{FieldDescription, MESSAGE_TYPE_BYTE_DATA_ROW};

use super::oid;
use crate::calendar::{put_date, put_postgres_interval, put_time, put_timestamp};
use crate::column::{Column, Values, list_range, put_hex};
use crate::sql_type::SqlType;

/// Days and microseconds from 1970, Arrow's epoch, to 2000, PostgreSQL's.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// A result's columns as they were announced, and in which format each goes out. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct RowFormat {
    columns: Arc<[(String, SqlType)]>,
    formats: Formats,
}

/// Which columns go out in the binary form.
#[derive(Debug, Clone)]
enum Formats {
    All(bool),
    Each(Arc<[bool]>),
}

impl Formats {
    /// As Bind gives them: none for all text, one for all, or one per column.
    fn new(formats: &[i16]) -> Self {
        match formats {
            [] => Self::All(false),
            [all] => Self::All(*all == 1),
            each => Self::Each(each.iter().map(|format| *format == 1).collect()),
        }
    }

    fn is_binary(&self, column: usize) -> bool {
        match self {
            Self::All(binary) => *binary,
            Self::Each(each) => each.get(column).copied().unwrap_or_default(),
        }
    }
}

impl RowFormat {
    /// The columns of a schema. `formats` is as Bind gives it: none for all text, one for all, or one per column.
    pub(super) fn new(schema: &SchemaRef, formats: &[i16]) -> Self {
        let columns = schema.fields().iter().map(|field| (field.name().clone(), SqlType::of(field))).collect();
        Self { columns, formats: Formats::new(formats) }
    }

    /// The same columns in other formats.
    pub(super) fn in_formats(&self, formats: &[i16]) -> Self {
        Self { columns: Arc::clone(&self.columns), formats: Formats::new(formats) }
    }

    /// How many columns there are.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The columns as RowDescription tells them.
    pub(super) fn describe(&self) -> Vec<FieldDescription> {
        let columns = self.columns.iter().enumerate();
        columns.map(|(i, (name, sql_type))| oid::describe(name, sql_type, self.formats.is_binary(i))).collect()
    }

    /// A batch's values as those of the announced types, even where the plan came out with others.
    pub(super) fn columns(&self, batch: &RecordBatch) -> Result<Vec<Column>, ArrowError> {
        self.columns.iter().zip(batch.columns()).map(|((_, sql_type), array)| Column::new(sql_type, array)).collect()
    }

    /// Writes one row as a DataRow message; `scratch` is reused from row to row.
    pub(super) fn put_row(
        &self,
        columns: &[Column],
        row: usize,
        scratch: &mut Vec<u8>,
        out: &mut BytesMut,
    ) -> Result<(), ArrowError> {
        let start = out.len();
        out.put_u8(MESSAGE_TYPE_BYTE_DATA_ROW);
        out.put_u32(0);
        out.put_u16(length(columns.len())?);
        for (i, (column, (_, sql_type))) in columns.iter().zip(self.columns.iter()).enumerate() {
            if column.is_null(row) {
                out.put_i32(-1);
                continue;
            }
            scratch.clear();
            match self.formats.is_binary(i) {
                true => put_binary(column, sql_type, row, scratch)?,
                false => put_text(column, sql_type, row, scratch),
            }
            out.put_i32(length(scratch.len())?);
            out.put_slice(scratch);
        }
        let message_length: u32 = length(out.len() - start - 1)?;
        out[start + 1..start + 5].copy_from_slice(&message_length.to_be_bytes());
        Ok(())
    }
}

impl RowFormat {
    /// Writes one row's values in text one behind the other; where each ends, and `None` for NULL.
    pub(super) fn put_cells(&self, columns: &[Column], row: usize, ends: &mut Vec<Option<usize>>, out: &mut Vec<u8>) {
        for (column, (_, sql_type)) in columns.iter().zip(self.columns.iter()) {
            let null = column.is_null(row);
            if !null {
                put_text(column, sql_type, row, out);
            }
            ends.push((!null).then_some(out.len()));
        }
    }

    /// The columns' names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }
}

fn length<T: TryFrom<usize>>(value: usize) -> Result<T, ArrowError> {
    T::try_from(value).map_err(|_| ArrowError::InvalidArgumentError("a row is too large for the wire".to_owned()))
}

/// Writes a value in PostgreSQL's text form.
fn put_text(column: &Column, sql_type: &SqlType, row: usize, out: &mut Vec<u8>) {
    match &column.values {
        Values::Bool(array) => out.push(if array.value(row) { b't' } else { b'f' }),
        Values::Float4(array) => put_float(array.value(row).into(), format!("{:e}", array.value(row)), 6, out),
        Values::Float8(array) => put_float(array.value(row), format!("{:e}", array.value(row)), 15, out),
        Values::Date(array) => put_date(array.value(row).into(), out),
        Values::Time(array) => put_time(array.value(row), out),
        Values::Timestamp(array) => put_timestamp(array.value(row), b' ', "", out),
        Values::TimestampTz(array) => put_timestamp(array.value(row), b' ', "+00", out),
        Values::Interval(array) => put_postgres_interval(array.value(row), out),
        Values::Array(lists, items) if !sql_type.is_json_on_the_wire() => {
            out.push(b'{');
            for (i, item) in list_range(lists, row).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                put_array_item(items, item, out);
            }
            out.push(b'}');
        }
        _ => column.put_plain(row, out),
    }
}

/// Writes an array's item, quoted where it must be.
fn put_array_item(items: &Column, item: usize, out: &mut Vec<u8>) {
    if items.is_null(item) {
        out.extend_from_slice(b"NULL");
        return;
    }
    let start = out.len();
    put_text(items, &SqlType::Text, item, out);
    let text = &out[start..];
    let special = |byte: &u8| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || byte.is_ascii_whitespace();
    if text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special) {
        let text = out.split_off(start);
        out.push(b'"');
        for byte in text {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
}

/// Writes a float as PostgreSQL does: the fewest digits that read back the same, with an exponent from 10^`digits` on.
/// `shortest` is Rust's `{:e}` form of it.
fn put_float(value: f64, shortest: String, digits: i32, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("{mantissa}e{sign}{:02}", exponent.abs()).as_bytes());
    } else {
        out.extend_from_slice(fixed(mantissa, exponent).as_bytes());
    }
}

/// `1.25`, 1 → `12.5`: the digits of a mantissa with the point moved.
fn fixed(mantissa: &str, exponent: i32) -> String {
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    match usize::try_from(exponent) {
        Err(_) => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
            format!("{sign}0.{}{digits}", "0".repeat(zeros))
        }
        Ok(exponent) if digits.len() <= exponent + 1 => {
            format!("{sign}{digits}{}", "0".repeat(exponent + 1 - digits.len()))
        }
        Ok(exponent) => format!("{sign}{}.{}", &digits[..=exponent], &digits[exponent + 1..]),
    }
}

/// Writes a value in PostgreSQL's binary form.
fn put_binary(column: &Column, sql_type: &SqlType, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    match &column.values {
        Values::Bool(array) => out.push(u8::from(array.value(row))),
        Values::Int2(array) => out.put_i16(array.value(row)),
        Values::Int4(array) => out.put_i32(array.value(row)),
        Values::Int8(array) => out.put_i64(array.value(row)),
        Values::Float4(array) => out.put_f32(array.value(row)),
        Values::Float8(array) => out.put_f64(array.value(row)),
        Values::Numeric(array) => put_binary_numeric(&array.value_as_string(row), out)?,
        Values::WideNumeric(array) => put_binary_numeric(&array.value_as_string(row), out)?,
        Values::Bytea(array) => out.put_slice(array.value(row)),
        Values::Date(array) => out.put_i32(array.value(row).saturating_sub(EPOCH_DAYS)),
        Values::Time(array) => out.put_i64(array.value(row)),
        Values::Timestamp(array) | Values::TimestampTz(array) => {
            out.put_i64(array.value(row).saturating_sub(EPOCH_MICROS));
        }
        Values::Interval(array) => {
            let interval = array.value(row);
            out.put_i64(interval.nanoseconds / 1000);
            out.put_i32(interval.days);
            out.put_i32(interval.months);
        }
        Values::Uuid(array) => {
            out.put_slice(&uuid_bytes(array.value(row)).ok_or_else(|| {
                ArrowError::CastError(format!("{:?} in a uuid column is not a uuid", array.value(row)))
            })?)
        }
        Values::Array(lists, items) if !sql_type.is_json_on_the_wire() => {
            put_binary_array(lists, items, sql_type, row, out)?;
        }
        _ => column.put_plain(row, out),
    }
    Ok(())
}

/// One dimension from 1, with whether any item is NULL.
fn put_binary_array(
    lists: &arrow::array::ListArray,
    items: &Column,
    sql_type: &SqlType,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    let SqlType::Array(item_type) = sql_type else {
        return Err(ArrowError::InvalidArgumentError("an array was announced as another type".to_owned()));
    };
    let range = list_range(lists, row);
    out.put_i32(i32::from(!range.is_empty()));
    out.put_i32(i32::from(range.clone().any(|item| items.is_null(item))));
    out.put_u32(oid::of(item_type));
    if !range.is_empty() {
        out.put_i32(length(range.len())?);
        out.put_i32(1);
    }
    for item in range {
        let start = out.len();
        out.put_i32(-1);
        if !items.is_null(item) {
            put_binary(items, item_type, item, out)?;
            let item_length: i32 = length(out.len() - start - 4)?;
            out[start..start + 4].copy_from_slice(&item_length.to_be_bytes());
        }
    }
    Ok(())
}

/// Digits of base 10,000 around the decimal point: count, weight of the first, sign, digits shown after the point.
fn put_binary_numeric(text: &str, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let lead = (4 - whole.len() % 4) % 4;
    let trail = (4 - fraction.len() % 4) % 4;
    let digits: Vec<u8> = std::iter::repeat_n(b'0', lead)
        .chain(whole.bytes())
        .chain(fraction.bytes())
        .chain(std::iter::repeat_n(b'0', trail))
        .map(|byte| byte - b'0')
        .collect();
    let mut groups: Vec<i16> =
        digits.chunks_exact(4).map(|four| four.iter().fold(0, |value, digit| value * 10 + i16::from(*digit))).collect();
    let mut weight = (whole.len() + lead) as i64 / 4 - 1;
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    out.put_i16(length(groups.len())?);
    out.put_i16(if groups.is_empty() { 0 } else { i16::try_from(weight).unwrap_or(i16::MAX) });
    out.put_u16(if negative { 0x4000 } else { 0 });
    out.put_i16(length(fraction.len())?);
    for group in groups {
        out.put_i16(group);
    }
    Ok(())
}

/// The 16 bytes of a UUID's text.
pub(super) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let mut bytes = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}

/// The text of a UUID's 16 bytes.
pub(super) fn uuid_text(bytes: &[u8; 16]) -> String {
    let mut hex = Vec::with_capacity(34);
    put_hex(bytes, &mut hex);
    let hex = String::from_utf8_lossy(&hex[2..]);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float8(value: f64) -> String {
        let mut out = Vec::new();
        put_float(value, format!("{value:e}"), 15, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_written_as_postgresql_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (12.5, "12.5"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (-1.25e300, "-1.25e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float8(value), text);
        }
    }

    #[test]
    fn numerics_are_groups_of_four_digits() {
        let binary = |text: &str| {
            let mut out = Vec::new();
            put_binary_numeric(text, &mut out).unwrap();
            out.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect::<Vec<_>>()
        };
        assert_eq!(binary("0.00"), [0, 0, 0, 2]);
        assert_eq!(binary("12345.678"), [3, 1, 0, 3, 1, 2345, 6780]);
        assert_eq!(binary("-0.0001"), [1, -1, 0x4000, 4, 1]);
        assert_eq!(binary("10000"), [1, 1, 0, 0, 1]);
    }

    #[test]
    fn a_uuid_survives_its_bytes() {
        let text = "6f1c2a3e-0b5d-4f7a-9c8e-1d2b3a4c5d6e";
        assert_eq!(uuid_text(&uuid_bytes(text).unwrap()), text);
        assert_eq!(uuid_bytes("6f1c"), None);
    }
}
