//! Owns the sharing out of a statement's memory where it is little: what spills has a share that nobody else takes.
//!
//! In a pool for all, a sort that merges what it has spilled takes whatever is there, and a sort on the other side of
//! a join is left without room for a batch. Here every sort and every aggregation of a plan has a share of its own, in
//! which it can go on however much the others take; what they spill may be read in more than one round for that. What
//! else can spill has one share together, and what cannot takes from what is left in the pool of all queries. Shares
//! are of the memory of all: changes that need them run one at a time, and a query beside them may find too little.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::common::resources_datafusion_err;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use parking_lot::Mutex;

/// Percent of the memory of all queries that is shared out; the rest is for what cannot spill, and for others.
const SHARED_OUT: usize = 75;
/// Percent of a sort's share for the rows that it takes in. They are merged with what is left, which holds them once
/// more and their keys in a form that can be compared.
const TAKEN_IN: usize = 30;

/// A pool that shares out what `pool` has among the parts of a plan.
pub(crate) fn shared_out(pool: &Arc<dyn MemoryPool>, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn MemoryPool>> {
    let MemoryLimit::Finite(bytes) = pool.memory_limit() else { return Ok(Arc::clone(pool)) };
    let mut parts = 1;
    plan.apply(|node| {
        let sorts = node.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_none());
        if sorts || node.downcast_ref::<AggregateExec>().is_some() {
            parts += node.output_partitioning().partition_count();
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let whole = MemoryConsumer::new("a statement that spills").register(pool);
    Ok(Arc::new(Shares { whole, share: bytes / 100 * SHARED_OUT / parts, used: Mutex::default() }))
}

/// Memory in shares.
#[derive(Debug)]
struct Shares {
    /// What all have together.
    whole: MemoryReservation,
    share: usize,
    used: Mutex<HashMap<Holder, usize>>,
}

/// Who has a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    /// A consumer, by its number.
    One(usize),
    /// Those that spill and have no share of their own.
    Spilling,
    /// Those that cannot spill.
    Others,
}

impl Shares {
    fn limit(&self, consumer: &MemoryConsumer) -> (Holder, usize) {
        let (name, one) = (consumer.name(), Holder::One(consumer.id()));
        if name.starts_with("ExternalSorterMerge[") {
            return (one, self.share / 100 * (100 - TAKEN_IN));
        }
        if name.starts_with("ExternalSorter[") {
            return (one, self.share / 100 * TAKEN_IN);
        }
        match consumer.can_spill() {
            true if name.contains("Aggregate") => (one, self.share),
            true => (Holder::Spilling, self.share),
            false => (Holder::Others, usize::MAX),
        }
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shares of {} bytes", self.share)
    }
}

impl MemoryPool for Shares {
    fn name(&self) -> &str {
        "shares"
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.used.lock().remove(&Holder::One(consumer.id()));
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        let (holder, _) = self.limit(reservation.consumer());
        *self.used.lock().entry(holder).or_default() += additional;
        self.whole.grow(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let (holder, _) = self.limit(reservation.consumer());
        if let Some(used) = self.used.lock().get_mut(&holder) {
            *used = used.saturating_sub(shrink);
        }
        self.whole.shrink(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (holder, most) = self.limit(reservation.consumer());
        let mut used = self.used.lock();
        let used = used.entry(holder).or_default();
        if used.saturating_add(additional) > most {
            let name = reservation.consumer().name();
            return Err(resources_datafusion_err!(
                "{name} has {used} bytes and needs {additional} more, of {most} that are its share"
            ));
        }
        self.whole.try_grow(additional)?;
        *used += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.whole.size()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.share)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    fn shares(bytes: usize, share: usize) -> (Arc<dyn MemoryPool>, Arc<dyn MemoryPool>) {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(bytes));
        let whole = MemoryConsumer::new("whole").register(&pool);
        (Arc::new(Shares { whole, share, used: Mutex::default() }), pool)
    }

    fn spilling(name: &str, pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
        MemoryConsumer::new(name).with_can_spill(true).register(pool)
    }

    #[test]
    fn a_sort_has_its_share_whatever_the_others_take() {
        let (shares, pool) = shares(1000, 200);
        let (left, right) = (spilling("ExternalSorter[0]", &shares), spilling("ExternalSorter[0]", &shares));
        let merge = MemoryConsumer::new("ExternalSorterMerge[0]").register(&shares);
        assert!(merge.try_grow(141).is_err());
        merge.try_grow(140).unwrap();
        left.try_grow(60).unwrap();
        let half = left.split(30);
        assert!(half.try_grow(1).is_err(), "its parts have one share together");
        right.try_grow(60).unwrap();
        drop((half, left));
        assert_eq!((shares.reserved(), pool.reserved()), (200, 200));
        drop((right, merge));
        assert_eq!((shares.reserved(), pool.reserved()), (0, 0));
    }

    #[test]
    fn what_else_spills_shares_and_what_does_not_takes_what_the_pool_has() {
        let (shares, pool) = shares(1000, 200);
        let (one, other) = (spilling("RepartitionExec[0]", &shares), spilling("RepartitionExec[1]", &shares));
        one.try_grow(150).unwrap();
        assert!(other.try_grow(51).is_err());
        other.try_grow(50).unwrap();
        let aggregate = spilling("GroupedHashAggregateStream[0]", &shares);
        aggregate.try_grow(200).unwrap();
        let fixed = MemoryConsumer::new("SMJStream[0]").register(&shares);
        fixed.try_grow(600).unwrap();
        assert!(fixed.try_grow(1).is_err());
        assert_eq!(pool.reserved(), 1000);
        one.free();
        fixed.try_grow(150).unwrap();
    }
}
