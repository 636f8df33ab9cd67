//! How bytes become rows: pure functions from a body and a stream's definition to columns and rejected rows.
//!
//! A bad row costs itself alone: it is in [`Decoded::rejected`] with its line, column, field and text, and its
//! neighbours are kept. What spoils a whole body, such as a stream of Arrow batches that breaks off, is an [`Error`]
//! and nothing of the body is kept.
//!
//! Field names match column names exactly. A field that a row does not give takes the column's default; one that it
//! gives as `null` is NULL. Of a field given twice the last one counts. Fields that are no columns are counted, or kept
//! in the `_rest` column when the stream asks for it, those of nested rows under their path (`address.zip`).
//!
//! | JSON value | where it is taken |
//! | --- | --- |
//! | number | number types when it is exact in range; text as it is written; timestamps as milliseconds since 1970 |
//! | string | every plain type whose text it holds, see `scalar`; text |
//! | `true`, `false` | boolean; text as it is written |
//! | array, object | arrays, nested rows; json |
//! | any | json, kept as its text; `null` is NULL |

mod arrow_ipc;
mod columns;
pub mod compression;
mod csv;
mod error;
mod json;
mod number;
mod place;
mod plan;
mod refusal;
mod rows;
mod scalar;

pub use error::Error;
pub use plan::Plan;
pub use refusal::Rejected;
pub use rows::{Decoded, OriginReader, Origins};

use bytes::Bytes;
use rows::RowBuilder;

#[cfg(test)]
mod tests;

/// What a body is, as its sender says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line. A body that begins with `[` is read as an array all the same.
    JsonLines,
    /// One JSON object, or an array of them. A body of one object per line is read as such all the same.
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// An Arrow IPC stream.
    ArrowStream,
}

/// What decoding one body may take.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// A longer row is rejected.
    pub max_row_bytes: usize,
    /// A body whose rows take more memory is refused.
    pub max_decoded_bytes: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_row_bytes: 16 << 20, max_decoded_bytes: 256 << 20 }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Decodes a body. Uses the CPU only.
pub fn decode(plan: &Plan, format: Format, body: &Bytes, limits: DecodeLimits) -> Result<Decoded, Error> {
    if format == Format::ArrowStream {
        return arrow_ipc::decode(plan, body, limits);
    }
    let mut rows = RowBuilder::new(plan, limits);
    let start = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let first = body[start..].iter().position(|b| !blank(b)).map(|offset| start + offset);
    match (format, first.map(|at| (at, body[at]))) {
        (_, None) => {}
        (Format::Csv, _) => csv::decode(&mut rows, body, start)?,
        (_, Some((at, b'['))) => json::array(&mut rows, body, at)?,
        (Format::Json, Some((at, _))) => json::object_or_lines(&mut rows, body, at)?,
        (_, Some((at, _))) => json::lines(&mut rows, body, at)?,
    }
    rows.finish()
}
