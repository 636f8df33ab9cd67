//! Arrow IPC streams: batches whose columns are matched by name and converted to the stream's types.
//!
//! A value that does not convert rejects its row. A stream that is damaged or breaks off is refused whole.

mod convert;
mod guard;
mod render;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::ipc::reader::StreamReader;
use millstream_catalog::{DataType, REST_COLUMN};

use super::plan::Plan;
use super::refusal::{Refusal, Rejected};
use super::rows::{Decoded, Extra, Origins, REJECTED_BYTES};
use super::{DecodeLimits, Error};
use convert::Converter;
pub(crate) use render::row_text;

/// Reads a whole stream.
pub(crate) fn decode(plan: &Plan, body: &[u8], limits: DecodeLimits) -> Result<Decoded, Error> {
    guard::check(body, limits.max_decoded_bytes)?;
    let batches = read(body)?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if rows.saturating_mul(plan.row_bytes.max(1)) > limits.max_decoded_bytes {
        return Err(Error::TooManyRows { rows, limit_bytes: limits.max_decoded_bytes });
    }
    let mut decoder =
        Decoder { plan, limits, first_row: 0, rejected: Vec::new(), kept: Vec::new(), unknown: 0, spent: 0 };
    let decoded = batches.iter().map(|batch| decoder.batch(batch)).collect::<Result<Vec<_>, _>>()?;
    let batch = concat_batches(&plan.schema, &decoded)?;
    let missing = plan.columns.iter().map(|column| match batches.first() {
        Some(first) if column.tracked && first.column_by_name(&column.name).is_none() => {
            Some(BooleanBuffer::new_set(batch.num_rows()))
        }
        _ => None,
    });
    Ok(Decoded {
        missing: missing.collect(),
        batch,
        rejected: decoder.rejected,
        unknown_fields: decoder.unknown,
        origins: Origins::Arrow { batches, rows: decoder.kept },
    })
}

/// Every batch of the stream. The reader checks what it reads, yet bytes made to mislead it may trip it: a panic is an
/// error of the body, not of the process.
fn read(body: &[u8]) -> Result<Vec<RecordBatch>, Error> {
    let broken = |reason: String| Error::Ipc { reason };
    let result = catch_unwind(AssertUnwindSafe(|| {
        StreamReader::try_new(body, None).and_then(|reader| reader.collect::<Result<Vec<_>, _>>())
    }));
    match result {
        Ok(batches) => batches.map_err(|e| broken(e.to_string())),
        Err(_) => Err(broken("its batches contradict themselves".into())),
    }
}

struct Decoder<'p> {
    plan: &'p Plan,
    limits: DecodeLimits,
    /// Index of the batch's first row over all batches.
    first_row: usize,
    rejected: Vec<Rejected>,
    kept: Vec<u32>,
    unknown: u64,
    /// Bytes that rejected rows take.
    spent: usize,
}

impl Decoder<'_> {
    /// One batch in the stream's columns, without the rows that do not convert.
    fn batch(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let rows = batch.num_rows();
        let mut faults: Vec<Option<Box<Refusal>>> = vec![None; rows];
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.plan.columns.len());
        for (index, column) in self.plan.columns.iter().enumerate() {
            let field = self.plan.schema.field(index);
            let source = batch.column_by_name(&column.name).filter(|_| self.plan.rest != Some(index));
            let Some(source) = source else {
                columns.push(new_null_array(field.data_type(), rows));
                continue;
            };
            let mut converter = Converter::new(&column.name, self.limits.max_decoded_bytes);
            columns.push(converter.convert(source, &column.data_type)?);
            for (row, refusal) in converter.into_faults() {
                faults[row].get_or_insert(refusal.within(&column.name));
            }
        }
        let keep: BooleanArray = faults.iter().map(|fault| Some(fault.is_none())).collect();
        self.unknown_fields(batch, &mut columns, &keep)?;
        self.note(batch, faults)?;
        self.first_row += rows;
        let whole = RecordBatch::try_new(Arc::clone(&self.plan.schema), columns)?;
        Ok(if keep.true_count() == rows { whole } else { filter_record_batch(&whole, &keep)? })
    }

    fn note(&mut self, batch: &RecordBatch, faults: Vec<Option<Box<Refusal>>>) -> Result<(), Error> {
        for (row, fault) in faults.into_iter().enumerate() {
            let index = self.first_row + row;
            match fault {
                None => self.kept.push(index as u32),
                Some(refusal) => {
                    let text = row_text(std::slice::from_ref(batch), row);
                    self.spent += REJECTED_BYTES + 2 * text.len();
                    if self.spent > self.limits.max_decoded_bytes {
                        return Err(Error::TooManyRows { rows: index, limit_bytes: self.limits.max_decoded_bytes });
                    }
                    self.rejected.push(Rejected {
                        line: index as u64 + 1,
                        column: None,
                        field: refusal.field,
                        code: refusal.code,
                        reason: refusal.reason,
                        text,
                    });
                }
            }
        }
        Ok(())
    }

    /// Counts the values of columns that the stream does not have, or puts them into `_rest`.
    fn unknown_fields(
        &mut self,
        batch: &RecordBatch,
        columns: &mut [ArrayRef],
        keep: &BooleanArray,
    ) -> Result<(), Error> {
        let schema = batch.schema();
        let is_unknown = |index: &usize| self.plan.keys.find(schema.field(*index).name().as_bytes()).is_none();
        let unknown: Vec<usize> = (0..batch.num_columns()).filter(is_unknown).collect();
        let Some(rest) = self.plan.rest else {
            let given = |column: &ArrayRef| (0..keep.len()).filter(|&i| keep.value(i) && column.is_valid(i)).count();
            self.unknown += unknown.iter().map(|&index| given(batch.column(index)) as u64).sum::<u64>();
            return Ok(());
        };
        if !unknown.is_empty() {
            columns[rest] = rest_column(&batch.project(&unknown)?, self.limits)?;
        }
        Ok(())
    }
}

/// The objects that hold a batch's rows; an object in a `_rest` column, as queries give it out, is joined to them.
fn rest_column(unknown: &RecordBatch, limits: DecodeLimits) -> Result<ArrayRef, Error> {
    let given = unknown.schema().index_of(REST_COLUMN).ok();
    let others: Vec<usize> = (0..unknown.num_columns()).filter(|&i| Some(i) != given).collect();
    let others = unknown.project(&others)?;
    let given = match given {
        Some(index) => {
            let mut converter = Converter::new(REST_COLUMN, limits.max_decoded_bytes);
            Some(converter.convert(unknown.column(index), &DataType::Json)?)
        }
        None => None,
    };
    let texts = (0..unknown.num_rows()).map(|row| {
        let mut extra = Extra::with_budget(limits.max_decoded_bytes);
        extra.keep = true;
        let from_rest = given.as_ref().and_then(|array| array.as_any().downcast_ref::<StringArray>());
        if let Some(text) = from_rest.filter(|array| array.is_valid(row)).map(|array| array.value(row)) {
            match text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
                Some(members) => extra.unknown_members(members.trim().as_bytes()),
                None => extra.unknown_field(REST_COLUMN.as_bytes(), text.as_bytes()),
            }
        }
        if others.num_columns() > 0 {
            let text = row_text(std::slice::from_ref(&others), row);
            let members = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or_default();
            extra.unknown_members(members.as_bytes());
        }
        (!extra.rest.is_empty()).then(|| format!("{}}}", String::from_utf8_lossy(&extra.rest)))
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

#[cfg(test)]
mod tests;
