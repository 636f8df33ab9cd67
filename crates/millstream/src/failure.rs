//! Owns how a command ends badly: one message on stderr, and the exit code that scripts read.

use std::error::Error as StdError;
use std::process::ExitCode;

use millstream_catalog::fault::{Code, Fault};

use crate::config;

/// A command's result.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// What it is, which gives the exit code.
    pub code: Code,
    /// The object, the cause and the fix.
    pub message: String,
}

impl Failure {
    /// A failure with a code and a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A failure that an input or output error caused; `action` says what was tried.
    pub fn io(action: impl std::fmt::Display, source: &std::io::Error) -> Self {
        let code = if source.kind() == std::io::ErrorKind::StorageFull { Code::DiskFull } else { Code::IoError };
        Self::new(code, format!("cannot {action}: {source}"))
    }

    /// A failure of one of the rooms, with its causes.
    pub fn of(fault: &dyn Fault) -> Self {
        let mut message = fault.to_string();
        let mut cause = fault.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = StdError::source(error);
        }
        if let Some(hint) = fault.hint() {
            message = format!("{message} ({hint})");
        }
        Self::new(fault.code(), message)
    }

    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code.exit_code())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::new(Code::InvalidRequest, error.to_string())
    }
}
