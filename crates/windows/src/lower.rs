//! Owns the plans of TUMBLE, HOP and CUMULATE: filters, projections and unnests over what a call is over.

use datafusion::common::{Column, ExprSchema, TableReference, UnnestOptions};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use crate::argument::Arguments;
use crate::{Error, window_end, window_ends, window_start, window_starts};

const START: &str = "window_start";
const END: &str = "window_end";

/// The list of a row's windows, between the projection that makes it and the unnest that takes it apart.
const WINDOWS: &str = "__windows";

/// What a call is over, without the rows that are in no window.
pub(crate) struct Windowed {
    pub plan: LogicalPlan,
    pub ts: Column,
    /// The input's own columns.
    columns: Vec<Column>,
    /// The one name by which all of the input's columns are known.
    qualifier: Option<TableReference>,
}

impl Windowed {
    pub(crate) fn new(call: &Arguments, input: LogicalPlan, ts: Column) -> Result<Self> {
        let schema = input.schema();
        for name in [START, END] {
            if schema.fields().iter().any(|f| f.name() == name) {
                return Err(Error::DuplicateColumn { function: call.function, column: name }.at(&call.data));
            }
        }
        let columns = schema.columns();
        let mut qualifiers = columns.iter().map(|c| c.relation.as_ref());
        let first = qualifiers.next().flatten().cloned();
        let qualifier = first.filter(|first| qualifiers.all(|other| other == Some(first)));
        let nullable = schema.field_from_column(&ts)?.is_nullable();
        let plan = if nullable {
            LogicalPlanBuilder::from(input).filter(Expr::Column(ts.clone()).is_not_null())?.build()?
        } else {
            input
        };
        Ok(Self { plan, ts, columns, qualifier })
    }

    pub(crate) fn ts(&self) -> Expr {
        Expr::Column(self.ts.clone())
    }

    /// The input's columns and others.
    pub(crate) fn columns_and(&self, others: impl IntoIterator<Item = Expr>) -> Vec<Expr> {
        self.columns.iter().cloned().map(Expr::Column).chain(others).collect()
    }

    /// The input's columns, the start and the end, over a plan that has what the two are made of.
    pub(crate) fn finish(&self, plan: LogicalPlan, start: Expr, end: Expr) -> Result<LogicalPlan> {
        let named = |expr: Expr, name: &str| match &self.qualifier {
            Some(qualifier) => expr.alias_qualified(Some(qualifier.clone()), name),
            None => expr.alias(name),
        };
        let exprs = self.columns_and([named(start, START), named(end, END)]);
        LogicalPlanBuilder::from(plan).project(exprs)?.build()
    }

    /// A row for each item of a list that is computed of each row.
    fn unnested(&self, list: Expr) -> Result<LogicalPlan> {
        let options = UnnestOptions::new().with_preserve_nulls(false);
        LogicalPlanBuilder::from(self.plan.clone())
            .project(self.columns_and([list.alias(WINDOWS)]))?
            .unnest_column_with_options(WINDOWS, options)?
            .build()
    }
}

pub(crate) fn tumble(input: Windowed, size: i64, offset: i64) -> Result<LogicalPlan> {
    let start = window_start(input.ts(), size, offset);
    let end = window_end(start.clone(), size);
    input.finish(input.plan.clone(), start, end)
}

pub(crate) fn hop(input: Windowed, slide: i64, size: i64, offset: i64) -> Result<LogicalPlan> {
    let plan = input.unnested(window_starts(input.ts(), slide, size, offset))?;
    let start = Expr::Column(Column::new_unqualified(WINDOWS));
    let end = window_end(start.clone(), size);
    input.finish(plan, start, end)
}

pub(crate) fn cumulate(input: Windowed, step: i64, size: i64, offset: i64) -> Result<LogicalPlan> {
    let plan = input.unnested(window_ends(input.ts(), step, size, offset))?;
    let start = window_start(input.ts(), size, offset);
    input.finish(plan, start, Expr::Column(Column::new_unqualified(WINDOWS)))
}
