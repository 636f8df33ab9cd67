//! Owns how batches become bytes of each answer format, piece by piece.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::format::Format;
use crate::column::{Column, put_json_value};
use crate::sql_type::SqlType;

/// A Parquet row group is closed at this many rows or bytes, whichever comes first: what one answer may hold in memory.
const ROW_GROUP_ROWS: usize = 128 * 1024;
const ROW_GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    /// A value does not fit its type's written form.
    #[error("a value of the result cannot be written: {0}")]
    Arrow(#[from] ArrowError),
    /// The Parquet writer refused.
    #[error("the result cannot be written as Parquet: {0}")]
    Parquet(#[from] ParquetError),
}

/// A result on its way out in one format. Each call gives the bytes that are ready.
pub(super) enum Encoder {
    /// JSON, NDJSON and CSV.
    Text(TextEncoder),
    /// Arrow IPC.
    Arrow(Box<StreamWriter<Vec<u8>>>),
    /// Parquet.
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Encoder {
    /// The start of an answer: its encoder and first bytes.
    pub(super) fn start(format: Format, schema: &SchemaRef) -> Result<(Self, Vec<u8>), EncodeError> {
        match format {
            Format::Json | Format::NdJson | Format::Csv => {
                let encoder = TextEncoder::new(format, schema);
                let head = encoder.head();
                Ok((Self::Text(encoder), head))
            }
            Format::Arrow => {
                let mut writer = Box::new(StreamWriter::try_new(Vec::new(), schema)?);
                let head = std::mem::take(writer.get_mut());
                Ok((Self::Arrow(writer), head))
            }
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                let writer = ArrowWriter::try_new(Vec::new(), parquet_schema(schema), Some(properties))?;
                Ok((Self::Parquet(Box::new(writer)), Vec::new()))
            }
        }
    }

    /// A batch's bytes; none while a Parquet row group is filling.
    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Text(encoder) => Ok(encoder.batch(batch)?),
            Self::Arrow(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Parquet(writer) => {
                writer.write(&parquet_batch(batch)?)?;
                if writer.in_progress_size() >= ROW_GROUP_BYTES {
                    writer.flush()?;
                }
                Ok(std::mem::take(writer.inner_mut()))
            }
        }
    }

    /// The bytes that end a complete answer.
    pub(super) fn finish(self) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Text(encoder) => Ok(encoder.tail()),
            Self::Arrow(mut writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Parquet(writer) => Ok(writer.into_inner()?),
        }
    }

    /// The bytes that end an answer which failed on the way, `error` being a problem document; none where the format
    /// has no place for it, so that the connection must break off.
    pub(super) fn fail(self, error: &serde_json::Value) -> Option<Vec<u8>> {
        match self {
            Self::Text(TextEncoder { format: Format::Json, .. }) => {
                let mut out = b"],\"error\":".to_vec();
                put_json_value(error, &mut out);
                out.extend_from_slice(b"}\n");
                Some(out)
            }
            Self::Text(TextEncoder { format: Format::NdJson, .. }) => {
                let mut out = b"{\"error\":".to_vec();
                put_json_value(error, &mut out);
                out.extend_from_slice(b"}\n");
                Some(out)
            }
            _ => None,
        }
    }
}

/// Parquet has no type for months, days and nanoseconds together: intervals are written as their ISO 8601 text.
fn parquet_schema(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Interval(_) => Arc::new(Field::new(field.name(), DataType::Utf8, field.is_nullable())),
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

fn parquet_batch(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|array| match array.data_type() {
        DataType::Interval(_) => interval_texts(array),
        _ => Ok(Arc::clone(array)),
    });
    RecordBatch::try_new(parquet_schema(batch.schema_ref()), columns.collect::<Result<_, _>>()?)
}

