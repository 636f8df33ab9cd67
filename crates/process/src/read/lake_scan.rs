//! Owns the scan of a lake table in the reader's form: columns it lacks are NULL, others have today's type.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::{cast, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

/// A scan of `lake` that gives `output`.
pub(crate) async fn scan_lake(
    lake: &dyn TableProvider,
    state: &dyn Session,
    output: &SchemaRef,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let lake_schema = lake.schema();
    // A column that was added after the last commit is not in the table yet.
    let known = |name: &str| lake_schema.index_of(name).is_ok();
    let projection: Vec<usize> = output.fields().iter().filter_map(|f| lake_schema.index_of(f.name()).ok()).collect();
    let filters: Vec<Expr> =
        filters.iter().filter(|f| f.column_refs().iter().all(|c| known(&c.name))).cloned().collect();
    let plan = lake.scan(state, Some(&projection), &filters, limit).await?;
    conform(plan, output)
}

/// Casts the columns whose type in the lake differs from the reader's, and adds those it lacks as NULL.
fn conform(plan: Arc<dyn ExecutionPlan>, output: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let same = schema.fields().len() == output.fields().len()
        && schema.fields().iter().zip(output.fields()).all(|(a, b)| a.data_type() == b.data_type());
    if same {
        return Ok(plan);
    }
    let exprs = output.fields().iter().map(|field| {
        let expr = if schema.index_of(field.name()).is_ok() {
            cast(col(field.name(), &schema)?, &schema, field.data_type().clone())?
        } else {
            lit(ScalarValue::try_new_null(field.data_type())?)
        };
        Ok(ProjectionExpr { expr, alias: field.name().clone() })
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(exprs, plan)?))
}
