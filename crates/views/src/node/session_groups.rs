//! Owns the node of aggregates by session, of rows that only come: a session keeps where it begins, its last time, and a
//! few columns that merge one by one.
//!
//! New rows of a key are cut into sessions of their own; those that lie less than the gap from kept ones, or join two of
//! them, are merged with these. So a row costs no more in a long session than in a short one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, interleave, take};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::physical_expr::PhysicalExpr;

use super::merge::{Merge, merged};
use super::rows::refuse;
use super::{Description, Node, Turn};
use crate::Result;
use crate::arrangement::{Arrangement, Goes};
use crate::delta::{conform, repeated, taken, weighted};
use crate::fragment::Fragment;
use crate::key::Key;

/// A column of the output, by where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionColumn {
    Key(usize),
    Start,
    End,
}

/// What sessions are made of.
pub(crate) struct SessionPlan {
    /// Keys, the time, arguments, and behind them the start of the rows' session: aggregated to keys, start, last time
    /// and the columns of the state.
    pub(crate) partial: Fragment,
    pub(crate) schema: SchemaRef,
    /// The columns before the weight, of the rows below.
    pub(crate) input: SchemaRef,
    pub(crate) keys: usize,
    /// In the unit of the time.
    pub(crate) gap: i64,
    pub(crate) merges: Vec<Merge>,
    pub(crate) groups: Vec<SessionColumn>,
    pub(crate) values: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) output: SchemaRef,
}

/// Aggregates by session.
pub(crate) struct SessionGroups {
    label: String,
    child: Box<dyn Node>,
    plan: SessionPlan,
    /// Orders keys among the rows of a step.
    rows_key: Key,
    kept: Arrangement,
}

impl std::fmt::Debug for SessionGroups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionGroups").field("label", &self.label).field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// A session among kept ones and new ones.
struct Part {
    key: u32,
    start: i64,
    last: i64,
    row: u32,
}

impl SessionGroups {
    pub(crate) fn new(label: String, child: Box<dyn Node>, plan: SessionPlan) -> Result<Self> {
        let keys: Vec<usize> = (0..plan.keys).collect();
        let rows_key = Key::of_columns(&plan.input, &keys)?;
        let kept = Arrangement::new(Arc::clone(&plan.schema), Key::of_columns(&plan.schema, &keys)?, Goes::Never)?;
        Ok(Self { label, child, plan, rows_key, kept })
    }

    async fn changed(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let delta = self.child.step(turn).await?;
        let input = &self.plan.input;
        let rows = delta.iter().map(|batch| conform(&repeated(batch)?, input)).collect::<Result<Vec<_>>>()?;
        let rows = self.with_an_end(concat_batches(input, &rows)?, turn)?;
        if rows.num_rows() == 0 {
            return Ok(vec![]);
        }
        let cut = self.cut(&rows)?;
        let new = self.plan.partial.run(vec![vec![cut]], &turn.context).await?;
        let schema = Arc::clone(&self.plan.schema);
        let new = new.iter().map(|batch| conform(batch, &schema)).collect::<Result<Vec<_>>>()?;
        self.merge(concat_batches(&schema, &new)?)
    }

    /// Rows whose session ends at a time that can be said; others are refused.
    fn with_an_end(&self, rows: RecordBatch, turn: &Turn) -> Result<RecordBatch> {
        let times = ticks(rows.column(self.plan.keys))?;
        let fits = |i: &u32| times.value(*i as usize).checked_add(self.plan.gap).is_some();
        let all = 0..rows.num_rows() as u32;
        if all.clone().all(|i| fits(&i)) {
            return Ok(rows);
        }
        for i in all.clone().filter(|i| !fits(i)) {
            let reason = "the end of its session is outside of the range of its type".to_owned();
            refuse(&rows.slice(i as usize, 1), &datafusion::error::DataFusionError::Execution(reason), turn)?;
        }
        taken(&rows, &all.filter(fits).collect::<Vec<_>>())
    }

