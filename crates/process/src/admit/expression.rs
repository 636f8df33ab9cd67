//! Owns the way from a definition's SQL expression to something that runs over a batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use millstream_catalog::Stream;
use millstream_catalog::fault::Code;

use crate::ddl::restate_expression;
use crate::decimals::Digits;
use crate::query_error::describe;
use crate::sql::{check_uuid_casts, postgres_casts, spell_intervals};
use crate::{Error, Result};

/// The column that `now()` and its relatives read: the time of the request. It stands behind the stream's own.
pub(super) const NOW_COLUMN: &str = "__now";

/// An expression over a stream's columns and [`NOW_COLUMN`].
#[derive(Debug, Clone)]
pub(super) struct Expression {
    physical: Arc<dyn PhysicalExpr>,
    /// The type of its values.
    pub data_type: ArrowType,
    /// The columns that it names.
    pub names: BTreeSet<String>,
    /// Whether it gives the same value for every row and every request.
    pub constant: bool,
}

impl Expression {
    /// Compiles `sql`; `what` names it in errors, as in `default of column "a"`. With `target`, the value is cast.
    pub(super) fn compile(
        sql: &str,
        what: &str,
        stream: &Stream,
        target: Option<&ArrowType>,
        state: &SessionState,
    ) -> Result<Self> {
        let failed = |e: DataFusionError| planning_error(&e, what);
        let expr = logical(sql, what, stream, state)?;
        let schema = DFSchema::try_from(subject_schema(&stream.schema())).map_err(failed)?;
        refuse_what_needs_a_query(&expr, what)?;
        let names = expr.column_refs().into_iter().map(|c| c.name.clone()).collect();
        let (expr, fixed) = read_clock_from_column(expr, &schema).map_err(failed)?;
        let simplifier = ExprSimplifier::new(
            SimplifyContext::builder()
                .with_schema(Arc::new(schema.clone()))
                .with_config_options(Arc::clone(state.config_options()))
                .build(),
        );
        let expr = simplifier.coerce(expr, &schema).map_err(failed)?;
        let mut expr = postgres_casts(expr, &schema).map_err(failed)?;
        let found = expr.get_type(&schema).map_err(failed)?;
        if let Some(target) = target.filter(|t| **t != found) {
            assignable(&found, target, what)?;
            expr = Expr::Cast(Cast::new(Box::new(expr), target.clone()));
        }
        let expr = simplifier.simplify(expr).map_err(failed)?;
        let physical = state.create_physical_expr(expr, &schema).map_err(failed)?;
        let names: BTreeSet<String> = names;
        Ok(Self { physical, data_type: target.cloned().unwrap_or(found), constant: fixed && names.is_empty(), names })
    }

    /// Its value for every row.
    pub(super) fn evaluate(&self, subject: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        self.physical.evaluate(subject)?.into_array(subject.num_rows())
    }
}

/// The expression as the planner has it, over a stream's own columns.
pub(super) fn logical(sql: &str, what: &str, stream: &Stream, state: &SessionState) -> Result<Expr> {
    let failed = |e: DataFusionError| planning_error(&e, what);
    let own = DFSchema::try_from(nullable(&stream.schema())).map_err(failed)?;
    let dialect = state.config_options().sql_parser.dialect;
    let mut parsed = state.sql_to_expr_with_alias(sql, &dialect).map_err(failed)?;
    restate_expression(&mut parsed.expr).map_err(|e| failed(e.into()))?;
    check_uuid_casts(&mut parsed.expr);
    spell_intervals(&mut parsed.expr);
    let digits = Digits::of(&mut parsed.expr);
    let expr = state.create_logical_expr_from_sql_expr(parsed, &own).map_err(failed)?;
    digits.exact_expr(expr, &own).map_err(failed)
}

/// A stream's columns, all nullable, and the clock behind them: what expressions are evaluated over.
pub(super) fn subject_schema(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<Field> = nullable(schema).fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new(NOW_COLUMN, now_type(), false));
    Arc::new(Schema::new(fields))
}

