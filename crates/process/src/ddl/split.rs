//! Owns the cut of a text into statements, and where characters of it lie.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use super::cursor::syntax_error;
use crate::Result;

/// One statement, tokenized; locations count from its own first character.
pub(super) struct Piece<'a> {
    /// Its text.
    pub text: &'a str,
    /// Characters of the whole text before it.
    pub offset: usize,
    /// Its tokens, without white space around them, window functions spelled as the library's parser reads them.
    pub tokens: Vec<TokenWithSpan>,
}

/// Cuts a text at the semicolons between statements; empty statements are left out.
pub(super) fn split(sql: &str) -> Result<Vec<Piece<'_>>> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(|e| syntax_error(ParserError::from(e), sql, 0))?;
    let mut pieces = Vec::new();
    let mut current = Vec::new();
    for token in tokens {
        if token.token == Token::SemiColon {
            pieces.extend(piece(sql, std::mem::take(&mut current)));
        } else {
            current.push(token);
        }
    }
    pieces.extend(piece(sql, current));
    Ok(pieces)
}

/// The tokens of a text, without white space.
pub(crate) fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location();
    let mut tokens = tokens.map_err(|e| syntax_error(ParserError::from(e), sql, 0))?;
    tokens.retain(|t| !matches!(t.token, Token::Whitespace(_)));
    Ok(tokens)
}

fn piece(sql: &str, mut tokens: Vec<TokenWithSpan>) -> Option<Piece<'_>> {
    let solid = |t: &TokenWithSpan| !matches!(t.token, Token::Whitespace(_) | Token::EOF);
    let last = tokens.iter().rposition(solid)?;
    let first = tokens.iter().position(solid)?;
    tokens.truncate(last + 1);
    tokens.drain(..first);
    let (start, end) = (tokens.first()?.span.start, tokens.last()?.span.end);
    let (from, to) = (byte_offset(sql, start), byte_offset(sql, end));
    for token in &mut tokens {
        token.span = Span::new(relative(token.span.start, start), relative(token.span.end, start));
    }
    let tokens = crate::files::respell(millstream_windows::respell(tokens));
    Some(Piece { text: &sql[from..to], offset: sql[..from].chars().count(), tokens })
}

fn relative(location: Location, start: Location) -> Location {
    let line = location.line - start.line + 1;
    let column = if line == 1 { location.column - start.column + 1 } else { location.column };
    Location::new(line, column)
}

/// Where in `text` a line and column lie, as a byte offset; the end when they lie behind it.
pub(crate) fn byte_offset(text: &str, location: Location) -> usize {
    let mut start = 0;
    for _ in 1..location.line {
        match text[start..].find('\n') {
            Some(i) => start += i + 1,
            None => return text.len(),
        }
    }
    let column = (location.column as usize).saturating_sub(1);
    text[start..].char_indices().nth(column).map_or(text.len(), |(i, _)| start + i)
}

/// The 1-based character position of a 1-based line and column in `text`, as the wire's error position counts; the
/// position behind the last character when they lie behind it, or when line 0 says that they are not known.
pub fn char_position(text: &str, line: u64, column: u64) -> usize {
    if line == 0 {
        return text.chars().count() + 1;
    }
    text[..byte_offset(text, Location::new(line, column))].chars().count() + 1
}
