//! Owns the outside of Avro files: their head and their blocks, each cut out, checked and unpacked.
//!
//! ```text
//! file    "Obj" 1 │ avro.schema, avro.codec, … │ marker │ block …
//! block   rows │ bytes │ data │ marker
//! ```

use std::fmt::Display;
use std::io::Read;

use arrow_avro::compression::CompressionCodec;
use arrow_avro::reader::{HeaderInfo, read_header_info};
use futures::StreamExt;

use crate::files::bytes::Pieces;
use crate::files::failure::corrupt;
use crate::{Error, Result};

/// What a file begins with.
pub(super) const MAGIC: &[u8] = b"Obj\x01";
/// What stands behind the head and each block, the same in all of a file.
pub(super) const MARKER_BYTES: usize = 16;
/// A longer head is none.
const LONGEST_HEAD: usize = 16 << 20;
/// A longer block, packed or not, is refused: it has to be held at once.
const LONGEST_BLOCK: usize = 256 << 20;
/// The two numbers before a block's data take no more.
const NUMBERS_BYTES: usize = 20;

/// Some rows of a file.
pub(super) struct Block {
    pub(super) rows: u64,
    pub(super) data: Vec<u8>,
    /// Its number, from 1, and how many rows stand before it.
    pub(super) place: (u64, u64),
}

/// An Avro file whose head is read.
pub(super) struct Container {
    name: String,
    held: Held,
    schema: String,
    codec: Option<CompressionCodec>,
    marker: [u8; MARKER_BYTES],
    /// Of the next block.
    place: (u64, u64),
}

impl Container {
    pub(super) async fn open(name: &str, pieces: Pieces) -> Result<Self> {
        let mut held = Held { pieces, bytes: Vec::new(), start: 0, ended: false };
        let refuse = |e: &dyn Display| corrupt(name, "Avro", e);
        let head = read_head(name, &mut held).await?;
        let schema = head.writer_schema().map_err(|e| refuse(&e))?.json_string;
        let codec = head.compression().map_err(|e| refuse(&e))?;
        if let Some(CompressionCodec::Bzip2 | CompressionCodec::Xz) = codec {
            let message =
                "its blocks are packed with bzip2 or xz, which are not read: null, deflate, snappy and zstandard are";
            return Err(refuse(&message));
        }
        Ok(Self { name: name.to_owned(), held, schema, codec, marker: head.sync(), place: (1, 0) })
    }

    /// The schema of its rows.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// The next block; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Block>> {
        if !self.held.fill(1).await? {
            return Ok(None);
        }
        self.held.fill(NUMBERS_BYTES).await?;
        let place = self.place;
        let (rows, size, start) = match numbers(self.held.rest()) {
            Some((rows, size, start)) if size <= LONGEST_BLOCK => (rows, size, start),
            Some(_) => return Err(self.damaged(place, &format!("it is longer than {} MiB", LONGEST_BLOCK >> 20))),
            None if self.held.rest().len() < NUMBERS_BYTES => return Err(self.damaged(place, &CUT_OFF)),
            None => return Err(self.damaged(place, &"it does not begin with its length")),
        };
        let end = start + size + MARKER_BYTES;
        if !self.held.fill(end).await? {
            return Err(self.damaged(place, &CUT_OFF));
        }
        let packed = &self.held.rest()[start..start + size];
        if self.held.rest()[start + size..end] != self.marker {
            return Err(self.damaged(place, &"what stands behind it is not the file's marker"));
        }
        let data = unpacked(self.codec, packed).map_err(|e| self.damaged(place, &e))?;
        self.held.start += end;
        self.place = (place.0 + 1, place.1 + rows);
        Ok(Some(Block { rows, data, place }))
    }

    /// A block that is not as it should be.
    pub(super) fn damaged(&self, (number, rows): (u64, u64), reason: &dyn Display) -> Error {
        corrupt(&self.name, "Avro", &format!("block {number}, behind row {rows}: {reason}"))
    }

    pub(super) fn damaged_head(&self, reason: &dyn Display) -> Error {
        corrupt(&self.name, "Avro", reason)
    }
}

