//! Owns ALTER STREAM: what it says, and what becomes of the definition.

use millstream_catalog::fault::Code;
use millstream_catalog::{Check, ObjectName, REST_COLUMN, Stream};

use super::create::add_rest;
use super::cursor::Cursor;
use super::entry::{Entries, MAX_COLUMNS};
use super::options::{OptionChange, reset_clause, with_clause};
use super::view::{new_state, of_derived, reset_of_derived};
use super::{AlterAction, Command, ViewAction, ViewOptionChange};
use crate::{Error, Result};

/// Reads what stands after `ALTER STREAM`.
pub(super) fn alter_stream(cursor: &mut Cursor<'_>) -> Result<Command> {
    let if_exists = cursor.take_words(&["if", "exists"]);
    let name = cursor.own_name("a stream name")?;
    let action = if cursor.take_word("add") {
        add_column(cursor, &name)?
    } else if cursor.take_word("set") {
        match set_options_of(cursor)? {
            Options::OfStream(changes) => AlterAction::SetOptions(changes),
            Options::OfQuery(changes) => return of_query(cursor, name, if_exists, ViewAction::SetOptions(changes)),
        }
    } else if cursor.take_word("reset") {
        if let Some(changes) = reset_of_derived(cursor)? {
            return of_query(cursor, name, if_exists, ViewAction::SetOptions(changes));
        }
        AlterAction::SetOptions(reset_clause(cursor)?)
    } else if let Some(state) = new_state(cursor) {
        return of_query(cursor, name, if_exists, ViewAction::SetState(state));
    } else {
        return Err(refused(cursor));
    };
    cursor.expect_end()?;
    Ok(Command::AlterStream { name, if_exists, action })
}

fn of_query(cursor: &Cursor<'_>, name: ObjectName, if_exists: bool, action: ViewAction) -> Result<Command> {
    cursor.expect_end()?;
    Ok(Command::AlterDerivedStream { name, if_exists, action })
}

enum Options {
    OfStream(Vec<OptionChange>),
    OfQuery(Vec<ViewOptionChange>),
}

/// The options behind SET: a stream's, or those of the query that writes it.
fn set_options_of(cursor: &mut Cursor<'_>) -> Result<Options> {
    let at = cursor.location();
    let mut of_query = Vec::new();
    let of_stream =
        with_clause(cursor, &[], |name, text| Some(of_derived(name, text)?.map(|change| of_query.push(change))))?;
    match (of_query.is_empty(), of_stream.is_empty()) {
        (true, _) => Ok(Options::OfStream(of_stream)),
        (false, true) => Ok(Options::OfQuery(of_query)),
        (false, false) => {
            let message = "options of a stream and of the query that writes it are set in a statement each";
            Err(cursor.error_at(Code::InvalidRequest, message, at))
        }
    }
}

fn add_column(cursor: &mut Cursor<'_>, stream: &ObjectName) -> Result<AlterAction> {
    if cursor.is_words(&["constraint"]) || cursor.is_words(&["check"]) {
        let message = "a constraint cannot be added to a stream: earlier rows were not checked against it";
        return Err(cursor.error(Code::Unsupported, message));
    }
    cursor.take_word("column");
    let if_not_exists = cursor.take_words(&["if", "not", "exists"]);
    let at = cursor.location();
    let mut entries = Entries::default();
    entries.column(cursor)?;
    let Some(column) = entries.columns.pop() else { return Err(cursor.expected("a column")) };
    if !column.nullable {
        let message = format!(
            "column {:?} cannot be added as NOT NULL: the rows that are there have no value for it; \
             leave NOT NULL out",
            column.name
        );
        return Err(cursor.error_at(Code::InvalidDefinition, message, at));
    }
    let checks = entries.named_checks(cursor, stream, &[])?;
    Ok(AlterAction::AddColumn { column, checks, if_not_exists })
}

fn refused(cursor: &Cursor<'_>) -> Error {
    let message = if cursor.is_words(&["drop"]) {
        "a stream's columns and constraints cannot be dropped: its history has them"
    } else if cursor.is_words(&["alter"]) {
        "a stream's columns cannot be altered: add a column of the new type and fill both"
    } else if cursor.is_words(&["rename"]) {
        "a stream and its columns cannot be renamed: the lake folder and its readers go by the name"
    } else {
        return cursor.expected("ADD COLUMN, SET or RESET");
    };
    cursor.error(Code::Unsupported, message)
}

/// The definition after `action`, one version up; `None` when it changes nothing.
pub fn altered(stream: &Stream, action: &AlterAction) -> Result<Option<Stream>> {
    let mut next = stream.clone();
    match action {
        AlterAction::AddColumn { column, checks, if_not_exists } => {
            if stream.columns.iter().any(|c| c.name.eq_ignore_ascii_case(&column.name)) {
                if *if_not_exists {
                    return Ok(None);
                }
                let message = format!("column {:?} of stream {} already exists", column.name, stream.name);
                return Err(Error::rejected(Code::DuplicateColumn, message));
            }
            if stream.columns.len() >= MAX_COLUMNS {
                let message = format!("stream {} has {MAX_COLUMNS} columns, it takes no more", stream.name);
                return Err(Error::rejected(Code::TooLarge, message));
            }
            next.columns.push(column.clone());
            add_rest(&mut next.columns, &stream.options);
            add_checks(&mut next, checks);
        }
        AlterAction::SetOptions(changes) => set_options(&mut next, changes)?,
        AlterAction::SetComment { column: None, text } => next.comment.clone_from(text),
        AlterAction::SetComment { column: Some(name), text } => {
            let column = next.columns.iter_mut().find(|c| c.name == *name).ok_or_else(|| {
                let message = format!("stream {} has no column {name:?}", stream.name);
                Error::rejected(Code::UndefinedColumn, message)
            })?;
            column.comment.clone_from(text);
        }
    }
    if next == *stream {
        return Ok(None);
    }
    next.version += 1;
    next.validate()?;
    Ok(Some(next))
}

/// Adds checks, numbering names that are taken.
pub(super) fn add_checks(next: &mut Stream, checks: &[Check]) {
    for check in checks {
        let taken = |name: &String| next.checks.iter().any(|c| c.name == *name);
        let numbered = (1..).map(|n| format!("{}{n}", check.name));
        let name = std::iter::once(check.name.clone()).chain(numbered).find(|n| !taken(n));
        next.checks.push(Check { name: name.unwrap_or_else(|| check.name.clone()), expr: check.expr.clone() });
    }
}

fn set_options(next: &mut Stream, changes: &[OptionChange]) -> Result<()> {
    let before = next.options.clone();
    changes.iter().for_each(|change| change.apply(&mut next.options));
    if next.options.partitions != before.partitions {
        let message = format!(
            "the partitions of stream {} are set at CREATE STREAM and stay {}: the rows that are there lie in them",
            next.name, before.partitions
        );
        return Err(Error::rejected(Code::Unsupported, message));
    }
    if before.rest && !next.options.rest {
        let message =
            format!("rest cannot be turned off for stream {}: its history has column {REST_COLUMN}", next.name);
        return Err(Error::rejected(Code::Unsupported, message));
    }
    if !before.rest {
        add_rest(&mut next.columns, &next.options);
    }
    Ok(())
}
