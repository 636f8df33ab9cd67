//! Owns GROUP BY: columns that add up where the aggregates allow it, else partial states where the input only grows, and
//! the rows of each group where it does not.

use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::expr::GroupingSet;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Projection, Union, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::scalar::ScalarValue;

use super::linear::listed;
use super::sums::sums;
use super::{Compiler, Part, Sealed, column, event_time};
use crate::fragment::{Fragment, physical};
use crate::key::Key;
use crate::node::{Accumulate, Keyed, KeyedInput};
use crate::{Error, Result};

impl Compiler<'_> {
    pub(super) async fn aggregate(&mut self, aggregate: &Aggregate) -> Result<Part> {
        if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
            let union = grouping_sets_apart(aggregate, sets)?;
            return self.compile(&union).await;
        }
        if let Some(part) = self.by_session(aggregate).await? {
            return Ok(part);
        }
        let part = self.compile(&aggregate.input).await?;
        if let Some(sums) = sums(aggregate, part.plan.schema(), part.grows) {
            return self.summed(part, aggregate, sums).await;
        }
        if part.grows { self.accumulate(part, aggregate).await } else { self.regroup(part, aggregate).await }
    }

    /// Partial states per group.
    async fn accumulate(&mut self, part: Part, aggregate: &Aggregate) -> Result<Part> {
        let times = event_time::projected(&aggregate.group_expr, part.plan.schema(), &part.times);
        let input = self.seal(part).await?;
        let slot = self.slot(Arc::clone(&input.schema));
        let over_slot = aggregate_over(aggregate, slot.plan())?;
        let plan = physical(&over_slot, self.state).await?;
        let Some(exec) = find_aggregate(&plan) else {
            return Err(Error::not_incremental("this aggregation", "the engine plans it in a form of its own"));
        };
        let keys = exec.group_expr().output_exprs().len();
        let schema = Arc::clone(&aggregate.schema);
        let label = label(aggregate);
        let expiry = self.expiry(&times)?;
        let node = Accumulate::new(exec, slot.cell, input.node, Arc::new(schema.as_arrow().clone()), label, expiry)?;
        let key = Some((0..keys).collect());
        self.part_of(Sealed { node: Box::new(node), schema, grows: false, key, times })
    }

    /// The rows of each group, aggregated again when one of them changes.
    async fn regroup(&mut self, part: Part, aggregate: &Aggregate) -> Result<Part> {
        let (part, keys) = self.with_columns(part, &aggregate.group_expr)?;
        let input = self.seal(part).await?;
        let slot = self.slot(Arc::clone(&input.schema));
        let over_slot = aggregate_over(aggregate, slot.plan())?;
        let fragment = Fragment::plan(&over_slot, vec![slot.cell], self.state).await?;
        let schema = Arc::clone(&aggregate.schema);
        let arrow = Arc::new(schema.as_arrow().clone());
        let groups: Vec<usize> = (0..aggregate.group_expr.len()).collect();
        let output_key = Key::of_columns(&arrow, &groups)?;
        let times = event_time::of_key(&input.times, &keys);
        let input = KeyedInput::new(input, keys)?;
        let node = Keyed::new(label(aggregate), fragment, vec![input], arrow, output_key, None)?;
        let node = Box::new(node.expiring(self.expiry(&times)?));
        self.part_of(Sealed { node, schema, grows: false, key: Some(groups), times })
    }
}

fn aggregate_over(aggregate: &Aggregate, input: LogicalPlan) -> Result<LogicalPlan> {
    let over = Aggregate::try_new_with_schema(
        Arc::new(input),
        aggregate.group_expr.clone(),
        aggregate.aggr_expr.clone(),
        Arc::clone(&aggregate.schema),
    )?;
    Ok(LogicalPlan::Aggregate(over))
}

fn find_aggregate(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    let any: &dyn std::any::Any = plan.as_ref();
    any.downcast_ref::<AggregateExec>()
}

pub(super) fn label(aggregate: &Aggregate) -> String {
    match (aggregate.aggr_expr.as_slice(), aggregate.group_expr.as_slice()) {
        ([], groups) => format!("distinct {}", listed(groups)),
        (aggregates, []) => listed(aggregates),
        (aggregates, groups) => format!("{} by {}", listed(aggregates), listed(groups)),
    }
}

/// GROUPING SETS as a union of ordinary aggregations, each with NULL for the columns it does not group by.
fn grouping_sets_apart(aggregate: &Aggregate, sets: &GroupingSet) -> Result<LogicalPlan> {
    let all: Vec<Expr> = sets.distinct_expr().into_iter().cloned().collect();
    let mut inputs = Vec::new();
    for set in enumerated(sets) {
        let set = each_once(set);
        let one = if set.is_empty() && aggregate.aggr_expr.is_empty() {
            LogicalPlanBuilder::empty(true).build()?
        } else {
            LogicalPlan::Aggregate(Aggregate::try_new(
                Arc::clone(&aggregate.input),
                set.clone(),
                aggregate.aggr_expr.clone(),
            )?)
        };
        inputs.push(Arc::new(set_as_row(aggregate, &all, &set, one)?));
    }
    Ok(LogicalPlan::Union(Union { inputs, schema: Arc::clone(&aggregate.schema) }))
}

fn set_as_row(aggregate: &Aggregate, all: &[Expr], set: &[Expr], one: LogicalPlan) -> Result<LogicalPlan> {
    let schema: &DFSchemaRef = &aggregate.schema;
    let grouped = Arc::clone(one.schema());
    let named = |expr: Expr, i: usize| {
        let (qualifier, field) = schema.qualified_field(i);
        expr.alias_qualified(qualifier.cloned(), field.name())
    };
    let mut exprs = Vec::with_capacity(schema.fields().len());
    let mut id: u64 = 0;
    for (i, expr) in all.iter().enumerate() {
        let place = set.iter().position(|e| e == expr);
        id = id << 1 | u64::from(place.is_none());
        exprs.push(match place {
            Some(n) => named(Expr::Column(column(&grouped, n)), i),
            None => named(lit(ScalarValue::try_from(schema.field(i).data_type())?), i),
        });
    }
    let id_type = schema.field(all.len()).data_type();
    exprs.push(named(lit(ScalarValue::from(id).cast_to(id_type)?), all.len()));
    for n in 0..aggregate.aggr_expr.len() {
        exprs.push(named(Expr::Column(column(&grouped, set.len() + n)), all.len() + 1 + n));
    }
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(one))?))
}

/// The expressions without those that come again: a group has a column once.
fn each_once(exprs: Vec<Expr>) -> Vec<Expr> {
    let mut once: Vec<Expr> = Vec::with_capacity(exprs.len());
    for expr in exprs {
        if !once.contains(&expr) {
            once.push(expr);
        }
    }
    once
}

fn enumerated(sets: &GroupingSet) -> Vec<Vec<Expr>> {
    match sets {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(exprs) => (0..=exprs.len()).rev().map(|n| exprs[..n].to_vec()).collect(),
        GroupingSet::Cube(exprs) => (0..1usize << exprs.len())
            .map(|bits| exprs.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 0).map(|(_, e)| e.clone()).collect())
            .collect(),
    }
}
