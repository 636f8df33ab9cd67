//! Owns how delimited text is written: delimiter, quotes, the sign for NULL, the header.

use millstream_catalog::fault::Code;

use crate::{Error, Result};

/// Whether the first record names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It does.
    Yes,
    /// It holds values.
    No,
    /// It does when each of its cells is the name of a column.
    IfItNamesColumns,
}

/// How delimited text is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// What stands between values.
    pub delimiter: u8,
    /// What stands around values that need it; `None` where nothing does.
    pub quote: Option<u8>,
    /// What makes the quote after it a part of the value.
    pub escape: u8,
    /// What stands, unquoted, for NULL.
    pub null: String,
    /// Whether the first record names the columns.
    pub header: Header,
    /// PostgreSQL's text format: no quotes, backslashes before what is special.
    pub backslashes: bool,
}

impl Dialect {
    /// CSV as RFC 4180 has it.
    pub fn csv() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            escape: b'"',
            null: String::new(),
            header: Header::Yes,
            backslashes: false,
        }
    }

    /// PostgreSQL's text format.
    pub fn text() -> Self {
        Self {
            delimiter: b'\t',
            quote: None,
            escape: b'\\',
            null: "\\N".to_owned(),
            header: Header::No,
            backslashes: true,
        }
    }

    /// Refuses what could not be told apart.
    pub fn check(&self) -> Result<()> {
        let bad = |message: String| Err(Error::rejected(Code::InvalidRequest, message));
        let ends_line = |byte: u8| byte == b'\n' || byte == b'\r';
        if ends_line(self.delimiter) || self.quote.is_some_and(ends_line) {
            return bad("a delimiter or quote must not be the end of a line".to_owned());
        }
        if self.quote == Some(self.delimiter) {
            return bad(format!("delimiter and quote are both {:?}, they must differ", char::from(self.delimiter)));
        }
        if self.null.contains(['\n', '\r']) || self.null.as_bytes().contains(&self.delimiter) {
            return bad(format!("the text for NULL, {:?}, must not hold a delimiter or the end of a line", self.null));
        }
        Ok(())
    }
}

/// One byte of an option's value.
pub fn one_byte(option: &str, value: &str) -> Result<u8> {
    match value.as_bytes() {
        [byte] => Ok(*byte),
        b"\\t" => Ok(b'\t'),
        _ => Err(Error::rejected(
            Code::InvalidRequest,
            format!("option {option} = {value:?} must be one ASCII character, such as ',' or E'\\t'"),
        )),
    }
}
