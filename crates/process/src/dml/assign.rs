//! Owns assignment: how a value becomes one of its column's type, as PostgreSQL stores it.
//!
//! A constant in quotes is read as the column's type. Other values change their type where no meaning is lost on the
//! way: numbers among each other, rounded where the column has fewer digits; times among each other; anything to text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast, cast_with_options};
use arrow::datatypes::{DataType as ArrowType, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, DataType};

use super::literal;
use crate::admit::shown_type;
use crate::{Error, Result};

/// How much of a value a message shows.
const SHOWN: usize = 60;

/// What is known of a value before there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// A constant in quotes, or a parameter without a type: it is whatever the column is.
    Untyped,
    /// An expression with a type of its own.
    Typed,
}

/// The way of values of one type into one column.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    column: String,
    to: DataType,
    arrow: ArrowType,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They are of the column's type.
    Same,
    /// They are all NULL.
    Null,
    /// They are texts that say a value.
    Read,
    /// They are doubles, and the column takes whole numbers.
    RoundDouble,
    /// They are decimals, and the column takes whole numbers.
    RoundDecimal,
    /// Their type is changed.
    Cast,
}

impl Assignment {
    /// The way of values of type `from`, if there is one.
    pub(super) fn new(column: &Column, from: &ArrowType, given: Given) -> Result<Self> {
        let arrow = column.data_type.to_arrow();
        let way = way(from, &column.data_type, &arrow, given).ok_or_else(|| Error::Rejected {
            code: Code::TypeMismatch,
            message: format!(
                "column {:?} is of type {} but the expression is of type {}",
                column.name,
                column.data_type,
                shown_type(from)
            ),
            hint: Some(format!("cast it: CAST(… AS {})", column.data_type)),
            position: None,
        })?;
        Ok(Self { column: column.name.clone(), to: column.data_type.clone(), arrow, way })
    }

    /// Whether values stay as they are.
    pub(super) fn is_same(&self) -> bool {
        self.way == Way::Same
    }

    /// The values as the column's type.
    pub(super) fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let failed = |e: ArrowError| Error::rejected(Code::Internal, format!("column {:?}: {e}", self.column));
        let assigned = match self.way {
            Way::Same => Arc::clone(values),
            Way::Null => new_null_array(&self.arrow, values.len()),
            Way::Read => literal::read(values, &self.to).map_err(|m| self.refused(&m))?,
            Way::RoundDouble => {
                let doubles = cast(values, &ArrowType::Float64).map_err(failed)?;
                let rounded: Float64Array = doubles.as_primitive::<Float64Type>().unary(f64::round_ties_even);
                self.cast(&(Arc::new(rounded) as ArrayRef))?
            }
            Way::RoundDecimal => {
                let whole = match values.data_type() {
                    ArrowType::Decimal256(..) => ArrowType::Decimal256(76, 0),
                    _ => ArrowType::Decimal128(38, 0),
                };
                let options = CastOptions { safe: false, ..Default::default() };
                let rounded = cast_with_options(values, &whole, &options).map_err(failed)?;
                self.cast(&rounded)?
            }
            Way::Cast => self.cast(values)?,
        };
        // An array type may differ from the column's in the names of its parts alone; a parameter in a CASE may make it
        // of another type than was planned.
        match *assigned.data_type() == self.arrow {
            true => Ok(assigned),
            false => self.cast(&assigned),
        }
    }

    fn cast(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let options = CastOptions { safe: false, ..Default::default() };
        cast_with_options(values, &self.arrow, &options).map_err(|error| self.misfit(values, &error))
    }

    /// Names the first value that has no place in the column.
    fn misfit(&self, values: &ArrayRef, error: &ArrowError) -> Error {
        let lost = cast(values, &self.arrow).ok().and_then(|fits| {
            (0..values.len()).find(|row| values.is_valid(*row) && fits.is_null(*row)).map(|row| shown(values, row))
        });
        let (code, message) = match lost {
            Some(value) if values.data_type().is_numeric() => {
                (Code::OutOfRange, format!("{value} is out of range for {}", self.to))
            }
            Some(value) => (Code::InvalidValue, format!("{value} does not fit {}", self.to)),
            None => (Code::InvalidValue, error.to_string()),
        };
        self.refused(&(code, message))
    }

    fn refused(&self, (code, message): &literal::Misfit) -> Error {
        Error::rejected(*code, format!("column {:?}: {message}", self.column))
    }
}

