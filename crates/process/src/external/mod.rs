//! Owns tables that others made and write to: Delta tables at places of their own, which a name is given here.
//!
//! Such a table is a definition in the catalog with a `location`. It has no log: a statement reads the newest version
//! of the Delta table, and what it changes is one Delta commit (`tables/others.rs`). Whoever else writes to the table
//! goes on; what both changed at once fails with `serialization_failure`.

mod columns;
mod create;
mod place;

use std::sync::Arc;

use millstream_catalog::fault::Code;
use millstream_store::{LakeSnapshot, LakeTable};

use self::columns::{columns_of, kept};
use self::place::{Place, place_of};
use crate::engine::Shared;
use crate::stream::OpenStream;
use crate::{Error, Result};

/// Opens the Delta table of a table that others write to.
pub(crate) async fn open(shared: &Shared, table: &OpenStream) -> Result<LakeTable> {
    let definition = table.definition();
    let spec = definition.stream.table.clone().unwrap_or_default();
    let location = spec.location.unwrap_or_default();
    let Place { url, store } = place_of(shared, &location)?;
    LakeTable::open_at(&url, &store, table.id(), &spec.sorted_by).await?.ok_or_else(|| Error::Rejected {
        code: Code::UndefinedFile,
        message: format!("there is no Delta table at {location} any more, where table {} lies", table.name()),
        hint: Some(format!("put it back, or DROP TABLE {}", table.name())),
        position: None,
    })
}

/// Gives the definition the columns that others gave the table since. Where the catalog is busy, the next look does.
pub(crate) async fn follow_columns(shared: &Shared, table: &OpenStream, now: &LakeSnapshot) {
    let before = Arc::clone(&table.definition().stream);
    let columns = match columns_of(&now.columns()) {
        Ok(columns) => kept(columns, &before.columns),
        Err(error) => {
            tracing::warn!(table = %table.name(), %error, "others gave the table columns that cannot be read");
            return;
        }
    };
    if columns == before.columns {
        return;
    }
    let Ok(_ddl) = shared.ddl.try_lock() else { return };
    if table.closing.is_cancelled() || table.definition().stream.version != before.version {
        return;
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
