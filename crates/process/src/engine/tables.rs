//! Owns the life of tables: what is refused to objects of another kind, changes of a table's definition, removal.

use std::sync::Arc;

use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectId, ObjectName};

use super::Shared;
use crate::ddl::{TableAction, altered_table};
use crate::stream::OpenStream;
use crate::{Error, Result};

impl Shared {
    /// The open table of that name; `verb` is the statement's, for the hint.
    pub(crate) fn table(&self, name: &ObjectName, verb: &str) -> Result<Arc<OpenStream>> {
        if let Some(kind) = self.kind_of(name).filter(|kind| kind.ends_with("view")) {
            return Err(wrong_kind(name, kind, "table", verb));
        }
        match self.stream(name) {
            Ok(open) if open.kind() == "table" => Ok(open),
            Ok(_) => Err(wrong_kind(name, "stream", "table", verb)),
            Err(_) if !self.knows(name) => {
                Err(millstream_catalog::Error::NotFound { kind: "table", name: name.to_string() }.into())
            }
            Err(error) => Err(error),
        }
    }

    /// [`Shared::stream`], where a table will not do.
    pub(crate) fn stream_alone(&self, name: &ObjectName, verb: &str) -> Result<Arc<OpenStream>> {
        if let Some(kind) = self.kind_of(name).filter(|kind| kind.ends_with("view")) {
            return Err(wrong_kind(name, kind, "stream", verb));
        }
        let open = self.stream(name)?;
        if open.kind() == "table" { Err(wrong_kind(name, "table", "stream", verb)) } else { Ok(open) }
    }

    /// What has that name: `table`, `stream`, `view` or `materialized view`.
    pub(crate) fn kind_of(&self, name: &ObjectName) -> Option<&'static str> {
        if self.plain_view(name).is_some() {
            return Some("view");
        }
        if self.view(name).is_some() {
            return Some("materialized view");
        }
        match self.stream(name) {
            Ok(open) => Some(open.kind()),
            Err(_) => self.broken_kind(name),
        }
    }

    /// Changes a table's definition. Returns false when it is like that already.
    pub(crate) async fn alter_table(self: &Arc<Self>, name: &ObjectName, actions: &[TableAction]) -> Result<bool> {
        let table = self.table(name, "ALTER")?;
        for action in actions {
            refuse_rewriting(name, action)?;
            if action.concerns_rows() && table.log().stats().end.total() > 0 {
                return Err(over_rows(name));
            }
        }
        self.alter_stream(name, |table| altered_table(table, actions)).await
    }

    /// Drops tables, all or none, and with `cascade` what reads them. Returns those that are not there, where
    /// `if_exists` passes them over.
    pub(crate) async fn drop_tables(
        self: &Arc<Self>,
        names: &[ObjectName],
        if_exists: bool,
        cascade: bool,
    ) -> Result<Vec<ObjectName>> {
        let _ddl = self.ddl.lock().await;
        let (mut tables, mut missing, mut above) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            self.check_schema(name)?;
            match self.table(name, "DROP") {
                Ok(table) => tables.push(table),
                Err(_) if if_exists && self.kind_of(name).is_none() => missing.push(name.clone()),
                Err(error) => return Err(error),
            }
        }
        if cascade {
            tables.iter().for_each(|table| self.add_dependents_of(ObjectId::Stream(table.id()), &mut above));
        }
        if !tables.is_empty() {
            self.remove_objects(&above, &tables).await?;
        }
        Ok(missing)
    }
}

pub(crate) fn wrong_kind(name: &ObjectName, found: &str, wanted: &str, verb: &str) -> Error {
    Error::Rejected {
        code: Code::WrongObjectType,
        message: format!("{name} is a {found}, not a {wanted}"),
        hint: Some(format!("write {verb} {} {name}", found.to_uppercase())),
        position: None,
    }
}

/// What takes rows over HTTP, and is followed as it grows, is a stream.
pub(crate) fn refuse_table(open: &OpenStream) -> Result<()> {
    if open.kind() != "table" {
        return Ok(());
    }
    let name = open.name();
    Err(Error::Rejected {
        code: Code::WrongObjectType,
        message: format!("{name} is a table, not a stream: it takes rows by INSERT"),
        hint: Some(format!("INSERT INTO {name} …; or CREATE STREAM for rows that only come")),
        position: None,
    })
}

fn refuse_rewriting(name: &ObjectName, action: &TableAction) -> Result<()> {
    let what = match action {
        TableAction::SetType { .. } => "the type of a column of",
        TableAction::DropColumn { .. } | TableAction::RenameColumn { .. } => "a column of",
        TableAction::Rename(_) => "the name of",
        _ => return Ok(()),
    };
    Err(Error::Rejected {
        code: Code::Unsupported,
        message: format!("{what} table {name} cannot be changed: its files have it as it is"),
        hint: Some(format!("CREATE TABLE other AS SELECT … FROM {name}, then DROP TABLE {name}")),
        position: None,
    })
}

fn over_rows(name: &ObjectName) -> Error {
    Error::Rejected {
        code: Code::Unsupported,
        message: format!(
            "table {name} has had rows: a DEFAULT with a new column, NOT NULL, CHECK and PRIMARY KEY can be added to \
             an empty table alone"
        ),
        hint: Some(
            "ADD COLUMN without them, UPDATE the rows, then ALTER COLUMN … SET DEFAULT for those to come".to_owned(),
        ),
        position: None,
    }
}
