//! Owns queries in which a column of a subquery's table has the name by which the query around it knows a relation.
//!
//! `x.part` is a column of the relation `x` wherever there is one, in the subquery or around it. The planner looks for a
//! column `x` of the subquery first, finds one, and asks for its field `part`. Where it has none, every relation gets a
//! name that no column has.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion::common::ExprSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName as SqlName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use super::folded;

/// Whether a plan asks for fields of columns that have none.
pub(super) fn takes_fields_of_plain_columns(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // What cannot be visited fails by itself later.
    let _ = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let PlanExpr::ScalarFunction(call) = expr
                    && call.func.name() == "get_field"
                    && let Some(PlanExpr::Column(column)) = call.args.first()
                    && let Ok(data_type) = merge_schema(&node.inputs()).data_type(column)
                {
                    found |= !matches!(data_type, DataType::Struct(_) | DataType::Map(..) | DataType::Null);
                }
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    });
    found
}

/// The same statement, its relations called as no column is.
pub(super) fn told_apart(mut statement: DfStatement) -> DfStatement {
    match &mut statement {
        DfStatement::Statement(inner) => {
            let _ = VisitMut::visit(inner.as_mut(), &mut Renamer::default());
        }
        DfStatement::Explain(explain) => *explain.statement = told_apart(explain.statement.as_ref().clone()),
        _ => {}
    }
    statement
}

/// A relation as a query knows it.
struct Relation {
    schema: Option<String>,
    name: String,
    /// What it is called now; `None` where its name stays.
    now: Option<Ident>,
}

/// The relations of one FROM.
#[derive(Default)]
struct Scope {
    relations: Vec<Relation>,
    /// Whether it is that of a query which is one SELECT: its ORDER BY sees the same relations.
    of_select: bool,
}

#[derive(Default)]
struct Renamer {
    scopes: Vec<Scope>,
    renamed: usize,
}

impl VisitorMut for Renamer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let scope = match query.body.as_mut() {
            SetExpr::Select(select) => Scope { relations: self.of_select(select), of_select: true },
            _ => Scope::default(),
        };
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let known = self.scopes.last().is_some_and(|scope| scope.of_select);
        let relations = if known { vec![] } else { self.of_select(select) };
        self.scopes.push(Scope { relations, of_select: false });
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item {
                let mut parts: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
                self.rename(&mut parts);
                *name = SqlName::from(parts);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _select: &mut Select) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let Some(column) = parts.pop()
        {
            self.rename(parts);
            parts.push(column);
        }
        ControlFlow::Continue(())
    }
}

impl Renamer {
    fn of_select(&mut self, select: &mut Select) -> Vec<Relation> {
        let mut relations = vec![];
        select.from.iter_mut().for_each(|from| self.of_from(from, &mut relations));
        relations
    }

    fn of_from(&mut self, from: &mut TableWithJoins, relations: &mut Vec<Relation>) {
        for factor in std::iter::once(&mut from.relation).chain(from.joins.iter_mut().map(|join| &mut join.relation)) {
            match factor {
                TableFactor::NestedJoin { table_with_joins, alias: None } => self.of_from(table_with_joins, relations),
                TableFactor::Table { alias: Some(alias), args: None, .. }
                | TableFactor::Derived { alias: Some(alias), .. } => {
                    let name = folded(&alias.name);
                    alias.name = self.another(&name);
                    relations.push(Relation { schema: None, name, now: Some(alias.name.clone()) });
                }
                TableFactor::Table { name, alias, args: None, .. } => {
                    let mut parts = name.0.iter().rev().filter_map(|part| part.as_ident().map(folded));
                    let Some(name) = parts.next() else { continue };
                    let now = self.another(&name);
                    *alias = Some(TableAlias { explicit: true, name: now.clone(), columns: vec![], at: None });
                    relations.push(Relation { schema: parts.next(), name, now: Some(now) });
                }
                // A function's name may be that of its column too.
                TableFactor::Table { alias: Some(alias), .. }
                | TableFactor::Function { alias: Some(alias), .. }
                | TableFactor::UNNEST { alias: Some(alias), .. } => {
                    relations.push(Relation { schema: None, name: folded(&alias.name), now: None });
                }
                _ => {}
            }
        }
    }

    fn another(&mut self, name: &str) -> Ident {
        self.renamed += 1;
        Ident::with_quote('"', format!("{name} {}", self.renamed))
    }

    /// Puts the new name of the relation in place that parts of a name begin with.
    fn rename(&self, parts: &mut Vec<Ident>) {
        let starts = |relation: &Relation| match (parts.as_slice(), &relation.schema) {
            ([first, ..], _) if folded(first) == relation.name => Some(1),
            ([schema, name, ..], Some(of)) if folded(schema) == *of && folded(name) == relation.name => Some(2),
            _ => None,
        };
        let mut relations = self.scopes.iter().rev().flat_map(|scope| &scope.relations);
        let found = relations.find_map(|relation| starts(relation).map(|count| (count, relation.now.clone())));
        if let Some((count, Some(now))) = found {
            parts.splice(..count, [now]);
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    #[test]
    fn each_name_means_the_relation_that_is_nearest() {
        let renamed = |sql| told_apart(DFParser::parse_sql(sql).unwrap().pop_front().unwrap()).to_string();
        assert_eq!(
            renamed("SELECT x.*, s.t.a FROM u AS x, s.t WHERE EXISTS (SELECT 1 FROM x WHERE x.b = t.c) ORDER BY x.d"),
            "SELECT \"x 1\".*, \"t 2\".a FROM u AS \"x 1\", s.t AS \"t 2\" WHERE EXISTS (SELECT 1 FROM x AS \"x 3\" \
             WHERE \"x 3\".b = \"t 2\".c) ORDER BY \"x 1\".d"
        );
        assert_eq!(
            renamed("SELECT (SELECT x.a UNION SELECT x.b FROM y AS x) FROM x, f(1) AS g WHERE g.a = x.b.c"),
            "SELECT (SELECT \"x 1\".a UNION SELECT \"x 2\".b FROM y AS \"x 2\") FROM x AS \"x 1\", f(1) AS g WHERE \
             g.a = \"x 1\".b.c"
        );
    }
}
