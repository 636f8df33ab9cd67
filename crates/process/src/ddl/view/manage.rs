//! Owns the statements about views that are there: ALTER, DROP, SHOW, COMMENT, REFRESH and EXPLAIN CREATE, and what
//! becomes of a definition.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectName, View, ViewState};

use super::create::create_view;
use super::options::{ViewOptionChange, reset_clause, set_clause};
use crate::ddl::Command;
use crate::ddl::create::create_stream;
use crate::ddl::cursor::Cursor;
use crate::ddl::statement::{dropped, like};
use crate::ddl::suggest::nearest;
use crate::{Error, Result};

/// What `ALTER MATERIALIZED VIEW` and `COMMENT ON` change in a definition.
#[derive(Debug, Clone, PartialEq)]
pub enum ViewAction {
    /// `SUSPEND` and `RESUME`.
    SetState(ViewState),
    /// `SET (…)` and `RESET (…)`.
    SetOptions(Vec<ViewOptionChange>),
    /// `RENAME TO`.
    Rename(ObjectName),
    /// `COMMENT ON`.
    SetComment {
        /// The column, unless it is about the view itself.
        column: Option<String>,
        /// The text; `None` takes the comment away.
        text: Option<String>,
    },
}

/// The definition after `action`, one version up; `None` when it changes nothing.
pub fn altered_view(view: &View, action: &ViewAction) -> Result<Option<View>> {
    let mut next = view.clone();
    match action {
        ViewAction::SetState(state) => next.state = *state,
        ViewAction::SetOptions(changes) => changes.iter().for_each(|change| change.apply(&mut next.options)),
        ViewAction::Rename(name) => next.name = name.clone(),
        ViewAction::SetComment { column: None, text } => next.comment.clone_from(text),
        ViewAction::SetComment { column: Some(name), text } => {
            let column = next.columns.iter_mut().find(|c| c.name == *name).ok_or_else(|| {
                Error::rejected(Code::UndefinedColumn, format!("{} has no column {name:?}", view.shown()))
            })?;
            column.comment.clone_from(text);
            // A comment is written beside the column's name, so from now on the names are given.
            next.named_columns |= text.is_some();
        }
    }
    if next == *view {
        return Ok(None);
    }
    next.version += 1;
    next.validate()?;
    Ok(Some(next))
}

/// The statement, if its first words make it one about views.
pub(in crate::ddl) fn statement(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    if cursor.is_words(&["create", "or", "replace", "materialized"]) {
        let message = "a materialized view is replaced beside the old one: CREATE REPLACEMENT MATERIALIZED VIEW b FOR \
                       a AS …, then ALTER MATERIALIZED VIEW a APPLY REPLACEMENT b";
        return Err(cursor.error(Code::Unsupported, message));
    }
    if let Some(command) = create(cursor)? {
        return Ok(Some(command));
    }
    let command = if cursor.take_words(&["alter", "materialized"]) {
        cursor.expect_word("VIEW")?;
        alter(cursor)?
    } else if cursor.take_words(&["drop", "materialized"]) {
        cursor.expect_word("VIEW")?;
        let one = "DROP MATERIALIZED VIEW takes one view, write a statement for each";
        let (name, if_exists, cascade) = dropped(cursor, "a view name", one)?;
        Command::DropView { name, if_exists, cascade }
    } else if cursor.take_words(&["show", "materialized"]) {
        cursor.expect_word("VIEWS")?;
        Command::ShowViews { like: like(cursor)? }
    } else if cursor.take_words(&["show", "create", "materialized"]) {
        cursor.expect_word("VIEW")?;
        Command::ShowCreateView { name: cursor.object_name("a view name")? }
    } else if cursor.is_words(&["refresh", "materialized"]) {
        let message = "a materialized view is always fresh, there is nothing to refresh: every row changes it as it \
                       comes in";
        return Err(cursor.error(Code::Unsupported, message));
    } else {
        return explain_create(cursor);
    };
    Ok(Some(command))
}

/// `CREATE [REPLACEMENT] MATERIALIZED VIEW`.
fn create(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    let replacement = cursor.take_words(&["create", "replacement"]);
    if replacement {
        cursor.expect_word("MATERIALIZED")?;
    } else if !cursor.take_words(&["create", "materialized"]) {
        return Ok(None);
    }
    cursor.expect_word("VIEW")?;
    create_view(cursor, replacement).map(Some)
}

