//! Owns INSERT: where its rows come from, and which columns they give.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Insert as SqlInsert, OnInsert, Query, SelectItem, SetExpr, TableObject, With};
use datafusion::sql::sqlparser::tokenizer::Span;
use millstream_catalog::fault::Code;

use super::assign::{Assignment, Given};
use super::ast;
use super::conflict::{self, Conflict};
use super::planner::Planner;
use super::target::{Target, refused};
use super::values::{Values, all_missing};
use crate::{Error, Result, Rows};

/// Rows that come.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) source: Source,
    pub(super) conflict: Option<Conflict>,
}

/// Where they come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The statement spells them out.
    Values(Values),
    /// A query gives them.
    Query(QueriedRows),
}

/// Rows of a query.
#[derive(Debug)]
pub(super) struct QueriedRows {
    pub(super) plan: LogicalPlan,
    /// By the target's columns: the query's column, and how its values become the target's.
    columns: Vec<Option<(usize, Assignment)>>,
}

/// An INSERT.
pub(super) async fn insert(planner: &Planner<'_>, insert: &SqlInsert, with: Option<With>) -> Result<(Target, Insert)> {
    let text = planner.text;
    check_form(insert)?;
    let TableObject::TableName(name) = &insert.table else {
        return Err(Error::rejected(Code::SyntaxError, "INSERT takes the name of a table or a stream"));
    };
    let alias = insert.table_alias.as_ref().map(|alias| &alias.alias);
    let target = Target::of(planner.shared, text, name, alias)?;
    let columns = columns(&target, insert, text)?;
    let source = match &insert.source {
        None => Source::Values(Values::plan(planner, &target, &[], vec![vec![]], None).await?),
        Some(query) => source(planner, &target, &columns, query, with, !insert.columns.is_empty()).await?,
    };
    let conflict = match &insert.on {
        None => None,
        Some(OnInsert::OnConflict(on)) => conflict::plan(planner, &target, on).await?,
        Some(_) => {
            let message = "ON DUPLICATE KEY is not supported: write ON CONFLICT";
            return Err(Error::rejected(Code::SyntaxError, message));
        }
    };
    Ok((target, Insert { source, conflict }))
}

/// Refuses what other databases write.
fn check_form(insert: &SqlInsert) -> Result<()> {
    let foreign = insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || insert.replace_into
        || insert.output.is_some()
        || insert.partitioned.is_some()
        || !insert.assignments.is_empty()
        || !insert.after_columns.is_empty();
    match foreign {
        true => Err(Error::rejected(Code::SyntaxError, "this form of INSERT is not supported: write INSERT INTO")),
        false => Ok(()),
    }
}

/// The columns that the statement names, or all.
fn columns(target: &Target, insert: &SqlInsert, text: &str) -> Result<Vec<usize>> {
    if insert.columns.is_empty() {
        return Ok((0..target.columns().len()).collect());
    }
    let mut columns = Vec::with_capacity(insert.columns.len());
    for name in &insert.columns {
        let (column, span) = target.named(name, text)?;
        if columns.contains(&column) {
            let name = &target.columns()[column].name;
            return Err(refused(Code::DuplicateColumn, format!("column {name:?} is named twice"), text, span));
        }
        columns.push(column);
    }
    Ok(columns)
}

async fn source(
    planner: &Planner<'_>,
    target: &Target,
    columns: &[usize],
    query: &Query,
    with: Option<With>,
    named: bool,
) -> Result<Source> {
    let plain = query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    if let (SetExpr::Values(values), true) = (query.body.as_ref(), plain) {
        let with = joined(with, query.with.clone());
        let rows: Vec<Vec<_>> = values.rows.iter().map(|row| row.content.clone()).collect();
        let width = rows.first().map_or(0, Vec::len);
        if rows.iter().any(|row| row.len() != width) {
            return Err(Error::rejected(Code::SyntaxError, "VALUES lists must all be the same length"));
        }
        check_width(width, columns, named)?;
        return Ok(Source::Values(Values::plan(planner, target, columns, rows, with).await?));
    }
    let mut query = Box::new(query.clone());
    query.with = joined(with, query.with.take());
    let given = typed_items(&mut query, target, columns);
    let plan = planner.plan(query).await?;
    let fields = plan.schema().fields();
    check_width(fields.len(), columns, named)?;
    let mut by_column: Vec<Option<(usize, Assignment)>> = target.columns().iter().map(|_| None).collect();
    for (i, (field, column)) in fields.iter().zip(columns).enumerate() {
        target.must_be_assignable(*column, planner.text, Span::empty())?;
        let given = given.get(i).copied().unwrap_or(Given::Typed);
        by_column[*column] = Some((i, Assignment::new(&target.columns()[*column], field.data_type(), given)?));
    }
    Ok(Source::Query(QueriedRows { plan, columns: by_column }))
}

fn check_width(width: usize, columns: &[usize], named: bool) -> Result<()> {
    let message = match width.cmp(&columns.len()) {
        std::cmp::Ordering::Greater => "INSERT has more expressions than target columns",
        std::cmp::Ordering::Less if named => "INSERT has more target columns than expressions",
        _ => return Ok(()),
    };
    Err(Error::rejected(Code::SyntaxError, message))
}

/// The names that stand before the whole statement and those before its query.
fn joined(outer: Option<With>, inner: Option<With>) -> Option<With> {
    match (outer, inner) {
        (Some(mut outer), Some(inner)) => {
            outer.recursive |= inner.recursive;
            outer.cte_tables.extend(inner.cte_tables);
            Some(outer)
        }
        (outer, inner) => outer.or(inner),
    }
}

/// Gives constants and parameters that a SELECT's items are the types of their columns, and tells which those are.
fn typed_items(query: &mut Query, target: &Target, columns: &[usize]) -> Vec<Given> {
    let SetExpr::Select(select) = query.body.as_mut() else { return Vec::new() };
    let single = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    if !select.projection.iter().all(single) {
        return Vec::new();
    }
    let items = select.projection.iter_mut().zip(columns);
    items
        .map(|(item, column)| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                let (typed, given) = ast::value_for(expr.clone(), &target.columns()[*column]);
                *expr = typed;
                given
            }
            _ => Given::Typed,
        })
        .collect()
}

impl QueriedRows {
    /// Rows of the query as rows of the target.
    pub(super) fn rows(&self, target: &Target, batch: &RecordBatch) -> Result<Rows> {
        let count = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        let mut missing = Vec::with_capacity(self.columns.len());
        for (source, field) in self.columns.iter().zip(target.schema.fields()) {
            match source {
                Some((column, assignment)) => {
                    columns.push(assignment.apply(batch.column(*column))?);
                    missing.push(None);
                }
                None => {
                    columns.push(new_null_array(field.data_type(), count));
                    missing.push(Some(all_missing(count)));
                }
            }
        }
        let batch = RecordBatch::try_new_with_options(Arc::clone(&target.schema), columns, &Target::rows(count))
            .map_err(|e| Error::from_datafusion(e.into(), ""))?;
        Ok(Rows { batch, missing })
    }
}
