//! Owns the arithmetic of windows, as functions of the engine that plans call: they count in the timestamp's own unit.
//!
//! | function | is |
//! | --- | --- |
//! | `window_start(ts, size, offset)` | the start of the one window of `size` that holds `ts` |
//! | `window_end(start, size)` | what lies `size` behind `start` |
//! | `window_starts(ts, slide, size, offset)` | the starts of all windows of `size`, one every `slide`, that hold `ts` |
//! | `window_ends(ts, step, size, offset)` | the ends of the windows that grow by `step` from one start and hold `ts` |
//!
//! Starts lie at `offset` plus whole multiples of the size or slide, counted from the epoch, before it as well as after.
//! All but the first argument are constant integers. NULL has no window.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

/// `window_start(ts, size, offset)`.
pub fn window_start(ts: Expr, size: i64, offset: i64) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kind::Start));
    FUNCTION.call(vec![ts, lit(size), lit(offset)])
}

/// `window_end(start, size)`.
pub fn window_end(start: Expr, size: i64) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kind::End));
    FUNCTION.call(vec![start, lit(size)])
}

/// `window_starts(ts, slide, size, offset)`.
pub fn window_starts(ts: Expr, slide: i64, size: i64, offset: i64) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kind::Starts));
    FUNCTION.call(vec![ts, lit(slide), lit(size), lit(offset)])
}

/// `window_ends(ts, step, size, offset)`.
pub fn window_ends(ts: Expr, step: i64, size: i64, offset: i64) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| made(Kind::Ends));
    FUNCTION.call(vec![ts, lit(step), lit(size), lit(offset)])
}

fn made(kind: Kind) -> Arc<ScalarUDF> {
    let signature = Signature::any(kind.arguments(), Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(WindowFunction { kind, signature }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Start,
    End,
    Starts,
    Ends,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Start => "window_start",
            Kind::End => "window_end",
            Kind::Starts => "window_starts",
            Kind::Ends => "window_ends",
        }
    }

    fn arguments(self) -> usize {
        match self {
            Kind::End => 2,
            Kind::Start => 3,
            Kind::Starts | Kind::Ends => 4,
        }
    }

    fn is_list(self) -> bool {
        matches!(self, Kind::Starts | Kind::Ends)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowFunction {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let Some(ts @ DataType::Timestamp(..)) = arg_types.first() else {
            return internal_err!("{} is of a timestamp, not of {:?}", self.name(), arg_types.first());
        };
        Ok(if self.kind.is_list() { DataType::new_list(ts.clone(), false) } else { ts.clone() })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = args.arg_fields.first().is_none_or(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((ts, lengths)) = args.args.split_first() else { return internal_err!("{} of nothing", self.name()) };
        let lengths = lengths.iter().map(constant).collect::<Result<Vec<i64>>>()?;
        let (array, is_scalar) = match ts {
            ColumnarValue::Array(array) => (Arc::clone(array), false),
            ColumnarValue::Scalar(value) => (value.to_array()?, true),
        };
        let found = self.found(&array, &lengths)?;
        if is_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?));
        }
        Ok(ColumnarValue::Array(found))
    }

    /// What a comparison with a constant says about the timestamp itself, so that files and segments can be left out.
    fn preimage(&self, args: &[Expr], constant: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        Ok(self.held(args, constant, info).unwrap_or(PreimageResult::None))
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let ordered = inputs.first().filter(|_| !self.kind.is_list());
        Ok(ordered.map_or(SortProperties::Unordered, |ts| ts.sort_properties))
    }

    fn strictly_order_preserving(&self, _inputs: &[ExprProperties]) -> Result<bool> {
        Ok(self.kind == Kind::End)
    }
}

