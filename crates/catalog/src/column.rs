//! Owns columns and what is declared about them: defaults, checks, the watermark.

use arrow::datatypes::Field;
use serde::{Deserialize, Serialize};

use crate::DataType;

/// A column of a stream or table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, as given (folded to lower case unless it was quoted).
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Whether NULL is taken.
    pub nullable: bool,
    /// The SQL expression for a missing value.
    pub default: Option<String>,
    /// What `COMMENT ON COLUMN` said.
    pub comment: Option<String>,
}

impl Column {
    /// A nullable column without default or comment.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, nullable: true, default: None, comment: None }
    }

    /// The same column, NOT NULL.
    pub fn not_null(self) -> Self {
        Self { nullable: false, ..self }
    }

    /// Its Arrow field.
    pub fn to_field(&self) -> Field {
        self.data_type.to_field(&self.name, self.nullable)
    }
}

/// A CHECK constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name, given or made from the stream and column.
    pub name: String,
    /// The SQL expression; a row passes when it is true or NULL.
    pub expr: String,
}

/// A declared watermark: how far behind the newest event time a row may arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The event time column.
    pub column: String,
    /// The SQL expression over it, `ts - INTERVAL '5' SECOND`.
    pub expr: String,
}

/// The identifier as SQL needs it written: quoted unless it is a plain lower-case word.
pub fn quoted(identifier: &str) -> String {
    let plain = identifier.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && identifier.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { identifier.to_owned() } else { format!("\"{}\"", identifier.replace('"', "\"\"")) }
}
