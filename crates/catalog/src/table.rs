//! Owns what makes a relation a table: its primary key, its generated columns, how its files are laid out.
//!
//! A table is described by a [`crate::Stream`] with a [`TableSpec`] in it: both have typed columns, defaults and
//! checks, a log and a Delta table. A stream's rows only come; a table's rows also change and go.

use serde::{Deserialize, Serialize};

use crate::{DataType, Stream, StreamOptions};

/// How a row of a table's log changes the table; the column that says it comes behind the table's own.
pub const CHANGE_COLUMN: &str = "_change";
/// The column of a table's log with the number of the row that comes or goes.
pub const ROW_COLUMN: &str = "_row";
/// The column of a table's log that names files with rows, for changes that are too large for the log.
pub const FILES_COLUMN: &str = "_files";
/// Names that no column of a table can have: its log has them.
const LOG_COLUMNS: [&str; 3] = [CHANGE_COLUMN, ROW_COLUMN, FILES_COLUMN];

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

/// How the columns that a table's files had become those of its definition: what an ALTER TABLE makes of rows that are
/// there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reshape {
    /// The version of the definition that asked for it. Files that were written before it have other columns.
    pub version: u32,
    /// The last version that dropped, renamed or retyped a column: what was before it is not told in today's columns.
    pub since: u32,
    /// The columns that keep values. Those that are not named begin with NULL.
    pub kept: Vec<KeptColumn>,
    /// The columns that begin with their DEFAULT.
    pub filled: Vec<String>,
}

/// A column whose values are those that another one had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptColumn {
    /// What it is called.
    pub name: String,
    /// What it was called.
    pub from: String,
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
    /// Its folder in its schema's, when that is not called as the table is: a table that is renamed stays where it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// How its files were last given other columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reshape: Option<Reshape>,
}

impl TableSpec {
    /// What contradicts itself in a table's definition, as far as it can be told without evaluating SQL.
    pub(crate) fn check(&self, table: &Stream) -> Result<(), String> {
        if let Some(column) = table.columns.iter().find(|c| LOG_COLUMNS.contains(&c.name.as_str())) {
            return Err(format!("column name {:?} is reserved in tables", column.name));
        }
        if table.watermark.is_some() {
            return Err("a table has no watermark, its rows may change at any time: declare it on a stream".into());
        }
        if !table.partition_by.is_empty() {
            return Err("a table's log has one partition: PARTITIONED BY is what lays out its files".into());
        }
        let (given, default) = (&table.options, StreamOptions::default());
        if given.partitions != default.partitions || given.retention_bytes.is_some() || given.rest {
            return Err("partitions, retention_size and rest are options of streams: a table has one log, and takes \
                        rows whose columns are known"
                .into());
        }
        if self.location.is_some() && (given.lake_retention_ms.is_some() || given.policy.warm_ms.is_some()) {
            return Err("warm, cold and expire are for tables in the lake: files at a LOCATION do not tell how old \
                        their rows are"
                .into());
        }
        self.check_key(table)?;
        plain_columns(table, "PARTITIONED BY", &self.partitioned_by)?;
        self.check_folders(table)?;
        if table.columns.iter().all(|c| self.partitioned_by.contains(&c.name)) {
            return Err("PARTITIONED BY names every column: files must have one that is not in their folder".into());
        }
        plain_columns(table, "ORDER BY", &self.sorted_by)?;
        self.check_generated(table)
    }

    /// Values of some types have no text that could name a folder.
    fn check_folders(&self, table: &Stream) -> Result<(), String> {
        let columns = self.partitioned_by.iter().filter_map(|name| table.column(name));
        match columns.into_iter().find(|c| matches!(c.data_type, DataType::Bytea | DataType::Time)) {
            Some(column) => Err(format!(
                "PARTITIONED BY column {:?} is of type {}, whose values cannot name a folder",
                column.name, column.data_type
            )),
            None => Ok(()),
        }
    }

    fn check_key(&self, table: &Stream) -> Result<(), String> {
        let Some(key) = &self.primary_key else { return Ok(()) };
        if key.columns.is_empty() {
            return Err("PRIMARY KEY names no columns".into());
        }
        if table.checks.iter().any(|c| c.name == key.name) {
            return Err(format!("constraint {:?} is named twice", key.name));
        }
        plain_columns(table, "PRIMARY KEY", &key.columns)?;
        match key.columns.iter().find(|name| table.column(name).is_some_and(|c| c.nullable)) {
            Some(name) => Err(format!("PRIMARY KEY column {name:?} must be NOT NULL")),
            None => Ok(()),
        }
    }

