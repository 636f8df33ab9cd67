//! Owns CREATE MATERIALIZED VIEW and CREATE STREAM … AS: what they say, and the definitions that come of it.

use datafusion::sql::sqlparser::tokenizer::{Location, Token, Word};
use millstream_catalog::fault::Code;
use millstream_catalog::{
    Column, Dependency, Error as CatalogError, ObjectName, OnError, Stream, StreamId, StreamOptions, View, ViewId,
    ViewKind, ViewOptions, ViewState, Watermark,
};

use super::options::{OF_DERIVED, ViewOptionChange, of_derived, set_clause};
use crate::Result;
use crate::ddl::Command;
use crate::ddl::create::Clauses;
use crate::ddl::cursor::Cursor;
use crate::ddl::entry::Entries;
use crate::ddl::options::with_clause;
use crate::ddl::query::{QueryText, view_query};

/// A name that CREATE gives to a column of its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnName {
    /// The name.
    pub name: String,
    /// Its comment.
    pub comment: Option<String>,
}

/// A materialized view as CREATE MATERIALIZED VIEW says it, before its query is planned.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewDraft {
    /// Its name.
    pub name: ObjectName,
    /// The view whose name and place it is to take.
    pub replacement_for: Option<ObjectName>,
    /// Names for the first of the query's columns; the others keep theirs.
    pub columns: Vec<ColumnName>,
    /// The query.
    pub query: QueryText,
    /// Its options.
    pub options: ViewOptions,
    /// Whether a window's rows come out once, when it closes.
    pub emit_on_window_close: bool,
    /// Its comment.
    pub comment: Option<String>,
}

/// A stream that a query writes, as CREATE STREAM … AS says it.
#[derive(Debug, Clone, PartialEq)]
pub struct DerivedStreamDraft {
    /// Its name.
    pub name: ObjectName,
    /// Names for the first of the query's columns; the others keep theirs.
    pub columns: Vec<ColumnName>,
    /// Its watermark.
    pub watermark: Option<Watermark>,
    /// The columns that choose the partition.
    pub partition_by: Vec<String>,
    /// The stream's options.
    pub stream_options: StreamOptions,
    /// The query.
    pub query: QueryText,
    /// The options of the view that writes the stream.
    pub options: ViewOptions,
    /// Whether a window's rows come out once, when it closes.
    pub emit_on_window_close: bool,
    /// The stream's comment.
    pub comment: Option<String>,
}

impl ViewDraft {
    /// The definition, checked: `columns` are the query's, and `replacement_for` the identity of the view it names.
    pub fn into_view(
        self,
        id: ViewId,
        columns: Vec<Column>,
        depends_on: Vec<Dependency>,
        replacement_for: Option<ViewId>,
        created_at_ms: i64,
    ) -> Result<View> {
        let columns = named(&self.columns, columns, "materialized view", &self.name)?;
        let view = View {
            id,
            name: self.name,
            kind: ViewKind::MaterializedView,
            query: self.query.text,
            columns,
            named_columns: !self.columns.is_empty(),
            depends_on,
            options: self.options,
            state: ViewState::Running,
            replacement_for,
            emit_on_window_close: self.emit_on_window_close,
            comment: self.comment,
            version: 1,
            created_at_ms,
        };
        view.validate()?;
        Ok(view)
    }
}

impl DerivedStreamDraft {
    /// The stream and the view that writes it, checked; `columns` are the query's.
    pub fn into_definitions(
        self,
        (stream_id, view_id): (StreamId, ViewId),
        columns: Vec<Column>,
        depends_on: Vec<Dependency>,
        created_at_ms: i64,
    ) -> Result<(Stream, View)> {
        let columns = named(&self.columns, columns, "stream", &self.name)?;
        let plain = columns.iter().map(|c| Column { comment: None, ..c.clone() }).collect();
        let view = View {
            id: view_id,
            name: self.name.clone(),
            kind: ViewKind::DerivedStream { stream: stream_id },
            query: self.query.text,
            columns: plain,
            named_columns: !self.columns.is_empty(),
            depends_on,
            options: self.options,
            state: ViewState::Running,
            replacement_for: None,
            emit_on_window_close: self.emit_on_window_close,
            comment: None,
            version: 1,
            created_at_ms,
        };
        let stream = Stream {
            id: stream_id,
            name: self.name,
            columns,
            checks: vec![],
            watermark: self.watermark,
            partition_by: self.partition_by,
            options: self.stream_options,
            comment: self.comment,
            version: 1,
            created_at_ms,
            table: None,
        };
        view.validate()?;
        stream.validate()?;
        Ok((stream, view))
    }
}

