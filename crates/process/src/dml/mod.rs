//! Owns the statements that change rows: INSERT, UPDATE, DELETE, MERGE, TRUNCATE, with ON CONFLICT and RETURNING.
//!
//! A statement becomes a query over the rows that it changes, which show their numbers (`update.rs`, `merge.rs`,
//! `conflict.rs`); what the query gives says which rows go and which come (`row_change.rs`). Values become their
//! columns' types as PostgreSQL assigns them (`assign.rs`). Rows that an INSERT spells out need no query (`values.rs`).
//! RETURNING is a query over what came of it (`returning.rs`). All is planned when the statement is prepared; to run it
//! (`run.rs`) is to take the table's turn, run the query, and hand what it says to the table as one change (`work.rs`;
//! `beside.rs` for rows that may meet others by their keys).

mod assign;
mod assignments;
mod ast;
mod beside;
mod conflict;
mod insert;
mod literal;
mod merge;
mod planner;
mod respell;
mod returning;
mod row_change;
mod run;
mod supplied;
mod target;
mod update;
mod values;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::{ExplainStatement, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::{OutputClause, Query, SelectItem, SetExpr, Statement, With};
use millstream_catalog::ObjectName;
use millstream_catalog::fault::Code;

pub(crate) use respell::respell_merge;
pub(crate) use run::run;
pub(crate) use supplied::{SchemaForm, SuppliedTable};

use self::conflict::Conflict;
use self::insert::{Insert, Source};
use self::planner::Planner;
use self::returning::{Relations, Returning};
use self::row_change::RowChange;
use self::target::Target;
use crate::engine::Shared;
use crate::sql::names_hidden;
use crate::tables::named_change;
use crate::{Error, Result, Session};

/// A statement that changes rows, planned.
#[derive(Debug)]
pub(crate) struct PlannedChange {
    target: Target,
    what: What,
    returning: Option<Returning>,
    /// The command tag, without its count.
    tag: &'static str,
    /// Which state of the catalog it was planned over.
    pub(crate) generation: u64,
}

#[derive(Debug)]
enum What {
    Insert(Box<Insert>),
    Rows(Box<RowChange>),
}

/// Whether a statement changes rows.
pub(crate) fn is_change(sql: &DfStatement) -> bool {
    let DfStatement::Statement(statement) = sql else { return false };
    match statement.as_ref() {
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => true,
        Statement::Query(query) => ast::changes_inside(query.as_ref()),
        _ => false,
    }
}

/// Plans a statement that changes rows; `text` is the statement.
pub(crate) async fn plan(shared: &Shared, text: &str, sql: &DfStatement, generation: u64) -> Result<PlannedChange> {
    let DfStatement::Statement(statement) = sql else {
        return Err(Error::rejected(Code::Internal, "a statement that changes nothing was planned as a change"));
    };
    let (with, statement) = without_with(statement)?;
    let planner = Planner { shared, text, shows_hidden: names_hidden(sql) };
    let (target, what, tag, returning) = planned(&planner, with, &statement).await?;
    let returning = match returning {
        Some(items) => {
            let relations = Relations { target: &target, acts: tag == "MERGE", others: others(&what) };
            Some(Returning::plan(&planner.state()?, text, &items, &relations)?)
        }
        None => None,
    };
    Ok(PlannedChange { target, what, returning, tag, generation })
}

type Planned = (Target, What, &'static str, Option<Vec<SelectItem>>);

async fn planned(planner: &Planner<'_>, with: Option<With>, statement: &Statement) -> Result<Planned> {
    Ok(match statement {
        Statement::Insert(insert) => {
            let (target, planned) = insert::insert(planner, insert, with).await?;
            (target, What::Insert(Box::new(planned)), "INSERT 0", insert.returning.clone())
        }
        Statement::Update(update) => {
            let (target, change) = update::update(planner, update, with).await?;
            (target, What::Rows(Box::new(change)), "UPDATE", update.returning.clone())
        }
        Statement::Delete(delete) => {
            let (target, change) = update::delete(planner, delete, with).await?;
            (target, What::Rows(Box::new(change)), "DELETE", delete.returning.clone())
        }
        Statement::Merge(merge) => {
            let returning = match &merge.output {
                Some(OutputClause::Returning { select_items, .. }) => Some(select_items.clone()),
                Some(OutputClause::Output { .. }) => {
                    return Err(Error::rejected(Code::SyntaxError, "OUTPUT is not supported: write RETURNING"));
                }
                None => None,
            };
            let (target, change) = merge::merge(planner, merge, with, returning.is_some()).await?;
            (target, What::Rows(Box::new(change)), "MERGE", returning)
        }
        _ => return Err(changing_with()),
    })
}

/// What EXPLAIN shows of a statement that changes rows: the query that says what it does.
pub(crate) async fn explain(
    shared: &Shared,
    text: &str,
    explain: &ExplainStatement,
    generation: u64,
) -> Result<LogicalPlan> {
    if explain.options.analyze {
        return Err(Error::Rejected {
            code: Code::Unsupported,
            message: "EXPLAIN ANALYZE does not run statements that change rows".to_owned(),
            hint: Some("EXPLAIN shows the plan without running it".to_owned()),
            position: None,
        });
    }
    let change = plan(shared, text, &explain.statement, generation).await?;
    let wrap = |e| Error::from_datafusion(e, text);
    let query = match change.plans().first() {
        Some(query) => LogicalPlanBuilder::from((*query).clone()),
        None => LogicalPlanBuilder::empty(true),
    };
    query.explain(explain.options.verbose, false).and_then(LogicalPlanBuilder::build).map_err(wrap)
}

/// Empties tables, one after the other; `text` is the statement.
pub(crate) async fn truncate(session: &Session, text: &str, tables: &[ObjectName]) -> Result<()> {
    let shared = &session.shared;
    let planner = Planner { shared, text, shows_hidden: false };
    let mut changes = Vec::with_capacity(tables.len());
    for table in tables {
        let (target, change) = update::truncate(&planner, table).await?;
        let generation = shared.plans.generation();
        let change =
            PlannedChange { target, what: What::Rows(Box::new(change)), returning: None, tag: "DELETE", generation };
        changes.push(Arc::new(change));
    }
    for change in &changes {
        let table = Arc::clone(&change.target.open);
        let emptied = run(session, change, text, &[], session.timeout());
        named_change(shared, &table, "TRUNCATE", emptied).await?;
    }
    Ok(())
}

/// The names that stand before a statement, and the statement itself.
fn without_with(statement: &Statement) -> Result<(Option<With>, Statement)> {
    let Statement::Query(query) = statement else { return Ok((None, statement.clone())) };
    let Query { with, body, .. } = query.as_ref();
    match body.as_ref() {
        SetExpr::Insert(statement)
        | SetExpr::Update(statement)
        | SetExpr::Delete(statement)
        | SetExpr::Merge(statement)
            if !with.iter().any(ast::changes_inside) =>
        {
            Ok((with.clone(), statement.clone()))
        }
        _ => Err(changing_with()),
    }
}

fn changing_with() -> Error {
    Error::Rejected {
        code: Code::Unsupported,
        message: "a statement in WITH cannot change rows".to_owned(),
        hint: Some("send it as a statement of its own, before the other".to_owned()),
        position: None,
    }
}

/// The columns of other relations that a change's query gives.
fn others(what: &What) -> Vec<(Option<TableReference>, FieldRef)> {
    let What::Rows(change) = what else { return Vec::new() };
    let schema = change.plan.schema();
    let field = |i: usize| {
        let (relation, field) = schema.qualified_field(i);
        (relation.cloned(), field.clone())
    };
    change.others.clone().map(field).collect()
}

impl PlannedChange {
    /// The columns of what it returns.
    pub(crate) fn schema(&self) -> Option<SchemaRef> {
        self.returning.as_ref().map(|returning| Arc::clone(&returning.schema))
    }

    /// What it does, in a word, for `system.jobs`.
    fn verb(&self) -> &'static str {
        match self.tag {
            "UPDATE" => "update",
            "DELETE" => "delete",
            "MERGE" => "merge",
            _ => "insert",
        }
    }

    /// The command tag, without its count.
    pub(crate) fn tag(&self) -> &'static str {
        self.tag
    }

