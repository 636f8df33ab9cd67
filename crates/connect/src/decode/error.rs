//! Owns why a whole body was refused.

use arrow::error::ArrowError;
use millstream_catalog::fault::{Code, Fault};

/// Why a whole body was refused: nothing of it is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Rows so short that their columns would take far more memory than the body.
    #[error("the body's {rows} or more rows take over {limit_bytes} bytes of memory; send it in parts")]
    TooManyRows {
        /// Rows decoded when the limit was reached.
        rows: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// More than may be decompressed.
    #[error("the body has more than {limit_bytes} bytes after decompression; send it in parts")]
    DecompressedTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// No memory to decompress into, with all that is under way.
    #[error("there is no room to decompress the body beside the requests under way")]
    NoRoom,
    /// Bytes that do not decompress.
    #[error("the body is not valid {encoding} at decompressed byte {at}: {reason}")]
    Compression {
        /// The content encoding.
        encoding: &'static str,
        /// How many bytes came out before.
        at: usize,
        /// What the decompressor said.
        reason: String,
    },
    /// A CSV header that names no usable columns.
    #[error("the CSV header cannot be used: {reason}")]
    Header {
        /// What is wrong with it.
        reason: String,
    },
    /// An Arrow stream that cannot be read to its end.
    #[error("the Arrow stream cannot be read: {reason}")]
    Ipc {
        /// What is wrong with it.
        reason: String,
    },
    /// An Arrow column that has no way into the stream's type.
    #[error("Arrow column {column:?} of type {found} cannot be taken as {expected}")]
    IpcColumn {
        /// The column.
        column: String,
        /// Its type in the body.
        found: String,
        /// Its type in the stream.
        expected: String,
    },
    /// Decoded columns that do not fit together: a defect of the decoder.
    #[error("decoded columns do not fit together")]
    Assembly(#[from] ArrowError),
}

impl Fault for Error {
    fn code(&self) -> Code {
        match self {
            Error::TooManyRows { .. } | Error::DecompressedTooLarge { .. } => Code::TooLarge,
            Error::Compression { .. } | Error::Header { .. } | Error::Ipc { .. } => Code::InvalidRequest,
            Error::NoRoom => Code::Busy,
            Error::IpcColumn { .. } => Code::TypeMismatch,
            Error::Assembly(_) => Code::Internal,
        }
    }
}
