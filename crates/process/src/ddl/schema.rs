//! Owns the statements about schemas.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::fault::Code;

use super::Command;
use super::cursor::Cursor;
use super::statement::like;
use crate::Result;

/// The statement, if its first words make it one about schemas.
pub(super) fn statement(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    Ok(Some(if cursor.take_words(&["create", "schema"]) {
        let if_not_exists = cursor.take_words(&["if", "not", "exists"]);
        let name = cursor.identifier("a schema name")?;
        if cursor.is_words(&["authorization"]) {
            let message = "there are no accounts, whoever connects owns everything: leave AUTHORIZATION out";
            return Err(cursor.error(Code::Unsupported, message));
        }
        Command::CreateSchema { name, if_not_exists }
    } else if cursor.take_words(&["drop", "schema"]) {
        let if_exists = cursor.take_words(&["if", "exists"]);
        let mut names = vec![cursor.identifier("a schema name")?];
        while cursor.take(&Token::Comma) {
            names.push(cursor.identifier("a schema name")?);
        }
        let cascade = cursor.take_word("cascade");
        if !cascade {
            cursor.take_word("restrict");
        }
        Command::DropSchema { names, if_exists, cascade }
    } else if cursor.is_words(&["alter", "schema"]) {
        let message = "a schema keeps its name: the folders of the lake go by it";
        return Err(cursor.error(Code::Unsupported, message));
    } else if cursor.take_words(&["show", "schemas"]) {
        Command::ShowSchemas { like: like(cursor)? }
    } else {
        return Ok(None);
    }))
}
