//! Owns what a statement changes: the table or stream, its columns, and what may be done to them.

use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName as SqlName, TableAlias, TableFactor};
use datafusion::sql::sqlparser::tokenizer::Span;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, ObjectName, Stream};

use crate::ddl::char_position;
use crate::engine::Shared;
use crate::sql::{folded, object_name};
use crate::stream::OpenStream;
use crate::{Error, Result};

/// What a statement changes.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) open: Arc<OpenStream>,
    /// The definition that the statement was planned over.
    pub(super) stream: Arc<Stream>,
    /// Its columns, all of which may be NULL.
    pub(super) schema: SchemaRef,
    /// How the statement calls it.
    pub(super) alias: Ident,
}

impl Target {
    /// The table or stream of that name; `text` is the statement.
    pub(super) fn of(shared: &Shared, text: &str, name: &SqlName, alias: Option<&Ident>) -> Result<Self> {
        let last = name.0.last().and_then(|part| part.as_ident());
        let span = last.map_or(Span::empty(), |ident| ident.span);
        let Some(object) = object_name(name) else {
            return Err(refused(Code::InvalidName, format!("{name} is no name of a table"), text, span));
        };
        if object.is_system() {
            let message = format!("{object} is the platform's own and takes no changes");
            return Err(refused(Code::Denied, message, text, span));
        }
        if shared.plain_view(&object).is_some() {
            return Err(Error::Rejected {
                code: Code::WrongObjectType,
                message: format!("{object} is a view: its query alone says what is in it"),
                hint: Some("change the table that its query reads".to_owned()),
                position: (span.start.line > 0).then(|| char_position(text, span.start.line, span.start.column)),
            });
        }
        if shared.view(&object).is_some() {
            let message = format!("{object} is a materialized view: its query alone says what is in it");
            return Err(refused(Code::WrongObjectType, message, text, span));
        }
        if !shared.knows(&object) {
            let message = format!("stream or table {:?} does not exist", shown(&object));
            return Err(refused(Code::UndefinedObject, message, text, span));
        }
        let open = shared.stream(&object)?;
        shared.refuse_rows_for_query(&object)?;
        let stream = Arc::clone(&open.definition().stream);
        let loose = stream.columns.iter().map(|column| column.to_field().with_nullable(true));
        let schema = Arc::new(Schema::new(loose.collect::<Vec<Field>>()));
        let alias = alias.cloned().unwrap_or_else(|| Ident::with_quote('"', object.name()));
        Ok(Self { open, stream, schema, alias })
    }

    /// The table that a part of FROM names; it must be a plain name.
    pub(super) fn of_factor(shared: &Shared, text: &str, factor: &TableFactor) -> Result<Self> {
        let TableFactor::Table { name, alias, args: None, .. } = factor else {
            let message = format!("{factor} cannot be changed: name a table");
            return Err(refused(Code::SyntaxError, message, text, Span::empty()));
        };
        if let Some(TableAlias { columns, .. }) = alias
            && !columns.is_empty()
        {
            let message = "the table that is changed cannot be given other names of columns";
            return Err(refused(Code::Unsupported, message, text, Span::empty()));
        }
        Self::of(shared, text, name, alias.as_ref().map(|alias| &alias.name))
    }

    /// Refuses a stream, whose rows stay as they are.
    pub(super) fn must_change(&self, what: &str) -> Result<()> {
        if self.stream.table.is_some() {
            return Ok(());
        }
        Err(Error::Rejected {
            code: Code::WrongObjectType,
            message: format!("stream {} is append-only: {what} needs a table", self.stream.name),
            hint: Some("rows that change are kept in a table: CREATE TABLE".to_owned()),
            position: None,
        })
    }

    /// The column of that name.
    pub(super) fn column(&self, ident: &Ident, text: &str) -> Result<usize> {
        let name = folded(ident);
        self.stream.columns.iter().position(|column| column.name == name).ok_or_else(|| {
            let kind = self.stream.kind();
            let message = format!("column {name:?} of {kind} {} does not exist", self.stream.name);
            refused(Code::UndefinedColumn, message, text, ident.span)
        })
    }

    /// The column that a list of columns or an assignment names.
    pub(super) fn named(&self, name: &SqlName, text: &str) -> Result<(usize, Span)> {
        let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        match parts.as_slice() {
            [ident] => Ok((self.column(ident, text)?, ident.span)),
            [first, ..] => {
                let message = format!("{name} cannot be assigned to: name a column of {} alone", self.stream.name);
                Err(refused(Code::UndefinedColumn, message, text, first.span))
            }
            [] => Err(refused(Code::SyntaxError, format!("{name} is no column"), text, Span::empty())),
        }
    }

    /// Refuses a value for a column that is computed.
    pub(super) fn must_be_assignable(&self, column: usize, text: &str, span: Span) -> Result<()> {
        if !self.is_generated(column) {
            return Ok(());
        }
        let name = &self.columns()[column].name;
        let message = format!("column {name:?} is generated: it can be given DEFAULT alone");
        Err(refused(Code::GeneratedColumn, message, text, span))
    }

    /// Whether a column is computed from others.
    pub(super) fn is_generated(&self, column: usize) -> bool {
        let name = &self.columns()[column].name;
        self.stream.table.as_ref().is_some_and(|table| table.generated.iter().any(|g| g.column == *name))
    }

    /// The columns of the primary key.
    pub(super) fn key(&self) -> Option<Vec<usize>> {
        let key = self.stream.table.as_ref()?.primary_key.as_ref()?;
        let place = |name: &String| self.columns().iter().position(|column| column.name == *name);
        key.columns.iter().map(place).collect()
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.stream.columns
    }

    /// What a batch of so many rows is made with.
    pub(super) fn rows(rows: usize) -> RecordBatchOptions {
        RecordBatchOptions::new().with_row_count(Some(rows))
    }
}

/// A refusal that points into the statement.
pub(super) fn refused(code: Code, message: impl Into<String>, text: &str, span: Span) -> Error {
    let start = span.start;
    let position = (start.line > 0).then(|| char_position(text, start.line, start.column));
    Error::Rejected { code, message: message.into(), hint: None, position }
}

fn shown(name: &ObjectName) -> String {
    format!("{}.{}", name.schema(), name.name())
}
