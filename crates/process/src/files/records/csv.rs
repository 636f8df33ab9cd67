//! Owns the cutting of CSV: quotes, escapes, and line ends within them.

use std::ops::Range;

use memchr::{memchr_iter, memchr2};
use millstream_catalog::fault::Code;

use super::{Cell, Cut, Cutter, NOT_UTF8, line, shown};
use crate::files::dialect::Dialect;

/// Cuts CSV into records.
pub(crate) struct CsvCutter {
    dialect: Dialect,
    /// How many fields a record must have; any number where it is not known.
    width: Option<usize>,
    /// For each wanted column, which field it is.
    wanted: Vec<Option<usize>>,
    fields: Vec<Field>,
    /// Values of quoted fields that have escapes in them.
    unescaped: Vec<u8>,
}

/// Where a field's value lies.
#[derive(Clone)]
struct Field {
    range: Range<usize>,
    quoted: bool,
    unescaped: bool,
}

/// What stood at the end of a field.
enum End {
    Delimiter,
    /// The bytes up to the next record.
    Record(usize),
    Incomplete,
    /// Text behind a closing quote.
    Stray,
    /// A quote that is not closed.
    Open,
}

impl CsvCutter {
    /// Cuts records of `width` fields, of which the `wanted` ones become columns; a column that is no field is missing.
    pub(crate) fn new(dialect: Dialect, width: Option<usize>, wanted: Vec<Option<usize>>) -> Self {
        Self { dialect, width, wanted, fields: Vec::new(), unescaped: Vec::new() }
    }

    /// Cuts records of any width.
    pub(crate) fn any(dialect: Dialect) -> Self {
        Self::new(dialect, None, Vec::new())
    }

    /// Every cell of the last record.
    pub(crate) fn all(&self, input: &[u8]) -> Vec<String> {
        (0..self.fields.len()).map(|i| shown(self.value(input, &self.fields[i]))).collect()
    }

    fn value<'a>(&'a self, input: &'a [u8], field: &Field) -> &'a [u8] {
        let from = if field.unescaped { &self.unescaped } else { input };
        &from[field.range.clone()]
    }

    /// Reads the field at `at`; where it ends, and how many lines end within it.
    fn field(&mut self, input: &[u8], at: &mut usize, at_end: bool, lines: &mut u64) -> End {
        match self.dialect.quote {
            Some(quote) if input.get(*at) == Some(&quote) => self.quoted(input, at, at_end, quote, lines),
            _ => self.plain(input, at, at_end),
        }
    }

    fn plain(&mut self, input: &[u8], at: &mut usize, at_end: bool) -> End {
        let start = *at;
        let found = memchr2(self.dialect.delimiter, b'\n', &input[start..]).map(|i| start + i);
        let (end, kind) = match found {
            Some(i) if input[i] == b'\n' => (i, End::Record(i + 1)),
            Some(i) => (i, End::Delimiter),
            None if at_end => (input.len(), End::Record(input.len())),
            None => return End::Incomplete,
        };
        *at = end + 1;
        let returned = matches!(kind, End::Record(_)) && end > start && input[end - 1] == b'\r';
        let range = start..if returned { end - 1 } else { end };
        self.fields.push(Field { range, quoted: false, unescaped: false });
        kind
    }

    fn quoted(&mut self, input: &[u8], at: &mut usize, at_end: bool, quote: u8, lines: &mut u64) -> End {
        let escape = self.dialect.escape;
        let (start, kept) = (*at + 1, self.unescaped.len());
        let (mut from, mut escaped) = (start, false);
        let close = loop {
            let Some(i) = memchr2(quote, escape, &input[from..]).map(|i| from + i) else {
                return if at_end { End::Open } else { End::Incomplete };
            };
            let next = input.get(i + 1).copied();
            if next.is_none() && !at_end {
                return End::Incomplete;
            }
            let is_escape = input[i] == escape && (next == Some(quote) || (escape != quote && next == Some(escape)));
            if is_escape {
                self.unescaped.extend_from_slice(&input[from..i]);
                self.unescaped.extend(next);
                escaped = true;
                from = i + 2;
            } else if input[i] == quote {
                break i;
            } else {
                self.unescaped.extend_from_slice(&input[from..=i]);
                escaped = true;
                from = i + 1;
            }
        };
        *lines += memchr_iter(b'\n', &input[start..close]).count() as u64;
        let range = if escaped {
            self.unescaped.extend_from_slice(&input[from..close]);
            kept..self.unescaped.len()
        } else {
            start..close
        };
        self.fields.push(Field { range, quoted: true, unescaped: escaped });
        self.after_quote(input, close + 1, at, at_end)
    }

