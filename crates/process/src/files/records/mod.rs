//! Owns how text becomes records: cut at their ends, their cells in columns of text, each with its line.

mod csv;
mod json;
mod text;

use arrow::array::{BooleanBufferBuilder, StringArray, StringBuilder};
use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use futures::StreamExt;
use millstream_catalog::fault::Code;

pub(super) use csv::CsvCutter;
pub(super) use json::JsonCutter;
pub(super) use text::TextCutter;

use super::bytes::Pieces;
use crate::{Error, Result};

/// Records of a batch.
const BATCH_ROWS: usize = 8192;
/// Text of a batch, beyond which no further record is taken into it.
const BATCH_BYTES: usize = 4 << 20;
/// A longer record ends the reading: most often a quote that is not closed.
const LONGEST_RECORD: usize = 32 << 20;

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRecord {
    pub(crate) line: u64,
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) text: String,
}

/// Records as columns of text.
#[derive(Debug)]
pub(crate) struct Records {
    /// A cell per wanted column; NULL where the record says so or does not give it.
    pub(crate) columns: Vec<StringArray>,
    /// Per wanted column, which records did not give it; `None` where all did.
    pub(crate) missing: Vec<Option<BooleanBuffer>>,
    /// The line of each record.
    pub(crate) lines: Vec<u64>,
    /// Those that are not in the columns.
    pub(crate) bad: Vec<BadRecord>,
    text: Vec<u8>,
    spans: Vec<(usize, usize)>,
}

impl Records {
    /// How many there are in the columns.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// A record as it is written.
    pub(crate) fn text(&self, row: usize) -> String {
        self.spans.get(row).map_or_else(String::new, |(start, end)| shown(&self.text[*start..*end]))
    }
}

/// What a cutter found at the beginning of some text.
enum Cut {
    /// The record's end is not there yet.
    Incomplete,
    /// A record: its bytes with the line's end, its bytes without, and how many lines it has.
    Record { taken: usize, length: usize, lines: u64 },
    /// A record that cannot be read, in the same way.
    Bad { taken: usize, length: usize, lines: u64, reason: String, code: Code },
    /// Nothing but an empty line.
    Blank { taken: usize },
    /// What follows does not count.
    End,
}

/// A cell of a record.
#[derive(Clone, Copy)]
enum Cell<'a> {
    Null,
    Missing,
    Text(&'a [u8]),
}

/// Knows where records end and what their cells are.
trait Cutter: Send {
    /// Cuts the first record off; its cells are kept until the next cut. `at_end` says that no more text comes.
    fn cut(&mut self, input: &[u8], at_end: bool) -> Cut;
    /// A column's cell in the record that was cut last.
    fn cell<'a>(&'a self, input: &'a [u8], column: usize) -> Cell<'a>;
    /// How many columns are wanted.
    fn columns(&self) -> usize;
}

/// The format of some text with what is wanted of it.
pub(crate) enum Cutting {
    Csv(CsvCutter),
    Text(TextCutter),
    Json(JsonCutter),
}

impl Cutting {
    fn cutter(&mut self) -> &mut dyn Cutter {
        match self {
            Self::Csv(cutter) => cutter,
            Self::Text(cutter) => cutter,
            Self::Json(cutter) => cutter,
        }
    }
}

/// Reads records out of text that comes in pieces.
pub(crate) struct RecordReader {
    pieces: Pieces,
    buffer: Vec<u8>,
    start: usize,
    line: u64,
    ended: bool,
    /// Bytes of text read so far.
    pub(crate) bytes_read: u64,
}

