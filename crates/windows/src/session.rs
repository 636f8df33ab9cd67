//! Owns the plan of SESSION: window functions that find where sessions begin and end.
//!
//! A session of a key begins at a row whose predecessor lies a gap or more before it, and ends a gap behind its last row.
//! All of the functions are over one partitioning and one order, the keys' and the timestamp's:
//!
//! ```text
//! ts        1    2    4         20   21           gap 5
//! previous  -    1    2         4    20           lag(ts)
//! next      2    4    20        21   -            lead(ts)
//! first     1    -    -         20   -            ts where previous is NULL or previous + gap <= ts
//! last      -    -    4         -    21           ts where next is NULL or ts + gap <= next
//! start     1    1    1         20   20           max(first) over the rows up to this one
//! end       9    9    9         26   26           min(last) over the rows from this one on, + gap
//! ```
//!
//! Rows of one time are peers: whichever of them is first or last, the frames, which are ranges, hold it.

use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_window::lead_lag::{lag_udwf, lead_udwf};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, when,
};

use crate::lower::Windowed;
use crate::window_end;

const FIRST: &str = "__session_first";
const LAST: &str = "__session_last";

pub(crate) fn session(input: Windowed, keys: &[Expr], gap: i64) -> Result<LogicalPlan> {
    let over = |function: WindowFunctionDefinition, value: Expr, from: WindowFrameBound, to: WindowFrameBound| {
        let frame = WindowFrame::new_bounds(WindowFrameUnits::Range, from, to);
        Expr::from(WindowFunction::new(function, vec![value]))
            .partition_by(keys.to_vec())
            .order_by(vec![input.ts().sort(true, false)])
            .window_frame(frame)
            .build()
    };
    let none = || ScalarValue::Null;
    let up_to_here = || (WindowFrameBound::Preceding(none()), WindowFrameBound::CurrentRow);
    let column = |expr: &Expr| Expr::Column(Column::new_unqualified(expr.schema_name().to_string()));

    let (from, to) = up_to_here();
    let previous = over(WindowFunctionDefinition::WindowUDF(lag_udwf()), input.ts(), from.clone(), to.clone())?;
    let next = over(WindowFunctionDefinition::WindowUDF(lead_udwf()), input.ts(), from, to)?;
    let plan = LogicalPlanBuilder::window_plan(input.plan.clone(), [previous.clone(), next.clone()])?;

    let (previous, next) = (column(&previous), column(&next));
    let begins = previous.clone().is_null().or(window_end(previous, gap).lt_eq(input.ts()));
    let ends = next.clone().is_null().or(window_end(input.ts(), gap).lt_eq(next));
    let first = when(begins, input.ts()).end()?.alias(FIRST);
    let last = when(ends, input.ts()).end()?.alias(LAST);
    let plan = LogicalPlanBuilder::from(plan).project(input.columns_and([first, last]))?.build()?;

    let (from, to) = up_to_here();
    let first = Expr::Column(Column::new_unqualified(FIRST));
    let last = Expr::Column(Column::new_unqualified(LAST));
    let start = over(WindowFunctionDefinition::AggregateUDF(max_udaf()), first, from, to)?;
    let (from, to) = (WindowFrameBound::CurrentRow, WindowFrameBound::Following(none()));
    let end = over(WindowFunctionDefinition::AggregateUDF(min_udaf()), last, from, to)?;
    let plan = LogicalPlanBuilder::window_plan(plan, [start.clone(), end.clone()])?;
    input.finish(plan, column(&start), window_end(column(&end), gap))
}
