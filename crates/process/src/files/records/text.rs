//! Owns the cutting of PostgreSQL's text format: tabs, backslashes, `\N` and `\.`.

use memchr::memchr2;
use millstream_catalog::fault::Code;

use super::{Cell, Cut, Cutter, NOT_UTF8};
use crate::files::dialect::Dialect;

/// Cuts PostgreSQL's text format into records.
pub(crate) struct TextCutter {
    dialect: Dialect,
    width: usize,
    wanted: Vec<Option<usize>>,
    /// The values without backslashes, one behind the other.
    values: Vec<u8>,
    /// Where each lies, and whether it is NULL.
    fields: Vec<(usize, usize, bool)>,
}

impl TextCutter {
    /// Cuts records of `width` fields, of which the `wanted` ones become columns.
    pub(crate) fn new(dialect: Dialect, width: usize, wanted: Vec<Option<usize>>) -> Self {
        Self { dialect, width, wanted, values: Vec::new(), fields: Vec::new() }
    }

    /// Reads the fields of a line.
    fn read(&mut self, line: &[u8]) {
        let mut at = 0;
        loop {
            let (raw_start, start) = (at, self.values.len());
            let ended = loop {
                let Some(i) = memchr2(self.dialect.delimiter, b'\\', &line[at..]).map(|i| at + i) else {
                    self.values.extend_from_slice(&line[at..]);
                    at = line.len();
                    break true;
                };
                self.values.extend_from_slice(&line[at..i]);
                if line[i] != b'\\' {
                    at = i;
                    break false;
                }
                at = i + 1 + self.unescape(&line[i + 1..]);
            };
            let null = &line[raw_start..at] == self.dialect.null.as_bytes();
            self.fields.push((start, self.values.len(), null));
            if ended {
                return;
            }
            at += 1;
        }
    }

    /// Takes what stands behind a backslash; how many bytes that was.
    fn unescape(&mut self, rest: &[u8]) -> usize {
        let Some(first) = rest.first() else {
            self.values.push(b'\\');
            return 0;
        };
        let simple = match first {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => {
                let digits = rest.iter().take(3).take_while(|b| (b'0'..=b'7').contains(*b)).count();
                let value = rest[..digits].iter().fold(0_u32, |value, b| value * 8 + u32::from(b - b'0'));
                self.values.push((value & 0xff) as u8);
                return digits;
            }
            b'x' => {
                let digits = rest[1..].iter().take(2).take_while(|b| b.is_ascii_hexdigit()).count();
                let hex = std::str::from_utf8(&rest[1..=digits]).unwrap_or_default();
                match u8::from_str_radix(hex, 16) {
                    Ok(value) => self.values.push(value),
                    Err(_) => self.values.push(b'x'),
                }
                return 1 + digits;
            }
            other => *other,
        };
        self.values.push(simple);
        1
    }
}

impl Cutter for TextCutter {
    fn cut(&mut self, input: &[u8], at_end: bool) -> Cut {
        self.values.clear();
        self.fields.clear();
        let Some((taken, length, lines)) = escaped_line(input, at_end) else { return Cut::Incomplete };
        let line = &input[..length];
        if line == b"\\." {
            return Cut::End;
        }
        if length == 0 && self.width != 1 {
            return Cut::Blank { taken };
        }
        self.read(line);
        let found = self.fields.len();
        if found != self.width {
            let reason = format!("the record has {found} values, {} are expected", self.width);
            return Cut::Bad { taken, length, lines, reason, code: Code::BadFile };
        }
        if std::str::from_utf8(&self.values).is_err() {
            return Cut::Bad { taken, length, lines, reason: NOT_UTF8.to_owned(), code: Code::InvalidEncoding };
        }
        Cut::Record { taken, length, lines }
    }

    fn cell<'a>(&'a self, _input: &'a [u8], column: usize) -> Cell<'a> {
        match self.wanted[column].and_then(|i| self.fields.get(i)) {
            None => Cell::Missing,
            Some((_, _, true)) => Cell::Null,
            Some((start, end, false)) => Cell::Text(&self.values[*start..*end]),
        }
    }

    fn columns(&self) -> usize {
        self.wanted.len()
    }
}

/// The first line that does not end in a backslash: its bytes, those without its end, and its lines.
fn escaped_line(input: &[u8], at_end: bool) -> Option<(usize, usize, u64)> {
    let mut from = 0;
    let mut lines = 1;
    loop {
        let (taken, length) = super::line(&input[from..], at_end)?;
        let end = from + length;
        let backslashes = input[..end].iter().rev().take_while(|b| **b == b'\\').count();
        if backslashes % 2 == 0 || (at_end && from + taken >= input.len()) {
            return Some((from + taken, end, lines));
        }
        lines += 1;
        from += taken;
    }
}
