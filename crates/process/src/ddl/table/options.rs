//! Owns the options of tables.

use millstream_catalog::StreamOptions;
use millstream_catalog::fault::Code;

use crate::Result;
use crate::ddl::cursor::Cursor;
use crate::ddl::options::{OptionChange, Value, change, options, unknown};
use datafusion::sql::sqlparser::tokenizer::Location;

const NAMES: &[&str] = &["durability"];

/// Options of streams that make no sense for a table, and why.
const OF_STREAMS: &[(&str, &str)] = &[
    ("partitions", "a table has one log: PARTITIONED BY lays out its files"),
    ("retention", "a table keeps its rows until they are deleted"),
    ("retention_size", "a table keeps its rows until they are deleted"),
    ("lake_retention", "a table keeps its rows until they are deleted"),
    ("rest", "a table takes rows by INSERT, whose columns are known"),
];

/// `(option = value, …)`. What is no option of a table is handed to `other`, which says whether it took it.
pub(super) fn with_clause(
    cursor: &mut Cursor<'_>,
    mut other: impl FnMut(&Cursor<'_>, &str, &Value) -> Option<Result<()>>,
) -> Result<Vec<OptionChange>> {
    let changes = options(cursor, |c, name, value, at| match other(c, name, value) {
        Some(taken) => taken.map(|()| None),
        None => {
            check_name(c, name, at)?;
            change(c, name, value, NAMES, at).map(Some)
        }
    })?;
    Ok(changes.into_iter().flatten().collect())
}

/// `RESET (option, …)`: each gets its default.
pub(super) fn reset_clause(cursor: &mut Cursor<'_>) -> Result<Vec<OptionChange>> {
    cursor.list("the options", |c| {
        let at = c.location();
        let name = c.identifier("an option name")?;
        check_name(c, &name, at)?;
        Ok(OptionChange::Durability(StreamOptions::default().durability))
    })
}

fn check_name(cursor: &Cursor<'_>, name: &str, at: Location) -> Result<()> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    match OF_STREAMS.iter().find(|(option, _)| *option == name) {
        Some((_, why)) => {
            let message = format!("{name} is an option of streams: {why}");
            Err(cursor.error_at(Code::InvalidRequest, message, at))
        }
        None => Err(unknown(cursor, name, NAMES, at)),
    }
}