fn interval_texts(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let column = Column::new(&SqlType::Interval, array)?;
    let texts: StringArray = (0..array.len())
        .map(|row| {
            let mut text = Vec::new();
            (!column.is_null(row)).then(|| {
                column.put_plain(row, &mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        })
        .collect();
    Ok(Arc::new(texts))
}

/// Rows as JSON arrays, JSON objects or CSV lines.
pub(super) struct TextEncoder {
    format: Format,
    columns: Vec<(String, SqlType)>,
    /// `"name":` per column, for NDJSON.
    keys: Vec<Vec<u8>>,
    any_row: bool,
}

impl TextEncoder {
    pub(super) fn new(format: Format, schema: &SchemaRef) -> Self {
        let columns: Vec<_> = schema.fields().iter().map(|field| (field.name().clone(), SqlType::of(field))).collect();
        let keys = columns
            .iter()
            .map(|(name, _)| {
                let mut key = Vec::new();
                put_json_value(name.as_str(), &mut key);
                key.push(b':');
                key
            })
            .collect();
        Self { format, columns, keys, any_row: false }
    }

    fn head(&self) -> Vec<u8> {
        match self.format {
            Format::Json => {
                let columns: Vec<_> = self
                    .columns
                    .iter()
                    .map(|(name, sql_type)| serde_json::json!({"name": name, "type": sql_type.to_string()}))
                    .collect();
                let mut out = b"{\"columns\":".to_vec();
                put_json_value(&columns, &mut out);
                out.extend_from_slice(b",\"rows\":[");
                out
            }
            Format::Csv => {
                let mut out = Vec::new();
                for (i, (name, _)) in self.columns.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    let start = out.len();
                    out.extend_from_slice(name.as_bytes());
                    quote_csv_field(start, name.is_empty(), &mut out);
                }
                out.extend_from_slice(b"\r\n");
                out
            }
            _ => Vec::new(),
        }
    }

    fn tail(&self) -> Vec<u8> {
        match self.format {
            Format::Json => b"]}\n".to_vec(),
            _ => Vec::new(),
        }
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let columns = self.columns_of(batch)?;
        let mut out = Vec::with_capacity(batch.num_rows() * (2 + 12 * columns.len()));
        for row in 0..batch.num_rows() {
            match self.format {
                Format::Json => self.put_json_row(&columns, row, &mut out),
                Format::NdJson => self.put_object_row(&columns, row, &mut out),
                _ => put_csv_row(&columns, row, &mut out),
            }
            self.any_row = true;
        }
        Ok(out)
    }

    /// A batch's values, ready to be written.
    pub(super) fn columns_of(&self, batch: &RecordBatch) -> Result<Vec<Column>, ArrowError> {
        let columns = self.columns.iter().zip(batch.columns());
        columns.map(|((_, sql_type), array)| Column::new(sql_type, array)).collect()
    }

    fn put_json_row(&self, columns: &[Column], row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.any_row { b",\n[" } else { b"\n[" });
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            column.put_json(row, out);
        }
        out.push(b']');
    }

    /// Writes a row as a JSON object and a line's end.
    pub(super) fn put_object_row(&self, columns: &[Column], row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for (i, (column, key)) in columns.iter().zip(&self.keys).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key);
            column.put_json(row, out);
        }
        out.extend_from_slice(b"}\n");
    }
}

/// NULL is an empty field; empty text is a quoted empty field.
fn put_csv_row(columns: &[Column], row: usize, out: &mut Vec<u8>) {
    for (i, column) in columns.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if !column.is_null(row) {
            let start = out.len();
            column.put_plain(row, out);
            quote_csv_field(start, true, out);
        } else if columns.len() == 1 {
            // A line with nothing on it would be no row at all.
            out.extend_from_slice(b"\"\"");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Quotes the field that starts at `start` if it needs it.
fn quote_csv_field(start: usize, quote_empty: bool, out: &mut Vec<u8>) {
    let field = &out[start..];
    let needs_quotes = field.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'));
    let empty = quote_empty && field.is_empty();
    if !(needs_quotes || empty) {
        return;
    }
    let field = out.split_off(start);
    out.push(b'"');
    for byte in field {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}
