//! Owns how a client's parameter, given as text or JSON, becomes a value of the type its place in the statement has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Decimal128Array, StringArray, new_empty_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use millstream_catalog::fault::{Code, Fault};
use millstream_process::{text_casts, text_forms};
use serde_json::Value;

/// A parameter that is not what its place needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parameter ${number}: {reason}")]
pub(crate) struct ParameterError {
    /// Its number; the first is 1.
    pub(crate) number: usize,
    /// What kind of failure it is.
    pub(crate) code: Code,
    /// The value and the cause.
    pub(crate) reason: String,
}

impl Fault for ParameterError {
    fn code(&self) -> Code {
        self.code
    }
}

/// Why a value does not fit: the code and the reason, without the parameter's number.
pub(crate) type Misfit = (Code, String);

/// The values of `$1…` from a request's JSON.
pub(crate) fn from_json(values: &[Value], types: &[Option<DataType>]) -> Result<Vec<ScalarValue>, ParameterError> {
    values
        .iter()
        .enumerate()
        .map(|(i, value)| {
            let data_type = types.get(i).and_then(Option::as_ref);
            json_value(value, data_type).map_err(|(code, reason)| ParameterError { number: i + 1, code, reason })
        })
        .collect()
}

fn json_value(value: &Value, data_type: Option<&DataType>) -> Result<ScalarValue, Misfit> {
    match (value, data_type) {
        (Value::Null, data_type) => null_of(data_type),
        (Value::String(text), data_type) => from_text(text, data_type),
        (Value::Array(items), Some(DataType::List(item) | DataType::LargeList(item))) => list_of(
            items.iter().map(|value| json_value(value, Some(item.data_type()))).collect::<Result<_, _>>()?,
            item.data_type(),
        ),
        (Value::Array(_) | Value::Object(_), Some(data_type)) if !is_text(data_type) => {
            Err((Code::TypeMismatch, format!("{} is not a {}", kind_of(value), name_of(data_type))))
        }
        (Value::Array(_) | Value::Object(_), _) => Ok(ScalarValue::Utf8(Some(value.to_string()))),
        (Value::Bool(flag), None | Some(DataType::Boolean)) => Ok(ScalarValue::Boolean(Some(*flag))),
        (Value::Bool(_), Some(data_type)) => {
            Err((Code::TypeMismatch, format!("a boolean is not a {}", name_of(data_type))))
        }
        (Value::Number(number), None) => Ok(match number.as_i64() {
            Some(number) => ScalarValue::Int64(Some(number)),
            None => ScalarValue::Float64(number.as_f64()),
        }),
        (Value::Number(_), Some(data_type)) if is_text(data_type) || *data_type == DataType::Boolean => {
            Err((Code::TypeMismatch, format!("a number is not a {}; give it as a string", name_of(data_type))))
        }
        (Value::Number(number), Some(data_type)) => from_text(&plain_digits(number), Some(data_type)),
    }
}

/// A number's digits, without the `.0` that JavaScript's and Python's whole floats carry.
fn plain_digits(number: &serde_json::Number) -> String {
    let text = number.to_string();
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// A NULL of a type.
pub(crate) fn null_of(data_type: Option<&DataType>) -> Result<ScalarValue, Misfit> {
    match data_type {
        None => Ok(ScalarValue::Null),
        Some(data_type) => ScalarValue::try_from(data_type).map_err(|e| (Code::Unsupported, e.to_string())),
    }
}

/// A value from its text form, as PostgreSQL reads it; text where the type is not known.
pub(crate) fn from_text(text: &str, data_type: Option<&DataType>) -> Result<ScalarValue, Misfit> {
    let Some(data_type) = data_type else {
        return Ok(ScalarValue::Utf8(Some(text.to_owned())));
    };
    match data_type {
        data_type if is_text(data_type) => cast(ScalarValue::Utf8(Some(text.to_owned())), data_type),
        DataType::Boolean => boolean(text),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            cast(ScalarValue::Binary(Some(bytes(text)?)), data_type)
        }
        DataType::List(item) | DataType::LargeList(item) => array_from_text(text, item.data_type()),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let number: f64 = text.trim().parse().map_err(|_| invalid(text, data_type))?;
            cast(ScalarValue::Float64(Some(number)), data_type)
        }
        DataType::Struct(_) | DataType::Map(..) => {
            Err((Code::Unsupported, format!("a parameter of type {} is not supported", name_of(data_type))))
        }
        data_type if text_casts::reads(data_type) => {
            let found = text_casts::cast_text(&StringArray::from(vec![text]), data_type).ok();
            let found = found.filter(|found| found.is_valid(0)).and_then(|f| ScalarValue::try_from_array(&f, 0).ok());
            found.ok_or_else(|| invalid(text, data_type))
        }
        _ => cast(ScalarValue::Utf8(Some(text.trim().to_owned())), data_type).map_err(|(code, _)| match code {
            Code::OutOfRange => (code, format!("{} is out of range for {}", shown(text), name_of(data_type))),
            _ if is_integer(data_type) && text.trim().parse::<i128>().is_ok() => {
                (Code::OutOfRange, format!("{} is out of range for {}", shown(text), name_of(data_type)))
            }
            _ => invalid(text, data_type),
        }),
    }
}

