//! Owns the choice of a statement's reader by its first words.

use datafusion::error::DataFusionError;
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::ObjectName;
use millstream_catalog::fault::Code;

use super::alter::alter_stream;
use super::copy::copy;
use super::create::create_stream;
use super::cursor::{Cursor, MAX_DEPTH, syntax_error};
use super::depth::refuse_deep;
use super::split::Piece;
use super::standard::{restate, without_only};
use super::suggest::nearest;
use super::{Command, ParsedStatement};
use super::{care, query, schema, session, table, view};
use crate::dml::respell_merge;
use crate::{Error, Result};

/// Parses one statement.
pub(super) fn parse_one(piece: Piece<'_>) -> Result<ParsedStatement> {
    refuse_deep(&piece.tokens)?;
    let (text, offset) = (piece.text, piece.offset);
    let mut cursor = Cursor::new(Piece { text, offset, tokens: piece.tokens.clone() });
    let own = match query::emitted(&mut cursor, &piece.tokens)? {
        None => own(&mut cursor)?,
        emitted => emitted,
    };
    let command = match own {
        Some(command) => {
            cursor.expect_end()?;
            command
        }
        None => library(piece).map_err(|e| query::misplaced(&cursor, &cursor.rest(), e))?,
    };
    let names = cursor.names();
    Ok(ParsedStatement { text: text.to_owned(), offset, command, names })
}

/// The statement, if its first words make it one of Millstream's own.
fn own(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    if let Some(command) = stream_statement(cursor)? {
        return Ok(Some(command));
    }
    if let Some(command) = view::statement(cursor)? {
        return Ok(Some(command));
    }
    if let Some(command) = view::plain_statement(cursor)? {
        return Ok(Some(command));
    }
    if let Some(command) = table::statement(cursor)? {
        return Ok(Some(command));
    }
    if let Some(command) = care::statement(cursor)? {
        return Ok(Some(command));
    }
    if let Some(command) = schema::statement(cursor)? {
        return Ok(Some(command));
    }
    if cursor.is_words(&["describe"]) || cursor.is_words(&["desc"]) {
        return describe(cursor);
    }
    if cursor.take_words(&["comment", "on"]) {
        return comment(cursor).map(Some);
    }
    if cursor.take_word("copy") {
        return copy(cursor).map(Some);
    }
    if cursor.take_word("flush") {
        let name = if cursor.at_end() {
            None
        } else {
            if !cursor.take_word("stream") && !matches!(cursor.peek_nth(1), Token::EOF | Token::Period) {
                cursor.take_word("table");
            }
            Some(cursor.object_name("a stream name")?)
        };
        return Ok(Some(Command::Flush { name }));
    }
    session::statement(cursor)
}

fn stream_statement(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    if cursor.is_words(&["create", "or", "replace", "stream"]) {
        let message = "a stream cannot be replaced, its history would be lost: use ALTER STREAM, or DROP STREAM first";
        return Err(cursor.error(Code::Unsupported, message));
    }
    if cursor.take_words(&["create", "stream"]) {
        return create_stream(cursor).map(Some);
    }
    if cursor.take_words(&["alter", "stream"]) {
        return alter_stream(cursor).map(Some);
    }
    if cursor.take_words(&["drop", "stream"]) {
        return drop_stream(cursor).map(Some);
    }
    if cursor.take_words(&["show", "streams"]) {
        return Ok(Some(Command::ShowStreams { like: like(cursor)? }));
    }
    if cursor.take_words(&["show", "create", "stream"]) {
        return Ok(Some(Command::ShowCreate { name: cursor.object_name("a stream name")? }));
    }
    Ok(None)
}

fn drop_stream(cursor: &mut Cursor<'_>) -> Result<Command> {
    let (name, if_exists, cascade) =
        dropped(cursor, "a stream name", "DROP STREAM takes one stream, write a statement for each")?;
    Ok(Command::DropStream { name, if_exists, cascade })
}

/// `[IF EXISTS] name [CASCADE | RESTRICT]`.
pub(super) fn dropped(cursor: &mut Cursor<'_>, what: &str, one: &str) -> Result<(ObjectName, bool, bool)> {
    let if_exists = cursor.take_words(&["if", "exists"]);
    let name = cursor.own_name(what)?;
    if cursor.peek().token == Token::Comma {
        return Err(cursor.error(Code::SyntaxError, one));
    }
    let cascade = cursor.take_word("cascade");
    if !cascade {
        cursor.take_word("restrict");
    }
    Ok((name, if_exists, cascade))
}

/// `[LIKE 'pattern']`.
pub(super) fn like(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    if cursor.take_word("like") { cursor.string("a pattern in quotes").map(Some) } else { Ok(None) }
}

