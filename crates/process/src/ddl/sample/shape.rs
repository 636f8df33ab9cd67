//! Owns how types widen as values are seen.
//!
//! ```text
//! bigint → decimal(20,0) → double precision      date → timestamp      T, null → T      T[], U[] → (T ∪ U)[]
//! any two kinds of text → text                   rows: field by field  any other two → json
//! ```

use millstream_catalog::{DataType, RowField};

use super::text::TextKind;

/// Rows with more fields than this are taken for maps, whose keys are data: they become JSON.
const MAX_FIELDS: usize = 200;

/// What the values of one column have looked like so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// Only nulls and empty arrays.
    Unknown,
    Bool,
    Int,
    /// Whole numbers past 64 signed bits.
    BigUnsigned,
    Double,
    Text(TextKind),
    Array(Box<Shape>),
    Row(Vec<(String, Shape)>),
    Mixed,
}

impl Shape {
    /// The shape of a CSV cell.
    pub(super) fn of_cell(cell: &str) -> Self {
        // Leading zeros are part of codes, such as postal ones.
        let code =
            cell.trim_start_matches('-').strip_prefix('0').is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        let numeric = !code && cell.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
        match cell {
            "true" | "false" | "TRUE" | "FALSE" | "True" | "False" => Shape::Bool,
            _ if numeric && cell.parse::<i64>().is_ok() => Shape::Int,
            _ if numeric && cell.parse::<f64>().is_ok_and(f64::is_finite) => Shape::Double,
            _ => Shape::Text(TextKind::of(cell)),
        }
    }

    /// Makes room for another value.
    pub(super) fn widen(&mut self, other: Shape) {
        let own = std::mem::replace(self, Shape::Unknown);
        *self = own.united(other);
    }

    fn united(self, other: Shape) -> Shape {
        match (self, other) {
            (a, b) if a == b => a,
            (Shape::Unknown, b) => b,
            (a, Shape::Unknown) => a,
            (Shape::Double, Shape::Int | Shape::BigUnsigned) | (Shape::Int | Shape::BigUnsigned, Shape::Double) => {
                Shape::Double
            }
            (Shape::Int, Shape::BigUnsigned) | (Shape::BigUnsigned, Shape::Int) => Shape::BigUnsigned,
            (Shape::Text(a), Shape::Text(b)) => Shape::Text(a.united(b)),
            (Shape::Array(a), Shape::Array(b)) => Shape::Array(Box::new(a.united(*b))),
            (Shape::Row(mut fields), Shape::Row(others)) => {
                unite_fields(&mut fields, others);
                if fields.len() > MAX_FIELDS { Shape::Mixed } else { Shape::Row(fields) }
            }
            _ => Shape::Mixed,
        }
    }

    /// The same, but text where nothing was seen or kinds were mixed.
    pub(super) fn or_text(self) -> Self {
        match self {
            Shape::Unknown | Shape::Mixed => Shape::Text(TextKind::Plain),
            other => other,
        }
    }

    /// The column type that takes every value seen.
    pub(super) fn into_data_type(self) -> DataType {
        match self {
            Shape::Unknown | Shape::Mixed => DataType::Json,
            Shape::Bool => DataType::Boolean,
            Shape::Int => DataType::BigInt,
            Shape::BigUnsigned => DataType::Decimal { precision: 20, scale: 0 },
            Shape::Double => DataType::Double,
            Shape::Text(kind) => kind.data_type(),
            Shape::Array(item) if *item == Shape::Unknown => DataType::Json,
            Shape::Array(item) => DataType::Array(Box::new(item.into_data_type())),
            // A row without fields cannot be a column, and one with an empty or doubled name cannot be written.
            Shape::Row(fields) if !nameable(&fields) => DataType::Json,
            Shape::Row(fields) => DataType::Row(
                fields.into_iter().map(|(name, shape)| RowField { name, data_type: shape.into_data_type() }).collect(),
            ),
        }
    }
}

fn nameable(fields: &[(String, Shape)]) -> bool {
    !fields.is_empty()
        && fields.iter().enumerate().all(|(i, (name, _))| {
            !name.is_empty() && fields[..i].iter().all(|(other, _)| !other.eq_ignore_ascii_case(name))
        })
}

/// Widens fields by name; new ones go behind.
pub(super) fn unite_fields(fields: &mut Vec<(String, Shape)>, others: Vec<(String, Shape)>) {
    for (i, (name, shape)) in others.into_iter().enumerate() {
        // Objects of one producer have their fields in one order, so the same place is looked at first.
        let same_place = fields.get(i).is_some_and(|(n, _)| *n == name).then_some(i);
        match same_place.or_else(|| fields.iter().position(|(n, _)| *n == name)) {
            Some(i) => fields[i].1.widen(shape),
            None => fields.push((name, shape)),
        }
    }
}
