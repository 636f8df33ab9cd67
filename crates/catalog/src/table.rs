//! Owns what makes a relation a table: its primary key, its generated columns, how its files are laid out.
//!
//! A table is described by a [`crate::Stream`] with a [`TableSpec`] in it: both have typed columns, defaults and
//! checks, a log and a Delta table. A stream's rows only come; a table's rows also change and go.

use serde::{Deserialize, Serialize};

/// How a row of a table's log changes the table; the column that says it comes behind the table's own.
pub const CHANGE_COLUMN: &str = "_change";
/// The column of a table's log with the number of the row that comes or goes.
pub const ROW_COLUMN: &str = "_row";
/// The column of a table's log that names files with rows, for changes that are too large for the log.
pub const FILES_COLUMN: &str = "_files";

/// A PRIMARY KEY constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryKey {
    /// The constraint's name: `<table>_pkey` unless it was given one.
    pub name: String,
    /// The key's columns, in the order they were declared; each is NOT NULL.
    pub columns: Vec<String>,
}

/// A column whose value is always computed from others: `GENERATED ALWAYS AS (expression) STORED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// The column.
    pub column: String,
    /// The SQL expression over the table's other columns.
    pub expression: String,
}

/// What a table has beyond what every stream has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// The primary key.
    #[serde(default)]
    pub primary_key: Option<PrimaryKey>,
    /// Generated columns.
    #[serde(default)]
    pub generated: Vec<Generated>,
    /// The columns whose values choose the folder of a row's file in the lake: `PARTITIONED BY`.
    #[serde(default)]
    pub partitioned_by: Vec<String>,
    /// The columns that files are sorted by: `ORDER BY`.
    #[serde(default)]
    pub sorted_by: Vec<String>,
    /// Where the Delta table lies, when it is one that others made; `None` is in the lake, by name.
    #[serde(default)]
    pub location: Option<String>,
}
