//! Owns CHECK: which rows break a constraint. Also checks that a watermark's expression gives a time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::{DataType as ArrowType, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use millstream_catalog::fault::Code;
use millstream_catalog::{Check, Stream};
use millstream_views::WatermarkSpec;

use super::expression::{Expression, logical, shown, subject_schema};
use super::{Verdicts, defect};
use crate::query_error::describe;
use crate::{Error, Result};

/// A constraint, ready to run.
#[derive(Debug)]
pub(super) struct CompiledCheck {
    name: String,
    sql: String,
    expression: Expression,
}

/// The rows that constraints look at.
#[derive(Debug)]
pub(super) struct Subject(RecordBatch);

impl Subject {
    pub(super) fn new(schema: &SchemaRef, mut columns: Vec<ArrayRef>, rows: usize, now_us: i64) -> Result<Self> {
        columns.push(Arc::new(TimestampMicrosecondArray::from_value(now_us, rows).with_timezone("UTC")));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(subject_schema(schema), columns, &options).map_err(defect)?;
        Ok(Self(batch))
    }

    pub(super) fn rows(&self) -> &RecordBatch {
        &self.0
    }
}

impl CompiledCheck {
    pub(super) fn compile(check: &Check, stream: &Stream, state: &SessionState) -> Result<Self> {
        let what = format!("check constraint {:?}", check.name);
        let expression = Expression::compile(&check.expr, &what, stream, None, state)?;
        if !matches!(expression.data_type, ArrowType::Boolean | ArrowType::Null) {
            let message =
                format!("the {what} must be true or false, {} is of type {}", check.expr, shown(&expression.data_type));
            return Err(Error::rejected(Code::TypeMismatch, message));
        }
        Ok(Self { name: check.name.clone(), sql: check.expr.clone(), expression })
    }

    /// Rejects the rows for which it is false, or cannot be told.
    pub(super) fn run(&self, subject: &Subject, verdicts: &mut Verdicts) {
        self.run_on(&subject.0, 0, verdicts);
    }

    /// Halves the rows until those that fail to evaluate stand alone.
    fn run_on(&self, rows: &RecordBatch, first: usize, verdicts: &mut Verdicts) {
        match self.expression.evaluate(rows) {
            Ok(values) => self.reject_false(&values, first, verdicts),
            Err(error) if rows.num_rows() == 1 => self.reject_unknown(&error, first, verdicts),
            Err(_) => {
                let half = rows.num_rows() / 2;
                self.run_on(&rows.slice(0, half), first, verdicts);
                self.run_on(&rows.slice(half, rows.num_rows() - half), first + half, verdicts);
            }
        }
    }

    fn reject_false(&self, values: &ArrayRef, first: usize, verdicts: &mut Verdicts) {
        let Some(passed) = values.as_boolean_opt().filter(|p| p.false_count() > 0) else { return };
        for row in (0..passed.len()).filter(|&i| passed.is_valid(i) && !passed.value(i)) {
            let reason = || format!("check constraint {:?} does not hold: {}", self.name, self.sql);
            verdicts.reject(first + row, None, Code::CheckViolation, reason);
        }
    }

    fn reject_unknown(&self, error: &DataFusionError, row: usize, verdicts: &mut Verdicts) {
        let (code, reason) = describe(error);
        let reason = || format!("check constraint {:?} cannot be evaluated: {reason}: {}", self.name, self.sql);
        verdicts.reject(row, None, code, reason);
    }
}

/// A stream's watermark as the planner has it.
pub(crate) fn watermark_of(stream: &Stream, state: &SessionState) -> Result<Option<WatermarkSpec>> {
    let Some(watermark) = &stream.watermark else { return Ok(None) };
    let what = format!("watermark of column {:?}", watermark.column);
    let expr = logical(&watermark.expr, &what, stream, state)?;
    Ok(Some(WatermarkSpec { column: watermark.column.clone(), expr }))
}

/// Refuses a watermark whose expression is not a time.
pub(super) fn watermark(stream: &Stream, state: &SessionState) -> Result<()> {
    let Some(watermark) = &stream.watermark else { return Ok(()) };
    let what = format!("watermark of column {:?}", watermark.column);
    let expression = Expression::compile(&watermark.expr, &what, stream, None, state)?;
    if !matches!(expression.data_type, ArrowType::Timestamp(..)) {
        let message =
            format!("the {what} must be a time, {} is of type {}", watermark.expr, shown(&expression.data_type));
        return Err(Error::rejected(Code::TypeMismatch, message));
    }
    if !expression.names.iter().eq([&watermark.column]) {
        let message =
            format!("the {what} must be made of that column alone: write {0} - INTERVAL '5' SECOND", watermark.column);
        return Err(Error::rejected(Code::InvalidDefinition, message));
    }
    Ok(())
}
