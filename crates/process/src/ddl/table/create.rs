//! Owns CREATE TABLE: what it says, and the definitions that come of it.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, ObjectName, StreamOptions, TableSpec};

use super::clone;
use super::entries::{refuse_constraints, unsupported};
use super::options::with_clause;
use crate::Result;
use crate::ddl::create::{column_list, said_format, sample_format};
use crate::ddl::cursor::Cursor;
use crate::ddl::entry::Entries;
use crate::ddl::is_temporary;
use crate::ddl::query::{QueryText, query};
use crate::ddl::view::{column_names, is_derived, named};
use crate::ddl::{ColumnName, Command, SampleDraft, StreamDraft};
use crate::files::Format;

/// A table that a query fills, as CREATE TABLE … AS says it, before the query is planned.
#[derive(Debug, Clone, PartialEq)]
pub struct TableAsDraft {
    /// Its name.
    pub name: ObjectName,
    /// Names for the first of the query's columns; the others keep theirs.
    pub columns: Vec<ColumnName>,
    /// How its files are laid out.
    pub table: TableSpec,
    /// Its options.
    pub options: StreamOptions,
    /// Its comment.
    pub comment: Option<String>,
    /// The query.
    pub query: QueryText,
    /// Whether the query's rows are put into it.
    pub with_data: bool,
}

impl TableAsDraft {
    /// The table, with the columns of its query.
    pub fn with_columns(self, columns: Vec<Column>) -> Result<StreamDraft> {
        let columns = named(&self.columns, columns, "table", &self.name)?;
        Ok(StreamDraft {
            name: self.name,
            columns,
            checks: Vec::new(),
            watermark: None,
            partition_by: Vec::new(),
            options: self.options,
            comment: self.comment,
            table: Some(self.table),
        })
    }
}

/// Reads what stands after `CREATE TABLE`.
pub(super) fn create_table(cursor: &mut Cursor<'_>, temporary: bool) -> Result<Command> {
    let if_not_exists = cursor.take_words(&["if", "not", "exists"]);
    let name = if temporary { cursor.temporary_name()? } else { cursor.own_name("a table name")? };
    if cursor.take_words(&["from", "sample"]) {
        return from_sample(cursor, name, if_not_exists);
    }
    if clone::is_next(cursor) {
        return clone::clone_table(cursor, name, if_not_exists);
    }
    if is_derived(cursor) {
        return create_table_as(cursor, name, if_not_exists);
    }
    refuse_other_forms(cursor)?;
    let mut entries = Entries::of_table();
    if cursor.peek().token == Token::LParen {
        entries = Entries::parse_table(cursor)?;
    } else if !cursor.is_words(&["location"]) {
        return Err(cursor.expected(
            "\"(\" and the columns, AS and a query, CLONE and a table, LOCATION 'url', or FROM SAMPLE 'file'",
        ));
    }
    let mut columns = std::mem::take(&mut entries.columns);
    let of_table = entries.of_table.take().unwrap_or_default();
    let (primary_key, generated) = of_table.finish(cursor, &name, &mut columns)?;
    entries.of_table = Some(Default::default());
    let checks = entries.named_checks(cursor, &name, &[])?;
    let TableClauses { mut table, options, comment } = TableClauses::parse(cursor, None)?;
    on_commit(cursor, &name)?;
    (table.primary_key, table.generated) = (primary_key, generated);
    let (watermark, partition_by, table) = (None, Vec::new(), Some(table));
    let table = StreamDraft { name, columns, checks, watermark, partition_by, options, comment, table };
    Ok(Command::CreateTable { table: Box::new(table), if_not_exists })
}

/// `ON COMMIT PRESERVE ROWS`, of a temporary table.
fn on_commit(cursor: &mut Cursor<'_>, name: &ObjectName) -> Result<()> {
    if !cursor.is_words(&["on", "commit"]) {
        return Ok(());
    }
    if !is_temporary(name) {
        return Err(unsupported(cursor, "ON COMMIT is for temporary tables"));
    }
    if cursor.take_words(&["on", "commit", "preserve", "rows"]) {
        return Ok(());
    }
    Err(unsupported(
        cursor,
        "a temporary table keeps its rows until it is dropped or its connection ends: ON COMMIT takes PRESERVE ROWS alone",
    ))
}

fn create_table_as(cursor: &mut Cursor<'_>, name: ObjectName, if_not_exists: bool) -> Result<Command> {
    let columns = column_names(cursor, None)?;
    let TableClauses { table, options, comment } = TableClauses::parse(cursor, None)?;
    on_commit(cursor, &name)?;
    cursor.expect_word("AS")?;
    let query = query(cursor)?;
    let mut with_data = true;
    if cursor.take_word("with") {
        with_data = !cursor.take_word("no");
        cursor.expect_word("DATA")?;
    }
    let table = Box::new(TableAsDraft { name, columns, table, options, comment, query, with_data });
    Ok(Command::CreateTableAs { table, if_not_exists })
}