    /// The rows with the start of the session that they are in by themselves, and a weight that nobody looks at.
    fn cut(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let (keys, _) = self.rows_key.encode(rows)?.numbered();
        let times = ticks(rows.column(self.plan.keys))?;
        let mut order: Vec<(u32, i64, u32)> =
            keys.into_iter().zip(times.values()).zip(0..).map(|((key, time), row)| (key, *time, row)).collect();
        order.sort_unstable();
        let mut starts = vec![0; rows.num_rows()];
        let mut before: Option<(u32, i64)> = None;
        let mut start = 0;
        for (key, time, row) in order {
            if before.is_none_or(|(of, last)| of != key || last + self.plan.gap <= time) {
                start = time;
            }
            starts[row as usize] = start;
            before = Some((key, time));
        }
        let starts = cast(&Int64Array::from(starts), rows.column(self.plan.keys).data_type())?;
        let schema = weighted(rows, 1)?.schema();
        let mut columns = rows.columns().to_vec();
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        let start = self.plan.schema.field(self.plan.keys).clone();
        fields.insert(columns.len(), Arc::new(start.with_name(SESSION_START).with_nullable(true)));
        columns.push(starts);
        columns.push(Arc::new(Int64Array::from_value(1, rows.num_rows())));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// Merges new sessions with those they touch.
    fn merge(&mut self, new: RecordBatch) -> Result<Vec<RecordBatch>> {
        let keys = self.kept.key().encode(&new)?;
        let (numbers, firsts) = keys.numbered();
        let found = self.kept.find_keys(firsts.iter().map(|i| keys.row(*i)));
        let old = self.kept.gather(&found.rows)?;
        let before = old.num_rows() as u32;
        let all = concat_batches(&self.plan.schema, [&old, &new])?;
        let parts = self.parts(&all, found.probe.iter().chain(&numbers))?;
        let sessions: Vec<&[Part]> = touching(&parts, self.plan.gap)
            .into_iter()
            .filter(|session| session.iter().any(|part| part.row >= before))
            .collect();
        let goes = sessions.iter().flat_map(|session| session.iter()).map(|part| part.row).filter(|row| *row < before);
        let goes: Vec<u32> = goes.collect();
        let comes = self.together(&all, &sessions)?;
        let gone = weighted(&self.shown(&taken(&old, &goes)?)?, -1)?;
        let came = weighted(&self.shown(&comes)?, 1)?;
        let theirs = goes.iter().map(|i| keys.row(firsts[found.probe[*i as usize] as usize]));
        let rows: Vec<u32> = goes.iter().map(|i| found.rows[*i as usize]).collect();
        self.kept.remove_found(theirs, &rows)?;
        self.kept.insert(comes)?;
        let changes = [gone, came].into_iter().filter(|batch| batch.num_rows() > 0);
        changes.map(|batch| conform(&batch, &self.plan.output)).collect()
    }

    /// Sessions, kept and new, by key and start.
    fn parts<'k>(&self, all: &RecordBatch, keys: impl Iterator<Item = &'k u32>) -> Result<Vec<Part>> {
        let (starts, lasts) = (ticks(all.column(self.plan.keys))?, ticks(all.column(self.plan.keys + 1))?);
        let part = |(key, row): (&u32, u32)| Part {
            key: *key,
            start: starts.value(row as usize),
            last: lasts.value(row as usize),
            row,
        };
        let mut parts: Vec<Part> = keys.zip(0..).map(part).collect();
        parts.sort_unstable_by_key(|part| (part.key, part.start, part.row));
        Ok(parts)
    }

    /// Each session's parts as one row.
    fn together(&self, all: &RecordBatch, sessions: &[&[Part]]) -> Result<RecordBatch> {
        let first: Vec<u32> = sessions.iter().map(|session| session[0].row).collect();
        let mut sums = taken(all, &first)?.columns().to_vec();
        let longest = sessions.iter().map(|session| session.len()).max().unwrap_or(0);
        for n in 1..longest {
            let (places, rows): (Vec<u32>, Vec<u32>) =
                (0..).zip(sessions).filter_map(|(i, session)| Some((i, session.get(n)?.row))).unzip();
            let (places, rows) = (UInt32Array::from(places), UInt32Array::from(rows));
            for (i, merge) in self.plan.merges.iter().enumerate() {
                let column = self.plan.keys + i;
                let sum =
                    merged(*merge, &take(&sums[column], &places, None)?, &take(all.column(column), &rows, None)?)?;
                sums[column] = put(&sums[column], &sum, &places)?;
            }
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.plan.schema), sums)?)
    }

    /// The rows that sessions show, without weight.
    fn shown(&self, sessions: &RecordBatch) -> Result<RecordBatch> {
        let keys = self.plan.keys;
        let mut columns = Vec::with_capacity(self.plan.output.fields().len());
        for column in &self.plan.groups {
            columns.push(match column {
                SessionColumn::Key(n) => Arc::clone(sessions.column(*n)),
                SessionColumn::Start => Arc::clone(sessions.column(keys)),
                SessionColumn::End => {
                    let last = sessions.column(keys + 1);
                    let ends: Int64Array =
                        ticks(last)?.values().iter().map(|t| t.wrapping_add(self.plan.gap)).collect();
                    cast(&ends, last.data_type())?
                }
            });
        }
        for value in &self.plan.values {
            columns.push(value.evaluate(sessions)?.into_array(sessions.num_rows())?);
        }
        let fields: Vec<_> = self.plan.output.fields()[..columns.len()].to_vec();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// The name of the column that a row's session begins with.
pub(crate) const SESSION_START: &str = "__start";

/// Runs of parts of one key that lie less than the gap from each other.
fn touching(parts: &[Part], gap: i64) -> Vec<&[Part]> {
    let mut sessions = Vec::new();
    let (mut begin, mut last) = (0, i64::MIN);
    for (i, part) in parts.iter().enumerate() {
        let apart = i > 0 && (parts[i - 1].key != part.key || last.saturating_add(gap) <= part.start);
        if apart {
            sessions.push(&parts[begin..i]);
            begin = i;
        }
        last = if apart || i == 0 { part.last } else { last.max(part.last) };
    }
    if begin < parts.len() {
        sessions.push(&parts[begin..]);
    }
    sessions
}

/// The array with other values in some places, which are in order.
fn put(array: &ArrayRef, values: &ArrayRef, places: &UInt32Array) -> Result<ArrayRef> {
    let mut from: Vec<(usize, usize)> = (0..array.len()).map(|i| (0, i)).collect();
    places.values().iter().enumerate().for_each(|(n, place)| from[*place as usize] = (1, n));
    Ok(interleave(&[array.as_ref(), values.as_ref()], &from)?)
}

/// Timestamps as integers of their own unit.
fn ticks(times: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(times, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

#[async_trait]
impl Node for SessionGroups {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        self.changed(turn).await
    }

    fn describe(&self) -> Description {
        let schema = self.kept.schema();
        let names: Vec<&str> = self.kept.key().columns().iter().map(|c| schema.field(*c).name().as_str()).collect();
        let key = if names.is_empty() { "all under one key".to_owned() } else { format!("by {}", names.join(", ")) };
        Description {
            title: format!("Sessions: {}", self.label),
            state: vec![format!("counts and sums of sessions, {key}")],
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
        visit(&mut self.kept)
    }
}
