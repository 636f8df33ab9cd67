//! Owns places in a text body: lines, and where its encoding breaks.

use millstream_catalog::fault::Code;

use super::refusal::{Parsed, Refusal};

/// Counts lines up to rising places in a body.
#[derive(Debug, Default)]
pub(crate) struct LineCounter {
    seen: usize,
    newlines: u64,
}

impl LineCounter {
    /// The line, from 1, that byte `at` lies on.
    pub fn line_of(&mut self, body: &[u8], at: usize) -> u64 {
        let at = at.min(body.len());
        if at < self.seen {
            *self = Self::default();
        }
        self.newlines += memchr::memchr_iter(b'\n', &body[self.seen..at]).count() as u64;
        self.seen = at;
        self.newlines + 1
    }
}

/// The end of the line that `start` lies on, without its newline.
pub(crate) fn line_end(body: &[u8], start: usize) -> usize {
    memchr::memchr(b'\n', &body[start..]).map_or(body.len(), |offset| start + offset)
}

/// Checks that a part of a body is UTF-8.
pub(crate) fn check_encoding(body: &[u8], start: usize, end: usize) -> Parsed<()> {
    std::str::from_utf8(&body[start..end]).map(|_| ()).map_err(|error| {
        let at = start + error.valid_up_to();
        let byte = body.get(at).copied().unwrap_or_default();
        Refusal::new(Code::InvalidEncoding, format!("byte {byte:#04x} is not valid UTF-8")).at(at)
    })
}
