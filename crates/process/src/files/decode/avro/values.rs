//! Owns what Avro's values are here: those of the library brought to the types that columns have.
//!
//! | Avro | here |
//! | --- | --- |
//! | uuid, on a string or 16 bytes | uuid |
//! | fixed, enum | bytea, text |
//! | times and timestamps of any unit | those in microseconds |
//! | a union of more than one type and null | json |
//! | map | a map of Arrow's, as in Parquet |

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, StringArray, StructArray, UnionArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType as ArrowType, Field, FieldRef, TimeUnit};
use arrow::error::ArrowError;
use millstream_catalog::DataType;
use uuid::Uuid;

use crate::files::cast::to_json;

/// A column as it is here.
pub(super) fn settled(field: &Field, values: &ArrayRef) -> Result<(Field, ArrayRef), ArrowError> {
    let plain = |values: ArrayRef| (Field::new(field.name(), values.data_type().clone(), true), values);
    let to = |target: ArrowType| cast(values, &target).map(plain);
    match values.data_type() {
        ArrowType::FixedSizeBinary(16) if is_uuid(field) => {
            Ok((DataType::Uuid.to_field(field.name(), true), uuids(values)))
        }
        ArrowType::FixedSizeBinary(_) => to(ArrowType::Binary),
        ArrowType::Dictionary(_, inner) => to(inner.as_ref().clone()),
        ArrowType::Time32(_) | ArrowType::Time64(TimeUnit::Nanosecond) => to(ArrowType::Time64(TimeUnit::Microsecond)),
        ArrowType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            to(ArrowType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        ArrowType::Decimal256(_, scale) => to(ArrowType::Decimal128(38, *scale)),
        ArrowType::Null => Ok(plain(new_null_array(&ArrowType::Utf8, values.len()))),
        ArrowType::List(item) => {
            let list = values.as_list::<i32>();
            let (item, items) = settled(item, list.values())?;
            let list = ListArray::try_new(Arc::new(item), list.offsets().clone(), items, list.nulls().cloned())?;
            Ok(plain(Arc::new(list)))
        }
        ArrowType::Struct(fields) if fields.is_empty() => {
            let empty = (0..values.len()).map(|row| (!values.is_null(row)).then_some("{}"));
            Ok((DataType::Json.to_field(field.name(), true), Arc::new(empty.collect::<StringArray>())))
        }
        ArrowType::Struct(_) => Ok(plain(Arc::new(settled_fields(values.as_struct())?))),
        ArrowType::Map(entries, sorted) => {
            let map = values.as_map();
            let inner = settled_entries(map)?;
            let entries = entries.as_ref().clone().with_data_type(inner.data_type().clone());
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(plain(Arc::new(MapArray::try_new(Arc::new(entries), offsets, inner, nulls, *sorted)?)))
        }
        ArrowType::Union(..) => Ok((DataType::Json.to_field(field.name(), true), of_union(values.as_union())?)),
        _ => Ok(plain(Arc::clone(values))),
    }
}

fn settled_fields(record: &StructArray) -> Result<StructArray, ArrowError> {
    let columns = record.fields().iter().zip(record.columns()).map(|(field, values)| settled(field, values));
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    StructArray::try_new(fields.into(), columns, record.nulls().cloned())
}

/// The keys of a map as they are, never NULL, and its values.
fn settled_entries(map: &MapArray) -> Result<StructArray, ArrowError> {
    let [key, value] = map.entries().fields().as_ref() else {
        return Err(ArrowError::AvroError("a map has no values".to_owned()));
    };
    let (value, values) = settled(value, map.values())?;
    let fields: Vec<FieldRef> = vec![Arc::clone(key), Arc::new(value)];
    StructArray::try_new(fields.into(), vec![Arc::clone(map.keys()), values], None)
}

fn is_uuid(field: &Field) -> bool {
    field.metadata().get("logicalType").is_some_and(|logical| logical.trim_matches('"') == "uuid")
}

fn uuids(values: &ArrayRef) -> ArrayRef {
    let bytes = values.as_fixed_size_binary().iter();
    let texts = bytes.map(|bytes| bytes.and_then(|b| Uuid::from_slice(b).ok()).map(|uuid| uuid.to_string()));
    Arc::new(texts.collect::<StringArray>())
}

/// Each value of a union as the JSON of the type that it has.
fn of_union(union: &UnionArray) -> Result<ArrayRef, ArrowError> {
    let ArrowType::Union(fields, _) = union.data_type() else { return Err(not_told("a union")) };
    let mut texts: Vec<(i8, Option<StringArray>)> = Vec::new();
    for (id, field) in fields.iter() {
        let child = union.child(id);
        let text = match child.data_type() {
            ArrowType::Null => None,
            _ => {
                let (field, child) = settled(field, child)?;
                let json = to_json(&child, &field).map_err(|e| not_told(&e.to_string()))?;
                Some(json.as_string::<i32>().clone())
            }
        };
        texts.push((id, text));
    }
    let of_row = |row: usize| {
        let (id, at) = (union.type_id(row), union.value_offset(row));
        let (_, text) = texts.iter().find(|(of, _)| *of == id)?;
        text.as_ref().filter(|text| !text.is_null(at)).map(|text| text.value(at))
    };
    Ok(Arc::new((0..union.len()).map(of_row).collect::<StringArray>()))
}

fn not_told(what: &str) -> ArrowError {
    ArrowError::AvroError(format!("values of a union cannot be told: {what}"))
}

fn cast(values: &ArrayRef, target: &ArrowType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(values.as_ref(), target, &CastOptions { safe: false, ..CastOptions::default() })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, NullArray};
    use arrow::buffer::ScalarBuffer;
    use arrow::datatypes::{UnionFields, UnionMode};

    use super::*;

    #[test]
    fn a_union_is_the_json_of_its_values() {
        let fields = UnionFields::try_new(
            [0, 1, 2],
            [
                Field::new("null", ArrowType::Null, true),
                Field::new("long", ArrowType::Int64, false),
                Field::new("string", ArrowType::Utf8, false),
            ],
        )
        .unwrap();
        let children: Vec<ArrayRef> = vec![
            Arc::new(NullArray::new(1)),
            Arc::new(Int64Array::from(vec![7])),
            Arc::new(StringArray::from(vec!["a\"b"])),
        ];
        let ids = ScalarBuffer::from(vec![2_i8, 0, 1]);
        let offsets = ScalarBuffer::from(vec![0_i32, 0, 0]);
        let union: ArrayRef = Arc::new(UnionArray::try_new(fields.clone(), ids, Some(offsets), children).unwrap());
        let (field, values) =
            settled(&Field::new("u", ArrowType::Union(fields, UnionMode::Dense), true), &union).unwrap();
        assert_eq!(field, DataType::Json.to_field("u", true));
        let texts: Vec<Option<&str>> = values.as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("\"a\\\"b\""), None, Some("7")]);
    }
}
