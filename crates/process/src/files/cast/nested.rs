//! Owns arrays and rows in files: read from their text, and shown as JSON where text is wanted.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder};
use arrow::compute::interleave;
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::json::writer::WriterBuilder;
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use millstream_catalog::DataType;

use super::doubles::DoublesAsTexts;
use super::{BadCell, Wanted, defect, not_valid, words};
use crate::Result;

/// The name of the one field that values are wrapped in.
const VALUE: &str = "v";

/// JSON text, or an array as PostgreSQL writes it, as values of an array or row type.
pub(super) fn from_text(cells: &StringArray, wanted: Wanted<'_>, bad: &mut Vec<BadCell>) -> Result<ArrayRef> {
    let lines: Vec<String> = cells.iter().map(|cell| json_of(cell, wanted.data_type)).collect();
    if let Ok(values) = decode(&lines.concat(), lines.len(), wanted.data_type) {
        return Ok(values);
    }
    // Some line is bad: each by itself tells which.
    let mut each = Vec::with_capacity(lines.len());
    for (row, line) in lines.iter().enumerate() {
        let value = decode(line, 1, wanted.data_type).or_else(|_| {
            bad.push(not_valid(row, cells.value(row), wanted));
            decode(&json_of(None, wanted.data_type), 1, wanted.data_type)
        });
        each.push(value.map_err(defect)?);
    }
    let arrays: Vec<&dyn Array> = each.iter().map(AsRef::as_ref).collect();
    let places: Vec<(usize, usize)> = (0..arrays.len()).map(|i| (i, 0)).collect();
    interleave(&arrays, &places).map_err(defect)
}

fn json_of(cell: Option<&str>, data_type: &DataType) -> String {
    let text = cell.map(str::trim).unwrap_or("null");
    let written_by_postgres = matches!(data_type, DataType::Array(_)) && text.starts_with('{');
    let array = written_by_postgres.then(|| words::array_in_json(text, words::is_bare(data_type))).flatten();
    format!("{{\"{VALUE}\": {}}}\n", array.as_deref().unwrap_or(text))
}

fn decode(lines: &str, rows: usize, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let schema = Arc::new(Schema::new(vec![data_type.to_field(VALUE, true)]));
    let mut reader =
        ReaderBuilder::new(schema).with_coerce_primitive(true).with_batch_size(rows.max(1)).build(lines.as_bytes())?;
    match reader.next().transpose()? {
        Some(batch) if batch.num_rows() == rows => Ok(Arc::clone(batch.column(0))),
        None if rows == 0 => Ok(arrow::array::new_empty_array(&data_type.to_arrow())),
        _ => Err(ArrowError::JsonError("not one value".to_owned())),
    }
}

/// Values as JSON text.
pub(in crate::files) fn to_json(values: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let field = Field::new(VALUE, values.data_type().clone(), true).with_metadata(field.metadata().clone());
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(values)]).map_err(defect)?;
    let mut texts = StringBuilder::new();
    for row in 0..values.len() {
        if values.is_null(row) {
            texts.append_null();
            continue;
        }
        let text = row_in_json(&batch.slice(row, 1))?;
        let value = text.trim_end().strip_prefix(&format!("{{\"{VALUE}\":")).and_then(|t| t.strip_suffix('}'));
        texts.append_option(value);
    }
    Ok(Arc::new(texts.finish()))
}

/// A batch's one row as a JSON object.
pub(in crate::files) fn row_in_json(row: &RecordBatch) -> Result<String> {
    let mut text = Vec::new();
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(DoublesAsTexts));
    let mut writer: LineDelimitedWriter<&mut Vec<u8>> = builder.build(&mut text);
    writer.write(row).and_then(|()| writer.finish()).map_err(defect)?;
    drop(writer);
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}
