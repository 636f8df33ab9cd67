//! Owns the entries of a column list, a stream's or a table's: columns, checks, and what either of them has beside.

use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use millstream_catalog::fault::Code;
use millstream_catalog::{Check, Column, ObjectName, Watermark};

use super::column_type::data_type;
use super::cursor::Cursor;
use super::table::{TableEntries, serial_advice};
use crate::Result;

/// PostgreSQL's limit.
pub(super) const MAX_COLUMNS: usize = 1600;

/// What a column list says.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub columns: Vec<Column>,
    pub watermark: Option<Watermark>,
    checks: Vec<UnnamedCheck>,
    /// What tables have beside; `None` when it is a stream's list.
    pub of_table: Option<TableEntries>,
}

/// A check whose name may have to be made.
#[derive(Debug)]
struct UnnamedCheck {
    name: Option<String>,
    column: Option<String>,
    expr: String,
}

impl Entries {
    /// Reads `( entry, … )`.
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self> {
        let mut entries = Self::default();
        cursor.list("the columns", |c| entries.entry(c))?;
        Ok(entries)
    }

    /// The entries of a table, none so far.
    pub(super) fn of_table() -> Self {
        Self { of_table: Some(TableEntries::default()), ..Self::default() }
    }

    /// Reads `( entry, … )` of a table.
    pub(super) fn parse_table(cursor: &mut Cursor<'_>) -> Result<Self> {
        let mut entries = Self::of_table();
        cursor.list("the columns", |c| entries.entry(c))?;
        Ok(entries)
    }

    fn entry(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let at = cursor.location();
        if let Some(table) = &mut self.of_table
            && table.constraint(cursor)?
        {
            Ok(())
        } else if cursor.is_words(&["watermark", "for"]) {
            self.watermark(cursor, at)
        } else if cursor.is_words(&["check"]) && *cursor.peek_nth(1) == Token::LParen {
            self.check(cursor, None, None)
        } else if cursor.is_words(&["constraint"]) {
            cursor.advance();
            let name = cursor.identifier("a constraint name")?;
            self.refuse_keys(cursor)?;
            self.check(cursor, Some(name), None)
        } else {
            let keys = [&["primary", "key"][..], &["foreign", "key"], &["exclude", "using"]];
            if keys.iter().any(|words| cursor.is_words(words))
                || cursor.is_words(&["unique"]) && *cursor.peek_nth(1) == Token::LParen
            {
                self.refuse_keys(cursor)?;
            }
            self.column(cursor)
        }
    }

    /// Reads `WATERMARK FOR column AS expr`.
    pub(super) fn watermark(&mut self, cursor: &mut Cursor<'_>, at: Location) -> Result<()> {
        if self.of_table.is_some() {
            let message = "a table has no watermark, its rows may change at any time: declare it on a stream";
            return Err(cursor.error_at(Code::Unsupported, message, at));
        }
        if self.watermark.is_some() {
            return Err(cursor.error_at(Code::InvalidDefinition, "a stream has one watermark, this is the second", at));
        }
        cursor.take_words(&["watermark", "for"]);
        let column = cursor.identifier("the event time column")?;
        cursor.expect_word("AS")?;
        self.watermark = Some(Watermark { column, expr: cursor.expression()? });
        Ok(())
    }

    fn check(&mut self, cursor: &mut Cursor<'_>, name: Option<String>, column: Option<String>) -> Result<()> {
        cursor.expect_word("CHECK")?;
        cursor.expect(&Token::LParen, "\"(\" after CHECK")?;
        let expr = cursor.expression()?;
        cursor.expect(&Token::RParen, "\")\" after the checked expression")?;
        if cursor.is_words(&["not", "valid"]) || cursor.is_words(&["no", "inherit"]) {
            return Err(cursor.error(Code::Unsupported, "a CHECK holds for every row, nothing can follow it"));
        }
        self.checks.push(UnnamedCheck { name, column, expr });
        Ok(())
    }

    /// Reads one column with what is declared about it.
    pub(super) fn column(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let at = cursor.location();
        let name = cursor.identifier("a column name")?;
        if self.columns.len() == MAX_COLUMNS {
            let kind = if self.of_table.is_some() { "table" } else { "stream" };
            let message = format!("a {kind} has at most {MAX_COLUMNS} columns");
            return Err(cursor.error_at(Code::TooLarge, message, at));
        }
        if self.columns.iter().any(|c| c.name.eq_ignore_ascii_case(&name)) {
            return Err(cursor.error_at(Code::DuplicateColumn, format!("column {name:?} is named twice"), at));
        }
        if matches!(cursor.peek().token, Token::Comma | Token::RParen | Token::EOF) {
            return Err(
                cursor.error(Code::SyntaxError, format!("expected a type for column {name:?}, as in {name} text"))
            );
        }
        if self.of_table.is_some() {
            serial_advice(cursor)?;
        }
        let mut column = Column::new(name, data_type(cursor)?);
        let mut nullable = None;
        while self.column_clause(cursor, &mut column, &mut nullable)? {}
        column.nullable = nullable.unwrap_or(true);
        if let Some(table) = self.of_table.as_mut().filter(|_| nullable == Some(true)) {
            table.declared_null.push(column.name.clone());
        }
        self.columns.push(column);
        Ok(())
    }

