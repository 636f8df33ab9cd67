//! Owns the stopping of joins that compute for long and give no rows: their conditions fail once the query has ended.
//!
//! A query is ended where its operators pause, and they pause where they give a batch. A join whose condition holds for
//! nothing goes on without a pause until it has tried every pair; but it evaluates the condition batch by batch.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use tokio_util::sync::CancellationToken;

/// The plan, its joins' conditions watching for the end.
pub(crate) fn stopping_with(plan: Arc<dyn ExecutionPlan>, end: &CancellationToken) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let any: &dyn Any = node.as_ref();
        let watched = |filter: &JoinFilter| Some(watched(filter, end));
        let join: Arc<dyn ExecutionPlan> = if let Some(join) = any.downcast_ref::<HashJoinExec>()
            && let Some(filter) = join.filter()
        {
            HashJoinExecBuilder::from(join).with_filter(watched(filter)).build_exec()?
        } else if let Some(join) = any.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(watched(filter)).build()?)
        } else if let Some(join) = any.downcast_ref::<SortMergeJoinExec>()
            && let Some(filter) = join.filter()
        {
            Arc::new(SortMergeJoinExec::try_new(
                Arc::clone(join.left()),
                Arc::clone(join.right()),
                join.on().to_vec(),
                watched(filter),
                join.join_type(),
                join.sort_options().to_vec(),
                join.null_equality(),
            )?)
        } else {
            return Ok(Transformed::no(node));
        };
        Ok(Transformed::yes(join))
    })
    .data()
}

fn watched(filter: &JoinFilter, end: &CancellationToken) -> JoinFilter {
    let condition = Watched { condition: Arc::clone(filter.expression()), end: end.clone() };
    JoinFilter::new(Arc::new(condition), filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

/// A condition that fails once the query has ended.
#[derive(Debug)]
struct Watched {
    condition: Arc<dyn PhysicalExpr>,
    end: CancellationToken,
}

impl PhysicalExpr for Watched {
    fn data_type(&self, input_schema: &Schema) -> Result<DataType> {
        self.condition.data_type(input_schema)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        self.condition.nullable(input_schema)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.condition.return_field(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.end.is_cancelled() {
            return Err(DataFusionError::Execution("the statement has ended".to_owned()));
        }
        self.condition.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let condition = children.pop().unwrap_or_else(|| Arc::clone(&self.condition));
        Ok(Arc::new(Self { condition, end: self.end.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}
