//! Owns how a table's rows are laid out over its files: folders by the values of columns, order within files.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::partition;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use chrono::DateTime;
use datafusion::common::ScalarValue;
use millstream_catalog::{OFFSET_COLUMN, PARTITION_COLUMN, TableSpec};
use std::sync::Arc;

/// How a table's rows are laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The columns whose values choose a row's folder. They are not in the files. Fixed when the table is made.
    pub partitioned_by: Vec<String>,
    /// The columns that the rows of a file are sorted by; none leaves them in the order of their numbers.
    pub sorted_by: Vec<String>,
    /// Which version of the table's definition its columns are of; 0 while they were only added to.
    pub reshaped: u32,
}

impl From<&TableSpec> for Layout {
    fn from(spec: &TableSpec) -> Self {
        Self {
            partitioned_by: spec.partitioned_by.clone(),
            sorted_by: spec.sorted_by.clone(),
            reshaped: spec.reshape.as_ref().map_or(0, |reshape| reshape.version),
        }
    }
}

/// The partition columns' values of one file, in the order of the columns.
pub(crate) type PartitionValues = Vec<(String, Option<String>)>;

/// How a run of the writer finds its rows' folders.
#[derive(Debug, Clone)]
pub(crate) enum Folders {
    /// By the values of these columns, of which rows with equal values follow each other.
    By(Vec<String>),
    /// All rows go to one; their batches need not have the columns.
    Fixed(PartitionValues),
}

impl Folders {
    /// The columns that are not in the files.
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Self::By(columns) => columns.iter().map(String::as_str).collect(),
            Self::Fixed(values) => values.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }

    /// The rows of a batch, in their order, with the folder of each run of them.
    pub fn split(&self, batch: &RecordBatch) -> Result<Vec<(PartitionValues, Range<usize>)>, ArrowError> {
        let columns = match self {
            Self::Fixed(values) => return Ok(vec![(values.clone(), 0..batch.num_rows())]),
            Self::By(columns) if columns.is_empty() => return Ok(vec![(vec![], 0..batch.num_rows())]),
            Self::By(columns) => columns,
        };
        let arrays = columns
            .iter()
            .map(|name| batch.column_by_name(name).cloned().ok_or_else(|| absent(name)))
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        let values = |row: usize| {
            let of = |(name, array): (&String, &ArrayRef)| Ok((name.clone(), value_text(array, row)?));
            columns.iter().zip(&arrays).map(of).collect::<Result<PartitionValues, ArrowError>>()
        };
        partition(&arrays)?.ranges().into_iter().map(|rows| Ok((values(rows.start)?, rows))).collect()
    }
}

fn absent(column: &str) -> ArrowError {
    ArrowError::SchemaError(format!("partition column {column:?} is not in the rows"))
}

