//! Owns further tries of a query that did not fit into memory: it does one thing after the other, and on the disk.
//!
//! A hash join keeps one of its sides in memory, and sorts side by side share what there is. Where that is too much the
//! query fails before its first row, and is planned again with fewer partitions and small batches that hold nothing
//! else (`compact.rs`), with joins that sort both sides and merge them, which spill, and with a share of the memory for
//! each part that spills (`shares.rs`). Where a batch of very wide rows does not fit into a share, a last try takes a few
//! rows at a time.

use std::any::Any;
use std::sync::{Arc, Weak};
use std::time::Duration;

use datafusion::common::tree_node::TreeNode;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;

use super::compact::CompactRows;

/// The fewest partitions for which joins are planned that sort.
const FOR_JOINS: usize = 2;
/// How many ms tasks may take to end.
const LONGEST_WAIT: usize = 2000;
/// Rows of a batch then, at most: what is merged has some of each spilled file in memory.
const BATCH_ROWS: usize = 512;
/// Rows of a batch in the smallest memories.
const FEWEST_ROWS: usize = 128;
/// Bytes of the memory of all queries for each row of a batch.
const BYTES_A_ROW: usize = 64 << 10;

/// How many tries on the disk there are.
pub(crate) const SPARING_TRIES: usize = 2;

/// The state, planning for little memory, less with each try from 0 on; `joins` are sorted.
pub(crate) fn sparing(state: &SessionState, joins: bool, tries: usize) -> SessionState {
    let compact = Arc::new(CompactRows);
    let mut state = SessionStateBuilder::new_from_existing(state.clone()).with_physical_optimizer_rule(compact).build();
    let partitions = if joins { FOR_JOINS } else { 1 };
    let rows = match state.runtime_env().memory_pool.memory_limit() {
        MemoryLimit::Finite(bytes) => (bytes / BYTES_A_ROW).clamp(FEWEST_ROWS, BATCH_ROWS),
        _ => BATCH_ROWS,
    };
    let config = state.config().clone().with_target_partitions(partitions).with_batch_size(rows >> (4 * tries));
    *state.config_mut() = config;
    let options = state.config_mut().options_mut();
    options.optimizer.prefer_hash_join = false;
    // Batches that are joined before they are sorted come out in pieces, and each is charged for all.
    options.execution.sort_in_place_threshold_bytes = 0;
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
