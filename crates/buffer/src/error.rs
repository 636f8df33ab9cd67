//! Owns the log's errors.

use millstream_catalog::fault::{Code, Fault};

/// The log's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the log refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Too many bytes wait for the disk.
    #[error("the log has {queued_bytes} bytes waiting for the disk, its limit is {limit_bytes}")]
    Busy {
        /// Bytes waiting.
        queued_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The disk has no room; the log takes writes again when it has.
    #[error("no space left on the disk that holds {path}")]
    DiskFull {
        /// The segment file.
        path: String,
    },
    /// An earlier failure left the log unable to promise durability; a restart recovers it.
    #[error("the log at {path} refuses writes until a restart: {reason}")]
    Poisoned {
        /// The log's folder.
        path: String,
        /// What happened.
        reason: String,
    },
    /// Stored bytes are damaged before the log's tail.
    #[error("the log is damaged in {segment} at byte {position}: {reason}")]
    Corrupt {
        /// The segment file.
        segment: String,
        /// Where in it.
        position: u64,
        /// What was found.
        reason: String,
    },
    /// A read asked for rows that retention has removed.
    #[error("offset {offset} of partition {partition} is gone, the log starts at {start}")]
    Trimmed {
        /// The partition.
        partition: u32,
        /// The offset asked for.
        offset: u64,
        /// The oldest offset kept.
        start: u64,
    },
    /// A key was used before with other content.
    #[error("the idempotency key was used before with different content")]
    KeyReused,
    /// An append that does not fit the log: unknown partition or another schema.
    #[error("the append does not fit the log: {reason}")]
    Misfit {
        /// What does not fit.
        reason: String,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// The disk failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: String,
        /// The cause.
        #[source]
        source: std::sync::Arc<std::io::Error>,
    },
    /// A batch could not be encoded or decoded.
    #[error("cannot {action} a batch")]
    Encoding {
        /// What was tried.
        action: &'static str,
        /// The cause.
        #[source]
        source: std::sync::Arc<arrow::error::ArrowError>,
    },
}

impl Fault for Error {
    fn code(&self) -> Code {
        match self {
            Error::Busy { .. } => Code::Busy,
            Error::DiskFull { .. } => Code::DiskFull,
            Error::Poisoned { .. } => Code::WritesRefused,
            Error::Corrupt { .. } => Code::DataCorrupted,
            Error::Trimmed { .. } => Code::OutOfRange,
            Error::KeyReused => Code::KeyReused,
            Error::Misfit { .. } | Error::Encoding { .. } => Code::Internal,
            Error::Closed => Code::ShuttingDown,
            Error::Io { .. } => Code::IoError,
        }
    }
}
