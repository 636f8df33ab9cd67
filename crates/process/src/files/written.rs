//! Owns how records are written as delimited text: what is quoted, what is escaped, what stands for NULL.

use super::dialect::Dialect;

/// Appends a record of these cells, `None` being NULL.
pub fn put_record<'a>(dialect: &Dialect, cells: impl Iterator<Item = Option<&'a [u8]>>, out: &mut Vec<u8>) {
    let mut cells = cells.peekable();
    let first_starts = out.len();
    let mut count = 0;
    while let Some(cell) = cells.next() {
        count += 1;
        let alone = count == 1 && cells.peek().is_none();
        match cell {
            None => out.extend_from_slice(dialect.null.as_bytes()),
            Some(value) if dialect.backslashes => put_escaped(dialect, value, out),
            Some(value) => put_quoted(dialect, value, alone, out),
        }
        if cells.peek().is_some() {
            out.push(dialect.delimiter);
        }
    }
    // In the text format a record that reads like the end of the data must not be taken for it.
    if dialect.backslashes && &out[first_starts..] == b"\\." {
        out.truncate(first_starts);
        out.extend_from_slice(b"\\\\.");
    }
    out.push(b'\n');
}

fn put_escaped(dialect: &Dialect, value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            b if *b == dialect.delimiter => *b,
            _ => {
                out.push(*byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

fn put_quoted(dialect: &Dialect, value: &[u8], alone: bool, out: &mut Vec<u8>) {
    let Some(quote) = dialect.quote else {
        out.extend_from_slice(value);
        return;
    };
    let special = |b: &u8| *b == dialect.delimiter || *b == quote || *b == b'\n' || *b == b'\r';
    let like_end = alone && value == b"\\.";
    let like_null = value == dialect.null.as_bytes() || (alone && value.is_empty());
    if !(like_null || like_end || value.iter().any(special)) {
        out.extend_from_slice(value);
        return;
    }
    out.push(quote);
    for byte in value {
        if *byte == quote || *byte == dialect.escape {
            out.push(dialect.escape);
        }
        out.push(*byte);
    }
    out.push(quote);
}
