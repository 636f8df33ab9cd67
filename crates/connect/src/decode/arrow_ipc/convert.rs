//! Owns how an Arrow column becomes a column of a stream's type, without losing a value unnoticed.
//!
//! Arrow's own casts make NULL of what does not fit, or cut it: here such values are faults of their rows. Texts go the
//! way of CSV fields. Dictionaries, views and lists of nothing can stand for far more than their bytes, so what they
//! expand to is counted first.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, new_null_array};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType as ArrowType, Float32Type, Float64Type, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_catalog::{DataType, RowField};

use super::render;
use crate::decode::Error;
use crate::decode::columns::{ColumnBuffer, Values};
use crate::decode::json::append_json_text;
use crate::decode::plan::fixed_bytes;
use crate::decode::refusal::Refusal;
use crate::decode::rows::Extra;

/// Converts one column, collecting the rows whose values do not convert.
pub(super) struct Converter<'a> {
    column: &'a str,
    limit_bytes: usize,
    faults: BTreeMap<usize, Box<Refusal>>,
}

impl<'a> Converter<'a> {
    pub fn new(column: &'a str, limit_bytes: usize) -> Self {
        Self { column, limit_bytes, faults: BTreeMap::new() }
    }

    /// The rows that do not convert, by index; each once.
    pub fn into_faults(self) -> BTreeMap<usize, Box<Refusal>> {
        self.faults
    }

    /// The column in its new type. Values at fault are NULL in it.
    pub fn convert(&mut self, array: &ArrayRef, target: &DataType) -> Result<ArrayRef, Error> {
        self.check_size(array.len().saturating_mul(fixed_bytes(target).max(1)))?;
        match array.data_type() {
            ArrowType::Null => Ok(new_null_array(&target.to_arrow(), array.len())),
            ArrowType::Dictionary(_, values) => {
                self.check_size(expanded_bytes(array))?;
                let plain = self.cast(array, values)?;
                self.convert(&plain, target)
            }
            ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => self.texts(array, target),
            ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => {
                self.bytes(array, target)
            }
            _ if *target == DataType::Json => self.json(array),
            ArrowType::Struct(_) => match target {
                DataType::Row(fields) => self.row(array, fields),
                _ => Err(self.refused(array, target)),
            },
            ArrowType::List(_) | ArrowType::LargeList(_) | ArrowType::FixedSizeList(..) => match target {
                DataType::Array(item) => self.list(array, item),
                _ => Err(self.refused(array, target)),
            },
            _ => self.plain(array, target),
        }
    }

    /// Numbers, booleans and times.
    fn plain(&mut self, array: &ArrayRef, target: &DataType) -> Result<ArrayRef, Error> {
        use ArrowType as A;
        let source = array.data_type();
        let (array, unit) = match source {
            A::Timestamp(unit, _) => (render::zoned(array, *unit, None)?, Some(*unit)),
            _ => (Arc::clone(array), None),
        };
        let is_number = source.is_numeric();
        match target {
            DataType::SmallInt | DataType::Int | DataType::BigInt if is_number => self.number(&array, target, true),
            DataType::Real | DataType::Double | DataType::Decimal { .. } if is_number => {
                self.number(&array, target, false)
            }
            DataType::Boolean if *source == A::Boolean => Ok(array),
            DataType::Text if is_number || source.is_temporal() || *source == A::Boolean => self.cast(&array, &A::Utf8),
            DataType::Timestamp | DataType::TimestampTz
                if unit.is_some() || matches!(source, A::Date32 | A::Date64) =>
            {
                let micros = self.checked_cast(&array, &A::Timestamp(TimeUnit::Microsecond, None), "a timestamp")?;
                let zone = (*target == DataType::TimestampTz).then_some("UTC");
                Ok(render::zoned(&micros, TimeUnit::Microsecond, zone)?)
            }
            DataType::Date if matches!(source, A::Date32 | A::Date64) => {
                self.checked_cast(&array, &A::Date32, "a date")
            }
            DataType::Time if matches!(source, A::Time32(_) | A::Time64(_)) => {
                self.checked_cast(&array, &A::Time64(TimeUnit::Microsecond), "a time")
            }
            DataType::Interval if matches!(source, A::Interval(_) | A::Duration(_)) => {
                self.checked_cast(&array, &target.to_arrow(), "an interval")
            }
            _ => Err(self.refused(&array, target)),
        }
    }

