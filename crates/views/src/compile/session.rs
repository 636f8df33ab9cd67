//! Owns SESSION under EMIT ON WINDOW CLOSE: a node that holds rows until their session closes takes the place of the
//! window functions by which sessions are found.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::WindowFunctionParams;
use datafusion::logical_expr::{Expr, LogicalPlan, Window};
use datafusion::scalar::ScalarValue;

use super::window::{over, unaliased};
use super::{Compiler, Part, Sealed, Times, linear};
use crate::Result;
use crate::fragment::Fragment;
use crate::node::{Frontier, KeyedInput, Session, Span};

/// The columns by which crates/windows finds where sessions begin and end.
const FIRST: &str = "__session_first";
const LAST: &str = "__session_last";

/// The plan of SESSION, taken apart.
pub(super) struct Sessions<'p> {
    pub(super) input: &'p Arc<LogicalPlan>,
    pub(super) params: &'p WindowFunctionParams,
    pub(super) gap: i64,
}

impl<'p> Sessions<'p> {
    /// `window` is the upper one of the two that SESSION is made of.
    pub(super) fn of(window: &'p Window) -> Option<Self> {
        let LogicalPlan::Projection(projection) = window.input.as_ref() else { return None };
        let LogicalPlan::Window(lower) = projection.input.as_ref() else { return None };
        let names = |expr: &&Expr| matches!(expr, Expr::Alias(alias) if alias.name == FIRST || alias.name == LAST);
        let gap = projection.expr.iter().filter(names).find_map(gap_of)?;
        let Expr::WindowFunction(function) = unaliased(lower.window_expr.first()?) else { return None };
        Some(Self { input: &lower.input, params: &function.params, gap })
    }
}

/// The length in the call that adds the gap to a time.
fn gap_of(expr: &Expr) -> Option<i64> {
    let mut gap = None;
    let visited = expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr
            && call.func.name() == "window_end"
            && let Some(Expr::Literal(ScalarValue::Int64(ticks), _)) = call.args.get(1)
        {
            gap = *ticks;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.ok().and(gap)
}

impl Compiler<'_> {
    /// The rows of a SESSION as its sessions close; `None` when the window is none, or has no watermark.
    pub(super) async fn session(&mut self, window: &Window) -> Result<Option<Part>> {
        let Some(sessions) = Sessions::of(window).filter(|_| self.options.emit_on_window_close) else {
            return Ok(None);
        };
        let Some(Expr::Column(time)) = sessions.params.order_by.first().map(|sort| &sort.expr) else {
            return Ok(None);
        };
        let part = self.compile(sessions.input).await?;
        let column = linear::unweighted(part.plan.schema())?.index_of_column(time)?;
        let (part, keys) = self.with_columns(part, &sessions.params.partition_by)?;
        let input = self.seal(part).await?;
        let Some(bounds) = input.times.get(&column).cloned() else { return Err(self.never_closes()) };
        let slot = self.slot(Arc::clone(&input.schema));
        let plan = over(&LogicalPlan::Window(window.clone()), sessions.input, &slot.plan())?;
        let fragment = Fragment::plan(&plan, vec![slot.cell], self.state).await?;
        let schema = Arc::clone(plan.schema());
        let output = Arc::new(linear::weighted(&schema)?.as_arrow().clone());
        // The last row of a session that is open lies less than the gap before the frontier, or behind it.
        let data_type = input.schema.field(column).data_type();
        let lasts: Option<Vec<_>> = bounds.iter().map(|b| b.moved(1 - sessions.gap, data_type)).collect();
        let last = schema.fields().iter().position(|field| field.name().starts_with(&format!("min({LAST})")));
        let times: Times = last.zip(lasts).into_iter().collect();
        let span = Span { column, gap: sessions.gap, frontier: Frontier::new(&bounds, self.state)? };
        let node = Session::new(KeyedInput::new(input, keys)?, fragment, output, span);
        self.part_of(Sealed { node: Box::new(node), schema, grows: true, key: None, times }).map(Some)
    }
}
