//! Owns putting a view's query in the place of the view, in the plan of a stream's query.
//!
//! The positions of a stream's query are in its state, and have to mean the same after a restart. A place in a view's
//! changelog may be gone by then, and the view built anew; the streams that the view reads stay: so they are what the
//! stream's query reads. The same goes for EMIT ON WINDOW CLOSE and for lookups, since closed windows and what was
//! looked up stay as they are through restarts.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableScan};
use futures::future::BoxFuture;
use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectName, View};
use millstream_views::tables_looked_up;

use super::open::OpenView;
use super::plan::{object_name, plan_of, tables};
use crate::engine::Shared;
use crate::{Error, Result};

/// The plan over streams alone.
pub(super) fn over_streams<'a>(shared: &'a Shared, plan: LogicalPlan) -> BoxFuture<'a, Result<LogicalPlan>> {
    Box::pin(async move {
        let mut below: Vec<(ObjectName, LogicalPlan)> = Vec::new();
        for name in tables(&plan).iter().filter_map(object_name) {
            if let Some(view) = shared.view(&name).filter(|_| !below.iter().any(|(n, _)| *n == name)) {
                below.push((name, query_of(shared, &view.definition()).await?));
            }
        }
        if below.is_empty() {
            return Ok(plan);
        }
        let below_of = |scan: &TableScan| {
            let name = object_name(&scan.table_name)?;
            below.iter().find(|(n, _)| *n == name).map(|(_, plan)| plan.clone())
        };
        let plan = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::TableScan(scan) => match below_of(&scan) {
                Some(query) => Ok(Transformed::yes(in_place_of(&scan, query)?)),
                None => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
            },
            // Columns of a query may be sure not to be NULL where those of a view are not.
            other => Ok(Transformed::yes(other.recompute_schema()?)),
        });
        Ok(plan.map_err(|e| Error::from_datafusion(e, ""))?.data)
    })
}

/// The plan of a view's query, with the view's columns, over streams alone.
async fn query_of(shared: &Shared, view: &View) -> Result<LogicalPlan> {
    if view.emit_on_window_close {
        return Err(Error::rejected(
            Code::Unsupported,
            format!(
                "materialized view {0} shows closed windows only (EMIT ON WINDOW CLOSE), and cannot be read here: make \
                 it a stream, CREATE STREAM … AS with the query of {0}, and read that",
                view.name
            ),
        ));
    }
    let plan = plan_of(shared, view).await?;
    if !tables_looked_up(&plan).is_empty() {
        return Err(Error::rejected(
            Code::Unsupported,
            format!(
                "materialized view {0} has what its rows looked up when they came (FOR SYSTEM_TIME AS OF PROCTIME()), \
                 and cannot be read here: make it a stream, CREATE STREAM … AS with the query of {0}, and read that",
                view.name
            ),
        ));
    }
    over_streams(shared, plan).await
}

fn in_place_of(scan: &TableScan, query: LogicalPlan) -> PlanResult<LogicalPlan> {
    let mut rows = LogicalPlanBuilder::from(query);
    if let Some(columns) = &scan.projection {
        rows = rows.select(columns.clone())?;
    }
    for filter in &scan.filters {
        rows = rows.filter(filter.clone())?;
    }
    rows.alias(scan.table_name.clone())?.build()
}

/// A stream whose query has that of a view in it: it reads the view, directly or through other views.
pub(super) fn stream_over(shared: &Shared, view: &OpenView) -> Option<ObjectName> {
    let mut above: Vec<Arc<OpenView>> = vec![];
    shared.add_dependents_of(view.definition().object(), &mut above);
    above.into_iter().find(|v| v.stream().is_some()).map(|v| v.name())
}