impl WindowFunction {
    fn found(&self, ts: &ArrayRef, lengths: &[i64]) -> Result<ArrayRef> {
        // Timestamps and integers have one layout: neither cast touches a value.
        let as_integers = cast(ts, &DataType::Int64)?;
        let ticks = as_integers.as_primitive::<Int64Type>();
        match (self.kind, lengths) {
            (Kind::Start, [size, offset]) => {
                let mut last = Aligned::new(*size, *offset);
                let starts = self.mapped(ticks, |tick| last.start(tick))?;
                Ok(cast(&starts, ts.data_type())?)
            }
            (Kind::End, [size]) => {
                let ends = self.mapped(ticks, |tick| tick.overflowing_add(*size))?;
                Ok(cast(&ends, ts.data_type())?)
            }
            (Kind::Starts, [slide, size, offset]) => {
                let mut last = Aligned::new(*slide, *offset);
                self.listed(ts, ticks, |tick, out| {
                    let (newest, _) = last.start(tick);
                    let older = (size - 1 - tick.wrapping_sub(newest)) / slide;
                    let oldest = newest.checked_sub(older * slide).filter(|oldest| *oldest <= tick)?;
                    out.extend((0..=older).map(|n| oldest + n * slide));
                    Some(())
                })
            }
            (Kind::Ends, [step, size, offset]) => {
                let mut last = Aligned::new(*size, *offset);
                self.listed(ts, ticks, |tick, out| {
                    let (start, below) = last.start(tick);
                    let largest = start.checked_add(*size).filter(|_| !below)?;
                    let smallest = start + (tick - start) / step * step + step;
                    out.extend((0..=(largest - smallest) / step).map(|n| smallest + n * step));
                    Some(())
                })
            }
            _ => internal_err!("{} of {} lengths", self.name(), lengths.len()),
        }
    }

    /// Each timestamp through `f`, which says beside its result whether it lies outside of the range.
    fn mapped(&self, ticks: &Int64Array, mut f: impl FnMut(i64) -> (i64, bool)) -> Result<Int64Array> {
        let mut outside = false;
        let values: Vec<i64> = ticks
            .values()
            .iter()
            .map(|tick| {
                let (value, beyond) = f(*tick);
                outside |= beyond;
                value
            })
            .collect();
        // What lies under a NULL may be anything.
        if outside && let Some(tick) = ticks.iter().flatten().find(|tick| f(*tick).1) {
            return Err(self.out_of_range(tick));
        }
        Ok(Int64Array::new(values.into(), ticks.nulls().cloned()))
    }

    /// For each timestamp the list that `f` adds; it adds nothing where one would be outside of the range.
    fn listed(
        &self,
        ts: &ArrayRef,
        ticks: &Int64Array,
        mut f: impl FnMut(i64, &mut Vec<i64>) -> Option<()>,
    ) -> Result<ArrayRef> {
        let mut values = Vec::with_capacity(ticks.len() * 2);
        let mut ends = Vec::with_capacity(ticks.len() + 1);
        ends.push(0_i32);
        for tick in ticks {
            if let Some(tick) = tick {
                f(tick, &mut values).ok_or_else(|| self.out_of_range(tick))?;
            }
            let end = i32::try_from(values.len()).map_err(|_| {
                DataFusionError::ResourcesExhausted(format!(
                    "{} rows are in more than {} windows together; choose fewer windows for each row",
                    ticks.len(),
                    i32::MAX
                ))
            })?;
            ends.push(end);
        }
        let items = cast(&Int64Array::from(values), ts.data_type())?;
        let field = Field::new_list_field(ts.data_type().clone(), false);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok(Arc::new(ListArray::try_new(Arc::new(field), offsets, items, ticks.nulls().cloned())?))
    }

    fn out_of_range(&self, tick: i64) -> DataFusionError {
        let message = format!("{}: the window of timestamp {tick} is outside of the range of its type", self.name());
        ArrowError::ArithmeticOverflow(message).into()
    }

    /// The range of timestamps whose window starts, or ends, at a constant.
    fn held(&self, args: &[Expr], constant: &Expr, info: &SimplifyContext) -> Option<PreimageResult> {
        let Expr::Literal(value, _) = constant else { return None };
        let at = ticks_of(value)?;
        let (ts, lower, size) = match (self.kind, args) {
            (Kind::Start, [ts, size, offset]) => {
                let (size, offset) = (integer(size)?, integer(offset)?);
                Aligned::new(size, offset).is_start(at).then_some((ts, at, size))?
            }
            // The end of the window of `start`, which is itself one of the same size.
            (Kind::End, [Expr::ScalarFunction(start), size]) if start.func.name() == Kind::Start.name() => {
                let [ts, inner, offset] = start.args.as_slice() else { return None };
                let (size, offset) = (integer(size)?, integer(offset)?);
                let lower = at.checked_sub(size)?;
                let same = integer(inner)? == size && Aligned::new(size, offset).is_start(lower);
                same.then_some((ts, lower, size))?
            }
            _ => return None,
        };
        if info.get_data_type(ts).ok()? != value.data_type() {
            return None;
        }
        let bound = |tick: i64| ScalarValue::try_from_array(&cast(&tick_array(tick), &value.data_type()).ok()?, 0).ok();
        let interval = Interval::try_new(bound(lower)?, bound(lower.checked_add(size)?)?).ok()?;
        Some(PreimageResult::Range { expr: ts.clone(), interval: Box::new(interval) })
    }
}

