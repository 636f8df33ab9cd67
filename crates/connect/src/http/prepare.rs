//! Owns the CPU's part of a request: unpack, decode, admit, and collect the rows that are refused on the way.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use millstream_catalog::fault::Code;
use millstream_problem::Problem;
use millstream_process::{Admitted, QuarantinedRow, Rows, StreamHandle};

use super::budget::Charge;
use super::reply::{MAX_ERRORS, RowError};
use super::request;
use crate::decode::compression::{Encoding, decompress};
use crate::decode::{self, DecodeLimits, Decoded, Format, Plan, Rejected};

/// What a refused row takes beside its text until it is in quarantine.
const REFUSED_BYTES: usize = 512;

/// A body to prepare.
pub(super) struct Work {
    pub stream: StreamHandle,
    pub plan: Arc<Plan>,
    /// `None` lets the first bytes choose.
    pub format: Option<Format>,
    pub encoding: Encoding,
    pub body: Bytes,
    pub limits: DecodeLimits,
    /// What the request holds of the memory for all.
    pub charge: Charge,
}

/// What is ready for the log.
pub(super) struct Prepared {
    pub batch: RecordBatch,
    pub quarantined: Vec<QuarantinedRow>,
    /// The first quarantined rows, as the reply tells of them.
    pub errors: Vec<RowError>,
    pub unknown_fields: u64,
}

impl Work {
    /// Does it. The body and its charge are given up at the end: what goes on is counted by the engine.
    pub fn prepare(mut self) -> Result<Prepared, Problem> {
        let body = self.unpacked()?;
        let format = self.format.unwrap_or_else(|| request::detected(&body));
        let (decoded, admitted) = self.admitted(format, &body)?;
        let Decoded { origins, rejected, unknown_fields, .. } = decoded;
        let refused_bytes = (rejected.len() + admitted.rejected.len()).saturating_mul(REFUSED_BYTES);
        if refused_bytes > self.limits.max_decoded_bytes {
            let (rows, limit_bytes) = (admitted.rejected.len(), self.limits.max_decoded_bytes);
            return Err(decode::Error::TooManyRows { rows, limit_bytes }.into());
        }
        let mut refused: Vec<Refused> = rejected.into_iter().map(Refused::from).collect();
        let mut origins = origins.reader(&body);
        for row in admitted.rejected {
            let (line, text) = origins.locate(row.row);
            refused.push(Refused { line, column: None, field: row.column, code: row.code, reason: row.reason, text });
        }
        refused.sort_by_key(|row| row.line);
        let errors = refused.iter().take(MAX_ERRORS).map(Refused::error).collect();
        let quarantined = refused.into_iter().map(|row| row.quarantined(format)).collect();
        Ok(Prepared { batch: admitted.batch, quarantined, errors, unknown_fields })
    }

    /// Decodes and admits. When the stream is altered in between, rows of the old definition may not be admitted: they
    /// are decoded once more, by the new one.
    fn admitted(&mut self, format: Format, body: &Bytes) -> Result<(Decoded, Admitted), Problem> {
        loop {
            let decoded = decode::decode(&self.plan, format, body, self.limits)?;
            let rows = Rows { batch: decoded.batch.clone(), missing: decoded.missing.clone() };
            let error = match self.stream.admit(rows) {
                Ok(admitted) => return Ok((decoded, admitted)),
                Err(error) => error,
            };
            let definition = self.stream.definition();
            if definition.version <= self.plan.version() {
                return Err(error.into());
            }
            self.plan = Arc::new(Plan::new(&definition));
        }
    }

    fn unpacked(&mut self) -> Result<Bytes, Problem> {
        if self.encoding == Encoding::Identity {
            return Ok(self.body.clone());
        }
        let (limit, charge) = (self.limits.max_decoded_bytes, &mut self.charge);
        Ok(decompress(self.encoding, &self.body, limit, |bytes| charge.grow(bytes))?.into())
    }
}

/// A row that decoding or a constraint refused.
struct Refused {
    line: u64,
    column: Option<u64>,
    field: Option<String>,
    code: Code,
    reason: String,
    text: String,
}

impl From<Rejected> for Refused {
    fn from(row: Rejected) -> Self {
        let Rejected { line, column, field, code, reason, text } = row;
        Self { line, column, field, code, reason, text }
    }
}

impl Refused {
    fn error(&self) -> RowError {
        RowError {
            line: self.line,
            column: self.column,
            field: self.field.clone(),
            code: self.code.name(),
            message: self.reason.clone(),
        }
    }

    /// Its entry in quarantine, where the reason says the place too.
    fn quarantined(self, format: Format) -> QuarantinedRow {
        let unit = if format == Format::ArrowStream { "row" } else { "line" };
        let mut reason = format!("{unit} {}", self.line);
        if let Some(column) = self.column {
            reason.push_str(&format!(", column {column}"));
        }
        if let Some(field) = &self.field {
            reason.push_str(&format!(", field {field:?}"));
        }
        reason.push_str(": ");
        reason.push_str(&self.reason);
        QuarantinedRow { reason, text: self.text }
    }
}