/// The same fields, all nullable: rows that break NOT NULL are still among them.
pub(super) fn nullable(schema: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

fn now_type() -> ArrowType {
    ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Replaces `now()`, `current_date` and `current_time`, which are constants of a query, by the request's time. Also
/// tells whether the rest gives the same value each time.
fn read_clock_from_column(expr: Expr, schema: &DFSchema) -> Result<(Expr, bool), DataFusionError> {
    let mut fixed = true;
    let rewritten = expr.transform_up(|e| {
        let Expr::ScalarFunction(call) = &e else { return Ok(Transformed::no(e)) };
        match call.func.signature().volatility {
            Volatility::Immutable => return Ok(Transformed::no(e)),
            Volatility::Volatile => {
                fixed = false;
                return Ok(Transformed::no(e));
            }
            Volatility::Stable => fixed = false,
        }
        if !matches!(call.func.name(), "now" | "current_date" | "current_time") {
            return Ok(Transformed::no(e));
        }
        let target = e.get_type(schema)?;
        let clock = Expr::Column(Column::new_unqualified(NOW_COLUMN));
        Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(clock), target))))
    })?;
    Ok((rewritten.data, fixed))
}

fn refuse_what_needs_a_query(expr: &Expr, what: &str) -> Result<()> {
    let mut found = None;
    let _ = expr.apply(|e| {
        found = found.or(match e {
            Expr::AggregateFunction(_) => Some("an aggregate"),
            Expr::WindowFunction(_) => Some("a window function"),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => Some("a subquery"),
            Expr::Placeholder(_) => Some("a parameter"),
            Expr::Unnest(_) => Some("unnest"),
            _ => None,
        });
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    match found {
        Some(found) => {
            let message = format!("the {what} has {found}; it is evaluated for one row alone and cannot have one");
            Err(Error::rejected(Code::InvalidDefinition, message))
        }
        None => Ok(()),
    }
}

/// Values change their type when they are stored, but not their meaning: no number becomes a time or a truth.
fn assignable(from: &ArrowType, to: &ArrowType, what: &str) -> Result<()> {
    let truth = |t: &ArrowType| *t == ArrowType::Boolean;
    let changes_meaning = (from.is_numeric() && (to.is_temporal() || truth(to)))
        || (to.is_numeric() && (from.is_temporal() || truth(from)))
        || (truth(from) && to.is_temporal())
        || (truth(to) && from.is_temporal());
    if changes_meaning || !arrow::compute::can_cast_types(from, to) {
        let message = format!("the {what} is of type {}, which cannot be stored as {}", shown(from), shown(to));
        return Err(Error::rejected(Code::TypeMismatch, message));
    }
    Ok(())
}

/// An Arrow type by the SQL name a user knows.
pub(crate) fn shown(data_type: &ArrowType) -> String {
    let name = match data_type {
        ArrowType::Boolean => "boolean",
        ArrowType::Int8 | ArrowType::Int16 | ArrowType::UInt8 => "smallint",
        ArrowType::Int32 | ArrowType::UInt16 => "int",
        ArrowType::Int64 | ArrowType::UInt32 | ArrowType::UInt64 => "bigint",
        ArrowType::Float16 | ArrowType::Float32 => "real",
        ArrowType::Float64 => "double precision",
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => "text",
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView => "bytea",
        ArrowType::Date32 | ArrowType::Date64 => "date",
        ArrowType::Time32(_) | ArrowType::Time64(_) => "time",
        ArrowType::Timestamp(_, None) => "timestamp",
        ArrowType::Timestamp(_, Some(_)) => "timestamptz",
        ArrowType::Interval(_) | ArrowType::Duration(_) => "interval",
        ArrowType::Decimal128(p, s) | ArrowType::Decimal256(p, s) => return format!("decimal({p},{s})"),
        ArrowType::List(item) | ArrowType::LargeList(item) => return format!("{}[]", shown(item.data_type())),
        ArrowType::Struct(_) => "row",
        ArrowType::Null => "null",
        other => return other.to_string(),
    };
    name.to_owned()
}

fn planning_error(error: &DataFusionError, what: &str) -> Error {
    let (code, reason) = describe(error);
    let code = if code == Code::InvalidRequest { Code::InvalidDefinition } else { code };
    Error::rejected(code, format!("the {what} is not valid: {reason}"))
}
