//! Owns the life of tables: what is refused to objects of another kind, changes of a table's definition, removal.

use std::sync::Arc;

use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectId, ObjectName};

use super::Shared;
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
        hint: Some(match (verb, found) {
            ("ALTER", "view") => format!("CREATE OR REPLACE VIEW {name} gives it another query"),
            _ => format!("write {verb} {} {name}", found.to_uppercase()),
        }),
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
