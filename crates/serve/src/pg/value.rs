//! Owns how Bind's parameters, in text or binary, become values.

use arrow::datatypes::DataType;
use bytes::Buf;
use datafusion::common::ScalarValue;
use millstream_catalog::fault::Code;

use super::oid;
use super::row::{EPOCH_DAYS, EPOCH_MICROS, uuid_text};
use crate::parameter::{Misfit, ParameterError, cast, decimal_from_text, from_text, interval, list_of, null_of};

/// One parameter as Bind gives it.
pub(super) struct Given<'a> {
    /// Its bytes; none for NULL.
    pub(super) bytes: Option<&'a [u8]>,
    /// Whether they are in binary form.
    pub(super) binary: bool,
    /// The type that was declared in Parse, or announced in ParameterDescription.
    pub(super) oid: u32,
    /// The type the statement needs, where it tells.
    pub(super) wanted: Option<&'a DataType>,
}

impl Given<'_> {
    /// The value; `number` is the parameter's, from 1.
    pub(super) fn value(&self, number: usize) -> Result<ScalarValue, ParameterError> {
        self.decode().map_err(|(code, reason)| ParameterError { number, code, reason })
    }

    fn decode(&self) -> Result<ScalarValue, Misfit> {
        let Some(bytes) = self.bytes else {
            return null_of(self.wanted.or(arrow_type(self.oid).as_ref()));
        };
        let value = if self.binary { from_binary(bytes, self.oid)? } else { self.text_value(bytes)? };
        match self.wanted {
            Some(wanted) => cast(value, wanted),
            None => Ok(value),
        }
    }

    /// Text is read as what the statement needs, so that `'12'` declared as text fits a number as in PostgreSQL's
    /// unknown-typed literals; where the statement does not tell, as the declared type.
    fn text_value(&self, bytes: &[u8]) -> Result<ScalarValue, Misfit> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| (Code::InvalidEncoding, "it is not valid UTF-8".to_owned()))?;
        match (self.wanted, self.oid) {
            (Some(wanted), _) => from_text(text, Some(wanted)),
            (None, oid::NUMERIC) => decimal_from_text(text),
            (None, oid) => from_text(text, arrow_type(oid).as_ref()),
        }
    }
}

/// The Arrow type of values of a type; none where any text will do.
pub(super) fn arrow_type(oid: u32) -> Option<DataType> {
    use arrow::datatypes::{Field, IntervalUnit, TimeUnit};
    Some(match oid {
        oid::BOOL => DataType::Boolean,
        oid::INT2 => DataType::Int16,
        oid::INT4 => DataType::Int32,
        oid::INT8 | oid::OID => DataType::Int64,
        oid::FLOAT4 => DataType::Float32,
        oid::FLOAT8 => DataType::Float64,
        oid::NUMERIC => DataType::Decimal128(38, 10),
        oid::BYTEA => DataType::Binary,
        oid::DATE => DataType::Date32,
        oid::TIME => DataType::Time64(TimeUnit::Microsecond),
        oid::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        oid::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        oid::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR | oid::UUID | oid::JSON | oid::JSONB => {
            DataType::Utf8
        }
        array => {
            let item = arrow_type(oid::item_of(array)?)?;
            DataType::List(std::sync::Arc::new(Field::new("item", item, true)))
        }
    })
}

