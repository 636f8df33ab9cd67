//! Owns what a table's column list has beyond a stream's: keys and generated columns, and what to write in place of
//! the constraints that are not there.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, Generated, ObjectName, PrimaryKey};

use crate::ddl::create::column_list;
use crate::ddl::cursor::Cursor;
use crate::{Error, Result};

/// What a table's column list says beside its columns and checks.
#[derive(Debug, Default)]
pub(in crate::ddl) struct TableEntries {
    key: Option<Key>,
    generated: Vec<Generated>,
    /// Columns that are said to be NULL.
    pub declared_null: Vec<String>,
}

/// A primary key whose name may have to be made.
#[derive(Debug)]
struct Key {
    name: Option<String>,
    columns: Vec<String>,
}

impl TableEntries {
    /// Reads a constraint of the whole table, if that comes next and is not a CHECK.
    pub(in crate::ddl) fn constraint(&mut self, cursor: &mut Cursor<'_>) -> Result<bool> {
        let named = cursor.is_words(&["constraint"]) && matches!(cursor.peek_nth(1), Token::Word(_));
        let first = if named { 2 } else { 0 };
        let said = |n: usize, word: &str| cursor.is_nth_word(first + n, word);
        let opens = |n: usize| *cursor.peek_nth(first + n) == Token::LParen;
        let key = said(0, "primary") && said(1, "key") && (named || opens(2));
        let refused = said(0, "foreign") && said(1, "key")
            || said(0, "exclude") && (opens(1) || said(1, "using"))
            || said(0, "unique") && (named || opens(1) || said(1, "nulls") || said(1, "using"))
            || said(0, "like") && !named && matches!(cursor.peek_nth(first + 1), Token::Word(_));
        if !key && !refused {
            return Ok(false);
        }
        let name = constraint_name(cursor)?;
        refuse_constraints(cursor)?;
        self.primary_key(cursor, name, None)?;
        Ok(true)
    }

    /// Reads what is declared about a column, if it is a table's alone.
    pub(in crate::ddl) fn column_clause(&mut self, cursor: &mut Cursor<'_>, column: &str) -> Result<bool> {
        let named = cursor.is_words(&["constraint"]) && matches!(cursor.peek_nth(1), Token::Word(_));
        let first = if named { 2 } else { 0 };
        let key = cursor.is_nth_word(first, "primary");
        let refused = ["unique", "references", "exclude"].iter().any(|word| cursor.is_nth_word(first, word));
        if key || refused {
            let name = constraint_name(cursor)?;
            refuse_constraints(cursor)?;
            self.primary_key(cursor, name, Some(column))?;
            return Ok(true);
        }
        if cursor.is_words(&["generated"]) {
            self.generated(cursor, column)?;
            return Ok(true);
        }
        refuse_column_words(cursor)?;
        Ok(false)
    }

    /// `PRIMARY KEY`, of a column or of the table.
    fn primary_key(&mut self, cursor: &mut Cursor<'_>, name: Option<String>, column: Option<&str>) -> Result<()> {
        let at = cursor.location();
        cursor.expect_word("PRIMARY")?;
        cursor.expect_word("KEY")?;
        let columns = match column {
            Some(column) => vec![column.to_owned()],
            None => column_list(cursor, "the key's columns", "PRIMARY KEY")?,
        };
        refuse_deferring(cursor)?;
        if self.key.is_some() {
            return Err(cursor.error_at(
                Code::InvalidDefinition,
                "a table has one PRIMARY KEY, this is the second",
                at,
            ));
        }
        self.key = Some(Key { name, columns });
        Ok(())
    }

    /// `GENERATED ALWAYS AS (expression) STORED`.
    fn generated(&mut self, cursor: &mut Cursor<'_>, column: &str) -> Result<()> {
        let at = cursor.location();
        cursor.expect_word("GENERATED")?;
        let always = cursor.take_word("always");
        if !always && !cursor.take_words(&["by", "default"]) {
            return Err(cursor.expected("ALWAYS AS (expression) STORED"));
        }
        cursor.expect_word("AS")?;
        if cursor.is_words(&["identity"]) {
            return Err(cursor.error_at(Code::Unsupported, format!("a table has no IDENTITY columns: {NUMBERS}"), at));
        }
        if !always {
            return Err(cursor.expected("IDENTITY"));
        }
        cursor.expect(&Token::LParen, "\"(\" before the expression")?;
        let expression = cursor.expression()?;
        cursor.expect(&Token::RParen, "\")\" after the expression")?;
        if cursor.is_words(&["virtual"]) {
            let message = "a generated column is computed when its row is written: write STORED";
            return Err(cursor.error(Code::Unsupported, message));
        }
        cursor.expect_word("STORED")?;
        if self.generated.iter().any(|g| g.column == column) {
            let message = format!("column {column:?} has two GENERATED clauses");
            return Err(cursor.error_at(Code::InvalidDefinition, message, at));
        }
        self.generated.push(Generated { column: column.to_owned(), expression });
        Ok(())
    }

