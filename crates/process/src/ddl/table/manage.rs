//! Owns the choice among the statements about tables, and those that drop, empty, show and describe them.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::fault::Code;

use super::alter::alter_table;
use super::convert::convert_to_delta;
use super::create::create_table;
use super::entries::unsupported;
use super::history;
use crate::Result;
use crate::ddl::Command;
use crate::ddl::cursor::Cursor;
use crate::ddl::statement::like;

/// The statement, if its first words make it one about tables.
pub(in crate::ddl) fn statement(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    refuse_kinds_of_table(cursor)?;
    if let Some(command) = history::statement(cursor)? {
        return Ok(Some(command));
    }
    let temporary = ["temp", "temporary"].iter().any(|word| {
        cursor.take_words(&["create", word, "table"]) || cursor.take_words(&["create", "local", word, "table"])
    });
    let command = if temporary || cursor.take_words(&["create", "table"]) {
        create_table(cursor, temporary)?
    } else if cursor.take_words(&["alter", "table"]) {
        alter_table(cursor)?
    } else if cursor.take_words(&["drop", "table"]) {
        drop_tables(cursor)?
    } else if cursor.take_word("truncate") {
        truncate(cursor)?
    } else if cursor.take_words(&["convert", "to", "delta"]) {
        convert_to_delta(cursor)?
    } else if cursor.take_words(&["show", "tables"]) {
        Command::ShowTables { like: like(cursor)? }
    } else if cursor.take_words(&["show", "create", "table"]) {
        Command::ShowCreateTable { name: cursor.object_name("a table name")? }
    } else {
        return Ok(None);
    };
    Ok(Some(command))
}

fn refuse_kinds_of_table(cursor: &Cursor<'_>) -> Result<()> {
    let made = |kind: &str| cursor.is_words(&["create", kind, "table"]);
    let message = if cursor.is_words(&["create", "or", "replace", "table"]) {
        "a table cannot be replaced, its rows and its history would be lost: use ALTER TABLE, or DROP TABLE first"
    } else if made("unlogged") {
        "every table is durable: leave UNLOGGED out; WITH (durability = 'os') acknowledges before the fsync"
    } else if made("foreign") || made("external") {
        "a table that others made is opened by CREATE TABLE name LOCATION 'url'"
    } else {
        return Ok(());
    };
    Err(unsupported(cursor, message))
}

/// `[IF EXISTS] name, … [CASCADE | RESTRICT]`.
fn drop_tables(cursor: &mut Cursor<'_>) -> Result<Command> {
    let if_exists = cursor.take_words(&["if", "exists"]);
    let mut names = vec![cursor.own_name("a table name")?];
    while cursor.take(&Token::Comma) {
        let at = cursor.location();
        let name = cursor.own_name("a table name")?;
        if names.contains(&name) {
            return Err(cursor.error_at(Code::SyntaxError, format!("table {name} is named twice"), at));
        }
        names.push(name);
    }
    let cascade = cursor.take_word("cascade");
    if !cascade {
        cursor.take_word("restrict");
    }
    Ok(Command::DropTable { names, if_exists, cascade })
}

/// `[TABLE] [ONLY] name, … [RESTART IDENTITY | CONTINUE IDENTITY] [CASCADE | RESTRICT]`.
fn truncate(cursor: &mut Cursor<'_>) -> Result<Command> {
    cursor.take_word("table");
    cursor.take_word("only");
    let mut names = vec![cursor.own_name("a table name")?];
    while cursor.take(&Token::Comma) {
        names.push(cursor.own_name("a table name")?);
    }
    // There are no sequences to restart, and no foreign keys to follow.
    if !cursor.take_words(&["restart", "identity"]) {
        cursor.take_words(&["continue", "identity"]);
    }
    if !cursor.take_word("cascade") {
        cursor.take_word("restrict");
    }
    Ok(Command::Truncate { names })
}
