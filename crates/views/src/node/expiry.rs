//! Owns what becomes of keys when watermarks pass: which of them no row can reach any more.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::physical_plan::PhysicalExpr;

use super::Turn;
use crate::Result;
use crate::arrangement::{Arrangement, TimeOf};
use crate::compile::{Bound, EVENT_TIME};
use crate::watermark::{NOT_YET, ticks_of};

/// The lowest value that a column can still come with.
#[derive(Debug, Clone)]
pub(crate) struct Frontier(Vec<PlannedBound>);

#[derive(Debug, Clone)]
struct PlannedBound {
    input: usize,
    unit: TimeUnit,
    schema: SchemaRef,
    expr: Arc<dyn PhysicalExpr>,
}

impl Frontier {
    /// The lowest of these bounds.
    pub(crate) fn new(bounds: &[Bound], state: &SessionState) -> Result<Self> {
        let planned = bounds.iter().map(|bound| {
            let schema = Arc::new(Schema::new(vec![Field::new(EVENT_TIME, bound.time.clone(), true)]));
            let columns = DFSchema::try_from(Arc::clone(&schema))?;
            let expr = state.create_physical_expr(bound.expr.clone(), &columns)?;
            let unit = match &bound.time {
                DataType::Timestamp(unit, _) => *unit,
                _ => TimeUnit::Microsecond,
            };
            Ok(PlannedBound { input: bound.input, unit, schema, expr })
        });
        Ok(Self(planned.collect::<Result<_>>()?))
    }

    /// In the column's own unit; `None` while an input has no watermark, or where one lies outside of what the
    /// column's type can say.
    pub(crate) fn at(&self, watermarks: &[i64]) -> Result<Option<i64>> {
        let mut lowest: Option<i64> = None;
        for bound in &self.0 {
            let at = watermarks.get(bound.input).copied().unwrap_or(NOT_YET);
            let value = if at == NOT_YET { None } else { bound.value(at)? };
            let Some(value) = value else { return Ok(None) };
            lowest = Some(lowest.map_or(value, |lowest| lowest.min(value)));
        }
        Ok(lowest)
    }
}

impl PlannedBound {
    fn value(&self, watermark_us: i64) -> Result<Option<i64>> {
        let ticks = Int64Array::from(vec![ticks_of(watermark_us, self.unit)]);
        let time = cast(&ticks, self.schema.field(0).data_type())?;
        let row = RecordBatch::try_new(Arc::clone(&self.schema), vec![time])?;
        let Ok(value) = self.expr.evaluate(&row) else { return Ok(None) };
        let value = cast(&value.into_array(1)?, &DataType::Int64)?;
        Ok(value.as_primitive::<Int64Type>().iter().next().flatten())
    }
}

/// When kept rows are done with. Nothing where none of their columns comes of an event time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expiry {
    /// Times in the rows, and what was forgotten of them last.
    times: Vec<(TimeOf, Frontier, Option<i64>)>,
}

impl Expiry {
    pub(crate) fn new(time: TimeOf, frontier: Frontier) -> Self {
        Self { times: vec![(time, frontier, None)] }
    }

    /// Both.
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.times.extend(more.times);
        self
    }

    /// The times whose frontiers moved, and where to.
    pub(crate) fn passed(&mut self, turn: &Turn) -> Result<Vec<(TimeOf, i64)>> {
        let mut passed = Vec::new();
        for (of, frontier, last) in &mut self.times {
            let at = frontier.at(&turn.watermarks)?;
            if let Some(at) = at.filter(|at| last.is_none_or(|last| *at > last)) {
                *last = Some(at);
                passed.push((*of, at));
            }
        }
        Ok(passed)
    }

    /// Takes away, and gives, the rows that are done with.
    pub(crate) fn take(&mut self, rows: &mut Arrangement, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let passed = self.passed(turn)?.into_iter();
        let mut taken = passed.map(|(of, at)| rows.take_below(of, at)).collect::<Result<Vec<_>>>()?;
        taken.retain(|rows| rows.num_rows() > 0);
        Ok(taken)
    }

    /// For EXPLAIN, behind what is kept.
    pub(crate) fn note(&self) -> &'static str {
        if self.times.is_empty() { "" } else { ", until the watermark passes" }
    }
}