    fn check_generated(&self, table: &Stream) -> Result<(), String> {
        for (i, generated) in self.generated.iter().enumerate() {
            let Some(column) = table.column(&generated.column) else {
                return Err(format!("GENERATED names {:?}, which is not a column", generated.column));
            };
            if column.default.is_some() {
                return Err(format!(
                    "column {:?} is generated and has a DEFAULT, it can have one of them",
                    column.name
                ));
            }
            if self.generated[..i].iter().any(|g| g.column == generated.column) {
                return Err(format!("column {:?} is generated twice", column.name));
            }
        }
        Ok(())
    }
}

/// Checks that a clause names columns of types that have one order and one text, each once.
fn plain_columns(table: &Stream, clause: &str, names: &[String]) -> Result<(), String> {
    for (i, name) in names.iter().enumerate() {
        match table.column(name).map(|c| &c.data_type) {
            None => return Err(format!("{clause} names {name:?}, which is not a column")),
            Some(DataType::Array(_) | DataType::Row(_) | DataType::Json | DataType::Interval) => {
                return Err(format!("{clause} column {name:?} must be of a plain type"));
            }
            Some(_) if names[..i].contains(name) => return Err(format!("{clause} names {name:?} twice")),
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{Check, Column, ObjectName, StreamId, Watermark};

    fn table() -> Stream {
        let key = PrimaryKey { name: "orders_pkey".into(), columns: vec!["id".into()] };
        Stream {
            id: StreamId(Uuid::nil()),
            name: ObjectName::public("orders").unwrap(),
            columns: vec![
                Column::new("id", DataType::BigInt).not_null(),
                Column::new("status", DataType::Text),
                Column::new("tags", DataType::Json),
            ],
            checks: vec![],
            watermark: None,
            partition_by: vec![],
            options: StreamOptions::default(),
            comment: None,
            version: 1,
            created_at_ms: 0,
            table: Some(TableSpec { primary_key: Some(key), ..TableSpec::default() }),
        }
    }

    /// What is said of the table after a change.
    fn refusal(change: impl FnOnce(&mut Stream, &mut TableSpec)) -> String {
        let mut table = table();
        let mut spec = table.table.take().unwrap();
        change(&mut table, &mut spec);
        table.table = Some(spec);
        table.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_table_that_contradicts_itself_is_refused_with_the_reason() {
        table().validate().unwrap();
        let said = |reason: &str| format!("invalid definition of table orders: {reason}");
        let key = |spec: &mut TableSpec, columns: &[&str]| {
            let columns = columns.iter().map(|c| (*c).to_owned()).collect();
            spec.primary_key = Some(PrimaryKey { name: "k".into(), columns });
        };
        assert_eq!(refusal(|_, s| key(s, &["x"])), said("PRIMARY KEY names \"x\", which is not a column"));
        assert_eq!(refusal(|_, s| key(s, &["status"])), said("PRIMARY KEY column \"status\" must be NOT NULL"));
        assert_eq!(refusal(|_, s| key(s, &["tags"])), said("PRIMARY KEY column \"tags\" must be of a plain type"));
        assert_eq!(refusal(|_, s| key(s, &["id", "id"])), said("PRIMARY KEY names \"id\" twice"));
        assert_eq!(refusal(|_, s| key(s, &[])), said("PRIMARY KEY names no columns"));
        let sorted = refusal(|_, s| s.sorted_by = vec!["tags".into()]);
        assert_eq!(sorted, said("ORDER BY column \"tags\" must be of a plain type"));
        let everything = refusal(|t, s| {
            t.columns.truncate(2);
            s.partitioned_by = vec!["id".into(), "status".into()];
        });
        assert!(everything.contains("PARTITIONED BY names every column"), "{everything}");
        for name in LOG_COLUMNS {
            let reserved = refusal(|t, _| t.columns.push(Column::new(name, DataType::Int)));
            assert_eq!(reserved, said(&format!("column name {name:?} is reserved in tables")));
        }
        assert!(refusal(|t, _| t.options.partitions = 2).contains("options of streams"));
        assert!(refusal(|t, _| t.options.rest = true).contains("options of streams"));
        assert!(refusal(|t, _| t.partition_by = vec!["id".into()]).contains("one partition"));
        let watermarked = refusal(|t, _| {
            t.columns.push(Column::new("at", DataType::Timestamp));
            t.watermark = Some(Watermark { column: "at".into(), expr: "at".into() });
        });
        assert!(watermarked.contains("no watermark"), "{watermarked}");
        let check = Check { name: "orders_pkey".into(), expr: "true".into() };
        assert_eq!(refusal(|t, _| t.checks.push(check)), said("constraint \"orders_pkey\" is named twice"));
        let generated = |column: &str| Generated { column: column.into(), expression: "1".into() };
        let unknown = refusal(|_, s| s.generated = vec![generated("x")]);
        assert_eq!(unknown, said("GENERATED names \"x\", which is not a column"));
        let both = refusal(|t, s| {
            t.columns[1].default = Some("'x'".into());
            s.generated = vec![generated("status")];
        });
        assert!(both.contains("generated and has a DEFAULT"), "{both}");
    }
}
