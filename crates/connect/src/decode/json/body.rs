//! Owns how a JSON body splits into rows, and where decoding goes on after a bad one.

use super::cursor::Cursor;
use super::row::read_row;
use crate::decode::Error;
use crate::decode::place::{check_encoding, line_end};
use crate::decode::refusal::{Parsed, Refusal};
use crate::decode::rows::RowBuilder;

/// Reads one row per line from `start` on. Blank lines are skipped; a bad row costs its line.
pub(crate) fn lines(rows: &mut RowBuilder<'_>, body: &[u8], start: usize) -> Result<(), Error> {
    let valid = simdutf8::basic::from_utf8(body).is_ok();
    let mut cursor = Cursor::new(body, false);
    cursor.pos = start;
    while cursor.pos < body.len() {
        cursor.skip_blanks();
        let start = cursor.pos;
        if start == body.len() || cursor.take(b'\n') {
            continue;
        }
        let row = check_line(body, start, valid).and_then(|()| read_row(rows, &mut cursor));
        match row.and_then(|()| end_line(rows, &mut cursor, start)) {
            Ok(end) => {
                rows.commit(start, end)?;
                if rows.rows() == 1 {
                    rows.reserve(body.len() - end);
                }
            }
            Err(refusal) => {
                let end = line_end(body, start);
                rows.reject(*refusal, body, start, end)?;
                cursor.pos = end;
            }
        }
        cursor.take(b'\n');
    }
    Ok(())
}

/// Reads a body that is one object, over as many lines as it likes. When more follows it, every line is a row.
pub(crate) fn object_or_lines(rows: &mut RowBuilder<'_>, body: &[u8], start: usize) -> Result<(), Error> {
    let mut cursor = Cursor::new(body, true);
    cursor.pos = start;
    let first_line = &body[..line_end(body, start)];
    if first_line.len() < body.trim_ascii_end().len() && is_one_value(first_line, start) {
        return lines(rows, body, start);
    }
    match read_element(rows, &mut cursor, is_utf8(body)) {
        Ok(()) if cursor.rest().trim_ascii().is_empty() => rows.commit(start, cursor.pos),
        Ok(()) => {
            cursor.skip_blanks();
            rows.reject(*cursor.unexpected("the end of the body after the row"), body, start, body.len())?;
            Ok(())
        }
        Err(refusal) => {
            rows.reject(*refusal, body, start, body.len())?;
            Ok(())
        }
    }
}

/// Reads an array of rows. After a row that is well-formed JSON but not a good row, and after a malformed one whose
/// brackets still balance, decoding goes on with the next; otherwise the rest of the body is one rejected row.
pub(crate) fn array(rows: &mut RowBuilder<'_>, body: &[u8], start: usize) -> Result<(), Error> {
    let valid = is_utf8(body);
    let mut cursor = Cursor::new(body, true);
    cursor.pos = start + 1;
    loop {
        cursor.skip_blanks();
        if cursor.peek() == Some(b']') {
            break;
        }
        let start = cursor.pos;
        match read_element(rows, &mut cursor, valid) {
            Ok(()) => {
                rows.commit(start, cursor.pos)?;
                if rows.rows() == 1 {
                    rows.reserve(body.len() - cursor.pos);
                }
            }
            Err(refusal) => match element_end(body, start) {
                Some(end) => {
                    rows.reject(*refusal, body, start, end)?;
                    cursor.pos = end;
                }
                None => {
                    rows.reject(*with_rest(refusal), body, start, body.len())?;
                    return Ok(());
                }
            },
        }
        cursor.skip_blanks();
        if !cursor.take(b',') {
            break;
        }
    }
    let closed = cursor.take(b']');
    cursor.skip_blanks();
    if !closed || cursor.pos < body.len() {
        let expected = if closed { "the end of the body" } else { "',' or ']' after the row" };
        let refusal = cursor.unexpected(expected);
        let start = cursor.pos;
        rows.reject(*with_rest(refusal), body, start, body.len())?;
    }
    Ok(())
}

fn read_element(rows: &mut RowBuilder<'_>, cursor: &mut Cursor<'_>, valid: bool) -> Parsed<()> {
    let start = cursor.pos;
    read_row(rows, cursor)?;
    rows.check_size(start, cursor.pos)?;
    if valid { Ok(()) } else { check_encoding(cursor.source, start, cursor.pos) }
}

fn with_rest(mut refusal: Box<Refusal>) -> Box<Refusal> {
    refusal.reason.push_str("; what follows cannot be told apart and is rejected with it");
    refusal
}

/// Where the array's element that begins at `start` ends, when a comma or the array's end follows it.
fn element_end(body: &[u8], start: usize) -> Option<usize> {
    let mut cursor = Cursor::new(body, true);
    cursor.pos = start;
    if cursor.raw_value(0).is_err() {
        cursor.pos = balanced_end(body, start)?;
    }
    let end = cursor.pos;
    cursor.skip_blanks();
    matches!(cursor.peek(), Some(b',' | b']')).then_some(end)
}

/// Where the brackets that open at `start` are all closed; `None` when a string does not end on its line.
fn balanced_end(body: &[u8], start: usize) -> Option<usize> {
    let mut cursor = Cursor::new(body, true);
    cursor.pos = start;
    let mut open = Vec::new();
    loop {
        match cursor.peek()? {
            b'"' => {
                cursor.string().ok()?;
                continue;
            }
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            close @ (b'}' | b']') if open.pop() != Some(close) => return None,
            _ => {}
        }
        cursor.pos += 1;
        if open.is_empty() {
            return (cursor.pos > start + 1).then_some(cursor.pos);
        }
    }
}

/// Checks what must hold before a line is read: its encoding, unless the whole body is known to be good.
#[inline]
fn check_line(body: &[u8], start: usize, valid: bool) -> Parsed<()> {
    if valid { Ok(()) } else { check_encoding(body, start, line_end(body, start)) }
}

/// Checks that a line ends after its row, and gives the row's end.
#[inline]
fn end_line(rows: &RowBuilder<'_>, cursor: &mut Cursor<'_>, start: usize) -> Parsed<usize> {
    let end = cursor.pos;
    cursor.skip_blanks();
    if !matches!(cursor.peek(), None | Some(b'\n')) {
        return Err(cursor.unexpected("the end of the line after the row, since every line is one row"));
    }
    rows.check_size(start, end)?;
    Ok(end)
}

fn is_utf8(body: &[u8]) -> bool {
    simdutf8::basic::from_utf8(body).is_ok()
}

fn is_one_value(text: &[u8], start: usize) -> bool {
    let mut cursor = Cursor::new(text, true);
    cursor.pos = start;
    cursor.raw_value(0).is_ok() && cursor.rest().trim_ascii().is_empty()
}
