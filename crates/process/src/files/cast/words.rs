//! Owns the forms of values that PostgreSQL's tools write and columns of text are not cast from at once.

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::interleave;
use chrono::NaiveDateTime;
use millstream_catalog::DataType;
use millstream_catalog::fault::Code;

use super::{BadCell, Wanted, cut, defect, not_valid};
use crate::Result;
use crate::text_casts::cast_text;

/// Looks again at the cells that are NULL in `found` and were not: perhaps they are only written in another way.
pub(super) fn second_look(
    cells: &StringArray,
    found: ArrayRef,
    wanted: Wanted<'_>,
    bad: &mut Vec<BadCell>,
) -> Result<ArrayRef> {
    let doubtful: Vec<usize> = (0..cells.len()).filter(|row| found.is_null(*row) && !cells.is_null(*row)).collect();
    let respelt: StringArray =
        doubtful.iter().map(|row| Some(respelled(cells.value(*row), wanted.data_type))).collect();
    let again = cast_text(&respelt, found.data_type()).map_err(defect)?;
    for (i, row) in doubtful.iter().enumerate().filter(|(i, _)| again.is_null(*i)) {
        bad.push(refused(*row, respelt.value(i), cells.value(*row), wanted));
    }
    let mut places: Vec<(usize, usize)> = (0..cells.len()).map(|row| (0, row)).collect();
    for (i, row) in doubtful.iter().enumerate() {
        places[*row] = (1, i);
    }
    interleave(&[found.as_ref(), again.as_ref()], &places).map_err(defect)
}

fn refused(row: usize, respelt: &str, cell: &str, wanted: Wanted<'_>) -> BadCell {
    let is_number = respelt.parse::<f64>().is_ok_and(f64::is_finite);
    let whole = !respelt.contains(['.', 'e', 'E']);
    let out_of_range = match wanted.data_type {
        DataType::SmallInt | DataType::Int | DataType::BigInt => is_number && whole,
        DataType::Decimal { .. } => is_number,
        _ => false,
    };
    if !out_of_range {
        return not_valid(row, cell, wanted);
    }
    let reason = format!("column {:?}: {:?} is out of range for type {}", wanted.name, cut(cell), wanted.data_type);
    BadCell { row, code: Code::OutOfRange, reason }
}

/// The value as Arrow's casts take it.
fn respelled(cell: &str, data_type: &DataType) -> String {
    let text = cell.trim();
    match data_type {
        DataType::Real | DataType::Double => text.replace("Infinity", "inf"),
        DataType::Timestamp => slashed(text).unwrap_or_else(|| text.to_owned()),
        DataType::Decimal { .. } | DataType::SmallInt | DataType::Int | DataType::BigInt => {
            text.strip_prefix('+').unwrap_or(text).to_owned()
        }
        DataType::Boolean => text.to_ascii_lowercase(),
        _ => text.to_owned(),
    }
}

fn slashed(text: &str) -> Option<String> {
    Some(NaiveDateTime::parse_from_str(text, "%Y/%m/%d %H:%M:%S%.f").ok()?.to_string())
}

/// The bytes that a text stands for.
pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Option<Vec<u32>> = hex.chars().map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
        return Some(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                rest = after;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            (b'\\', _) => return None,
            (other, _) => bytes.push(*other),
        }
    }
    Some(bytes)
}

/// An array as PostgreSQL writes it, `{a,"b c",NULL}`, in JSON; `bare` elements are numbers and booleans.
pub(super) fn array_in_json(text: &str, bare: bool) -> Option<String> {
    let mut reader = ArrayText { rest: text.trim(), json: String::new(), bare };
    reader.array(0)?;
    reader.rest.trim().is_empty().then_some(reader.json)
}

struct ArrayText<'a> {
    rest: &'a str,
    json: String,
    bare: bool,
}

impl ArrayText<'_> {
    fn array(&mut self, depth: usize) -> Option<()> {
        self.rest = self.rest.strip_prefix('{').filter(|_| depth < 32)?;
        self.json.push('[');
        self.rest = self.rest.trim_start();
        if let Some(rest) = self.rest.strip_prefix('}') {
            self.rest = rest;
            self.json.push(']');
            return Some(());
        }
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next()? {
                '{' => self.array(depth + 1)?,
                '"' => self.quoted()?,
                _ => self.plain()?,
            }
            self.rest = self.rest.trim_start();
            let (next, rest) = (self.rest.chars().next()?, self.rest.get(1..)?);
            self.rest = rest;
            match next {
                ',' => self.json.push(','),
                '}' => {
                    self.json.push(']');
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn quoted(&mut self) -> Option<()> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        loop {
            match chars.next()? {
                (end, '"') => {
                    self.rest = &self.rest[end + 1..];
                    break;
                }
                (_, '\\') => value.push(chars.next()?.1),
                (_, c) => value.push(c),
            }
        }
        self.json.push_str(&serde_json::to_string(&value).ok()?);
        Some(())
    }

    fn plain(&mut self) -> Option<()> {
        let end = self.rest.find([',', '}', '{', '"'])?;
        let value = self.rest[..end].trim();
        if value.is_empty() {
            return None;
        }
        if value.eq_ignore_ascii_case("null") {
            self.json.push_str("null");
        } else if self.bare {
            let value = match value {
                "t" => "true",
                "f" => "false",
                // JSON has no numbers for these.
                other if other.trim_start_matches('-').starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    self.json.push_str(&serde_json::to_string(other).ok()?);
                    ""
                }
                other => other,
            };
            self.json.push_str(value);
        } else {
            self.json.push_str(&serde_json::to_string(value).ok()?);
        }
        self.rest = &self.rest[end..];
        Some(())
    }
}

/// Whether an array's elements stand in JSON without quotes.
pub(super) fn is_bare(data_type: &DataType) -> bool {
    match data_type {
        DataType::Array(item) => is_bare(item),
        DataType::Boolean
        | DataType::SmallInt
        | DataType::Int
        | DataType::BigInt
        | DataType::Real
        | DataType::Double => true,
        _ => false,
    }
}