fn from_binary(mut bytes: &[u8], oid: u32) -> Result<ScalarValue, Misfit> {
    let length = bytes.len();
    let wrong = |_| (Code::InvalidValue, format!("its {length} bytes are not the binary form of its type"));
    let value = match oid {
        oid::BOOL => ScalarValue::Boolean(Some(bytes.try_get_u8().map_err(wrong)? != 0)),
        oid::INT2 => ScalarValue::Int16(Some(bytes.try_get_i16().map_err(wrong)?)),
        oid::INT4 => ScalarValue::Int32(Some(bytes.try_get_i32().map_err(wrong)?)),
        oid::INT8 => ScalarValue::Int64(Some(bytes.try_get_i64().map_err(wrong)?)),
        oid::OID => ScalarValue::Int64(Some(bytes.try_get_u32().map_err(wrong)?.into())),
        oid::FLOAT4 => ScalarValue::Float32(Some(bytes.try_get_f32().map_err(wrong)?)),
        oid::FLOAT8 => ScalarValue::Float64(Some(bytes.try_get_f64().map_err(wrong)?)),
        oid::DATE => ScalarValue::Date32(Some(bytes.try_get_i32().map_err(wrong)?.saturating_add(EPOCH_DAYS))),
        oid::TIME => ScalarValue::Time64Microsecond(Some(bytes.try_get_i64().map_err(wrong)?)),
        oid::TIMESTAMP | oid::TIMESTAMPTZ => {
            let zone = (oid == oid::TIMESTAMPTZ).then(|| "UTC".into());
            let micros = bytes.try_get_i64().map_err(wrong)?.saturating_add(EPOCH_MICROS);
            ScalarValue::TimestampMicrosecond(Some(micros), zone)
        }
        oid::INTERVAL => {
            let micros = bytes.try_get_i64().map_err(wrong)?;
            let days = bytes.try_get_i32().map_err(wrong)?;
            interval(bytes.try_get_i32().map_err(wrong)?, days, micros)?
        }
        oid::UUID => {
            let (id, rest) = bytes.split_first_chunk::<16>().ok_or_else(|| wrong(short()))?;
            let text = uuid_text(id);
            bytes = rest;
            ScalarValue::Utf8(Some(text))
        }
        oid::NUMERIC => {
            let text = numeric_text(&mut bytes).map_err(wrong)?;
            decimal_from_text(&text)?
        }
        oid::BYTEA => ScalarValue::Binary(Some(std::mem::take(&mut bytes).to_vec())),
        oid::JSONB => text_of(std::mem::take(&mut bytes).strip_prefix(&[1]).unwrap_or_default())?,
        array if oid::item_of(array).is_some() => array_value(&mut bytes)?,
        _ => text_of(std::mem::take(&mut bytes))?,
    };
    if bytes.is_empty() { Ok(value) } else { Err(wrong(short())) }
}

fn short() -> bytes::TryGetError {
    bytes::TryGetError { requested: 0, available: 0 }
}

fn text_of(bytes: &[u8]) -> Result<ScalarValue, Misfit> {
    let text = std::str::from_utf8(bytes).map_err(|_| (Code::InvalidEncoding, "it is not valid UTF-8".to_owned()))?;
    Ok(ScalarValue::Utf8(Some(text.to_owned())))
}

/// A numeric's digits: count, weight, sign, scale, then groups of four.
fn numeric_text(bytes: &mut &[u8]) -> Result<String, bytes::TryGetError> {
    let groups = bytes.try_get_i16()?;
    let weight = bytes.try_get_i16()?;
    let sign = bytes.try_get_u16()?;
    let scale = usize::try_from(bytes.try_get_i16()?).unwrap_or(0);
    let digits: Vec<u16> = (0..groups).map(|_| bytes.try_get_u16()).collect::<Result<_, _>>()?;
    match sign {
        0xC000 => return Ok("NaN".to_owned()),
        0xD000 => return Ok("Infinity".to_owned()),
        0xF000 => return Ok("-Infinity".to_owned()),
        _ => {}
    }
    let group = |position: i64| usize::try_from(position).ok().and_then(|i| digits.get(i)).copied().unwrap_or(0);
    let mut text = if sign == 0x4000 { "-".to_owned() } else { String::new() };
    let whole_groups = i64::from(weight) + 1;
    text.push('0');
    for position in 0..whole_groups.max(0) {
        text.push_str(&format!("{:04}", group(position)));
    }
    let mut fraction = String::new();
    for position in 0..scale.div_ceil(4) {
        let position = whole_groups + i64::try_from(position).unwrap_or(i64::MAX);
        fraction.push_str(&format!("{:04}", group(position)));
    }
    fraction.truncate(scale);
    if scale > 0 {
        text.push('.');
        text.push_str(&fraction);
    }
    Ok(text)
}

