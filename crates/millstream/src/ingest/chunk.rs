//! Owns what is sent in one request, and the key that makes sending it again add nothing.
//!
//! A file is cut into the same chunks every time, and a chunk's key is made from the stream, the file's content, the
//! format and the chunk's number. So a load that was cut off anywhere is finished by running it again: the node knows
//! the keys of the chunks that it has, and adds the others. A file whose content changed is another file.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use crate::failure::{Failure, Result};

/// Rows of one request, as they are sent.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Its number in the file, from 0.
    pub index: u64,
    /// The body.
    pub body: Bytes,
    /// Rows or lines in it.
    pub rows: u64,
    /// What to add to a line number of the body for the line of the file; a row number, for Parquet.
    pub line_offset: i64,
    /// How far into the file this is, in the unit of [`Chunks::length`].
    pub reached: u64,
}

/// A file as chunks.
pub trait Chunks: Send {
    /// The next one. May wait for the disk.
    fn next_chunk(&mut self) -> Result<Option<Chunk>>;
    /// The body's media type.
    fn content_type(&self) -> &'static str;
    /// Where [`Chunk::reached`] ends: rows or bytes.
    fn length(&self) -> u64;
    /// Whether the length counts rows, not bytes.
    fn counts_rows(&self) -> bool;
}

/// What the keys of a file's chunks have in common.
#[derive(Debug, Clone)]
pub struct KeyBase(blake3::Hasher);

impl KeyBase {
    /// Reads the whole file once; `again` makes it another load of the same content.
    pub fn of_file(stream: &str, file: &Path, media_type: &str, again: Option<&str>) -> Result<Self> {
        let broken = |e: std::io::Error| Failure::io(format_args!("read {}", file.display()), &e);
        let mut content = blake3::Hasher::new();
        let mut reader = std::fs::File::open(file).map_err(broken)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer).map_err(broken)? {
                0 => break,
                n => content.update(&buffer[..n]),
            };
        }
        Ok(Self::new(&[stream, media_type, again.unwrap_or_default()], content.finalize().as_bytes()))
    }

    fn new(words: &[&str], content: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for word in words {
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        hasher.update(content);
        Self(hasher)
    }

    /// The key of one chunk.
    pub fn key(&self, index: u64) -> String {
        let mut hasher = self.0.clone();
        hasher.update(&index.to_le_bytes());
        format!("ingest-{}", &hasher.finalize().to_hex()[..32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_streams_formats_contents_loads_and_chunks_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, "one").unwrap();
        std::fs::write(&b, "two").unwrap();
        let key = |stream, file, media_type, again, index| {
            KeyBase::of_file(stream, file, media_type, again).unwrap().key(index)
        };
        let first = key("s", &a, "text/csv", None, 0);
        assert_eq!(first, key("s", &a, "text/csv", None, 0));
        let others = [
            key("t", &a, "text/csv", None, 0),
            key("s", &b, "text/csv", None, 0),
            key("s", &a, "application/x-ndjson", None, 0),
            key("s", &a, "text/csv", Some("x"), 0),
            key("s", &a, "text/csv", None, 1),
        ];
        assert!(others.iter().all(|other| *other != first));
    }
}
