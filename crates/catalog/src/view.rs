//! Owns the definition of a view: a query with a name, kept up to date as a materialized view or a derived stream, or
//! put in the place of its name in other queries.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Column, Error, ObjectName, Result, StreamId};

/// A view's identity: it stays when the view is renamed and is never used again after a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ViewId(pub Uuid);

impl std::fmt::Display for ViewId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// The identity of anything that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectId {
    /// A stream, derived or not.
    Stream(StreamId),
    /// A view, materialized or plain.
    View(ViewId),
}

/// What becomes of a view's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewKind {
    /// They are kept, changed row by row, and read by the view's name.
    MaterializedView,
    /// They are appended to a stream of the view's name.
    DerivedStream {
        /// The stream, which has a definition of its own.
        stream: StreamId,
    },
    /// Nothing is kept: the query stands for the name.
    PlainView,
}

impl ViewKind {
    /// What SQL calls it, in lower case.
    pub fn word(&self) -> &'static str {
        match self {
            ViewKind::MaterializedView => "materialized view",
            ViewKind::DerivedStream { .. } => "stream",
            ViewKind::PlainView => "view",
        }
    }
}

/// An object that a view reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Its identity. A derived stream is read by its stream's.
    pub id: ObjectId,
    /// The name that the query calls it by.
    pub name: ObjectName,
}

/// What happens to a row that makes an expression fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It goes to quarantine and the view goes on.
    #[default]
    Quarantine,
    /// The view stops.
    Stop,
}

/// Whether a view follows its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewState {
    /// It does.
    #[default]
    Running,
    /// It stays as it is until it is resumed.
    Suspended,
}

impl std::fmt::Display for ViewState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ViewState::Running => "running",
            ViewState::Suspended => "suspended",
        })
    }
}

/// What `WITH (…)` and `ON ERROR` set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ViewOptions {
    /// The changelog keeps changes this long, ms; `None` leaves it to the view's readers. A derived stream's
    /// retention is its stream's.
    pub retention_ms: Option<u64>,
    /// The changelog keeps at most this many bytes, likewise.
    pub retention_bytes: Option<u64>,
    /// How much memory its hot state may take; `None` shares the node's.
    pub memory_bytes: Option<u64>,
    /// What happens to a row that makes an expression fail.
    pub on_error: OnError,
    /// A partition of an input in which nothing comes this long does not hold the watermark back, ms; `None` leaves it
    /// to the node, [`ViewOptions::NEVER_MS`] is never. Views of before it have no such field, nor those that leave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
}

impl ViewOptions {
    /// An idle timeout that never ends.
    pub const NEVER_MS: u64 = i64::MAX as u64;
}

/// A query with a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its identity; its state and changelog lie in folders of that name.
    pub id: ViewId,
    /// Its name; a derived stream's is its stream's.
    pub name: ObjectName,
    /// What becomes of its rows.
    pub kind: ViewKind,
    /// The query, as it was written.
    pub query: String,
    /// The query's columns, in order, under the names that readers see. A derived stream's are its stream's, but for
    /// comments, which are the stream's alone.
    pub columns: Vec<Column>,
    /// Whether CREATE lists the columns; when not, their names are the query's.
    pub named_columns: bool,
    /// What it reads.
    pub depends_on: Vec<Dependency>,
    /// Options.
    pub options: ViewOptions,
    /// Whether it follows its inputs.
    pub state: ViewState,
    /// The view whose name and place it is to take.
    pub replacement_for: Option<ViewId>,
    /// Whether a window's rows come out once, when it closes.
    pub emit_on_window_close: bool,
    /// What `COMMENT ON MATERIALIZED VIEW` said.
    pub comment: Option<String>,
    /// Counts definitions: 1 at CREATE, one more with each change.
    pub version: u32,
    /// When it was created, ms since 1970.
    pub created_at_ms: i64,
}

impl View {
    /// The columns as Arrow fields.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::to_field).collect::<Vec<_>>()))
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// What others read when they read it: itself, or its stream.
    pub fn object(&self) -> ObjectId {
        match self.kind {
            ViewKind::MaterializedView | ViewKind::PlainView => ObjectId::View(self.id),
            ViewKind::DerivedStream { stream } => ObjectId::Stream(stream),
        }
    }

    /// Whether it reads that object.
    pub fn reads(&self, object: ObjectId) -> bool {
        self.depends_on.iter().any(|d| d.id == object)
    }

    /// What messages call it, `materialized view "a"`.
    pub fn shown(&self) -> String {
        format!("{} {:?}", self.kind.word(), self.name.to_string())
    }

    /// Checks what can be checked without planning the query.
    pub fn validate(&self) -> Result<()> {
        let invalid = |reason: String| Err(self.invalid(reason));
        if self.query.trim().is_empty() {
            return invalid("it has no query".into());
        }
        if self.columns.is_empty() {
            return invalid("its query gives no columns".into());
        }
        for (i, column) in self.columns.iter().enumerate() {
            if column.name.is_empty() || column.name.len() > 63 {
                let place = i + 1;
                return invalid(format!(
                    "column name {:?} must have 1 to 63 bytes: give column {place} a name with AS",
                    column.name
                ));
            }
            if self.columns[..i].iter().any(|c| c.name.eq_ignore_ascii_case(&column.name)) {
                return invalid(format!("column {:?} is named twice: give one another name with AS", column.name));
            }
            if column.comment.is_some() && !self.named_columns {
                return invalid(format!("column {:?} has a comment and its name is not given", column.name));
            }
        }
        if let Some(d) = self.depends_on.iter().find(|d| d.id == self.object()) {
            return invalid(format!("it reads {}, which is itself", d.name));
        }
        let replaces = self.replacement_for.is_some();
        if replaces && self.kind != ViewKind::MaterializedView || self.replacement_for == Some(self.id) {
            return invalid("only a materialized view can replace another".into());
        }
        Ok(())
    }

    /// Checks that what reads `old` can read this one in its place: every column is there, of its type.
    pub fn check_serves_readers_of(&self, old: &View) -> Result<()> {
        for column in &old.columns {
            let reason = match self.column(&column.name) {
                Some(c) if c.data_type == column.data_type => continue,
                Some(c) => {
                    format!("column {:?} is {} where {} has {}", c.name, c.data_type, old.name, column.data_type)
                }
                None => format!("it has no column {:?}, which {} has", column.name, old.name),
            };
            return Err(self.invalid(format!("{reason}, and other views read it")));
        }
        Ok(())
    }

    pub(crate) fn invalid(&self, reason: String) -> Error {
        Error::InvalidDefinition { object: format!("{} {}", self.kind.word(), self.name), reason }
    }
}
