//! Owns the pauses that let a query be ended: operators that can turn few rows into many take one now and then.
//!
//! The engine's operators pause where they read. A join of two small inputs reads once and then computes for as long as
//! its product is large; behind it stands a node that gives way after a number of batches.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

/// Operators whose output can be far larger than their input.
const GROWING: [&str; 6] = [
    "NestedLoopJoinExec",
    "CrossJoinExec",
    "HashJoinExec",
    "SortMergeJoinExec",
    "PiecewiseMergeJoinExec",
    "UnnestExec",
];

/// Puts a pause behind every growing operator.
#[derive(Debug)]
pub(crate) struct PauseBehindGrowth;

impl PhysicalOptimizerRule for PauseBehindGrowth {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            Ok(if GROWING.contains(&node.name()) {
                Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)
            } else {
                Transformed::no(node)
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "pause_behind_growth"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