    fn column_clause(
        &mut self,
        cursor: &mut Cursor<'_>,
        column: &mut Column,
        nullable: &mut Option<bool>,
    ) -> Result<bool> {
        let at = cursor.location();
        if let Some(table) = &mut self.of_table
            && table.column_clause(cursor, &column.name)?
        {
            return Ok(true);
        }
        let contradiction = |what: &str| {
            let message = format!("column {:?} has {what}", column.name);
            cursor.error_at(Code::InvalidDefinition, message, at)
        };
        if cursor.is_words(&["not", "null"]) || cursor.is_words(&["null"]) {
            let says = cursor.is_words(&["null"]);
            if nullable.is_some_and(|n| n != says) {
                return Err(contradiction("both NULL and NOT NULL"));
            }
            *nullable = Some(says);
            cursor.take_word("not");
            cursor.advance();
        } else if cursor.is_words(&["default"]) {
            if column.default.is_some() {
                return Err(contradiction("two defaults"));
            }
            cursor.advance();
            column.default = Some(cursor.default_expression()?);
        } else if cursor.is_words(&["comment"]) {
            if column.comment.is_some() {
                return Err(contradiction("two comments"));
            }
            cursor.advance();
            column.comment = Some(cursor.string("the comment's text in quotes")?);
        } else if cursor.is_words(&["check"]) {
            self.check(cursor, None, Some(column.name.clone()))?;
        } else if cursor.is_words(&["constraint"]) {
            cursor.advance();
            let name = cursor.identifier("a constraint name")?;
            self.refuse_keys(cursor)?;
            if cursor.is_words(&["not", "null"]) || cursor.is_words(&["null"]) {
                return Ok(true);
            }
            self.check(cursor, Some(name), Some(column.name.clone()))?;
        } else {
            self.refuse_keys(cursor)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Refuses constraints that a stream cannot keep; a table's are read before, or refused by it.
    fn refuse_keys(&self, cursor: &Cursor<'_>) -> Result<()> {
        if self.of_table.is_some() { Ok(()) } else { refuse_keys(cursor) }
    }

    /// The checks, each with a name: `<stream>_<column>_check` and `<stream>_check`, numbered where that is taken.
    pub(super) fn named_checks(self, cursor: &Cursor<'_>, stream: &ObjectName, taken: &[Check]) -> Result<Vec<Check>> {
        let mut names: Vec<String> = taken.iter().map(|c| c.name.clone()).collect();
        for name in self.checks.iter().filter_map(|c| c.name.as_ref()) {
            if names.contains(name) {
                let kind = if self.of_table.is_some() { "table" } else { "stream" };
                let message = format!("constraint {name:?} is named twice in {kind} {stream}");
                return Err(cursor.error(Code::InvalidDefinition, message));
            }
            names.push(name.clone());
        }
        let mut checks = Vec::with_capacity(self.checks.len());
        for check in self.checks {
            let name = check.name.unwrap_or_else(|| {
                let base = match &check.column {
                    Some(column) => format!("{}_{column}_check", stream.name()),
                    None => format!("{}_check", stream.name()),
                };
                let numbered = |n: usize| if n == 0 { base.clone() } else { format!("{base}{n}") };
                let free = (0..).map(numbered).find(|n| !names.contains(n)).unwrap_or(base.clone());
                names.push(free.clone());
                free
            });
            checks.push(Check { name, expr: check.expr });
        }
        Ok(checks)
    }
}

/// Constraints that a log of events cannot keep.
fn refuse_keys(cursor: &Cursor<'_>) -> Result<()> {
    let message = if cursor.is_words(&["primary", "key"]) || cursor.is_words(&["unique"]) {
        "a stream is append-only and keeps every row, so it has no PRIMARY KEY or UNIQUE: send an Idempotency-Key so \
         that retries add nothing, or remove duplicates in the query"
    } else if cursor.is_words(&["references"]) || cursor.is_words(&["foreign", "key"]) {
        "a stream takes rows without looking at other objects, so it has no REFERENCES or FOREIGN KEY: join in the query"
    } else if cursor.is_words(&["generated"]) {
        "a stream has no generated columns: give the column a DEFAULT, or compute it in the query"
    } else if cursor.is_words(&["exclude"]) {
        "a stream has no EXCLUDE constraints"
    } else if cursor.is_words(&["collate"]) {
        "text is compared by its bytes, COLLATE is not supported"
    } else {
        return Ok(());
    };
    Err(cursor.error(Code::Unsupported, message))
}
