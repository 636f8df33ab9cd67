//! Owns the watermarks of inputs: how far a batch moves one, and which rows come too late for it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, filter_record_batch, max};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use datafusion::common::{DFSchema, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::PhysicalExpr;

use crate::compile::ViewInput;
use crate::delta::{rows_of, weights_of};
use crate::node::{Refused, as_json};
use crate::{Error, Result};

/// The watermark of an input that has none yet.
pub(crate) const NOT_YET: i64 = i64::MIN;

/// What is declared of a table: `WATERMARK FOR column AS expr`.
#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkSpec {
    /// The column of event times, a timestamp.
    pub column: String,
    /// A timestamp over the table's columns; its largest value is the watermark.
    pub expr: Expr,
}

/// The watermarks of a dataflow's inputs, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    inputs: Vec<Option<EventTime>>,
    /// Behind the last step.
    pub(crate) at: Vec<i64>,
    /// Behind the next step.
    next: Vec<i64>,
}

impl Clock {
    pub(crate) fn new(inputs: &[ViewInput], state: &SessionState) -> Result<Self> {
        let times = inputs.iter().map(|input| EventTime::of_input(input, state)).collect::<Result<Vec<_>>>()?;
        if times.iter().all(Option::is_none) {
            return Ok(Self::default());
        }
        Ok(Self { at: vec![NOT_YET; times.len()], next: vec![NOT_YET; times.len()], inputs: times })
    }

    /// The watermark that an input has behind the next step; it never goes back.
    pub(crate) fn advance(&mut self, input: usize, to_us: i64) {
        if let Some(next) = self.next.get_mut(input) {
            *next = to_us.max(*next);
        }
    }

    pub(crate) fn step(&mut self) {
        self.at.iter_mut().zip(&self.next).for_each(|(at, next)| *at = (*at).max(*next));
    }

    pub(crate) fn of(&self, input: usize) -> Option<i64> {
        self.at.get(input).copied().filter(|at| *at != NOT_YET)
    }

    pub(crate) fn gauge(&self, input: usize) -> Option<&WatermarkGauge> {
        self.inputs.get(input)?.as_ref().map(|time| &time.gauge)
    }

    /// The rows of a delta that are not behind the watermark.
    pub(crate) fn in_time(&self, input: usize, delta: RecordBatch, late: &mut Vec<Refused>) -> Result<RecordBatch> {
        let Some(Some(time)) = self.inputs.get(input) else { return Ok(delta) };
        let ticks = cast(delta.column(time.column), &DataType::Int64)?;
        let ticks = ticks.as_primitive::<Int64Type>();
        let at = ticks_of(self.at[input], time.unit);
        if ticks.null_count() == 0 && ticks.values().iter().all(|tick| *tick >= at) {
            return Ok(delta);
        }
        let kept: BooleanArray = ticks.iter().map(|tick| Some(tick.is_some_and(|tick| tick >= at))).collect();
        let rows = rows_of(&delta)?;
        for i in (0..delta.num_rows()).filter(|i| !kept.value(*i) && weights_of(&delta).value(*i) > 0) {
            let reason = time.reason(ticks.is_valid(i).then(|| ticks.value(i)), self.at[input]);
            late.push(Refused { reason, row: as_json(&rows.slice(i, 1))? });
        }
        Ok(filter_record_batch(&delta, &kept)?)
    }
}

/// Reads how far rows move the watermark of an input.
#[derive(Debug, Clone)]
pub struct WatermarkGauge(Arc<dyn PhysicalExpr>);

impl WatermarkGauge {
    /// The largest value that the watermark's expression has in a batch of the input's whole columns, in microseconds
    /// since the epoch.
    pub fn reached(&self, batch: &RecordBatch) -> Result<Option<i64>> {
        Ok(max(&self.values(batch)?))
    }

