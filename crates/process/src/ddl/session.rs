//! Owns the statements about a session: settings, transactions, and what clients send to reset a connection.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::fault::Code;

use super::Command;
use super::cursor::{Cursor, folded};
use crate::Result;

/// Reads a statement about the session; `None` when it is none.
pub(super) fn statement(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    let Token::Word(word) = &cursor.peek().token else { return Ok(None) };
    let command = match folded(word).as_str() {
        "set" => set(cursor)?,
        "reset" => reset(cursor)?,
        "show" => return show(cursor),
        "begin" => {
            cursor.advance();
            transaction_modes(cursor)?;
            Command::Begin { tag: "BEGIN" }
        }
        "start" if cursor.is_nth_word(1, "transaction") => {
            cursor.advance();
            transaction_modes(cursor)?;
            Command::Begin { tag: "START TRANSACTION" }
        }
        "commit" | "end" => {
            end_of_transaction(cursor)?;
            Command::Commit
        }
        "rollback" | "abort" => rollback(cursor)?,
        "savepoint" => {
            cursor.advance();
            Command::Savepoint { name: cursor.identifier("a savepoint name")? }
        }
        "release" => {
            cursor.advance();
            cursor.take_word("savepoint");
            Command::Release { name: cursor.identifier("a savepoint name")? }
        }
        "discard" => discard(cursor)?,
        "deallocate" => {
            cursor.advance();
            cursor.take_word("prepare");
            let all = cursor.take_word("all");
            let name = if all { None } else { Some(cursor.identifier("a prepared statement's name, or ALL")?) };
            Command::Deallocate { name }
        }
        "close" if cursor.is_nth_word(1, "all") => {
            cursor.take_words(&["close", "all"]);
            Command::Nothing { tag: "CLOSE CURSOR ALL" }
        }
        "unlisten" => {
            cursor.advance();
            if !cursor.take(&Token::Mul) {
                cursor.identifier("a channel or *")?;
            }
            Command::Nothing { tag: "UNLISTEN" }
        }
        _ => return Ok(None),
    };
    Ok(Some(command))
}

fn set(cursor: &mut Cursor<'_>) -> Result<Command> {
    cursor.advance();
    if cursor.take_words(&["session", "characteristics", "as", "transaction"]) || cursor.take_word("transaction") {
        modes(cursor)?;
        return Ok(Command::Nothing { tag: "SET" });
    }
    if cursor.is_words(&["constraints"]) {
        while !cursor.at_end() {
            cursor.advance();
        }
        return Ok(Command::Nothing { tag: "SET CONSTRAINTS" });
    }
    let local = cursor.take_word("local");
    if !local && !matches!(cursor.peek_nth(1), Token::Eq) {
        cursor.take_word("session");
    }
    if cursor.take_words(&["time", "zone"]) {
        let value = if cursor.take_word("local") { None } else { values(cursor)? };
        return Ok(Command::Set { name: "timezone".to_owned(), value, local });
    }
    if cursor.take_word("names") {
        return Ok(Command::Set { name: "client_encoding".to_owned(), value: values(cursor)?, local });
    }
    if cursor.take_word("authorization") {
        return Ok(Command::Set { name: "session_authorization".to_owned(), value: values(cursor)?, local });
    }
    if cursor.is_words(&["role"]) && !matches!(cursor.peek_nth(1), Token::Eq) && !cursor.is_nth_word(1, "to") {
        cursor.advance();
        return Ok(Command::Set { name: "role".to_owned(), value: values(cursor)?, local });
    }
    let name = setting(cursor)?;
    if !cursor.take(&Token::Eq) && !cursor.take_word("to") {
        return Err(cursor.expected(&format!("\"=\" or TO after {name}")));
    }
    Ok(Command::Set { name, value: values(cursor)?, local })
}

/// `value, …`, as SHOW prints it; `None` for DEFAULT.
fn values(cursor: &mut Cursor<'_>) -> Result<Option<String>> {
    if cursor.take_word("default") {
        return Ok(None);
    }
    let mut all = vec![value(cursor)?];
    while cursor.take(&Token::Comma) {
        all.push(value(cursor)?);
    }
    Ok(Some(all.join(", ")))
}

