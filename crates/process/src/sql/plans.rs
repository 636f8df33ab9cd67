//! Owns the plans of queries that were prepared lately, for whoever prepares the same text again.
//!
//! Names in a plan are resolved: a plan is good for the state of the catalog that it was made over. These states are
//! counted, and every statement that changes the catalog begins a new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use parking_lot::Mutex;

use super::Prepared;
use crate::dml::SuppliedTable;
use crate::read::{StreamTable, ViewTable};
use crate::tables;

/// Plans that are kept.
const KEPT: usize = 256;

/// Longer texts are planned each time.
const LONGEST_TEXT: usize = 16 * 1024;

/// The newest plans by their text.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    generation: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_text: HashMap<Arc<str>, (Prepared, u64)>,
    uses: u64,
}

impl Plans {
    /// Which state the catalog is in.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The catalog has changed: what was planned before is not used any more.
    pub(crate) fn outdate(&self) {
        let mut kept = self.kept.lock();
        self.generation.fetch_add(1, Ordering::Release);
        kept.by_text.clear();
    }

    /// The plan of a text.
    pub(crate) fn get(&self, text: &str) -> Option<Prepared> {
        let mut kept = self.kept.lock();
        kept.uses += 1;
        let now = kept.uses;
        let (prepared, used) = kept.by_text.get_mut(text)?;
        *used = now;
        Some(prepared.clone())
    }

    /// Keeps a plan over streams and views; the one that was not used for longest goes.
    pub(crate) fn keep(&self, prepared: &Prepared) {
        let fits = match (prepared.planned(), prepared.change()) {
            (Some(query), _) => prepared.tag() == "SELECT" && reads_own_tables(&query.plan),
            (None, Some(change)) => change.plans().into_iter().all(reads_no_others),
            (None, None) => false,
        };
        if !fits || prepared.text().len() > LONGEST_TEXT {
            return;
        }
        let mut kept = self.kept.lock();
        if prepared.generation() != Some(self.generation()) {
            return;
        }
        if kept.by_text.len() >= KEPT
            && let Some(oldest) = kept.by_text.iter().min_by_key(|(_, (_, used))| *used).map(|(text, _)| text.clone())
        {
            kept.by_text.remove(&oldest);
        }
        kept.uses += 1;
        let used = kept.uses;
        kept.by_text.insert(prepared.text().into(), (prepared.clone(), used));
    }
}

/// Whether a plan reads some table, and streams and views alone: other tables may be made anew for each statement.
fn reads_own_tables(plan: &LogicalPlan) -> bool {
    matches!(tables_read(plan), Some((own, 0)) if own > 0)
}

/// Whether a plan reads streams and views alone, if it reads anything.
fn reads_no_others(plan: &LogicalPlan) -> bool {
    matches!(tables_read(plan), Some((_, 0)))
}

/// How many tables a plan reads: those that are kept, and others.
fn tables_read(plan: &LogicalPlan) -> Option<(usize, usize)> {
    let (mut own, mut others) = (0, 0);
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            match is_own(&scan.source) {
                true => own += 1,
                false => others += 1,
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok().then_some((own, others))
}

fn is_own(source: &Arc<dyn TableSource>) -> bool {
    let Ok(provider) = source_as_provider(source) else { return false };
    let any: &dyn std::any::Any = provider.as_ref();
    any.is::<ViewTable>() || any.is::<StreamTable>() || any.is::<tables::TableSource>() || any.is::<SuppliedTable>()
}
