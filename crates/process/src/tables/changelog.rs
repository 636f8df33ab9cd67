//! Owns the records of a table's log: what one statement did, as rows that came and rows that went.
//!
//! ```text
//! the table's columns (all nullable)   _change   _row   _files
//! the row's values                         +1      17   null      row 17 came
//! the row's old values                     -1      12   null      row 12 went
//! the key's values, else NULL              -2      12   null      row 12 went, and what it was is not kept
//! NULL                                      0    null   {"come":[…],"gone":[…]}   the rows lie in files
//! ```
//!
//! One statement is one append, so it is in the log wholly or not at all. A row's number is given once and never
//! again; it is the row's `_offset` for readers and in the lake.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int8Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    new_null_array,
};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use millstream_buffer::LogBatch;
use millstream_catalog::{CHANGE_COLUMN, FILES_COLUMN, OFFSET_COLUMN, ROW_COLUMN, Stream};

use crate::read::BatchAdapter;
use crate::{Error, Result};

/// A row comes.
pub(crate) const COMES: i8 = 1;
/// A row goes; its old content is here.
pub(crate) const GOES: i8 = -1;
/// A row goes; of its content only the key is here.
pub(crate) const GOES_UNSEEN: i8 = -2;
/// The rows are in files.
pub(crate) const IN_FILES: i8 = 0;

/// The schema of a table's log.
pub(crate) fn changelog_schema(table: &Stream) -> SchemaRef {
    let own = table.schema();
    let mut fields: Vec<Field> = own.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    fields.push(Field::new(CHANGE_COLUMN, DataType::Int8, false));
    fields.push(Field::new(ROW_COLUMN, DataType::Int64, true));
    fields.push(Field::new(FILES_COLUMN, DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

/// Builds the record of one statement. `gone` are rows with at least the key's columns and `_offset`, `come` are rows
/// in the table's columns with the number of their first; the others follow it.
pub(crate) fn record(schema: &SchemaRef, gone: &[RecordBatch], come: &[(RecordBatch, i64)]) -> Result<RecordBatch> {
    let mut parts = Vec::with_capacity(gone.len() + come.len());
    for batch in gone.iter().filter(|b| b.num_rows() > 0) {
        parts.push(gone_part(schema, batch)?);
    }
    for (batch, first) in come.iter().filter(|(b, _)| b.num_rows() > 0) {
        let numbers = Int64Array::from_iter_values(*first..*first + batch.num_rows() as i64);
        parts.push(part(schema, batch, COMES, Arc::new(numbers)).map_err(unfit)?);
    }
    match parts.len() {
        1 => Ok(parts.swap_remove(0)),
        _ => concat_batches(schema, &parts).map_err(unfit),
    }
}

fn gone_part(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let own = &schema.fields()[..schema.fields().len() - 3];
    let whole = own.iter().all(|field| batch.column_by_name(field.name()).is_some());
    let numbers = numbers_of(batch).map_err(unfit)?;
    part(schema, batch, if whole { GOES } else { GOES_UNSEEN }, Arc::new(numbers)).map_err(unfit)
}

fn part(schema: &SchemaRef, batch: &RecordBatch, change: i8, numbers: ArrayRef) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        CHANGE_COLUMN => Ok(Arc::new(Int8Array::from_value(change, rows)) as ArrayRef),
        ROW_COLUMN => Ok(Arc::clone(&numbers)),
        FILES_COLUMN => Ok(new_null_array(&DataType::Utf8, rows)),
        name => match batch.column_by_name(name) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), rows)),
        },
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

/// The record of a statement whose rows lie in files.
pub(crate) fn files_record(schema: &SchemaRef, files: &str) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        CHANGE_COLUMN => Arc::new(Int8Array::from_value(IN_FILES, 1)) as ArrayRef,
        FILES_COLUMN => Arc::new(StringArray::from(vec![files])),
        _ => new_null_array(field.data_type(), 1),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).map_err(unfit)
}

/// The numbers of rows that have an `_offset`.
pub(crate) fn numbers_of(batch: &RecordBatch) -> Result<Int64Array, ArrowError> {
    let column = batch.column_by_name(OFFSET_COLUMN).ok_or_else(|| missing(OFFSET_COLUMN))?;
    Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// What a piece of a table's log says.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Rows that came, as readers see them, hidden columns behind.
    pub(crate) come: Option<RecordBatch>,
    /// Numbers of rows that went.
    pub(crate) gone: Vec<u64>,
    /// What names files: the text of `_files`.
    pub(crate) files: Vec<String>,
}

