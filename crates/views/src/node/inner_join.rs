//! Owns the inner join: what is new on one side meets what the other side keeps.
//!
//! With L and R kept and ΔL, ΔR new, the join changes by ΔL ⋈ R + (L + ΔL) ⋈ ΔR.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::keyed::KeyedInput;
use super::{Description, Expiry, Node, Turn};
use crate::Result;
use crate::arrangement::{Arrangement, Found};
use crate::delta::{rows_of, weights_of};

/// Pairs made at once; more come in further batches.
const PAIRS: usize = 64 * 1024;

/// An inner join on equal keys.
#[derive(Debug)]
pub(crate) struct InnerJoin {
    label: String,
    left: KeyedInput,
    right: KeyedInput,
    output: SchemaRef,
    /// Whether NULL meets NULL.
    nulls_meet: bool,
    /// Of the left rows and of the right ones.
    expiry: [Expiry; 2],
}

impl InnerJoin {
    pub(crate) fn new(
        label: String,
        left: KeyedInput,
        right: KeyedInput,
        output: SchemaRef,
        nulls_meet: bool,
        expiry: [Expiry; 2],
    ) -> Self {
        Self { label, left, right, output, nulls_meet, expiry }
    }

    /// Joins new rows of one side with the rows kept of the other.
    fn meet(&self, new: &RecordBatch, kept: &Arrangement, new_is_left: bool) -> Result<Vec<RecordBatch>> {
        let side = if new_is_left { &self.left } else { &self.right };
        let keys = side.rows.key().encode(new)?;
        let mut found = kept.find(&keys);
        if !self.nulls_meet {
            let nulls = side.rows.key().has_null(new);
            if nulls.contains(&true) {
                found = without(found, &nulls);
            }
        }
        let mut joined = Vec::new();
        let mut begin = 0;
        while begin < found.rows.len() {
            let end = (begin + PAIRS).min(found.rows.len());
            joined.push(self.pairs(new, kept, &found.probe[begin..end], &found.rows[begin..end], new_is_left)?);
            begin = end;
        }
        Ok(joined)
    }

    fn pairs(
        &self,
        new: &RecordBatch,
        kept: &Arrangement,
        probe: &[u32],
        rows: &[u32],
        new_is_left: bool,
    ) -> Result<RecordBatch> {
        let probe = UInt32Array::from(probe.to_vec());
        let ours = rows_of(new)?;
        let ours = ours.columns().iter().map(|c| take(c, &probe, None)).collect::<Result<Vec<ArrayRef>, _>>()?;
        let weights: Int64Array = probe.values().iter().map(|i| weights_of(new).value(*i as usize)).collect();
        let theirs = kept.gather(rows)?;
        let theirs = theirs.columns().to_vec();
        let mut columns = if new_is_left { [ours, theirs].concat() } else { [theirs, ours].concat() };
        columns.push(Arc::new(weights));
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

/// What is found of the probe rows that are not left out.
pub(super) fn without(found: Found, left_out: &[bool]) -> Found {
    let pairs = found.probe.into_iter().zip(found.rows).filter(|(i, _)| !left_out[*i as usize]);
    let (probe, rows) = pairs.unzip();
    Found { probe, rows }
}

#[async_trait]
impl Node for InnerJoin {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let new_left = self.left.node.step(turn).await?;
        let new_right = self.right.node.step(turn).await?;
        let mut output = Vec::new();
        for batch in &new_left {
            output.extend(self.meet(batch, &self.right.rows, true)?);
        }
        self.left.take_in(&new_left)?;
        for batch in &new_right {
            output.extend(self.meet(batch, &self.left.rows, false)?);
        }
        self.right.take_in(&new_right)?;
        self.expiry[0].take(&mut self.left.rows, turn)?;
        self.expiry[1].take(&mut self.right.rows, turn)?;
        Ok(output)
    }

    fn describe(&self) -> Description {
        let state = vec![
            format!("left rows, {}{}", self.left.key_names(), self.expiry[0].note()),
            format!("right rows, {}{}", self.right.key_names(), self.expiry[1].note()),
        ];
        Description { title: format!("Join: {}", self.label), state }
    }

    fn children(&self) -> Vec<&dyn Node> {
        vec![self.left.node.as_ref(), self.right.node.as_ref()]
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        vec![&mut self.left.node, &mut self.right.node]
    }

    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        self.left.node.visit_state(visit)?;
        self.right.node.visit_state(visit)?;
        visit(&mut self.left.rows)?;
        visit(&mut self.right.rows)
    }
}
