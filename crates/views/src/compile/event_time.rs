//! Owns what is known of columns that come of event times: how small their values can still be.
//!
//! A row that is not late has an event time at or above its input's watermark. So a column that is a monotone function
//! `f` of it (the start or end of its window, `date_trunc`, `date_bin`) has values at or above `f(watermark)`: that is
//! the column's *frontier*. An operator whose key has the column is done with every key below the frontier.
//!
//! Where rows of several inputs come to one column (a union, or a join by it), the lowest frontier counts.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::{Column, DFSchema};
use datafusion::functions_nested::extract::array_element;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Cast, Expr, Unnest, lit};
use datafusion::scalar::ScalarValue;

use super::Compiler;
use crate::Result;
use crate::arrangement::TimeOf;
use crate::node::{Expiry, Frontier};

/// The column that stands for the event time in [`Bound::expr`].
pub(crate) const EVENT_TIME: &str = "event_time";

/// A column's values are at or above `expr` of the watermark of `input`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    pub(crate) input: usize,
    /// The type of the event time.
    pub(crate) time: DataType,
    pub(crate) expr: Expr,
}

impl Bound {
    /// Of the event time itself.
    pub(crate) fn new(input: usize, time: DataType) -> Self {
        Self { input, time, expr: Expr::Column(Column::new_unqualified(EVENT_TIME)) }
    }

    /// Of a column of that type that is so many ticks later.
    pub(crate) fn moved(&self, ticks: i64, data_type: &DataType) -> Option<Self> {
        let DataType::Timestamp(unit, _) = data_type else { return None };
        let length = IntervalMonthDayNano::new(0, 0, ticks.checked_mul(tick_ns(*unit))?);
        let expr = self.expr.clone() + lit(ScalarValue::IntervalMonthDayNano(Some(length)));
        Some(Self { expr, ..self.clone() })
    }

    fn local(&self) -> bool {
        matches!(&self.time, DataType::Timestamp(_, Some(zone)) if !is_utc(zone))
    }
}

pub(super) fn is_utc(zone: &str) -> bool {
    ["UTC", "+00:00", "Z"].contains(&zone)
}

/// The nanoseconds of a tick.
pub(super) fn tick_ns(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1000,
        TimeUnit::Nanosecond => 1,
    }
}

/// The columns that come of event times, with the bounds of each.
pub(crate) type Times = BTreeMap<usize, Vec<Bound>>;

/// The bounds of an expression over columns with bounds.
pub(crate) fn bounds(expr: &Expr, schema: &DFSchema, times: &Times) -> Option<Vec<Bound>> {
    match expr {
        Expr::Column(column) => times.get(&schema.index_of_column(column).ok()?).cloned(),
        Expr::Alias(alias) => bounds(&alias.expr, schema, times),
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(..)) => {
            let inner = bounds(&cast.expr, schema, times)?;
            let casted = |b: Bound| {
                let cast = Cast { expr: Box::new(b.expr.clone()), field: cast.field.clone() };
                Bound { expr: Expr::Cast(cast), ..b }
            };
            inner.iter().all(|b| !b.local()).then(|| inner.into_iter().map(casted).collect())
        }
        Expr::ScalarFunction(call) => of_call(call, schema, times),
        _ => None,
    }
}

fn of_call(call: &ScalarFunction, schema: &DFSchema, times: &Times) -> Option<Vec<Bound>> {
    let (place, by_clock) = match call.func.name() {
        "window_start" | "window_end" | "window_starts" | "window_ends" => (0, false),
        "date_trunc" | "date_bin" => (1, true),
        _ => return None,
    };
    let constant = |(i, arg): (usize, &Expr)| i == place || matches!(arg, Expr::Literal(..));
    if !call.args.iter().enumerate().all(constant) {
        return None;
    }
    let inner = bounds(call.args.get(place)?, schema, times)?;
    // Where clocks are set back, the hour of a later time may be an earlier one.
    if by_clock && inner.iter().any(Bound::local) {
        return None;
    }
    let called = |b: Bound| {
        let mut args = call.args.clone();
        args[place] = b.expr;
        Bound { expr: call.func.call(args), ..b }
    };
    Some(inner.into_iter().map(called).collect())
}

/// The bounds behind a projection.
pub(crate) fn projected(exprs: &[Expr], schema: &DFSchema, times: &Times) -> Times {
    exprs.iter().enumerate().filter_map(|(i, expr)| Some((i, bounds(expr, schema, times)?))).collect()
}

/// The bounds behind an unnest: a list of windows begins with the earliest.
pub(crate) fn unnested(unnest: &Unnest, times: &Times) -> Times {
    let mut after = Times::new();
    for (i, from) in unnest.dependency_indices.iter().enumerate() {
        let Some(bounds) = times.get(from) else { continue };
        let is_list = unnest.list_type_columns.iter().any(|(column, _)| column == from);
        let first = |b: &Bound| Bound { expr: array_element(b.expr.clone(), lit(1_i64)), ..b.clone() };
        after.insert(i, if is_list { bounds.iter().map(first).collect() } else { bounds.clone() });
    }
    after
}

/// The bounds of columns that rows of all these parts come to.
pub(crate) fn united<'t>(mut parts: impl Iterator<Item = &'t Times>) -> Times {
    let mut all = parts.next().cloned().unwrap_or_default();
    for part in parts {
        all.retain(|column, bounds| part.get(column).map(|more| bounds.extend(more.iter().cloned())).is_some());
    }
    all
}

/// The bounds of columns that are equal in a join, by the number of the pair.
pub(crate) fn paired(left: (&Times, &[usize]), right: (&Times, &[usize])) -> Times {
    let pairs = left.1.iter().zip(right.1).enumerate();
    let both = pairs.filter_map(|(i, (l, r))| Some((i, [left.0.get(l)?.clone(), right.0.get(r)?.clone()].concat())));
    both.collect()
}

/// The bounds of a key's columns, by their number in the key.
pub(crate) fn of_key(times: &Times, key: &[usize]) -> Times {
    key.iter().enumerate().filter_map(|(i, column)| Some((i, times.get(column)?.clone()))).collect()
}

impl Compiler<'_> {
    /// When a key with these bounds is done.
    pub(super) fn expiry(&self, key_times: &Times) -> Result<Expiry> {
        let key = key_times.iter().map(|(part, bounds)| self.expiry_of(TimeOf::KeyPart(*part), bounds));
        key.reduce(|all, part| Ok(all?.and(part?))).unwrap_or_else(|| Ok(Expiry::default()))
    }

    /// When rows are done that have a time with these bounds.
    pub(super) fn expiry_of(&self, time: TimeOf, bounds: &[Bound]) -> Result<Expiry> {
        Ok(Expiry::new(time, Frontier::new(bounds, self.state)?))
    }
}