    /// Numbers to numbers. `exact` refuses fractions, which a cast to integers would cut.
    fn number(&mut self, array: &ArrayRef, target: &DataType, exact: bool) -> Result<ArrayRef, Error> {
        let name = target.to_string();
        let converted = self.checked_cast(array, &target.to_arrow(), &name)?;
        let source = array.data_type();
        if exact && (source.is_floating() || source.is_decimal()) {
            let back = self.cast(&converted, source)?;
            let same = eq(&back, array)?;
            let cut = (0..array.len()).filter(|&i| same.is_valid(i) && !same.value(i));
            self.fault_all(array, cut, |value| Refusal::unreadable(value.as_bytes(), &name))?;
        }
        if *target == DataType::Real && *source == ArrowType::Float64 {
            let (wide, narrow) = (array.as_primitive::<Float64Type>(), converted.as_primitive::<Float32Type>());
            let lost = (0..array.len())
                .filter(|&i| wide.is_valid(i) && wide.value(i).is_finite() && narrow.value(i).is_infinite());
            self.fault_all(array, lost, |value| Refusal::out_of_range(value.as_bytes(), &name))?;
        }
        Ok(converted)
    }

    /// Texts, read as CSV fields are.
    fn texts(&mut self, array: &ArrayRef, target: &DataType) -> Result<ArrayRef, Error> {
        self.check_size(view_bytes(array))?;
        let texts = self.cast(array, &ArrowType::Utf8)?;
        if *target == DataType::Text {
            return Ok(texts);
        }
        let texts = texts.as_string::<i32>();
        let mut buffer = ColumnBuffer::new(target);
        let mut extra = Extra::with_budget(self.limit_bytes);
        for row in 0..texts.len() {
            if texts.is_null(row) {
                buffer.append_null();
                continue;
            }
            let text = texts.value(row).as_bytes();
            let appended = match buffer.values {
                Values::Json(_) | Values::Array(_) | Values::Row(_) => append_json_text(&mut buffer, text, &mut extra),
                _ => buffer.append_text(text),
            };
            if let Err(refusal) = appended {
                buffer.truncate(row);
                buffer.append_null();
                self.faults.entry(row).or_insert(refusal);
            }
        }
        Ok(buffer.finish(&target.to_field(self.column, true))?)
    }

    fn bytes(&mut self, array: &ArrayRef, target: &DataType) -> Result<ArrayRef, Error> {
        match (target, array.data_type()) {
            (DataType::Bytea, _) => {
                self.check_size(view_bytes(array))?;
                self.cast(array, &ArrowType::Binary)
            }
            (DataType::Uuid, ArrowType::FixedSizeBinary(16)) => {
                let ids = array
                    .as_fixed_size_binary()
                    .iter()
                    .map(|id| id.and_then(|id| uuid::Uuid::from_slice(id).ok()).map(|id| id.hyphenated().to_string()));
                Ok(Arc::new(ids.collect::<arrow::array::StringArray>()))
            }
            _ => Err(self.refused(array, target)),
        }
    }

    /// Any value as its JSON text.
    fn json(&mut self, array: &ArrayRef) -> Result<ArrayRef, Error> {
        let texts = render::values(array)?;
        let texts = texts.into_iter().enumerate().map(|(row, text)| array.is_valid(row).then_some(text));
        Ok(Arc::new(texts.collect::<arrow::array::StringArray>()))
    }

    fn row(&mut self, array: &ArrayRef, fields: &[RowField]) -> Result<ArrayRef, Error> {
        let source = array.as_struct();
        let mut columns = Vec::with_capacity(fields.len());
        for field in fields {
            let Some(column) = source.column_by_name(&field.name) else {
                columns.push(new_null_array(&field.data_type.to_arrow(), source.len()));
                continue;
            };
            let mut inner = Converter::new(self.column, self.limit_bytes);
            columns.push(inner.convert(column, &field.data_type)?);
            for (row, refusal) in inner.into_faults() {
                if source.is_valid(row) {
                    self.faults.entry(row).or_insert_with(|| refusal.within(&field.name));
                }
            }
        }
        let ArrowType::Struct(target) = DataType::Row(fields.to_vec()).to_arrow() else {
            return Err(self.refused(array, &DataType::Row(fields.to_vec())));
        };
        let nulls = source.nulls().cloned();
        Ok(Arc::new(StructArray::try_new_with_length(target, columns, nulls, source.len())?))
    }

