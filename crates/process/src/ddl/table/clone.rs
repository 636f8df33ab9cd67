//! Owns CREATE TABLE … CLONE: what it says, and the definition of a clone.

use millstream_catalog::{ObjectName, Stream};

use super::entries::{key_name, unsupported};
use super::history;
use crate::Result;
use crate::ddl::cursor::Cursor;
use crate::ddl::{Command, StreamDraft};

/// Whether `[SHALLOW | DEEP] CLONE` comes next.
pub(super) fn is_next(cursor: &Cursor<'_>) -> bool {
    [&["clone"][..], &["shallow", "clone"], &["deep", "clone"]].iter().any(|words| cursor.is_words(words))
}

/// `[SHALLOW] CLONE table [point]`, behind the new table's name.
pub(super) fn clone_table(cursor: &mut Cursor<'_>, name: ObjectName, if_not_exists: bool) -> Result<Command> {
    if cursor.is_words(&["deep"]) {
        let message =
            "DEEP CLONE is not supported: a clone shares files and copies none; CREATE TABLE … AS SELECT copies";
        return Err(unsupported(cursor, message));
    }
    cursor.take_word("shallow");
    cursor.expect_word("CLONE")?;
    let source = cursor.object_name("the name of the table to clone")?;
    let point = if cursor.at_end() { None } else { Some(history::point(cursor)?) };
    Ok(Command::CloneTable { name, source, point, if_not_exists })
}

/// What a clone of a table is: all that was declared of it, under another name, but for the places of old files: they
/// would be copied there.
pub fn clone_draft(source: &Stream, name: ObjectName) -> StreamDraft {
    let mut table = source.table.clone().unwrap_or_default();
    // Where the source lies and what its files went through is its own.
    (table.folder, table.reshape) = (None, None);
    if let Some(key) = table.primary_key.as_mut().filter(|key| key.name == key_name(&source.name)) {
        key.name = key_name(&name);
    }
    let mut options = source.options.clone();
    (options.policy.warm_ms, options.policy.cold) = (None, None);
    StreamDraft {
        name,
        columns: source.columns.clone(),
        checks: source.checks.clone(),
        watermark: None,
        partition_by: Vec::new(),
        options,
        comment: source.comment.clone(),
        table: Some(table),
    }
}
