//! Owns the types of a query's columns where they follow from how it runs.
//!
//! A plan says that a CASE is of its first branch's type. Before it runs, all branches become of a type that holds
//! each of them: `CASE WHEN a THEN small ELSE 100000 END` gives a `bigint` then. What reads the rows goes by the plan's
//! word, and would make values fit that do not.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// The plan with columns of the types that its rows have.
pub(super) fn with_types_of_rows(state: &SessionState, plan: LogicalPlan) -> LogicalPlan {
    if !has_case(&plan) {
        return plan;
    }
    // What cannot be coerced yet says so when it runs.
    let coerced = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {});
    let differs = |coerced: &LogicalPlan| {
        let (before, after) = (plan.schema().fields(), coerced.schema().fields());
        before.iter().zip(after).any(|(before, after)| before.data_type() != after.data_type())
    };
    match coerced {
        Ok(coerced) if differs(&coerced) => coerced,
        _ => plan,
    }
}

fn has_case(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // What cannot be visited has none that matters: it does not run.
    let _ = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found = found || expr.exists(|expr| Ok(matches!(expr, Expr::Case(_))))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    found
}