/// A schema without the partition columns: what the files have.
pub(crate) fn file_schema(lake: &Schema, partitioned_by: &[&str]) -> SchemaRef {
    let fields = lake.fields().iter().filter(|f| !partitioned_by.contains(&f.name().as_str()));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// The partition columns' fields, in their order.
pub(crate) fn partition_fields(schema: &Schema, partitioned_by: &[String]) -> Vec<FieldRef> {
    let field = |name: &String| schema.field_with_name(name).ok().map(|f| Arc::new(f.clone()));
    partitioned_by.iter().filter_map(field).collect()
}

/// What rows must be sorted by before they are written; nothing when any order will do.
pub(crate) fn write_order(partitioned_by: &[String], sorted_by: &[String]) -> Vec<String> {
    if partitioned_by.is_empty() && sorted_by.is_empty() {
        return vec![];
    }
    let place = [PARTITION_COLUMN.to_owned(), OFFSET_COLUMN.to_owned()];
    partitioned_by.iter().chain(sorted_by).cloned().chain(place).collect()
}

/// The folder of partition values, `a=1/b=x/` with everything but plain characters escaped; nothing for none.
pub(crate) fn folder(values: &PartitionValues) -> String {
    values
        .iter()
        .map(|(name, value)| {
            let value = value.as_deref().filter(|v| !v.is_empty()).unwrap_or("__HIVE_DEFAULT_PARTITION__");
            format!("{}={}/", escaped(name), escaped(value))
        })
        .collect()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match is_plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// What file systems take as the name of a folder, in bytes.
const LONGEST_FOLDER_BYTES: usize = 255;
/// The longest value of a type whose values have a bounded length: a decimal, its sign and point.
const LONGEST_PLAIN_BYTES: usize = 42;

/// The first row behind `from` whose value of a partition column has no folder, and how long its name would be.
pub fn without_folder(column: &str, values: &ArrayRef, from: usize) -> Option<(usize, usize)> {
    let name = escaped(column).len() + 1;
    let escaped_bytes = |text: &str| text.bytes().map(|b| if is_plain(b) { 1 } else { 3 }).sum::<usize>();
    let bounded = !matches!(values.data_type(), DataType::Utf8 | DataType::Float32 | DataType::Float64);
    if bounded && name + LONGEST_PLAIN_BYTES <= LONGEST_FOLDER_BYTES {
        return None;
    }
    (from..values.len()).find_map(|row| {
        let value = match values.as_string_opt::<i32>() {
            Some(texts) if texts.is_valid(row) => escaped_bytes(texts.value(row)),
            Some(_) => 0,
            None => escaped_bytes(&value_text(values, row).ok()??),
        };
        (name + value > LONGEST_FOLDER_BYTES).then_some((row, name + value))
    })
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.')
}

/// A lake value as Delta has it in `partitionValues`.
fn value_text(array: &ArrayRef, row: usize) -> Result<Option<String>, ArrowError> {
    if array.is_null(row) {
        return Ok(None);
    }
    let value = ScalarValue::try_from_array(array, row).map_err(|e| ArrowError::ComputeError(e.to_string()))?;
    let time = |us: i64, form: &str| {
        let time = DateTime::from_timestamp_micros(us);
        time.map(|t| t.format(form).to_string()).ok_or_else(|| unfit(array.data_type()))
    };
    Ok(Some(match &value {
        ScalarValue::Utf8(Some(text)) => text.clone(),
        ScalarValue::TimestampMicrosecond(Some(us), None) => time(*us, "%Y-%m-%d %H:%M:%S%.6f")?,
        ScalarValue::TimestampMicrosecond(Some(us), Some(_)) => time(*us, "%Y-%m-%dT%H:%M:%S%.6fZ")?,
        ScalarValue::Boolean(_)
        | ScalarValue::Int8(_)
        | ScalarValue::Int16(_)
        | ScalarValue::Int32(_)
        | ScalarValue::Int64(_)
        | ScalarValue::Float32(_)
        | ScalarValue::Float64(_)
        | ScalarValue::Decimal128(..)
        | ScalarValue::Date32(_) => value.to_string(),
        _ => return Err(unfit(array.data_type())),
    }))
}

fn unfit(data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("values of type {data_type} cannot name a folder; partition by a plain column"))
}

/// The value of a partition column in one file, in the reader's type. Empty text is NULL in Delta; files that this
/// crate wrote (`own`) have it for empty text too, and NULL where there is no value.
pub(crate) fn partition_value(
    values: &HashMap<String, Option<String>>,
    field: &Field,
    own: bool,
) -> Result<ScalarValue, datafusion::error::DataFusionError> {
    let text = values.get(field.name()).and_then(Option::as_deref);
    let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::Utf8View);
    match text.filter(|t| !t.is_empty() || (own && is_text)) {
        None => ScalarValue::try_from(field.data_type()),
        Some(text) => match field.data_type() {
            DataType::Utf8 => Ok(ScalarValue::Utf8(Some(text.to_owned()))),
            DataType::Utf8View => Ok(ScalarValue::Utf8View(Some(text.to_owned()))),
            other => ScalarValue::try_from_string(text.to_owned(), other),
        },
    }
}

/// A file's partition values in the order of the columns.
pub(crate) fn values_of(values: &HashMap<String, Option<String>>, partitioned_by: &[String]) -> PartitionValues {
    partitioned_by.iter().map(|name| (name.clone(), values.get(name).cloned().flatten())).collect()
}