fn from_sample(cursor: &mut Cursor<'_>, name: ObjectName, if_not_exists: bool) -> Result<Command> {
    let at = cursor.location();
    let path = cursor.string("the file's name in quotes")?;
    let mut said = None;
    let TableClauses { table, options, comment } = TableClauses::parse(cursor, Some(&mut said))?;
    let format = sample_format(cursor, said, &path, at)?;
    let (partition_by, table) = (Vec::new(), Some(table));
    let sample = SampleDraft { name, path, format, partition_by, options, comment, table };
    Ok(Command::CreateTableFromSample { sample: Box::new(sample), if_not_exists })
}

/// What stands behind the column list, in any order.
#[derive(Debug, Default)]
struct TableClauses {
    table: TableSpec,
    options: StreamOptions,
    comment: Option<String>,
}

impl TableClauses {
    /// Reads them up to ON COMMIT, AS or the end; `format` takes the option that says how a sample is written.
    fn parse(cursor: &mut Cursor<'_>, mut format: Option<&mut Option<Format>>) -> Result<Self> {
        let mut clauses = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        while !cursor.at_end() && !cursor.is_words(&["as"]) && !cursor.is_words(&["on", "commit"]) {
            let at = cursor.location();
            let clause = clauses.clause(cursor, format.as_deref_mut())?;
            if seen.contains(&clause) {
                return Err(cursor.error_at(Code::SyntaxError, format!("{clause} is given twice"), at));
            }
            seen.push(clause);
        }
        Ok(clauses)
    }

    fn clause(&mut self, cursor: &mut Cursor<'_>, mut format: Option<&mut Option<Format>>) -> Result<&'static str> {
        if cursor.take_words(&["partition", "by"]) || cursor.take_words(&["partitioned", "by"]) {
            refuse_partition_methods(cursor)?;
            self.table.partitioned_by = column_list(cursor, "the partition columns", "PARTITIONED BY")?;
            return Ok("PARTITIONED BY");
        }
        if cursor.take_words(&["order", "by"]) {
            self.table.sorted_by = column_list(cursor, "the sort columns", "ORDER BY")?;
            return Ok("ORDER BY");
        }
        if cursor.take_word("location") {
            self.table.location = Some(cursor.string("the table's URL in quotes")?);
            return Ok("LOCATION");
        }
        if cursor.take_word("comment") {
            self.comment = Some(cursor.string("the comment's text in quotes")?);
            return Ok("COMMENT");
        }
        if cursor.take_words(&["using", "delta"]) {
            return Ok("USING");
        }
        if cursor.take_word("with") {
            let changes = with_clause(cursor, |c, name, value| {
                let format = format.as_deref_mut().filter(|_| name == "format")?;
                let said = said_format(&value.text).map(|said| *format = Some(said));
                Some(said.map_err(|message| c.error(Code::InvalidRequest, message)))
            })?;
            changes.iter().for_each(|change| change.apply(&mut self.options));
            return Ok("WITH");
        }
        refuse_clauses(cursor)?;
        Err(cursor.expected("PARTITIONED BY, ORDER BY, LOCATION, COMMENT, WITH or the end of the statement"))
    }
}

/// Forms of CREATE TABLE that PostgreSQL has and that are not here.
fn refuse_other_forms(cursor: &Cursor<'_>) -> Result<()> {
    let message = if cursor.is_words(&["partition", "of"]) {
        "partitions of a table have no names of their own: declare PARTITIONED BY (column, …) on the table"
    } else if cursor.is_words(&["of"]) {
        "tables of a composite type are not supported: write the columns"
    } else {
        return refuse_constraints(cursor);
    };
    Err(unsupported(cursor, message))
}

fn refuse_partition_methods(cursor: &Cursor<'_>) -> Result<()> {
    let methods = ["range", "list", "hash"];
    match methods.iter().find(|word| cursor.is_words(&[word])) {
        None => Ok(()),
        Some(_) => Err(unsupported(
            cursor,
            "each value of the columns has a folder of its own, there is no method to choose: write PARTITIONED BY \
             (column, …)",
        )),
    }
}

fn refuse_clauses(cursor: &Cursor<'_>) -> Result<()> {
    let message = if cursor.is_words(&["inherits"]) {
        "INHERITS is not supported: write the columns"
    } else if cursor.is_words(&["tablespace"]) {
        "there are no tablespaces: a table lies in the lake, or where LOCATION says"
    } else if cursor.is_words(&["using"]) {
        "a table is a Delta table: leave USING out"
    } else if cursor.is_words(&["cluster"]) {
        "CLUSTER BY is not supported: ORDER BY (column, …) says how the files are sorted"
    } else if cursor.is_words(&["tblproperties"]) {
        "write WITH (option = value, …) in place of TBLPROPERTIES"
    } else {
        return Ok(());
    };
    Err(unsupported(cursor, message))
}
