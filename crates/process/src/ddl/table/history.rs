//! Owns the statements about a table's history: what was done to it, and going back.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::ObjectName;

use crate::Result;
use crate::ddl::Command;
use crate::ddl::cursor::Cursor;

/// A point in a table's history, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// `VERSION AS OF n`.
    Version(i64),
    /// `TIMESTAMP AS OF expr` or `FOR SYSTEM_TIME AS OF expr`.
    Time(String),
}

/// `DESCRIBE HISTORY name [LIMIT n]` and `RESTORE [TABLE] name TO point`.
pub(super) fn statement(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    let describes = cursor.is_words(&["describe", "history"]) || cursor.is_words(&["desc", "history"]);
    // A table may be called history.
    if describes && *cursor.peek_nth(2) != Token::EOF {
        cursor.advance();
        cursor.advance();
        cursor.take_word("table");
        let name = cursor.object_name("a table name")?;
        let limit = if cursor.take_word("limit") { Some(cursor.whole_number("how many versions")?) } else { None };
        return Ok(Some(Command::DescribeHistory { name, limit }));
    }
    if cursor.take_word("restore") {
        cursor.take_word("table");
        let name: ObjectName = cursor.own_name("a table name")?;
        cursor.expect_word("TO")?;
        let point = point(cursor)?;
        return Ok(Some(Command::RestoreTable { name, point }));
    }
    Ok(None)
}

/// `VERSION AS OF n`, `TIMESTAMP AS OF expr` or `FOR SYSTEM_TIME AS OF expr`.
pub(super) fn point(cursor: &mut Cursor<'_>) -> Result<Point> {
    if cursor.take_words(&["version", "as", "of"]) {
        let version = cursor.whole_number("a version")?;
        return Ok(Point::Version(i64::try_from(version).unwrap_or(i64::MAX)));
    }
    if cursor.take_words(&["timestamp", "as", "of"]) || cursor.take_words(&["for", "system_time", "as", "of"]) {
        return Ok(Point::Time(cursor.expression()?));
    }
    Err(cursor.expected("VERSION AS OF a number, or TIMESTAMP AS OF a time"))
}
