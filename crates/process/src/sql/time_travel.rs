//! Owns time travel in SQL: a table `VERSION AS OF n` or `FOR SYSTEM_TIME AS OF time` is planned under a name of its own.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::Utc;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Cast, Expr};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, ExprWithAlias, FunctionArguments, Ident, ObjectNamePart, TableAlias, TableFactor, TableVersion,
    VisitMut, VisitorMut,
};
use millstream_catalog::fault::Code;

use crate::tables::AsOf;
use crate::{Error, Result};

/// Gives each table with a version the name that stands for it. `FOR SYSTEM_TIME AS OF PROCTIME()`, the present, stays.
pub(super) fn name_versions(statement: &mut DfStatement, state: &SessionState) -> Result<()> {
    let found = match statement {
        DfStatement::Statement(statement) => statement.visit(&mut Namer { state }),
        DfStatement::Explain(explain) => return name_versions(&mut explain.statement, state),
        _ => ControlFlow::Continue(()),
    };
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Namer<'a> {
    state: &'a SessionState,
}

impl VisitorMut for Namer<'_> {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, alias, version, .. } = factor else { return ControlFlow::Continue(()) };
        let point = match version {
            None => return ControlFlow::Continue(()),
            Some(version) if is_present(version) => return ControlFlow::Continue(()),
            Some(version) => point_of(version, self.state),
        };
        let point = match point {
            Ok(point) => point,
            Err(error) => return ControlFlow::Break(error),
        };
        *version = None;
        let Some(ObjectNamePart::Identifier(last)) = name.0.last_mut() else { return ControlFlow::Continue(()) };
        let table = if last.quote_style.is_some() { last.value.clone() } else { last.value.to_lowercase() };
        if alias.is_none() {
            let name = Ident::with_quote('"', &table);
            *alias = Some(TableAlias { explicit: true, name, columns: vec![], at: None });
        }
        *last = Ident::with_quote('"', point.name_for(&table));
        ControlFlow::Continue(())
    }
}

/// Whether a version is the present, which views look up.
fn is_present(version: &TableVersion) -> bool {
    let TableVersion::ForSystemTimeAsOf(SqlExpr::Function(call)) = version else { return false };
    let none = matches!(&call.args, FunctionArguments::List(list) if list.args.is_empty());
    none && call.name.to_string().eq_ignore_ascii_case("proctime")
}

fn point_of(version: &TableVersion, state: &SessionState) -> Result<AsOf> {
    match version {
        TableVersion::ForSystemTimeAsOf(expr) | TableVersion::TimestampAsOf(expr) => time_of(expr.clone(), state),
        TableVersion::VersionAsOf(expr) => {
            let version = expr.to_string().parse().ok().filter(|version| *version >= 0);
            version.map(AsOf::Version).ok_or_else(|| {
                Error::rejected(Code::InvalidRequest, format!("VERSION AS OF {expr}: write the version's number"))
            })
        }
        other => Err(Error::rejected(
            Code::Unsupported,
            format!("{other} is not supported: write FOR SYSTEM_TIME AS OF a time, or VERSION AS OF a number"),
        )),
    }
}

/// The point that a constant expression gives.
pub(super) fn time_of(expr: SqlExpr, state: &SessionState) -> Result<AsOf> {
    let text = expr.to_string();
    let bad = |reason: String| {
        let message = format!("{text} is no time that a table can be read as of: {reason}");
        Error::rejected(Code::InvalidRequest, message)
    };
    let schema = DFSchema::empty();
    let expr = state
        .create_logical_expr_from_sql_expr(ExprWithAlias { expr, alias: None }, &schema)
        .map_err(|e| bad(e.strip_backtrace()))?;
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let expr = Expr::Cast(Cast::new(Box::new(expr), micros));
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .with_query_execution_start_time(Some(Utc::now()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    let value = simplifier.coerce(expr, &schema).and_then(|expr| simplifier.simplify(expr));
    match value.map_err(|e| bad(e.strip_backtrace()))? {
        Expr::Literal(ScalarValue::TimestampMicrosecond(Some(us), _), _) => Ok(AsOf::Time(us)),
        Expr::Literal(..) => Err(bad("it is NULL".to_owned())),
        _ => Err(bad("it is not the same for all rows".to_owned())),
    }
}
