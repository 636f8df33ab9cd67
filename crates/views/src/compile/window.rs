//! Owns window functions and ORDER BY … LIMIT: the rows of a partition go through the engine's operator again.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunctionParams};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Limit, LogicalPlan, Operator, Projection, Sort, Window};
use datafusion::scalar::ScalarValue;

use super::linear::listed;
use super::{Compiler, Part, Sealed, Times, event_time, linear};
use crate::fragment::Fragment;
use crate::key::Key;
use crate::node::{Keyed, KeyedInput, Node, Place, Places, Ranked};
use crate::{Error, Result};

impl Compiler<'_> {
    /// Window functions below a filter, with a projection between or without: rows beyond the first places of their
    /// partition are not kept where that is all that is asked for.
    pub(super) async fn first_places(
        &mut self,
        predicate: &Expr,
        window: &Window,
        between: Option<&Projection>,
    ) -> Result<Part> {
        let Some(projection) = between else {
            return self.window(window, FirstPlaces::of(predicate, window)).await;
        };
        let of = |i: usize| projection.expr[i].clone().unalias();
        let predicate = linear::replaced(vec![predicate.clone()], &projection.schema, &of);
        let first = predicate.and_then(|predicate| FirstPlaces::of(&predicate[0], window));
        let part = self.window(window, first).await?;
        linear::project(part, &projection.expr, &projection.input)
    }

    /// Window functions. `first`: the places that rows above are filtered by.
    pub(super) async fn window(&mut self, window: &Window, first: Option<FirstPlaces>) -> Result<Part> {
        if let Some(sessions) = self.session(window).await? {
            return Ok(sessions);
        }
        let partition = common_partition(window)?;
        let part = self.compile(&window.input).await?;
        // Where rows only come, one that falls behind the last place never comes back.
        let first = first.filter(|_| part.grows);
        let (mut part, keys) = self.with_columns(part, &partition)?;
        let mut order = Vec::new();
        if let Some(first) = &first {
            let exprs: Vec<Expr> = first.order.iter().map(|sort| sort.expr.clone()).collect();
            (part, order) = self.with_columns(part, &exprs)?;
        }
        let part_key = part.key.clone();
        let input = self.seal(part).await?;
        let slot = self.slot(Arc::clone(&input.schema));
        let over_slot = Window::try_new(window.window_expr.clone(), Arc::new(slot.plan()))?;
        let schema = Arc::clone(&over_slot.schema);
        let arrow = Arc::new(schema.as_arrow().clone());
        let label = listed(&window.window_expr);
        let expiry = self.expiry(&event_time::of_key(&input.times, &keys))?;
        let times = keys.iter().filter_map(|c| Some((*c, input.times.get(c)?.clone()))).collect();
        let node: Box<dyn Node> = match first {
            Some(first) => Box::new(Ranked::new(label, input, &keys, first.places(&order), arrow, expiry)?),
            None => {
                let fragment = Fragment::plan(&LogicalPlan::Window(over_slot), vec![slot.cell], self.state).await?;
                let output_key = Key::of_columns(&arrow, &keys)?;
                let input = KeyedInput::new(input, keys)?;
                Box::new(Keyed::new(label, fragment, vec![input], arrow, output_key, None)?.expiring(expiry))
            }
        };
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

/// Places in a partition, and a bound on one of them.
pub(super) struct FirstPlaces {
    columns: Vec<Place>,
    last: (usize, u64),
    order: Vec<SortExpr>,
}

impl FirstPlaces {
    /// What a predicate asks for, if the functions tell places alone: those of the rows before a row don't depend on
    /// the rows behind it.
    fn of(predicate: &Expr, window: &Window) -> Option<Self> {
        let places = window.window_expr.iter().map(place).collect::<Option<Vec<_>>>()?;
        let (_, first) = places.first()?;
        let same = |function: &WindowFunctionParams| {
            function.partition_by == first.partition_by && function.order_by == first.order_by
        };
        if first.order_by.is_empty() || !places.iter().all(|(_, function)| same(function)) {
            return None;
        }
        let from = window.input.schema().fields().len();
        let column = |expr: &Expr| match expr {
            Expr::Column(column) => window.schema.index_of_column(column).ok()?.checked_sub(from),
            _ => None,
        };
        let last = split_conjunction(predicate).into_iter().find_map(|part| {
            let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else { return None };
            let (column, op, bound) = match (column(left), column(right)) {
                (Some(column), None) => (column, *op, right),
                (None, Some(column)) => (column, op.swap()?, left),
                _ => return None,
            };
            let bound = whole_number(bound)?;
            let last = match op {
                Operator::Lt => bound.checked_sub(1)?,
                Operator::LtEq | Operator::Eq => bound,
                _ => return None,
            };
            (last > 0).then_some((column, last))
        })?;
        Some(Self { columns: places.iter().map(|(place, _)| *place).collect(), last, order: first.order_by.clone() })
    }

    /// With the order in these columns.
    fn places(self, order: &[usize]) -> Places {
        let options = |sort: &SortExpr| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        let order = order.iter().zip(&self.order).map(|(column, sort)| (*column, options(sort))).collect();
        Places { columns: self.columns, last: self.last, order }
    }
}

fn place(expr: &Expr) -> Option<(Place, &WindowFunctionParams)> {
    let Expr::WindowFunction(function) = unaliased(expr) else { return None };
    let place = match function.fun.name() {
        "row_number" => Place::RowNumber,
        "rank" => Place::Rank,
        "dense_rank" => Place::DenseRank,
        _ => return None,
    };
    function.params.filter.is_none().then_some((place, &function.params))
}

fn whole_number(expr: &Expr) -> Option<u64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value.cast_to(&DataType::UInt64).ok()? {
        ScalarValue::UInt64(Some(number)) if value.data_type().is_integer() => Some(number),
        _ => None,
    }
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
