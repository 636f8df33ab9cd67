//! Owns batches as bytes: Arrow IPC record batch messages, encoded without a copy and decoded without one.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::RecordBatchDecoder;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use parking_lot::Mutex;

use super::format::{ALIGNMENT, encoding};
use crate::Result;
use crate::weight::held_bytes;

/// How batches are kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are in memory: fastest.
    #[default]
    Plain,
    /// Smaller, for slow disks.
    Lz4,
}

/// A batch and its bytes.
#[derive(Debug)]
pub(super) struct Encoded {
    pub batch: RecordBatch,
    /// The bytes, in order; most of them are the batch's own buffers.
    pub buffers: Vec<Buffer>,
    pub length: u64,
    pub crc: u32,
}

/// Encodes batches of one schema. Encoders are reused: the schema's message is made once for each.
pub(super) struct Encoder {
    pub schema: SchemaRef,
    options: IpcWriteOptions,
    idle: Mutex<Vec<StreamEncoder>>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Encoder {
    pub fn new(schema: SchemaRef, compression: Compression) -> Result<Self> {
        crate::fit::check_schema(&schema)?;
        let codec = match compression {
            Compression::Plain => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
        };
        let options =
            IpcWriteOptions::default().try_with_compression(codec).map_err(|e| encoding("prepare to encode", e))?;
        Ok(Self { schema, options, idle: Mutex::default() })
    }

    /// Encodes a batch that has the encoder's schema.
    pub fn encode(&self, batch: RecordBatch) -> Result<Encoded> {
        let idle = self.idle.lock().pop();
        let mut encoder = match idle {
            Some(encoder) => encoder,
            None => self.begin().map_err(|e| encoding("encode", e))?,
        };
        let buffers = encoder.encode(&batch).map_err(|e| encoding("encode", e))?;
        self.idle.lock().push(encoder);
        let mut crc = 0;
        let mut length = 0;
        for buffer in &buffers {
            crc = crc32c::crc32c_append(crc, buffer);
            length += buffer.len() as u64;
        }
        Ok(Encoded { batch, buffers, length, crc })
    }

    /// An encoder whose next message is a batch's: the schema's was taken from it.
    fn begin(&self) -> Result<StreamEncoder, ArrowError> {
        let mut encoder = StreamEncoder::try_new_with_options(&self.schema, self.options.clone())?;
        encoder.encode(&RecordBatch::new_empty(self.schema.clone()))?;
        Ok(encoder)
    }
}

/// Reads a batch of `rows` rows from bytes whose checksum was found right. The batch's buffers are slices of `bytes`.
pub(super) fn decode(bytes: &Buffer, schema: &SchemaRef, rows: usize) -> Result<RecordBatch, ArrowError> {
    let broken = |reason: &str| ArrowError::IpcError(reason.to_string());
    let prefix = bytes.get(..8).ok_or_else(|| broken("the message is shorter than its prefix"))?;
    let metadata = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]) as usize;
    let head = bytes.get(8..8 + metadata).ok_or_else(|| broken("the message's metadata is cut short"))?;
    let message = root_as_message(head).map_err(|e| broken(&e.to_string()))?;
    let record = message.header_as_record_batch().ok_or_else(|| broken("the message is not a record batch"))?;
    let body = bytes.slice(8 + metadata);
    for buffer in record.buffers().into_iter().flatten() {
        let end = buffer.offset().checked_add(buffer.length());
        let inside = buffer.offset() >= 0 && buffer.length() >= 0 && end.is_some_and(|e| e as usize <= body.len());
        if !inside {
            return Err(broken("a buffer lies outside of the message"));
        }
    }
    let dictionaries = HashMap::new();
    let version = message.version();
    let batch =
        RecordBatchDecoder::try_new(&body, record, schema.clone(), &dictionaries, &version)?.read_record_batch()?;
    if batch.num_rows() != rows {
        return Err(broken("the message has another number of rows than its entry says"));
    }
    Ok(batch)
}

/// Recent rows stay in memory as they came; where they hold far more than they need, as a slice of something large
/// does, they are copied.
pub(super) fn compact_if_wasteful(encoded: &mut Encoded) -> Result<()> {
    if held_bytes(&encoded.batch) as u64 > 3 * encoded.length + 4096 { compact(encoded) } else { Ok(()) }
}

/// Puts a batch's bytes in one piece, aligned, and decodes it from them: it holds no memory beyond them.
fn compact(encoded: &mut Encoded) -> Result<()> {
    let mut bytes = arrow::buffer::MutableBuffer::new(encoded.length.next_multiple_of(ALIGNMENT as u64) as usize);
    for buffer in &encoded.buffers {
        bytes.extend_from_slice(buffer.as_slice());
    }
    let bytes: Buffer = bytes.into();
    let schema = encoded.batch.schema();
    encoded.batch = decode(&bytes, &schema, encoded.batch.num_rows()).map_err(|e| encoding("decode", e))?;
    encoded.buffers = vec![bytes];
    Ok(())
}
