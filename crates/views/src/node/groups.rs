//! Owns groups whose state is a few columns that merge one by one: by adding, or by the least or the greatest value.
//!
//! ```text
//! rows ─► the engine's aggregation ─► columns of the touched groups ─┐
//!                                     columns kept for them ─────────┴─► merged ─► kept
//!                                                        values before │  │ values now
//!                                                                  −1  ▼  ▼  +1, where they differ
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{and, concat_batches, filter_record_batch, not, take_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;

use super::Turn;
use super::merge::{Merge, merged};
use crate::arrangement::{Arrangement, Goes, NO_ROW};
use crate::delta::{conform, taken, weighted, weights_of};
use crate::fragment::Fragment;
use crate::key::{EncodedRows, Key};
use crate::{Error, Result};

/// What groups are made of.
pub(crate) struct GroupsPlan {
    /// The aggregation: group columns first, then the columns of the state.
    pub(crate) partial: Fragment,
    pub(crate) schema: SchemaRef,
    pub(crate) keys: usize,
    /// By column of the state.
    pub(crate) merges: Vec<Merge>,
    /// The column that counts rows, where they go; a group without rows goes too.
    pub(crate) total: Option<usize>,
    /// The values of a group, from its columns.
    pub(crate) values: Vec<Arc<dyn PhysicalExpr>>,
    /// The output: group columns, values, weight.
    pub(crate) output: SchemaRef,
}

/// Groups with their columns.
#[derive(Debug)]
pub(crate) struct Groups {
    partial: Fragment,
    states: Arrangement,
    keys: usize,
    merges: Vec<Merge>,
    total: Option<usize>,
    values: Vec<Arc<dyn PhysicalExpr>>,
    output: SchemaRef,
}

impl Groups {
    pub(crate) fn new(plan: GroupsPlan) -> Result<Self> {
        let columns: Vec<usize> = (0..plan.keys).collect();
        let key = Key::of_columns(&plan.schema, &columns)?;
        Ok(Self {
            partial: plan.partial,
            states: Arrangement::new(plan.schema, key, Goes::ByKey)?,
            keys: plan.keys,
            merges: plan.merges,
            total: plan.total.map(|n| plan.keys + n),
            values: plan.values,
            output: plan.output,
        })
    }

    pub(crate) fn states(&mut self) -> &mut Arrangement {
        &mut self.states
    }

    /// The group columns, as EXPLAIN names what is kept.
    pub(crate) fn is_global(&self) -> bool {
        self.keys == 0
    }

    /// Takes in rows; gives how the values change. A row's weight is 1 or -1. `begins`: whether the one group that is
    /// there without rows comes now.
    pub(crate) async fn absorb(
        &mut self,
        rows: Vec<Vec<RecordBatch>>,
        begins: bool,
        turn: &Turn,
    ) -> Result<Vec<RecordBatch>> {
        if !begins && rows.iter().all(Vec::is_empty) {
            return Ok(vec![]);
        }
        let schema = Arc::clone(self.states.schema());
        let new = self.partial.run(rows, &turn.context).await?;
        let new = new.iter().map(|batch| conform(batch, &schema)).collect::<Result<Vec<_>>>()?;
        self.merge(concat_batches(&schema, &new)?)
    }

    /// Merges columns, each group once, into those that are kept.
    fn merge(&mut self, new: RecordBatch) -> Result<Vec<RecordBatch>> {
        if new.num_rows() == 0 {
            return Ok(vec![]);
        }
        let keys = self.states.key().encode(&new)?;
        let places = self.states.find_one_each(&keys);
        let known: Vec<u32> = (0..).zip(&places).filter(|(_, row)| **row != NO_ROW).map(|(i, _)| i).collect();
        if known.is_empty() {
            let came = self.present(new)?;
            let output = self.coming(&came)?;
            self.put(keys, came)?;
            return Ok(vec![output]);
        }
        let old: Vec<u32> = places.into_iter().filter(|row| *row != NO_ROW).collect();
        let old = self.states.gather(&old)?;
        if known.len() == new.num_rows() {
            let now = self.merged(&old, &new)?;
            let output = self.differences(&old, &now)?;
            self.keep(keys, now)?;
            return Ok(output);
        }
        let now = self.merged(&old, &taken(&new, &known)?)?;
        let came = self.present(others(&new, &known)?)?;
        let mut output = self.differences(&old, &now)?;
        output.push(self.coming(&came)?);
        let kept = concat_batches(self.states.schema(), [&now, &came])?;
        self.keep(self.states.key().encode(&kept)?, kept)?;
        Ok(output)
    }

    fn coming(&self, groups: &RecordBatch) -> Result<RecordBatch> {
        conform(&weighted(&self.shown(groups)?, 1)?, &self.output)
    }

    /// The columns of groups, old and new added up.
    fn merged(&self, old: &RecordBatch, new: &RecordBatch) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = old.columns()[..self.keys].to_vec();
        for (n, merge) in self.merges.iter().enumerate() {
            let n = self.keys + n;
            columns.push(merged(*merge, old.column(n), new.column(n))?);
        }
        with_rows(self.states.schema(), columns, old.num_rows())
    }

    /// What is shown before and after, of the groups for which it differs.
    fn differences(&self, old: &RecordBatch, now: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let (before, after) = (self.shown(old)?, self.shown(now)?);
        let mut same = BooleanArray::from(vec![true; old.num_rows()]);
        for n in self.keys..before.num_columns() {
            same = and(&same, &not_distinct(before.column(n), after.column(n))?)?;
        }
        let there = self.there(now)?;
        if let Some(there) = &there {
            same = and(&same, there)?;
        }
        let differs = not(&same)?;
        if differs.true_count() == 0 {
            return Ok(vec![]);
        }
        let comes = match &there {
            Some(there) => and(&differs, there)?,
            None => differs.clone(),
        };
        let goes = filter_record_batch(&before, &differs)?;
        let comes = filter_record_batch(&after, &comes)?;
        Ok(vec![conform(&weighted(&goes, -1)?, &self.output)?, conform(&weighted(&comes, 1)?, &self.output)?])
    }

    /// Keeps groups as they are now, under their keys; those without rows go.
    fn keep(&mut self, keys: EncodedRows, groups: RecordBatch) -> Result<()> {
        let Some(there) = self.there(&groups)?.filter(|there| there.false_count() > 0) else {
            return self.put(keys, groups);
        };
        let gone = (0..keys.len()).filter(|i| !there.value(*i)).map(|i| keys.row(i));
        self.states.clear_keys(gone)?;
        self.put(keys, filter_record_batch(&groups, &there)?)
    }

    /// Keeps groups; `keys` are theirs unless some were left out.
    fn put(&mut self, keys: EncodedRows, groups: RecordBatch) -> Result<()> {
        let keys = if keys.len() == groups.num_rows() { keys } else { self.states.key().encode(&groups)? };
        self.states.replace(&keys, groups)
    }

    /// Groups that have rows, of groups that were not there.
    fn present(&self, groups: RecordBatch) -> Result<RecordBatch> {
        match self.there(&groups)? {
            Some(there) if there.false_count() > 0 => Ok(filter_record_batch(&groups, &there)?),
            _ => Ok(groups),
        }
    }

    /// Which groups have rows; `None` when all have. The group of everything is there in any case.
    fn there(&self, groups: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(total) = self.total.filter(|_| self.keys > 0) else { return Ok(None) };
        let totals = groups.column(total).as_primitive::<Int64Type>();
        if totals.values().iter().any(|n| *n < 0) {
            let reason = "a group has rows taken back that it did not have".to_owned();
            return Err(Error::State { node: "an aggregation".into(), reason });
        }
        Ok(Some(totals.values().iter().map(|n| Some(*n > 0)).collect()))
    }

    /// The rows that groups show, without weight.
    fn shown(&self, groups: &RecordBatch) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = groups.columns()[..self.keys].to_vec();
        for value in &self.values {
            columns.push(value.evaluate(groups)?.into_array(groups.num_rows())?);
        }
        let fields: Vec<_> = self.output.fields()[..columns.len()].to_vec();
        with_rows(&Arc::new(arrow::datatypes::Schema::new(fields)), columns, groups.num_rows())
    }
}

fn with_rows(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The rows that are not among these, which are in order.
fn others(rows: &RecordBatch, except: &[u32]) -> Result<RecordBatch> {
    let mut keep = vec![true; rows.num_rows()];
    except.iter().for_each(|i| keep[*i as usize] = false);
    Ok(filter_record_batch(rows, &BooleanArray::from(keep))?)
}

/// Every row as often as it weighs, with a weight of 1 or -1.
pub(crate) fn unit_weights(delta: &RecordBatch) -> Result<RecordBatch> {
    let weights = weights_of(delta);
    if weights.values().iter().all(|w| w.abs() == 1) {
        return Ok(delta.clone());
    }
    let mut places: Vec<u32> = Vec::with_capacity(delta.num_rows());
    for (i, w) in weights.values().iter().enumerate() {
        places.extend(std::iter::repeat_n(i as u32, w.unsigned_abs() as usize));
    }
    let rows = take_record_batch(delta, &UInt32Array::from(places))?;
    let weights = weights_of(&rows).values().iter().map(|w| w.signum()).collect::<Int64Array>();
    let mut columns = rows.columns().to_vec();
    columns.pop();
    columns.push(Arc::new(weights));
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
