//! Owns the rows of one body while they are decoded: what is kept, what is rejected, and where each stood.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;

use super::columns::{ColumnBuffer, Missing};
use super::place::LineCounter;
use super::plan::Plan;
use super::refusal::{Parsed, Refusal, Rejected, kept_text};
use super::{DecodeLimits, Error};
use millstream_catalog::fault::Code;

/// Room is made at most for this many rows ahead, whatever the first row's size promises.
const MAX_RESERVED_ROWS: usize = 1 << 17;
/// Of a row that is over the size limit, quarantine keeps this much.
const CUT_TEXT_BYTES: usize = 64 << 10;

/// What noting a rejected row takes beside its text.
pub(crate) const REJECTED_BYTES: usize = 256;

/// What a body came to.
#[derive(Debug)]
pub struct Decoded {
    /// The rows that could be decoded: the stream's columns, every one nullable.
    pub batch: RecordBatch,
    /// Per column, which rows did not give it; only for columns with a default and those that take no NULL.
    pub missing: Vec<Option<BooleanBuffer>>,
    /// Where the decoded rows stood.
    pub origins: Origins,
    /// The rows that could not be decoded, in their order.
    pub rejected: Vec<Rejected>,
    /// Fields that are not columns and are not kept in `_rest`.
    pub unknown_fields: u64,
}

/// Where decoded rows stood in the body, for telling of those that are refused later.
#[derive(Debug)]
pub enum Origins {
    /// In text: the first byte, and the byte after the last one.
    Text(Vec<(u32, u32)>),
    /// In Arrow batches: the batches as they were sent, and the index of each row over all of them.
    Arrow {
        /// The batches as they were sent.
        batches: Vec<RecordBatch>,
        /// For each decoded row, its index over all batches; `None` where all were decoded.
        rows: Option<Vec<u32>>,
    },
}

/// Finds the line and original text of rows, asked for in rising order.
#[derive(Debug)]
pub struct OriginReader<'a> {
    origins: &'a Origins,
    body: &'a [u8],
    lines: LineCounter,
}

impl Origins {
    /// A reader over the body that was decoded.
    pub fn reader<'a>(&'a self, body: &'a [u8]) -> OriginReader<'a> {
        OriginReader { origins: self, body, lines: LineCounter::default() }
    }
}

impl OriginReader<'_> {
    /// The line (for Arrow: the number) of a decoded row, and its text as it was sent.
    pub fn locate(&mut self, row: usize) -> (u64, String) {
        match self.origins {
            Origins::Text(spans) => {
                let Some(&(start, end)) = spans.get(row) else { return (0, String::new()) };
                let (start, end) = (start as usize, end as usize);
                let text = self.body.get(start..end).unwrap_or_default();
                (self.lines.place_of(self.body, start).0, String::from_utf8_lossy(text).into_owned())
            }
            Origins::Arrow { batches, rows } => {
                let index = match rows {
                    Some(rows) => rows.get(row).map(|index| *index as usize),
                    None => Some(row),
                };
                let Some(index) = index else { return (0, String::new()) };
                (index as u64 + 1, super::arrow_ipc::row_text(batches, index))
            }
        }
    }
}

/// What a row has besides its columns, and what decoding it needs and costs.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Whether unknown fields are kept.
    pub keep: bool,
    /// The row's unknown fields so far: an object's text without its closing brace.
    pub rest: Vec<u8>,
    /// The path of the nested row that is being read, as JSON writes it in a key, with a point at its end.
    pub prefix: Vec<u8>,
    pub unknown: u64,
    /// For texts with escapes.
    pub scratch: Vec<u8>,
    /// Bytes that the decoded rows take at least, and what they may take.
    spent: usize,
    budget: usize,
}

impl Extra {
    /// For values that are read outside a body's rows.
    pub fn with_budget(budget: usize) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Takes note of a field that is not a column; the key is as JSON writes it between its quotes.
    pub fn unknown_field(&mut self, key: &[u8], value: &[u8]) {
        if !self.keep {
            self.unknown += 1;
            return;
        }
        self.rest.extend_from_slice(if self.rest.is_empty() { b"{\"" } else { b",\"" });
        self.rest.extend_from_slice(&self.prefix);
        self.rest.extend_from_slice(key);
        self.rest.extend_from_slice(b"\":");
        self.rest.extend_from_slice(value);
    }

    /// Joins the fields of an object, given without its braces, to the unknown ones.
    pub fn unknown_members(&mut self, members: &[u8]) {
        if !members.is_empty() {
            self.rest.push(if self.rest.is_empty() { b'{' } else { b',' });
            self.rest.extend_from_slice(members);
        }
    }

    /// Accounts for values that cost memory beyond their text, such as items of arrays.
    #[inline]
    pub fn spend(&mut self, bytes: usize) -> Parsed<()> {
        self.spent += bytes;
        if self.spent > self.budget {
            return Err(Refusal::new(
                Code::TooLarge,
                "its arrays and the rows before it take more memory than a request may",
            ));
        }
        Ok(())
    }
}

/// The rows of one body under construction.
#[derive(Debug)]
pub(crate) struct RowBuilder<'p> {
    pub plan: &'p Plan,
    pub columns: Vec<ColumnBuffer>,
    pub extra: Extra,
    /// By column, the one whose field came next in the last row that had it; at index 0 the first one. Fields mostly
    /// come in one order, if not in that of the columns.
    pub successors: Vec<usize>,
    missing: Vec<Missing>,
    spans: Vec<(u32, u32)>,
    rejected: Vec<Rejected>,
    lines: LineCounter,
    limits: DecodeLimits,
    /// `extra.unknown` and `extra.spent` after the last committed row.
    mark: (u64, usize),
}

