//! Owns what can go wrong when a query is compiled to a dataflow, or the dataflow runs.

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
}

impl Error {
    pub(crate) fn not_incremental(operator: impl Into<String>, instead: impl Into<String>) -> Self {
        Self::NotIncremental { operator: operator.into(), instead: instead.into() }
    }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