    /// The values of the watermark's expression, in microseconds since the epoch. A row on which it fails moves
    /// nothing.
    pub fn values(&self, batch: &RecordBatch) -> Result<Int64Array> {
        let all = |batch: &RecordBatch| self.0.evaluate(batch).and_then(|values| values.into_array(batch.num_rows()));
        let values = match all(batch) {
            Ok(values) => values,
            Err(_) => {
                let one_by_one = (0..batch.num_rows()).map(|i| match all(&batch.slice(i, 1)) {
                    Ok(value) => us_of_times(&value).map(|value| value.iter().next().flatten()),
                    Err(_) => Ok(None),
                });
                return one_by_one.collect();
            }
        };
        us_of_times(&values)
    }
}

fn us_of_times(times: &ArrayRef) -> Result<Int64Array> {
    let DataType::Timestamp(unit, _) = times.data_type() else { return Ok(Int64Array::new_null(times.len())) };
    let ticks = cast(times, &DataType::Int64)?;
    Ok(ticks.as_primitive::<Int64Type>().unary(|ticks| us_of(ticks, *unit)))
}

/// The event times of one input.
#[derive(Debug)]
struct EventTime {
    column: usize,
    name: String,
    unit: TimeUnit,
    gauge: WatermarkGauge,
}

impl EventTime {
    fn of_input(input: &ViewInput, state: &SessionState) -> Result<Option<Self>> {
        let Some(spec) = &input.watermark else { return Ok(None) };
        let (column, unit) = time_column(&input.table, &input.schema, spec)?;
        let columns = DFSchema::try_from_qualified_schema(input.table.clone(), &input.schema)?;
        let expr = state.create_physical_expr(spec.expr.clone(), &columns)?;
        if !matches!(expr.data_type(&input.schema)?, DataType::Timestamp(..)) {
            return Err(undeclared(&input.table, "its expression is not a timestamp; write column - INTERVAL '…'"));
        }
        Ok(Some(Self { column, name: spec.column.clone(), unit, gauge: WatermarkGauge(expr) }))
    }

    fn reason(&self, ticks: Option<i64>, at_us: i64) -> String {
        let Some(ticks) = ticks else {
            return format!("no event time: {} is NULL, so the row is in no window", self.name);
        };
        let (time, at) = (as_text(us_of(ticks, self.unit)), as_text(at_us));
        format!("late: {} is {time}, behind the watermark {at}", self.name)
    }
}

/// The number and the unit of the column of event times.
pub(crate) fn time_column(
    table: &TableReference,
    schema: &SchemaRef,
    spec: &WatermarkSpec,
) -> Result<(usize, TimeUnit)> {
    match schema.column_with_name(&spec.column) {
        Some((column, field)) => match field.data_type() {
            DataType::Timestamp(unit, _) => Ok((column, *unit)),
            other => Err(undeclared(table, &format!("{} is {other}; declare it for a timestamp", spec.column))),
        },
        None => Err(undeclared(table, &format!("there is no column {}; declare it for a timestamp", spec.column))),
    }
}

fn undeclared(table: &TableReference, why: &str) -> Error {
    Error::not_incremental(format!("the watermark of {table}"), why)
}

fn as_text(us: i64) -> String {
    let array = arrow::array::TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC");
    let options = arrow::util::display::FormatOptions::default();
    let text = arrow::util::display::ArrayFormatter::try_new(&array, &options).map(|f| f.value(0).to_string());
    text.unwrap_or_else(|_| format!("{us} µs"))
}

fn us_of(ticks: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => ticks.saturating_mul(1_000_000),
        TimeUnit::Millisecond => ticks.saturating_mul(1000),
        TimeUnit::Microsecond => ticks,
        TimeUnit::Nanosecond => ticks.div_euclid(1000),
    }
}

/// The first tick of a column that is not behind a watermark.
pub(crate) fn ticks_of(us: i64, unit: TimeUnit) -> i64 {
    let up = |by: i64| us.div_euclid(by) + i64::from(us.rem_euclid(by) > 0);
    match unit {
        TimeUnit::Second => up(1_000_000),
        TimeUnit::Millisecond => up(1000),
        TimeUnit::Microsecond => us,
        TimeUnit::Nanosecond => us.saturating_mul(1000),
    }
}