impl std::fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordReader").field("line", &self.line).finish_non_exhaustive()
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl RecordReader {
    pub(crate) fn new(pieces: Pieces) -> Self {
        Self { pieces, buffer: Vec::new(), start: 0, line: 1, ended: false, bytes_read: 0 }
    }

    /// The first record's cells, as text: the header, or what stands in its place. It is read again unless it is
    /// taken.
    pub(crate) async fn first(
        &mut self,
        mut peeker: CsvCutter,
        take: impl FnOnce(&[String]) -> bool,
    ) -> Result<Vec<String>> {
        loop {
            match peeker.cut(&self.buffer[self.start..], self.ended) {
                Cut::Incomplete if !self.ended => self.more(self.start).await?,
                Cut::Blank { taken } => {
                    self.start += taken;
                    self.line += 1;
                }
                Cut::Record { taken, lines, .. } => {
                    let cells = peeker.all(&self.buffer[self.start..]);
                    if take(&cells) {
                        self.start += taken;
                        self.line += lines;
                    }
                    return Ok(cells);
                }
                Cut::Bad { reason, code, .. } => {
                    return Err(Error::rejected(code, format!("line {}: {reason}", self.line)));
                }
                Cut::Incomplete | Cut::End => return Ok(Vec::new()),
            }
        }
    }

    /// The next records; `None` at the end. How many there are depends on the text alone, not on the pieces it comes in.
    pub(crate) async fn next(&mut self, cutting: &mut Cutting) -> Result<Option<Records>> {
        let mut batch = Batch::new(cutting.cutter().columns());
        let mut from = self.start;
        loop {
            let incomplete = self.cut_some(cutting.cutter(), from, &mut batch)?;
            if incomplete && !self.ended {
                self.more(from).await?;
                from = 0;
            } else if incomplete || batch.taken() > 0 {
                break;
            } else {
                // Empty lines alone.
                from = self.start;
            }
        }
        if batch.taken() == 0 {
            return Ok(None);
        }
        Ok(Some(batch.finish(&self.buffer[from..self.start])))
    }

    /// Cuts records into the batch until it is full or the buffer holds no whole one; whether it was the latter.
    fn cut_some(&mut self, cutter: &mut dyn Cutter, from: usize, batch: &mut Batch) -> Result<bool> {
        while batch.taken() < BATCH_ROWS && self.start - from < BATCH_BYTES {
            let input = &self.buffer[self.start..];
            if input.is_empty() {
                return Ok(true);
            }
            let at = self.start - from;
            match cutter.cut(input, self.ended) {
                Cut::Incomplete if input.len() > LONGEST_RECORD => return Err(self.too_long()),
                Cut::Incomplete => return Ok(true),
                Cut::Record { taken, length, lines } => {
                    batch.push(cutter, input, self.line, (at, at + length));
                    (self.start, self.line) = (self.start + taken, self.line + lines);
                }
                Cut::Bad { taken, length, lines, reason, code } => {
                    batch.bad.push(BadRecord { line: self.line, code, reason, text: shown(&input[..length]) });
                    (self.start, self.line) = (self.start + taken, self.line + lines);
                }
                Cut::Blank { taken } => (self.start, self.line) = (self.start + taken, self.line + 1),
                Cut::End => {
                    self.buffer.truncate(self.start);
                    self.ended = true;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn too_long(&self) -> Error {
        let message = format!(
            "line {}: the record is longer than {} MiB; is a quote not closed, or the delimiter another?",
            self.line,
            LONGEST_RECORD >> 20
        );
        Error::rejected(Code::TooLarge, message)
    }

    /// Takes more text in; what stands before `from` is not needed any more.
    async fn more(&mut self, from: usize) -> Result<()> {
        self.buffer.drain(..from);
        self.start -= from;
        let first = self.bytes_read == 0;
        match self.pieces.next().await.transpose()? {
            Some(piece) => {
                self.bytes_read += piece.len() as u64;
                self.take(&piece, first);
            }
            None => self.ended = true,
        }
        Ok(())
    }

    fn take(&mut self, piece: &Bytes, first: bool) {
        let marked = first && piece.starts_with(BYTE_ORDER_MARK);
        self.buffer.extend_from_slice(if marked { &piece[BYTE_ORDER_MARK.len()..] } else { piece });
    }
}

/// Records being gathered.
struct Batch {
    builders: Vec<StringBuilder>,
    missing: Vec<Option<BooleanBufferBuilder>>,
    lines: Vec<u64>,
    spans: Vec<(usize, usize)>,
    bad: Vec<BadRecord>,
}

impl Batch {
    fn new(columns: usize) -> Self {
        Self {
            builders: (0..columns).map(|_| StringBuilder::new()).collect(),
            missing: (0..columns).map(|_| None).collect(),
            lines: Vec::new(),
            spans: Vec::new(),
            bad: Vec::new(),
        }
    }

    fn taken(&self) -> usize {
        self.lines.len() + self.bad.len()
    }

    fn push(&mut self, cutter: &dyn Cutter, input: &[u8], line: u64, span: (usize, usize)) {
        let row = self.lines.len();
        for (column, builder) in self.builders.iter_mut().enumerate() {
            match cutter.cell(input, column) {
                Cell::Null => builder.append_null(),
                Cell::Missing => {
                    builder.append_null();
                    let missing = self.missing[column].get_or_insert_with(|| BooleanBufferBuilder::new(BATCH_ROWS));
                    missing.append_n(row - missing.len(), false);
                    missing.append(true);
                }
                // A record's bytes were looked at as a whole: what is not UTF-8 does not come here.
                Cell::Text(bytes) => builder.append_value(std::str::from_utf8(bytes).unwrap_or_default()),
            }
        }
        self.lines.push(line);
        self.spans.push(span);
    }

    fn finish(self, text: &[u8]) -> Records {
        let rows = self.lines.len();
        let missing = self.missing.into_iter().map(|missing| {
            missing.map(|mut missing| {
                missing.append_n(rows - missing.len(), false);
                missing.finish()
            })
        });
        Records {
            columns: self.builders.into_iter().map(|mut b| b.finish()).collect(),
            missing: missing.collect(),
            lines: self.lines,
            bad: self.bad,
            text: text.to_vec(),
            spans: self.spans,
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A line without what ends it; `None` where its end is not there yet.
fn line(input: &[u8], at_end: bool) -> Option<(usize, usize)> {
    let (taken, mut length) = match memchr::memchr(b'\n', input) {
        Some(end) => (end + 1, end),
        None if at_end => (input.len(), input.len()),
        None => return None,
    };
    if length > 0 && input[length - 1] == b'\r' {
        length -= 1;
    }
    Some((taken, length))
}

const NOT_UTF8: &str = "the text is not UTF-8; convert the file first";
