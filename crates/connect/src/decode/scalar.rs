//! Owns how a text becomes a value of each plain type. JSON strings and CSV fields go the same way.
//!
//! | type | what is taken |
//! | --- | --- |
//! | boolean | `true`, `false`, `t`, `f`, `yes`, `no`, `on`, `off`, `1`, `0`, in any case |
//! | smallint, int, bigint | an integral number within range: `42`, `1e3`, `1.0`; never `1.5` |
//! | real, double | a number; `NaN`, `Infinity`, `-Infinity` |
//! | decimal | a number, exactly; digits beyond the scale are rounded half away from zero |
//! | text | any text |
//! | bytea | `\x` and hexadecimal digits, else base64 with or without padding |
//! | uuid | any usual form; kept in lower case with hyphens |
//! | date, time, timestamp, interval | see `datetime` |

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use millstream_process::datetime::{self, TimeFault};

use super::columns::{Bytes, ColumnBuffer, Values};
use super::number::{Number, NumberFault};
use super::refusal::{Parsed, Refusal};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl ColumnBuffer {
    /// Appends the value that a text stands for. JSON, arrays and nested rows are not plain: their text is parsed by
    /// `json`.
    pub fn append_text(&mut self, text: &[u8]) -> Parsed<()> {
        match &mut self.values {
            Values::Text(v) => v.push(text),
            Values::TimestampTz(v) => v.push(time_value(datetime::timestamp(text), text, "timestamptz")?),
            Values::Timestamp(v) => v.push(time_value(datetime::timestamp(text), text, "timestamp")?),
            Values::Date(v) => v.push(time_value(datetime::date(text), text, "date")?),
            Values::Time(v) => v.push(time_value(datetime::time(text), text, "time")?),
            Values::Interval(v) => v.push(time_value(datetime::interval(text), text, "interval")?),
            Values::Boolean(v) => v.append(boolean(text)?),
            Values::Uuid(v) => push_uuid(v, text)?,
            Values::Bytea(v) => push_bytes(v, text)?,
            Values::Real(_) | Values::Double(_) if special_float(text).is_some() => {
                return self.append_special_float(text);
            }
            Values::Json(_) => return Err(Refusal::mismatch("json", "a plain text")),
            Values::Array(_) => return Err(Refusal::mismatch("an array", "a string")),
            Values::Row(_) => return Err(Refusal::mismatch("a row", "a string")),
            _ => {
                let number = Number::from_text(text).ok_or_else(|| Refusal::unreadable(text, self.type_name()))?;
                return self.append_number(number);
            }
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a number.
    #[inline]
    pub fn append_number(&mut self, number: Number<'_>) -> Parsed<()> {
        match &mut self.values {
            Values::BigInt(v) => v.push(number.to_i64().map_err(|f| number_refusal(f, number, "bigint"))?),
            Values::Double(v) => v.push(number.to_f64().map_err(|f| number_refusal(f, number, "double precision"))?),
            Values::Int(v) => v.push(narrow(number, "int")?),
            Values::SmallInt(v) => v.push(narrow(number, "smallint")?),
            Values::Real(v) => v.push(number.to_f32().map_err(|f| number_refusal(f, number, "real"))?),
            Values::Decimal { values, precision, scale } => {
                let name = format_args!("decimal({precision},{scale})");
                let value = number.to_decimal(*precision, *scale);
                values.push(value.map_err(|f| number_refusal(f, number, &name.to_string()))?);
            }
            Values::Text(v) => v.push(number.text),
            Values::Timestamp(v) | Values::TimestampTz(v) => v.push(epoch_ms(number)?),
            _ => return Err(Refusal::mismatch(self.type_name(), "a number")),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a JSON `true` or `false`.
    pub fn append_bool(&mut self, value: bool) -> Parsed<()> {
        match &mut self.values {
            Values::Boolean(v) => v.append(value),
            Values::Text(v) => v.push(if value { b"true" } else { b"false" }),
            _ => return Err(Refusal::mismatch(self.type_name(), if value { "true" } else { "false" })),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// The type as messages name it.
    pub fn type_name(&self) -> &'static str {
        match &self.values {
            Values::Boolean(_) => "boolean",
            Values::SmallInt(_) => "smallint",
            Values::Int(_) => "int",
            Values::BigInt(_) => "bigint",
            Values::Real(_) => "real",
            Values::Double(_) => "double precision",
            Values::Decimal { .. } => "decimal",
            Values::Text(_) => "text",
            Values::Uuid(_) => "uuid",
            Values::Json(_) => "json",
            Values::Bytea(_) => "bytea",
            Values::Date(_) => "date",
            Values::Time(_) => "time",
            Values::Timestamp(_) => "timestamp",
            Values::TimestampTz(_) => "timestamptz",
            Values::Interval(_) => "interval",
            Values::Array(_) => "an array",
            Values::Row(_) => "a row",
        }
    }

    fn append_special_float(&mut self, text: &[u8]) -> Parsed<()> {
        let value = special_float(text).ok_or_else(|| Refusal::unreadable(text, "double precision"))?;
        match &mut self.values {
            Values::Real(v) => v.push(value as f32),
            Values::Double(v) => v.push(value),
            _ => return Err(Refusal::unreadable(text, self.type_name())),
        }
        self.nulls.append_non_null();
        Ok(())
    }
}

#[inline]
fn narrow<T: TryFrom<i64>>(number: Number<'_>, name: &str) -> Parsed<T> {
    let value = number.to_i64().map_err(|f| number_refusal(f, number, name))?;
    T::try_from(value).map_err(|_| Refusal::out_of_range(number.text, name))
}

#[cold]
fn number_refusal(fault: NumberFault, number: Number<'_>, name: &str) -> Box<Refusal> {
    match fault {
        NumberFault::Fraction => Refusal::unreadable(number.text, name),
        NumberFault::Range => Refusal::out_of_range(number.text, name),
    }
}

fn epoch_ms(number: Number<'_>) -> Parsed<i64> {
    let ms = number.to_i64().map_err(|f| number_refusal(f, number, "an epoch time in milliseconds"))?;
    datetime::timestamp_from_epoch_ms(ms).ok_or_else(|| {
        Refusal::invalid(format!(
            "{ms} is in doubt as a time: numbers are taken as milliseconds since 1970 from 1973 to 5138; send RFC 3339 text"
        ))
    })
}

#[inline]
fn time_value<T>(result: Result<T, TimeFault>, text: &[u8], name: &str) -> Parsed<T> {
    result.map_err(|fault| match fault {
        TimeFault::Form => Refusal::unreadable(text, name),
        TimeFault::Range => Refusal::out_of_range(text, name),
    })
}

fn boolean(text: &[u8]) -> Parsed<bool> {
    let is_any = |words: [&str; 5]| words.iter().any(|w| text.eq_ignore_ascii_case(w.as_bytes()));
    if is_any(["true", "t", "yes", "on", "1"]) {
        Ok(true)
    } else if is_any(["false", "f", "no", "off", "0"]) {
        Ok(false)
    } else {
        Err(Refusal::unreadable(text, "boolean"))
    }
}

fn special_float(text: &[u8]) -> Option<f64> {
    let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let infinite = unsigned.eq_ignore_ascii_case(b"infinity") || unsigned.eq_ignore_ascii_case(b"inf");
    match (infinite, text.starts_with(b"-")) {
        (true, true) => Some(f64::NEG_INFINITY),
        (true, false) => Some(f64::INFINITY),
        _ => text.eq_ignore_ascii_case(b"nan").then_some(f64::NAN),
    }
}

fn push_uuid(target: &mut Bytes, text: &[u8]) -> Parsed<()> {
    let uuid = uuid::Uuid::try_parse_ascii(text).map_err(|_| Refusal::unreadable(text, "uuid"))?;
    let mut buffer = uuid::Uuid::encode_buffer();
    target.push(uuid.hyphenated().encode_lower(&mut buffer).as_bytes());
    Ok(())
}

fn push_bytes(target: &mut Bytes, text: &[u8]) -> Parsed<()> {
    match text.strip_prefix(b"\\x") {
        Some(hex) => {
            let (pairs, odd) = hex.as_chunks::<2>();
            let nibble = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
            for &[high, low] in pairs {
                match (nibble(high), nibble(low)) {
                    (Some(high), Some(low)) => target.data.push(high << 4 | low),
                    _ => return Err(Refusal::unreadable(text, "bytea in hexadecimal")),
                }
            }
            if !odd.is_empty() {
                return Err(Refusal::unreadable(text, "bytea in hexadecimal"));
            }
        }
        None => BASE64
            .decode_vec(text, &mut target.data)
            .map_err(|_| Refusal::unreadable(text, "bytea: neither \\x and hexadecimal digits nor base64"))?,
    }
    target.end_value();
    Ok(())
}
