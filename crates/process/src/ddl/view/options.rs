//! Owns the options of views.

use millstream_catalog::{OnError, ViewOptions};

use crate::Result;
use crate::ddl::cursor::Cursor;
use crate::ddl::options::{DURATION, SIZE, duration, options, refused, size, unknown};

const NAMES: &[&str] = &["retention", "retention_size", "memory", "on_error", "idle_timeout"];

/// Those that CREATE STREAM … AS takes beside a stream's.
pub(super) const OF_DERIVED: &[&str] = &["memory", "on_error", "idle_timeout"];

/// One option of a view and the value it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewOptionChange {
    /// `retention`, ms.
    Retention(Option<u64>),
    /// `retention_size`, bytes.
    RetentionSize(Option<u64>),
    /// `memory`, bytes.
    Memory(Option<u64>),
    /// `on_error`.
    OnError(OnError),
    /// `idle_timeout`, ms.
    IdleTimeout(Option<u64>),
}

impl ViewOptionChange {
    /// Makes the change.
    pub fn apply(&self, options: &mut ViewOptions) {
        match *self {
            ViewOptionChange::Retention(ms) => options.retention_ms = ms,
            ViewOptionChange::RetentionSize(bytes) => options.retention_bytes = bytes,
            ViewOptionChange::Memory(bytes) => options.memory_bytes = bytes,
            ViewOptionChange::OnError(on_error) => options.on_error = on_error,
            ViewOptionChange::IdleTimeout(ms) => options.idle_timeout_ms = ms,
        }
    }

    /// What a name and a value say; `None` when no option of a view has that name, and what the value must be when
    /// it is none.
    pub(super) fn read(name: &str, text: &str) -> Option<Result<Self, &'static str>> {
        let text = text.trim();
        Some(match name {
            "retention" => duration(text).map(ViewOptionChange::Retention).ok_or(DURATION),
            "retention_size" => size(text).map(ViewOptionChange::RetentionSize).ok_or(SIZE),
            "memory" => size(text).map(ViewOptionChange::Memory).ok_or(SIZE),
            "idle_timeout" => {
                let never = |ms: Option<u64>| ViewOptionChange::IdleTimeout(Some(ms.unwrap_or(ViewOptions::NEVER_MS)));
                duration(text).map(never).ok_or(DURATION)
            }
            "on_error" => match text.to_ascii_lowercase().as_str() {
                "quarantine" => Ok(ViewOptionChange::OnError(OnError::Quarantine)),
                "stop" => Ok(ViewOptionChange::OnError(OnError::Stop)),
                _ => Err("'quarantine' or 'stop'"),
            },
            _ => return None,
        })
    }

    fn default_of(name: &str) -> Option<Self> {
        let defaults = ViewOptions::default();
        Some(match name {
            "retention" => ViewOptionChange::Retention(defaults.retention_ms),
            "retention_size" => ViewOptionChange::RetentionSize(defaults.retention_bytes),
            "memory" => ViewOptionChange::Memory(defaults.memory_bytes),
            "on_error" => ViewOptionChange::OnError(defaults.on_error),
            "idle_timeout" => ViewOptionChange::IdleTimeout(defaults.idle_timeout_ms),
            _ => return None,
        })
    }
}

/// What an option of the query of a stream is set to; `None` when it is none.
pub(in crate::ddl) fn of_derived(name: &str, text: &str) -> Option<Result<ViewOptionChange, String>> {
    let read = OF_DERIVED.contains(&name).then(|| ViewOptionChange::read(name, text)).flatten()?;
    Some(read.map_err(|what| refused(name, text, what)))
}

/// `(option, …)` of the query of a stream, if the first one is such.
pub(in crate::ddl) fn reset_of_derived(cursor: &mut Cursor<'_>) -> Result<Option<Vec<ViewOptionChange>>> {
    if !OF_DERIVED.iter().any(|name| cursor.is_nth_word(1, name)) {
        return Ok(None);
    }
    let changes = cursor.list("the options", |c| {
        let at = c.location();
        let name = c.identifier("an option name")?;
        let known = OF_DERIVED.contains(&name.as_str()).then(|| ViewOptionChange::default_of(&name)).flatten();
        known.ok_or_else(|| unknown(c, &name, OF_DERIVED, at))
    });
    changes.map(Some)
}

/// `(option = value, …)` of a materialized view.
pub(super) fn set_clause(cursor: &mut Cursor<'_>) -> Result<Vec<ViewOptionChange>> {
    options(cursor, |c, name, value, at| match ViewOptionChange::read(name, &value.text) {
        Some(read) => read.map_err(|what| value.refusal(c, name, what)),
        None => Err(unknown(c, name, NAMES, at)),
    })
}

/// `(option, …)`: each gets its default.
pub(super) fn reset_clause(cursor: &mut Cursor<'_>) -> Result<Vec<ViewOptionChange>> {
    cursor.list("the options", |c| {
        let at = c.location();
        let name = c.identifier("an option name")?;
        ViewOptionChange::default_of(&name).ok_or_else(|| unknown(c, &name, NAMES, at))
    })
}