fn shown(values: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::default();
    let text = ArrayFormatter::try_new(values, &options).map(|f| f.value(row).to_string()).unwrap_or_default();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

fn way(from: &ArrowType, to: &DataType, arrow: &ArrowType, given: Given) -> Option<Way> {
    if *from == ArrowType::Null {
        return Some(Way::Null);
    }
    let text = is_text(from);
    match to {
        // Kept as texts, these cannot be told from texts.
        DataType::Uuid | DataType::Json => return text.then_some(Way::Read),
        DataType::Text if text => return Some(if from == arrow { Way::Same } else { Way::Cast }),
        _ if text => return (given == Given::Untyped).then_some(Way::Read),
        _ if from == arrow => return Some(Way::Same),
        _ => {}
    }
    let whole = matches!(to, DataType::SmallInt | DataType::Int | DataType::BigInt);
    match from {
        ArrowType::Float16 | ArrowType::Float32 | ArrowType::Float64 if whole => Some(Way::RoundDouble),
        ArrowType::Decimal128(..) | ArrowType::Decimal256(..) if whole => Some(Way::RoundDecimal),
        _ => (keeps_meaning(from, arrow) && can_cast_types(from, arrow)).then_some(Way::Cast),
    }
}

fn is_text(data_type: &ArrowType) -> bool {
    matches!(data_type, ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View)
}

/// Whether a value of one type is stored in a column of the other without being told to.
fn keeps_meaning(from: &ArrowType, to: &ArrowType) -> bool {
    use ArrowType::{Binary, BinaryView, Boolean, Date32, Date64, Duration, FixedSizeBinary, Interval, LargeBinary};
    use ArrowType::{LargeList, List, Struct, Time32, Time64, Timestamp, Utf8};
    match (from, to) {
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Utf8) => false,
        (_, Utf8) => true,
        (a, b) if a.is_numeric() && b.is_numeric() => true,
        (Boolean, Boolean) => true,
        (Date32 | Date64 | Timestamp(..), Date32 | Timestamp(..)) => true,
        (Time32(_) | Time64(_) | Timestamp(..), Time64(_)) => true,
        (Interval(_) | Duration(_), Interval(_)) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        (List(a) | LargeList(a), List(b)) => {
            *a.data_type() == ArrowType::Null
                || (is_text(a.data_type()) && is_text(b.data_type()))
                || (!is_text(b.data_type()) && keeps_meaning(a.data_type(), b.data_type()))
        }
        (ArrowType::FixedSizeList(a, _), List(b)) => keeps_meaning(a.data_type(), b.data_type()),
        (Struct(a), Struct(b)) => a.len() == b.len(),
        (ArrowType::Dictionary(_, value), to) => keeps_meaning(value, to),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, Int64Array, StringArray};

    use super::*;

    fn assign(values: ArrayRef, to: DataType, given: Given) -> Result<String> {
        let column = Column::new("c", to);
        let assigned = Assignment::new(&column, values.data_type(), given)?.apply(&values)?;
        Ok((0..assigned.len()).map(|row| shown(&assigned, row)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn numbers_are_rounded_where_the_column_has_fewer_digits() {
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.5, 2.5, -1.5]));
        assert_eq!(assign(doubles, DataType::Int, Given::Typed).unwrap(), "2 2 -2");
        let decimals = Decimal128Array::from(vec![15, 25, -15]).with_precision_and_scale(3, 1).unwrap();
        let decimals: ArrayRef = Arc::new(decimals);
        assert_eq!(assign(Arc::clone(&decimals), DataType::Int, Given::Typed).unwrap(), "2 3 -2");
        assert_eq!(assign(decimals, DataType::Double, Given::Typed).unwrap(), "1.5 2.5 -1.5");
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![1, 99999]));
        let error = assign(ints, DataType::SmallInt, Given::Typed).unwrap_err();
        assert_eq!(error.to_string(), "column \"c\": 99999 is out of range for smallint");
    }

    #[test]
    fn texts_are_read_where_they_have_no_type_of_their_own() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![" 12 ", "-3"]));
        assert_eq!(assign(Arc::clone(&texts), DataType::Int, Given::Untyped).unwrap(), "12 -3");
        let error = assign(texts, DataType::Int, Given::Typed).unwrap_err();
        assert_eq!(error.to_string(), "column \"c\" is of type int but the expression is of type text");
    }

    #[test]
    fn values_of_another_type_than_was_planned_are_never_lost() {
        let column = Column::new("c", DataType::SmallInt);
        let planned = Assignment::new(&column, &ArrowType::Int16, Given::Typed).unwrap();
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        assert_eq!(planned.apply(&ints).unwrap().data_type(), &ArrowType::Int16);
        let error = planned.apply(&(Arc::new(Int64Array::from(vec![1, 99999])) as ArrayRef)).unwrap_err();
        assert_eq!(error.to_string(), "column \"c\": 99999 is out of range for smallint");
    }

    #[test]
    fn a_number_is_no_time_and_no_truth() {
        let ints: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert!(assign(Arc::clone(&ints), DataType::Timestamp, Given::Typed).is_err());
        assert!(assign(Arc::clone(&ints), DataType::Boolean, Given::Typed).is_err());
        assert_eq!(assign(ints, DataType::Text, Given::Typed).unwrap(), "1");
    }
}