/// A value as one of another type; an error where it does not fit.
pub(crate) fn cast(value: ScalarValue, data_type: &DataType) -> Result<ScalarValue, Misfit> {
    if value.data_type() == *data_type {
        return Ok(value);
    }
    let mismatch = |e: &dyn std::fmt::Display| (Code::TypeMismatch, e.to_string());
    let array = value.to_array().map_err(|e| mismatch(&e))?;
    let options = CastOptions { safe: false, ..Default::default() };
    let array = cast_with_options(&array, data_type, &options).map_err(|e| match e {
        ArrowError::CastError(_) if array.data_type().is_numeric() => {
            (Code::OutOfRange, format!("{} is out of range for {}", value, name_of(data_type)))
        }
        ArrowError::CastError(reason) | ArrowError::ParseError(reason) => (Code::InvalidValue, reason),
        other => mismatch(&other),
    })?;
    ScalarValue::try_from_array(&array, 0).map_err(|e| mismatch(&e))
}

/// A one-dimensional list of values of one type.
pub(crate) fn list_of(items: Vec<ScalarValue>, item_type: &DataType) -> Result<ScalarValue, Misfit> {
    let items: Vec<ScalarValue> = items.into_iter().map(|item| cast(item, item_type)).collect::<Result<_, _>>()?;
    let values: ArrayRef = match items.is_empty() {
        true => new_empty_array(item_type),
        false => ScalarValue::iter_to_array(items).map_err(|e| (Code::TypeMismatch, e.to_string()))?,
    };
    let field = Arc::new(Field::new("item", item_type.clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
    let list = arrow::array::ListArray::try_new(field, offsets, values, None)
        .map_err(|e| (Code::TypeMismatch, e.to_string()))?;
    Ok(ScalarValue::List(Arc::new(list)))
}

/// A decimal of up to 38 digits from its text, with as many digits after the point as the text has.
pub(crate) fn decimal_from_text(text: &str) -> Result<ScalarValue, Misfit> {
    let unfit = |why: &str| (Code::InvalidValue, format!("{} is not a decimal: {why}", shown(text)));
    let (sign, digits) = match text.trim().split_at_checked(1) {
        Some(("-", digits)) => ("-", digits),
        Some(("+", digits)) => ("", digits),
        _ => ("", text.trim()),
    };
    if digits.contains(['e', 'E']) || digits.eq_ignore_ascii_case("nan") || digits.eq_ignore_ascii_case("infinity") {
        let number: f64 = text.trim().parse().map_err(|_| unfit("it is no number"))?;
        return Ok(ScalarValue::Float64(Some(number)));
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
    {
        return Err(unfit("it is no number"));
    }
    let value: i128 = format!("{sign}0{whole}{fraction}").parse().map_err(|_| unfit("it has more than 38 digits"))?;
    let scale = i8::try_from(fraction.len()).map_err(|_| unfit("it has more than 38 digits"))?;
    let array = Decimal128Array::from_value(value, 1)
        .with_precision_and_scale(38, scale)
        .map_err(|_| unfit("it has more than 38 digits"))?;
    array.validate_decimal_precision(38).map_err(|_| unfit("it has more than 38 digits"))?;
    Ok(ScalarValue::Decimal128(Some(value), 38, scale))
}

fn boolean(text: &str) -> Result<ScalarValue, Misfit> {
    let flag = match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => true,
        "f" | "false" | "n" | "no" | "off" | "0" => false,
        _ => return Err(invalid(text, &DataType::Boolean)),
    };
    Ok(ScalarValue::Boolean(Some(flag)))
}

fn bytes(text: &str) -> Result<Vec<u8>, Misfit> {
    let wrong = || (Code::InvalidValue, format!("{} is not a bytea: write \\x and hexadecimal digits", shown(text)));
    text_forms::bytes_of(text).ok_or_else(wrong)
}

fn array_from_text(text: &str, item_type: &DataType) -> Result<ScalarValue, Misfit> {
    let wrong = |why| (Code::InvalidValue, format!("{} is not an array: {why}", shown(text)));
    let items = text_forms::items_of(text).map_err(wrong)?.into_iter().map(|item| match item {
        Some(item) => from_text(&item, Some(item_type)),
        None => null_of(Some(item_type)),
    });
    list_of(items.collect::<Result<_, _>>()?, item_type)
}

/// An interval from its parts.
pub(crate) fn interval(months: i32, days: i32, micros: i64) -> Result<ScalarValue, Misfit> {
    let nanoseconds =
        micros.checked_mul(1000).ok_or_else(|| (Code::OutOfRange, "the interval's time is out of range".to_owned()))?;
    Ok(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanoseconds))))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer()
}

