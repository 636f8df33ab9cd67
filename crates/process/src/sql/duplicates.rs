//! Owns queries whose columns have the same name twice, as `SELECT 1, 1`: PostgreSQL takes them, the planner does not.

use std::collections::HashMap;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{Ident, SelectItem, SetExpr, Statement};

use super::column_names::name_of;

/// Whether planning failed for nothing but a name that stands twice.
pub(super) fn is_duplicate(error: &DataFusionError) -> bool {
    error.to_string().contains("require unique expression names")
}

/// The same query, its columns told apart: what has no name gets the one that PostgreSQL gives it, and a name that is
/// there already gets a number, `a_2`.
pub(super) fn told_apart(mut statement: DfStatement) -> DfStatement {
    let DfStatement::Statement(inner) = &mut statement else { return statement };
    let Statement::Query(query) = inner.as_mut() else { return statement };
    let SetExpr::Select(select) = query.body.as_mut() else { return statement };
    let mut seen: HashMap<String, usize> = HashMap::new();
    for item in &mut select.projection {
        let (name, expr) = match item {
            SelectItem::UnnamedExpr(expr) => (name_of(expr), expr),
            SelectItem::ExprWithAlias { expr, alias } => (alias.value.clone(), expr),
            _ => continue,
        };
        let times = seen.entry(name.clone()).or_insert(0);
        *times += 1;
        let name = if *times == 1 { name } else { format!("{name}_{times}") };
        let expr = expr.clone();
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
    }
    statement
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[test]
    fn columns_are_told_apart_by_numbers() {
        let parsed = DFParser::parse_sql("SELECT 1, 1.0::real, count(*), count(a), b AS a, a FROM t").unwrap();
        let told_apart = told_apart(parsed.into_iter().next().unwrap()).to_string();
        for name in ["\"?column?\"", "\"?column?_2\"", "\"count\"", "\"count_2\"", "\"a\"", "\"a_2\""] {
            assert!(told_apart.contains(&format!("AS {name}")), "{told_apart}");
        }
    }
}
