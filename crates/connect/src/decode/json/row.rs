//! Owns how one JSON object becomes a row: keys to columns, values to their types, nested rows and arrays.

use super::cursor::Cursor;
use super::text::{push_quoted, unescape};
use crate::decode::columns::{ColumnBuffer, Fields, Items, Values};
use crate::decode::plan::Keys;
use crate::decode::refusal::{Parsed, Refusal};
use crate::decode::rows::{Extra, RowBuilder};
use millstream_catalog::REST_COLUMN;

/// Reads one object into the columns; the caller commits or rejects it.
#[inline]
pub(crate) fn read_row(rows: &mut RowBuilder<'_>, cursor: &mut Cursor<'_>) -> Parsed<()> {
    if cursor.peek() != Some(b'{') {
        return Err(cursor.unexpected("a row, which begins with '{'"));
    }
    cursor.open(1)?;
    if cursor.take(b'}') {
        return Ok(());
    }
    let row = rows.rows();
    let plan = rows.plan;
    let mut previous = 0;
    loop {
        let expected = rows.successors[previous];
        if let Some(index) = known_key(&plan.keys, expected, cursor, &mut rows.extra, read_unknown)? {
            rows.successors[previous] = index;
            previous = index + 1;
            let column = &mut rows.columns[index];
            if column.len() > row {
                column.truncate(row);
            }
            if rows.extra.keep && matches!(column.values, Values::Array(_) | Values::Row(_)) {
                push_name(&mut rows.extra.prefix, &plan.columns[index].name);
            }
            append_value(column, cursor, &mut rows.extra, 1).map_err(|e| e.within(&plan.columns[index].name))?;
            rows.extra.prefix.clear();
        }
        if !cursor.next_item(b'}')? {
            return Ok(());
        }
    }
}

/// Appends the value that a whole text holds as JSON, as CSV fields of nested types carry it.
pub(crate) fn append_json_text(column: &mut ColumnBuffer, text: &[u8], extra: &mut Extra) -> Parsed<()> {
    let mut cursor = Cursor::new(text, true);
    cursor.skip_blanks();
    append_value(column, &mut cursor, extra, 0)?;
    cursor.skip_blanks();
    if cursor.pos < text.len() {
        return Err(cursor.unexpected("the end of the value"));
    }
    Ok(())
}

