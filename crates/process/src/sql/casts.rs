//! Owns what casts mean where Arrow's differ from PostgreSQL's: of text to times and intervals, of numbers to integers.
//!
//! Behind type coercion every such cast becomes a call of a function of its own, in queries, views and expressions
//! alike, so that one written by a user and one that a comparison needs mean the same.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Value, VisitMut, VisitorMut};

use crate::admit::shown_type;
use crate::{datetime, text_casts};

/// Puts the functions in the place of the casts of a plan.
#[derive(Debug)]
pub(super) struct PostgresCasts;

impl AnalyzerRule for PostgresCasts {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let mut schema = merge_schema(&node.inputs());
            if let LogicalPlan::TableScan(scan) = &node {
                schema.merge(&scan.projected_schema);
            }
            let names = NamePreserver::new(&node);
            let node = node.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = as_postgres(expr, &schema)?;
                Ok(if expr.transformed { expr.update_data(|expr| name.restore(expr)) } else { expr })
            })?;
            match node.transformed {
                true => node.map_data(LogicalPlan::recompute_schema),
                false => Ok(node),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "postgres_casts"
    }
}

/// The functions in the place of the casts of an expression whose types are coerced.
pub(crate) fn postgres_casts(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    as_postgres(expr, schema).data()
}

fn as_postgres(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let (inner, to, safe) = match &expr {
            Expr::Cast(cast) => (&cast.expr, cast.field.data_type(), false),
            Expr::TryCast(cast) => (&cast.expr, cast.field.data_type(), true),
            _ => return Ok(Transformed::no(expr)),
        };
        let Ok(from) = inner.get_type(schema) else { return Ok(Transformed::no(expr)) };
        let Some(way) = Way::of(&from, to, inner) else { return Ok(Transformed::no(expr)) };
        let function = ScalarUDF::from(CastTo::new(to.clone(), way, safe));
        let (Expr::Cast(datafusion::logical_expr::Cast { expr: inner, .. })
        | Expr::TryCast(datafusion::logical_expr::TryCast { expr: inner, .. })) = expr
        else {
            return Ok(Transformed::no(expr));
        };
        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![*inner]))))
    })
}

/// How values come to be of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// A text is read.
    Read,
    /// Halves go away from zero, as of decimals.
    HalfAway,
    /// Halves go to the even number, as of doubles.
    HalfEven,
}

impl Way {
    fn of(from: &DataType, to: &DataType, value: &Expr) -> Option<Self> {
        match from {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => text_casts::reads(to).then_some(Self::Read),
            _ if !to.is_integer() => None,
            // A written number is a decimal, whatever the planner keeps it as.
            DataType::Float64 if is_number(value) => Some(Self::HalfAway),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(Self::HalfEven),
            DataType::Decimal128(..) | DataType::Decimal256(..) => Some(Self::HalfAway),
            _ => None,
        }
    }
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Float64(_), _) => true,
        Expr::Negative(inner) => is_number(inner),
        _ => false,
    }
}

/// `cast_to_int(value)` and the like.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CastTo {
    name: String,
    to: DataType,
    way: Way,
    /// Whether a value that does not fit becomes NULL.
    safe: bool,
    signature: Signature,
}

impl CastTo {
    fn new(to: DataType, way: Way, safe: bool) -> Self {
        let name = format!("{}cast_to_{}", if safe { "try_" } else { "" }, shown_type(&to).replace(' ', "_"));
        Self { name, to, way, safe, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match (self.way, values.data_type()) {
            (Way::Read, _) => self.read(values),
            (_, DataType::Decimal128(..)) => self.cast(&self.cast_to(values, &DataType::Decimal128(38, 0))?),
            (_, DataType::Decimal256(..)) => self.cast(&self.cast_to(values, &DataType::Decimal256(76, 0))?),
            (way, _) => {
                let round = if way == Way::HalfAway { f64::round } else { f64::round_ties_even };
                let doubles = cast(values, &DataType::Float64)?;
                let rounded = doubles.as_primitive::<Float64Type>().unary::<_, Float64Type>(round);
                self.cast(&(Arc::new(rounded) as ArrayRef))
            }
        }
    }

    fn read(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let texts = cast(values, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let found = text_casts::cast_text(texts, &self.to)?;
        let unread = (0..texts.len()).find(|row| found.is_null(*row) && texts.is_valid(*row));
        match unread.filter(|_| !self.safe) {
            Some(row) => {
                let message = format!("{:?} is not a valid {}", texts.value(row), shown_type(&self.to));
                Err(DataFusionError::Execution(message))
            }
            None => Ok(found),
        }
    }

    fn cast(&self, values: &ArrayRef) -> Result<ArrayRef> {
        self.cast_to(values, &self.to)
    }

    fn cast_to(&self, values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        Ok(cast_with_options(values, to, &CastOptions { safe: self.safe, ..Default::default() })?)
    }
}

impl ScalarUDFImpl for CastTo {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = self.safe || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(value) => {
                let found = self.apply(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?))
            }
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(self.apply(values)?)),
        }
    }
}

/// Writes the intervals of a statement or an expression in words that the planner reads: `INTERVAL '1 day 01:30:00'`.
pub(crate) fn spell_intervals<T: VisitMut>(sql: &mut T) {
    let _ = sql.visit(&mut Intervals);
}

struct Intervals;

impl VisitorMut for Intervals {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        if let SqlExpr::Interval(interval) = expr
            && interval.leading_field.is_none()
            && let SqlExpr::Value(value) = interval.value.as_mut()
            && let Value::SingleQuotedString(text) = &mut value.value
            && (text.contains(':') || text.trim_start().starts_with(['P', 'p']))
            && let Ok(found) = datetime::interval(text.as_bytes())
        {
            *text = format!("{} months {} days {} nanoseconds", found.months, found.days, found.nanoseconds);
        }
        ControlFlow::Continue(())
    }
}