    /// The key, named, and the generated columns. The key's columns become NOT NULL.
    pub(super) fn finish(
        self,
        cursor: &Cursor<'_>,
        table: &ObjectName,
        columns: &mut [Column],
    ) -> Result<(Option<PrimaryKey>, Vec<Generated>)> {
        let Some(Key { name, columns: key }) = self.key else { return Ok((None, self.generated)) };
        for column in columns.iter_mut().filter(|c| key.contains(&c.name)) {
            if self.declared_null.contains(&column.name) {
                let message = format!("column {:?} is said to be NULL, and is in the PRIMARY KEY", column.name);
                return Err(cursor.error(Code::InvalidDefinition, message));
            }
            column.nullable = false;
        }
        let name = name.unwrap_or_else(|| key_name(table));
        Ok((Some(PrimaryKey { name, columns: key }), self.generated))
    }
}

/// What a primary key is called that was not given a name.
pub(super) fn key_name(table: &ObjectName) -> String {
    format!("{}_pkey", table.name())
}

/// `CONSTRAINT name`, if it comes next.
pub(super) fn constraint_name(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    if cursor.take_word("constraint") { cursor.identifier("a constraint name").map(Some) } else { Ok(None) }
}

/// What to do without sequences.
const NUMBERS: &str = "give the number with the row, or use uuid DEFAULT gen_random_uuid()";

/// Refuses the types that are a sequence in PostgreSQL.
pub(in crate::ddl) fn serial_advice(cursor: &Cursor<'_>) -> Result<()> {
    const SERIALS: [&str; 6] = ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"];
    let Some(word) = SERIALS.iter().find(|word| cursor.is_words(&[word])) else { return Ok(()) };
    let message = format!("type {word} is not supported, there are no sequences: use bigint and {NUMBERS}");
    Err(cursor.error(Code::Unsupported, message))
}

/// Refuses constraints that a table does not keep.
pub(super) fn refuse_constraints(cursor: &Cursor<'_>) -> Result<()> {
    let message = if cursor.is_words(&["unique"]) {
        "UNIQUE is not supported beside the one key that a table has: write PRIMARY KEY"
    } else if cursor.is_words(&["references"]) || cursor.is_words(&["foreign"]) {
        "REFERENCES and FOREIGN KEY are not supported: tables change without looking at each other, join in the query"
    } else if cursor.is_words(&["exclude"]) {
        "EXCLUDE constraints are not supported: write a CHECK for each row, or a query that finds what overlaps"
    } else if cursor.is_words(&["like"]) {
        "LIKE is not supported in a column list: write CREATE TABLE … AS SELECT * FROM … WITH NO DATA"
    } else {
        return Ok(());
    };
    Err(cursor.error(Code::Unsupported, message))
}

fn refuse_column_words(cursor: &Cursor<'_>) -> Result<()> {
    let message = if cursor.is_words(&["collate"]) {
        "text is compared by its bytes, COLLATE is not supported"
    } else if cursor.is_words(&["identity"]) || cursor.is_words(&["auto_increment"]) {
        return Err(cursor.error(Code::Unsupported, format!("a table has no numbered columns: {NUMBERS}")));
    } else if cursor.is_words(&["compression"]) || cursor.is_words(&["storage"]) {
        "files are Parquet, compressed with zstd: leave COMPRESSION and STORAGE out"
    } else {
        return Ok(());
    };
    Err(cursor.error(Code::Unsupported, message))
}

fn refuse_deferring(cursor: &mut Cursor<'_>) -> Result<()> {
    let later = [&["deferrable"][..], &["initially", "deferred"]];
    if later.iter().any(|words| cursor.is_words(words)) {
        let message = "a PRIMARY KEY holds behind every statement, it cannot be deferred";
        return Err(cursor.error(Code::Unsupported, message));
    }
    cursor.take_words(&["not", "deferrable"]);
    cursor.take_words(&["initially", "immediate"]);
    Ok(())
}

/// The error that something of PostgreSQL's is not here, about the next word.
pub(super) fn unsupported(cursor: &Cursor<'_>, message: impl Into<String>) -> Error {
    cursor.error(Code::Unsupported, message)
}