type Unknown = fn(&[u8], &[u8], &mut Cursor<'_>, &mut Extra) -> Parsed<()>;

/// Reads a key and its colon: gives its column, or has `unknown` read the value of one that is none.
#[inline]
fn known_key(
    keys: &Keys,
    expected: usize,
    cursor: &mut Cursor<'_>,
    extra: &mut Extra,
    unknown: Unknown,
) -> Parsed<Option<usize>> {
    if let Some(len) = keys.predict(expected, cursor.rest()) {
        cursor.pos += len;
        cursor.skip_blanks();
        return Ok(Some(expected));
    }
    let key = cursor.key()?;
    let name = key.resolve(&mut extra.scratch)?;
    if let Some(index) = keys.find(name) {
        return Ok(Some(index));
    }
    let name = name.to_vec();
    let field = || String::from_utf8_lossy(&name).into_owned();
    unknown(&name, key.bytes, cursor, extra).map_err(|e| e.within(&field()))?;
    Ok(None)
}

/// Reads the value of a top-level field that is not a column. A `_rest` object, as queries give it out, is joined
/// with the other unknown fields.
fn read_unknown(name: &[u8], key: &[u8], cursor: &mut Cursor<'_>, extra: &mut Extra) -> Parsed<()> {
    let value = cursor.raw_value(1)?;
    if extra.keep && name == REST_COLUMN.as_bytes() {
        if let [b'{', members @ .., b'}'] = value {
            extra.unknown_members(members.trim_ascii());
            return Ok(());
        }
        if value == b"null" {
            return Ok(());
        }
    }
    extra.unknown_field(key, value);
    Ok(())
}

fn read_nested_unknown(_: &[u8], key: &[u8], cursor: &mut Cursor<'_>, extra: &mut Extra) -> Parsed<()> {
    let value = cursor.raw_value(1)?;
    extra.unknown_field(key, value);
    Ok(())
}

/// Appends the value at the cursor.
#[inline]
fn append_value(column: &mut ColumnBuffer, cursor: &mut Cursor<'_>, extra: &mut Extra, depth: usize) -> Parsed<()> {
    let start = cursor.pos;
    match (cursor.peek(), &mut column.values) {
        (Some(b'n'), _) => {
            cursor.word("null")?;
            column.append_null();
            Ok(())
        }
        (Some(b'"'), Values::Text(target)) => {
            let text = cursor.string()?;
            if text.escaped {
                unescape(text.bytes, text.start, &mut target.data)?;
                target.end_value();
            } else {
                target.push(text.bytes);
            }
            column.nulls.append_non_null();
            Ok(())
        }
        (_, Values::Json(target)) => {
            target.push(cursor.raw_value(depth)?);
            column.nulls.append_non_null();
            Ok(())
        }
        (Some(b'"'), _) => {
            let text = cursor.string()?;
            let text = text.resolve(&mut extra.scratch)?;
            column.append_text(text).map_err(|e| e.at(start))
        }
        (Some(b'-' | b'0'..=b'9'), _) => {
            let number = cursor.number()?;
            column.append_number(number).map_err(|e| e.at(start))
        }
        (Some(b't'), _) => {
            cursor.word("true")?;
            column.append_bool(true).map_err(|e| e.at(start))
        }
        (Some(b'f'), _) => {
            cursor.word("false")?;
            column.append_bool(false).map_err(|e| e.at(start))
        }
        (Some(b'['), Values::Array(items)) => {
            append_items(items, cursor, extra, depth + 1)?;
            column.nulls.append_non_null();
            Ok(())
        }
        (Some(b'{'), Values::Row(fields)) => {
            append_fields(fields, column.nulls.len(), cursor, extra, depth + 1)?;
            column.nulls.append_non_null();
            Ok(())
        }
        (Some(b'['), _) => Err(Refusal::mismatch(column.type_name(), "an array").at(start)),
        (Some(b'{'), _) => Err(Refusal::mismatch(column.type_name(), "an object").at(start)),
        _ => Err(cursor.unexpected("a value")),
    }
}

fn append_items(items: &mut Items, cursor: &mut Cursor<'_>, extra: &mut Extra, depth: usize) -> Parsed<()> {
    cursor.open(depth)?;
    let path = extra.prefix.strip_suffix(b".").map_or(0, <[u8]>::len);
    let mut index = 0usize;
    if !cursor.take(b']') {
        loop {
            extra.spend(items.item_bytes).map_err(|e| e.at(cursor.pos))?;
            if extra.keep {
                push_index(&mut extra.prefix, path, index);
            }
            let result = append_value(&mut items.column, cursor, extra, depth);
            result.map_err(|e| e.within(&format!("[{index}]")))?;
            index += 1;
            if !cursor.next_item(b']')? {
                break;
            }
        }
    }
    items.end_list();
    Ok(())
}

fn append_fields(
    fields: &mut Fields,
    row: usize,
    cursor: &mut Cursor<'_>,
    extra: &mut Extra,
    depth: usize,
) -> Parsed<()> {
    cursor.open(depth)?;
    if !cursor.take(b'}') {
        let prefix = extra.prefix.len();
        let mut expected = 0;
        loop {
            if let Some(index) = known_key(&fields.keys, expected, cursor, extra, read_nested_unknown)? {
                let column = &mut fields.columns[index];
                if column.len() > row {
                    column.truncate(row);
                }
                if extra.keep {
                    push_name(&mut extra.prefix, &fields.names[index]);
                }
                append_value(column, cursor, extra, depth).map_err(|e| e.within(&fields.names[index]))?;
                extra.prefix.truncate(prefix);
                expected = index + 1;
            }
            if !cursor.next_item(b'}')? {
                break;
            }
        }
    }
    for column in &mut fields.columns {
        if column.len() == row {
            column.append_null();
        }
    }
    Ok(())
}

/// Puts a field's name and a point behind a path.
fn push_name(path: &mut Vec<u8>, name: &str) {
    let mut quoted = Vec::with_capacity(name.len() + 2);
    push_quoted(&mut quoted, name);
    path.extend_from_slice(&quoted[1..quoted.len() - 1]);
    path.push(b'.');
}

/// Replaces what stands behind a path's first `len` bytes by an item's index: `items.` becomes `items[3].`.
fn push_index(path: &mut Vec<u8>, len: usize, index: usize) {
    path.truncate(len);
    path.extend_from_slice(format!("[{index}].").as_bytes());
}
