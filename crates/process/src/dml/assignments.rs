//! Owns `SET column = value, …`: which columns a statement gives new values, and where its query has them.

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    Assignment as SqlAssignment, AssignmentTarget, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem,
    SetExpr, Spanned,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use millstream_catalog::fault::Code;

use super::assign::{Assignment, Given};
use super::ast;
use super::target::{Target, refused};
use crate::Result;

/// What a column of a row becomes.
#[derive(Debug, Clone)]
pub(super) enum Becomes {
    /// It stays what it was.
    Old,
    /// Its default, or what it is generated as.
    Default,
    /// A column of the query.
    Computed { column: usize, assignment: Assignment },
}

/// What the columns of rows become, before the query is planned: the items of the query that say it.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// The target's columns with the item that gives each its value; none is DEFAULT.
    columns: Vec<(usize, Option<(usize, Given)>)>,
    /// The items.
    pub(super) items: Vec<Expr>,
}

impl Sets {
    /// Reads assignments.
    pub(super) fn of(target: &Target, text: &str, assignments: &[SqlAssignment]) -> Result<Self> {
        let mut sets = Self::default();
        for assignment in assignments {
            let span = assignment.value.span();
            match &assignment.target {
                AssignmentTarget::ColumnName(name) => {
                    let (column, at) = target.named(name, text)?;
                    sets.set(target, text, column, at, assignment.value.clone())?;
                }
                AssignmentTarget::Tuple(names) => {
                    let values = parts(&assignment.value, names.len());
                    let Some(values) = values.filter(|values| values.len() == names.len()) else {
                        let message = "number of columns does not match number of values";
                        return Err(refused(Code::SyntaxError, message, text, span));
                    };
                    for (name, value) in names.iter().zip(values) {
                        let (column, at) = target.named(name, text)?;
                        sets.set(target, text, column, at, value)?;
                    }
                }
            }
        }
        Ok(sets)
    }

    /// Gives a column a value.
    pub(super) fn set(&mut self, target: &Target, text: &str, column: usize, at: Span, value: Expr) -> Result<()> {
        if self.columns.iter().any(|(set, _)| *set == column) {
            let name = &target.columns()[column].name;
            let message = format!("column {name:?} is given a value twice");
            return Err(refused(Code::SyntaxError, message, text, at));
        }
        if ast::is_default(&value) {
            self.columns.push((column, None));
            return Ok(());
        }
        target.must_be_assignable(column, text, at)?;
        let (value, given) = ast::value_for(value, &target.columns()[column]);
        self.columns.push((column, Some((self.items.len(), given))));
        self.items.push(value);
        Ok(())
    }

    /// What each column becomes, by the planned query whose column `first` is the first item; what is not named becomes
    /// `rest`.
    pub(super) fn resolve(
        &self,
        target: &Target,
        plan: &LogicalPlan,
        first: usize,
        rest: &Becomes,
    ) -> Result<Vec<Becomes>> {
        let mut becomes: Vec<Becomes> = (0..target.columns().len())
            .map(|column| if target.is_generated(column) { Becomes::Default } else { rest.clone() })
            .collect();
        for (column, item) in &self.columns {
            becomes[*column] = match item {
                None => Becomes::Default,
                Some((item, given)) => {
                    let from = plan.schema().field(first + item).data_type();
                    let assignment = Assignment::new(&target.columns()[*column], from, *given)?;
                    Becomes::Computed { column: first + item, assignment }
                }
            };
        }
        Ok(becomes)
    }
}

/// The values of `(a, b) = …`: of a list, or of the columns of a query.
fn parts(value: &Expr, wanted: usize) -> Option<Vec<Expr>> {
    match value {
        Expr::Tuple(values) => Some(values.clone()),
        Expr::Nested(inner) => match inner.as_ref() {
            Expr::Subquery(_) => parts(inner, wanted),
            single => Some(vec![single.clone()]),
        },
        Expr::Function(call) if call.name.to_string().eq_ignore_ascii_case("row") => {
            let FunctionArguments::List(list) = &call.args else { return None };
            let value = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            };
            list.args.iter().map(value).collect()
        }
        Expr::Subquery(query) => {
            let SetExpr::Select(select) = query.body.as_ref() else { return None };
            let single =
                |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            if !select.projection.iter().all(single) {
                return None;
            }
            let one = |item: &SelectItem| {
                let mut query = query.clone();
                if let SetExpr::Select(select) = query.body.as_mut() {
                    select.projection = vec![item.clone()];
                }
                Expr::Subquery(query)
            };
            Some(select.projection.iter().map(one).collect())
        }
        single if wanted == 1 => Some(vec![single.clone()]),
        _ => None,
    }
}
