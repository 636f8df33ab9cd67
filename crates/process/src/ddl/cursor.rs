//! Owns the walk over a statement's tokens, and how a syntax error reads.

use std::cell::RefCell;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Word};
use millstream_catalog::ObjectName;
use millstream_catalog::fault::{Code, Fault};

use super::split::{Piece, byte_offset, char_position};
use super::{NamedAt, Naming, TEMPORARY, is_temporary_schema};
use crate::{Error, Result};

/// How deep expressions and queries may nest.
pub(super) const MAX_DEPTH: usize = 50;

const DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// A statement and the next token in it.
pub(super) struct Cursor<'a> {
    parser: Parser<'a>,
    text: &'a str,
    offset: usize,
    /// The names of objects that were read.
    names: RefCell<Vec<NamedAt>>,
    /// Whether the first of them is to be made.
    makes: bool,
    /// `>` characters of the current token that close nested types and are not used up yet.
    pub(super) open_closers: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(piece: Piece<'a>) -> Self {
        let parser = Parser::new(&DIALECT).with_tokens_with_locations(piece.tokens).with_recursion_limit(MAX_DEPTH);
        let mut cursor = Self {
            parser,
            text: piece.text,
            offset: piece.offset,
            names: RefCell::default(),
            makes: false,
            open_closers: 0,
        };
        cursor.makes = cursor.is_words(&["create"]) || cursor.is_words(&["explain"]);
        cursor
    }

    /// The names of objects that were read, as they stand in the text.
    pub(super) fn names(&self) -> Vec<NamedAt> {
        self.names.borrow().clone()
    }

    /// The next token.
    pub(super) fn peek(&self) -> &TokenWithSpan {
        self.parser.peek_token_ref()
    }

    /// The token after `n` others.
    pub(super) fn peek_nth(&self, n: usize) -> &Token {
        &self.parser.peek_nth_token_ref(n).token
    }

    pub(super) fn advance(&mut self) {
        self.parser.advance_token();
    }

    /// What is left of the statement, without white space.
    pub(super) fn rest(&self) -> Vec<TokenWithSpan> {
        let left = (self.parser.index()..).map(|i| self.parser.token_at(i));
        let left = left.take_while(|t| t.token != Token::EOF);
        left.filter(|t| !matches!(t.token, Token::Whitespace(_))).cloned().collect()
    }

    /// The statement's text up to a place in it, and the characters before the statement.
    pub(super) fn text_up_to(&self, end: Location) -> (&'a str, usize) {
        (&self.text[..byte_offset(self.text, end)], self.offset)
    }

    pub(super) fn at_end(&self) -> bool {
        self.peek().token == Token::EOF
    }

    /// Where the next token starts.
    pub(super) fn location(&self) -> Location {
        self.peek().span.start
    }

    /// Whether the token after `n` others is that unquoted word.
    pub(super) fn is_nth_word(&self, n: usize, word: &str) -> bool {
        matches!(self.peek_nth(n), Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
    }

    /// Whether the next tokens are those unquoted words.
    pub(super) fn is_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, word)| self.is_nth_word(n, word))
    }

    /// Takes those unquoted words if they come next, all or none.
    pub(super) fn take_words(&mut self, words: &[&str]) -> bool {
        let found = self.is_words(words);
        if found {
            words.iter().for_each(|_| self.advance());
        }
        found
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        self.take_words(&[word])
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) { Ok(()) } else { Err(self.expected(word)) }
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    pub(super) fn expect(&mut self, token: &Token, what: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.expected(what)) }
    }

    pub(super) fn expect_end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { Err(self.expected("the end of the statement")) }
    }

    /// An identifier: folded to lower case unless it is quoted.
    pub(super) fn identifier(&mut self, what: &str) -> Result<String> {
        let Token::Word(word) = &self.peek().token else { return Err(self.expected(what)) };
        let name = folded(word);
        self.advance();
        Ok(name)
    }

    /// `name` or `schema.name`.
    pub(super) fn object_name(&mut self, what: &str) -> Result<ObjectName> {
        let at = self.location();
        let parts = self.dotted(what)?;
        self.to_object_name(&parts, at)
    }

    /// Identifiers with dots between them.
    pub(super) fn dotted(&mut self, what: &str) -> Result<Vec<String>> {
        let mut parts = vec![self.identifier(what)?];
        while self.take(&Token::Period) {
            parts.push(self.identifier("a name after \".\"")?);
        }
        Ok(parts)
    }

    pub(super) fn to_object_name(&self, parts: &[String], at: Location) -> Result<ObjectName> {
        let mut names = self.names.borrow_mut();
        let name = match parts {
            [name] => {
                let made = self.makes && names.is_empty();
                let naming = if made { Naming::Made(name.clone()) } else { Naming::Existing(name.clone()) };
                names.push(NamedAt { at, naming });
                ObjectName::public(name)
            }
            [schema, name] => {
                names.push(NamedAt { at, naming: Naming::InSchema(schema.clone()) });
                ObjectName::new(schema, name)
            }
            _ => {
                let message = format!("{:?} has too many parts, write schema.name", parts.join("."));
                return Err(self.error_at(Code::InvalidName, message, at));
            }
        };
        name.map_err(|e| self.error_at(e.code(), e.to_string(), at))
    }

    /// The name of a temporary table that is to be made, which lies in no schema but that of such.
    pub(super) fn temporary_name(&mut self) -> Result<ObjectName> {
        let at = self.location();
        let parts = self.dotted("a table name")?;
        match parts.as_slice() {
            [name] => {
                self.names.borrow_mut().push(NamedAt { at, naming: Naming::Temporary });
                ObjectName::new(TEMPORARY, name).map_err(|e| self.error_at(e.code(), e.to_string(), at))
            }
            [schema, ..] if !is_temporary_schema(schema) => {
                let message = format!("a temporary table lies in no schema, leave {schema:?} out");
                Err(self.error_at(Code::InvalidDefinition, message, at))
            }
            _ => self.to_object_name(&parts, at),
        }
    }

    /// The name of an object that is to be made or changed: not one of the platform's own.
    pub(super) fn own_name(&mut self, what: &str) -> Result<ObjectName> {
        let at = self.location();
        let name = self.object_name(what)?;
        if name.is_system() {
            let message = format!("{name} is the platform's own: nothing in schema \"system\" can be made or changed");
            return Err(self.error_at(Code::Denied, message, at));
        }
        Ok(name)
    }

    /// A string literal.
    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        let text = match &self.peek().token {
            Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s) | Token::UnicodeStringLiteral(s) => s.clone(),
            Token::DollarQuotedString(s) => s.value.clone(),
            _ => return Err(self.expected(what)),
        };
        self.advance();
        Ok(text)
    }

    /// An unsigned whole number.
    pub(super) fn whole_number(&mut self, what: &str) -> Result<u64> {
        let Token::Number(digits, _) = &self.peek().token else { return Err(self.expected(what)) };
        let Ok(number) = digits.parse() else { return Err(self.expected(what)) };
        self.advance();
        Ok(number)
    }

    /// `( item, … )`.
    pub(super) fn list<T>(&mut self, what: &str, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect(&Token::LParen, &format!("\"(\" before {what}"))?;
        let mut items = vec![item(self)?];
        while self.take(&Token::Comma) {
            items.push(item(self)?);
        }
        self.expect(&Token::RParen, "\",\" or \")\"")?;
        Ok(items)
    }

    /// An expression, as it is written.
    pub(super) fn expression(&mut self) -> Result<String> {
        self.expression_above(0)
    }

    /// An expression whose operators bind closer than NOT and IS, so that a column's DEFAULT ends before NOT NULL.
    pub(super) fn default_expression(&mut self) -> Result<String> {
        const IS: u8 = 40;
        self.expression_above(IS)
    }

    fn expression_above(&mut self, precedence: u8) -> Result<String> {
        let start = self.location();
        let parsed: Result<Expr, ParserError> = self.parser.parse_subexpr(precedence);
        parsed.map_err(|e| syntax_error(e, self.text, self.offset))?;
        let mut last = self.parser.get_current_index();
        while last > 0 && matches!(self.parser.token_at(last).token, Token::Whitespace(_)) {
            last -= 1;
        }
        let (from, to) = (byte_offset(self.text, start), byte_offset(self.text, self.parser.token_at(last).span.end));
        Ok(self.text[from..to.max(from)].to_owned())
    }

    /// Another thing than the next token was expected.
    pub(super) fn expected(&self, what: &str) -> Error {
        let found = self.peek();
        let message = format!("expected {what}, found {}", shown(&found.token));
        self.error_at(Code::SyntaxError, message, found.span.start)
    }

    /// An error about the next token.
    pub(super) fn error(&self, code: Code, message: impl Into<String>) -> Error {
        self.error_at(code, message, self.location())
    }

    /// An error about the token at `location`.
    pub(super) fn error_at(&self, code: Code, message: impl Into<String>, location: Location) -> Error {
        let position = self.offset + char_position(self.text, location.line, location.column);
        Error::Rejected { code, message: message.into(), hint: None, position: Some(position) }
    }
}

