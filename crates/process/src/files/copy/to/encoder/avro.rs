//! Owns rows as an Avro file: the names and types that Avro has for columns, and their blocks.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeBinaryBuilder, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{Writer, WriterBuilder};
use millstream_catalog::LOGICAL_TYPE_KEY;
use uuid::Uuid;

use crate::files::format::Compression;

/// The record's name.
const RECORD: (&str, &str) = ("avro.name", "row");
/// What marks sixteen bytes as a UUID.
const UUID: (&str, &str) = ("logicalType", "uuid");

/// Writes rows, a block for each batch.
pub(super) struct AvroRows<W: Write> {
    writer: Writer<W, AvroOcfFormat>,
    schema: SchemaRef,
}

impl<W: Write> AvroRows<W> {
    /// Begins a file whose blocks are packed; with deflate where nothing is said, which every reader knows.
    pub(super) fn new(output: W, rows: &Schema, compression: Option<Compression>) -> Result<Self, ArrowError> {
        let codec = match compression {
            None | Some(Compression::Deflate | Compression::Gzip) => Some(CompressionCodec::Deflate),
            Some(Compression::Snappy) => Some(CompressionCodec::Snappy),
            Some(Compression::Zstd) => Some(CompressionCodec::ZStandard),
            Some(Compression::None) => None,
        };
        let names = names(rows);
        let fields = rows.fields().iter().zip(names).map(|(field, name)| in_avro(field).with_name(name));
        let metadata = [(RECORD.0.to_owned(), RECORD.1.to_owned())].into_iter().collect();
        let schema = Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata);
        let writer = WriterBuilder::new(schema.clone()).with_compression(codec).build(output)?;
        Ok(Self { writer, schema: Arc::new(schema) })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(values, field)| as_avro(values, field));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = columns.collect::<Result<_, _>>()?;
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(self.writer.write(&batch)?)
    }

    pub(super) fn finish(mut self) -> Result<W, ArrowError> {
        self.writer.finish()?;
        Ok(self.writer.into_inner())
    }
}

/// Names that Avro has, each once: letters, digits and `_`.
fn names(schema: &Schema) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let mut name: String = field.name().chars().map(allowed).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            name.insert(0, '_');
        }
        let mut free = name.clone();
        let mut n = 1;
        while names.contains(&free) {
            n += 1;
            free = format!("{name}_{n}");
        }
        names.push(free);
    }
    names
}

/// The field whose values the library writes as what the column is.
fn in_avro(field: &Field) -> Field {
    let marked = field.metadata().get(LOGICAL_TYPE_KEY).is_some_and(|kind| kind == "uuid");
    let data_type = match field.data_type() {
        _ if marked => ArrowType::FixedSizeBinary(16),
        ArrowType::Time32(_) | ArrowType::Time64(_) => ArrowType::Time64(TimeUnit::Microsecond),
        ArrowType::Null => ArrowType::Utf8,
        ArrowType::Dictionary(_, inner) => inner.as_ref().clone(),
        other => other.clone(),
    };
    let plain = Field::new(field.name(), data_type, field.is_nullable());
    match marked {
        true => plain.with_metadata([(UUID.0.to_owned(), UUID.1.to_owned())].into_iter().collect()),
        false => plain,
    }
}

fn as_avro(values: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    if values.data_type() == field.data_type() {
        return Ok(Arc::clone(values));
    }
    if !field.metadata().contains_key(UUID.0) {
        return cast(values, field.data_type());
    }
    let texts = cast(values, &ArrowType::Utf8)?;
    let mut uuids = FixedSizeBinaryBuilder::with_capacity(values.len(), 16);
    for text in texts.as_string::<i32>() {
        match text.map(Uuid::try_parse).transpose() {
            Ok(Some(uuid)) => uuids.append_value(uuid.as_bytes())?,
            Ok(None) => uuids.append_null(),
            Err(e) => return Err(ArrowError::CastError(format!("{:?} is no uuid: {e}", text.unwrap_or_default()))),
        }
    }
    Ok(Arc::new(uuids.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_get_names_that_avro_has() {
        let of = |name: &str| Field::new(name, ArrowType::Int64, true);
        let schema = Schema::new(vec![of("count(*)"), of("count_*_"), of("2013"), of("é"), of("a")]);
        assert_eq!(names(&schema), ["count___", "count____2", "_2013", "_", "a"]);
    }
}
