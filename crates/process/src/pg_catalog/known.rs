//! Owns questions of the catalog that have an answer by number: they become calls before the rest is rewritten.
//!
//! ```text
//! 'ops.orders'::regclass                                           to_regclass('ops.orders')
//! c.oid::regclass::text                                            pg_class_name(c.oid)
//! (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d
//!   WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)           pg_column_default(a.attrelid, a.attnum)
//! generate_subscripts(i.indkey, 1)                                 unnest(range(1, CAST(array_length(i.indkey) AS BIGINT) + 1))
//! ```

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, OrderBy, Query,
    SelectItem, SetExpr, Value, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::told::{CLASS_NAME, COLUMN_DEFAULT};

/// How asyncpg begins its question which types some numbers are.
const ASKS_FOR_TYPES: &str = "WITH RECURSIVE typeinfo_tree(";

/// What answers it: an array's type with that of its items. There are no types of users, which it looks for beside.
const TYPES: &str = "\
    SELECT t.oid, 'pg_catalog' AS ns, t.typname AS name, t.typtype AS kind, CAST(NULL AS INT) AS basetype, \
    CASE WHEN t.typlen = -1 THEN t.typelem END AS elemtype, ',' AS elemdelim, CAST(NULL AS INT) AS range_subtype, \
    CAST(NULL AS TEXT) AS attrtypoids, CAST(NULL AS TEXT) AS attrnames, 0 AS depth, \
    CAST(NULL AS TEXT) AS basetype_name, CAST(NULL AS TEXT) AS elemtype_name, \
    CAST(NULL AS TEXT) AS range_subtype_name \
    FROM pg_catalog.pg_type AS t \
    WHERE array_has(CAST($1 AS INT UNSIGNED[]), CAST(t.oid AS INT UNSIGNED))";

/// The query that gives what a driver's question for types asks.
pub(super) fn types_query(text: &str) -> Option<&'static str> {
    text.trim_start().starts_with(ASKS_FOR_TYPES).then_some(TYPES)
}

/// Puts calls in the place of such questions, and counts them.
#[derive(Default)]
pub(super) struct KnownAnswers {
    pub(super) found: usize,
    /// ORDER BY of the queries around: what it orders by is left as the query selects it.
    orders: Vec<Option<OrderBy>>,
}

impl VisitorMut for KnownAnswers {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.orders.push(query.order_by.take());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        query.order_by = self.orders.pop().flatten();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(call) = class_name(expr).or_else(|| class_number(expr)).or_else(|| column_default(expr)) {
            *expr = call;
            self.found += 1;
        }
        ControlFlow::Continue(())
    }
}

/// A call of a function.
pub(super) fn call(name: &str, arguments: &[&Expr]) -> Option<Expr> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    parsed(&format!("{name}({})", arguments.join(", ")))
}

fn parsed(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_expr().ok()
}

/// `generate_subscripts(array, 1)`.
pub(super) fn subscripts(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    let array = first_argument(function, "generate_subscripts")?;
    parsed(&format!("unnest(range(1, CAST(array_length({array}) AS BIGINT) + 1))"))
}

fn first_argument<'a>(function: &'a Function, name: &str) -> Option<&'a Expr> {
    let last = function.name.0.last()?.as_ident()?;
    let FunctionArguments::List(arguments) = &function.args else { return None };
    match arguments.args.first() {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(first))) if last.value.eq_ignore_ascii_case(name) => {
            Some(first)
        }
        _ => None,
    }
}

fn type_name(data_type: &DataType) -> String {
    let name = data_type.to_string().to_lowercase();
    name.strip_prefix("pg_catalog.").unwrap_or(&name).to_owned()
}

fn class_name(expr: &Expr) -> Option<Expr> {
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return None };
    let text = type_name(data_type);
    let Expr::Cast { expr: oid, data_type, .. } = inner.as_ref() else { return None };
    let is_text = text == "text" || text.starts_with("varchar") || text.starts_with("character varying");
    let named = is_text && type_name(data_type) == "regclass" && !is_given(oid);
    if named { call(CLASS_NAME, &[oid]) } else { None }
}

fn class_number(expr: &Expr) -> Option<Expr> {
    let Expr::Cast { expr: name, data_type, .. } = expr else { return None };
    if type_name(data_type) == "regclass" && is_given(name) { call("to_regclass", &[name]) } else { None }
}

/// Whether an expression is a text or a parameter, so that what is cast is a name.
fn is_given(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::SingleQuotedString(_) | Value::Placeholder(_)),
        Expr::Cast { expr, data_type, .. } => {
            let text = type_name(data_type);
            (text == "text" || text.starts_with("varchar")) && is_given(expr)
        }
        Expr::Nested(inner) => is_given(inner),
        _ => false,
    }
}

/// The default of a column that a subquery finds in `pg_attrdef`.
fn column_default(expr: &Expr) -> Option<Expr> {
    let Expr::Subquery(query) = expr else { return None };
    let Query { body, .. } = query.as_ref();
    let SetExpr::Select(select) = body.as_ref() else { return None };
    let [SelectItem::UnnamedExpr(selected) | SelectItem::ExprWithAlias { expr: selected, .. }] =
        select.projection.as_slice()
    else {
        return None;
    };
    let mut selected = selected;
    while let Expr::Cast { expr, .. } | Expr::Nested(expr) = selected {
        selected = expr;
    }
    let Expr::Function(function) = selected else { return None };
    first_argument(function, "pg_get_expr")?;
    let mut equal = vec![];
    conditions(select.selection.as_ref()?, &mut equal);
    let given = |name: &str| equal.iter().find(|(column, _)| *column == name).map(|(_, value)| *value);
    call(COLUMN_DEFAULT, &[given("adrelid")?, given("adnum")?])
}

/// What columns must be equal to, where a condition says so on all its sides.
fn conditions<'a>(expr: &'a Expr, equal: &mut Vec<(&'a str, &'a Expr)>) {
    match expr {
        Expr::Nested(inner) => conditions(inner, equal),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conditions(left, equal);
            conditions(right, equal);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            for (one, other) in [(left, right), (right, left)] {
                if let Expr::CompoundIdentifier(parts) = one.as_ref()
                    && let Some(last) = parts.last()
                {
                    equal.push((last.value.as_str(), other));
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::VisitMut;

    use super::*;

    fn known(sql: &str) -> String {
        let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        let _ = parsed.visit(&mut KnownAnswers::default());
        parsed.to_string()
    }

    #[test]
    fn questions_become_calls() {
        for (question, answer) in [
            ("SELECT 'ops.t'::pg_catalog.regclass", "SELECT to_regclass('ops.t')"),
            ("SELECT CAST($1 AS REGCLASS)", "SELECT to_regclass($1)"),
            ("SELECT c.oid::regclass::text FROM pg_class c", "SELECT pg_class_name(c.oid) FROM pg_class c"),
            ("SELECT a FROM c ORDER BY c.oid::regclass::text", "SELECT a FROM c ORDER BY c.oid::REGCLASS::TEXT"),
            ("SELECT stxrelid::regclass FROM s", "SELECT stxrelid::REGCLASS FROM s"),
            (
                "SELECT (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_attrdef d \
                 WHERE d.adrelid = a.attrelid AND (d.adnum = a.attnum) AND a.atthasdef) FROM pg_attribute a",
                "SELECT pg_column_default(a.attrelid, a.attnum) FROM pg_attribute a",
            ),
            ("SELECT (SELECT max(x) FROM t)", "SELECT (SELECT max(x) FROM t)"),
        ] {
            assert_eq!(known(question), answer);
        }
    }
}