    fn after_quote(&self, input: &[u8], end: usize, at: &mut usize, at_end: bool) -> End {
        *at = end + 1;
        match (input.get(end), input.get(end + 1)) {
            (None, _) if at_end => End::Record(end),
            (None, _) => End::Incomplete,
            (Some(b), _) if *b == self.dialect.delimiter => End::Delimiter,
            (Some(b'\n'), _) => End::Record(end + 1),
            (Some(b'\r'), Some(b'\n')) => End::Record(end + 2),
            (Some(b'\r'), None) if at_end => End::Record(end + 1),
            (Some(b'\r'), None) => End::Incomplete,
            _ => End::Stray,
        }
    }

    /// The line that the record begins with, as one that cannot be read.
    fn bad(&self, input: &[u8], from: usize, lines: u64, at_end: bool, code: Code, reason: String) -> Cut {
        match line(&input[from..], at_end) {
            Some((taken, length)) => {
                Cut::Bad { taken: from + taken, length: from + length, lines: lines + 1, reason, code }
            }
            None => Cut::Incomplete,
        }
    }

    fn width_fault(&self) -> Option<String> {
        let width = self.width?;
        let found = self.fields.len();
        (found != width).then(|| {
            format!("the record has {found} {}, {width} are expected", if found == 1 { "value" } else { "values" })
        })
    }
}

impl Cutter for CsvCutter {
    fn cut(&mut self, input: &[u8], at_end: bool) -> Cut {
        self.fields.clear();
        self.unescaped.clear();
        if input.is_empty() {
            return Cut::Incomplete;
        }
        let (mut at, mut lines) = (0, 0);
        let taken = loop {
            let begin = at;
            match self.field(input, &mut at, at_end, &mut lines) {
                End::Delimiter => {}
                End::Record(taken) => break taken,
                End::Incomplete => return Cut::Incomplete,
                End::Stray => {
                    let reason = "text stands behind a closing quote".to_owned();
                    return self.bad(input, at - 1, lines, at_end, Code::BadFile, reason);
                }
                End::Open => {
                    let reason = "a quote is opened and not closed".to_owned();
                    return self.bad(input, begin, lines, at_end, Code::BadFile, reason);
                }
            }
        };
        let mut length = taken;
        while length > 0 && (input[length - 1] == b'\n' || input[length - 1] == b'\r') {
            length -= 1;
        }
        // With one column an empty line is a value; with more it is nothing.
        if length == 0 && self.width != Some(1) {
            return Cut::Blank { taken };
        }
        lines += 1;
        if let Some(reason) = self.width_fault() {
            return Cut::Bad { taken, length, lines, reason, code: Code::BadFile };
        }
        if std::str::from_utf8(&input[..length]).is_err() {
            return Cut::Bad { taken, length, lines, reason: NOT_UTF8.to_owned(), code: Code::InvalidEncoding };
        }
        Cut::Record { taken, length, lines }
    }

    fn cell<'a>(&'a self, input: &'a [u8], column: usize) -> Cell<'a> {
        let Some(field) = self.wanted[column].and_then(|i| self.fields.get(i)) else { return Cell::Missing };
        let value = self.value(input, field);
        if !field.quoted && value == self.dialect.null.as_bytes() { Cell::Null } else { Cell::Text(value) }
    }

    fn columns(&self) -> usize {
        self.wanted.len()
    }
}
