//! Owns the operators that work row by row: they become one plan, the weight travelling along.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection, SubqueryAlias, Union, Unnest};

use super::{Part, column, event_time};
use crate::Result;
use crate::delta::WEIGHT;

/// The schema with the weight behind.
pub(crate) fn weighted(schema: &DFSchemaRef) -> Result<DFSchemaRef> {
    let weight = Arc::new(Field::new(WEIGHT, DataType::Int64, false));
    let fields = schema.iter().map(|(q, f)| (q.cloned(), Arc::clone(f))).chain([(None, weight)]);
    Ok(Arc::new(DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())?))
}

/// The schema without its last column, the weight.
pub(crate) fn unweighted(schema: &DFSchemaRef) -> Result<DFSchemaRef> {
    let fields = schema.iter().take(schema.fields().len() - 1).map(|(q, f)| (q.cloned(), Arc::clone(f)));
    Ok(Arc::new(DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())?))
}

/// The weight column of a part.
fn weight(plan: &LogicalPlan) -> Column {
    column(plan.schema(), plan.schema().fields().len() - 1)
}

/// Projects a part to `exprs` and the weight.
pub(crate) fn project_weighted(part: Part, mut exprs: Vec<Expr>) -> Result<Part> {
    let key = kept_key(&part, &exprs);
    let times = event_time::projected(&exprs, part.plan.schema(), &part.times);
    let weight = weight(&part.plan);
    let unnamed = weight.relation.is_none();
    let weight = Expr::Column(weight);
    exprs.push(if unnamed { weight } else { weight.alias(WEIGHT) });
    let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(part.plan))?);
    Ok(Part { plan, key, times, ..part })
}

/// Whether rows that differ below differ in what is made of them: each column passes.
pub(super) fn tells_apart(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Extension(_) => true,
        LogicalPlan::Filter(filter) => tells_apart(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => tells_apart(&alias.input),
        LogicalPlan::Projection(projection) => {
            let passes = |column: &Column| projection.expr.iter().any(|e| plain(e) == Some(column));
            projection.input.schema().columns().iter().all(passes) && tells_apart(&projection.input)
        }
        _ => false,
    }
}

/// Where the key's columns are behind a projection, if all of them pass it.
fn kept_key(part: &Part, exprs: &[Expr]) -> Option<Vec<usize>> {
    let schema = part.plan.schema();
    let place = |i: &usize| {
        exprs.iter().position(|e| matches!(plain(e), Some(c) if schema.index_of_column(c).is_ok_and(|n| n == *i)))
    };
    part.key.as_ref()?.iter().map(place).collect()
}

/// The column an expression is, under whatever name.
pub(crate) fn plain(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain(&alias.expr),
        _ => None,
    }
}

pub(super) fn project(part: Part, exprs: &[Expr], _input: &LogicalPlan) -> Result<Part> {
    let mut part = project_weighted(part, exprs.to_vec())?;
    part.steps.push(format!("project {}", listed(exprs)));
    Ok(part)
}

pub(super) fn filter(mut part: Part, predicate: Expr) -> Result<Part> {
    part.steps.push(format!("filter {predicate}"));
    part.plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(part.plan))?);
    Ok(part)
}

pub(super) fn alias(part: Part, alias: &SubqueryAlias) -> Result<Part> {
    let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(part.plan), alias.alias.clone())?);
    Ok(Part { plan, ..part })
}

pub(super) fn unnest(mut part: Part, unnest: &Unnest) -> Result<Part> {
    let columns = unnest.exec_columns.iter().map(|c| c.flat_name()).collect::<Vec<_>>();
    part.steps.push(format!("unnest {}", columns.join(", ")));
    let plan = Unnest::try_new(Arc::new(part.plan), unnest.exec_columns.clone(), unnest.options.clone())?;
    let times = event_time::unnested(&plan, &part.times);
    Ok(Part { plan: LogicalPlan::Unnest(plan), key: None, times, ..part })
}

pub(super) fn union(parts: Vec<Part>, union: &Union) -> Result<Part> {
    let schema = weighted(&union.schema)?;
    let mut all = Part {
        plan: LogicalPlan::Union(Union { inputs: vec![], schema }),
        children: vec![],
        grows: true,
        key: None,
        times: event_time::united(parts.iter().map(|part| &part.times)),
        steps: vec!["union".into()],
    };
    let mut inputs = Vec::with_capacity(parts.len());
    for part in parts {
        inputs.push(Arc::new(part.plan));
        all.children.extend(part.children);
        all.grows &= part.grows;
        all.steps.extend(part.steps);
    }
    if let LogicalPlan::Union(union) = &mut all.plan {
        union.inputs = inputs;
    }
    Ok(all)
}

/// The expressions with what each column is made of in its place.
pub(super) fn replaced(exprs: Vec<Expr>, schema: &DFSchema, of: &dyn Fn(usize) -> Expr) -> Option<Vec<Expr>> {
    let replace = |expr: Expr| {
        expr.transform_up(|expr| match &expr {
            Expr::Column(column) => Ok(Transformed::yes(of(schema.index_of_column(column)?))),
            _ => Ok(Transformed::no(expr)),
        })
    };
    exprs.into_iter().map(|expr| Some(replace(expr).ok()?.data)).collect()
}

/// Expressions as a reader would write them, shortened.
pub(crate) fn listed(exprs: &[Expr]) -> String {
    let texts: Vec<String> = exprs.iter().map(|e| e.to_string()).collect();
    texts.join(", ")
}
