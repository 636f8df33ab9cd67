//! Owns how the index of a table's primary key is made, from one read of the key's columns, and how it is asked.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::keys::{KeyIndex, KeyPrints, index_columns};
use super::source::TableSource;
use crate::engine::Shared;
use crate::stream::OpenStream;
use crate::{Error, Result};

/// Tells which rows of a table have which keys, while nobody changes it.
#[derive(Debug)]
pub(crate) struct RowsByKey(Arc<OpenStream>);

impl RowsByKey {
    pub(super) async fn of(shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<Self> {
        build_index(shared, table).await?;
        Ok(Self(Arc::clone(table)))
    }

    /// Per row of `rows` (with the key's columns), the number of the table's row that has its primary key.
    pub(crate) fn find(&self, rows: &RecordBatch) -> Result<Vec<Option<i64>>> {
        let keys = self.0.table().map(|state| state.keys.lock());
        match keys.as_deref() {
            Some(Some(keys)) => Ok(keys.prints.prints(rows)?.into_iter().map(|print| keys.row(print)).collect()),
            _ => Ok(vec![None; rows.num_rows()]),
        }
    }
}

/// Makes the index if the table needs one and it is not there. The caller holds the table's gate alone.
pub(super) async fn build_index(shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<()> {
    let Some(state) = table.table() else { return Ok(()) };
    if state.keys.lock().is_some() {
        return Ok(());
    }
    let definition = table.definition();
    let Some(prints) = KeyPrints::of(&definition.stream)? else { return Ok(()) };
    let mut index = KeyIndex::new(prints);
    let wrap = |e| Error::from_datafusion(e, "");
    let snapshot = state.snapshot(shared, table).await?;
    let source = TableSource::new(Arc::clone(shared), Arc::clone(table), true).at(snapshot);
    let schema = source.schema();
    let columns = index_columns(&definition.stream);
    let columns: Vec<usize> = columns.iter().filter_map(|c| schema.index_of(c).ok()).collect();
    let session = shared.context()?.state();
    let plan = source.scan(&session, Some(&columns), &[], None).await.map_err(wrap)?;
    let mut rows = execute_stream(plan, session.task_ctx()).map_err(wrap)?;
    while let Some(batch) = rows.next().await {
        index.load(&batch.map_err(wrap)?)?;
    }
    *state.keys.lock() = Some(index);
    Ok(())
}
