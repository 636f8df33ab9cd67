//! Owns the look at an Arrow stream before it is read: whether it is whole, and how much its buffers unpack to.
//!
//! A compressed buffer says how long it is unpacked, and the reader makes room for that. LZ4 buffers are unpacked to
//! nothing here, since the reader would follow them beyond what they said.

use std::io::Read;

use arrow::ipc::{CompressionType, MessageHeader, RecordBatch, root_as_message};

use crate::decode::Error;

const CONTINUATION: [u8; 4] = [0xff; 4];
/// A buffer that says this is not compressed.
const NOT_COMPRESSED: i64 = -1;

/// Checks that every message is there and that all buffers together stay within the limit.
pub(super) fn check(body: &[u8], limit_bytes: usize) -> Result<(), Error> {
    let mut rest = body;
    let mut total = 0usize;
    let mut messages = 0;
    while let Some(Metadata { bytes, after }) = next_metadata(rest)? {
        let message = root_as_message(bytes).map_err(|e| broken(format!("message {messages} is damaged: {e}")))?;
        let length = usize::try_from(message.bodyLength()).map_err(|_| broken("a message has a negative length"))?;
        let data = after.get(..length).ok_or_else(|| broken(format!("it breaks off in message {messages}")))?;
        rest = &after[length..];
        messages += 1;
        let batch = match message.header_type() {
            MessageHeader::RecordBatch => message.header_as_record_batch(),
            MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|d| d.data()),
            MessageHeader::Schema if message.header_as_schema().is_none_or(|schema| schema.fields().is_none()) => {
                return Err(broken("its schema has no fields"));
            }
            _ => None,
        };
        if let Some(batch) = batch {
            total = total.saturating_add(unpacked_bytes(&batch, data, limit_bytes)?);
        }
        if total > limit_bytes {
            return Err(Error::DecompressedTooLarge { limit_bytes });
        }
    }
    if messages == 0 { Err(broken("it has no schema")) } else { Ok(()) }
}

/// A message's description, and what follows it.
struct Metadata<'a> {
    bytes: &'a [u8],
    after: &'a [u8],
}

/// The next message's description; `None` at the stream's end.
fn next_metadata(rest: &[u8]) -> Result<Option<Metadata<'_>>, Error> {
    let Some((mut length, mut rest)) = rest.split_first_chunk::<4>() else {
        return if rest.is_empty() { Ok(None) } else { Err(broken("it breaks off between messages")) };
    };
    if *length == CONTINUATION {
        (length, rest) = rest.split_first_chunk().ok_or_else(|| broken("it breaks off before a message"))?;
    }
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 {
        return Ok(None);
    }
    let split = rest.split_at_checked(length).map(|(bytes, after)| Some(Metadata { bytes, after }));
    split.ok_or_else(|| broken("it breaks off in a message's description"))
}

/// Checks that a batch's buffers lie in their message, and gives what the compressed ones unpack to.
fn unpacked_bytes(batch: &RecordBatch<'_>, data: &[u8], limit_bytes: usize) -> Result<usize, Error> {
    let Some(buffers) = batch.buffers() else { return Ok(0) };
    let mut total = 0usize;
    for buffer in buffers {
        let (start, length) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()));
        let bytes = match (start, length) {
            (Ok(start), Ok(length)) => start.checked_add(length).and_then(|end| data.get(start..end)),
            _ => None,
        };
        let bytes = bytes.ok_or_else(|| broken("a buffer lies outside its message"))?;
        let Some(compression) = batch.compression() else { continue };
        let Some((declared, packed)) = bytes.split_first_chunk::<8>() else { continue };
        let declared = i64::from_le_bytes(*declared);
        if declared == NOT_COMPRESSED {
            continue;
        }
        let declared = usize::try_from(declared).map_err(|_| broken("a buffer has a negative length"))?;
        total = total.saturating_add(declared);
        if total > limit_bytes {
            return Err(Error::DecompressedTooLarge { limit_bytes });
        }
        if compression.codec() == CompressionType::LZ4_FRAME && lz4_bytes(packed, declared)? != declared {
            return Err(broken("a buffer does not unpack to the length it declares"));
        }
    }
    Ok(total)
}

/// How many bytes an LZ4 frame unpacks to, counted up to one more than `expected`.
fn lz4_bytes(packed: &[u8], expected: usize) -> Result<usize, Error> {
    let decoder = lz4_flex::frame::FrameDecoder::new(packed);
    let counted = std::io::copy(&mut decoder.take(expected as u64 + 1), &mut std::io::sink());
    counted.map(|n| n as usize).map_err(|e| broken(format!("a buffer does not unpack: {e}")))
}

fn broken(reason: impl Into<String>) -> Error {
    Error::Ipc { reason: reason.into() }
}
