//! Owns the growing columns that rows are decoded into. A column can be cut back to an earlier length, so that a row
//! that fails in its last field leaves nothing behind.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, NullBufferBuilder, PrimitiveArray,
    StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use millstream_catalog::DataType;

use super::plan::{Keys, fixed_bytes};

/// One column under construction.
#[derive(Debug)]
pub(crate) struct ColumnBuffer {
    pub nulls: NullBufferBuilder,
    pub values: Values,
}

/// A column's values; a NULL takes a place in them too.
#[derive(Debug)]
pub(crate) enum Values {
    Boolean(BooleanBufferBuilder),
    SmallInt(Vec<i16>),
    Int(Vec<i32>),
    BigInt(Vec<i64>),
    Real(Vec<f32>),
    Double(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: i8 },
    Text(Bytes),
    Uuid(Bytes),
    Json(Bytes),
    Bytea(Bytes),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    TimestampTz(Vec<i64>),
    Interval(Vec<IntervalMonthDayNano>),
    Array(Box<Items>),
    Row(Box<Fields>),
}

/// Values of varying length, one behind the other.
#[derive(Debug)]
pub(crate) struct Bytes {
    offsets: Vec<i32>,
    pub data: Vec<u8>,
}

/// The items of all lists of a column.
#[derive(Debug)]
pub(crate) struct Items {
    offsets: Vec<i32>,
    pub column: ColumnBuffer,
    /// Bytes that an item takes at least.
    pub item_bytes: usize,
}

/// The fields of a nested row.
#[derive(Debug)]
pub(crate) struct Fields {
    pub names: Vec<String>,
    pub keys: Keys,
    pub columns: Vec<ColumnBuffer>,
}

impl Bytes {
    fn new() -> Self {
        Self { offsets: vec![0], data: Vec::new() }
    }

    /// Ends the value whose bytes were pushed to `data`. Bodies are far smaller than 2 GiB, so offsets fit.
    #[inline]
    pub fn end_value(&mut self) {
        self.offsets.push(self.data.len() as i32);
    }

    /// Where the value that is being pushed begins.
    pub fn value_start(&self) -> usize {
        self.offsets.last().map_or(0, |&o| o as usize)
    }

    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.end_value();
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.data.truncate(self.value_start());
    }

    fn reserve(&mut self, rows: usize, factor: usize) {
        self.offsets.reserve(rows);
        self.data.reserve(self.data.len().saturating_mul(factor));
    }
}

impl Items {
    /// Ends the list whose items were pushed to `column`.
    pub fn end_list(&mut self) {
        self.offsets.push(self.column.len() as i32);
    }
}

