//! Owns how columns of files become columns of a SQL type: whole columns at once, and the rows whose value does not fit.

mod doubles;
mod nested;
mod words;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, StringArray, StringBuilder, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType as ArrowType, Field};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_catalog::DataType;
use millstream_catalog::fault::Code;
use serde::de::IgnoredAny;
use uuid::Uuid;

pub(super) use doubles::beyond_json;
pub(super) use nested::{row_in_json, to_json};

use crate::text_casts::cast_text;
use crate::{Error, Result};

/// How much of a value a message shows.
const SHOWN_CHARS: usize = 60;

/// A value that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadCell {
    pub(super) row: usize,
    pub(super) code: Code,
    pub(super) reason: String,
}

/// The column that cells come to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) data_type: &'a DataType,
}

/// Text as values of a type; what does not fit is NULL and in `bad`.
pub(super) fn from_text(cells: &StringArray, wanted: Wanted<'_>, bad: &mut Vec<BadCell>) -> Result<ArrayRef> {
    match wanted.data_type {
        DataType::Text => Ok(Arc::new(cells.clone())),
        DataType::Uuid => Ok(each(cells, wanted, bad, |text| Some(Uuid::try_parse(text.trim()).ok()?.to_string()))),
        DataType::Json => {
            Ok(each(cells, wanted, bad, |text| serde_json::from_str::<IgnoredAny>(text).ok().map(|_| text.to_owned())))
        }
        DataType::Bytea => Ok(bytes(cells, wanted, bad)),
        DataType::Array(_) | DataType::Row(_) => nested::from_text(cells, wanted, bad),
        plain => {
            let found = cast_text(cells, &plain.to_arrow()).map_err(defect)?;
            if found.null_count() == cells.null_count() {
                return Ok(found);
            }
            words::second_look(cells, found, wanted, bad)
        }
    }
}

/// Values of some type as values of another; what does not fit is NULL and in `bad`.
pub(super) fn from_values(
    values: &ArrayRef,
    field: &Field,
    wanted: Wanted<'_>,
    bad: &mut Vec<BadCell>,
) -> Result<ArrayRef> {
    let target = wanted.data_type.to_arrow();
    let holds_text = matches!(wanted.data_type, DataType::Uuid | DataType::Json);
    let same_meaning = wanted.data_type.to_field("", true).metadata() == field.metadata();
    if values.data_type() == &target && (!holds_text || same_meaning) {
        return Ok(Arc::clone(values));
    }
    let plain = undictionaried(values)?;
    match plain.data_type() {
        ArrowType::Null => Ok(new_null_array(&target, plain.len())),
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => {
            let cells = cast(plain.as_ref(), &ArrowType::Utf8)?;
            from_text(cells.as_string(), wanted, bad)
        }
        kind if kind.is_nested() && matches!(wanted.data_type, DataType::Json | DataType::Text) => {
            nested::to_json(&plain, field)
        }
        ArrowType::FixedSizeBinary(16) if *wanted.data_type == DataType::Uuid => {
            let uuids = plain.as_fixed_size_binary().iter();
            let texts = uuids.map(|bytes| bytes.and_then(|b| Uuid::from_slice(b).ok()).map(|uuid| uuid.to_string()));
            Ok(Arc::new(texts.collect::<StringArray>()))
        }
        kind if holds_text && *wanted.data_type == DataType::Uuid => Err(unfit(wanted, kind)),
        kind => {
            if !arrow::compute::can_cast_types(kind, &target) {
                return Err(unfit(wanted, kind));
            }
            let found = cast(plain.as_ref(), &target)?;
            tell_unfit(plain.as_ref(), found.as_ref(), wanted, bad)?;
            Ok(found)
        }
    }
}

fn unfit(wanted: Wanted<'_>, found: &ArrowType) -> Error {
    let message = format!("column {:?} is {found} in the file, which cannot become {}", wanted.name, wanted.data_type);
    Error::rejected(Code::TypeMismatch, message)
}

/// Those that were values and are NULL now.
fn tell_unfit(before: &dyn Array, after: &dyn Array, wanted: Wanted<'_>, bad: &mut Vec<BadCell>) -> Result<()> {
    if after.null_count() == before.null_count() {
        return Ok(());
    }
    let options = FormatOptions::default();
    let shown = ArrayFormatter::try_new(before, &options).map_err(defect)?;
    for row in (0..after.len()).filter(|row| after.is_null(*row) && !before.is_null(*row)) {
        let reason = format!(
            "column {:?}: {} is out of range for type {}",
            wanted.name,
            cut(&shown.value(row).to_string()),
            wanted.data_type
        );
        bad.push(BadCell { row, code: Code::OutOfRange, reason });
    }
    Ok(())
}

fn undictionaried(values: &ArrayRef) -> Result<ArrayRef> {
    match values.data_type() {
        ArrowType::Dictionary(_, inner) => cast(values.as_ref(), inner),
        ArrowType::RunEndEncoded(_, inner) => cast(values.as_ref(), inner.data_type()),
        _ => Ok(Arc::clone(values)),
    }
}

fn cast(values: &dyn Array, target: &ArrowType) -> Result<ArrayRef> {
    let options = CastOptions { safe: true, format_options: FormatOptions::default() };
    cast_with_options(values, target, &options).map_err(defect)
}

