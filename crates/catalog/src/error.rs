//! Owns the catalog's errors.

use crate::fault::{Code, Fault};

/// The catalog's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the catalog refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that cannot be an object's.
    #[error("invalid name {name:?}: {reason}")]
    InvalidName {
        /// The name as given, cut to 80 characters.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A definition that contradicts itself.
    #[error("invalid definition of {object}: {reason}")]
    InvalidDefinition {
        /// The object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A type that is not supported.
    #[error("type {data_type} is not supported: {reason}")]
    UnsupportedType {
        /// The type as written.
        data_type: String,
        /// Why, or what to use instead.
        reason: String,
    },
    /// No object of that name.
    #[error("{kind} {name:?} does not exist")]
    NotFound {
        /// What was looked for: stream, schema, ….
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The name is taken.
    #[error("{kind} {name:?} already exists")]
    AlreadyExists {
        /// What exists.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The object changed since the caller read it.
    #[error("{name} was changed by another statement, try again")]
    Changed {
        /// The object.
        name: String,
    },
    /// Other objects read it.
    #[error("{object} cannot be {action} while {readers}: {fix}")]
    InUse {
        /// The object.
        object: String,
        /// What was to be done to it: dropped, renamed, ….
        action: &'static str,
        /// Who reads it, `materialized view "a" reads it`.
        readers: String,
        /// What to do first.
        fix: &'static str,
    },
    /// Files are being removed, or made, under the name of an object that is not there.
    #[error("{name:?} is being made or removed by another statement, try again")]
    DropUnfinished {
        /// The name.
        name: String,
    },
    /// Something stored was written by a newer version.
    #[error(
        "{object} has format {found} and this version reads up to {known}: start the newer millstream that wrote it"
    )]
    Newer {
        /// What has the format.
        object: String,
        /// The format found.
        found: i64,
        /// The newest format this version reads.
        known: i64,
    },
    /// The file that keeps the catalog failed.
    #[error("the catalog at {path} cannot be {action}")]
    Storage {
        /// The file.
        path: String,
        /// What was tried: opened, read, written.
        action: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored definition does not decode.
    #[error("the catalog's entry for {object} cannot be read")]
    Corrupt {
        /// The object.
        object: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

impl Fault for Error {
    fn code(&self) -> Code {
        match self {
            Error::InvalidName { .. } => Code::InvalidName,
            Error::InvalidDefinition { .. } => Code::InvalidDefinition,
            Error::UnsupportedType { .. } => Code::Unsupported,
            Error::NotFound { kind: "schema", .. } => Code::UndefinedSchema,
            Error::NotFound { .. } => Code::UndefinedObject,
            Error::AlreadyExists { .. } => Code::DuplicateObject,
            Error::InUse { .. } => Code::DependentObjects,
            Error::Changed { .. } | Error::DropUnfinished { .. } => Code::Busy,
            Error::Newer { .. } => Code::Unsupported,
            Error::Storage { .. } => Code::IoError,
            Error::Corrupt { .. } => Code::DataCorrupted,
        }
    }
}
