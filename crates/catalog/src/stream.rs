//! Owns the definition of a stream, its options, and positions in it.

use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Check, Column, DataType, Error, LakePolicy, ObjectName, Result, TableSpec, Watermark};

/// The partition a row lies in; selectable by name.
pub const PARTITION_COLUMN: &str = "_partition";
/// A row's offset in its partition; selectable by name.
pub const OFFSET_COLUMN: &str = "_offset";
/// When a row was accepted; selectable by name.
pub const INGEST_TIME_COLUMN: &str = "_ingest_time";
/// The three columns every stream has beside its own, in lake order.
pub const HIDDEN_COLUMNS: [&str; 3] = [PARTITION_COLUMN, OFFSET_COLUMN, INGEST_TIME_COLUMN];
/// The JSON column that keeps unknown fields when `rest = true`; an ordinary, visible column.
pub const REST_COLUMN: &str = "_rest";

/// A stream's identity: it stays when the stream is renamed and is never used again after a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId(pub Uuid);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// After an fsync.
    #[default]
    Fsync,
    /// After the write reached the operating system; lost if the machine, not the process, crashes.
    Os,
}

/// What `WITH (…)` sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOptions {
    /// How many partitions, 1 to 1024. Set at CREATE.
    pub partitions: u32,
    /// `hot`: the log keeps rows at least this long, ms; `None` keeps them until they are in the lake.
    pub retention_ms: Option<u64>,
    /// The log keeps at most this many bytes of rows that are in the lake already.
    pub retention_bytes: Option<u64>,
    /// When an append is acknowledged.
    pub durability: Durability,
    /// Keep unknown JSON fields in the `_rest` column.
    pub rest: bool,
    /// `expire`: rows older than this go, ms. `None` keeps them for ever.
    pub lake_retention_ms: Option<u64>,
    /// How its files in the lake are looked after.
    #[serde(default, skip_serializing_if = "LakePolicy::is_default")]
    pub policy: LakePolicy,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            partitions: 1,
            retention_ms: None,
            retention_bytes: None,
            durability: Durability::Fsync,
            rest: false,
            lake_retention_ms: None,
            policy: LakePolicy::default(),
        }
    }
}

/// A stream: an append-only, typed, partitioned log with one name for its newest row and its whole history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its identity.
    pub id: StreamId,
    /// Its name.
    pub name: ObjectName,
    /// Its columns, in order; `_rest` is the last one when the stream keeps unknown fields.
    pub columns: Vec<Column>,
    /// Constraints that every row must pass.
    pub checks: Vec<Check>,
    /// The declared watermark.
    pub watermark: Option<Watermark>,
    /// Columns whose values choose the partition; empty spreads requests round robin.
    pub partition_by: Vec<String>,
    /// Options.
    pub options: StreamOptions,
    /// What `COMMENT ON STREAM` said.
    pub comment: Option<String>,
    /// Counts definitions: 1 at CREATE, one more with each ALTER.
    pub version: u32,
    /// When it was created, ms since 1970.
    pub created_at_ms: i64,
    /// What makes it a table; `None` for a stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableSpec>,
}

