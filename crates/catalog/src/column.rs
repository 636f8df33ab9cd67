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

/// Words that cannot stand unquoted where SQL expects a name: PostgreSQL's reserved words, and those that begin an
/// entry of a CREATE STREAM's column list.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "comment",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "generated",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "if",
    "ilike",
    "in",
    "index",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "key",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "partition",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "sample",
    "select",
    "session_user",
    "set",
    "setof",
    "similar",
    "smallint",
    "some",
    "stream",
    "substring",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "watermark",
    "when",
    "where",
    "window",
    "with",
];

/// The identifier as SQL needs it written: quoted unless it is a plain lower-case word that is not reserved.
pub fn quoted(identifier: &str) -> String {
    let plain = identifier.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && identifier.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && RESERVED.binary_search(&identifier).is_err();
    if plain { identifier.to_owned() } else { format!("\"{}\"", identifier.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_stand_without_quotes() {
        assert!(RESERVED.is_sorted());
        let pairs = [
            ("carrier", "carrier"),
            ("_x1", "_x1"),
            ("Carrier", "\"Carrier\""),
            ("select", "\"select\""),
            ("a b", "\"a b\""),
            ("a\"b", "\"a\"\"b\""),
            ("1a", "\"1a\""),
            ("", "\"\""),
        ];
        for (name, sql) in pairs {
            assert_eq!(quoted(name), sql);
        }
    }
}
