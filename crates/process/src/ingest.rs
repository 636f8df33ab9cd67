//! Owns how rows enter a stream: defaults, constraints, partitioning, quarantine, the durable append.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;
use millstream_buffer::OffsetRange;
use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectName, Positions, Stream};

use crate::Result;

/// Decoded rows, before defaults and constraints.
#[derive(Debug, Clone)]
pub struct Rows {
    /// One column per column of the stream, in its order and types; every column may hold NULLs.
    pub batch: RecordBatch,
    /// Per column, which rows did not give it at all (as against giving NULL): only those take the default.
    /// `None` where every row gave the column. One entry per column.
    pub missing: Vec<Option<BooleanBuffer>>,
}

/// A row that a constraint refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Its index in [`Rows::batch`].
    pub row: usize,
    /// The column at fault, if it is one.
    pub column: Option<String>,
    /// What kind of failure it is.
    pub code: Code,
    /// The constraint and the cause, as a person reads it.
    pub reason: String,
}

/// Rows that passed, in the stream's schema, and those that did not.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The rows that passed, in their order, defaults filled in.
    pub batch: RecordBatch,
    /// The rows that did not, by rising index.
    pub rejected: Vec<RejectedRow>,
}

/// A row on its way to `system.quarantine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedRow {
    /// Why, as a person reads it, with line and column.
    pub reason: String,
    /// The original text; bytes that are not UTF-8 are shown as U+FFFD.
    pub text: String,
}

/// A producer's key for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key as the producer gave it.
    pub key: String,
    /// A hash of the request's body as it was sent.
    pub content: u64,
}

/// What became of a request's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Rows that are in the stream.
    pub accepted: u64,
    /// Rows that are in quarantine.
    pub quarantined: u64,
    /// Where the accepted rows are.
    pub ranges: Vec<OffsetRange>,
    /// Whether the key was seen before, so that this request added nothing.
    pub duplicate: bool,
    /// A token for `after`: a query that waits for it sees these rows.
    pub token: PositionToken,
}

/// A point in one stream's history, as clients carry it: `flights:0-1500,1-1620` is offset 1500 of partition 0 and
/// 1620 of partition 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionToken {
    /// The stream.
    pub stream: ObjectName,
    /// Offsets after the last row that must be visible; 0 for partitions that do not matter.
    pub positions: Positions,
}

/// An open stream, for the doors that write to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    pub(crate) open: Arc<crate::engine::OpenStream>,
}

impl StreamHandle {
    /// The definition as it is now.
    pub fn definition(&self) -> Arc<Stream> {
        unimplemented!()
    }

    /// Fills in defaults, then checks NOT NULL and CHECK row by row. Uses the CPU only: for large batches call it
    /// where blocking is allowed.
    pub fn admit(&self, _rows: Rows) -> Result<Admitted> {
        unimplemented!()
    }

    /// Writes the refused rows to quarantine and the others to the stream; returns when both are durable.
    ///
    /// With a key, a request that was accepted before adds nothing and gets the first receipt again.
    pub async fn append(
        &self,
        _batch: RecordBatch,
        _quarantined: Vec<QuarantinedRow>,
        _key: Option<IdempotencyKey>,
    ) -> Result<Receipt> {
        unimplemented!()
    }

    /// Counts unknown JSON fields that a request had and the stream does not keep.
    pub fn count_unknown_fields(&self, _fields: u64) {}
}
