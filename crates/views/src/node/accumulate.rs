//! Owns the accumulating node: aggregates over input that only grows.
//!
//! ```text
//! delta ─► Partial ─► states of the touched groups ─┐
//!                     states kept for them ─────────┴─► PartialReduce ─► kept ─► Final ─► + new rows
//!                                           └──────────────────────────────────► Final ─► − old rows
//! ```

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};

use super::rows::run_by_row;
use super::{Description, Expiry, Node, Turn};
use crate::Result;
use crate::arrangement::{Arrangement, Goes, NO_ROW};
use crate::delta::{conform, consolidate, repeated, weighted, weighted_schema};
use crate::fragment::Fragment;
use crate::key::Key;
use crate::slot::{Cell, SlotExec};

/// Aggregates with one partial state per group.
#[derive(Debug)]
pub(crate) struct Accumulate {
    label: String,
    child: Box<dyn Node>,
    partial: Fragment,
    reduce: Fragment,
    last: Fragment,
    /// The partial states: group columns, then the aggregates' state columns.
    states: Arrangement,
    output: SchemaRef,
    /// Whether there is a row even without input.
    global: bool,
    expiry: Expiry,
}

impl Accumulate {
    pub(crate) fn new(
        exec: &AggregateExec,
        input: Cell,
        child: Box<dyn Node>,
        output: SchemaRef,
        label: String,
        expiry: Expiry,
    ) -> Result<Self> {
        let group = exec.group_expr().clone();
        let merged = group.as_final();
        let aggregates = exec.aggr_expr().to_vec();
        let partial = AggregateExec::try_new(
            AggregateMode::Partial,
            group.clone(),
            aggregates.clone(),
            exec.filter_expr().to_vec(),
            Arc::clone(exec.input()),
            exec.input_schema(),
        )?;
        let state_schema = datafusion::physical_plan::ExecutionPlan::schema(&partial);
        let over_states = |mode: AggregateMode| -> Result<Fragment> {
            let cell = Cell::default();
            let slot = Arc::new(SlotExec::new(Arc::clone(&state_schema), Arc::clone(&cell)));
            let none = vec![None; aggregates.len()];
            let exec =
                AggregateExec::try_new(mode, merged.clone(), aggregates.clone(), none, slot, exec.input_schema())?;
            Ok(Fragment::of(Arc::new(exec), vec![cell]))
        };
        let keys: Vec<usize> = (0..group.output_exprs().len()).collect();
        let key = Key::of_columns(&state_schema, &keys)?;
        Ok(Self {
            label,
            child,
            reduce: over_states(AggregateMode::PartialReduce)?,
            last: over_states(AggregateMode::Final)?,
            partial: Fragment::of(Arc::new(partial), vec![input]),
            states: Arrangement::new(state_schema, key, Goes::ByKey)?,
            output: weighted_schema(&output),
            global: keys.is_empty(),
            expiry,
        })
    }

    /// The aggregates' values for these states.
    async fn finish(&mut self, states: RecordBatch, weight: i64, turn: &Turn) -> Result<Vec<RecordBatch>> {
        if states.num_rows() == 0 {
            return Ok(vec![]);
        }
        let rows = self.last.run(vec![vec![states]], &turn.context).await?;
        rows.iter().map(|b| conform(&weighted(b, weight)?, &self.output)).collect()
    }

    /// The new states of the groups that the delta touches, one row each.
    async fn touched(&mut self, partial: RecordBatch, old: &RecordBatch, turn: &Turn) -> Result<RecordBatch> {
        let schema = Arc::clone(self.states.schema());
        // A partial run over one batch has each group once; more of them, or kept states, have to be merged. Some
        // aggregates can't merge nothing.
        let states = [old.clone(), partial].into_iter().filter(|b| b.num_rows() > 0).collect();
        let merged = self.reduce.run(vec![states], &turn.context).await?;
        let merged: Vec<RecordBatch> = merged.iter().map(|b| conform(b, &schema)).collect::<Result<_>>()?;
        Ok(concat_batches(&schema, &merged)?)
    }

    async fn changed(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let delta = self.child.step(turn).await?;
        let begins = self.global && turn.first;
        if delta.is_empty() && !begins {
            return Ok(vec![]);
        }
        let rows = delta.iter().filter(|b| b.num_rows() > 0).map(repeated).collect::<Result<Vec<_>>>()?;
        let partials = if begins && rows.is_empty() {
            self.partial.run(vec![vec![]], &turn.context).await?
        } else {
            let partials = run_by_row(&mut self.partial, vec![rows], turn).await?;
            // Every row may have been refused.
            if begins && partials.is_empty() { self.partial.run(vec![vec![]], &turn.context).await? } else { partials }
        };
        let schema = Arc::clone(self.states.schema());
        let partials: Vec<RecordBatch> = partials.iter().map(|b| conform(b, &schema)).collect::<Result<_>>()?;
        let partial = concat_batches(&schema, &partials)?;
        if partial.num_rows() == 0 {
            return Ok(vec![]);
        }
        let keys = self.states.key().encode(&partial)?;
        let mut old_rows = self.states.find_one_each(&keys);
        old_rows.retain(|row| *row != NO_ROW);
        old_rows.sort_unstable();
        old_rows.dedup();
        let old = self.states.gather(&old_rows)?;
        let new = self.touched(partial, &old, turn).await?;
        let mut output = self.finish(new.clone(), 1, turn).await?;
        let replaces = old.num_rows() > 0;
        output.extend(self.finish(old, -1, turn).await?);
        let keys = self.states.key().encode(&new)?;
        self.states.replace(&keys, new)?;
        // Groups whose values are what they were change nothing above.
        if replaces { Ok(vec![consolidate(&self.output, &output)?]) } else { Ok(output) }
    }
}

#[async_trait]
impl Node for Accumulate {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let output = self.changed(turn).await?;
        self.expiry.take(&mut self.states, turn)?;
        Ok(output)
    }

    fn describe(&self) -> Description {
        let names: Vec<String> =
            self.states.key().columns().iter().map(|c| self.states.schema().field(*c).name().clone()).collect();
        let key = if names.is_empty() { "one group".to_owned() } else { format!("by {}", names.join(", ")) };
        Description {
            title: format!("Accumulate: {}", self.label),
            state: vec![format!("partial states, {key}{}", self.expiry.note())],
        }
    }

    fn children(&self) -> Vec<&dyn Node> {
        vec![self.child.as_ref()]
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        vec![&mut self.child]
    }

    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        self.child.visit_state(visit)?;
        visit(&mut self.states)
    }
}
