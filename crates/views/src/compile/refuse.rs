//! Owns what is refused, and what to write instead.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use crate::{Error, Result};

/// Refuses functions whose value depends on when they are called.
pub(crate) fn volatile(plan: &LogicalPlan) -> Result<()> {
    let mut found: Option<(String, Volatility)> = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr {
                    let volatility = call.func.signature().volatility;
                    let clock = ["now", "current_date", "current_time"].contains(&call.func.name());
                    if volatility == Volatility::Volatile || clock {
                        found = Some((call.func.name().to_owned(), volatility));
                        return Ok(TreeNodeRecursion::Stop);
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    match found {
        None => Ok(()),
        Some((name, Volatility::Volatile)) => Err(Error::not_incremental(
            format!("{name}()"),
            "it gives another value at each call; compute it in the query that reads the view",
        )),
        Some((name, _)) => Err(Error::not_incremental(
            format!("{name}()"),
            "a view changes with its rows, not with the clock; filter by time in the query that reads the view",
        )),
    }
}

/// Refuses subqueries in the place of a value that could give more than one row: a batch would fail, while a view has
/// to go on.
pub(crate) fn several_rows(plan: &LogicalPlan) -> Result<()> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarSubquery(subquery) = expr {
                    found |= subquery.subquery.max_rows().is_none_or(|rows| rows > 1);
                }
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    if found {
        return Err(Error::not_incremental(
            "a subquery that may give several rows for one value",
            "use an aggregate such as max(…), or ORDER BY … LIMIT 1",
        ));
    }
    Ok(())
}

/// Refuses subqueries that the optimizer could not turn into joins.
pub(super) fn subqueries(plan: &LogicalPlan) -> Result<()> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            let subquery = matches!(
                expr,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
            );
            found |= subquery;
            Ok(if subquery { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    if found {
        return Err(Error::not_incremental("this correlated subquery", "write it as a JOIN with GROUP BY"));
    }
    Ok(())
}

/// The error for an operator that has no incremental form.
pub(super) fn operator(plan: &LogicalPlan) -> Error {
    match plan {
        LogicalPlan::RecursiveQuery(_) => {
            Error::not_incremental("WITH RECURSIVE", "write out the steps you need as joins")
        }
        LogicalPlan::Subquery(_) => Error::not_incremental("a lateral subquery", "write it as a JOIN"),
        LogicalPlan::Extension(extension) => {
            Error::not_incremental(extension.node.name(), "it is a plan node of an extension")
        }
        other => Error::not_incremental(
            other.display().to_string().split([':', ' ']).next().unwrap_or("this operator").to_owned(),
            "a view is a query: SELECT … FROM …",
        ),
    }
}
