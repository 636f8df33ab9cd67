//! Owns the way from aggregates that add up to their node.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, Projection, Union, lit};
use datafusion::scalar::ScalarValue;

use super::linear::listed;
use super::sums::{Does, SumColumn, Sums, Values, computed, value, when};
use super::{Compiler, Part, Sealed, event_time, linear};
use crate::Result;
use crate::delta::WEIGHT;
use crate::fragment::Fragment;
use crate::node::{DistinctValues, Groups, GroupsPlan, Merge, Summed};
use crate::slot::Cell;

impl Compiler<'_> {
    /// Aggregates that add up.
    pub(super) async fn summed(&mut self, part: Part, aggregate: &Aggregate, sums: Sums) -> Result<Part> {
        let times = event_time::projected(&aggregate.group_expr, part.plan.schema(), &part.times);
        let grows = part.grows && aggregate.aggr_expr.is_empty();
        let input = self.seal(arguments(part, aggregate, &sums)?).await?;
        let mut distinct = Vec::with_capacity(sums.distinct.len());
        let mut outputs = Vec::with_capacity(sums.distinct.len());
        for (number, values) in sums.distinct.iter().enumerate() {
            let (groups, output) = self.distinct(aggregate, &input.schema, number, values).await?;
            distinct.push(DistinctValues { name: listed(std::slice::from_ref(&values.of)), groups });
            outputs.push(output);
        }
        let (rows, cells) = self.all_rows(aggregate, &sums, &input.schema, &outputs)?;
        let groups = self.sums_of(aggregate, &sums, rows, cells).await?;
        let node = Summed {
            label: super::aggregate::label(aggregate),
            child: input.node,
            distinct,
            groups,
            signed: sums.signed,
            group_names: aggregate.group_expr.iter().map(group_label).collect(),
            expiry: self.expiry(&times)?,
        };
        let key = Some((0..aggregate.group_expr.len()).collect());
        let schema = Arc::clone(&aggregate.schema);
        self.part_of(Sealed { node: Box::new(node), schema, grows, key, times })
    }

    /// The distinct values of a group, and the columns of what they give out.
    async fn distinct(
        &mut self,
        aggregate: &Aggregate,
        rows: &DFSchemaRef,
        number: usize,
        values: &Values,
    ) -> Result<(Groups, DFSchemaRef)> {
        let slot = self.slot(linear::weighted(rows)?);
        let mut keys = group_columns(aggregate);
        keys.push(named(&value_name(number)));
        let counts = (0..values.conditions.len()).map(|n| {
            let held = when(named(&condition_name(number, n)), lit(1_i64), rows)?;
            Ok(computed(Does::Count, held, true).alias(sum_name(n)))
        });
        let mut counts = counts.collect::<Result<Vec<Expr>>>()?;
        let conditions = counts.len();
        counts.push(computed(Does::Count, lit(1_i64), true).alias(sum_name(conditions)));
        let groups = keys.len();
        let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(slot.plan()), keys, counts)?);
        let schema = Arc::clone(plan.schema());
        let holds: Vec<Expr> = (0..conditions).map(|n| named(&sum_name(n)).gt(lit(0_i64))).collect();
        let names = holds.iter().enumerate().map(|(n, holds)| holds.clone().alias(holds_name(n)));
        let shown = schema.columns().into_iter().take(groups).map(Expr::Column).chain(names).collect();
        let shown = Projection::try_new(shown, Arc::new(plan.clone()))?.schema;
        let partial = Fragment::plan(&plan, vec![slot.cell], self.state).await?;
        let plan = GroupsPlan {
            partial,
            schema: Arc::new(schema.as_arrow().clone()),
            keys: groups,
            merges: vec![Merge::Add; conditions + 1],
            total: Some(conditions),
            values: holds
                .into_iter()
                .map(|holds| self.state.create_physical_expr(holds, &schema))
                .collect::<Result<_, _>>()?,
            output: Arc::new(linear::weighted(&shown)?.as_arrow().clone()),
        };
        Ok((Groups::new(plan)?, linear::weighted(&shown)?))
    }

    /// The rows that the groups are made of, with a column for each of theirs: those of the input, and the distinct
    /// values.
    fn all_rows(
        &mut self,
        aggregate: &Aggregate,
        sums: &Sums,
        input: &DFSchemaRef,
        distinct: &[DFSchemaRef],
    ) -> Result<(LogicalPlan, Vec<Cell>)> {
        let slot = self.slot(linear::weighted(input)?);
        if distinct.is_empty() {
            return Ok((slot.plan(), vec![slot.cell]));
        }
        let types: Vec<DataType> = sums.columns.iter().map(|c| type_of(c, sums, input)).collect::<Result<_>>()?;
        let own = |c: &SumColumn| Ok(c.of.is_none().then(|| argument(&c.argument, sums)));
        let mut branches = vec![branch(aggregate, sums, slot.plan(), &types, &own)?];
        let mut cells = vec![slot.cell];
        for (number, schema) in distinct.iter().enumerate() {
            let slot = self.slot(Arc::clone(schema));
            let of = |c: &SumColumn| match c.of {
                Some((values, condition)) if values == number => {
                    Ok(Some(when(named(&holds_name(condition)), named(&value_name(number)), schema)?))
                }
                _ => Ok(None),
            };
            branches.push(branch(aggregate, sums, slot.plan(), &types, &of)?);
            cells.push(slot.cell);
        }
        let union = Union::try_new_with_loose_types(branches.into_iter().map(Arc::new).collect())?;
        Ok((LogicalPlan::Union(union), cells))
    }

    /// The groups over these rows.
    async fn sums_of(&self, aggregate: &Aggregate, sums: &Sums, rows: LogicalPlan, cells: Vec<Cell>) -> Result<Groups> {
        let united = !sums.distinct.is_empty();
        let columns = sums.columns.iter().enumerate().map(|(n, column)| {
            let argument = if united { named(&sum_name(n)) } else { argument(&column.argument, sums) };
            computed(column.does, argument, sums.signed).alias(sum_name(n))
        });
        let plan = Aggregate::try_new(Arc::new(rows), group_columns(aggregate), columns.collect())?;
        let plan = LogicalPlan::Aggregate(plan);
        let schema = Arc::clone(plan.schema());
        let keys = aggregate.group_expr.len();
        let column = |n: usize| Expr::Column(super::column(&schema, keys + n));
        let results = sums.results.iter().enumerate().map(|(n, outcome)| {
            let data_type = aggregate.schema.field(keys + n).data_type();
            self.state.create_physical_expr(value(outcome, &column, data_type), &schema)
        });
        Groups::new(GroupsPlan {
            partial: Fragment::plan(&plan, cells, self.state).await?,
            schema: Arc::new(schema.as_arrow().clone()),
            keys,
            merges: sums.merges(),
            total: sums.total,
            values: results.collect::<Result<_, _>>()?,
            output: Arc::new(linear::weighted(&aggregate.schema)?.as_arrow().clone()),
        })
    }
}