impl Stream {
    /// `table` or `stream`, for messages.
    pub fn kind(&self) -> &'static str {
        if self.table.is_some() { "table" } else { "stream" }
    }

    /// The name of its folder in the lake: its own, unless it was renamed.
    pub fn folder(&self) -> ObjectName {
        let folder = self.table.as_ref().and_then(|table| table.folder.as_deref());
        folder.and_then(|folder| ObjectName::new(self.name.schema(), folder).ok()).unwrap_or_else(|| self.name.clone())
    }

    /// The version of its definition that its files have the columns of; 0 while they have those of the first.
    pub fn reshaped(&self) -> u32 {
        self.table.as_ref().and_then(|table| table.reshape.as_ref()).map_or(0, |reshape| reshape.version)
    }

    /// The columns as Arrow fields: what producers send, the log keeps and `SELECT *` shows.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::to_field).collect::<Vec<_>>()))
    }

    /// [`Stream::schema`] with the hidden columns behind: what readers can name.
    pub fn full_schema(&self) -> SchemaRef {
        let mut fields: Vec<Field> = self.columns.iter().map(Column::to_field).collect();
        fields.push(Field::new(PARTITION_COLUMN, ArrowType::Int32, false));
        fields.push(Field::new(OFFSET_COLUMN, ArrowType::Int64, false));
        let time = ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        fields.push(Field::new(INGEST_TIME_COLUMN, time, false));
        Arc::new(Schema::new(fields))
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Checks what can be checked without evaluating SQL: names, counts, references between the parts.
    pub fn validate(&self) -> Result<()> {
        let invalid =
            |reason: String| Error::InvalidDefinition { object: format!("{} {}", self.kind(), self.name), reason };
        if self.columns.is_empty() {
            return Err(invalid("it has no columns; give at least one".into()));
        }
        if !(1..=1024).contains(&self.options.partitions) {
            return Err(invalid(format!("partitions = {} is outside 1 to 1024", self.options.partitions)));
        }
        for (i, column) in self.columns.iter().enumerate() {
            if column.name.is_empty() || column.name.len() > 63 {
                return Err(invalid(format!("column name {:?} must have 1 to 63 bytes", column.name)));
            }
            if HIDDEN_COLUMNS.contains(&column.name.as_str()) {
                return Err(invalid(format!("column name {:?} is reserved", column.name)));
            }
            if column.name == REST_COLUMN && column.data_type != DataType::Json {
                return Err(invalid("column \"_rest\" must be of type json".into()));
            }
            if self.columns[..i].iter().any(|c| c.name.eq_ignore_ascii_case(&column.name)) {
                return Err(invalid(format!("column {:?} is named twice", column.name)));
            }
        }
        for name in &self.partition_by {
            match self.column(name).map(|c| &c.data_type) {
                None => {
                    return Err(invalid(format!("PARTITION BY names {name:?}, which is not a column")));
                }
                Some(DataType::Array(_) | DataType::Row(_) | DataType::Json | DataType::Interval) => {
                    return Err(invalid(format!("PARTITION BY column {name:?} must be of a plain type")));
                }
                Some(_) => {}
            }
        }
        if let Some(w) = &self.watermark {
            match self.column(&w.column).map(|c| &c.data_type) {
                Some(DataType::Timestamp | DataType::TimestampTz) => {}
                Some(other) => {
                    return Err(invalid(format!(
                        "WATERMARK FOR {:?} needs a timestamp column, it is {other}",
                        w.column
                    )));
                }
                None => {
                    return Err(invalid(format!("WATERMARK FOR {:?} names no column", w.column)));
                }
            }
        }
        self.options.policy.check(self.options.lake_retention_ms).map_err(invalid)?;
        match &self.table {
            Some(spec) => spec.check(self).map_err(invalid),
            None => Ok(()),
        }
    }
}

/// One offset per partition, by partition number: a point in a stream's history.
///
/// As a start it names the first row not yet taken, as an end the row after the last one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Positions(pub Vec<u64>);

impl Positions {
    /// The beginning of a stream with that many partitions.
    pub fn zero(partitions: u32) -> Self {
        Self(vec![0; partitions as usize])
    }

    /// The offset in one partition; 0 where the partition is not named.
    pub fn get(&self, partition: u32) -> u64 {
        self.0.get(partition as usize).copied().unwrap_or(0)
    }

    /// Sets the offset in one partition.
    pub fn set(&mut self, partition: u32, offset: u64) {
        let i = partition as usize;
        if self.0.len() <= i {
            self.0.resize(i + 1, 0);
        }
        self.0[i] = offset;
    }

    /// Whether every partition is at or past the other's offset.
    pub fn covers(&self, other: &Positions) -> bool {
        other.0.iter().enumerate().all(|(i, &offset)| self.get(i as u32) >= offset)
    }

    /// Rows from `start` up to this position, over all partitions.
    pub fn rows_since(&self, start: &Positions) -> u64 {
        self.0.iter().enumerate().map(|(i, &end)| end.saturating_sub(start.get(i as u32))).sum()
    }

    /// The sum of all offsets: how many rows lie before this position.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
