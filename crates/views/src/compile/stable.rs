//! Owns what makes the plan of a query the same each time, so that a dataflow finds its checkpoint again.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::Transformed;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::{LogicalPlan, Projection, Sort};

use crate::Result;

/// The properties with generated names that are counted from the beginning.
pub(crate) fn named_anew(props: &ExecutionProps) -> ExecutionProps {
    ExecutionProps { alias_generator: Arc::new(AliasGenerator::new()), ..props.clone() }
}

/// The plan with the columns that only ORDER BY needs in the order of their names; the engine's is chance.
pub(crate) fn ordered(plan: LogicalPlan) -> Result<LogicalPlan> {
    let ordered = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Projection(shown) = &node else { return Ok(Transformed::no(node)) };
        let LogicalPlan::Sort(sort) = shown.input.as_ref() else { return Ok(Transformed::no(node)) };
        let LogicalPlan::Projection(all) = sort.input.as_ref() else { return Ok(Transformed::no(node)) };
        if all.expr.len() < shown.expr.len() + 2 {
            return Ok(Transformed::no(node));
        }
        let mut exprs = all.expr.clone();
        exprs[shown.expr.len()..].sort_by_cached_key(|expr| expr.to_string());
        let all = Projection::try_new(exprs, Arc::clone(&all.input))?;
        let sort = Sort { input: Arc::new(LogicalPlan::Projection(all)), ..sort.clone() };
        let shown = Projection::try_new(shown.expr.clone(), Arc::new(LogicalPlan::Sort(sort)))?;
        Ok(Transformed::yes(LogicalPlan::Projection(shown)))
    })?;
    Ok(ordered.data)
}
