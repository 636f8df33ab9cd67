//! Owns a materialized view as the engine's table: its answer at one instant.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::ReadPoint;
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

    /// The row that has the key which the filters fix, if they fix all of it.
    fn point(&self, filters: &[Expr]) -> Result<Option<RecordBatch>> {
        let Some(key) = self.view.key().filter(|key| !key.is_empty()) else { return Ok(None) };
        let schema = self.view.schema();
        let mut columns: Vec<ArrayRef> = schema.fields().iter().map(|f| new_null_array(f.data_type(), 1)).collect();
        for i in key {
            let Some(value) = filters.iter().find_map(|f| fixed(f, schema.field(i).name())) else { return Ok(None) };
            if value.is_null() || value.data_type() != *schema.field(i).data_type() {
                return Ok(None);
            }
            columns[i] = value.to_array()?;
        }
        let probe = RecordBatch::try_new(nullable(schema), columns)?;
        Ok(Some(self.view.lookup(&probe)?))
    }
}

/// The literal that a filter says a column equals.
fn fixed(filter: &Expr, column: &str) -> Option<ScalarValue> {
    split_conjunction(filter).into_iter().find_map(|expr| match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(c), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(c))
                if c.name == column =>
            {
                Some(value.clone())
            }
            _ => None,
        },
        _ => None,
    })
}

fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
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