const CUT_OFF: &str = "it is cut off";

async fn read_head(name: &str, held: &mut Held) -> Result<HeaderInfo> {
    loop {
        held.more().await?;
        let rest = held.rest();
        let begins = rest.len().min(MAGIC.len());
        if rest[..begins] != MAGIC[..begins] || (held.ended && rest.is_empty()) {
            return Err(corrupt(name, "Avro", &"it does not begin as an Avro file does"));
        }
        match read_header_info(rest) {
            Ok(head) => {
                held.start += usize::try_from(head.header_len()).unwrap_or(usize::MAX).min(rest.len());
                return Ok(head);
            }
            Err(e) if held.ended || rest.len() > LONGEST_HEAD => return Err(corrupt(name, "Avro", &e)),
            Err(_) => {}
        }
    }
}

/// Bytes that were read and are not taken yet.
struct Held {
    pieces: Pieces,
    bytes: Vec<u8>,
    start: usize,
    ended: bool,
}

impl Held {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Reads until there are so many; whether there are.
    async fn fill(&mut self, wanted: usize) -> Result<bool> {
        while self.rest().len() < wanted && !self.ended {
            self.more().await?;
        }
        Ok(self.rest().len() >= wanted)
    }

    async fn more(&mut self) -> Result<()> {
        self.bytes.drain(..self.start);
        self.start = 0;
        match self.pieces.next().await.transpose()? {
            Some(piece) => self.bytes.extend_from_slice(&piece),
            None => self.ended = true,
        }
        Ok(())
    }
}

/// The rows and bytes of a block, and where its data begins.
fn numbers(bytes: &[u8]) -> Option<(u64, usize, usize)> {
    let (rows, first) = number(bytes)?;
    let (size, second) = number(&bytes[first..])?;
    Some((u64::try_from(rows).ok()?, usize::try_from(size).ok()?, first + second))
}

/// A number as Avro writes it, and how many bytes it takes.
fn number(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), i + 1));
        }
    }
    None
}

pub(super) fn put_number(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    put_number(text.len() as i64, out);
    out.extend_from_slice(text.as_bytes());
}

fn unpacked(codec: Option<CompressionCodec>, packed: &[u8]) -> Result<Vec<u8>, String> {
    let too_long = || format!("it is longer than {} MiB", LONGEST_BLOCK >> 20);
    let read = |reader: &mut dyn Read| {
        let mut data = Vec::new();
        let limit = LONGEST_BLOCK as u64 + 1;
        reader.take(limit).read_to_end(&mut data).map_err(|e| format!("it does not decompress: {e}"))?;
        if data.len() > LONGEST_BLOCK { Err(too_long()) } else { Ok(data) }
    };
    match codec {
        Some(CompressionCodec::Deflate) => read(&mut flate2::read::DeflateDecoder::new(packed)),
        Some(CompressionCodec::ZStandard) => {
            let mut decoder = zstd::Decoder::new(packed).map_err(|e| format!("it does not decompress: {e}"))?;
            read(&mut decoder)
        }
        Some(CompressionCodec::Snappy) => {
            let (packed, sum) = packed.split_last_chunk::<4>().ok_or("it has no checksum")?;
            let failed = |e: snap::Error| format!("it does not decompress: {e}");
            if snap::raw::decompress_len(packed).map_err(failed)? > LONGEST_BLOCK {
                return Err(too_long());
            }
            let data = snap::raw::Decoder::new().decompress_vec(packed).map_err(failed)?;
            let mut found = flate2::Crc::new();
            found.update(&data);
            match found.sum() == u32::from_be_bytes(*sum) {
                true => Ok(data),
                false => Err("its checksum is not that of its rows".to_owned()),
            }
        }
        _ => Ok(packed.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were_put() {
        for value in [0, -1, 1, 63, 64, -65, 300, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_number(value, &mut bytes);
            assert_eq!(number(&bytes), Some((value, bytes.len())));
            assert_eq!(number(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(number(&[0xff; 11]), None);
    }
}
