//! Owns GENERATED columns: values that are always computed from the row's others.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::execution::session_state::SessionState;
use millstream_catalog::fault::Code;
use millstream_catalog::{Generated, Stream};

use super::Verdicts;
use super::check::Subject;
use super::expression::Expression;
use crate::query_error::describe;
use crate::{Error, Result};

/// A generated column, ready to be computed.
#[derive(Debug)]
pub(super) struct CompiledGenerated {
    /// Its place among the table's columns.
    pub(super) index: usize,
    name: String,
    data_type: DataType,
    expression: Expression,
}

impl CompiledGenerated {
    pub(super) fn compile(generated: &Generated, table: &Stream, state: &SessionState) -> Result<Self> {
        let what = format!("expression of generated column {:?}", generated.column);
        let found = table.columns.iter().position(|c| c.name == generated.column);
        let index = found.ok_or_else(|| {
            let message = format!("the {what} is of no column of table {}", table.name);
            Error::rejected(Code::InvalidDefinition, message)
        })?;
        let data_type = table.columns[index].data_type.to_arrow();
        let expression = Expression::compile(&generated.expression, &what, table, Some(&data_type), state)?;
        let others = table.table.iter().flat_map(|t| &t.generated).map(|g| &g.column);
        if let Some(other) = others.clone().find(|other| expression.names.contains(*other)) {
            let message = format!("the {what} names column {other:?}, which is generated itself");
            return Err(Error::rejected(Code::InvalidDefinition, message));
        }
        Ok(Self { index, name: generated.column.clone(), data_type, expression })
    }

    /// The column's values; rows for which it fails are rejected.
    pub(super) fn compute(&self, subject: &Subject, verdicts: &mut Verdicts) -> Result<ArrayRef> {
        let mut parts = Vec::new();
        self.compute_on(subject.rows(), 0, &mut parts, verdicts);
        let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(AsRef::as_ref).collect();
        match parts.is_empty() {
            true => Ok(arrow::array::new_empty_array(&self.data_type)),
            false => arrow::compute::concat(&parts).map_err(super::defect),
        }
    }

    /// Halves the rows until those that fail stand alone.
    fn compute_on(&self, rows: &RecordBatch, first: usize, parts: &mut Vec<ArrayRef>, verdicts: &mut Verdicts) {
        if rows.num_rows() == 0 {
            return;
        }
        match self.expression.evaluate(rows) {
            Ok(values) => parts.push(values),
            Err(error) if rows.num_rows() == 1 => {
                let (code, reason) = describe(&error);
                let reason = || format!("generated column {:?} cannot be computed: {reason}", self.name);
                verdicts.reject(first, Some(&self.name), code, reason);
                parts.push(arrow::array::new_null_array(&self.data_type, 1));
            }
            Err(_) => {
                let half = rows.num_rows() / 2;
                self.compute_on(&rows.slice(0, half), first, parts, verdicts);
                self.compute_on(&rows.slice(half, rows.num_rows() - half), first + half, parts, verdicts);
            }
        }
    }
}
