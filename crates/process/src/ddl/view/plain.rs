//! Owns the statements about plain views, whose queries stand for their names.

use std::fmt::Write;

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, Dependency, ObjectName, View, ViewId, ViewKind, ViewOptions, ViewState, quoted};

use super::create::{ColumnName, column_names, named};
use crate::Result;
use crate::ddl::Command;
use crate::ddl::cursor::Cursor;
use crate::ddl::query::{QueryText, view_query};
use crate::ddl::render::{literal, rendered_name};
use crate::ddl::statement::like;

/// A plain view as CREATE VIEW says it, before its query is planned.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainViewDraft {
    /// Its name.
    pub name: ObjectName,
    /// Names for the first of the query's columns; the others keep theirs.
    pub columns: Vec<ColumnName>,
    /// The query.
    pub query: QueryText,
    /// Its comment.
    pub comment: Option<String>,
}

impl PlainViewDraft {
    /// The definition, checked; `columns` are the query's.
    pub fn into_view(
        self,
        id: ViewId,
        columns: Vec<Column>,
        depends_on: Vec<Dependency>,
        created_at_ms: i64,
    ) -> Result<View> {
        let columns = named(&self.columns, columns, "view", &self.name)?;
        let view = View {
            id,
            name: self.name,
            kind: ViewKind::PlainView,
            query: self.query.text,
            columns,
            named_columns: !self.columns.is_empty(),
            depends_on,
            options: ViewOptions::default(),
            state: ViewState::Running,
            replacement_for: None,
            emit_on_window_close: false,
            comment: self.comment,
            version: 1,
            created_at_ms,
        };
        view.validate()?;
        Ok(view)
    }
}

/// The statement, if its first words make it one about plain views.
pub(in crate::ddl) fn plain_statement(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    refuse_kinds(cursor)?;
    let or_replace = cursor.take_words(&["create", "or", "replace", "view"]);
    Ok(Some(if or_replace || cursor.take_words(&["create", "view"]) {
        create(cursor, or_replace)?
    } else if cursor.take_words(&["drop", "view"]) {
        drop_views(cursor)?
    } else if cursor.take_words(&["show", "views"]) {
        Command::ShowPlainViews { like: like(cursor)? }
    } else if cursor.take_words(&["show", "create", "view"]) {
        Command::ShowCreatePlainView { name: cursor.object_name("a view name")? }
    } else {
        return Ok(None);
    }))
}

fn refuse_kinds(cursor: &Cursor<'_>) -> Result<()> {
    let replaced = if cursor.is_words(&["create", "or", "replace"]) { 3 } else { 1 };
    let made = |word: &str| {
        cursor.is_words(&["create"]) && cursor.is_nth_word(replaced, word) && cursor.is_nth_word(replaced + 1, "view")
    };
    let message = if made("recursive") {
        "write CREATE VIEW name AS WITH RECURSIVE … in place of CREATE RECURSIVE VIEW"
    } else if made("temp") || made("temporary") {
        "there are no temporary views: CREATE VIEW, and DROP VIEW when it is not needed any more"
    } else if cursor.is_words(&["alter", "view"]) {
        "ALTER VIEW is not supported: CREATE OR REPLACE VIEW gives it another query"
    } else {
        return Ok(());
    };
    Err(cursor.error(Code::Unsupported, message))
}

/// `[IF NOT EXISTS] name [(column [COMMENT 'text'], …)] [COMMENT 'text'] AS query`.
fn create(cursor: &mut Cursor<'_>, or_replace: bool) -> Result<Command> {
    let if_not_exists = cursor.take_words(&["if", "not", "exists"]);
    let name = cursor.own_name("a view name")?;
    let columns = column_names(cursor, None)?;
    let comment = if cursor.take_word("comment") { Some(cursor.string("the comment's text in quotes")?) } else { None };
    if cursor.is_words(&["with"]) {
        return Err(cursor.error(Code::Unsupported, "a view keeps nothing and has no options: leave WITH out"));
    }
    if !cursor.take_word("as") {
        return Err(cursor.expected("the columns' names, COMMENT, or AS and the query"));
    }
    let query = view_query(cursor)?;
    let view = Box::new(PlainViewDraft { name, columns, query, comment });
    Ok(Command::CreatePlainView { view, or_replace, if_not_exists })
}

/// `[IF EXISTS] name, … [CASCADE | RESTRICT]`.
fn drop_views(cursor: &mut Cursor<'_>) -> Result<Command> {
    let if_exists = cursor.take_words(&["if", "exists"]);
    let mut names = vec![cursor.own_name("a view name")?];
    while cursor.take(&Token::Comma) {
        let name = cursor.own_name("a view name")?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let cascade = cursor.take_word("cascade");
    if !cascade {
        cursor.take_word("restrict");
    }
    Ok(Command::DropPlainView { names, if_exists, cascade })
}

/// The CREATE VIEW that gives this definition; [`crate::ddl::parse`] reads it back to the same.
pub fn render_create_plain_view(view: &View) -> String {
    let mut sql = format!("CREATE VIEW {}", rendered_name(&view.name));
    if view.named_columns {
        let names = view.columns.iter().map(|c| match &c.comment {
            Some(comment) => format!("{} COMMENT {}", quoted(&c.name), literal(comment)),
            None => quoted(&c.name),
        });
        let _ = write!(sql, " ({})", names.collect::<Vec<_>>().join(", "));
    }
    if let Some(comment) = &view.comment {
        let _ = write!(sql, "\nCOMMENT {}", literal(comment));
    }
    let _ = write!(sql, "\nAS\n{}", view.query);
    sql
}
