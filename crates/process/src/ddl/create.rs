//! Owns CREATE STREAM: what it says, and the definition that comes of it.

use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use millstream_catalog::fault::Code;
use millstream_catalog::{
    Check, Column, DataType, ObjectName, REST_COLUMN, Stream, StreamId, StreamOptions, TableSpec, Watermark,
};

use super::Command;
use super::cursor::Cursor;
use super::entry::Entries;
use super::options::with_clause;
use super::view::{create_derived, is_derived};
use crate::Result;
use crate::files::{FORMATS, Format};

/// A stream as CREATE STREAM says it, before it has an identity.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamDraft {
    /// Its name.
    pub name: ObjectName,
    /// Its columns; `_rest` is among them when the options ask for it.
    pub columns: Vec<Column>,
    /// Its constraints, all named.
    pub checks: Vec<Check>,
    /// Its watermark.
    pub watermark: Option<Watermark>,
    /// The columns that choose the partition.
    pub partition_by: Vec<String>,
    /// Its options.
    pub options: StreamOptions,
    /// Its comment.
    pub comment: Option<String>,
    /// What makes it a table; `None` for a stream.
    pub table: Option<TableSpec>,
}

impl StreamDraft {
    /// The definition, checked.
    pub fn into_stream(self, id: StreamId, created_at_ms: i64) -> Result<Stream> {
        let stream = Stream {
            id,
            name: self.name,
            columns: self.columns,
            checks: self.checks,
            watermark: self.watermark,
            partition_by: self.partition_by,
            options: self.options,
            comment: self.comment,
            version: 1,
            created_at_ms,
            table: self.table,
        };
        stream.validate()?;
        Ok(stream)
    }
}

/// A stream or table whose columns are to be found in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleDraft {
    /// Its name.
    pub name: ObjectName,
    /// The file, as it is written.
    pub path: String,
    /// The file's format, said or taken from the file's name.
    pub format: Format,
    /// The columns that choose the partition.
    pub partition_by: Vec<String>,
    /// Its options.
    pub options: StreamOptions,
    /// Its comment.
    pub comment: Option<String>,
    /// What makes it a table; `None` for a stream.
    pub table: Option<TableSpec>,
}

impl SampleDraft {
    /// The stream or table, with the columns that were found in the file.
    pub fn with_columns(self, columns: Vec<Column>) -> StreamDraft {
        let mut draft = StreamDraft {
            name: self.name,
            columns,
            checks: Vec::new(),
            watermark: None,
            partition_by: self.partition_by,
            options: self.options,
            comment: self.comment,
            table: self.table,
        };
        add_rest(&mut draft.columns, &draft.options);
        draft
    }
}

/// Appends `_rest` when the options ask for it; a `_rest` that is there already becomes the last column.
pub(super) fn add_rest(columns: &mut Vec<Column>, options: &StreamOptions) {
    if options.rest {
        let declared = columns.iter().position(|c| c.name == REST_COLUMN).map(|i| columns.remove(i));
        columns.push(declared.unwrap_or_else(|| Column::new(REST_COLUMN, DataType::Json)));
    }
}

/// Reads what stands after `CREATE STREAM`.
pub(super) fn create_stream(cursor: &mut Cursor<'_>) -> Result<Command> {
    let if_not_exists = cursor.take_words(&["if", "not", "exists"]);
    let name = cursor.own_name("a stream name")?;
    if cursor.take_words(&["from", "sample"]) {
        return from_sample(cursor, name, if_not_exists);
    }
    if is_derived(cursor) {
        return create_derived(cursor, name, if_not_exists);
    }
    if cursor.peek().token != Token::LParen {
        return Err(cursor.expected("\"(\" and the columns, AS and a query, or FROM SAMPLE 'file'"));
    }
    let mut entries = Entries::parse(cursor)?;
    let (mut columns, watermark) = (std::mem::take(&mut entries.columns), entries.watermark.take());
    let checks = entries.named_checks(cursor, &name, &[])?;
    let clauses = Clauses::parse(cursor, &[], |_, _| None)?;
    add_rest(&mut columns, &clauses.options);
    let Clauses { partition_by, options, comment } = clauses;
    let stream = StreamDraft { name, columns, checks, watermark, partition_by, options, comment, table: None };
    Ok(Command::CreateStream { stream, if_not_exists })
}

