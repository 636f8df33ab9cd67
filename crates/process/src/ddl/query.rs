//! Owns queries inside of statements: where they end, their exact text, and their parse.
//!
//! A query ends where the clauses behind it begin: EMIT, ON ERROR and WITH (…) are not SQL's, so they are looked for
//! from the end of the statement. What stands in parentheses, strings or comments is never one of them.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Word};
use millstream_catalog::ObjectName;
use millstream_catalog::fault::{Code, Fault};

use super::Command;
use super::cursor::Cursor;
use super::split::{Piece, split};
use super::statement::library;
use super::suggest::nearest;
use crate::{Error, Result};

/// A query as it stands in a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryText {
    /// As it is written, without the clauses behind it.
    pub text: String,
    /// The library's parse; locations in it count from the first character of the statement around it.
    pub statement: Box<Statement>,
}

/// Parses the text of a query alone, such as a view's.
pub fn parse_query(text: &str) -> Result<Box<Statement>> {
    let pieces = split(text)?;
    let [piece] =
        <[Piece<'_>; 1]>::try_from(pieces).map_err(|_| Error::rejected(Code::SyntaxError, "expected one query"))?;
    let mut cursor = Cursor::new(piece);
    let rest = cursor.rest();
    Ok(parsed(&mut cursor, &rest, false)?.statement)
}

/// Takes the query that comes next, up to the clauses behind it.
pub(super) fn query(cursor: &mut Cursor<'_>) -> Result<QueryText> {
    let rest = cursor.rest();
    let end = query_length(&rest);
    if end == 0 {
        return Err(cursor.expected("a query"));
    }
    let found = parsed(cursor, &rest[..end], end < rest.len());
    let found = found.map_err(|e| misplaced(cursor, &rest[..end], e))?;
    (0..end).for_each(|_| cursor.advance());
    Ok(found)
}

/// Takes the query that comes next in parentheses.
pub(super) fn query_within(cursor: &mut Cursor<'_>) -> Result<QueryText> {
    let rest = cursor.rest();
    let mut depth = 0_usize;
    let close = rest.iter().position(|t| {
        match t.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let Some(close) = close.filter(|close| *close > 1) else { return Err(cursor.expected("a query in parentheses")) };
    let found = parsed(cursor, &rest[1..close], true)?;
    (0..=close).for_each(|_| cursor.advance());
    Ok(found)
}

/// The query of all rows of an object, or of some of its columns.
pub(super) fn query_of(object: &ObjectName, columns: &[String]) -> Result<QueryText> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let columns = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
    let text = format!("SELECT {columns} FROM {}.{}", quoted(object.schema()), quoted(object.name()));
    Ok(QueryText { statement: parse_query(&text)?, text })
}

/// Takes the query of a view, which has no parameters.
pub(super) fn view_query(cursor: &mut Cursor<'_>) -> Result<QueryText> {
    let tokens = cursor.rest();
    if let Some(t) = tokens.iter().find(|t| matches!(t.token, Token::Placeholder(_))) {
        let message = format!("a view's query takes no parameters, write a value in place of {}", t.token);
        return Err(cursor.error_at(Code::InvalidDefinition, message, t.span.start));
    }
    query(cursor)
}

fn parsed(cursor: &mut Cursor<'_>, tokens: &[TokenWithSpan], followed: bool) -> Result<QueryText> {
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return Err(cursor.expected("a query")) };
    let (start, _) = cursor.text_up_to(first.span.start);
    let (text, offset) = cursor.text_up_to(last.span.end);
    let command = library(Piece { text, offset, tokens: tokens.to_vec() });
    match command.map_err(|e| if followed { of_query(e) } else { e })? {
        Command::Sql(statement) if is_query(&statement) => {
            Ok(QueryText { text: text[start.len()..].to_owned(), statement })
        }
        _ => Err(cursor.error_at(Code::SyntaxError, "expected a query: SELECT, WITH or VALUES", first.span.start)),
    }
}

fn is_query(statement: &Statement) -> bool {
    matches!(statement, Statement::Statement(inner) if matches!(**inner, SqlStatement::Query(_)))
}

/// The statement goes on where the query ends.
fn of_query(error: Error) -> Error {
    match error {
        Error::Rejected { code, message, hint, position } => {
            let message = message.replace("found the end of the statement", "found the end of the query");
            Error::Rejected { code, message, hint, position }
        }
        other => other,
    }
}

/// How many of these tokens are the query's.
fn query_length(tokens: &[TokenWithSpan]) -> usize {
    let mut end = tokens.len();
    while let Some(length) = clause_length(&tokens[..end]) {
        end -= length;
    }
    end
}

/// How many tokens the clause has that ends here, if one does. One that is misspelt counts: its reader says so.
fn clause_length(tokens: &[TokenWithSpan]) -> Option<usize> {
    const CLAUSES: [&[&str]; 7] = [
        &["emit", "on", "window", "close"],
        &["emit", "on", "window"],
        &["emit", "changes"],
        &["on", "error", "quarantine"],
        &["on", "error", "stop"],
        &["with", "data"],
        &["with", "no", "data"],
    ];
    if let Some(words) = CLAUSES.iter().find(|words| ends_with(tokens, words)) {
        return Some(words.len());
    }
    let (last, before) = tokens.split_last()?;
    match &last.token {
        Token::Word(word) => {
            // A column may be called error: ON error ISNULL is a join's condition.
            let postfix = ["isnull", "notnull"].iter().any(|w| word.value.eq_ignore_ascii_case(w));
            if ends_with(before, &["emit", "on", "window"]) {
                Some(4)
            } else if ends_with(before, &["on", "error"]) && !postfix {
                Some(3)
            } else {
                let meant = ends_with(before, &["emit"]) && nearest(&word.value, ["changes"]).is_some();
                meant.then_some(2)
            }
        }
        Token::RParen => {
            let open = matching(tokens)?;
            ends_with(&tokens[..open], &["with"]).then(|| tokens.len() - open + 1)
        }
        _ => None,
    }
}

/// Where the parenthesis opens that the last token closes.
fn matching(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, t) in tokens.iter().enumerate().rev() {
        match t.token {
            Token::RParen => depth += 1,
            Token::LParen => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

fn ends_with(tokens: &[TokenWithSpan], words: &[&str]) -> bool {
    let Some(start) = tokens.len().checked_sub(words.len()) else { return false };
    tokens[start..].iter().zip(words).all(|(t, word)| is_word(t, word))
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

/// `SELECT … EMIT CHANGES`, and what is nearly that; `None` when the statement is no query that ends so.
pub(super) fn emitted(cursor: &mut Cursor<'_>, tokens: &[TokenWithSpan]) -> Result<Option<Command>> {
    const QUERIES: [&str; 4] = ["select", "with", "values", "table"];
    let explained = cursor.is_words(&["explain"]);
    let asked = QUERIES.iter().any(|w| cursor.is_words(&[w])) || cursor.peek().token == Token::LParen;
    if !asked && !explained {
        return Ok(None);
    }
    // Most queries end otherwise, and are not looked at further.
    let solid = tokens.iter().rev().filter(|t| !matches!(t.token, Token::Whitespace(_)));
    if !solid.take(4).any(|t| is_word(t, "emit")) {
        return Ok(None);
    }
    let rest = cursor.rest();
    let emit = rest.len() - clause_length(&rest).unwrap_or(0);
    let Some(at) = rest.get(emit).filter(|t| is_word(t, "emit")).map(|t| t.span.start) else { return Ok(None) };
    let of_window = rest.get(emit + 1).is_some_and(|t| is_word(t, "on"));
    if explained {
        let creates = rest.iter().take(emit).any(|t| is_word(t, "create"));
        let message = "EXPLAIN takes the query without EMIT CHANGES, or CREATE MATERIALIZED VIEW … AS it";
        return if creates { Ok(None) } else { Err(cursor.error_at(Code::Unsupported, message, at)) };
    }
    if of_window {
        let message = "EMIT ON WINDOW CLOSE belongs to CREATE MATERIALIZED VIEW and CREATE STREAM … AS: what asks \
                       once sees the windows that are there, what asks for EMIT CHANGES sees them change";
        return Err(cursor.error_at(Code::Unsupported, message, at));
    }
    let query = query(cursor)?;
    cursor.expect_word("EMIT")?;
    cursor.expect_word("CHANGES")?;
    Ok(Some(Command::EmitChanges { query }))
}

/// Says of a statement that does not parse which clause stands at the wrong place in it, where one does.
pub(super) fn misplaced(cursor: &Cursor<'_>, tokens: &[TokenWithSpan], error: Error) -> Error {
    if error.code() == Code::SyntaxError {
        for words in [&["emit", "on", "window"][..], &["emit", "changes"]] {
            if let Some(at) = find(tokens, words) {
                let clause = if words.len() == 2 { "EMIT CHANGES" } else { "EMIT ON WINDOW CLOSE" };
                let message = format!("{clause} stands behind the whole query, with LIMIT and all else before it");
                return cursor.error_at(Code::SyntaxError, message, at);
            }
        }
    }
    error
}

fn find(tokens: &[TokenWithSpan], words: &[&str]) -> Option<Location> {
    let found = tokens.windows(words.len()).find(|w| w.iter().zip(words).all(|(t, word)| is_word(t, word)))?;
    Some(found[0].span.start)
}