impl<'p> RowBuilder<'p> {
    pub fn new(plan: &'p Plan, limits: DecodeLimits) -> Self {
        Self {
            plan,
            columns: plan.columns.iter().map(|c| ColumnBuffer::new(&c.data_type)).collect(),
            extra: Extra { keep: plan.rest.is_some(), budget: limits.max_decoded_bytes, ..Extra::default() },
            successors: (0..=plan.columns.len()).collect(),
            missing: plan.columns.iter().map(|_| Missing::default()).collect(),
            spans: Vec::new(),
            rejected: Vec::new(),
            lines: LineCounter::default(),
            limits,
            mark: (0, 0),
        }
    }

    /// The largest row that is taken.
    pub fn max_row_bytes(&self) -> usize {
        self.limits.max_row_bytes
    }

    /// Rows committed so far: the index of the row that is being read.
    #[inline]
    pub fn rows(&self) -> usize {
        self.spans.len()
    }

    /// Checks a row's size in the body.
    #[inline]
    pub fn check_size(&self, start: usize, end: usize) -> Parsed<()> {
        if end - start <= self.limits.max_row_bytes {
            return Ok(());
        }
        let (size, limit) = (end - start, self.limits.max_row_bytes);
        Err(Refusal::new(Code::TooLarge, format!("the row has {size} bytes, more than the limit of {limit}")).at(start))
    }

    /// Ends a row that was read: columns it did not give become NULL, unknown fields go to `_rest`.
    #[inline]
    pub fn commit(&mut self, start: usize, end: usize) -> Result<(), Error> {
        let row = self.rows();
        if let Some(rest) = self.plan.rest {
            self.push_rest(rest);
        }
        for (i, column) in self.columns.iter_mut().enumerate() {
            if column.len() == row {
                column.append_null();
                if self.plan.columns[i].tracked {
                    self.missing[i].mark(row);
                }
            }
        }
        self.spans.push((start as u32, end as u32));
        self.spend_row(self.plan.row_bytes)
    }

    /// Accounts for a row that is kept or rejected.
    #[inline]
    fn spend_row(&mut self, bytes: usize) -> Result<(), Error> {
        if self.extra.spend(bytes).is_err() {
            let rows = self.rows() + self.rejected.len();
            return Err(Error::TooManyRows { rows, limit_bytes: self.limits.max_decoded_bytes });
        }
        self.mark = (self.extra.unknown, self.extra.spent);
        Ok(())
    }

    /// Makes room for the rows to come, judging by the first one.
    pub fn reserve(&mut self, body_bytes_left: usize) {
        let Some(&(start, end)) = self.spans.first() else { return };
        let rows = (body_bytes_left / ((end - start) as usize + 1)).min(MAX_RESERVED_ROWS);
        if rows > 1 {
            self.spans.reserve(rows);
            self.columns.iter_mut().for_each(|c| c.reserve(rows, rows + rows / 8));
        }
    }

    /// Forgets what the row that is being read has pushed.
    pub fn rollback(&mut self) {
        let row = self.rows();
        self.columns.iter_mut().for_each(|c| c.truncate(row));
        (self.extra.unknown, self.extra.spent) = self.mark;
        self.extra.rest.clear();
        self.extra.prefix.clear();
    }

    /// Forgets the row that is being read and notes why; it stood at `start..end` in the body.
    #[cold]
    pub fn reject(&mut self, refusal: Refusal, body: &[u8], start: usize, end: usize) -> Result<(), Error> {
        self.rollback();
        let at = refusal.at.unwrap_or(start).clamp(start, end.max(start));
        let (line, column) = self.lines.place_of(body, at);
        let limit = match refusal.code {
            Code::TooLarge => CUT_TEXT_BYTES,
            _ => self.limits.max_row_bytes,
        };
        let text = kept_text(&body[start..end], limit);
        self.rejected.push(Rejected {
            line,
            column: Some(column),
            field: refusal.field,
            code: refusal.code,
            reason: refusal.reason,
            text,
        });
        let kept = self.rejected.last().map_or(0, |r| r.text.len());
        self.spend_row(REJECTED_BYTES + 2 * kept)
    }

    /// Everything that was decoded and rejected.
    pub fn finish(self) -> Result<Decoded, Error> {
        let rows = self.spans.len();
        let fields = self.plan.schema.fields();
        let columns = self.columns.into_iter().zip(fields).map(|(column, field)| column.finish(field));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(Decoded {
            batch: RecordBatch::try_new(Arc::clone(&self.plan.schema), columns)?,
            missing: self.missing.into_iter().map(|m| m.finish(rows)).collect(),
            origins: Origins::Text(self.spans),
            rejected: self.rejected,
            unknown_fields: self.extra.unknown,
        })
    }

    fn push_rest(&mut self, column: usize) {
        let column = &mut self.columns[column];
        if self.extra.rest.is_empty() {
            column.append_null();
            return;
        }
        self.extra.rest.push(b'}');
        if let super::columns::Values::Json(values) = &mut column.values {
            values.push(&self.extra.rest);
            column.nulls.append_non_null();
        }
        self.extra.rest.clear();
    }
}
