//! Owns how a row of an Arrow batch is written as text, for quarantine and `_rest`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;

/// The row with that index over all batches, as a JSON object without its NULLs.
pub(crate) fn row_text(batches: &[RecordBatch], row: usize) -> String {
    let mut index = row;
    for batch in batches {
        if index < batch.num_rows() {
            return written(&batch.slice(index, 1)).unwrap_or_else(|error| format!("(it cannot be shown: {error})"));
        }
        index -= batch.num_rows();
    }
    String::new()
}

/// Every value of a column as JSON text, NULLs as `null`.
pub(super) fn values(array: &ArrayRef) -> Result<Vec<String>, ArrowError> {
    let schema = Arc::new(Schema::new(vec![Field::new("v", array.data_type().clone(), true)]));
    let batch = without_zones(&RecordBatch::try_new(schema, vec![Arc::clone(array)])?)?;
    let mut out = Vec::new();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(&mut out);
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    let text = String::from_utf8_lossy(&out);
    let value =
        |line: &str| line.strip_prefix("{\"v\":").and_then(|l| l.strip_suffix('}')).unwrap_or("null").to_owned();
    Ok(text.lines().map(value).collect())
}

fn written(batch: &RecordBatch) -> Result<String, ArrowError> {
    let mut out = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut out);
    writer.write(&without_zones(batch)?)?;
    writer.finish()?;
    drop(writer);
    Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
}

/// Zones are written by offset: no database of zones is at hand, and every instant is kept as UTC.
fn without_zones(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        ArrowType::Timestamp(unit, Some(_)) => zoned(column, *unit, Some("+00:00")),
        _ => Ok(Arc::clone(column)),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(&columns);
    let fields: Vec<Field> =
        fields.map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone())).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// The same instants under another zone's name.
pub(super) fn zoned(array: &ArrayRef, unit: TimeUnit, zone: Option<&str>) -> Result<ArrayRef, ArrowError> {
    let data_type = ArrowType::Timestamp(unit, zone.map(Into::into));
    Ok(arrow::array::make_array(array.to_data().into_builder().data_type(data_type).build()?))
}
