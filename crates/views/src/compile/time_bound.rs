//! Owns the bound of a join in time: how far apart the event times of two rows may be that meet.
//!
//! ```text
//! left.at + at_least  <=  right.at  <=  left.at + at_most
//! ```
//!
//! With EMIT ON WINDOW CLOSE no row comes behind the frontiers of the two columns. So an inner join forgets a left row
//! when `left.at + at_most` is behind the right frontier, and a right row when `right.at - at_least` is behind the left
//! one. A join that gives rows of one side as long as nothing meets them (outer, semi, anti) forgets a row of that side
//! when both frontiers have passed what could change it, and rows of the other side when all that they met are
//! forgotten: what it gave is compared with what it gives now, and must not change by forgetting.

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;

use super::event_time::{is_utc, tick_ns};
use super::{Bound, Sealed};

/// How far apart two columns are, in ticks of both.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeBound {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) at_least: Option<i64>,
    pub(super) at_most: Option<i64>,
}

impl TimeBound {
    /// What the condition of a join says of columns of event times. With several pairs of columns the first that is
    /// bounded on both ends counts, or else the first.
    pub(super) fn of(filter: Option<&Expr>, left: &Sealed, right: &Sealed) -> Option<Self> {
        let mut bounds: Vec<Self> = Vec::new();
        for condition in filter.map(split_conjunction).unwrap_or_default() {
            for (low, high) in ordered(condition) {
                let Some(bound) = Self::between(&low, &high, left, right) else { continue };
                match bounds.iter_mut().find(|b| b.left == bound.left && b.right == bound.right) {
                    Some(known) => known.narrow(&bound),
                    None => bounds.push(bound),
                }
            }
        }
        let whole = bounds.iter().position(|b| b.at_least.is_some() && b.at_most.is_some()).unwrap_or(0);
        bounds.get(whole).copied()
    }

    /// Of `low <= high`.
    fn between(low: &Expr, high: &Expr, left: &Sealed, right: &Sealed) -> Option<Self> {
        let time = |column: &Column, side: &Sealed| place(column, &side.schema).filter(|i| side.times.contains_key(i));
        let columns = (column_of(low)?, column_of(high)?);
        let (l, r, low_is_left) = match (time(columns.0, left), time(columns.1, right)) {
            (Some(l), Some(r)) => (l, r, true),
            _ => (time(columns.1, left)?, time(columns.0, right)?, false),
        };
        let data_type = left.schema.field(l).data_type();
        if data_type != right.schema.field(r).data_type() {
            return None;
        }
        let (low, high) = (moved(low, data_type, false)?, moved(high, data_type, true)?);
        let none = Self { left: l, right: r, at_least: None, at_most: None };
        Some(if low_is_left {
            // left + low <= right + high
            Self { at_least: Some(low.checked_sub(high)?), ..none }
        } else {
            // right + low <= left + high
            Self { at_most: Some(high.checked_sub(low)?), ..none }
        })
    }

    fn narrow(&mut self, other: &Self) {
        self.at_least = self.at_least.max(other.at_least);
        self.at_most = match (self.at_most, other.at_most) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// The same with the sides exchanged.
    pub(super) fn exchanged(&self) -> Self {
        let negated = |ticks: Option<i64>| ticks.and_then(i64::checked_neg);
        Self { left: self.right, right: self.left, at_least: negated(self.at_most), at_most: negated(self.at_least) }
    }

    /// Where the left column is behind what can still come on the right.
    pub(super) fn left_done(&self, right: &Sealed) -> Option<Vec<Bound>> {
        let by = self.at_most?.checked_neg()?;
        moved_bounds(right, self.right, by)
    }

    /// Where the right column is behind what can still come on the left.
    pub(super) fn right_done(&self, left: &Sealed) -> Option<Vec<Bound>> {
        moved_bounds(left, self.left, self.at_least?)
    }
}

fn moved_bounds(side: &Sealed, column: usize, by: i64) -> Option<Vec<Bound>> {
    let data_type = side.schema.field(column).data_type();
    side.times.get(&column)?.iter().map(|bound| bound.moved(by, data_type)).collect()
}

/// The pairs of which the first is not above the second.
fn ordered(condition: &Expr) -> Vec<(Expr, Expr)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (l, r) = (left.as_ref().clone(), right.as_ref().clone());
            match op {
                Operator::Lt | Operator::LtEq => vec![(l, r)],
                Operator::Gt | Operator::GtEq => vec![(r, l)],
                Operator::Eq => vec![(l.clone(), r.clone()), (r, l)],
                _ => vec![],
            }
        }
        Expr::Between(between) if !between.negated => {
            let value = between.expr.as_ref().clone();
            let (low, high) = (between.low.as_ref().clone(), between.high.as_ref().clone());
            vec![(low, value.clone()), (value, high)]
        }
        _ => vec![],
    }
}

fn place(column: &Column, schema: &DFSchema) -> Option<usize> {
    schema.maybe_index_of_column(column)
}

fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => column_of(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => column_of(left).or(column_of(right)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, .. }) => column_of(left),
        _ => None,
    }
}

/// What is added to the column of an expression: constant intervals. What is no whole number of ticks is rounded `up`
/// or down.
fn moved(expr: &Expr, data_type: &DataType, up: bool) -> Option<i64> {
    let constant = |expr: &Expr, up: bool| match expr {
        Expr::Literal(value, _) => ticks_in(value, data_type, up),
        _ => None,
    };
    match expr {
        Expr::Column(_) => Some(0),
        Expr::Alias(alias) => moved(&alias.expr, data_type, up),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
            let (rest, by) = match constant(right, up) {
                Some(by) => (left, by),
                None => (right, constant(left, up)?),
            };
            moved(rest, data_type, up)?.checked_add(by)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
            moved(left, data_type, up)?.checked_sub(constant(right, !up)?)
        }
        _ => None,
    }
}

/// An interval in ticks of a timestamp.
fn ticks_in(value: &ScalarValue, data_type: &DataType, up: bool) -> Option<i64> {
    let DataType::Timestamp(unit, zone) = data_type else { return None };
    // By a clock that is set back and forth a day has no fixed length.
    let by_clock = zone.as_ref().is_some_and(|zone| !is_utc(zone));
    if by_clock && !matches!(value, ScalarValue::IntervalMonthDayNano(Some(i)) if i.days == 0) {
        return None;
    }
    let (length, tick) = (nanoseconds(value)?, i128::from(tick_ns(*unit)));
    let down = length.div_euclid(tick);
    i64::try_from(down + i128::from(up && length.rem_euclid(tick) > 0)).ok()
}

/// The length of an interval, if it is fixed.
fn nanoseconds(value: &ScalarValue) -> Option<i128> {
    const DAY: i128 = 86_400_000_000_000;
    Some(match value {
        ScalarValue::IntervalMonthDayNano(Some(i)) if i.months == 0 => {
            i128::from(i.days) * DAY + i128::from(i.nanoseconds)
        }
        ScalarValue::IntervalDayTime(Some(i)) => i128::from(i.days) * DAY + i128::from(i.milliseconds) * 1_000_000,
        ScalarValue::DurationSecond(Some(n)) => i128::from(*n) * 1_000_000_000,
        ScalarValue::DurationMillisecond(Some(n)) => i128::from(*n) * 1_000_000,
        ScalarValue::DurationMicrosecond(Some(n)) => i128::from(*n) * 1000,
        ScalarValue::DurationNanosecond(Some(n)) => i128::from(*n),
        _ => return None,
    })
}
