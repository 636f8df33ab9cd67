//! Owns PostgreSQL's numbers for SQL types: OID, size and modifier.

use arrow::datatypes::{DataType, Field};
use pgwire::messages::data::FieldDescription;

use crate::sql_type::SqlType;

pub(super) const BOOL: u32 = 16;
pub(super) const BYTEA: u32 = 17;
pub(super) const CHAR: u32 = 18;
pub(super) const NAME: u32 = 19;
pub(super) const INT8: u32 = 20;
pub(super) const INT2: u32 = 21;
pub(super) const INT4: u32 = 23;
pub(super) const TEXT: u32 = 25;
pub(super) const OID: u32 = 26;
pub(super) const JSON: u32 = 114;
pub(super) const FLOAT4: u32 = 700;
pub(super) const FLOAT8: u32 = 701;
pub(super) const UNKNOWN: u32 = 705;
pub(super) const BPCHAR: u32 = 1042;
pub(super) const VARCHAR: u32 = 1043;
pub(super) const DATE: u32 = 1082;
pub(super) const TIME: u32 = 1083;
pub(super) const TIMESTAMP: u32 = 1114;
pub(super) const TIMESTAMPTZ: u32 = 1184;
pub(super) const INTERVAL: u32 = 1186;
pub(super) const NUMERIC: u32 = 1700;
pub(super) const UUID: u32 = 2950;
pub(super) const JSONB: u32 = 3802;

/// Array types and the type of their items.
const ARRAYS: [(u32, u32); 19] = [
    (1000, BOOL),
    (1001, BYTEA),
    (1005, INT2),
    (1007, INT4),
    (1009, TEXT),
    (1014, BPCHAR),
    (1015, VARCHAR),
    (1016, INT8),
    (1028, OID),
    (1021, FLOAT4),
    (1022, FLOAT8),
    (1115, TIMESTAMP),
    (1182, DATE),
    (1183, TIME),
    (1185, TIMESTAMPTZ),
    (1187, INTERVAL),
    (1231, NUMERIC),
    (2951, UUID),
    (199, JSON),
];

/// The items' type of an array type.
pub(super) fn item_of(array: u32) -> Option<u32> {
    ARRAYS.iter().find(|(oid, _)| *oid == array).map(|(_, item)| *item)
}

/// The OID of the type that a parameter is to have: an array of unsigned numbers is one of OIDs, as drivers that ask for
/// types give them.
pub(super) fn of_parameter(data_type: &DataType) -> u32 {
    match data_type {
        DataType::List(item) if *item.data_type() == DataType::UInt32 => 1028,
        other => of(&SqlType::of(&Field::new("", other.clone(), true))),
    }
}

/// The OID of a type.
pub(super) fn of(sql_type: &SqlType) -> u32 {
    if sql_type.is_json_on_the_wire() {
        return JSON;
    }
    match sql_type {
        SqlType::Bool => BOOL,
        SqlType::Int2 => INT2,
        SqlType::Int4 => INT4,
        SqlType::Int8 => INT8,
        SqlType::Float4 => FLOAT4,
        SqlType::Float8 => FLOAT8,
        SqlType::Numeric { .. } => NUMERIC,
        SqlType::Text => TEXT,
        SqlType::Bytea => BYTEA,
        SqlType::Date => DATE,
        SqlType::Time => TIME,
        SqlType::Timestamp => TIMESTAMP,
        SqlType::TimestampTz => TIMESTAMPTZ,
        SqlType::Interval => INTERVAL,
        SqlType::Uuid => UUID,
        SqlType::Json | SqlType::Row(_) => JSON,
        SqlType::Array(item) => {
            let item = of(item);
            ARRAYS.iter().find(|(_, of_array)| *of_array == item).map_or(JSON, |(array, _)| *array)
        }
    }
}

/// A result column as RowDescription tells it; `binary` is its format.
pub(super) fn describe(name: &str, sql_type: &SqlType, binary: bool) -> FieldDescription {
    FieldDescription::new(
        name.to_owned(),
        0,
        0,
        of(sql_type),
        size_of(sql_type),
        modifier_of(sql_type),
        i16::from(binary),
    )
}

/// Bytes of a value; −1 where they vary.
fn size_of(sql_type: &SqlType) -> i16 {
    match sql_type {
        SqlType::Bool => 1,
        SqlType::Int2 => 2,
        SqlType::Int4 | SqlType::Float4 | SqlType::Date => 4,
        SqlType::Int8 | SqlType::Float8 | SqlType::Time | SqlType::Timestamp | SqlType::TimestampTz => 8,
        SqlType::Interval | SqlType::Uuid => 16,
        _ => -1,
    }
}

/// Precision and scale of decimals, as PostgreSQL packs them.
fn modifier_of(sql_type: &SqlType) -> i32 {
    match sql_type {
        SqlType::Numeric { precision, scale } => (i32::from(*precision) << 16 | i32::from(*scale) & 0x7ff) + 4,
        _ => -1,
    }
}