fn value(cursor: &mut Cursor<'_>) -> Result<String> {
    let sign = if cursor.take(&Token::Minus) { "-" } else { "" };
    cursor.take(&Token::Plus);
    let text = match &cursor.peek().token {
        Token::Number(digits, _) => format!("{sign}{digits}"),
        Token::Word(word) if sign.is_empty() => folded(word),
        _ => return cursor.string("a value"),
    };
    cursor.advance();
    // A unit behind a number, as in 5 min, is part of the value.
    if let (true, Token::Word(word)) = (text.starts_with(|c: char| c.is_ascii_digit()), &cursor.peek().token) {
        let unit = word.value.clone();
        cursor.advance();
        return Ok(format!("{text}{unit}"));
    }
    Ok(text)
}

fn setting(cursor: &mut Cursor<'_>) -> Result<String> {
    Ok(cursor.dotted("a setting")?.join("."))
}

fn reset(cursor: &mut Cursor<'_>) -> Result<Command> {
    cursor.advance();
    let name = if cursor.take_word("all") {
        None
    } else if cursor.take_words(&["time", "zone"]) {
        Some("timezone".to_owned())
    } else if cursor.take_words(&["session", "authorization"]) {
        Some("session_authorization".to_owned())
    } else {
        Some(setting(cursor)?)
    };
    Ok(Command::Reset { name })
}

/// `SHOW setting`; SHOW COLUMNS and its like are the library's.
fn show(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    const LISTS: [&str; 6] = ["columns", "functions", "databases", "full", "extended", "variables"];
    let create = cursor.is_nth_word(1, "create") && *cursor.peek_nth(2) != Token::EOF;
    if create || LISTS.iter().any(|word| cursor.is_nth_word(1, word)) {
        return Ok(None);
    }
    cursor.advance();
    Ok(Some(if cursor.take_word("all") {
        Command::ShowAll
    } else if cursor.take_words(&["time", "zone"]) {
        Command::Show { name: "timezone".to_owned() }
    } else if cursor.take_words(&["transaction", "isolation", "level"]) {
        Command::Show { name: "transaction_isolation".to_owned() }
    } else if cursor.take_words(&["session", "authorization"]) {
        Command::Show { name: "session_authorization".to_owned() }
    } else {
        Command::Show { name: setting(cursor)? }
    }))
}

fn transaction_modes(cursor: &mut Cursor<'_>) -> Result<()> {
    if !cursor.take_word("work") {
        cursor.take_word("transaction");
    }
    modes(cursor)
}

/// `ISOLATION LEVEL …`, `READ ONLY | WRITE`, `[NOT] DEFERRABLE`, in any number.
fn modes(cursor: &mut Cursor<'_>) -> Result<()> {
    const MODES: [&[&str]; 8] = [
        &["isolation", "level", "serializable"],
        &["isolation", "level", "repeatable", "read"],
        &["isolation", "level", "read", "committed"],
        &["isolation", "level", "read", "uncommitted"],
        &["read", "only"],
        &["read", "write"],
        &["not", "deferrable"],
        &["deferrable"],
    ];
    while !cursor.at_end() {
        if !MODES.iter().any(|mode| cursor.take_words(mode)) {
            return Err(cursor.expected("a transaction mode such as READ ONLY"));
        }
        cursor.take(&Token::Comma);
    }
    Ok(())
}

fn end_of_transaction(cursor: &mut Cursor<'_>) -> Result<()> {
    cursor.advance();
    if cursor.is_words(&["prepared"]) {
        return Err(cursor.error(Code::Unsupported, "two-phase commit is not supported"));
    }
    if !cursor.take_word("work") {
        cursor.take_word("transaction");
    }
    if cursor.take_words(&["and", "chain"]) {
        return Err(cursor.error(Code::Unsupported, "AND CHAIN is not supported"));
    }
    cursor.take_words(&["and", "no", "chain"]);
    Ok(())
}

fn rollback(cursor: &mut Cursor<'_>) -> Result<Command> {
    end_of_transaction(cursor)?;
    if !cursor.take_word("to") {
        return Ok(Command::Rollback);
    }
    cursor.take_word("savepoint");
    Ok(Command::RollbackTo { name: cursor.identifier("a savepoint name")? })
}

fn discard(cursor: &mut Cursor<'_>) -> Result<Command> {
    cursor.advance();
    let parts = [
        ("all", "DISCARD ALL"),
        ("plans", "DISCARD PLANS"),
        ("sequences", "DISCARD SEQUENCES"),
        ("temp", "DISCARD TEMP"),
        ("temporary", "DISCARD TEMP"),
    ];
    match parts.iter().find(|(word, _)| cursor.take_word(word)) {
        Some((_, tag)) => Ok(Command::Discard { tag }),
        None => Err(cursor.expected("ALL, PLANS, SEQUENCES or TEMP")),
    }
}