fn alter(cursor: &mut Cursor<'_>) -> Result<Command> {
    const ACTIONS: &[&str] = &["suspend", "resume", "apply", "set", "reset", "rename"];
    let if_exists = cursor.take_words(&["if", "exists"]);
    let name = cursor.own_name("a view name")?;
    let action = if let Some(state) = new_state(cursor) {
        ViewAction::SetState(state)
    } else if cursor.take_word("apply") {
        cursor.expect_word("REPLACEMENT")?;
        let replacement = cursor.own_name("the name of the replacement")?;
        return Ok(Command::ApplyReplacement { name, if_exists, replacement });
    } else if cursor.take_word("set") {
        ViewAction::SetOptions(set_clause(cursor)?)
    } else if cursor.take_word("reset") {
        ViewAction::SetOptions(reset_clause(cursor)?)
    } else if cursor.take_word("rename") {
        cursor.expect_word("TO")?;
        ViewAction::Rename(new_name(cursor, &name)?)
    } else if cursor.is_words(&["as"]) {
        let message = "a view's query cannot be altered: CREATE REPLACEMENT MATERIALIZED VIEW b FOR a AS …, then ALTER \
                       MATERIALIZED VIEW a APPLY REPLACEMENT b";
        return Err(cursor.error(Code::Unsupported, message));
    } else {
        let error = cursor.expected("SUSPEND, RESUME, APPLY REPLACEMENT, SET, RESET or RENAME TO");
        return Err(hinted(error, cursor, ACTIONS));
    };
    Ok(Command::AlterView { name, if_exists, action })
}

/// `SUSPEND` or `RESUME`, if it comes next.
pub(in crate::ddl) fn new_state(cursor: &mut Cursor<'_>) -> Option<ViewState> {
    if cursor.take_word("suspend") {
        Some(ViewState::Suspended)
    } else {
        cursor.take_word("resume").then_some(ViewState::Running)
    }
}

/// A name in the schema of the old one.
fn new_name(cursor: &mut Cursor<'_>, old: &ObjectName) -> Result<ObjectName> {
    let at = cursor.location();
    let mut parts = cursor.dotted("the new name")?;
    if parts.len() == 1 {
        parts.insert(0, old.schema().to_owned());
    }
    let name = cursor.to_object_name(&parts, at)?;
    if name.schema() != old.schema() {
        let message = format!("a view stays in its schema when it is renamed, that of {old} is {:?}", old.schema());
        return Err(cursor.error_at(Code::Unsupported, message, at));
    }
    Ok(name)
}

/// `EXPLAIN CREATE MATERIALIZED VIEW …` and `EXPLAIN CREATE STREAM … AS …`; EXPLAIN of a query is the library's.
fn explain_create(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    if !cursor.is_words(&["explain"]) {
        return Ok(None);
    }
    let said = |n: usize, words: &[&str]| words.iter().any(|word| cursor.is_nth_word(n, word));
    let options = (1..4).take_while(|n| said(*n, &["analyze", "analyse", "verbose"])).count();
    let create = options + 1;
    if !said(create, &["create"]) || !said(create + 1, &["materialized", "replacement", "stream"]) {
        return Ok(None);
    }
    let analyzed = (1..create).any(|n| said(n, &["analyze", "analyse"]));
    let verbose = (1..create).any(|n| said(n, &["verbose"]));
    if analyzed {
        let message = "EXPLAIN ANALYZE would have to make the view: write EXPLAIN CREATE …, and see system.views for \
                       one that runs";
        return Err(cursor.error(Code::Unsupported, message));
    }
    (0..create).for_each(|_| cursor.advance());
    let at = cursor.location();
    let explained = match create_any(cursor)? {
        create @ (Command::CreateView { .. } | Command::CreateDerivedStream { .. }) => Box::new(create),
        _ => {
            let message = "a stream that producers fill has no plan: EXPLAIN takes CREATE STREAM … AS and a query";
            return Err(cursor.error_at(Code::Unsupported, message, at));
        }
    };
    Ok(Some(Command::ExplainCreate { create: explained, verbose }))
}

fn create_any(cursor: &mut Cursor<'_>) -> Result<Command> {
    if cursor.take_words(&["create", "stream"]) {
        return create_stream(cursor);
    }
    match create(cursor)? {
        Some(command) => Ok(command),
        None => Err(cursor.expected("CREATE MATERIALIZED VIEW or CREATE STREAM")),
    }
}

/// The error about the next word, with what it was meant to be.
pub(super) fn hinted(error: Error, cursor: &Cursor<'_>, words: &[&'static str]) -> Error {
    let Token::Word(word) = &cursor.peek().token else { return error };
    let meant = nearest(&word.value, words.iter().copied());
    match error {
        Error::Rejected { code, message, hint: None, position } => {
            let hint = meant.map(|word| format!("did you mean {}?", word.to_uppercase()));
            Error::Rejected { code, message, hint, position }
        }
        other => other,
    }
}