/// The query's columns under the names they were given.
pub(in crate::ddl) fn named(
    names: &[ColumnName],
    mut columns: Vec<Column>,
    kind: &str,
    object: &ObjectName,
) -> Result<Vec<Column>> {
    if names.len() > columns.len() {
        let reason = format!("it names {} columns and its query gives {}", names.len(), columns.len());
        return Err(CatalogError::InvalidDefinition { object: format!("{kind} {object}"), reason }.into());
    }
    for (column, given) in columns.iter_mut().zip(names) {
        column.name.clone_from(&given.name);
        column.comment.clone_from(&given.comment);
    }
    Ok(columns)
}

/// Reads what stands after `CREATE [REPLACEMENT] MATERIALIZED VIEW`.
pub(super) fn create_view(cursor: &mut Cursor<'_>, replacement: bool) -> Result<Command> {
    let if_not_exists = cursor.take_words(&["if", "not", "exists"]);
    let name = cursor.own_name("a view name")?;
    let replacement_for = if replacement {
        cursor.expect_word("FOR")?;
        Some(cursor.own_name("the name of the view to replace")?)
    } else {
        None
    };
    let columns = column_names(cursor, None)?;
    let (mut changes, mut comment, mut seen) = (Vec::new(), None, Vec::new());
    while !cursor.is_words(&["as"]) {
        let at = cursor.location();
        let clause = if cursor.take_word("with") {
            changes.extend(set_clause(cursor)?);
            "WITH"
        } else if cursor.take_word("comment") {
            comment = Some(cursor.string("the comment's text in quotes")?);
            "COMMENT"
        } else {
            let list = if columns.is_empty() { "the columns' names, " } else { "" };
            return Err(cursor.expected(&format!("{list}WITH, COMMENT, or AS and the query")));
        };
        once(cursor, &mut seen, clause, at)?;
    }
    cursor.advance();
    let query = view_query(cursor)?;
    let behind = Behind::parse(cursor, seen, |c| {
        changes.extend(set_clause(c)?);
        Ok(())
    })?;
    let mut options = ViewOptions::default();
    changes.iter().for_each(|change| change.apply(&mut options));
    behind.set_on_error(cursor, &mut options, changes.iter().any(|c| matches!(c, ViewOptionChange::OnError(_))))?;
    let emit_on_window_close = behind.emit_on_window_close;
    let view = ViewDraft { name, replacement_for, columns, query, options, emit_on_window_close, comment };
    Ok(Command::CreateView { view: Box::new(view), if_not_exists })
}

/// Whether what follows a stream's name makes it one that a query writes: AS stands outside of parentheses.
pub(in crate::ddl) fn is_derived(cursor: &Cursor<'_>) -> bool {
    let mut depth = 0_usize;
    for token in cursor.rest() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(Word { value, quote_style: None, .. }) if depth == 0 && value.eq_ignore_ascii_case("as") => {
                return true;
            }
            _ => {}
        }
    }
    false
}

/// Reads what stands after `CREATE STREAM name`, where [`is_derived`].
pub(in crate::ddl) fn create_derived(
    cursor: &mut Cursor<'_>,
    name: ObjectName,
    if_not_exists: bool,
) -> Result<Command> {
    let mut entries = Entries::default();
    let columns = column_names(cursor, Some(&mut entries))?;
    let mut changes = Vec::new();
    let mut of_view = |option: &str, value: &str| Some(of_derived(option, value)?.map(|change| changes.push(change)));
    let at = cursor.location();
    let Clauses { partition_by, mut options, comment } = Clauses::parse(cursor, OF_DERIVED, &mut of_view)?;
    cursor.expect_word("AS")?;
    let query = view_query(cursor)?;
    let behind = Behind::parse(cursor, Vec::new(), |c| {
        let more = with_clause(c, OF_DERIVED, &mut of_view)?;
        more.iter().for_each(|change| change.apply(&mut options));
        Ok(())
    })?;
    if options.rest {
        let message = "option rest keeps what producers send beyond the columns; a query gives its columns alone";
        return Err(cursor.error_at(Code::InvalidRequest, message, at));
    }
    let mut view_options = ViewOptions::default();
    changes.iter().for_each(|change| change.apply(&mut view_options));
    behind.set_on_error(
        cursor,
        &mut view_options,
        changes.iter().any(|c| matches!(c, ViewOptionChange::OnError(_))),
    )?;
    let stream = DerivedStreamDraft {
        name,
        columns,
        watermark: entries.watermark,
        partition_by,
        stream_options: options,
        query,
        options: view_options,
        emit_on_window_close: behind.emit_on_window_close,
        comment,
    };
    Ok(Command::CreateDerivedStream { stream: Box::new(stream), if_not_exists })
}

