//! JSON bodies: rows on lines, an array of rows, or one row.

mod body;
mod cursor;
mod row;
mod text;

pub(crate) use body::{array, lines, object_or_lines};
pub(crate) use row::append_json_text;
pub(crate) use text::push_quoted;
