//! Owns how failures and notices look on the PostgreSQL wire.

use millstream_catalog::fault::{Code, Fault};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

/// A failure of a statement, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    sqlstate: &'static str,
    message: String,
    hint: Option<String>,
    /// 1-based, in characters of the query's text.
    position: Option<usize>,
}

impl Report {
    /// A failure that the wire itself finds.
    pub(super) fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), hint: None, position: None }
    }

    /// The same failure with what to do about it.
    pub(super) fn hinted(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// An error of a deeper room.
    pub(super) fn of(fault: &dyn Fault) -> Self {
        Self {
            sqlstate: fault.code().sqlstate(),
            message: fault.to_string(),
            hint: fault.hint(),
            position: fault.position(),
        }
    }

    /// The same failure, its position counted from `characters` earlier.
    pub(super) fn moved(self, characters: usize) -> Self {
        Self { position: self.position.map(|position| position + characters), ..self }
    }

    /// Whether it has this SQLSTATE.
    pub(super) fn is(&self, sqlstate: &str) -> bool {
        self.sqlstate == sqlstate
    }

    /// The message.
    pub(super) fn into_message(self) -> PgWireBackendMessage {
        let mut fields = fields("ERROR", self.sqlstate, self.message);
        fields.extend(self.hint.map(|hint| (b'H', hint)));
        fields.extend(self.position.map(|position| (b'P', position.to_string())));
        PgWireBackendMessage::ErrorResponse(ErrorResponse::new(fields))
    }
}

/// A value of the result that cannot be written.
pub(super) fn unwritable(error: &arrow::error::ArrowError) -> Report {
    Report::new(Code::OutOfRange.sqlstate(), format!("a value of the result cannot be written: {error}"))
}

/// A failure that ends the connection.
pub(super) fn fatal(sqlstate: &str, message: &str) -> PgWireBackendMessage {
    PgWireBackendMessage::ErrorResponse(ErrorResponse::new(fields("FATAL", sqlstate, message.to_owned())))
}

/// Something to tell that is no failure.
pub(super) fn notice(message: String) -> PgWireBackendMessage {
    PgWireBackendMessage::NoticeResponse(NoticeResponse::new(fields("NOTICE", "00000", message)))
}

/// Something that the user should see to.
pub(super) fn warning(sqlstate: &str, message: &str) -> PgWireBackendMessage {
    PgWireBackendMessage::NoticeResponse(NoticeResponse::new(fields("WARNING", sqlstate, message.to_owned())))
}

fn fields(severity: &str, sqlstate: &str, message: String) -> Vec<(u8, String)> {
    // A message is a C string: nothing after a NUL would be seen.
    let message = message.replace('\0', "\u{fffd}");
    vec![(b'S', severity.to_owned()), (b'V', severity.to_owned()), (b'C', sqlstate.to_owned()), (b'M', message)]
}
