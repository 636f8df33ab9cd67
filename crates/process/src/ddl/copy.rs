//! Owns COPY: rows from files and clients into streams and tables, and from queries into files and to clients.
//!
//! ```text
//! COPY name [(column, …)] FROM place [[WITH] (option …)]
//! COPY name [(column, …)] | (query) TO place [[WITH] (option …)]
//!   place: 'path or URL or pattern' | ['one', 'other'] | STDIN | STDOUT
//! ```
//!
//! An option is `name value` or `name = value`. What PostgreSQL took before version 9 is taken, too: `CSV HEADER`,
//! `DELIMITER AS ';'`, `NULL ''`, without parentheses.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::ObjectName;
use millstream_catalog::fault::Code;

use super::Command;
use super::cursor::Cursor;
use super::query::{QueryText, query_of, query_within};
use crate::Result;
use crate::files::{CopyFormat, CopyOptions, Format};

/// A COPY into a stream or table.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyFrom {
    /// Into what.
    pub target: ObjectName,
    /// The columns that the rows have; all when there are none.
    pub columns: Vec<String>,
    /// Paths, URLs and patterns; none is what the client sends.
    pub files: Vec<String>,
    /// How.
    pub options: CopyOptions,
}

/// A COPY of rows to somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyTo {
    /// What is copied.
    pub query: QueryText,
    /// The path or URL; none is the client.
    pub file: Option<String>,
    /// How.
    pub options: CopyOptions,
}

/// Reads what stands behind `COPY`.
pub(super) fn copy(cursor: &mut Cursor<'_>) -> Result<Command> {
    if cursor.peek().token == Token::LParen {
        let query = query_within(cursor)?;
        cursor.expect_word("TO")?;
        return copy_to(cursor, query);
    }
    let at = cursor.location();
    let target = cursor.object_name("a stream or table, or a query in parentheses")?;
    let mut columns = Vec::new();
    if cursor.peek().token == Token::LParen {
        columns = cursor.list("the columns", |c| {
            let at = c.location();
            Ok((c.identifier("a column name")?, at))
        })?;
    }
    for (i, (name, at)) in columns.iter().enumerate() {
        if columns[..i].iter().any(|(other, _)| other == name) {
            return Err(cursor.error_at(Code::DuplicateColumn, format!("column {name:?} is named twice"), *at));
        }
    }
    let columns: Vec<String> = columns.into_iter().map(|(name, _)| name).collect();
    if cursor.take_word("to") {
        let query = query_of(&target, &columns)?;
        return copy_to(cursor, query);
    }
    if !cursor.take_word("from") {
        return Err(cursor.expected("FROM or TO"));
    }
    if target.is_system() {
        return Err(cursor.error_at(Code::Denied, format!("{target} is the platform's own"), at));
    }
    let files = sources(cursor)?;
    let options = options(cursor, &files)?;
    Ok(Command::CopyFrom(Box::new(CopyFrom { target, columns, files, options })))
}

fn copy_to(cursor: &mut Cursor<'_>, query: QueryText) -> Result<Command> {
    let file = if cursor.take_word("stdout") { None } else { Some(cursor.string("a file in quotes, or STDOUT")?) };
    let options = options(cursor, file.as_slice())?;
    if file.is_none() && options.format == CopyFormat::File(Format::Json) {
        return Err(cursor.error(Code::Unsupported, "COPY TO STDOUT writes text, csv and binary; json is for files"));
    }
    if options.once || options.quarantine {
        return Err(cursor.error(Code::InvalidRequest, "options once and on_error are for COPY … FROM"));
    }
    Ok(Command::CopyTo(Box::new(CopyTo { query, file, options })))
}

/// `'file'`, `['file', …]`, `('file', …)` or `STDIN`, which is none.
fn sources(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    if cursor.take_word("stdin") {
        return Ok(Vec::new());
    }
    if cursor.is_words(&["program"]) {
        return Err(
            cursor.error(Code::Unsupported, "COPY FROM PROGRAM is not supported: send its output to FROM STDIN")
        );
    }
    let close = if cursor.take(&Token::LBracket) {
        Token::RBracket
    } else if cursor.take(&Token::LParen) {
        Token::RParen
    } else {
        return Ok(vec![cursor.string("a file in quotes, or STDIN")?]);
    };
    let mut files = vec![cursor.string("a file in quotes")?];
    while cursor.take(&Token::Comma) {
        files.push(cursor.string("a file in quotes")?);
    }
    cursor.expect(&close, "\",\" or the end of the list")?;
    Ok(files)
}

fn options(cursor: &mut Cursor<'_>, files: &[String]) -> Result<CopyOptions> {
    let mut given: Vec<(String, Option<String>)> = Vec::new();
    let start = cursor.location();
    cursor.take_word("with");
    if cursor.take(&Token::LParen) {
        loop {
            let name = cursor.identifier("an option name")?;
            let _ = cursor.take(&Token::Eq) || cursor.take(&Token::RArrow);
            given.push((name, value(cursor)?));
            if !cursor.take(&Token::Comma) {
                break;
            }
        }
        cursor.expect(&Token::RParen, "\",\" or \")\"")?;
    } else {
        while !cursor.at_end() {
            given.push(old_option(cursor)?);
        }
    }
    for (i, (name, _)) in given.iter().enumerate() {
        if given[..i].iter().any(|(other, _)| other == name) {
            return Err(cursor.error_at(Code::InvalidRequest, format!("option {name:?} is given twice"), start));
        }
    }
    CopyOptions::read(&given, files).map_err(|e| match e {
        crate::Error::Rejected { code, message, position: None, .. } => cursor.error_at(code, message, start),
        other => other,
    })
}

/// A value, if one stands here.
fn value(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    let found = match &cursor.peek().token {
        Token::Comma | Token::RParen | Token::EOF => return Ok(None),
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_lowercase()),
        Token::Number(digits, _) => Some(digits.clone()),
        _ => None,
    };
    match found {
        Some(word) => {
            cursor.advance();
            Ok(Some(word))
        }
        None => cursor.string("the option's value").map(Some),
    }
}

/// `CSV`, `HEADER`, `DELIMITER [AS] 'x'` and their like.
fn old_option(cursor: &mut Cursor<'_>) -> Result<(String, Option<String>)> {
    let name = cursor.identifier("an option, or the end of the statement")?;
    match name.as_str() {
        "csv" | "binary" | "text" => Ok(("format".to_owned(), Some(name))),
        "header" | "freeze" => Ok((name, None)),
        "delimiter" | "null" | "quote" | "escape" | "encoding" | "format" | "compression" => {
            cursor.take_word("as");
            Ok((name, value(cursor)?))
        }
        _ => Err(cursor.error(Code::SyntaxError, format!("write option {name:?} in parentheses: WITH ({name} …)"))),
    }
}
