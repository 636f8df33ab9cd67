//! Owns the fields of a JSON sample. Values are looked at while they are parsed and never built.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::invalid;
use super::shape::{Shape, unite_fields};
use super::text::TextKind;
use crate::Result;

/// The fields of all objects, in the order in which they first appear.
pub(super) fn fields(sample: &[u8]) -> Result<Vec<(String, Shape)>> {
    let mut fields = Vec::new();
    let first = sample.iter().find(|b| !b.is_ascii_whitespace());
    if first == Some(&b'[') {
        let all: Shape = serde_json::from_slice(sample)
            .map_err(|e| invalid(format!("the sample is not a JSON array of objects: {e}")))?;
        return match all {
            Shape::Array(item) => match *item {
                Shape::Row(found) => Ok(found),
                Shape::Unknown => Ok(fields),
                _ => Err(invalid("the sample is a JSON array, but not all of its elements are objects")),
            },
            _ => Err(invalid("the sample is not a JSON array of objects")),
        };
    }
    for (i, line) in sample.split(|b| *b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(Shape::Row(found)) => unite_fields(&mut fields, found),
            Ok(_) => return Err(invalid(format!("the sample's line {} is not a JSON object", i + 1))),
            Err(e) => {
                let (line, column) = (i + 1, e.column());
                let text = e.to_string();
                let reason = text.split(" at line ").next().unwrap_or_default();
                return Err(invalid(format!("the sample's line {line} is not JSON at column {column}: {reason}")));
            }
        }
    }
    Ok(fields)
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Unknown)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Int)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Shape, E> {
        Ok(if i64::try_from(number).is_ok() { Shape::Int } else { Shape::BigUnsigned })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Double)
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(TextKind::of(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::Unknown;
        while let Some(item) = items.next_element::<Shape>()? {
            shape.widen(item);
        }
        Ok(Shape::Array(Box::new(shape)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, shape)) = entries.next_entry::<String, Shape>()? {
            fields.push((name, shape));
        }
        Ok(Shape::Row(fields))
    }
}