fn each(
    cells: &StringArray,
    wanted: Wanted<'_>,
    bad: &mut Vec<BadCell>,
    read: impl Fn(&str) -> Option<String>,
) -> ArrayRef {
    let mut values = StringBuilder::with_capacity(cells.len(), cells.value_data().len());
    for (row, cell) in cells.iter().enumerate() {
        match cell.map(|cell| (cell, read(cell))) {
            None => values.append_null(),
            Some((_, Some(value))) => values.append_value(value),
            Some((cell, None)) => {
                values.append_null();
                bad.push(not_valid(row, cell, wanted));
            }
        }
    }
    Arc::new(values.finish())
}

/// `\x` and hexadecimal digits, or text in which a backslash stands before itself and octal numbers.
fn bytes(cells: &StringArray, wanted: Wanted<'_>, bad: &mut Vec<BadCell>) -> ArrayRef {
    let mut values = BinaryBuilder::with_capacity(cells.len(), cells.value_data().len());
    for (row, cell) in cells.iter().enumerate() {
        match cell.map(|cell| (cell, words::bytes_of(cell))) {
            None => values.append_null(),
            Some((_, Some(value))) => values.append_value(value),
            Some((cell, None)) => {
                values.append_null();
                bad.push(not_valid(row, cell, wanted));
            }
        }
    }
    Arc::new(values.finish())
}

fn not_valid(row: usize, cell: &str, wanted: Wanted<'_>) -> BadCell {
    let reason = format!("column {:?}: {:?} is not a valid {}", wanted.name, cut(cell), wanted.data_type);
    BadCell { row, code: Code::InvalidValue, reason }
}

/// A value short enough to be told.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn defect(error: arrow::error::ArrowError) -> Error {
    Error::rejected(Code::TypeMismatch, format!("values of a file cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cells: &[Option<&str>], data_type: DataType) -> (Vec<String>, Vec<String>) {
        let cells = StringArray::from(cells.to_vec());
        let mut bad = Vec::new();
        let found = from_text(&cells, Wanted { name: "c", data_type: &data_type }, &mut bad).unwrap();
        assert_eq!(found.data_type(), &data_type.to_arrow());
        let options = FormatOptions::default().with_null("NULL");
        let shown = ArrayFormatter::try_new(found.as_ref(), &options).unwrap();
        let values = (0..found.len()).map(|i| shown.value(i).to_string()).collect();
        (values, bad.into_iter().map(|b| format!("{}: {}", b.row, b.reason)).collect())
    }

    #[test]
    fn text_becomes_values_of_every_type() {
        let cases = [
            ("70000", DataType::Int, "70000"),
            (" 7 ", DataType::SmallInt, "7"),
            ("1e3", DataType::Double, "1000.0"),
            ("NaN", DataType::Double, "NaN"),
            ("12.345", DataType::Decimal { precision: 6, scale: 2 }, "12.35"),
            ("t", DataType::Boolean, "true"),
            ("NO", DataType::Boolean, "false"),
            ("2026-11-21", DataType::Date, "2026-11-21"),
            ("05:06:07.5", DataType::Time, "05:06:07.500"),
            ("2026-11-21 05:06:07.25", DataType::Timestamp, "2026-11-21T05:06:07.250"),
            ("2026-11-21 05:06:07+02", DataType::TimestampTz, "2026-11-21T03:06:07Z"),
            ("2026-11-21T05:06:07Z", DataType::TimestampTz, "2026-11-21T05:06:07Z"),
            ("0B7B8A7E-0F0F-4C3C-9D4B-1C2D3E4F5A6B", DataType::Uuid, "0b7b8a7e-0f0f-4c3c-9d4b-1c2d3e4f5a6b"),
            ("{\"a\": [1]}", DataType::Json, "{\"a\": [1]}"),
            ("\\x00ff", DataType::Bytea, "00ff"),
            ("a\\\\\\001", DataType::Bytea, "615c01"),
            ("[1, null]", DataType::Array(Box::new(DataType::Int)), "[1, NULL]"),
            ("{1,NULL}", DataType::Array(Box::new(DataType::Int)), "[1, NULL]"),
            ("{\"a b\",c}", DataType::Array(Box::new(DataType::Text)), "[a b, c]"),
        ];
        for (text, data_type, expected) in cases {
            let (values, bad) = read(&[Some(text), None], data_type.clone());
            assert_eq!((values[0].as_str(), values[1].as_str()), (expected, "NULL"), "{text} as {data_type}: {bad:?}");
            assert!(bad.is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_told_with_its_column_and_type() {
        let of = |text: &str, data_type| read(&[Some("1"), Some(text)], data_type).1;
        assert_eq!(of("70000", DataType::SmallInt), ["1: column \"c\": \"70000\" is out of range for type smallint"]);
        assert_eq!(of("x", DataType::Int), ["1: column \"c\": \"x\" is not a valid int"]);
        assert_eq!(of("", DataType::BigInt), ["1: column \"c\": \"\" is not a valid bigint"]);
        assert_eq!(of("\\xf", DataType::Bytea), ["1: column \"c\": \"\\\\xf\" is not a valid bytea"]);
        let decimal = DataType::Decimal { precision: 3, scale: 0 };
        assert_eq!(of("1234", decimal), ["1: column \"c\": \"1234\" is out of range for type decimal(3,0)"]);
        let (values, bad) = read(&[Some("[1]"), Some("[x]")], DataType::Array(Box::new(DataType::Int)));
        assert_eq!((values[0].as_str(), bad.len()), ("[1]", 1));
    }
}
