//! Owns which SQL type an Arrow column is to a client: its name, and the Arrow form that the writers take.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use millstream_catalog::LOGICAL_TYPE_KEY;

/// A result column's or parameter's SQL type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlType {
    /// `boolean`.
    Bool,
    /// `smallint`.
    Int2,
    /// `int`.
    Int4,
    /// `bigint`; unsigned 64-bit values too, as window functions give them.
    Int8,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `decimal(p,s)`.
    Numeric {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// `text`.
    Text,
    /// `bytea`.
    Bytea,
    /// `date`.
    Date,
    /// `time`.
    Time,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    TimestampTz,
    /// `interval`.
    Interval,
    /// `uuid`, carried as text.
    Uuid,
    /// `json`, carried as text.
    Json,
    /// `row(…)` and maps.
    Row(Vec<(String, SqlType)>),
    /// `T[]`.
    Array(Box<SqlType>),
}

impl SqlType {
    /// The type of a column.
    pub fn of(field: &Field) -> Self {
        let marked = field.metadata().get(LOGICAL_TYPE_KEY).map(String::as_str);
        Self::of_type(field.data_type(), marked)
    }

    fn of_type(data_type: &DataType, marked: Option<&str>) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Self::Int2,
            DataType::UInt16 | DataType::Int32 => Self::Int4,
            DataType::UInt32 | DataType::Int64 | DataType::UInt64 => Self::Int8,
            DataType::Float16 | DataType::Float32 => Self::Float4,
            DataType::Float64 => Self::Float8,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => Self::Numeric { precision: *precision, scale: *scale },
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => match marked {
                Some("uuid") => Self::Uuid,
                Some("json") => Self::Json,
                _ => Self::Text,
            },
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytea
            }
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::TimestampTz,
            DataType::Interval(_) | DataType::Duration(_) => Self::Interval,
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _) => Self::Array(Box::new(Self::of(item))),
            DataType::Struct(fields) => {
                Self::Row(fields.iter().map(|field| (field.name().clone(), Self::of(field))).collect())
            }
            DataType::Dictionary(_, values) => Self::of_type(values, marked),
            DataType::RunEndEncoded(_, values) => Self::of(values),
            DataType::Map(..) | DataType::Union(..) => Self::Json,
        }
    }

    /// The one Arrow type that values of this SQL type are written from; the others are cast to it.
    pub(crate) fn arrow_form(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Numeric { precision, scale } if *precision > 38 => DataType::Decimal256(*precision, *scale),
            Self::Numeric { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Text | Self::Uuid | Self::Json => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Array(item) => DataType::List(Arc::new(Field::new("item", item.arrow_form(), true))),
            Self::Row(fields) => {
                DataType::Struct(fields.iter().map(|(name, item)| Field::new(name, item.arrow_form(), true)).collect())
            }
        }
    }

    /// Whether PostgreSQL's wire has no type for it, so that it goes out as `json` there: rows, and arrays of
    /// arrays or rows.
    pub(crate) fn is_json_on_the_wire(&self) -> bool {
        match self {
            Self::Json | Self::Row(_) => true,
            Self::Array(item) => matches!(**item, Self::Array(_)) || matches!(**item, Self::Row(_)),
            _ => false,
        }
    }
}

impl std::fmt::Display for SqlType {
    /// The name as `DESCRIBE` spells it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "int",
            Self::Int8 => "bigint",
            Self::Float4 => "real",
            Self::Float8 => "double precision",
            Self::Numeric { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            Self::Text => "text",
            Self::Bytea => "bytea",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Interval => "interval",
            Self::Uuid => "uuid",
            Self::Json => "json",
            Self::Array(item) => return write!(f, "{item}[]"),
            Self::Row(fields) => {
                f.write_str("row(")?;
                for (i, (name, item)) in fields.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{name} {item}")?;
                }
                return f.write_str(")");
            }
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sql_names() {
        let field = |data_type| Field::new("x", data_type, true);
        let name = |data_type| SqlType::of(&field(data_type)).to_string();
        assert_eq!(name(DataType::Int64), "bigint");
        assert_eq!(name(DataType::UInt64), "bigint");
        assert_eq!(name(DataType::Utf8View), "text");
        assert_eq!(name(DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))), "timestamptz");
        assert_eq!(name(DataType::Decimal128(12, 2)), "decimal(12,2)");
        assert_eq!(name(DataType::List(Arc::new(field(DataType::Int32)))), "int[]");
        assert_eq!(name(DataType::Struct(vec![field(DataType::Boolean)].into())), "row(x boolean)");
    }

    #[test]
    fn uuid_and_json_are_told_by_the_fields_metadata() {
        let marked = |mark: &str| {
            Field::new("x", DataType::Utf8, true)
                .with_metadata([(LOGICAL_TYPE_KEY.to_owned(), mark.to_owned())].into_iter().collect())
        };
        assert_eq!(SqlType::of(&marked("uuid")), SqlType::Uuid);
        assert_eq!(SqlType::of(&marked("json")), SqlType::Json);
    }
}