impl Changes {
    /// Reads a piece of the log; `adapter` gives rows their form.
    pub(crate) fn of(log: &LogBatch, adapter: &BatchAdapter) -> Result<Self> {
        let kinds = kinds_of(&log.batch).map_err(unfit)?;
        let row = log.batch.column_by_name(ROW_COLUMN).ok_or_else(|| unfit(missing(ROW_COLUMN)))?;
        let row = row.as_primitive::<Int64Type>();
        let mut changes = Changes::default();
        let coming = kinds.values().iter().filter(|kind| **kind == COMES).count();
        if coming > 0 {
            changes.come = Some(rows_that(log, &kinds, COMES, coming == kinds.len(), adapter)?);
        }
        if coming < kinds.len() {
            let files = log.batch.column_by_name(FILES_COLUMN).ok_or_else(|| unfit(missing(FILES_COLUMN)))?;
            for (i, kind) in kinds.values().iter().enumerate() {
                match *kind {
                    GOES | GOES_UNSEEN => changes.gone.push(row.value(i) as u64),
                    IN_FILES => changes.files.push(files.as_string::<i32>().value(i).to_owned()),
                    _ => {}
                }
            }
        }
        Ok(changes)
    }
}

/// The rows of a piece of the log that names no files, and how each changes the table: +1 or -1. `None` where rows
/// went whose content was not kept.
pub(crate) fn changed_rows(log: &LogBatch, adapter: &BatchAdapter) -> Result<Option<(RecordBatch, Int8Array)>> {
    let kinds = kinds_of(&log.batch).map_err(unfit)?;
    if kinds.values().contains(&GOES_UNSEEN) {
        return Ok(None);
    }
    let rows = LogBatch { batch: numbered(&log.batch).map_err(unfit)?, ..log.clone() };
    Ok(Some((adapter.adapt(&rows).map_err(|e| Error::from_datafusion(e, ""))?, kinds)))
}

/// The text of `_files` of a piece of the log that is one record with such.
pub(crate) fn names_files(batch: &RecordBatch) -> Result<Option<String>> {
    if batch.num_rows() != 1 || kinds_of(batch).map_err(unfit)?.value(0) != IN_FILES {
        return Ok(None);
    }
    let files = batch.column_by_name(FILES_COLUMN).ok_or_else(|| unfit(missing(FILES_COLUMN)))?;
    Ok(Some(files.as_string::<i32>().value(0).to_owned()))
}

/// What kind of record each row of a piece of the log is.
pub(crate) fn kinds_of(batch: &RecordBatch) -> Result<Int8Array, ArrowError> {
    let column = batch.column_by_name(CHANGE_COLUMN).ok_or_else(|| missing(CHANGE_COLUMN))?;
    Ok(column.as_primitive::<Int8Type>().clone())
}

/// The records of one kind as rows of the adapter's schema; their number is their `_offset`.
fn rows_that(log: &LogBatch, kinds: &Int8Array, kind: i8, all: bool, adapter: &BatchAdapter) -> Result<RecordBatch> {
    let batch = if all {
        log.batch.clone()
    } else {
        let mask = BooleanArray::from_unary(kinds, |k| k == kind);
        filter_record_batch(&log.batch, &mask).map_err(unfit)?
    };
    let rows = LogBatch { batch: numbered(&batch).map_err(unfit)?, ..log.clone() };
    adapter.adapt(&rows).map_err(|e| Error::from_datafusion(e, ""))
}

/// The records with their row numbers under the name that readers know.
fn numbered(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let fields = batch.schema();
    let fields = fields.fields().iter().map(|field| match field.name().as_str() {
        ROW_COLUMN => Arc::new(field.as_ref().clone().with_name(OFFSET_COLUMN)),
        _ => Arc::clone(field),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)
}

fn missing(column: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column {column:?} is not there"))
}

fn unfit(error: ArrowError) -> Error {
    Error::rejected(
        millstream_catalog::fault::Code::Internal,
        format!("the changes of a table do not have its log's form: {error}"),
    )
}
