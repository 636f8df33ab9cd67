//! Owns the answers to what tools ask of the catalog in ways that the planner does not know. All of it concerns things
//! that are not here: sequences, composite types, options and members of objects.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, Ident, ObjectName, SelectItem, SetExpr, Value, VisitorMut,
    visit_expressions,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::known::subscripts;

/// Puts answers in the place of such questions.
pub(super) struct EmptyCatalog;

impl VisitorMut for EmptyCatalog {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_array_of_subquery(expr) {
            *expr = text("{}");
        } else if is_call(expr, "array_to_string") && contains_array_of_subquery(expr) {
            *expr = text("");
        } else if selects_comparison(expr) {
            *expr = Expr::value(Value::Boolean(false));
        } else if selects_description(expr) {
            *expr = Expr::value(Value::Null);
        } else if let Some(numbers) = subscripts(expr) {
            *expr = numbers;
        } else {
            use_backslash(expr);
        }
        ControlFlow::Continue(())
    }
}

fn text(text: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(text.to_owned()))
}

fn is_call(expr: &Expr, name: &str) -> bool {
    let Expr::Function(function) = expr else { return false };
    let last = function.name.0.last().and_then(|part| part.as_ident());
    last.is_some_and(|ident| ident.value.eq_ignore_ascii_case(name))
}

fn is_array_of_subquery(expr: &Expr) -> bool {
    is_call(expr, "array") && matches!(expr, Expr::Function(f) if matches!(f.args, FunctionArguments::Subquery(_)))
}

fn contains_array_of_subquery(expr: &Expr) -> bool {
    visit_expressions(expr, |inner| match is_array_of_subquery(inner) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })
    .is_break()
}

/// The one expression that a scalar subquery selects.
fn selected(expr: &Expr) -> Option<&Expr> {
    let Expr::Subquery(query) = expr else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] => Some(expr),
        _ => None,
    }
}

/// `(SELECT relkind = 'c' …)`: whether a type is a composite's.
fn selects_comparison(expr: &Expr) -> bool {
    matches!(selected(expr), Some(Expr::BinaryOp { op: BinaryOperator::Eq, .. }))
}

/// `(SELECT json_build_object(…) …)`, `(SELECT pg_get_expr(…) …)`, `(SELECT typcollation …)`: how a sequence, a
/// collation or a default is made.
fn selects_description(expr: &Expr) -> bool {
    selected(expr).is_some_and(|selected| match selected {
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|last| last.value == "typcollation"),
        call => is_call(call, "json_build_object") || is_call(call, "pg_get_expr"),
    })
}

/// `LIKE … ESCAPE '/'` with the backslash instead, the only escape that the planner takes.
fn use_backslash(expr: &mut Expr) {
    let Expr::Like { pattern, escape_char, .. } = expr else { return };
    if !matches!(escape_char, Some(value) if value.value == Value::SingleQuotedString("/".to_owned())) {
        return;
    }
    let call =
        Parser::new(&PostgreSqlDialect {}).try_with_sql(r"replace(x, '/', '\')").and_then(|mut p| p.parse_expr());
    let Ok(Expr::Function(mut call)) = call else { return };
    let FunctionArguments::List(arguments) = &mut call.args else { return };
    let Some(first) = arguments.args.first_mut() else { return };
    *first = datafusion::sql::sqlparser::ast::FunctionArg::Unnamed((**pattern).clone().into());
    call.name = ObjectName::from(vec![Ident::new("replace")]);
    **pattern = Expr::Function(call);
    *escape_char = None;
}
