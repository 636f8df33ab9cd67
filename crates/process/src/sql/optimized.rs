//! Owns optimized plans that are kept beside the plans of prepared statements: what a query is simplified to is the same
//! each time, unless it depends on when or by whom it is run.

use std::sync::OnceLock;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

/// The optimized form of one plan, once it was needed; `None` where each run needs its own.
#[derive(Debug, Default)]
pub(crate) struct OptimizedCell(OnceLock<Option<LogicalPlan>>);

impl OptimizedCell {
    /// `plan`, which is always the same, optimized.
    pub(crate) fn get(&self, plan: &LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
        match self.0.get() {
            Some(Some(optimized)) => Ok(optimized.clone()),
            Some(None) => state.optimize(plan),
            None => {
                let optimized = state.optimize(plan)?;
                self.0.get_or_init(|| is_timeless(plan).then(|| optimized.clone()));
                Ok(optimized)
            }
        }
    }
}

/// Whether a plan means the same whenever it is run. Functions without arguments tell of the time, the session or
/// chance, whatever they say of themselves.
fn is_timeless(plan: &LogicalPlan) -> bool {
    if matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) {
        return false;
    }
    let mut timeless = true;
    let look = |expr: &Expr| {
        if let Expr::ScalarFunction(call) = expr {
            timeless &= call.func.signature().volatility == Volatility::Immutable && !call.args.is_empty();
        }
        Ok(if timeless { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    };
    let mut look = look;
    let looked = plan.apply_with_subqueries(|node| node.apply_expressions(|expr| expr.apply(&mut look)));
    looked.is_ok() && timeless
}