/// `(name [COMMENT 'text'], …)`, if it is there; a stream's with `WATERMARK FOR column AS expr`.
pub(in crate::ddl) fn column_names(
    cursor: &mut Cursor<'_>,
    mut of_stream: Option<&mut Entries>,
) -> Result<Vec<ColumnName>> {
    if cursor.peek().token != Token::LParen {
        return Ok(Vec::new());
    }
    let mut names: Vec<ColumnName> = Vec::new();
    cursor.list("the columns' names", |c| {
        let at = c.location();
        if let Some(entries) = of_stream.as_deref_mut().filter(|_| c.is_words(&["watermark", "for"])) {
            return entries.watermark(c, at);
        }
        let name = c.identifier("a column name")?;
        if names.iter().any(|n| n.name.eq_ignore_ascii_case(&name)) {
            return Err(c.error_at(Code::DuplicateColumn, format!("column {name:?} is named twice"), at));
        }
        let comment = if c.take_word("comment") { Some(c.string("the comment's text in quotes")?) } else { None };
        if !matches!(c.peek().token, Token::Comma | Token::RParen | Token::EOF) {
            let message = format!("column {name:?} has the type that the query gives it: leave all but its name out");
            return Err(c.error(Code::SyntaxError, message));
        }
        names.push(ColumnName { name, comment });
        Ok(())
    })?;
    Ok(names)
}

fn once(cursor: &Cursor<'_>, seen: &mut Vec<&'static str>, clause: &'static str, at: Location) -> Result<()> {
    if seen.contains(&clause) {
        return Err(cursor.error_at(Code::SyntaxError, format!("{clause} is given twice"), at));
    }
    seen.push(clause);
    Ok(())
}

/// What stands behind the query, in any order.
#[derive(Debug, Default)]
struct Behind {
    emit_on_window_close: bool,
    on_error: Option<(OnError, Location)>,
}

impl Behind {
    /// `seen` are the clauses that stood before the query; `with` reads the options.
    fn parse(
        cursor: &mut Cursor<'_>,
        mut seen: Vec<&'static str>,
        mut with: impl FnMut(&mut Cursor<'_>) -> Result<()>,
    ) -> Result<Self> {
        let mut behind = Self::default();
        while !cursor.at_end() {
            let at = cursor.location();
            let clause = if cursor.take_word("emit") {
                emit_on_window_close(cursor, at)?;
                behind.emit_on_window_close = true;
                "EMIT ON WINDOW CLOSE"
            } else if cursor.take_words(&["on", "error"]) {
                behind.on_error = Some((on_error(cursor)?, at));
                "ON ERROR"
            } else if cursor.take_words(&["with", "no", "data"]) {
                let message = "a view is filled from the start, WITH NO DATA is not supported: leave it out, or \
                               SUSPEND the view";
                return Err(cursor.error_at(Code::Unsupported, message, at));
            } else if cursor.take_words(&["with", "data"]) {
                "WITH DATA"
            } else if cursor.take_word("with") {
                with(cursor)?;
                "WITH"
            } else {
                return Err(cursor.expected("EMIT ON WINDOW CLOSE, ON ERROR, WITH or the end of the statement"));
            };
            once(cursor, &mut seen, clause, at)?;
        }
        Ok(behind)
    }

    fn set_on_error(&self, cursor: &Cursor<'_>, options: &mut ViewOptions, is_set: bool) -> Result<()> {
        let Some((on_error, at)) = self.on_error else { return Ok(()) };
        if is_set {
            let message = "ON ERROR is given twice, as a clause and as option on_error";
            return Err(cursor.error_at(Code::SyntaxError, message, at));
        }
        options.on_error = on_error;
        Ok(())
    }
}

/// Reads what stands after `EMIT`, which is at `at`.
fn emit_on_window_close(cursor: &mut Cursor<'_>, at: Location) -> Result<()> {
    if cursor.is_words(&["changes"]) {
        let message = "a view keeps its changes for whoever asks: leave EMIT CHANGES out here, and read it with \
                       SELECT … EMIT CHANGES";
        return Err(cursor.error_at(Code::Unsupported, message, at));
    }
    ["ON", "WINDOW", "CLOSE"].iter().try_for_each(|word| cursor.expect_word(word))
}

fn on_error(cursor: &mut Cursor<'_>) -> Result<OnError> {
    if cursor.take_word("quarantine") {
        return Ok(OnError::Quarantine);
    }
    if cursor.take_word("stop") {
        return Ok(OnError::Stop);
    }
    let error = cursor.expected("QUARANTINE or STOP after ON ERROR");
    Err(super::manage::hinted(error, cursor, &["quarantine", "stop"]))
}
