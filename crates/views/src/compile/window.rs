//! Owns window functions and ORDER BY … LIMIT: the rows of a partition go through the engine's operator again.

use std::sync::Arc;

use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, Limit, LogicalPlan, Operator, Sort, Window};

use super::linear::listed;
use super::{Compiler, Part, Sealed, Times, event_time, linear};
use crate::fragment::Fragment;
use crate::key::Key;
use crate::node::{Keyed, KeyedInput};
use crate::{Error, Result};

impl Compiler<'_> {
    /// A filter over window functions: rows beyond the first places of their partition are not kept where that is all
    /// that is asked for.
    pub(super) async fn window_filtered(&mut self, filter: &Filter, window: &Window) -> Result<Part> {
        let part = self.window(window, first_places(&filter.predicate, window)).await?;
        linear::filter(part, filter.predicate.clone())
    }

    /// Window functions. `first`: a bound on places that rows above are filtered by; where rows only come, one that
    /// falls behind it never comes back.
    pub(super) async fn window(&mut self, window: &Window, first: Option<Expr>) -> Result<Part> {
        if let Some(sessions) = self.session(window).await? {
            return Ok(sessions);
        }
        let partition = common_partition(window)?;
        let part = self.compile(&window.input).await?;
        let (part, keys) = self.with_columns(part, &partition)?;
        let part_key = part.key.clone();
        let input = self.seal(part).await?;
        let slot = self.slot(Arc::clone(&input.schema));
        let over_slot = Window::try_new(window.window_expr.clone(), Arc::new(slot.plan()))?;
        let schema = Arc::clone(&over_slot.schema);
        let mut plan = LogicalPlan::Window(over_slot);
        let first = first.filter(|_| input.grows);
        let prune = first.is_some().then(|| input.schema.fields().len());
        if let Some(first) = first {
            plan = LogicalPlan::Filter(Filter::try_new(first, Arc::new(plan))?);
        }
        let fragment = Fragment::plan(&plan, vec![slot.cell], self.state).await?;
        let arrow = Arc::new(schema.as_arrow().clone());
        let output_key = Key::of_columns(&arrow, &keys)?;
        let label = listed(&window.window_expr);
        let expiry = self.expiry(&event_time::of_key(&input.times, &keys))?;
        let times = keys.iter().filter_map(|c| Some((*c, input.times.get(c)?.clone()))).collect();
        let node = Keyed::new(label, fragment, vec![KeyedInput::new(input, keys)?], arrow, output_key, prune)?;
        let node = Box::new(node.expiring(expiry));
        let part = self.part_of(Sealed { node, schema: Arc::clone(&schema), grows: false, key: part_key, times })?;
        if schema.fields().len() == window.schema.fields().len() {
            return Ok(part);
        }
        let exprs = schema.columns().into_iter().filter(|c| !c.name.starts_with("__key")).map(Expr::Column);
        linear::project_weighted(part, exprs.collect())
    }

    /// `LIMIT`: only over an order.
    pub(super) async fn limit(&mut self, plan: &LogicalPlan, limit: &Limit) -> Result<Part> {
        match limit.input.as_ref() {
            LogicalPlan::Sort(sort) => self.top(plan, sort).await,
            // Columns are computed for the first rows alone.
            LogicalPlan::Projection(projection) => match projection.input.as_ref() {
                LogicalPlan::Sort(sort) => {
                    let first = Limit { input: Arc::clone(&projection.input), ..limit.clone() };
                    let part = self.top(&LogicalPlan::Limit(first), sort).await?;
                    linear::project(part, &projection.expr, &projection.input)
                }
                _ => Err(unordered()),
            },
            _ => Err(unordered()),
        }
    }

    /// The first rows of an order; `plan` is the sort, or a limit over it.
    pub(super) async fn top(&mut self, plan: &LogicalPlan, sort: &Sort) -> Result<Part> {
        let part = self.compile(&sort.input).await?;
        let part_key = part.key.clone();
        let input = self.seal(part).await?;
        let slot = self.slot(Arc::clone(&input.schema));
        let over_slot = over(plan, &sort.input, &slot.plan())?;
        let fragment = Fragment::plan(&over_slot, vec![slot.cell], self.state).await?;
        let schema = Arc::clone(plan.schema());
        let arrow = Arc::new(schema.as_arrow().clone());
        let output_key = Key::of_columns(&arrow, &[])?;
        let order: Vec<String> = sort.expr.iter().map(|e| e.to_string()).collect();
        let label = format!("first rows by {}", order.join(", "));
        let skips = matches!(plan, LogicalPlan::Limit(limit) if limit.skip.is_some());
        // Rows that fall out of the first ones never come back when none can go.
        let prune = (input.grows && !skips).then_some(input.schema.fields().len());
        let node = Keyed::new(label, fragment, vec![KeyedInput::new(input, vec![])?], arrow, output_key, prune)?;
        self.part_of(Sealed { node: Box::new(node), schema, grows: false, key: part_key, times: Times::new() })
    }
}