/// An array of no or one dimension.
fn array_value(bytes: &mut &[u8]) -> Result<ScalarValue, Misfit> {
    let wrong = |_| (Code::InvalidValue, "its bytes are not the binary form of an array".to_owned());
    let dimensions = bytes.try_get_i32().map_err(wrong)?;
    let _has_nulls = bytes.try_get_i32().map_err(wrong)?;
    let item_oid = bytes.try_get_u32().map_err(wrong)?;
    let item_type = arrow_type(item_oid).unwrap_or(DataType::Utf8);
    let items = match dimensions {
        0 => 0,
        1 => {
            let items = bytes.try_get_i32().map_err(wrong)?;
            let _lower_bound = bytes.try_get_i32().map_err(wrong)?;
            items
        }
        _ => return Err((Code::Unsupported, "arrays of arrays are not supported as parameters".to_owned())),
    };
    let mut values = Vec::new();
    for _ in 0..items {
        let length = bytes.try_get_i32().map_err(wrong)?;
        let Ok(length) = usize::try_from(length) else {
            values.push(null_of(Some(&item_type))?);
            continue;
        };
        let (item, rest) = bytes.split_at_checked(length).ok_or_else(|| wrong(short()))?;
        values.push(from_binary(item, item_oid)?);
        *bytes = rest;
    }
    list_of(values, &item_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(bytes: &[u8], oid: u32, wanted: Option<&DataType>) -> Result<ScalarValue, ParameterError> {
        Given { bytes: Some(bytes), binary: true, oid, wanted }.value(1)
    }

    #[test]
    fn binary_numbers_are_read_and_widened_to_what_is_wanted() {
        assert_eq!(binary(&[0, 7], oid::INT2, Some(&DataType::Int64)).unwrap(), ScalarValue::Int64(Some(7)));
        assert_eq!(binary(&[1], oid::BOOL, None).unwrap(), ScalarValue::Boolean(Some(true)));
        let too_short = binary(&[0, 7], oid::INT4, None).unwrap_err();
        assert_eq!(too_short.code, Code::InvalidValue);
        let too_long = binary(&[0, 0, 0, 7], oid::INT2, None).unwrap_err();
        assert_eq!(too_long.code, Code::InvalidValue);
    }

    #[test]
    fn a_binary_numeric_keeps_its_digits() {
        let bytes = [0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c];
        assert_eq!(binary(&bytes, oid::NUMERIC, None).unwrap(), ScalarValue::Decimal128(Some(-12_345_678), 38, 3));
    }

    #[test]
    fn a_binary_array_is_read_with_its_nulls() {
        let mut bytes = Vec::new();
        for word in [1_i32, 1, 23, 2, 1, 4, 5, -1] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        let ScalarValue::List(list) = binary(&bytes, 1007, None).unwrap() else { panic!("a list") };
        let items = list.value(0);
        let items = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int32Type>(&items);
        assert_eq!(items.iter().collect::<Vec<_>>(), [Some(5), None]);
    }

    #[test]
    fn a_text_parameter_is_read_as_what_the_statement_needs() {
        let given = Given { bytes: Some(b"12"), binary: false, oid: oid::TEXT, wanted: Some(&DataType::Int64) };
        assert_eq!(given.value(1).unwrap(), ScalarValue::Int64(Some(12)));
        let given = Given { bytes: Some(b"x"), binary: false, oid: oid::INT4, wanted: None };
        assert_eq!(given.value(2).unwrap_err().to_string(), "parameter $2: \"x\" is not a int");
        let given = Given { bytes: None, binary: false, oid: oid::INT4, wanted: None };
        assert_eq!(given.value(1).unwrap(), ScalarValue::Int32(None));
    }
}