/// The part with the columns that the aggregates need: groups, arguments, distinct values and their conditions.
fn arguments(part: Part, aggregate: &Aggregate, sums: &Sums) -> Result<Part> {
    let mut exprs: Vec<Expr> =
        aggregate.group_expr.iter().enumerate().map(|(n, e)| e.clone().alias(group_name(n))).collect();
    for (n, argument) in own_arguments(sums).into_iter().enumerate() {
        exprs.push(argument.clone().alias(argument_name(n)));
    }
    for (number, values) in sums.distinct.iter().enumerate() {
        exprs.push(values.of.clone().alias(value_name(number)));
        for (n, condition) in values.conditions.iter().enumerate() {
            exprs.push(condition.clone().alias(condition_name(number, n)));
        }
    }
    linear::project_weighted(part, exprs)
}

/// Rows with a column for each of the groups' columns: what `argument` says, or NULL.
fn branch(
    aggregate: &Aggregate,
    sums: &Sums,
    rows: LogicalPlan,
    types: &[DataType],
    argument: &dyn Fn(&SumColumn) -> Result<Option<Expr>>,
) -> Result<LogicalPlan> {
    let mut exprs = group_columns(aggregate);
    for ((n, column), data_type) in sums.columns.iter().enumerate().zip(types) {
        let value = match argument(column)? {
            Some(value) => value,
            None => lit(ScalarValue::try_from(data_type)?),
        };
        exprs.push(value.alias(sum_name(n)));
    }
    exprs.push(named(WEIGHT));
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(rows))?))
}

fn type_of(column: &SumColumn, sums: &Sums, input: &DFSchema) -> Result<DataType> {
    Ok(match column.of {
        Some((number, _)) => named(&value_name(number)).get_type(input)?,
        None => argument(&column.argument, sums).get_type(input)?,
    })
}

/// What is computed of the input's rows for the groups, each once. Constants are not carried along.
fn own_arguments(sums: &Sums) -> Vec<&Expr> {
    let mut arguments: Vec<&Expr> = Vec::new();
    let own = sums.columns.iter().filter(|c| c.of.is_none()).map(|c| &c.argument);
    for argument in own.filter(|a| !matches!(a, Expr::Literal(..))) {
        if !arguments.contains(&argument) {
            arguments.push(argument);
        }
    }
    arguments
}

/// An argument as the prepared rows have it.
fn argument(argument: &Expr, sums: &Sums) -> Expr {
    match own_arguments(sums).iter().position(|known| *known == argument) {
        Some(n) => named(&argument_name(n)),
        None => argument.clone(),
    }
}

/// A group expression, as EXPLAIN shows what is kept.
fn group_label(expr: &Expr) -> String {
    match expr {
        Expr::Column(column) => column.name.clone(),
        other => other.schema_name().to_string(),
    }
}

fn group_columns(aggregate: &Aggregate) -> Vec<Expr> {
    (0..aggregate.group_expr.len()).map(|n| named(&group_name(n))).collect()
}

fn named(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn group_name(n: usize) -> String {
    format!("__g{n}")
}

fn argument_name(n: usize) -> String {
    format!("__a{n}")
}

fn value_name(number: usize) -> String {
    format!("__v{number}")
}

fn condition_name(number: usize, n: usize) -> String {
    format!("__v{number}_{n}")
}

fn holds_name(n: usize) -> String {
    format!("__h{n}")
}

fn sum_name(n: usize) -> String {
    format!("__s{n}")
}