/// `DESCRIBE name`; DESCRIBE of a query is the library's.
fn describe(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    let kinds = [&["stream"][..], &["table"], &["view"], &["materialized", "view"]];
    let kind = kinds.iter().find(|words| {
        let said = words.iter().enumerate().all(|(i, word)| cursor.is_nth_word(i + 1, word));
        said && matches!(cursor.peek_nth(words.len() + 1), Token::Word(_))
    });
    let n = kind.map_or(1, |words| words.len() + 1);
    let queries = ["select", "with", "values", "table", "extended", "formatted", "insert"];
    if kind.is_none() && queries.iter().any(|word| cursor.is_nth_word(1, word)) && *cursor.peek_nth(2) != Token::EOF {
        return Ok(None);
    }
    (0..n).for_each(|_| cursor.advance());
    Ok(Some(Command::Describe { name: cursor.object_name("a stream or view name")? }))
}

fn comment(cursor: &mut Cursor<'_>) -> Result<Command> {
    if cursor.take_words(&["materialized", "view"]) {
        let name = cursor.own_name("a view name")?;
        return Ok(Command::CommentOnView { name, text: comment_text(cursor)? });
    }
    if cursor.take_word("view") {
        let name = cursor.own_name("a view name")?;
        return Ok(Command::CommentOnPlainView { name, text: comment_text(cursor)? });
    }
    if cursor.take_word("table") {
        let name = cursor.own_name("a table name")?;
        return Ok(Command::CommentOnTable { name, text: comment_text(cursor)? });
    }
    let (name, column) = if cursor.take_word("stream") {
        (cursor.own_name("a stream name")?, None)
    } else if cursor.take_word("column") {
        let at = cursor.location();
        let mut parts = cursor.dotted("stream.column")?;
        let column = parts.pop();
        if parts.is_empty() {
            return Err(cursor.error_at(Code::SyntaxError, "expected stream.column", at));
        }
        let name = cursor.to_object_name(&parts, at)?;
        if name.is_system() {
            return Err(cursor.error_at(Code::Denied, format!("{name} is the platform's own"), at));
        }
        (name, column)
    } else {
        return Err(cursor.expected("STREAM, TABLE, VIEW, MATERIALIZED VIEW or COLUMN"));
    };
    Ok(Command::Comment { name, column, text: comment_text(cursor)? })
}

/// `IS 'text'` or `IS NULL`.
fn comment_text(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    cursor.expect_word("IS")?;
    let text = if cursor.take_word("null") { None } else { Some(cursor.string("the text in quotes, or NULL")?) };
    Ok(text.filter(|t| !t.is_empty()))
}

/// Every other statement, by the library; window functions and standard words in it are as the planner takes them.
pub(super) fn library(piece: Piece<'_>) -> Result<Command> {
    let Piece { text, offset, tokens } = piece;
    let tokens = respell_merge(without_only(tokens));
    let solid = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_)));
    let words: Vec<Token> = solid.take(2).map(|t| t.token.clone()).collect();
    let dialect = PostgreSqlDialect {};
    let convert = |e: DataFusionError| parser_error(e, text, offset);
    let mut parser =
        DFParserBuilder::new(tokens).with_dialect(&dialect).with_recursion_limit(MAX_DEPTH).build().map_err(convert)?;
    let mut statements = parser.parse_statements().map_err(|e| guess(convert(e), &words))?;
    match statements.pop_front() {
        Some(mut statement) if statements.is_empty() => {
            millstream_windows::rewrite(&mut statement);
            restate(&mut statement, text, offset)?;
            Ok(Command::Sql(Box::new(statement)))
        }
        _ => Err(Error::rejected(Code::SyntaxError, "expected one statement")),
    }
}

fn parser_error(error: DataFusionError, text: &str, offset: usize) -> Error {
    match error {
        DataFusionError::SQL(error, _) => syntax_error(*error, text, offset),
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => {
            parser_error(*inner, text, offset)
        }
        other => {
            let message = other.strip_backtrace();
            Error::Rejected { code: Code::SyntaxError, message, hint: None, position: None }
        }
    }
}

/// Adds what a misspelt first word was meant to be, or the second where the first makes or changes something.
fn guess(error: Error, words: &[Token]) -> Error {
    const STARTS: &[&str] = &[
        "select", "insert", "create", "alter", "drop", "show", "describe", "comment", "explain", "with", "values",
        "set", "begin", "commit", "rollback", "flush", "delete", "update", "merge", "truncate", "copy",
    ];
    const OBJECTS: &[&str] = &["stream", "table", "view", "schema", "materialized", "replacement"];
    let Error::Rejected { code, message, hint: None, position } = error else { return error };
    let word = |n: usize| match words.get(n) {
        Some(Token::Word(word)) => Some(word.value.to_lowercase()),
        _ => None,
    };
    let meant = match (word(0), word(1)) {
        (Some(first), _) if !STARTS.contains(&first.as_str()) => nearest(&first, STARTS.iter().copied()),
        (Some(first), Some(second)) if ["create", "alter", "drop"].contains(&first.as_str()) => {
            nearest(&second, OBJECTS.iter().copied())
        }
        _ => None,
    };
    let hint = meant.map(|s| format!("did you mean {}?", s.to_uppercase()));
    Error::Rejected { code, message, hint, position }
}
