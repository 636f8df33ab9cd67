//! Owns what happens where a sum, a difference or a product is too large for its type: an error, as in PostgreSQL.
//!
//! The library's operators wrap integers around, and let decimals of 38 digits have more. Where a result may be too
//! large they are replaced by functions that look. Decimals with fewer digits have room: their results have more.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Datum};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, internal_err};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::logical_expr_common::type_coercion::binary::BinaryTypeCoercer;
use datafusion::physical_expr_common::datum::apply;
use datafusion::prelude::SessionContext;

/// Has overflows be errors in all that a context's sessions run.
pub(super) fn register(context: &SessionContext) -> Result<()> {
    context.state_ref().write().register_function_rewrite(Arc::new(CheckOverflows))
}

/// Puts functions in the operators' places.
#[derive(Debug)]
struct CheckOverflows;

impl FunctionRewrite for CheckOverflows {
    fn name(&self) -> &str {
        "check_overflows"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else { return Ok(Transformed::no(expr)) };
        if !matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply) {
            return Ok(Transformed::no(expr));
        }
        // What has no type yet is planned again when it does.
        let (Ok(left_type), Ok(right_type)) = (type_of(left, schema), type_of(right, schema)) else {
            return Ok(Transformed::no(expr));
        };
        let types = BinaryTypeCoercer::new(&left_type, op, &right_type);
        let (Ok((of_left, of_right)), Ok(result)) = (types.get_input_types(), types.get_result_type()) else {
            return Ok(Transformed::no(expr));
        };
        if !may_overflow(&result) {
            return Ok(Transformed::no(expr));
        }
        let cast = |expr: &Expr, from: &DataType, to: &DataType| match from == to {
            true => Ok(expr.clone()),
            false => expr.clone().cast_to(to, schema),
        };
        let right = cast(right, &right_type, &of_right)?;
        // `a + b + c` is one function of three values: a chain of them would be planned at the cost of its cube.
        let (mut operators, mut values) = match chain_of(left) {
            Some((chain, values)) if of_left == left_type && result == left_type => {
                (chain.operators.clone(), values.to_vec())
            }
            _ => (vec![], vec![cast(left, &left_type, &of_left)?]),
        };
        operators.push(*op);
        values.push(right);
        Ok(Transformed::yes(ScalarUDF::from(Checked::new(operators, result)).call(values)))
    }
}

/// The function that an expression is, and what it is of.
fn chain_of(expr: &Expr) -> Option<(&Checked, &[Expr])> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let inner: &dyn Any = call.func.inner().as_ref();
    Some((inner.downcast_ref::<Checked>()?, &call.args))
}

fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    match chain_of(expr) {
        Some((chain, _)) => Ok(chain.result.clone()),
        None => expr.get_type(schema),
    }
}

fn may_overflow(result: &DataType) -> bool {
    result.is_integer() || matches!(result, DataType::Decimal128(DECIMAL128_MAX_PRECISION, _))
}

/// Sums, differences and products, from left to right, each looked at.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    /// One between each two values.
    operators: Vec<Operator>,
    result: DataType,
    signature: Signature,
}

impl Checked {
    fn new(operators: Vec<Operator>, result: DataType) -> Self {
        Self { operators, result, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    fn compute(operator: Operator, left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef, ArrowError> {
        let result = match operator {
            Operator::Plus => numeric::add(left, right),
            Operator::Minus => numeric::sub(left, right),
            _ => numeric::mul(left, right),
        }?;
        if let DataType::Decimal128(digits, _) = result.data_type() {
            let decimals = result.as_primitive::<Decimal128Type>();
            if decimals.validate_decimal_precision(*digits).is_err() {
                return Err(ArrowError::ArithmeticOverflow(format!("a numeric has more than {digits} digits")));
            }
        }
        Ok(result)
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        let all = |operator| self.operators.iter().all(|o| *o == operator);
        match () {
            () if all(Operator::Plus) => "plus",
            () if all(Operator::Minus) => "minus",
            () if all(Operator::Multiply) => "times",
            () => "computed",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let mut shown = args.first().map(Expr::to_string).unwrap_or_default();
        for (operator, value) in self.operators.iter().zip(args.iter().skip(1)) {
            shown.push_str(&format!(" {operator} {value}"));
        }
        Ok(shown)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut values = args.args.into_iter();
        let Some(mut result) = values.next() else { return internal_err!("{} takes values", self.name()) };
        for (operator, value) in self.operators.iter().zip(values) {
            result = apply(&result, &value, |left, right| Self::compute(*operator, left, right))?;
        }
        Ok(result)
    }
}
