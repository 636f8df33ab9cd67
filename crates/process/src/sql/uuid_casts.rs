//! Owns casts of text to UUID: the text is checked, and comes out as PostgreSQL writes it.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::cast::as_string_array;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, Expr, FunctionArguments, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use uuid::Uuid;

/// The function that stands for the cast.
const NAME: &str = "uuid_of_text";

/// Adds the function to a context.
pub(super) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::from(UuidOfText::new()));
}

/// Writes the casts to UUID of a statement or an expression as calls of the function.
pub(crate) fn check_uuid_casts<T: VisitMut>(sql: &mut T) {
    let _ = sql.visit(&mut Casts);
}

struct Casts;

impl VisitorMut for Casts {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let text = match expr {
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type: SqlType::Uuid, .. } => {
                expr.as_ref().clone()
            }
            Expr::TypedString(typed) if typed.data_type == SqlType::Uuid => Expr::Value(typed.value.clone()),
            _ => return ControlFlow::Continue(()),
        };
        // A NULL and a parameter have the type that the cast gives them.
        let plain = matches!(&text, Expr::Value(v) if matches!(v.value, Value::Null | Value::Placeholder(_)));
        if !plain && let Some(call) = call(text) {
            *expr = call;
        }
        ControlFlow::Continue(())
    }
}

fn call(argument: Expr) -> Option<Expr> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql("uuid_of_text(x)").ok()?;
    let Expr::Function(mut call) = parser.parse_expr().ok()? else { return None };
    let FunctionArguments::List(arguments) = &mut call.args else { return None };
    *arguments.args.first_mut()? = datafusion::sql::sqlparser::ast::FunctionArg::Unnamed(argument.into());
    Some(Expr::Function(call))
}

/// `uuid_of_text(text)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UuidOfText {
    signature: Signature,
}

impl UuidOfText {
    fn new() -> Self {
        let texts = [DataType::Utf8, DataType::Utf8View, DataType::LargeUtf8, DataType::Null];
        let forms = texts.map(|text| TypeSignature::Exact(vec![text])).to_vec();
        Self { signature: Signature::one_of(forms, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for UuidOfText {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let texts = cast(&args.args[0].to_array(if is_scalar { 1 } else { args.number_rows })?, &DataType::Utf8)?;
        let texts = as_string_array(&texts)?;
        let uuids: StringArray = texts.iter().map(|text| text.map(checked).transpose()).collect::<Result<_>>()?;
        Ok(if is_scalar {
            ColumnarValue::Scalar(datafusion::common::ScalarValue::Utf8(
                uuids.is_valid(0).then(|| uuids.value(0).to_owned()),
            ))
        } else {
            ColumnarValue::Array(Arc::new(uuids) as ArrayRef)
        })
    }
}

fn checked(text: &str) -> Result<String> {
    Uuid::parse_str(text.trim())
        .map(|uuid| uuid.to_string())
        .map_err(|_| DataFusionError::Execution(format!("{text:?} is not a valid uuid")))
}
