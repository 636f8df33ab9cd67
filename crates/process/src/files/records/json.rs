//! Owns the cutting of JSON objects that stand one per line.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use millstream_catalog::fault::Code;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Cell, Cut, Cutter, NOT_UTF8, line};

/// Cuts lines of JSON into records.
pub(crate) struct JsonCutter {
    columns: HashMap<String, usize>,
    /// Which columns keep JSON as it is written.
    verbatim: Vec<bool>,
    cells: Vec<Value>,
    /// Fields that are no columns.
    unknown: u64,
}

/// A field's value.
#[derive(Debug, Clone, Default)]
enum Value {
    #[default]
    Missing,
    Null,
    Text(String),
}

impl JsonCutter {
    /// Takes the fields of these names; those that are `verbatim` keep their JSON text.
    pub(crate) fn new(columns: &[(String, bool)]) -> Self {
        Self {
            columns: columns.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect(),
            verbatim: columns.iter().map(|(_, verbatim)| *verbatim).collect(),
            cells: vec![Value::Missing; columns.len()],
            unknown: 0,
        }
    }

    /// How many fields so far were no columns.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown
    }

    fn read(&mut self, text: &str) -> Result<(), String> {
        self.cells.fill(Value::Missing);
        let mut parser = serde_json::Deserializer::from_str(text);
        let fields = Fields {
            columns: &self.columns,
            verbatim: &self.verbatim,
            cells: &mut self.cells,
            unknown: &mut self.unknown,
        };
        let read = parser.deserialize_map(fields).and_then(|()| parser.end());
        read.map_err(|e| {
            let reason = e.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            if text.trim_start().starts_with('[') {
                return "an array is not read: write one JSON object per line".to_owned();
            }
            format!("this is not a JSON object, at column {}: {reason}", e.column())
        })
    }
}

impl Cutter for JsonCutter {
    fn cut(&mut self, input: &[u8], at_end: bool) -> Cut {
        let Some((taken, length)) = line(input, at_end) else { return Cut::Incomplete };
        let bytes = &input[..length];
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Cut::Blank { taken };
        }
        let (reason, code) = match std::str::from_utf8(bytes) {
            Ok(text) => match self.read(text) {
                Ok(()) => return Cut::Record { taken, length, lines: 1 },
                Err(reason) => (reason, Code::BadFile),
            },
            Err(_) => (NOT_UTF8.to_owned(), Code::InvalidEncoding),
        };
        Cut::Bad { taken, length, lines: 1, reason, code }
    }

    fn cell<'a>(&'a self, _input: &'a [u8], column: usize) -> Cell<'a> {
        match &self.cells[column] {
            Value::Missing => Cell::Missing,
            Value::Null => Cell::Null,
            Value::Text(text) => Cell::Text(text.as_bytes()),
        }
    }

    fn columns(&self) -> usize {
        self.cells.len()
    }
}

/// Takes an object's fields into cells.
struct Fields<'a> {
    columns: &'a HashMap<String, usize>,
    verbatim: &'a [bool],
    cells: &'a mut [Value],
    unknown: &'a mut u64,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(name) = entries.next_key::<Cow<'de, str>>()? {
            match self.columns.get(name.as_ref()) {
                Some(column) => self.cells[*column] = cell(entries.next_value()?, self.verbatim[*column]),
                None => {
                    entries.next_value::<IgnoredAny>()?;
                    *self.unknown += 1;
                }
            }
        }
        Ok(())
    }
}

fn cell(raw: &RawValue, verbatim: bool) -> Value {
    let text = raw.get();
    if text == "null" {
        return Value::Null;
    }
    if !verbatim && text.starts_with('"') {
        return match serde_json::from_str(text) {
            Ok(plain) => Value::Text(plain),
            // A lone surrogate: there is no text for it.
            Err(_) => Value::Text(text.to_owned()),
        };
    }
    Value::Text(text.to_owned())
}
