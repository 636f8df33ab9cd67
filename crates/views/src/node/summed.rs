//! Owns the node of aggregates that add up: counts, sums and means of rows that come and go, and of distinct values.
//!
//! ```text
//! rows ─┬────────────────────────────────────────► groups ─► values
//!       └─► distinct values of a group, and ──────► ▲
//!           which of their conditions holds
//! ```

use arrow::array::RecordBatch;
use async_trait::async_trait;

use super::groups::{Groups, unit_weights};
use super::{Description, Expiry, Node, Turn};
use crate::Result;
use crate::arrangement::Arrangement;
use crate::delta::repeated;

/// Distinct values with what they are called in EXPLAIN.
#[derive(Debug)]
pub(crate) struct DistinctValues {
    pub(crate) name: String,
    pub(crate) groups: Groups,
}

/// Aggregates whose groups keep a few columns each.
#[derive(Debug)]
pub(crate) struct Summed {
    pub(crate) label: String,
    pub(crate) child: Box<dyn Node>,
    pub(crate) distinct: Vec<DistinctValues>,
    pub(crate) groups: Groups,
    /// Whether the weight is looked at: rows go, or values do.
    pub(crate) signed: bool,
    pub(crate) group_names: Vec<String>,
    pub(crate) expiry: Expiry,
}

impl Summed {
    async fn changed(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let delta = self.child.step(turn).await?;
        let begins = self.groups.is_global() && turn.first;
        let mut rows = Vec::with_capacity(delta.len());
        for batch in delta.iter().filter(|batch| batch.num_rows() > 0) {
            rows.push(if self.signed { unit_weights(batch)? } else { self.unweighted(batch)? });
        }
        if rows.is_empty() && !begins {
            return Ok(vec![]);
        }
        let mut inputs = vec![rows.clone()];
        for values in &mut self.distinct {
            inputs.push(values.groups.absorb(vec![rows.clone()], false, turn).await?);
        }
        self.groups.absorb(inputs, begins, turn).await
    }

    /// Each row as often as it comes; the weight is there still, and nobody looks at it.
    fn unweighted(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if crate::delta::weights_of(batch).values().iter().all(|w| *w == 1) {
            return Ok(batch.clone());
        }
        crate::delta::weighted(&repeated(batch)?, 1)
    }

    fn key(&self) -> String {
        if self.group_names.is_empty() { "one group".into() } else { format!("by {}", self.group_names.join(", ")) }
    }
}

#[async_trait]
impl Node for Summed {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let output = self.changed(turn).await?;
        for (part, at) in self.expiry.passed(turn)? {
            for values in &mut self.distinct {
                values.groups.states().take_below(part, at)?;
            }
            self.groups.states().take_below(part, at)?;
        }
        Ok(output)
    }

    fn describe(&self) -> Description {
        let (key, note) = (self.key(), self.expiry.note());
        let mut state = vec![format!("counts and sums, {key}{note}")];
        for values in &self.distinct {
            state.push(format!("distinct {}, {key}{note}", values.name));
        }
        Description { title: format!("Accumulate: {}", self.label), state }
    }

    fn children(&self) -> Vec<&dyn Node> {
        vec![self.child.as_ref()]
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        vec![&mut self.child]
    }

    fn is_consolidated(&self) -> bool {
        true
    }

    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        self.child.visit_state(visit)?;
        for values in &mut self.distinct {
            visit(values.groups.states())?;
        }
        visit(self.groups.states())
    }
}
