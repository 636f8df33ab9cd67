//! Owns the SQL types of columns and their Arrow forms.
//!
//! | SQL | Arrow in the log | in the lake (Delta) |
//! | --- | --- | --- |
//! | BOOLEAN | Boolean | boolean |
//! | SMALLINT, INT, BIGINT | Int16, Int32, Int64 | short, integer, long |
//! | REAL, DOUBLE PRECISION | Float32, Float64 | float, double |
//! | DECIMAL(p, s), p ≤ 38 | Decimal128 | decimal |
//! | TEXT | Utf8 | string |
//! | BYTEA | Binary | binary |
//! | DATE | Date32 | date |
//! | TIME | Time64(µs) | string |
//! | TIMESTAMP | Timestamp(µs) | timestamp_ntz |
//! | TIMESTAMPTZ | Timestamp(µs, UTC) | timestamp |
//! | INTERVAL | Interval(MonthDayNano) | string |
//! | UUID, JSON | Utf8, marked by field metadata | string |
//! | T[] | List | array |
//! | ROW(…) | Struct | struct |

use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, Fields, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

/// The field metadata key that tells UUID and JSON columns from plain text.
pub const LOGICAL_TYPE_KEY: &str = "millstream.type";

/// A column's SQL type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// True or false.
    Boolean,
    /// 16-bit integer.
    SmallInt,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    BigInt,
    /// 32-bit float.
    Real,
    /// 64-bit float.
    Double,
    /// Exact decimal of up to 38 digits.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytea,
    /// Calendar date.
    Date,
    /// Time of day, microseconds.
    Time,
    /// Date and time without zone, microseconds.
    Timestamp,
    /// Instant, microseconds, kept as UTC.
    TimestampTz,
    /// Months, days and nanoseconds.
    Interval,
    /// UUID, kept as its lower-case text.
    Uuid,
    /// JSON, kept as its text.
    Json,
    /// List of one type.
    Array(Box<DataType>),
    /// Nested row.
    Row(Vec<RowField>),
}

/// A field of a nested row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
}

impl DataType {
    /// The Arrow type that batches carry.
    pub fn to_arrow(&self) -> ArrowType {
        match self {
            DataType::Boolean => ArrowType::Boolean,
            DataType::SmallInt => ArrowType::Int16,
            DataType::Int => ArrowType::Int32,
            DataType::BigInt => ArrowType::Int64,
            DataType::Real => ArrowType::Float32,
            DataType::Double => ArrowType::Float64,
            DataType::Decimal { precision, scale } => ArrowType::Decimal128(*precision, *scale),
            DataType::Text | DataType::Uuid | DataType::Json => ArrowType::Utf8,
            DataType::Bytea => ArrowType::Binary,
            DataType::Date => ArrowType::Date32,
            DataType::Time => ArrowType::Time64(TimeUnit::Microsecond),
            DataType::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, None),
            DataType::TimestampTz => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Interval => ArrowType::Interval(IntervalUnit::MonthDayNano),
            DataType::Array(item) => ArrowType::List(Arc::new(item.to_field("item", true))),
            DataType::Row(fields) => {
                ArrowType::Struct(fields.iter().map(|f| f.data_type.to_field(&f.name, true)).collect::<Fields>())
            }
        }
    }

    /// An Arrow field of this type; UUID and JSON are marked in its metadata under [`LOGICAL_TYPE_KEY`].
    pub fn to_field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.to_arrow(), nullable);
        match self {
            DataType::Uuid | DataType::Json => {
                field.with_metadata([(LOGICAL_TYPE_KEY.to_owned(), self.to_string())].into_iter().collect())
            }
            _ => field,
        }
    }
}

impl std::fmt::Display for DataType {
    /// The type as `DESCRIBE` and `SHOW CREATE` spell it, in lower case.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            DataType::Boolean => "boolean",
            DataType::SmallInt => "smallint",
            DataType::Int => "int",
            DataType::BigInt => "bigint",
            DataType::Real => "real",
            DataType::Double => "double precision",
            DataType::Decimal { precision, scale } => {
                return write!(f, "decimal({precision},{scale})");
            }
            DataType::Text => "text",
            DataType::Bytea => "bytea",
            DataType::Date => "date",
            DataType::Time => "time",
            DataType::Timestamp => "timestamp",
            DataType::TimestampTz => "timestamptz",
            DataType::Interval => "interval",
            DataType::Uuid => "uuid",
            DataType::Json => "json",
            DataType::Array(item) => return write!(f, "{item}[]"),
            DataType::Row(fields) => {
                f.write_str("row(")?;
                for (i, field) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{} {}", crate::column::quoted(&field.name), field.data_type)?;
                }
                return f.write_str(")");
            }
        };
        f.write_str(name)
    }
}
