//! Owns places in a text body: lines, and where its encoding breaks.

use millstream_catalog::fault::Code;

use super::refusal::{Parsed, Refusal};

/// Counts lines up to rising places in a body, looking at every byte once.
#[derive(Debug, Default)]
pub(crate) struct LineCounter {
    seen: usize,
    newlines: u64,
    line_start: usize,
}

impl LineCounter {
    /// The line and the byte in it, both from 1, that byte `at` of the body is.
    pub fn place_of(&mut self, body: &[u8], at: usize) -> (u64, u64) {
        let at = at.min(body.len());
        if at < self.seen {
            *self = Self::default();
        }
        let between = &body[self.seen..at];
        if let Some(newline) = memchr::memrchr(b'\n', between) {
            self.newlines += memchr::memchr_iter(b'\n', between).count() as u64;
            self.line_start = self.seen + newline + 1;
        }
        self.seen = at;
        (self.newlines + 1, (at - self.line_start) as u64 + 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_forwards_and_backwards() {
        let body = b"ab\n\ncd\n";
        let mut lines = LineCounter::default();
        let places: Vec<_> = [0, 1, 2, 3, 4, 5, 7, 99, 1].iter().map(|&at| lines.place_of(body, at)).collect();
        assert_eq!(places, [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (3, 2), (4, 1), (4, 1), (1, 2)]);
    }
}