/// What an identifier is called: lower case unless it is quoted.
pub(super) fn folded(word: &Word) -> String {
    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() }
}

fn shown(token: &Token) -> String {
    match token {
        Token::EOF => "the end of the statement".to_owned(),
        token => near(&token.to_string()),
    }
}

fn near(text: &str) -> String {
    const LONGEST: usize = 40;
    let quoted = |t: &str| if t.contains('"') { t.to_owned() } else { format!("\"{t}\"") };
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => quoted(&format!("{}…", &text[..cut])),
        None => quoted(text),
    }
}

/// A library's syntax error in Millstream's words, with its position; `offset` characters stand before `text`.
pub(super) fn syntax_error(error: ParserError, text: &str, offset: usize) -> Error {
    let message = match error {
        ParserError::ParserError(m) | ParserError::TokenizerError(m) => m,
        ParserError::RecursionLimitExceeded => {
            let message = format!("the statement nests deeper than {MAX_DEPTH} levels");
            return Error::Rejected { code: Code::TooLarge, message, hint: None, position: None };
        }
    };
    let (message, (line, column)) = cut_location(&message);
    let message = match message.strip_prefix("Expected: ").and_then(|m| m.split_once(", found: ")) {
        Some((expected, "EOF")) => format!("expected {expected}, found the end of the statement"),
        Some((expected, found)) => format!("expected {expected}, found {}", near(found)),
        None => lower_first(message),
    };
    let position = offset + char_position(text, line, column);
    Error::Rejected { code: Code::SyntaxError, message, hint: None, position: Some(position) }
}

/// Takes ` at Line: 1, Column: 7` off a message.
fn cut_location(message: &str) -> (&str, (u64, u64)) {
    let parsed = message.rsplit_once(" at Line: ").and_then(|(head, tail)| {
        let (line, column) = tail.split_once(", Column: ")?;
        Some((head, (line.parse().ok()?, column.parse().ok()?)))
    });
    parsed.unwrap_or((message, (0, 0)))
}

fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match (chars.next(), chars.clone().next()) {
        // A keyword stays as it is.
        (Some(first), second) if !second.is_some_and(char::is_uppercase) => first.to_lowercase().chain(chars).collect(),
        _ => message.to_owned(),
    }
}
