//! Owns JSON strings: finding their end, resolving escapes, writing them.

use millstream_catalog::fault::Code;

use crate::decode::refusal::{Parsed, Refusal};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The position of the first quote, backslash or control character from `pos` on; the length when there is none.
///
/// Eight bytes are looked at together: `x - 1 & !x & 0x80` marks a zero byte, and `x - 0x20 & !x & 0x80` one below a
/// blank. A borrow can mark bytes above the first mark wrongly, never the first one.
#[inline]
pub(super) fn find_special(source: &[u8], mut pos: usize) -> usize {
    while let Some(chunk) = source.get(pos..pos + 8).and_then(|c| c.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let marks = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let marks = marks & HIGHS;
        if marks != 0 {
            return pos + (marks.trailing_zeros() / 8) as usize;
        }
        pos += 8;
    }
    while let Some(&byte) = source.get(pos) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            return pos;
        }
        pos += 1;
    }
    source.len()
}

/// Resolves the escapes of a string's inside, `start` being where it lies in the body, and appends the text.
pub(super) fn unescape(raw: &[u8], start: usize, target: &mut Vec<u8>) -> Parsed<()> {
    let mut pos = 0;
    while let Some(offset) = memchr::memchr(b'\\', &raw[pos..]) {
        target.extend_from_slice(&raw[pos..pos + offset]);
        pos += offset;
        let wrong = || Refusal::invalid("a backslash stands before something that is not an escape").at(start + pos);
        let plain = match raw.get(pos + 1).ok_or_else(wrong)? {
            b'"' => b'"',
            b'\\' => b'\\',
            b'/' => b'/',
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (char, len) = unicode_escape(&raw[pos..]).map_err(|e| e.at(start + pos))?;
                target.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                pos += len;
                continue;
            }
            _ => return Err(wrong()),
        };
        target.push(plain);
        pos += 2;
    }
    target.extend_from_slice(&raw[pos..]);
    Ok(())
}

/// One `\uXXXX`, or two that make a pair, and its length.
fn unicode_escape(text: &[u8]) -> Parsed<(char, usize)> {
    let high = code_unit(text).ok_or_else(|| Refusal::invalid("\\u must be followed by four hexadecimal digits"))?;
    if let Some(char) = char::from_u32(high) {
        return Ok((char, 6));
    }
    let low = code_unit(&text[6..]).filter(|low| (0xDC00..0xE000).contains(low) && high < 0xDC00);
    low.and_then(|low| char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)))
        .map(|char| (char, 12))
        .ok_or_else(|| Refusal::new(Code::InvalidEncoding, format!("\\u{high:04x} is half of a surrogate pair")))
}

fn code_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, &b| Some(unit << 4 | char::from(b).to_digit(16)?))
}

/// Appends a text as a JSON string.
pub(crate) fn push_quoted(target: &mut Vec<u8>, text: &str) {
    target.push(b'"');
    for char in text.chars() {
        match char {
            '"' => target.extend_from_slice(b"\\\""),
            '\\' => target.extend_from_slice(b"\\\\"),
            '\n' => target.extend_from_slice(b"\\n"),
            '\r' => target.extend_from_slice(b"\\r"),
            '\t' => target.extend_from_slice(b"\\t"),
            c if u32::from(c) < 0x20 => target.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => target.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    target.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(raw: &str) -> Parsed<String> {
        let mut out = Vec::new();
        unescape(raw.as_bytes(), 0, &mut out)?;
        Ok(String::from_utf8(out).expect("UTF-8 in, UTF-8 out"))
    }

    #[test]
    fn the_first_special_byte_is_found_at_every_offset() {
        for len in 0..40 {
            for special in [b'"', b'\\', b'\n', 0, 0x1f] {
                for filler in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff] {
                    let mut text = vec![filler; len];
                    text.push(special);
                    text.extend([b'"'; 9]);
                    assert_eq!(find_special(&text, 0), len, "{special} after {len} × {filler}");
                }
            }
            assert_eq!(find_special(&vec![b'x'; len], 0), len);
        }
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(resolved(r#"a\"b\\c\/d\b\f\n\r\te"#).expect("valid"), "a\"b\\c/d\u{8}\u{c}\n\r\te");
        assert_eq!(resolved(r"\u00e9\u4e2d\ud83d\ude00!").expect("valid"), "é中😀!");
        assert_eq!(resolved(r"\u0000").expect("valid"), "\0");
    }

    #[test]
    fn half_pairs_and_unknown_escapes_are_refused_where_they_stand() {
        for (raw, at) in [(r"ab\ud83d", 2), (r"\ud83dx", 0), (r"\ud83d\u0041", 0), (r"x\ude00\ud83d", 1)] {
            let refusal = resolved(raw).expect_err(raw);
            assert_eq!((refusal.code, refusal.at), (Code::InvalidEncoding, Some(at)), "{raw}");
        }
        for (raw, at) in [(r"\x", 0), (r"a\u12", 1), (r"a\u12g4", 1), (r"abc\u", 3)] {
            let refusal = resolved(raw).expect_err(raw);
            assert_eq!((refusal.code, refusal.at), (Code::InvalidValue, Some(at)), "{raw}");
        }
    }

    #[test]
    fn a_written_string_reads_back() {
        let text = "q\"b\\n\n\t\u{1}é😀";
        let mut quoted = Vec::new();
        push_quoted(&mut quoted, text);
        assert_eq!(serde_json::from_slice::<String>(&quoted).expect("valid"), text);
    }
}
