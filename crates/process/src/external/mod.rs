//! Owns tables that others made and write to: Delta tables at places of their own, which a name is given here.
//!
//! Such a table is a definition in the catalog with a `location`. It has no log: a statement reads the newest version
//! of the Delta table, and what it changes is one Delta commit (`tables/others.rs`). Whoever else writes to the table
//! goes on; what both changed at once fails with `serialization_failure`.

mod columns;
mod create;
mod place;

use std::sync::Arc;

use millstream_catalog::Column;
use millstream_catalog::fault::{Code, Fault};
use millstream_store::{LakeSnapshot, LakeTable};

use self::columns::{columns_of, kept};
use self::place::{Place, place_of};
use crate::engine::Shared;
use crate::stream::{Definition, OpenStream};
use crate::{Error, Result};

/// Opens the Delta table of a table that others write to.
pub(crate) async fn open(shared: &Shared, table: &OpenStream) -> Result<LakeTable> {
    let definition = table.definition();
    let spec = definition.stream.table.clone().unwrap_or_default();
    let location = spec.location.unwrap_or_default();
    let Place { url, store } = place_of(shared, &location)?;
    LakeTable::open_at(&url, &store, table.id(), &spec.sorted_by, shared.lake.options()).await?.ok_or_else(|| {
        Error::Rejected {
            code: Code::UndefinedFile,
            message: format!("there is no Delta table at {location} any more, where table {} lies", table.name()),
            hint: Some(format!("put it back, or DROP TABLE {}", table.name())),
            position: None,
        }
    })
}

/// Whether the definition has the columns of the table's files.
pub(crate) fn has_columns_of(definition: &Definition, now: &LakeSnapshot) -> bool {
    let same = |(known, there): (&Column, &Column)| known.name == there.name && known.data_type == there.data_type;
    let known = &definition.stream.columns;
    columns_of(&now.columns()).is_ok_and(|there| there.len() == known.len() && known.iter().zip(&there).all(same))
}

/// Gives the definition the columns that others gave the table since; fails when no table can have them. Where the
/// catalog is busy, the next look does.
pub(crate) async fn follow_columns(shared: &Shared, table: &OpenStream, now: &LakeSnapshot) -> Result<()> {
    let before = Arc::clone(&table.definition().stream);
    let columns = columns_of(&now.columns()).map_err(|error| Error::Rejected {
        code: error.code(),
        message: format!("others gave table {} columns that cannot be read: {error}", table.name()),
        hint: Some("drop or change the column with the engine that made it".to_owned()),
        position: None,
    })?;
    let columns = kept(columns, &before.columns);
    if columns == before.columns {
        return Ok(());
    }
    let Ok(_ddl) = shared.ddl.try_lock() else { return Ok(()) };
    if table.closing.is_cancelled() || table.definition().stream.version != before.version {
        return Ok(());
    }
    let mut stream = before.as_ref().clone();
    stream.columns = columns;
    stream.version += 1;
    let changed = async {
        stream.validate()?;
        let definition = shared.define(stream.clone())?;
        shared.options.catalog.alter_stream(&stream).await?;
        table.redefine(definition);
        shared.plans.outdate();
        Ok::<_, Error>(())
    };
    if let Err(error) = changed.await {
        tracing::warn!(table = %table.name(), %error, "the columns that others gave the table are not taken over");
    }
    Ok(())
}

/// Refuses what only a table in the lake has; `what` begins the message.
pub(crate) fn refuse_others(table: &OpenStream, what: &str, instead: impl Into<String>) -> Result<()> {
    match table.is_others() {
        false => Ok(()),
        true => Err(Error::Rejected {
            code: Code::Unsupported,
            message: format!("{what}: {} lies at a LOCATION, where others write to it too", table.name()),
            hint: Some(instead.into()),
            position: None,
        }),
    }
}
