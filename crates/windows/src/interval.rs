//! Owns the intervals of a call: constants of a fixed length, counted in the unit of the timestamp column.

use std::sync::Arc;

use datafusion::arrow::datatypes::TimeUnit;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;

use crate::{Error, Function};

const NANOS_PER_MILLI: i128 = 1_000_000;
const NANOS_PER_DAY: i128 = 86_400_000 * NANOS_PER_MILLI;

/// The length of one constant interval in a call.
pub(crate) struct Length<'a> {
    function: Function,
    /// What the call knows it as: `size`, `slide`, `offset`, …
    name: &'static str,
    written: &'a SqlExpr,
    nanos: i128,
}

impl<'a> Length<'a> {
    /// Evaluates an interval.
    pub(crate) fn read(
        function: Function,
        name: &'static str,
        written: &'a SqlExpr,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Self> {
        let wrong = |cause: String| Error::Interval { function, cause }.at(written);
        let not_constant = || {
            let cause = format!("the {name} must be a constant, and {written} is not; write it as INTERVAL '1' MINUTE");
            wrong(cause)
        };
        let schema = DFSchema::empty();
        let planned = context.sql_to_expr(written.clone(), &schema).map_err(|_| not_constant())?;
        let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build());
        let folded = simplifier.coerce(planned, &schema).and_then(|expr| simplifier.simplify(expr));
        let Ok(Expr::Literal(value, _)) = folded else { return Err(not_constant()) };
        let not_interval = || wrong(format!("the {name} must be an interval, and {written} is not; {}", fix(&value)));
        match length(&value).ok_or_else(not_interval)? {
            (0, nanos) => Ok(Self { function, name, written, nanos }),
            _ => {
                let cause = format!(
                    "the {name} has months or years, which are not all of one length; write days, as INTERVAL '30' DAY, \
                     or use date_trunc('month', column) for calendar months"
                );
                Err(wrong(cause))
            }
        }
    }

    /// Refuses a length of nothing or less.
    pub(crate) fn positive(self) -> Result<Self> {
        if self.nanos > 0 {
            return Ok(self);
        }
        Err(self.wrong(format!("the {} is {}, and must be more than 0", self.name, self.shown())))
    }

    /// Refuses a length that is more than another's.
    pub(crate) fn at_most(self, larger: &Length<'_>) -> Result<Self> {
        if self.nanos <= larger.nanos {
            return Ok(self);
        }
        Err(self.wrong(format!(
            "the {} of {} is more than the {} of {}; the {0} comes first: {}",
            self.name,
            self.shown(),
            larger.name,
            larger.shown(),
            self.function.usage()
        )))
    }

    /// Refuses a length of which another is no whole multiple.
    pub(crate) fn divides(self, larger: &Length<'_>) -> Result<Self> {
        if larger.nanos % self.nanos == 0 {
            return Ok(self);
        }
        Err(self.wrong(format!(
            "the {} of {} is not a whole multiple of the {} of {}; choose one that is",
            larger.name,
            larger.shown(),
            self.name,
            self.shown()
        )))
    }

    /// Refuses a length of which another has so many that a row would be in more than `most` windows.
    pub(crate) fn within(self, larger: &Length<'_>, most: i64) -> Result<Self> {
        let windows = larger.nanos.div_euclid(self.nanos) + i128::from(larger.nanos % self.nanos != 0);
        if windows <= i128::from(most) {
            return Ok(self);
        }
        Err(self.wrong(format!(
            "a {} of {} in a {} of {} puts each row into {windows} windows, and {most} is the most; choose a longer {0}",
            self.name,
            self.shown(),
            larger.name,
            larger.shown()
        )))
    }

    /// The length in a timestamp column's unit.
    pub(crate) fn ticks(&self, unit: TimeUnit) -> Result<i64> {
        let (nanos, unit) = match unit {
            TimeUnit::Second => (1000 * NANOS_PER_MILLI, "seconds"),
            TimeUnit::Millisecond => (NANOS_PER_MILLI, "milliseconds"),
            TimeUnit::Microsecond => (1000, "microseconds"),
            TimeUnit::Nanosecond => (1, "nanoseconds"),
        };
        if self.nanos % nanos != 0 {
            let cause = format!("the {} of {} is finer than the column, which has {unit}", self.name, self.shown());
            return Err(self.wrong(format!("{cause}; write whole {unit}")));
        }
        i64::try_from(self.nanos / nanos).map_err(|_| {
            let cause = format!("the {} of {} is longer than the column's range; write less", self.name, self.shown());
            self.wrong(cause)
        })
    }

    fn wrong(&self, cause: String) -> datafusion::error::DataFusionError {
        Error::Interval { function: self.function, cause }.at(self.written)
    }

    /// The length as a user would say it.
    fn shown(&self) -> String {
        const UNITS: [(i128, &str); 7] = [
            (NANOS_PER_DAY, "day"),
            (3_600_000 * NANOS_PER_MILLI, "hour"),
            (60_000 * NANOS_PER_MILLI, "minute"),
            (1000 * NANOS_PER_MILLI, "second"),
            (NANOS_PER_MILLI, "millisecond"),
            (1000, "microsecond"),
            (1, "nanosecond"),
        ];
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let (nanos, unit) = UNITS.into_iter().find(|(nanos, _)| self.nanos % nanos == 0).unwrap_or(UNITS[6]);
        let n = self.nanos / nanos;
        let plural = if n.abs() == 1 { "" } else { "s" };
        format!("{n} {unit}{plural}")
    }
}

/// An interval's months and nanoseconds.
fn length(value: &ScalarValue) -> Option<(i32, i128)> {
    match value {
        ScalarValue::IntervalYearMonth(Some(months)) => Some((*months, 0)),
        ScalarValue::IntervalDayTime(Some(v)) => {
            Some((0, i128::from(v.days) * NANOS_PER_DAY + i128::from(v.milliseconds) * NANOS_PER_MILLI))
        }
        ScalarValue::IntervalMonthDayNano(Some(v)) => {
            Some((v.months, i128::from(v.days) * NANOS_PER_DAY + i128::from(v.nanoseconds)))
        }
        ScalarValue::DurationSecond(Some(v)) => Some((0, i128::from(*v) * 1000 * NANOS_PER_MILLI)),
        ScalarValue::DurationMillisecond(Some(v)) => Some((0, i128::from(*v) * NANOS_PER_MILLI)),
        ScalarValue::DurationMicrosecond(Some(v)) => Some((0, i128::from(*v) * 1000)),
        ScalarValue::DurationNanosecond(Some(v)) => Some((0, i128::from(*v))),
        _ => None,
    }
}

/// What to write instead of a constant that is no interval.
fn fix(value: &ScalarValue) -> String {
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => {
            format!("write INTERVAL '{text}'")
        }
        _ => "write it as INTERVAL '1' MINUTE".to_owned(),
    }
}
