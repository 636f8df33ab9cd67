//! Owns the tokens of JSON: a position in a body, and what can be read there.

use super::text::{find_special, unescape};
use crate::decode::number::Number;
use crate::decode::refusal::{Parsed, Refusal};

/// Arrays and objects may lie in each other this deep.
pub(super) const MAX_DEPTH: usize = 128;

/// A place in a body.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    pub source: &'a [u8],
    pub pos: usize,
    /// Whether a row may go on after a line's end.
    pub multiline: bool,
}

/// A string between its quotes, as it stands in the source.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawText<'a> {
    pub bytes: &'a [u8],
    /// Where it begins in the source.
    pub start: usize,
    pub escaped: bool,
}

impl<'a> Cursor<'a> {
    pub fn new(source: &'a [u8], multiline: bool) -> Self {
        Self { source, pos: 0, multiline }
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.source.get(self.pos).copied()
    }

    /// The rest of the source.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.source.get(self.pos..).unwrap_or_default()
    }

    #[inline]
    pub fn skip_blanks(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => self.pos += 1,
                b'\n' if self.multiline => self.pos += 1,
                _ => return,
            }
        }
    }

    /// Takes `byte` if it is next.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.pos += usize::from(found);
        found
    }

    /// A refusal that says what was expected and what stands here instead.
    #[cold]
    pub fn unexpected(&self, expected: &str) -> Box<Refusal> {
        let found = match self.peek() {
            None => "the end of the body".to_owned(),
            Some(b'\n') => "the end of the line".to_owned(),
            Some(byte) if byte.is_ascii_graphic() => format!("'{}'", char::from(byte)),
            Some(_) => {
                let char = String::from_utf8_lossy(&self.rest()[..self.rest().len().min(4)]).chars().next();
                char.map_or_else(String::new, |c| format!("{c:?}"))
            }
        };
        Refusal::invalid(format!("malformed JSON: expected {expected}, found {found}")).at(self.pos)
    }

    /// Reads a string; the cursor stands on its opening quote.
    #[inline]
    pub fn string(&mut self) -> Parsed<RawText<'a>> {
        let start = self.pos + 1;
        let (mut pos, mut escaped) = (start, false);
        loop {
            pos = find_special(self.source, pos);
            match self.source.get(pos) {
                Some(b'"') => break,
                Some(b'\\') if self.source.get(pos + 1).is_some_and(|&b| b >= b' ') => {
                    escaped = true;
                    pos += 2;
                }
                _ => return Err(self.broken_string(pos)),
            }
        }
        self.pos = pos + 1;
        Ok(RawText { bytes: &self.source[start..pos], start, escaped })
    }

    /// Reads a number.
    #[inline]
    pub fn number(&mut self) -> Parsed<Number<'a>> {
        let number = Number::scan(self.source, self.pos).ok_or_else(|| {
            Refusal::invalid("malformed JSON: a number needs a digit before and after its point and no leading zero")
                .at(self.pos)
        })?;
        self.pos += number.text.len();
        Ok(number)
    }

    /// Reads `true`, `false` or `null`.
    #[inline]
    pub fn word(&mut self, word: &'static str) -> Parsed<()> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.pos += word.len();
        Ok(())
    }

    /// Reads past one value of any kind, checking it, and gives its text.
    pub fn raw_value(&mut self, depth: usize) -> Parsed<&'a [u8]> {
        let start = self.pos;
        self.skip_value(depth)?;
        Ok(&self.source[start..self.pos])
    }

    fn skip_value(&mut self, depth: usize) -> Parsed<()> {
        match self.peek() {
            Some(b'"') => self.string()?.check(),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'[') => self.skip_array(depth + 1),
            Some(b'{') => self.skip_object(depth + 1),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn skip_array(&mut self, depth: usize) -> Parsed<()> {
        self.open(depth)?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.skip_value(depth)?;
            if !self.next_item(b']')? {
                return Ok(());
            }
        }
    }

    fn skip_object(&mut self, depth: usize) -> Parsed<()> {
        self.open(depth)?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.key()?.check()?;
            self.skip_value(depth)?;
            if !self.next_item(b'}')? {
                return Ok(());
            }
        }
    }

    /// Takes an opening bracket and the blanks behind it, within the depth limit.
    pub fn open(&mut self, depth: usize) -> Parsed<()> {
        if depth > MAX_DEPTH {
            return Err(Refusal::invalid(format!("arrays and objects lie more than {MAX_DEPTH} deep")).at(self.pos));
        }
        self.pos += 1;
        self.skip_blanks();
        Ok(())
    }

    /// After an item: takes a comma and gives true, or takes the closing bracket and gives false.
    #[inline]
    pub fn next_item(&mut self, close: u8) -> Parsed<bool> {
        self.skip_blanks();
        if self.take(b',') {
            self.skip_blanks();
            return Ok(true);
        }
        if self.take(close) {
            return Ok(false);
        }
        Err(self.unexpected(if close == b'}' { "',' or '}'" } else { "',' or ']'" }))
    }

    /// Reads an object's key and the colon behind it.
    pub fn key(&mut self) -> Parsed<RawText<'a>> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a field name in double quotes"));
        }
        let key = self.string()?;
        self.skip_blanks();
        if !self.take(b':') {
            return Err(self.unexpected("':'"));
        }
        self.skip_blanks();
        Ok(key)
    }

    #[cold]
    fn broken_string(&self, pos: usize) -> Box<Refusal> {
        let at = pos.min(self.source.len());
        match self.source.get(at) {
            None | Some(b'\n' | b'\\') => {
                Refusal::invalid("malformed JSON: the string that begins here does not end").at(self.pos)
            }
            Some(byte) => {
                Refusal::invalid(format!("malformed JSON: control character {byte:#04x} must be escaped")).at(at)
            }
        }
    }
}

impl<'a> RawText<'a> {
    /// The text, resolved into `scratch` when it has escapes.
    #[inline]
    pub fn resolve<'b>(&self, scratch: &'b mut Vec<u8>) -> Parsed<&'b [u8]>
    where
        'a: 'b,
    {
        if !self.escaped {
            return Ok(self.bytes);
        }
        scratch.clear();
        unescape(self.bytes, self.start, scratch)?;
        Ok(scratch)
    }

    /// Checks the escapes.
    fn check(&self) -> Parsed<()> {
        if self.escaped { unescape(self.bytes, self.start, &mut Vec::new()) } else { Ok(()) }
    }
}
