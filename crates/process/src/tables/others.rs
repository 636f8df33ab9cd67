//! Owns changes of tables that others write to: the rows that come lie in files first, then one Delta commit makes
//! them part of the table and takes out those that go.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use millstream_store::{LakeSnapshot, RowEdit, StagedFile};
use roaring::RoaringTreemap;

use millstream_catalog::fault::Code;

use super::gather::{Stager, fits, refused_row};
use super::source::altered_meanwhile;
use super::state::TableSnapshot;
use super::write::{Applied, Change, Gate, Kept, add_numbers};
use crate::engine::Shared;
use crate::external::has_columns_of;
use crate::stream::{Counters, Definition, OpenStream};
use crate::{Error, Result};

/// A statement's changes of a table of others.
struct Edit<'a> {
    shared: &'a Arc<Shared>,
    table: &'a Arc<OpenStream>,
    definition: Arc<Definition>,
    keep: Option<&'a Kept>,
    applied: Applied,
    gone: RoaringTreemap,
    come: Option<Stager>,
    missed_rows: bool,
    rows_seen: u64,
}

/// Makes all changes of what `base` shows, or none.
pub(super) async fn apply(
    shared: &Arc<Shared>,
    table: &Arc<OpenStream>,
    base: &TableSnapshot,
    mut changes: BoxStream<'_, Result<Change>>,
    keep: Option<&Kept>,
    gate: Gate,
) -> Result<Applied> {
    let mut edit = Edit {
        shared,
        table,
        definition: table.definition(),
        keep,
        applied: Applied::default(),
        gone: RoaringTreemap::new(),
        come: None,
        missed_rows: false,
        rows_seen: 0,
    };
    // What may not be written to is refused before its files are.
    base.table.check_writable(&base.lake, false)?;
    if !has_columns_of(&edit.definition, &base.lake) {
        return Err(altered_meanwhile(table.name()));
    }
    let read_first = gate.is_alone();
    while let Some(change) = changes.next().await {
        let change = change?;
        edit.missed_rows |= read_first && change.gone.is_none();
        edit.take(change).await?;
    }
    let Edit { applied, gone, come, missed_rows, .. } = edit;
    let come = match come {
        Some(come) => come.end().await?,
        None => vec![],
    };
    if applied.gone == 0 && applied.come == 0 {
        return Ok(applied);
    }
    let edit = row_edit(Arc::clone(&base.lake), come, gone, missed_rows);
    let (table, lake) = (Arc::clone(table), base.table.clone());
    // It goes on when its caller is gone, so that who comes next does not meet it half done.
    let committed = tokio::spawn(async move {
        let _gate = gate;
        lake.edit(edit).await?;
        Counters::add(&table.counters.accepted_rows, applied.come);
        Ok(applied)
    });
    committed.await.map_err(|e| Error::rejected(Code::Internal, format!("a change of a table ended early: {e}")))?
}

fn row_edit(base: Arc<LakeSnapshot>, come: Vec<StagedFile>, gone: RoaringTreemap, missed_rows: bool) -> RowEdit {
    let operation = match (gone.is_empty(), come.is_empty()) {
        (true, _) => "WRITE",
        (false, true) => "DELETE",
        (false, false) => "MERGE",
    };
    RowEdit { operation: operation.to_owned(), base, come, gone, missed_rows }
}

impl Edit<'_> {
    async fn take(&mut self, change: Change) -> Result<()> {
        if let Some(gone) = change.gone {
            self.applied.gone += add_numbers(&gone, &mut self.gone)?;
        }
        let Some(rows) = change.come else { return Ok(()) };
        let given = rows.batch.clone();
        if !fits(&given, &self.definition.schema) {
            return Err(altered_meanwhile(self.table.name()));
        }
        let admitted = self.definition.admission.admit(rows, self.shared.options.clock.now_us())?;
        if let Some(rejected) = admitted.rejected.first() {
            return Err(refused_row(&self.definition.stream, &given, rejected, self.rows_seen));
        }
        self.rows_seen += given.num_rows() as u64;
        if admitted.batch.num_rows() == 0 {
            return Ok(());
        }
        self.applied.come += admitted.batch.num_rows() as u64;
        let come = match &mut self.come {
            Some(come) => come,
            None => self.come.insert(Stager::start(self.shared, self.table).await?),
        };
        come.add(&admitted.batch).await?;
        if let Some(kept) = self.keep {
            kept.lock().push(admitted.batch);
        }
        Ok(())
    }
}