/// Finds the starts of windows. Rows of a stream are mostly in the window of the row before, which it remembers.
struct Aligned {
    size: i64,
    /// Where windows start, modulo their size.
    phase: i64,
    last: i64,
}

impl Aligned {
    fn new(size: i64, offset: i64) -> Self {
        let phase = offset.rem_euclid(size);
        Self { size, phase, last: phase }
    }

    /// The start of the window that holds `tick`, and whether it lies below the range.
    fn start(&mut self, tick: i64) -> (i64, bool) {
        if tick >= self.last && tick.wrapping_sub(self.last) as u64 <= (self.size - 1) as u64 {
            return (self.last, false);
        }
        let start = tick.overflowing_sub(self.behind_start(tick));
        if !start.1 {
            self.last = start.0;
        }
        start
    }

    fn is_start(&self, tick: i64) -> bool {
        self.behind_start(tick) == 0
    }

    /// How far behind the start of its window a timestamp lies.
    fn behind_start(&self, tick: i64) -> i64 {
        let behind = tick.rem_euclid(self.size) - self.phase;
        if behind < 0 { behind + self.size } else { behind }
    }
}

fn constant(value: &ColumnarValue) -> Result<i64> {
    match value {
        ColumnarValue::Scalar(ScalarValue::Int64(Some(v))) => Ok(*v),
        // A plan's constants reach small batches as arrays of one value.
        ColumnarValue::Array(array) => match array.as_primitive_opt::<Int64Type>() {
            Some(values) if !values.is_empty() => Ok(values.value(0)),
            _ => internal_err!("the lengths of windows are integers"),
        },
        ColumnarValue::Scalar(other) => internal_err!("the lengths of windows are integers, not {other}"),
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::Int64(v), _) => *v,
        _ => None,
    }
}

fn ticks_of(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampSecond(v, _)
        | ScalarValue::TimestampMillisecond(v, _)
        | ScalarValue::TimestampMicrosecond(v, _)
        | ScalarValue::TimestampNanosecond(v, _) => *v,
        _ => None,
    }
}

fn tick_array(tick: i64) -> Int64Array {
    Int64Array::from(vec![tick])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(tick: i64, size: i64, offset: i64) -> (i64, bool) {
        Aligned::new(size, offset).start(tick)
    }

    #[test]
    fn a_window_before_the_epoch_starts_before_its_rows() {
        assert_eq!(start(-1, 10, 0), (-10, false));
        assert_eq!(start(-10, 10, 0), (-10, false));
        assert_eq!(start(-11, 10, 0), (-20, false));
        assert_eq!(start(0, 10, 0), (0, false));
    }

    #[test]
    fn an_offset_moves_windows_by_its_remainder() {
        assert_eq!(start(3, 10, 4), (-6, false));
        assert_eq!(start(4, 10, 4), (4, false));
        assert_eq!(start(4, 10, -16), (4, false));
        assert_eq!(start(4, 10, i64::MIN), start(4, 10, i64::MIN.rem_euclid(10)));
    }

    #[test]
    fn a_window_that_begins_below_the_range_is_told_of() {
        assert!(start(i64::MIN, 10, 0).1);
        assert_eq!(start(i64::MAX, 10, 0), (i64::MAX - 7, false));
        assert_eq!(start(i64::MAX, i64::MAX, 0), (i64::MAX, false));
        assert_eq!(start(i64::MAX - 1, i64::MAX, 0), (0, false));
    }

    #[test]
    fn the_window_before_is_remembered_and_left() {
        let mut aligned = Aligned::new(10, 0);
        let found: Vec<i64> = [5, 9, 10, 0, -1, 25].map(|tick| aligned.start(tick).0).to_vec();
        assert_eq!(found, [0, 0, 10, 0, -10, 20]);
    }
}
