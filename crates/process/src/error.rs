//! Owns the engine's errors, and what a DataFusion error is to a client.

use datafusion::error::DataFusionError;
use millstream_catalog::fault::{Code, Fault};

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
