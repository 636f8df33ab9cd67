//! Owns what the decoders need to know of a stream, worked out once per definition.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use millstream_catalog::{DataType, REST_COLUMN, Stream};

/// Up to this many names, looking through them one by one beats hashing.
const LINEAR_NAMES: usize = 8;

/// Bytes that the place of a row takes, and the note that it lacks a column.
const NOTE_BYTES: usize = 8;

/// A row counts as so many bytes at least: a constraint may refuse it, and then it is noted.
const MIN_ROW_BYTES: usize = 96;

/// A stream's definition as the decoders use it.
#[derive(Debug)]
pub struct Plan {
    version: u32,
    pub(crate) schema: SchemaRef,
    pub(crate) columns: Vec<PlannedColumn>,
    pub(crate) keys: Keys,
    /// The column that keeps unknown fields.
    pub(crate) rest: Option<usize>,
    /// Bytes that a row takes at least, decoded: its columns, its place, and a note for each column it lacks.
    pub(crate) row_bytes: usize,
}

/// A column as the decoders use it.
#[derive(Debug)]
pub(crate) struct PlannedColumn {
    pub name: String,
    pub data_type: DataType,
    /// Whether giving NULL must be told from not giving it: there is a default to take, or NULL is refused.
    pub tracked: bool,
}

impl Plan {
    /// The plan for a stream.
    pub fn new(stream: &Stream) -> Self {
        let fields: Vec<_> = stream.columns.iter().map(|c| c.data_type.to_field(&c.name, true)).collect();
        let columns: Vec<_> = stream
            .columns
            .iter()
            .map(|c| PlannedColumn {
                name: c.name.clone(),
                data_type: c.data_type.clone(),
                tracked: c.default.is_some() || !c.nullable,
            })
            .collect();
        let rest = stream.options.rest.then(|| columns.iter().position(|c| c.name == REST_COLUMN)).flatten();
        let names = columns.iter().map(|c| c.name.as_str());
        let keys = Keys::new(names.enumerate().filter(|(i, _)| Some(*i) != rest));
        let noted = columns.iter().filter(|c| c.tracked).count() + 1;
        let row_bytes = columns.iter().map(|c| fixed_bytes(&c.data_type)).sum::<usize>() + noted * NOTE_BYTES;
        let row_bytes = row_bytes.max(MIN_ROW_BYTES);
        Self { version: stream.version, schema: Arc::new(Schema::new(fields)), columns, keys, rest, row_bytes }
    }

    /// The version of the definition that it was made for.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The columns' names, types and order, every one nullable.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// Bytes that one value of a type takes in its column, even when it is NULL or empty.
pub(crate) fn fixed_bytes(data_type: &DataType) -> usize {
    match data_type {
        DataType::Boolean => 1,
        DataType::SmallInt => 2,
        DataType::Int | DataType::Real | DataType::Date => 4,
        DataType::Text | DataType::Uuid | DataType::Json | DataType::Bytea | DataType::Array(_) => 4,
        DataType::BigInt | DataType::Double | DataType::Time => 8,
        DataType::Timestamp | DataType::TimestampTz => 8,
        DataType::Decimal { .. } | DataType::Interval => 16,
        DataType::Row(fields) => fields.iter().map(|f| fixed_bytes(&f.data_type)).sum::<usize>() + 1,
    }
}

/// The names of a row's fields, found by their bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    names: Vec<(usize, Box<[u8]>)>,
    /// `"name":` for each name that JSON writes without escapes, in order, for guessing the next key.
    quoted: Vec<Box<[u8]>>,
    hashed: HashMap<Box<[u8]>, usize>,
}

impl Keys {
    /// Keys for columns given by index and name.
    pub fn new<'a>(columns: impl Iterator<Item = (usize, &'a str)>) -> Self {
        let names: Vec<(usize, Box<[u8]>)> = columns.map(|(i, name)| (i, name.as_bytes().into())).collect();
        let width = names.iter().map(|(i, _)| i + 1).max().unwrap_or(0);
        let mut quoted: Vec<Box<[u8]>> = vec![Box::default(); width];
        for (i, name) in &names {
            if name.iter().all(|b| *b >= b' ' && *b != b'"' && *b != b'\\') {
                quoted[*i] = [b"\"", name.as_ref(), b"\":"].concat().into();
            }
        }
        let hashed = if names.len() > LINEAR_NAMES {
            names.iter().map(|(i, name)| (name.clone(), *i)).collect()
        } else {
            HashMap::new()
        };
        Self { names, quoted, hashed }
    }

    /// Whether the text goes on with column `expected`'s key and a colon: their length, if so.
    #[inline]
    pub fn predict(&self, expected: usize, text: &[u8]) -> Option<usize> {
        let quoted = self.quoted.get(expected)?;
        (!quoted.is_empty() && text.starts_with(quoted)).then_some(quoted.len())
    }

    /// The column of that name.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        if self.hashed.is_empty() {
            return self.names.iter().find(|(_, n)| n.as_ref() == name).map(|(i, _)| *i);
        }
        self.hashed.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_predicted_and_found_exactly() {
        for count in [3, 20] {
            let names: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
            let keys = Keys::new(names.iter().map(String::as_str).enumerate());
            assert_eq!(keys.predict(1, b"\"c1\": 5"), Some(5));
            assert_eq!(keys.predict(1, b"\"c2\": 5"), None);
            assert_eq!(keys.predict(99, b"\"c2\": 5"), None);
            assert_eq!(keys.find(b"c2"), Some(2));
            assert_eq!(keys.find(b"C2"), None);
            assert_eq!(keys.find(b""), None);
        }
    }

    #[test]
    fn a_name_that_json_escapes_is_not_predicted_but_found() {
        let keys = Keys::new([(0, "a\"b")].into_iter());
        assert_eq!(keys.predict(0, b"\"a\"b\":1"), None);
        assert_eq!(keys.find(b"a\"b"), Some(0));
    }
}
