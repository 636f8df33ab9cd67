//! Owns what can go wrong when a query is compiled to a dataflow, or the dataflow runs.

use std::path::{Path, PathBuf};

use datafusion::error::DataFusionError;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The query can't be kept up to date row by row.
    #[error("{operator} cannot be kept up to date incrementally: {instead}")]
    NotIncremental {
        /// The operator, as SQL spells it.
        operator: String,
        /// The reason, and what to write instead.
        instead: String,
    },
    /// The engine refused the plan, or an expression failed.
    #[error("{0}")]
    Engine(#[from] DataFusionError),
    /// Columns did not fit together.
    #[error("{0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// State does not fit the dataflow: it is another's, or damaged.
    #[error("the state of {node} cannot be used: {reason}")]
    State {
        /// The node.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk refused.
    #[error("the state in {path} cannot be read or written: {source}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not as it was written.
    #[error("the state in {path} is damaged at byte {position}: {reason}; drop it and build the view again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// A sync failed before, so that nothing is certain any more about what is written.
    #[error("the state in {path} takes no more writes until a restart: {reason}")]
    Poisoned {
        /// The folder.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
}

impl Error {
    pub(crate) fn disk(path: &Path, source: std::io::Error) -> Self {
        Self::Disk { path: path.to_path_buf(), source }
    }

    pub(crate) fn damaged(path: &Path, position: u64, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), position, reason: reason.into() }
    }

    pub(crate) fn not_incremental(operator: impl Into<String>, instead: impl Into<String>) -> Self {
        Self::NotIncremental { operator: operator.into(), instead: instead.into() }
    }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
