//! Owns the engine's errors, and what a DataFusion error is to a client.

use datafusion::error::DataFusionError;
use millstream_catalog::fault::{Code, Fault};

use crate::ddl::char_position;
use crate::query_error::describe;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the engine refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// From the catalog.
    #[error(transparent)]
    Catalog(#[from] millstream_catalog::Error),
    /// From a log.
    #[error(transparent)]
    Log(#[from] millstream_buffer::Error),
    /// From the lake.
    #[error(transparent)]
    Lake(#[from] millstream_store::Error),
    /// A failure with its own code; what most of the engine's own checks give.
    #[error("{message}")]
    Rejected {
        /// What it is to a client.
        code: Code,
        /// The object, the cause and the fix.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// A 1-based character position in the SQL text.
        position: Option<usize>,
    },
    /// From planning or running a query.
    #[error("{message}")]
    Query {
        /// What it is to a client.
        code: Code,
        /// The message, without DataFusion's prefixes.
        message: String,
        /// A 1-based character position in the SQL text.
        position: Option<usize>,
        /// The cause.
        #[source]
        source: Box<DataFusionError>,
    },
}

impl Error {
    /// A failure with a code and a message.
    pub fn rejected(code: Code, message: impl Into<String>) -> Self {
        Error::Rejected { code, message: message.into(), hint: None, position: None }
    }
}

impl Fault for Error {
    fn code(&self) -> Code {
        match self {
            Error::Catalog(e) => e.code(),
            Error::Log(e) => e.code(),
            Error::Lake(e) => e.code(),
            Error::Rejected { code, .. } | Error::Query { code, .. } => *code,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Rejected { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    fn position(&self) -> Option<usize> {
        match self {
            Error::Rejected { position, .. } | Error::Query { position, .. } => *position,
            _ => None,
        }
    }
}

/// The message with the messages of its causes, for logs and `system.jobs`.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent wrapper repeats its cause's words.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl Error {
    /// What a DataFusion error is to a client. An error of the engine's own that passed through a plan comes out as
    /// itself; `sql` is the statement's text, for the position.
    pub(crate) fn from_datafusion(error: DataFusionError, sql: &str) -> Self {
        match own(error) {
            Ok(own) => own,
            Err(error) => {
                let position = span_start(&error).map(|(line, column)| char_position(sql, line, column));
                let (code, message) = describe(&error);
                Error::Query { code, message, position, source: Box::new(error) }
            }
        }
    }
}

/// The engine's own error inside, if there is one.
fn own(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => Ok(*own),
            Err(inner) => match inner.downcast::<DataFusionError>() {
                Ok(nested) => self::own(*nested),
                Err(inner) => match inner.downcast::<millstream_store::Error>() {
                    Ok(lake) => Ok(Error::Lake(*lake)),
                    Err(inner) => Err(DataFusionError::External(inner)),
                },
            },
        },
        DataFusionError::Context(context, inner) => {
            self::own(*inner).map_err(|e| DataFusionError::Context(context, Box::new(e)))
        }
        DataFusionError::ArrowError(arrow, backtrace) => match *arrow {
            arrow::error::ArrowError::ExternalError(inner) => self::own(DataFusionError::External(inner)),
            other => Err(DataFusionError::ArrowError(Box::new(other), backtrace)),
        },
        other => Err(other),
    }
}

fn span_start(error: &DataFusionError) -> Option<(u64, u64)> {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => match diagnostic.span {
            Some(span) => Some((span.start.line, span.start.column)),
            None => span_start(inner),
        },
        DataFusionError::Context(_, inner) => span_start(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(span_start),
        _ => None,
    }
}
