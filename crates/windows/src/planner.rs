//! Owns the planning of calls: the library's hook for the parts of a FROM.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, DFSchema, ExprSchema};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, TableFactor};

use crate::argument::{Arguments, arguments};
use crate::call::{canonical, exposed, relation, table};
use crate::interval::Length;
use crate::lower::{self, Windowed};
use crate::{Error, Function, MOST_WINDOWS, session};

/// Plans the window functions; a statement must have been through [`crate::rewrite`] for its tables to be found.
#[derive(Debug, Clone, Copy, Default)]
pub struct WindowPlanner;

/// Adds the window functions to a context.
pub fn register(context: &SessionContext) -> Result<()> {
    context.register_relation_planner(Arc::new(WindowPlanner))
}

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        canonical(&mut relation);
        let Some(arguments) = arguments(&relation)? else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let TableFactor::Table { alias, .. } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = planned(&arguments, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn planned(call: &Arguments, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let function = call.function;
    let input = context.plan(data(call)?)?;
    let (ts, unit) = timestamp(call, input.schema(), context)?;
    let keys = keys(call, input.schema(), context)?;
    let mut lengths = function
        .intervals()
        .iter()
        .zip(&call.intervals)
        .map(|(name, written)| Length::read(function, name, written, context)?.positive());
    let (first, second) = (lengths.next().transpose()?, lengths.next().transpose()?);
    drop(lengths);
    let offset = match &call.offset {
        Some(written) => Length::read(function, "offset", written, context)?.ticks(unit)?,
        None => 0,
    };
    let windowed = Windowed::new(call, input, ts)?;
    match (function, first, second) {
        (Function::Tumble, Some(size), None) => lower::tumble(windowed, size.ticks(unit)?, offset),
        (Function::Hop, Some(slide), Some(size)) => {
            let slide = slide.at_most(&size)?.within(&size, MOST_WINDOWS)?.ticks(unit)?;
            lower::hop(windowed, slide, size.ticks(unit)?, offset)
        }
        (Function::Cumulate, Some(step), Some(size)) => {
            let step = step.at_most(&size)?.divides(&size)?.within(&size, MOST_WINDOWS)?.ticks(unit)?;
            lower::cumulate(windowed, step, size.ticks(unit)?, offset)
        }
        (Function::Session, Some(gap), None) => session::session(windowed, &keys, gap.ticks(unit)?),
        _ => Err(Error::Arguments { function, cause: "intervals are missing".to_owned() }.at(&call.data)),
    }
}

/// What a call is over, as a part of a FROM.
fn data(call: &Arguments) -> Result<TableFactor> {
    let mut written = &call.data;
    while let SqlExpr::Nested(inner) = written {
        written = inner;
    }
    if let SqlExpr::Subquery(query) = written {
        let derived = || TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None };
        return Ok(exposed(query).cloned().unwrap_or_else(derived));
    }
    relation(written).map(table).ok_or_else(|| {
        let cause = format!("the table is a name or a query in parentheses, and {written} is neither");
        Error::Arguments { function: call.function, cause }.at(written)
    })
}

/// The timestamp column and its unit.
fn timestamp(
    call: &Arguments,
    schema: &DFSchema,
    context: &mut dyn RelationPlannerContext,
) -> Result<(Column, TimeUnit)> {
    let function = call.function;
    let (SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_)) = &call.time else {
        let cause = format!(
            "the timestamp is a column of the table, and {} is not a column; compute it in a query in parentheses",
            call.time
        );
        return Err(Error::Arguments { function, cause }.at(&call.time));
    };
    let columns = || timestamp_columns(schema);
    let undefined = || {
        let column = call.time.to_string();
        Error::UndefinedColumn { function, column, columns: columns() }.at(&call.time)
    };
    let Expr::Column(column) = context.sql_to_expr(call.time.clone(), schema).map_err(|_| undefined())? else {
        return Err(undefined());
    };
    let field = schema.field_from_column(&column).map_err(|_| undefined())?;
    match field.data_type() {
        DataType::Timestamp(unit, _) => Ok((column, *unit)),
        other => {
            let (column, data_type) = (call.time.to_string(), other.to_string());
            Err(Error::NotTimestamp { function, column, data_type, columns: columns() }.at(&call.time))
        }
    }
}

fn timestamp_columns(schema: &DFSchema) -> Vec<String> {
    let timestamps = schema.fields().iter().filter(|f| matches!(f.data_type(), DataType::Timestamp(..)));
    timestamps.map(|f| f.name().clone()).collect()
}

/// The keys of PARTITION BY.
fn keys(call: &Arguments, schema: &DFSchema, context: &mut dyn RelationPlannerContext) -> Result<Vec<Expr>> {
    let mut planned = Vec::new();
    for key in &call.keys {
        let is_name = matches!(key, SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_));
        let expr = context.sql_to_expr(key.clone(), schema);
        // A name that has no type in the input is not in it.
        let typed = expr.and_then(|expr| expr.get_type(schema).map(|_| expr));
        planned.push(typed.map_err(|error| {
            if !is_name {
                return error;
            }
            let columns = schema.fields().iter().map(|f| f.name().clone()).collect();
            Error::UndefinedKey { function: call.function, key: key.to_string(), columns }.at(key)
        })?);
    }
    Ok(planned)
}