    fn list(&mut self, array: &ArrayRef, item: &DataType) -> Result<ArrayRef, Error> {
        let field = match array.data_type() {
            ArrowType::List(field) | ArrowType::LargeList(field) | ArrowType::FixedSizeList(field, _) => field.clone(),
            _ => return Err(self.refused(array, &DataType::Array(Box::new(item.clone())))),
        };
        let plain = self.cast(array, &ArrowType::List(field))?;
        let lists = plain.as_list::<i32>();
        let mut inner = Converter::new(self.column, self.limit_bytes);
        let values = inner.convert(lists.values(), item)?;
        let offsets = lists.value_offsets();
        for (index, refusal) in inner.into_faults() {
            let row = offsets.partition_point(|&offset| offset as usize <= index).wrapping_sub(1);
            if row < lists.len() && lists.is_valid(row) {
                let within = format!("[{}]", index - offsets[row] as usize);
                self.faults.entry(row).or_insert_with(|| refusal.within(&within));
            }
        }
        let target = Arc::new(item.to_field("item", true));
        Ok(Arc::new(ListArray::try_new(target, lists.offsets().clone(), values, lists.nulls().cloned())?))
    }

    /// A cast whose failures are faults: where a value became NULL.
    fn checked_cast(&mut self, array: &ArrayRef, target: &ArrowType, name: &str) -> Result<ArrayRef, Error> {
        let converted = self.cast(array, target)?;
        if converted.null_count() > array.null_count() {
            let lost = (0..array.len()).filter(|&i| array.is_valid(i) && converted.is_null(i));
            self.fault_all(array, lost, |value| Refusal::out_of_range(value.as_bytes(), name))?;
        }
        Ok(converted)
    }

    fn cast(&self, array: &ArrayRef, target: &ArrowType) -> Result<ArrayRef, Error> {
        if !can_cast_types(array.data_type(), target) {
            return Err(self.refused_arrow(array, &target.to_string()));
        }
        let options = CastOptions { safe: true, ..CastOptions::default() };
        Ok(cast_with_options(array, target, &options)?)
    }

    fn fault_all(
        &mut self,
        array: &ArrayRef,
        rows: impl Iterator<Item = usize>,
        refusal: impl Fn(&str) -> Box<Refusal>,
    ) -> Result<(), Error> {
        let options = FormatOptions::default();
        let formatter = ArrayFormatter::try_new(array.as_ref(), &options)?;
        for row in rows {
            self.faults.entry(row).or_insert_with(|| refusal(&formatter.value(row).to_string()));
        }
        Ok(())
    }

    fn check_size(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.limit_bytes {
            return Err(Error::DecompressedTooLarge { limit_bytes: self.limit_bytes });
        }
        Ok(())
    }

    #[cold]
    fn refused(&self, array: &ArrayRef, target: &DataType) -> Error {
        self.refused_arrow(array, &target.to_string())
    }

    #[cold]
    fn refused_arrow(&self, array: &ArrayRef, expected: &str) -> Error {
        let (column, found) = (self.column.to_owned(), array.data_type().to_string());
        Error::IpcColumn { column, found, expected: expected.to_owned() }
    }
}

/// What a dictionary's keys expand to. Values that are no texts count as the longest of plain values.
fn expanded_bytes(array: &ArrayRef) -> usize {
    let dictionary = array.as_any_dictionary();
    let keys = dictionary.normalized_keys();
    let values = dictionary.values();
    if values.is_empty() {
        return 0;
    }
    let lengths = value_lengths(values);
    keys.iter().fold(0usize, |sum, &key| sum.saturating_add(lengths.get(key).copied().unwrap_or(0)))
}

/// What the views of an array stand for; 0 for arrays that are no views, which hold what they stand for.
fn view_bytes(array: &ArrayRef) -> usize {
    match array.data_type() {
        ArrowType::Utf8View | ArrowType::BinaryView => {
            value_lengths(array).into_iter().fold(0usize, usize::saturating_add)
        }
        _ => 0,
    }
}

fn value_lengths(array: &ArrayRef) -> Vec<usize> {
    match array.data_type() {
        ArrowType::Utf8 => (0..array.len()).map(|i| array.as_string::<i32>().value_length(i) as usize).collect(),
        ArrowType::LargeUtf8 => (0..array.len()).map(|i| array.as_string::<i64>().value_length(i) as usize).collect(),
        ArrowType::Binary => (0..array.len()).map(|i| array.as_binary::<i32>().value_length(i) as usize).collect(),
        ArrowType::LargeBinary => (0..array.len()).map(|i| array.as_binary::<i64>().value_length(i) as usize).collect(),
        ArrowType::Utf8View => array.as_string_view().views().iter().map(|view| *view as u32 as usize).collect(),
        ArrowType::BinaryView => array.as_binary_view().views().iter().map(|view| *view as u32 as usize).collect(),
        ArrowType::FixedSizeBinary(width) => vec![*width as usize; array.len()],
        plain if plain.is_primitive() || *plain == ArrowType::Boolean => vec![32; array.len()],
        // Nested values: each might be all of them.
        _ => vec![array.get_array_memory_size(); array.len()],
    }
}
