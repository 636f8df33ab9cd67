//! Owns the options of tables.

use millstream_catalog::fault::Code;

use crate::Result;
use crate::ddl::cursor::Cursor;
use crate::ddl::options::{OptionChange, Value, called, change, default_of, options, unknown};
use crate::ddl::policy;
use datafusion::sql::sqlparser::tokenizer::Location;

/// The options of tables, beside those of their files in the lake.
const NAMES: &[&str] = &["hot", "expire", "durability"];

/// Options of streams that make no sense for a table, and why.
const OF_STREAMS: &[(&str, &str)] = &[
    ("partitions", "a table has one log: PARTITIONED BY lays out its files"),
    ("retention_size", "the log of a table's changes is kept by time, with hot"),
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
            change(c, name, value)
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
        default_of(&name).ok_or_else(|| unknown(c, &name, &names(), at))
    })
}

fn check_name(cursor: &Cursor<'_>, name: &str, at: Location) -> Result<()> {
    if names().contains(&called(name)) {
        return Ok(());
    }
    match OF_STREAMS.iter().find(|(option, _)| *option == name) {
        Some((_, why)) => {
            let message = format!("{name} is an option of streams: {why}");
            Err(cursor.error_at(Code::InvalidRequest, message, at))
        }
        None => Err(unknown(cursor, name, &names(), at)),
    }
}

fn names() -> Vec<&'static str> {
    [NAMES, policy::NAMES].concat()
}
