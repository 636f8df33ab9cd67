//! Owns how rows become the bytes of a file, in every format that is written.

mod avro;

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use arrow::json::writer::{Encoder as JsonEncoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder};
use arrow::json::{Writer as JsonWriter, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use flate2::write::GzEncoder;
use millstream_catalog::LOGICAL_TYPE_KEY;
use millstream_catalog::fault::Code;
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as ParquetCompression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;

use self::avro::AvroRows;
use crate::files::cast::{beyond_json, to_json};
use crate::files::copy::{CopyFormat, CopyOptions};
use crate::files::dialect::{Dialect, Header};
use crate::files::format::{Compression, Format};
use crate::files::written::put_record;
use crate::{Error, Result};

/// Encodes batches into bytes that are taken from time to time.
pub(super) struct Encoder {
    form: Form,
    bytes: Waiting,
}

enum Form {
    Parquet(Box<ArrowWriter<Waiting>>),
    Arrow(Box<FileWriter<Packed>>),
    Avro(Box<AvroRows<Packed>>),
    Json(JsonWriter<Packed, LineDelimited>),
    Text { dialect: Dialect, output: Packed },
}

impl Encoder {
    pub(super) fn new(schema: &SchemaRef, options: &CopyOptions, compression: Compression) -> Result<Self> {
        let bytes = Waiting::default();
        let form = match options.format {
            CopyFormat::File(Format::Parquet) => {
                let writer = ArrowWriter::try_new(bytes.clone(), Arc::clone(schema), Some(properties(options)?));
                Form::Parquet(Box::new(writer.map_err(|e| failed(&e))?))
            }
            CopyFormat::File(Format::Arrow) => {
                let output = Packed::new(bytes.clone(), compression)?;
                Form::Arrow(Box::new(FileWriter::try_new(output, schema).map_err(|e| failed(&e))?))
            }
            CopyFormat::File(Format::Avro) => {
                // What is said is how its blocks are packed; a name may say that the file is, besides.
                let whole = if options.compression.is_some() { Compression::None } else { compression };
                let output = Packed::new(bytes.clone(), whole)?;
                Form::Avro(Box::new(AvroRows::new(output, schema, options.compression).map_err(|e| failed(&e))?))
            }
            CopyFormat::File(Format::Json) => {
                let builder = WriterBuilder::new().with_encoder_factory(Arc::new(JsonAsIs));
                Form::Json(builder.build(Packed::new(bytes.clone(), compression)?))
            }
            CopyFormat::File(Format::Csv) | CopyFormat::Text | CopyFormat::Binary => {
                let mut output = Packed::new(bytes.clone(), compression)?;
                if options.dialect.header != Header::No {
                    let mut line = Vec::new();
                    let names = schema.fields().iter().map(|f| Some(f.name().as_bytes()));
                    put_record(&options.dialect, names, &mut line);
                    output.write_all(&line).map_err(|e| failed(&e))?;
                }
                Form::Text { dialect: options.dialect.clone(), output }
            }
        };
        Ok(Self { form, bytes })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.form {
            Form::Parquet(writer) => writer.write(batch).map_err(|e| failed(&e)),
            Form::Arrow(writer) => writer.write(batch).map_err(|e| failed(&e)),
            Form::Avro(rows) => rows.write(batch).map_err(|e| failed(&e)),
            Form::Json(writer) => writer.write(batch).map_err(|e| failed(&e)),
            Form::Text { dialect, output } => {
                let lines = delimited(batch, dialect)?;
                output.write_all(&lines).map_err(|e| failed(&e))
            }
        }
    }

    /// Bytes that can be taken.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.0.lock().len()
    }

    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.0.lock())
    }

    /// Ends the file; its last bytes.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        match self.form {
            Form::Parquet(writer) => {
                writer.close().map_err(|e| failed(&e))?;
            }
            Form::Arrow(writer) => writer.into_inner().map_err(|e| failed(&e))?.finish()?,
            Form::Avro(rows) => rows.finish().map_err(|e| failed(&e))?.finish()?,
            Form::Json(mut writer) => {
                writer.finish().map_err(|e| failed(&e))?;
                writer.into_inner().finish()?;
            }
            Form::Text { output, .. } => output.finish()?,
        }
        Ok(std::mem::take(&mut *self.bytes.0.lock()))
    }
}

fn properties(options: &CopyOptions) -> Result<WriterProperties> {
    let compression = match options.compression {
        None | Some(Compression::Zstd) => ParquetCompression::ZSTD(ZstdLevel::default()),
        Some(Compression::Gzip) => ParquetCompression::GZIP(GzipLevel::default()),
        Some(Compression::Snappy) => ParquetCompression::SNAPPY,
        Some(Compression::None | Compression::Deflate) => ParquetCompression::UNCOMPRESSED,
    };
    Ok(WriterProperties::builder().set_compression(compression).build())
}

