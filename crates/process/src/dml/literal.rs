//! Owns how texts say values: what a constant in quotes is as a column's type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, ListArray, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;
use millstream_catalog::DataType;
use millstream_catalog::fault::Code;
use uuid::Uuid;

use crate::text_casts::cast_text;
use crate::text_forms;

/// Why a text does not say a value.
pub(super) type Misfit = (Code, String);

/// How much of a text a message shows.
const SHOWN: usize = 60;

/// The values that texts say.
pub(super) fn read(texts: &ArrayRef, to: &DataType) -> Result<ArrayRef, Misfit> {
    let texts = cast(texts, &ArrowType::Utf8).map_err(|e| (Code::Internal, e.to_string()))?;
    let texts = texts.as_string::<i32>();
    match to {
        DataType::Text => Ok(Arc::new(texts.clone())),
        DataType::Json => json(texts),
        DataType::Uuid => uuids(texts),
        DataType::Bytea => bytes(texts),
        DataType::Array(item) => arrays(texts, item),
        DataType::Row(_) => Err((Code::TypeMismatch, format!("a text is no {to}; write ROW(…)"))),
        _ => scalars(texts, to),
    }
}

fn scalars(texts: &StringArray, to: &DataType) -> Result<ArrayRef, Misfit> {
    let trimmed: StringArray = texts.iter().map(|text| text.map(str::trim)).collect();
    let found = cast_text(&trimmed, &to.to_arrow()).map_err(|e| (Code::Internal, e.to_string()))?;
    match (0..texts.len()).find(|row| texts.is_valid(*row) && found.is_null(*row)) {
        Some(row) => Err(misfit(texts.value(row), to)),
        None => Ok(found),
    }
}

fn misfit(text: &str, to: &DataType) -> Misfit {
    let whole = matches!(to, DataType::SmallInt | DataType::Int | DataType::BigInt);
    let digits = text.trim().trim_start_matches(['-', '+']);
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let decimal = matches!(to, DataType::Decimal { .. }) && text.trim().parse::<f64>().is_ok_and(f64::is_finite);
    match (whole && number) || decimal {
        true => (Code::OutOfRange, format!("{} is out of range for {to}", shown(text))),
        false => (Code::InvalidValue, format!("{} is not a valid {to}", shown(text))),
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{:?}", format!("{}…", &text[..cut])),
        None => format!("{text:?}"),
    }
}

fn json(texts: &StringArray) -> Result<ArrayRef, Misfit> {
    let wrong = texts.iter().flatten().find(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_err());
    match wrong {
        Some(text) => Err(misfit(text, &DataType::Json)),
        None => Ok(Arc::new(texts.clone())),
    }
}

fn uuids(texts: &StringArray) -> Result<ArrayRef, Misfit> {
    let uuid = |text: &str| match Uuid::parse_str(text.trim()) {
        Ok(uuid) => Ok(uuid.hyphenated().to_string()),
        Err(_) => Err(misfit(text, &DataType::Uuid)),
    };
    let uuids = texts.iter().map(|text| text.map(uuid).transpose()).collect::<Result<StringArray, _>>()?;
    Ok(Arc::new(uuids))
}

fn bytes(texts: &StringArray) -> Result<ArrayRef, Misfit> {
    let read = |text: &str| text_forms::bytes_of(text).ok_or_else(|| misfit(text, &DataType::Bytea));
    let read: Vec<Option<Vec<u8>>> = texts.iter().map(|text| text.map(read).transpose()).collect::<Result<_, _>>()?;
    Ok(Arc::new(read.iter().map(Option::as_deref).collect::<BinaryArray>()))
}

/// `{1,NULL,"a b"}`: arrays of one dimension.
fn arrays(texts: &StringArray, item: &DataType) -> Result<ArrayRef, Misfit> {
    let mut items: Vec<Option<String>> = Vec::new();
    let mut lengths = Vec::with_capacity(texts.len());
    for text in texts.iter() {
        let before = items.len();
        if let Some(text) = text {
            let wrong = |why| (Code::InvalidValue, format!("{} is not an array: {why}", shown(text)));
            items.extend(text_forms::items_of(text).map_err(wrong)?);
        }
        lengths.push(items.len() - before);
    }
    let items: ArrayRef = Arc::new(items.into_iter().collect::<StringArray>());
    let values = read(&items, item)?;
    let nulls = texts.nulls().map(|nulls| NullBuffer::new(nulls.inner().clone()));
    let field = Arc::new(item.to_field("item", true));
    ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, nulls)
        .map(|list| Arc::new(list) as ArrayRef)
        .map_err(|e| (Code::Internal, e.to_string()))
}

#[cfg(test)]
mod tests {
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn say(text: &str, to: DataType) -> Result<String, String> {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let value = read(&texts, &to).map_err(|(code, message)| format!("{}: {message}", code.sqlstate()))?;
        Ok(array_value_to_string(&value, 0).unwrap())
    }

    #[test]
    fn texts_say_values_of_every_type() {
        assert_eq!(say("t", DataType::Boolean).unwrap(), "true");
        assert_eq!(say(" 2020-02-29 ", DataType::Date).unwrap(), "2020-02-29");
        assert_eq!(say("1.005", DataType::Decimal { precision: 5, scale: 2 }).unwrap(), "1.01");
        assert_eq!(say("\\x00ff", DataType::Bytea).unwrap(), "00ff");
        assert_eq!(say("{1,NULL,3}", DataType::Array(Box::new(DataType::Int))).unwrap(), "[1, , 3]");
        assert_eq!(say("{\"a,b\",c}", DataType::Array(Box::new(DataType::Text))).unwrap(), "[a,b, c]");
        let uuid = "0B7B8A7E0F0F4C3C9D4B1C2D3E4F5A6B";
        assert_eq!(say(uuid, DataType::Uuid).unwrap(), "0b7b8a7e-0f0f-4c3c-9d4b-1c2d3e4f5a6b");
    }

    #[test]
    fn texts_that_say_none_are_named() {
        assert_eq!(say("x", DataType::Int).unwrap_err(), "22P02: \"x\" is not a valid int");
        assert_eq!(say("99999999999", DataType::Int).unwrap_err(), "22003: \"99999999999\" is out of range for int");
        assert_eq!(say("{", DataType::Json).unwrap_err(), "22P02: \"{\" is not a valid json");
        assert_eq!(
            say("{1,", DataType::Array(Box::new(DataType::Int))).unwrap_err(),
            "22P02: \"{1,\" is not an array: it must stand between { and }"
        );
    }
}
