//! Owns a materialized view as the engine's table: its answer at one instant.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::ReadPoint;
use super::key_filter::{KeyFilter, Keys};
use crate::views::OpenView;

/// A view as a table.
#[derive(Debug)]
pub(crate) struct ViewTable {
    view: Arc<OpenView>,
}

impl ViewTable {
    pub(crate) fn new(view: Arc<OpenView>) -> Self {
        Self { view }
    }

    pub(crate) fn view(&self) -> &Arc<OpenView> {
        &self.view
    }

    /// The rows under the keys which the filters fix, if they fix all columns of the key.
    fn point(&self, filters: &[Expr]) -> Result<Option<RecordBatch>> {
        let Some(key) = self.view.key() else { return Ok(None) };
        let parts: Vec<&Expr> = filters.iter().flat_map(split_conjunction).collect();
        let Some((filter, _)) = KeyFilter::of(&parts, &key, self.view.schema()) else { return Ok(None) };
        match filter.keys(&[])? {
            Keys::Some(keys) => Ok(self.view.lookup(&key, &keys)?),
            Keys::None | Keys::Unfit => Ok(None),
        }
    }
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.view.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let point = state.config().get_extension::<ReadPoint>().unwrap_or_default();
        // A view that the statement also reads as a whole is read at that instant here too.
        let found = if point.has_answer(&self.view) { None } else { self.point(filters)? };
        let batches = match found {
            Some(rows) => vec![rows],
            None => point.answer(&self.view)?.batches().map_err(crate::Error::from)?,
        };
        let parts = spread(batches, state.config().target_partitions());
        Ok(MemorySourceConfig::try_new_exec(&parts, self.schema(), projection.cloned())?)
    }
}

/// The batches in up to `parts` lists of about the same length, each of a size worth a thread.
fn spread(batches: Vec<RecordBatch>, parts: usize) -> Vec<Vec<RecordBatch>> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if rows < 64 * 1024 || parts < 2 {
        return vec![batches];
    }
    let mut lists = vec![Vec::new(); parts];
    for (i, batch) in batches.into_iter().enumerate() {
        lists[i % parts].push(batch);
    }
    lists
}
