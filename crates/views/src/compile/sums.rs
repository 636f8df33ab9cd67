//! Owns the rewriting of aggregates to columns that add up: counts and sums, least and greatest values.
//!
//! `count`, `sum`, `avg`, `min` and `max` need no more of a group than a few numbers, which merge column by column:
//!
//! ```text
//! avg(x) FILTER (WHERE f)   column 0: counts CASE WHEN f THEN x END   merged by +
//!                           column 1: adds up the same                merged by +      value: column 1 / column 0
//! count(DISTINCT y)         per group, the values of y with how often each is there;
//!                           column 2: counts those that are there     merged by +      value: column 2
//! ```
//!
//! Counts and sums can be taken back too, so that they need no rows where the input takes rows back; `min` and `max`
//! do, and sums of floats, of which something remains when a large number comes and goes.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::functions_aggregate::expr_fn;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Case, Cast, Expr, ExprSchemable, lit};
use datafusion::scalar::ScalarValue;

use crate::Result;
use crate::delta::WEIGHT;
use crate::node::Merge;

/// What a column does with its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Count,
    Sum,
    Min,
    Max,
}

/// A column of a group's state.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SumColumn {
    pub(super) does: Does,
    /// The argument: of the input's rows, or of the distinct values of `of`.
    pub(super) argument: Expr,
    /// Which distinct values, and which of their conditions holds.
    pub(super) of: Option<(usize, usize)>,
}

/// The distinct values of an expression, each with how often it is there under each condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    pub(super) of: Expr,
    pub(super) conditions: Vec<Expr>,
}

/// Aggregates as columns.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) columns: Vec<SumColumn>,
    pub(super) distinct: Vec<Values>,
    /// How the value of each aggregate follows from the columns.
    pub(super) results: Vec<Outcome>,
    /// Whether rows go: from the input, or from the distinct values.
    pub(super) signed: bool,
    /// The column that counts rows, where they go.
    pub(super) total: Option<usize>,
}

/// The value of an aggregate, by the numbers of columns.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Count(usize),
    /// The sum, and the count that says whether there is one.
    Sum(usize, Option<usize>),
    Mean {
        sum: usize,
        count: usize,
    },
    Extreme(usize),
}

/// The aggregates as columns; `None` when one of them needs more than that.
pub(super) fn sums(aggregate: &Aggregate, schema: &DFSchema, grows: bool) -> Option<Sums> {
    let mut sums = Sums::default();
    let functions: Vec<&AggregateFunction> = aggregate.aggr_expr.iter().map(function).collect::<Option<_>>()?;
    sums.signed = !grows || functions.iter().any(|f| is_distinct(f));
    for function in functions {
        sums.add(function, schema, grows)?;
    }
    sums.total = sums.signed.then(|| sums.column(SumColumn { does: Does::Count, argument: lit(1_i64), of: None }));
    Some(sums)
}

fn function(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(function) => Some(function),
        Expr::Alias(alias) => function(&alias.expr),
        _ => None,
    }
}

/// The least and the greatest of distinct values are those of all.
fn is_distinct(function: &AggregateFunction) -> bool {
    function.params.distinct && !matches!(function.func.name(), "min" | "max")
}

impl Sums {
    fn add(&mut self, function: &AggregateFunction, schema: &DFSchema, grows: bool) -> Option<()> {
        let [argument] = function.params.args.as_slice() else { return None };
        if function.params.null_treatment.is_some() {
            return None;
        }
        let name = function.func.name();
        let goes = !grows || is_distinct(function);
        let argument = if name == "avg" && goes { exact(argument, schema) } else { argument.clone() };
        if matches!(name, "sum" | "avg") && !self.adds_up(name, &argument, schema, goes)? {
            return None;
        }
        let (argument, of) = match (is_distinct(function), &function.params.filter) {
            (true, filter) => {
                let condition = filter.as_deref().cloned().unwrap_or_else(|| lit(true));
                (argument.clone(), Some(self.distinct_values(argument, condition)))
            }
            (false, Some(filter)) => (when(filter.as_ref().clone(), argument, schema).ok()?, None),
            (false, None) => (argument, None),
        };
        let mut column = |does| self.column(SumColumn { does, argument: argument.clone(), of });
        let outcome = match name {
            "count" => Outcome::Count(column(Does::Count)),
            "sum" => {
                let sum = column(Does::Sum);
                Outcome::Sum(sum, self.signed.then(|| self.column(SumColumn { does: Does::Count, argument, of })))
            }
            "avg" => Outcome::Mean { sum: column(Does::Sum), count: column(Does::Count) },
            "min" if grows => Outcome::Extreme(column(Does::Min)),
            "max" if grows => Outcome::Extreme(column(Does::Max)),
            _ => return None,
        };
        self.results.push(outcome);
        Some(())
    }

