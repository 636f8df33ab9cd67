//! Owns the lake's errors.

use millstream_catalog::fault::{Code, Fault};

/// The lake's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the lake refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's URL is not one that is understood.
    #[error("store url {url:?}: {reason}")]
    BadUrl {
        /// The URL as given.
        url: String,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// A Delta operation failed.
    #[error("cannot {action} the Delta table at {table}")]
    Delta {
        /// What was tried.
        action: &'static str,
        /// The table's URL.
        table: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object store failed.
    #[error("cannot {action} {path}{}", advice(source.as_ref()))]
    Store {
        /// What was tried.
        action: &'static str,
        /// The object.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The table was at no such version, or it cannot be read any more.
    #[error("{what} of the Delta table at {table} cannot be read: {why}; versions {oldest} to {newest} can")]
    NoVersion {
        /// What was asked for.
        what: String,
        /// The table's URL.
        table: String,
        /// Why it is not there.
        why: String,
        /// The oldest version that can be read.
        oldest: i64,
        /// The newest one.
        newest: i64,
    },
    /// What was asked of a table cannot be done.
    #[error("the Delta table at {table}: {reason}")]
    Refused {
        /// The table's URL.
        table: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Others changed the table meanwhile in a way that what was asked for cannot be done over.
    #[error("the Delta table at {table} was changed meanwhile: {reason}; run the statement again")]
    Clash {
        /// The table's URL.
        table: String,
        /// What changed.
        reason: String,
    },
    /// The table's schema or positions are not what the stream needs.
    #[error("the Delta table at {table} does not fit: {reason}")]
    Misfit {
        /// The table's URL.
        table: String,
        /// What does not fit, and what to do.
        reason: String,
    },
}

/// What to do about a store's failure, where its words tell.
fn advice(source: &(dyn std::error::Error + Send + Sync + 'static)) -> &'static str {
    use object_store::Error::{PermissionDenied, Unauthenticated};
    let text = source.to_string();
    if text.contains("NoSuchBucket") {
        "; make the bucket, or name another one in store.url"
    } else if text.contains("169.254.169.254") {
        "; no keys were given: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run it under a role"
    } else if matches!(source.downcast_ref(), Some(PermissionDenied { .. } | Unauthenticated { .. })) {
        "; check that the keys (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role's) are right and may do this"
    } else if text.contains("HTTP error") {
        "; check that the store's endpoint (AWS_ENDPOINT_URL, or endpoint in [store.options]) is right and up"
    } else {
        ""
    }
}

impl Fault for Error {
    fn code(&self) -> Code {
        match self {
            Error::BadUrl { .. } | Error::NoVersion { .. } | Error::Refused { .. } => Code::InvalidRequest,
            Error::Delta { .. } | Error::Store { .. } => Code::IoError,
            Error::Clash { .. } => Code::SerializationFailure,
            Error::Misfit { .. } => Code::DataCorrupted,
        }
    }
}
