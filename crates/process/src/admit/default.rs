//! Owns DEFAULT: what a column gets in rows that do not give it.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, Scalar, TimestampMicrosecondArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use datafusion::execution::session_state::SessionState;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, DataType, Stream};
use uuid::Uuid;

use super::expression::{Expression, NOW_COLUMN, subject_schema};
use super::{Verdicts, defect};
use crate::query_error::describe;
use crate::{Error, Result};

/// A default, evaluated once when it is a constant and for each row when it is not.
#[derive(Debug)]
pub(super) enum CompiledDefault {
    /// One value, as an array of one row.
    Constant(ArrayRef),
    /// `now()`, `uuid()`, `random()` and what is made of them.
    PerRow {
        /// The expression.
        expression: Expression,
        /// Null columns and the clock: the schema that it is evaluated over.
        subject: SchemaRef,
        /// What the column's type asks of a text, beside being one.
        data_type: DataType,
    },
}

impl CompiledDefault {
    /// Compiles a column's default; `None` when it has none, or NULL.
    pub(super) fn compile(column: &Column, stream: &Stream, state: &SessionState) -> Result<Option<Self>> {
        let Some(sql) = &column.default else { return Ok(None) };
        let what = format!("default of column {:?}", column.name);
        let target = column.data_type.to_arrow();
        let expression = Expression::compile(sql, &what, stream, Some(&target), state)?;
        if let Some(name) = expression.names.first() {
            let message =
                format!("the {what} names column {name:?}; a default is made of constants and functions alone");
            return Err(Error::rejected(Code::InvalidDefinition, message));
        }
        let subject = subject_schema(&stream.schema());
        if !expression.constant {
            return Ok(Some(Self::PerRow { expression, subject, data_type: column.data_type.clone() }));
        }
        let value = expression.evaluate(&blank(&subject, 1, 0)?).map_err(|e| {
            let (code, reason) = describe(&e);
            Error::rejected(code, format!("the {what} cannot be evaluated: {reason}"))
        })?;
        let value = exact(value, &target)?;
        if let Some(reason) = unfit(&column.data_type, &value, 0) {
            return Err(Error::rejected(Code::InvalidValue, format!("the {what} {reason}")));
        }
        Ok((!value.is_null(0)).then_some(Self::Constant(value)))
    }

    /// The column with the default where `missing` says so. Rows whose default fails are rejected.
    pub(super) fn fill(
        &self,
        name: &str,
        column: &ArrayRef,
        missing: &BooleanBuffer,
        now_us: i64,
        verdicts: &mut Verdicts,
    ) -> Result<ArrayRef> {
        let mask = BooleanArray::new(missing.clone(), None);
        match self {
            Self::Constant(value) => zip(&mask, &Scalar::new(Arc::clone(value)), column).map_err(defect),
            Self::PerRow { expression, subject, data_type } => {
                let evaluated = blank(subject, column.len(), now_us).map(|batch| expression.evaluate(&batch))?;
                let values = match evaluated {
                    Ok(values) => exact(values, &column.data_type().clone())?,
                    Err(e) => {
                        let (code, reason) = describe(&e);
                        for row in missing.set_indices() {
                            let reason = || format!("the default of column {name:?} cannot be evaluated: {reason}");
                            verdicts.reject(row, Some(name), code, reason);
                        }
                        return Ok(Arc::clone(column));
                    }
                };
                for row in missing.set_indices() {
                    if let Some(reason) = unfit(data_type, &values, row) {
                        let reason = || format!("the default of column {name:?} {reason}");
                        verdicts.reject(row, Some(name), Code::InvalidValue, reason);
                    }
                }
                zip(&mask, &values, column).map_err(defect)
            }
        }
    }
}

/// Rows without values, at one time.
fn blank(schema: &SchemaRef, rows: usize, now_us: i64) -> Result<RecordBatch> {
    // The expression reads the clock alone, so the other columns need not be made: an empty type costs nothing.
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            NOW_COLUMN => {
                Arc::new(TimestampMicrosecondArray::from_value(now_us, rows).with_timezone("UTC")) as ArrayRef
            }
            _ => arrow::array::new_null_array(&ArrowType::Null, rows),
        })
        .collect();
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|f| match f.name().as_str() {
            NOW_COLUMN => f.as_ref().clone(),
            name => Field::new(name, ArrowType::Null, true),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(defect)
}

/// The same values in exactly that type, nested field names and metadata included.
fn exact(values: ArrayRef, target: &ArrowType) -> Result<ArrayRef> {
    if values.data_type() == target {
        return Ok(values);
    }
    let values = arrow::compute::cast(&values, target).map_err(defect)?;
    if values.data_type() == target {
        return Ok(values);
    }
    let data = values.to_data().into_builder().data_type(target.clone()).build().map_err(defect)?;
    Ok(arrow::array::make_array(data))
}

/// Why a text is not a value of its UUID or JSON column; `None` when it is, or is null.
fn unfit(data_type: &DataType, values: &ArrayRef, row: usize) -> Option<String> {
    if !matches!(data_type, DataType::Uuid | DataType::Json) || values.is_null(row) {
        return None;
    }
    let text = values.as_string_opt::<i32>()?.value(row);
    let fits = match data_type {
        DataType::Uuid => Uuid::try_parse(text).is_ok_and(|u| u.hyphenated().to_string() == text),
        _ => serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
    };
    (!fits).then(|| {
        let cut: String = text.chars().take(60).collect();
        let form = if *data_type == DataType::Uuid { ", in lower case with hyphens" } else { "" };
        format!("is {cut:?}, which is not a valid {data_type}{form}")
    })
}