    /// Every query that it runs.
    pub(crate) fn plans(&self) -> Vec<&LogicalPlan> {
        let mut plans: Vec<&LogicalPlan> = match &self.what {
            What::Insert(insert) => {
                let mut plans: Vec<&LogicalPlan> = match &insert.source {
                    Source::Values(values) => values.computed.iter().collect(),
                    Source::Query(rows) => vec![&rows.plan],
                };
                if let Some(Conflict::Update(update)) = &insert.conflict {
                    plans.push(&update.change.plan);
                }
                plans
            }
            What::Rows(change) => vec![&change.plan],
        };
        plans.extend(self.returning.iter().map(|returning| &returning.plan));
        plans
    }

    /// The types of parameters that are spelled out as values, or cast: the planner does not tell these.
    pub(crate) fn parameters(&self) -> BTreeMap<usize, DataType> {
        let mut types = match &self.what {
            What::Insert(insert) => match &insert.source {
                Source::Values(values) => values.parameters.clone(),
                Source::Query(_) => BTreeMap::new(),
            },
            What::Rows(_) => BTreeMap::new(),
        };
        for plan in self.plans() {
            // What cannot be visited has no types to tell.
            let _ = plan.apply_with_subqueries(|node| {
                node.apply_expressions(|expr| {
                    expr.apply(|expr| {
                        if let Some((number, data_type)) = cast_parameter(expr) {
                            types.entry(number).or_insert(data_type);
                        }
                        Ok(TreeNodeRecursion::Continue)
                    })
                })
            });
        }
        types
    }
}

/// The parameter that an expression casts, and its type: what it is cast to.
fn cast_parameter(expr: &Expr) -> Option<(usize, DataType)> {
    let Expr::Cast(cast) = expr else { return None };
    let Expr::Placeholder(parameter) = cast.expr.as_ref() else { return None };
    let number = parameter.id.strip_prefix('$')?.parse().ok()?;
    Some((number, cast.field.data_type().clone()))
}
