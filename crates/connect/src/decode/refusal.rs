//! Owns why a value or row was refused, and the rejected rows that come of it.

use millstream_catalog::fault::Code;

/// The result of decoding a value or a row.
pub(crate) type Parsed<T> = Result<T, Box<Refusal>>;

/// At most this many characters of a value are repeated in a message.
const SHOWN_CHARS: usize = 60;

/// Why one value or row was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: Code,
    pub reason: String,
    /// Where, as a byte offset in the body; `None` until the caller that knows it has said so.
    pub at: Option<usize>,
    /// The field, with its path in nested rows and arrays.
    pub field: Option<String>,
}

impl Refusal {
    #[cold]
    pub fn new(code: Code, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { code, reason: reason.into(), at: None, field: None })
    }

    #[cold]
    pub fn invalid(reason: impl Into<String>) -> Box<Self> {
        Self::new(Code::InvalidValue, reason)
    }

    /// `text` does not read as a `data_type`.
    #[cold]
    pub fn unreadable(text: &[u8], data_type: &str) -> Box<Self> {
        Self::invalid(format!("{} is not a valid {data_type}", shown(text)))
    }

    #[cold]
    pub fn out_of_range(text: &[u8], data_type: &str) -> Box<Self> {
        Self::new(Code::OutOfRange, format!("{} is out of range for {data_type}", shown(text)))
    }

    /// A JSON value of the wrong kind.
    #[cold]
    pub fn mismatch(data_type: &str, found: &str) -> Box<Self> {
        Self::new(Code::TypeMismatch, format!("{found} cannot be taken as {data_type}"))
    }

    /// Sets where it was found, unless an inner value said so already.
    #[cold]
    pub fn at(mut self: Box<Self>, at: usize) -> Box<Self> {
        self.at.get_or_insert(at);
        self
    }

    /// Puts a field's name before the path so far.
    #[cold]
    pub fn within(mut self: Box<Self>, name: &str) -> Box<Self> {
        self.field = Some(match self.field.take() {
            None => name.to_owned(),
            Some(path) if path.starts_with('[') => format!("{name}{path}"),
            Some(path) => format!("{name}.{path}"),
        });
        self
    }
}

/// A row that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The line it begins on, from 1 (for Arrow: the row's number).
    pub line: u64,
    /// The byte in that line where the fault lies, from 1.
    pub column: Option<u64>,
    /// The field at fault, with its path in nested rows and arrays.
    pub field: Option<String>,
    /// What kind of failure it is.
    pub code: Code,
    /// The cause, as a person reads it.
    pub reason: String,
    /// The row as it was sent; bytes that are not UTF-8 are shown as U+FFFD.
    pub text: String,
}

/// A value as messages repeat it: quoted and cut.
pub(crate) fn shown(text: &[u8]) -> String {
    let head = &text[..text.len().min(SHOWN_CHARS * 4)];
    let mut chars = String::from_utf8_lossy(head).into_owned();
    if let Some((end, _)) = chars.char_indices().nth(SHOWN_CHARS) {
        chars.truncate(end);
        chars.push('…');
    }
    format!("{chars:?}")
}

/// The original text as quarantine keeps it: at most `limit_bytes`, and said so when it is cut.
pub(crate) fn kept_text(bytes: &[u8], limit_bytes: usize) -> String {
    if bytes.len() <= limit_bytes {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::from_utf8_lossy(&bytes[..limit_bytes]).into_owned();
    text.push_str(&format!("… (cut: {} bytes in all)", bytes.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_path_reads_as_it_is_written_in_code() {
        let refusal = Refusal::invalid("x").within("[2]").within("items").within("order");
        assert_eq!(refusal.field.as_deref(), Some("order.items[2]"));
    }

    #[test]
    fn the_innermost_place_is_kept() {
        assert_eq!(Refusal::invalid("x").at(7).at(3).at, Some(7));
    }

    #[test]
    fn long_values_and_texts_are_cut() {
        assert_eq!(shown(b"a\"b"), r#""a\"b""#);
        assert!(shown(&[b'x'; 500]).chars().count() < 70);
        assert_eq!(kept_text(b"abcdef", 3), "abc… (cut: 6 bytes in all)");
        assert_eq!(kept_text(b"a\xffb", 9), "a\u{fffd}b");
    }
}
