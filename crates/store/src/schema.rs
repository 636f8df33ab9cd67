//! Owns the mapping between a stream's Arrow schema, its lake types and the Delta schema text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use millstream_catalog::LOGICAL_TYPE_KEY;
use serde_json::{Map, Value, json};

/// How lake values are cast: a value that does not fit is an error, never a silent NULL.
pub(crate) const EXACT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// The Arrow type whose Parquet form is the lake's form of a log type.
pub(crate) fn lake_type(log: &DataType) -> DataType {
    match log {
        DataType::Time64(_) | DataType::Time32(_) | DataType::Interval(_) => DataType::Utf8,
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::List(item) => {
            let element = Field::new("element", lake_type(item.data_type()), item.is_nullable());
            DataType::List(Arc::new(element))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(lake_field).collect::<Fields>()),
        other => other.clone(),
    }
}

fn lake_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), lake_type(field.data_type()), field.is_nullable()))
}

/// The Parquet files' schema for a log schema.
pub(crate) fn lake_schema(log: &Schema) -> SchemaRef {
    Arc::new(Schema::new(log.fields().iter().map(lake_field).collect::<Vec<_>>()))
}

/// What readers of the lake see: the log schema with `Utf8View` for top-level text.
pub(crate) fn reader_schema(log: &Schema) -> SchemaRef {
    let view = |field: &FieldRef| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        _ => field.clone(),
    };
    Arc::new(Schema::new(log.fields().iter().map(view).collect::<Vec<_>>()))
}

/// A batch in the lake's schema: columns found by name, absent ones NULL, log types turned into lake types.
pub(crate) fn to_lake(batch: &RecordBatch, lake: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = lake
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => to_lake_column(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<ArrayRef>, _>>()?;
    RecordBatch::try_new(lake.clone(), columns)
}

fn to_lake_column(column: &ArrayRef, lake: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == lake { Ok(column.clone()) } else { cast_with_options(column, lake, &EXACT) }
}

/// The Delta name of a lake type, or `None` for a type that no stream has.
fn delta_type(log: &DataType) -> Option<Value> {
    Some(match log {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "byte".into(),
        DataType::Int16 => "short".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "long".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})").into(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "string".into(),
        DataType::Time64(_) | DataType::Time32(_) | DataType::Interval(_) => "string".into(),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_ntz".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp".into(),
        DataType::List(item) => json!({
            "type": "array",
            "elementType": delta_type(item.data_type())?,
            "containsNull": item.is_nullable(),
        }),
        DataType::Struct(fields) => json!({
            "type": "struct",
            "fields": fields.iter().map(delta_field).collect::<Option<Vec<_>>>()?,
        }),
        _ => return None,
    })
}

/// A field as the Delta schema text has it. The SQL type is kept beside a string that stands for another type.
pub(crate) fn delta_field(field: &FieldRef) -> Option<Value> {
    let mut metadata = Map::new();
    let logical = match field.data_type() {
        DataType::Time64(_) => Some("time"),
        DataType::Interval(_) => Some("interval"),
        _ => field.metadata().get(LOGICAL_TYPE_KEY).map(String::as_str),
    };
    if let Some(logical) = logical {
        metadata.insert(LOGICAL_TYPE_KEY.to_owned(), logical.into());
    }
    Some(json!({
        "name": field.name(),
        "type": delta_type(field.data_type())?,
        "nullable": field.is_nullable(),
        "metadata": metadata,
    }))
}

/// The Arrow field of the stream that a Delta field was made of; `None` for types that no stream has.
pub(crate) fn log_field(delta: &Value) -> Option<Field> {
    let logical = delta["metadata"][LOGICAL_TYPE_KEY].as_str();
    let data_type = match logical {
        Some("time") => DataType::Time64(TimeUnit::Microsecond),
        Some("interval") => DataType::Interval(IntervalUnit::MonthDayNano),
        _ => log_type(&delta["type"])?,
    };
    let field = Field::new(delta["name"].as_str()?, data_type, delta["nullable"] != false);
    Some(match logical.filter(|_| field.data_type() == &DataType::Utf8) {
        Some(logical) => field.with_metadata([(LOGICAL_TYPE_KEY.to_owned(), logical.to_owned())].into()),
        None => field,
    })
}

/// The Arrow type that a Delta type is in the log.
fn log_type(delta: &Value) -> Option<DataType> {
    let Some(name) = delta.as_str() else {
        return Some(match delta["type"].as_str()? {
            "array" => {
                let item = log_type(&delta["elementType"])?;
                DataType::List(Arc::new(Field::new("item", item, delta["containsNull"] != false)))
            }
            "struct" => {
                let fields = delta["fields"].as_array()?.iter();
                DataType::Struct(fields.map(log_field).collect::<Option<Vec<Field>>>()?.into())
            }
            _ => return None,
        });
    };
    Some(match name {
        "boolean" => DataType::Boolean,
        "byte" => DataType::Int8,
        "short" => DataType::Int16,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        decimal => {
            let digits = decimal.strip_prefix("decimal(")?.strip_suffix(')')?;
            let (precision, scale) = digits.split_once(',')?;
            DataType::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
    })
}

/// Whether two Delta types hold the same values: nullability and metadata of nested fields do not matter.
pub(crate) fn same_type(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let fields =
                |o: &Map<String, Value>| o.get("fields").and_then(Value::as_array).cloned().unwrap_or_default();
            let (fa, fb) = (fields(a), fields(b));
            a.get("type") == b.get("type")
                && fa.len() == fb.len()
                && fa.iter().zip(&fb).all(|(x, y)| x["name"] == y["name"] && same_type(&x["type"], &y["type"]))
                && match (a.get("elementType"), b.get("elementType")) {
                    (Some(x), Some(y)) => same_type(x, y),
                    (None, None) => true,
                    _ => false,
                }
        }
        _ => a == b,
    }
}

/// Whether any field, at any depth, is a timestamp without zone: such a table needs the `timestampNtz` feature.
pub(crate) fn has_timestamp_ntz<'a>(fields: impl IntoIterator<Item = &'a FieldRef>) -> bool {
    fields.into_iter().any(|field| match field.data_type() {
        DataType::Timestamp(_, None) => true,
        DataType::List(item) => has_timestamp_ntz([item]),
        DataType::Struct(fields) => has_timestamp_ntz(fields),
        _ => false,
    })
}

/// Whether an array is the same in the log and in the lake, so that its lake statistics are its own.
pub(crate) fn same_in_lake(log: &DataType) -> bool {
    matches!(log, DataType::Utf8 | DataType::Utf8View) || (!log.is_nested() && lake_type(log) == *log)
}

/// Whether a batch's rows are in the order of their partition and offset.
pub(crate) fn is_sorted(partition: &[i32], offset: &[i64], last: &mut Option<(i32, i64)>) -> bool {
    for key in partition.iter().copied().zip(offset.iter().copied()) {
        if last.is_some_and(|last| last > key) {
            return false;
        }
        *last = Some(key);
    }
    true
}

/// The two columns that give a row its place, where the batch has them as integers.
pub(crate) fn place_columns(batch: &RecordBatch) -> Option<(&[i32], &[i64])> {
    use arrow::array::{Int32Array, Int64Array};
    use millstream_catalog::{OFFSET_COLUMN, PARTITION_COLUMN};
    let partition = batch.column_by_name(PARTITION_COLUMN)?.as_any().downcast_ref::<Int32Array>()?;
    let offset = batch.column_by_name(OFFSET_COLUMN)?.as_any().downcast_ref::<Int64Array>()?;
    Some((partition.values(), offset.values()))
}