impl ColumnBuffer {
    /// An empty column.
    pub fn new(data_type: &DataType) -> Self {
        let values = match data_type {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::SmallInt => Values::SmallInt(Vec::new()),
            DataType::Int => Values::Int(Vec::new()),
            DataType::BigInt => Values::BigInt(Vec::new()),
            DataType::Real => Values::Real(Vec::new()),
            DataType::Double => Values::Double(Vec::new()),
            DataType::Decimal { precision, scale } => {
                Values::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::Text => Values::Text(Bytes::new()),
            DataType::Uuid => Values::Uuid(Bytes::new()),
            DataType::Json => Values::Json(Bytes::new()),
            DataType::Bytea => Values::Bytea(Bytes::new()),
            DataType::Date => Values::Date(Vec::new()),
            DataType::Time => Values::Time(Vec::new()),
            DataType::Timestamp => Values::Timestamp(Vec::new()),
            DataType::TimestampTz => Values::TimestampTz(Vec::new()),
            DataType::Interval => Values::Interval(Vec::new()),
            DataType::Array(item) => Values::Array(Box::new(Items {
                offsets: vec![0],
                column: ColumnBuffer::new(item),
                item_bytes: fixed_bytes(item),
            })),
            DataType::Row(fields) => Values::Row(Box::new(Fields {
                names: fields.iter().map(|f| f.name.clone()).collect(),
                keys: Keys::new(fields.iter().map(|f| f.name.as_str()).enumerate()),
                columns: fields.iter().map(|f| ColumnBuffer::new(&f.data_type)).collect(),
            })),
        };
        Self { nulls: NullBufferBuilder::new(0), values }
    }

    /// Values so far, NULLs among them.
    #[inline]
    pub fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Appends NULL.
    pub fn append_null(&mut self) {
        match &mut self.values {
            Values::Boolean(v) => v.append(false),
            Values::SmallInt(v) => v.push(0),
            Values::Int(v) | Values::Date(v) => v.push(0),
            Values::BigInt(v) | Values::Time(v) | Values::Timestamp(v) | Values::TimestampTz(v) => v.push(0),
            Values::Real(v) => v.push(0.0),
            Values::Double(v) => v.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Text(v) | Values::Uuid(v) | Values::Json(v) | Values::Bytea(v) => v.end_value(),
            Values::Interval(v) => v.push(IntervalMonthDayNano::ZERO),
            Values::Array(items) => items.end_list(),
            Values::Row(fields) => fields.columns.iter_mut().for_each(ColumnBuffer::append_null),
        }
        self.nulls.append_null();
    }

    /// Cuts the column back to `len` values, and removes what a value begun after them has pushed.
    pub fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Boolean(v) => v.truncate(len),
            Values::SmallInt(v) => v.truncate(len),
            Values::Int(v) | Values::Date(v) => v.truncate(len),
            Values::BigInt(v) | Values::Time(v) | Values::Timestamp(v) | Values::TimestampTz(v) => v.truncate(len),
            Values::Real(v) => v.truncate(len),
            Values::Double(v) => v.truncate(len),
            Values::Decimal { values, .. } => values.truncate(len),
            Values::Text(v) | Values::Uuid(v) | Values::Json(v) | Values::Bytea(v) => v.truncate(len),
            Values::Interval(v) => v.truncate(len),
            Values::Array(items) => {
                items.offsets.truncate(len + 1);
                items.column.truncate(items.offsets.last().map_or(0, |&o| o as usize));
            }
            Values::Row(fields) => fields.columns.iter_mut().for_each(|c| c.truncate(len)),
        }
        self.nulls.truncate(len);
    }

    /// Makes room for `rows` more values; texts get room for `factor` times what they hold now.
    pub fn reserve(&mut self, rows: usize, factor: usize) {
        match &mut self.values {
            Values::Boolean(v) => v.reserve(rows),
            Values::SmallInt(v) => v.reserve(rows),
            Values::Int(v) | Values::Date(v) => v.reserve(rows),
            Values::BigInt(v) | Values::Time(v) | Values::Timestamp(v) | Values::TimestampTz(v) => v.reserve(rows),
            Values::Real(v) => v.reserve(rows),
            Values::Double(v) => v.reserve(rows),
            Values::Decimal { values, .. } => values.reserve(rows),
            Values::Text(v) | Values::Uuid(v) | Values::Json(v) | Values::Bytea(v) => v.reserve(rows, factor),
            Values::Interval(v) => v.reserve(rows),
            Values::Array(items) => items.offsets.reserve(rows),
            Values::Row(fields) => fields.columns.iter_mut().for_each(|c| c.reserve(rows, factor)),
        }
    }

    /// The finished column, as `field` describes it.
    pub fn finish(mut self, field: &Field) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish();
        Ok(match self.values {
            Values::Boolean(mut v) => Arc::new(BooleanArray::new(v.finish(), nulls)),
            Values::SmallInt(v) => primitive::<Int16Type>(v, nulls)?,
            Values::Int(v) => primitive::<Int32Type>(v, nulls)?,
            Values::BigInt(v) => primitive::<Int64Type>(v, nulls)?,
            Values::Real(v) => primitive::<Float32Type>(v, nulls)?,
            Values::Double(v) => primitive::<Float64Type>(v, nulls)?,
            Values::Decimal { values, precision, scale } => {
                let array = PrimitiveArray::<Decimal128Type>::try_new(values.into(), nulls)?;
                Arc::new(array.with_precision_and_scale(precision, scale)?)
            }
            Values::Text(v) | Values::Uuid(v) | Values::Json(v) => {
                let (offsets, data) = v.into_buffers();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Values::Bytea(v) => {
                let (offsets, data) = v.into_buffers();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Values::Date(v) => primitive::<Date32Type>(v, nulls)?,
            Values::Time(v) => primitive::<Time64MicrosecondType>(v, nulls)?,
            Values::Timestamp(v) => primitive::<TimestampMicrosecondType>(v, nulls)?,
            Values::TimestampTz(v) => {
                let array = PrimitiveArray::<TimestampMicrosecondType>::try_new(v.into(), nulls)?;
                Arc::new(array.with_timezone("UTC"))
            }
            Values::Interval(v) => primitive::<IntervalMonthDayNanoType>(v, nulls)?,
            Values::Array(items) => {
                let ArrowType::List(item) = field.data_type() else {
                    return Err(ArrowError::SchemaError(format!("column {} is not a list", field.name())));
                };
                let values = items.column.finish(item)?;
                let offsets = OffsetBuffer::new(ScalarBuffer::from(items.offsets));
                Arc::new(ListArray::try_new(item.clone(), offsets, values, nulls)?)
            }
            Values::Row(row) => {
                let ArrowType::Struct(fields) = field.data_type() else {
                    return Err(ArrowError::SchemaError(format!("column {} is not a row", field.name())));
                };
                let len = nulls.as_ref().map_or_else(|| row.len(), |n| n.len());
                let columns = row.columns.into_iter().zip(fields).map(|(c, f)| c.finish(f));
                let columns = columns.collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, len)?)
            }
        })
    }
}

impl Bytes {
    fn into_buffers(self) -> (OffsetBuffer<i32>, Buffer) {
        (OffsetBuffer::new(ScalarBuffer::from(self.offsets)), Buffer::from_vec(self.data))
    }
}

impl Fields {
    fn len(&self) -> usize {
        self.columns.first().map_or(0, ColumnBuffer::len)
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<arrow::buffer::NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), nulls)?))
}

/// Which rows did not give a column; costs nothing while every row gives it.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    rows: Vec<usize>,
}

impl Missing {
    /// Row `row` did not give the column; rows come in rising order.
    pub fn mark(&mut self, row: usize) {
        self.rows.push(row);
    }

    /// One bit per row; `None` when every row gave the column.
    pub fn finish(self, rows: usize) -> Option<BooleanBuffer> {
        if self.rows.is_empty() {
            return None;
        }
        let mut bits = BooleanBufferBuilder::new(rows);
        bits.append_n(rows, false);
        for row in self.rows {
            bits.set_bit(row, true);
        }
        Some(bits.finish())
    }
}