/// The rows as lines.
fn delimited(batch: &RecordBatch, dialect: &Dialect) -> Result<Vec<u8>> {
    let schema = batch.schema();
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| texts(column, field));
    let columns: Vec<StringArray> = columns.collect::<Result<_>>()?;
    let mut lines = Vec::new();
    for row in 0..batch.num_rows() {
        let cells = columns.iter().map(|c| (!c.is_null(row)).then(|| c.value(row).as_bytes()));
        put_record(dialect, cells, &mut lines);
    }
    Ok(lines)
}

/// A column as text, in the forms that PostgreSQL writes.
fn texts(column: &ArrayRef, field: &Field) -> Result<StringArray> {
    match column.data_type() {
        DataType::Utf8 => Ok(column.as_string().clone()),
        DataType::Utf8View | DataType::LargeUtf8 => {
            Ok(cast(column, &DataType::Utf8).map_err(|e| failed(&e))?.as_string().clone())
        }
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            let bytes = cast(column, &DataType::Binary).map_err(|e| failed(&e))?;
            let hex = |bytes: &[u8]| bytes.iter().fold("\\x".to_owned(), |text, b| text + &format!("{b:02x}"));
            Ok(bytes.as_binary::<i32>().iter().map(|bytes| bytes.map(hex)).collect())
        }
        kind if kind.is_nested() => Ok(to_json(column, field)?.as_string().clone()),
        _ => {
            let options = FormatOptions::default()
                .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
                .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
            let shown = ArrayFormatter::try_new(column.as_ref(), &options).map_err(|e| failed(&e))?;
            Ok((0..column.len()).map(|row| (!column.is_null(row)).then(|| shown.value(row).to_string())).collect())
        }
    }
}

/// JSON columns go into JSON as they are, not as texts of it.
#[derive(Debug)]
struct JsonAsIs;

impl EncoderFactory for JsonAsIs {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if matches!(array.data_type(), DataType::Binary | DataType::BinaryView | DataType::LargeBinary) {
            let bytes = cast(array, &DataType::Binary)?.as_binary::<i32>().clone();
            let nulls = bytes.nulls().cloned();
            return Ok(Some(NullableEncoder::new(Box::new(Hex(bytes)), nulls)));
        }
        if let Some(doubles) = beyond_json(array)? {
            return Ok(Some(doubles));
        }
        if field.metadata().get(LOGICAL_TYPE_KEY).map(String::as_str) != Some("json") {
            return Ok(None);
        }
        let texts = cast(array, &DataType::Utf8)?.as_string::<i32>().clone();
        let nulls = texts.nulls().cloned();
        Ok(Some(NullableEncoder::new(Box::new(AsIs(texts)), nulls)))
    }
}

/// Bytes as a text of `\\x` and hexadecimal digits.
struct Hex(BinaryArray);

impl JsonEncoder for Hex {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"\\\\x");
        self.0.value(row).iter().for_each(|b| out.extend_from_slice(format!("{b:02x}").as_bytes()));
        out.push(b'"');
    }
}

struct AsIs(StringArray);

impl JsonEncoder for AsIs {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        // A line's end within a value would end the record.
        out.extend(self.0.value(row).bytes().map(|b| if b == b'\n' || b == b'\r' { b' ' } else { b }));
    }
}

/// Bytes that wait to be taken.
#[derive(Debug, Clone, Default)]
struct Waiting(Arc<Mutex<Vec<u8>>>);

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes on their way through a compression.
enum Packed {
    Plain(Waiting),
    Gzip(GzEncoder<Waiting>),
    Zstd(zstd::Encoder<'static, Waiting>),
}

impl Packed {
    fn new(bytes: Waiting, compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::None | Compression::Snappy | Compression::Deflate => Self::Plain(bytes),
            Compression::Gzip => Self::Gzip(GzEncoder::new(bytes, flate2::Compression::default())),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(bytes, 0).map_err(|e| failed(&e))?),
        })
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(packer) => packer.finish().map(drop).map_err(|e| failed(&e)),
            Self::Zstd(packer) => packer.finish().map(drop).map_err(|e| failed(&e)),
        }
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(output) => output.write(bytes),
            Self::Gzip(output) => output.write(bytes),
            Self::Zstd(output) => output.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::rejected(
        Code::Unsupported,
        format!("the rows cannot be written in this format: {error}; write them as csv or cast them"),
    )
}