fn invalid(text: &str, data_type: &DataType) -> Misfit {
    (Code::InvalidValue, format!("{} is not a {}", shown(text), name_of(data_type)))
}

fn name_of(data_type: &DataType) -> String {
    crate::sql_type::SqlType::of(&Field::new("", data_type.clone(), true)).to_string()
}

fn kind_of(value: &Value) -> &'static str {
    if value.is_array() { "an array" } else { "an object" }
}

/// A value as a message shows it: quoted, cut to 60 characters.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{dots}")
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;
    use serde_json::json;

    use super::*;

    fn one(value: Value, data_type: DataType) -> Result<ScalarValue, ParameterError> {
        from_json(&[value], &[Some(data_type)]).map(|mut values| values.remove(0))
    }

    #[test]
    fn json_values_take_the_type_of_their_place() {
        assert_eq!(one(json!(7), DataType::Int64).unwrap(), ScalarValue::Int64(Some(7)));
        assert_eq!(one(json!(7.0), DataType::Int32).unwrap(), ScalarValue::Int32(Some(7)));
        assert_eq!(one(json!("7"), DataType::Int16).unwrap(), ScalarValue::Int16(Some(7)));
        assert_eq!(one(json!(1.5), DataType::Float64).unwrap(), ScalarValue::Float64(Some(1.5)));
        assert_eq!(one(json!("12.50"), DataType::Decimal128(8, 2)).unwrap(), ScalarValue::Decimal128(Some(1250), 8, 2));
        assert_eq!(one(json!(null), DataType::Int64).unwrap(), ScalarValue::Int64(None));
        assert_eq!(one(json!({"a": 1}), DataType::Utf8).unwrap(), ScalarValue::Utf8(Some("{\"a\":1}".into())));
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(
            one(json!("2013-01-01T05:00:00Z"), timestamp).unwrap(),
            ScalarValue::TimestampMicrosecond(Some(1_357_016_400_000_000), Some("UTC".into()))
        );
    }

    #[test]
    fn a_value_that_does_not_fit_names_its_parameter() {
        let error = from_json(&[json!(1), json!("x")], &[None, Some(DataType::Int64)]).unwrap_err();
        assert_eq!(error.to_string(), "parameter $2: \"x\" is not a bigint");
        assert_eq!(error.code, Code::InvalidValue);
        let error = one(json!(70_000), DataType::Int16).unwrap_err();
        assert_eq!(
            (error.code, error.to_string().as_str()),
            (Code::OutOfRange, "parameter $1: \"70000\" is out of range for smallint")
        );
        assert_eq!(one(json!(true), DataType::Int64).unwrap_err().code, Code::TypeMismatch);
        assert_eq!(one(json!([1]), DataType::Int64).unwrap_err().code, Code::TypeMismatch);
    }

    #[test]
    fn untyped_json_values_keep_their_own_type() {
        let values = from_json(&[json!(1), json!(1.5), json!("a"), json!(true), json!(null)], &[]).unwrap();
        assert_eq!(values[0], ScalarValue::Int64(Some(1)));
        assert_eq!(values[1], ScalarValue::Float64(Some(1.5)));
        assert_eq!(values[2], ScalarValue::Utf8(Some("a".into())));
        assert_eq!(values[3], ScalarValue::Boolean(Some(true)));
        assert_eq!(values[4], ScalarValue::Null);
    }

    #[test]
    fn text_forms_are_postgresqls() {
        assert_eq!(from_text("on", Some(&DataType::Boolean)).unwrap(), ScalarValue::Boolean(Some(true)));
        assert_eq!(from_text("\\x00ff", Some(&DataType::Binary)).unwrap(), ScalarValue::Binary(Some(vec![0, 255])));
        assert_eq!(
            from_text("a\\\\b\\001", Some(&DataType::Binary)).unwrap(),
            ScalarValue::Binary(Some(b"a\\b\x01".to_vec()))
        );
        let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        let ScalarValue::List(items) = from_text(r#"{a,NULL,"b, \"c\""}"#, Some(&list)).unwrap() else {
            panic!("a list")
        };
        let items = items.value(0);
        let items = arrow::array::AsArray::as_string::<i32>(&items);
        assert_eq!(items.iter().collect::<Vec<_>>(), [Some("a"), None, Some("b, \"c\"")]);
    }

    #[test]
    fn decimals_keep_their_digits() {
        assert_eq!(decimal_from_text("-12.340").unwrap(), ScalarValue::Decimal128(Some(-12_340), 38, 3));
        assert_eq!(decimal_from_text(".5").unwrap(), ScalarValue::Decimal128(Some(5), 38, 1));
        assert!(decimal_from_text(&"9".repeat(39)).is_err());
        assert!(decimal_from_text("1.2.3").is_err());
    }
}