fn from_sample(cursor: &mut Cursor<'_>, name: ObjectName, if_not_exists: bool) -> Result<Command> {
    let at = cursor.location();
    let path = cursor.string("the file's name in quotes")?;
    let mut said = None;
    let Clauses { partition_by, options, comment } = Clauses::parse(cursor, &["format"], |option, value| {
        (option == "format").then(|| {
            said = Some(said_format(value)?);
            Ok(())
        })
    })?;
    let format = sample_format(cursor, said, &path, at)?;
    let sample = SampleDraft { name, path, format, partition_by, options, comment, table: None };
    Ok(Command::CreateStreamFromSample { sample, if_not_exists })
}

/// The format that option `format` says.
pub(super) fn said_format(value: &str) -> Result<Format, String> {
    Format::named(value).map_err(|_| format!("option format = {value:?} is none of the formats, which are {FORMATS}"))
}

/// The format of a sample file: said, or told by its name.
pub(super) fn sample_format(cursor: &Cursor<'_>, said: Option<Format>, path: &str, at: Location) -> Result<Format> {
    said.or_else(|| Format::of_name(path)).ok_or_else(|| {
        let message = format!(
            "the format of {path:?} is not known by its name: add WITH (format = 'csv') or another, which are {FORMATS}"
        );
        cursor.error_at(Code::InvalidRequest, message, at)
    })
}

/// What stands behind the column list, in any order.
#[derive(Debug, Default)]
pub(super) struct Clauses {
    pub partition_by: Vec<String>,
    pub options: StreamOptions,
    pub comment: Option<String>,
}

impl Clauses {
    /// Reads them up to AS or the end; `more` and `other` are [`with_clause`]'s.
    pub(super) fn parse(
        cursor: &mut Cursor<'_>,
        more: &[&'static str],
        mut other: impl FnMut(&str, &str) -> Option<Result<(), String>>,
    ) -> Result<Self> {
        let mut clauses = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        while !cursor.at_end() && !cursor.is_words(&["as"]) {
            let at = cursor.location();
            let clause = if cursor.take_words(&["partition", "by"]) || cursor.take_words(&["partitioned", "by"]) {
                clauses.partition_by = partition_columns(cursor)?;
                "PARTITION BY"
            } else if cursor.take_word("comment") {
                clauses.comment = Some(cursor.string("the comment's text in quotes")?);
                "COMMENT"
            } else if cursor.take_word("with") {
                let changes = with_clause(cursor, more, &mut other)?;
                changes.iter().for_each(|change| change.apply(&mut clauses.options));
                "WITH"
            } else {
                return Err(cursor.expected("PARTITION BY, COMMENT, WITH or the end of the statement"));
            };
            if seen.contains(&clause) {
                return Err(cursor.error_at(Code::SyntaxError, format!("{clause} is given twice"), at));
            }
            seen.push(clause);
        }
        Ok(clauses)
    }
}

fn partition_columns(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    column_list(cursor, "the partition columns", "PARTITION BY")
}

/// `(column, …)`, each once.
pub(super) fn column_list(cursor: &mut Cursor<'_>, what: &str, clause: &str) -> Result<Vec<String>> {
    let mut columns: Vec<String> = Vec::new();
    cursor.list(what, |c| {
        let at = c.location();
        let name = c.identifier("a column name")?;
        if columns.contains(&name) {
            return Err(c.error_at(Code::DuplicateColumn, format!("{clause} names {name:?} twice"), at));
        }
        columns.push(name);
        Ok(())
    })?;
    Ok(columns)
}