/// The part of a predicate that bounds the place of a row in its partition, if the functions tell places alone: those
/// of the rows before a row don't depend on it.
fn first_places(predicate: &Expr, window: &Window) -> Option<Expr> {
    let mut orders = window.window_expr.iter().map(|expr| match unaliased(expr) {
        Expr::WindowFunction(f) if ["row_number", "rank", "dense_rank"].contains(&f.fun.name()) => {
            Some((&f.params.partition_by, &f.params.order_by, &f.params.filter))
        }
        _ => None,
    });
    let first = orders.next()??;
    if first.2.is_some() || !orders.all(|order| order == Some(first)) {
        return None;
    }
    let from = window.input.schema().fields().len();
    let is_place = |expr: &Expr| match expr {
        Expr::Column(column) => window.schema.index_of_column(column).is_ok_and(|i| i >= from),
        _ => false,
    };
    split_conjunction(predicate).into_iter().find_map(|part| {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else { return None };
        let (place, op, bound) = match (left.as_ref(), right.as_ref()) {
            (place, bound @ Expr::Literal(..)) if is_place(place) => (place, *op, bound),
            (bound @ Expr::Literal(..), place) if is_place(place) => (place, op.swap()?, bound),
            _ => return None,
        };
        let op = match op {
            Operator::Lt | Operator::LtEq => op,
            Operator::Eq => Operator::LtEq,
            _ => return None,
        };
        Some(Expr::BinaryExpr(BinaryExpr::new(Box::new(place.clone()), op, Box::new(bound.clone()))))
    })
}

fn unordered() -> Error {
    Error::not_incremental("LIMIT without ORDER BY", "which rows it keeps is chance; add ORDER BY")
}

/// `plan` with `from` replaced by `to`; there is one input at each level.
pub(super) fn over(plan: &LogicalPlan, from: &LogicalPlan, to: &LogicalPlan) -> Result<LogicalPlan> {
    if plan == from {
        return Ok(to.clone());
    }
    let inputs = plan.inputs().into_iter().map(|input| over(input, from, to)).collect::<Result<Vec<_>>>()?;
    Ok(plan.with_new_exprs(plan.expressions(), inputs)?)
}

/// The columns by which all functions of a window node partition.
fn common_partition(window: &Window) -> Result<Vec<Expr>> {
    let mut common: Option<Vec<Expr>> = None;
    for expr in &window.window_expr {
        let Expr::WindowFunction(function) = unaliased(expr) else { continue };
        let by = &function.params.partition_by;
        common = Some(match common {
            None => by.clone(),
            Some(common) => common.into_iter().filter(|e| by.contains(e)).collect(),
        });
    }
    match common {
        Some(common) if !common.is_empty() => Ok(common),
        _ => Err(Error::not_incremental(
            "a window function without PARTITION BY",
            "each new row would change all others; add PARTITION BY, or use ORDER BY … LIMIT for the first rows",
        )),
    }
}

pub(super) fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