    /// Whether sums of the argument can be kept, and taken back where they have to be.
    fn adds_up(&self, name: &str, argument: &Expr, schema: &DFSchema, goes: bool) -> Option<bool> {
        Some(match argument.get_type(schema).ok()? {
            DataType::Int64 => name == "sum",
            // The mean of decimals has a scale of its own.
            DataType::Decimal128(_, 0) if is_exact(argument) => true,
            DataType::Decimal128(..) | DataType::Decimal256(..) => name == "sum",
            DataType::UInt64 => name == "sum" && !self.signed,
            DataType::Float64 => !goes,
            _ => false,
        })
    }

    fn column(&mut self, column: SumColumn) -> usize {
        place(&mut self.columns, column)
    }

    fn distinct_values(&mut self, of: Expr, condition: Expr) -> (usize, usize) {
        let known = self.distinct.iter().position(|values| values.of == of);
        let values = known.unwrap_or_else(|| {
            self.distinct.push(Values { of, conditions: vec![] });
            self.distinct.len() - 1
        });
        (values, place(&mut self.distinct[values].conditions, condition))
    }

    /// How each column of a group merges with another.
    pub(super) fn merges(&self) -> Vec<Merge> {
        let merge = |column: &SumColumn| match column.does {
            Does::Count | Does::Sum => Merge::Add,
            Does::Min => Merge::Least,
            Does::Max => Merge::Greatest,
        };
        self.columns.iter().map(merge).collect()
    }
}

/// The number of an item, which is added if it is new.
fn place<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items.iter().position(|known| *known == item).unwrap_or_else(|| {
        items.push(item);
        items.len() - 1
    })
}

/// The mean of integers is that of floats to the engine; their sum is kept exactly.
fn exact(argument: &Expr, schema: &DFSchema) -> Expr {
    if let Expr::Cast(cast) = argument
        && *cast.field.data_type() == DataType::Float64
        && cast.expr.get_type(schema).is_ok_and(|t| t.is_signed_integer() || t.is_unsigned_integer())
    {
        return Expr::Cast(Cast::new(cast.expr.clone(), DataType::Decimal128(38, 0)));
    }
    argument.clone()
}

fn is_exact(argument: &Expr) -> bool {
    matches!(argument, Expr::Cast(cast) if *cast.field.data_type() == DataType::Decimal128(38, 0))
}

/// `CASE WHEN condition THEN value END`.
pub(super) fn when(condition: Expr, value: Expr, schema: &DFSchema) -> Result<Expr> {
    let null = ScalarValue::try_from(&value.get_type(schema)?)?;
    Ok(case(condition, value, lit(null)))
}

fn case(condition: Expr, then: Expr, otherwise: Expr) -> Expr {
    Expr::Case(Case::new(None, vec![(Box::new(condition), Box::new(then))], Some(Box::new(otherwise))))
}

/// The aggregate that computes a column from values, of rows that come and go by their weight if `signed`.
pub(super) fn computed(does: Does, value: Expr, signed: bool) -> Expr {
    match (does, signed) {
        (Does::Count, false) => expr_fn::count(value),
        (Does::Count, true) => {
            let one = case(comes(), lit(1_i64), lit(-1_i64));
            expr_fn::sum(case(value.is_not_null(), one, lit(0_i64)))
        }
        (Does::Sum, false) => expr_fn::sum(value),
        (Does::Sum, true) => {
            let taken_back = Expr::Negative(Box::new(value.clone()));
            expr_fn::sum(case(comes(), value, taken_back))
        }
        (Does::Min, _) => expr_fn::min(value),
        (Does::Max, _) => expr_fn::max(value),
    }
}

fn comes() -> Expr {
    Expr::Column(datafusion::common::Column::new_unqualified(WEIGHT)).gt(lit(0_i64))
}

/// The value of an aggregate of that type from the columns of its group.
pub(super) fn value(outcome: &Outcome, column: &dyn Fn(usize) -> Expr, data_type: &DataType) -> Expr {
    let none = |n: usize| column(n).is_null().or(column(n).eq(lit(0_i64)));
    let null = || Expr::Literal(ScalarValue::try_from(data_type).unwrap_or(ScalarValue::Null), None);
    let float = |n: usize| Expr::Cast(Cast::new(Box::new(column(n)), DataType::Float64));
    match outcome {
        Outcome::Count(n) => case(column(*n).is_null(), lit(0_i64), column(*n)),
        Outcome::Sum(sum, None) | Outcome::Extreme(sum) => column(*sum),
        Outcome::Sum(sum, Some(count)) => case(none(*count), null(), column(*sum)),
        Outcome::Mean { sum, count } => case(none(*count), null(), float(*sum) / float(*count)),
    }
}
