//! Owns fragments: parts of a query that the engine's own operators run over and over, each time on other rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use crate::Result;
use crate::slot::{Cell, SlotPlanner};

/// Runs after which the plan's own counters are thrown away, so that they don't grow for ever.
const RUNS: u32 = 256;

/// A physical plan over slots.
#[derive(Debug)]
pub(crate) struct Fragment {
    plan: Arc<dyn ExecutionPlan>,
    cells: Vec<Cell>,
    /// Whether operators keep something from one run to the next that must go: joins do.
    stateful: bool,
    runs: u32,
}

impl Fragment {
    /// Plans `logical`, whose leaves are slots with these cells.
    pub(crate) async fn plan(logical: &LogicalPlan, cells: Vec<Cell>, state: &SessionState) -> Result<Self> {
        let plan = physical(logical, state).await?;
        Ok(Self::of(plan, cells))
    }

    /// A fragment of a plan that is there already.
    pub(crate) fn of(plan: Arc<dyn ExecutionPlan>, cells: Vec<Cell>) -> Self {
        let stateful = !is_plain(&plan);
        Self { plan, cells, stateful, runs: 0 }
    }

    /// Puts rows into the slots, runs the plan, gives what comes out.
    pub(crate) async fn run(
        &mut self,
        inputs: Vec<Vec<RecordBatch>>,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        for (cell, batches) in self.cells.iter().zip(inputs) {
            *cell.lock() = batches;
        }
        self.runs += 1;
        if self.stateful || self.runs >= RUNS {
            self.plan = reset_plan_states(Arc::clone(&self.plan))?;
            self.runs = 0;
        }
        let result = collect(Arc::clone(&self.plan), Arc::clone(context)).await;
        for cell in &self.cells {
            cell.lock().clear();
        }
        let mut batches = result?;
        batches.retain(|b| b.num_rows() > 0);
        Ok(batches)
    }
}

/// The physical plan of a logical plan over slots.
pub(crate) async fn physical(logical: &LogicalPlan, state: &SessionState) -> Result<Arc<dyn ExecutionPlan>> {
    let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(SlotPlanner)]);
    Ok(planner.create_physical_plan(logical, state).await?)
}

/// Whether every operator can be run again as it is.
fn is_plain(plan: &Arc<dyn ExecutionPlan>) -> bool {
    const PLAIN: [&str; 7] = [
        "SlotExec",
        "ProjectionExec",
        "FilterExec",
        "UnnestExec",
        "UnionExec",
        "CoalescePartitionsExec",
        "AggregateExec",
    ];
    PLAIN.contains(&plan.name()) && plan.children().into_iter().all(is_plain)
}
