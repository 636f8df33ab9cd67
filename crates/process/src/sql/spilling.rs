//! Owns the second try of a query that did not fit into memory: it does one thing after the other, and on the disk.
//!
//! A hash join keeps one of its sides in memory, and sorts side by side share what there is. Where that is too much the
//! query fails before its first row, and is planned again with fewer partitions and small batches, and with joins that
//! sort both sides and merge them, which spill.

use std::any::Any;
use std::sync::{Arc, Weak};
use std::time::Duration;

use datafusion::common::tree_node::TreeNode;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;

/// The fewest partitions for which joins are planned that sort.
const FOR_JOINS: usize = 2;
/// How many ms tasks may take to end.
const LONGEST_WAIT: usize = 2000;
/// Rows of a batch then: what is merged has one of each spilled file in memory.
const BATCH_ROWS: usize = 1024;

/// The state, planning for little memory; `joins` are sorted.
pub(crate) fn sparing(state: &SessionState, joins: bool) -> SessionState {
    let mut state = state.clone();
    let partitions = if joins { FOR_JOINS } else { 1 };
    let config = state.config().clone().with_target_partitions(partitions).with_batch_size(BATCH_ROWS);
    *state.config_mut() = config;
    state.config_mut().options_mut().optimizer.prefer_hash_join = false;
    state
}

/// Returns when all memory of the first try was given back: its tasks end a moment after it failed.
pub(crate) async fn given_back(pool: Weak<dyn MemoryPool>) {
    for _ in 0..LONGEST_WAIT {
        if pool.upgrade().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether a plan keeps a side of a join in memory.
pub(crate) fn has_hash_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let is_one = |node: &Arc<dyn ExecutionPlan>| {
        let any: &dyn Any = node.as_ref();
        Ok(any.is::<HashJoinExec>())
    };
    plan.exists(is_one).unwrap_or(false)
}
