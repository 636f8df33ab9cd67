//! Owns a materialized view as the engine's table: its answer at one instant.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::ReadPoint;
use super::key_filter::{KeyFilter, Keys};
use super::view_scan::ViewScanExec;
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

    /// The rows under the keys which the filters fix, if they fix all columns of the key, and how many keys these are.
    fn point(&self, filters: &[Expr]) -> Result<Option<(RecordBatch, usize)>> {
        let Some(key) = self.view.key() else { return Ok(None) };
        let parts: Vec<&Expr> = filters.iter().flat_map(split_conjunction).collect();
        let Some((filter, _)) = KeyFilter::of(&parts, &key, self.view.schema()) else { return Ok(None) };
        match filter.keys(&[])? {
            Keys::Some(keys) => {
                let rows = self.view.lookup(&key, &keys)?;
                Ok(rows.map(|rows| (rows, keys.first().map_or(0, |values| values.len()))))
            }
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
        let (name, schema) = (self.view.name().name().to_owned(), self.schema());
        Ok(Arc::new(match found {
            Some((rows, keys)) => ViewScanExec::found(name, rows, keys, &schema, projection)?,
            None => {
                let (answer, rows) = point.answer(&self.view)?;
                let partitions = state.config().target_partitions();
                ViewScanExec::whole(name, answer, rows, &schema, projection, partitions)?
            }
        }))
    }
}
