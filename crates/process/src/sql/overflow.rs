//! Owns what happens where a sum, a difference or a product is too large for its type: an error, as in PostgreSQL.
//!
//! The library's operators wrap integers around, and let decimals of 38 digits have more. Where a result may be too
//! large they are replaced by functions that look. Decimals with fewer digits have room: their results have more.

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
    let function = |operator| Arc::new(ScalarUDF::from(Checked::new(operator)));
    let [plus, minus, times] = [Operator::Plus, Operator::Minus, Operator::Multiply].map(function);
    context.state_ref().write().register_function_rewrite(Arc::new(CheckOverflows { plus, minus, times }))
}

/// Puts the functions in the operators' places.
#[derive(Debug)]
struct CheckOverflows {
    plus: Arc<ScalarUDF>,
    minus: Arc<ScalarUDF>,
    times: Arc<ScalarUDF>,
}

impl FunctionRewrite for CheckOverflows {
    fn name(&self) -> &str {
        "check_overflows"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else { return Ok(Transformed::no(expr)) };
        let function = match op {
            Operator::Plus => &self.plus,
            Operator::Minus => &self.minus,
            Operator::Multiply => &self.times,
            _ => return Ok(Transformed::no(expr)),
        };
        // What has no type yet is planned again when it does.
        let (Ok(of_left), Ok(of_right)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(Transformed::no(expr));
        };
        let types = BinaryTypeCoercer::new(&of_left, op, &of_right);
        let (Ok((of_left, of_right)), Ok(result)) = (types.get_input_types(), types.get_result_type()) else {
            return Ok(Transformed::no(expr));
        };
        if !may_overflow(&result) {
            return Ok(Transformed::no(expr));
        }
        let left = left.as_ref().clone().cast_to(&of_left, schema)?;
        let right = right.as_ref().clone().cast_to(&of_right, schema)?;
        Ok(Transformed::yes(function.call(vec![left, right])))
    }
}

fn may_overflow(result: &DataType) -> bool {
    result.is_integer() || matches!(result, DataType::Decimal128(DECIMAL128_MAX_PRECISION, _))
}

/// A sum, a difference or a product that is looked at.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operator: Operator,
    signature: Signature,
}

impl Checked {
    fn new(operator: Operator) -> Self {
        Self { operator, signature: Signature::any(2, Volatility::Immutable) }
    }

    fn compute(&self, left: &dyn Datum, right: &dyn Datum) -> Result<ArrayRef, ArrowError> {
        let result = match self.operator {
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
        match self.operator {
            Operator::Plus => "plus",
            Operator::Minus => "minus",
            _ => "times",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [left, right] => BinaryTypeCoercer::new(left, &self.operator, right).get_result_type(),
            _ => internal_err!("{} takes two values", self.name()),
        }
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [left, right] => Ok(format!("{left} {} {right}", self.operator)),
            _ => internal_err!("{} takes two values", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [left, right] => apply(left, right, |left, right| self.compute(left, right)),
            _ => internal_err!("{} takes two values", self.name()),
        }
    }
}
