//! Arrow IPC streams: batches whose columns are matched by name and converted to the stream's types.
//!
//! A value that does not convert rejects its row. A stream that is damaged or breaks off is refused whole.

mod convert;
mod guard;
mod render;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;
use millstream_catalog::{DataType, REST_COLUMN};

use super::plan::Plan;
use super::refusal::{Refusal, Rejected};
use super::rows::{Decoded, Extra, Origins, REJECTED_BYTES};
use super::{DecodeLimits, Error};
use convert::Converter;
pub(crate) use render::row_text;

/// Reads a whole stream.
pub(crate) fn decode(plan: &Plan, body: &Bytes, limits: DecodeLimits) -> Result<Decoded, Error> {
    guard::check(body, limits.max_decoded_bytes)?;
    let batches = read(body)?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if rows.saturating_mul(plan.row_bytes.max(1)) > limits.max_decoded_bytes {
        return Err(Error::TooManyRows { rows, limit_bytes: limits.max_decoded_bytes });
    }
    let mut decoder = Decoder { plan, limits, first_row: 0, rejected: Vec::new(), unknown: 0, spent: 0 };
    let decoded = batches.iter().map(|batch| decoder.batch(batch)).collect::<Result<Vec<_>, _>>()?;
    let batch = concat_batches(&plan.schema, &decoded)?;
    let missing = plan.columns.iter().map(|column| match batches.first() {
        Some(first) if column.tracked && first.column_by_name(&column.name).is_none() => {
            Some(BooleanBuffer::new_set(batch.num_rows()))
        }
        _ => None,
    });
    let missing = missing.collect();
    let kept = (!decoder.rejected.is_empty()).then(|| others(rows, &decoder.rejected));
    Ok(Decoded {
        missing,
        batch,
        rejected: decoder.rejected,
        unknown_fields: decoder.unknown,
        origins: Origins::Arrow { batches, rows: kept },
    })
}

/// Every batch of the stream, in the body's own memory. The reader checks what it reads, yet bytes made to mislead it may
/// trip it: a panic is an error of the body, not of the process.
fn read(body: &Bytes) -> Result<Vec<RecordBatch>, Error> {
    let broken = |reason: String| Error::Ipc { reason };
    match catch_unwind(AssertUnwindSafe(|| batches(Buffer::from(body.clone())))) {
        Ok(batches) => batches.map_err(|e| broken(e.to_string())),
        Err(_) => Err(broken("its batches contradict themselves".into())),
    }
}

fn batches(mut body: Buffer) -> Result<Vec<RecordBatch>, ArrowError> {
    let (mut decoder, mut batches) = (StreamDecoder::new(), Vec::new());
    while let Some(batch) = decoder.decode(&mut body)? {
        batches.push(batch);
    }
    Ok(batches)
}

struct Decoder<'p> {
    plan: &'p Plan,
    limits: DecodeLimits,
    /// Index of the batch's first row over all batches.
    first_row: usize,
    rejected: Vec<Rejected>,
    unknown: u64,
    /// Bytes that rejected rows take.
    spent: usize,
}

impl Decoder<'_> {
    /// One batch in the stream's columns, without the rows that do not convert.
    fn batch(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let rows = batch.num_rows();
        let mut faults: BTreeMap<usize, Box<Refusal>> = BTreeMap::new();
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
                faults.entry(row).or_insert_with(|| refusal.within(&column.name));
            }
        }
        let keep = kept(rows, &faults);
        self.unknown_fields(batch, &mut columns, &keep)?;
        let refuses = !faults.is_empty();
        self.note(batch, faults)?;
        self.first_row += rows;
        let whole = RecordBatch::try_new(Arc::clone(&self.plan.schema), columns)?;
        Ok(if refuses { filter_record_batch(&whole, &BooleanArray::from(keep))? } else { whole })
    }

    fn note(&mut self, batch: &RecordBatch, faults: BTreeMap<usize, Box<Refusal>>) -> Result<(), Error> {
        for (row, refusal) in faults {
            let index = self.first_row + row;
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
        Ok(())
    }

    /// Counts the values of columns that the stream does not have, or puts them into `_rest`.
    fn unknown_fields(
        &mut self,
        batch: &RecordBatch,
        columns: &mut [ArrayRef],
        keep: &BooleanBuffer,
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

/// The indices of all rows but these.
fn others(rows: usize, rejected: &[Rejected]) -> Vec<u32> {
    let mut gone = rejected.iter().map(|row| row.line - 1).peekable();
    (0..rows as u32).filter(|row| gone.next_if_eq(&u64::from(*row)).is_none()).collect()
}

/// All rows of a batch but those at fault.
fn kept(rows: usize, faults: &BTreeMap<usize, Box<Refusal>>) -> BooleanBuffer {
    if faults.is_empty() {
        return BooleanBuffer::new_set(rows);
    }
    (0..rows).map(|row| !faults.contains_key(&row)).collect()
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
