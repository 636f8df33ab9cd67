//! Owns how text files are cut: NDJSON at line ends, CSV at record ends with the header before every chunk.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use millstream_catalog::fault::Code;

use super::chunk::{Chunk, Chunks};
use crate::failure::{Failure, Result};

/// A chunk ends at the record that reaches this many bytes.
const CHUNK_BYTES: usize = 4 << 20;
/// No record may be longer, so that memory stays flat.
const MAX_RECORD_BYTES: usize = 32 << 20;

/// A text file.
pub struct Lines {
    file: PathBuf,
    reader: Box<dyn BufRead + Send>,
    consumed: Arc<AtomicU64>,
    length: u64,
    /// The CSV header, with its line end; `None` for NDJSON.
    header: Option<Vec<u8>>,
    rows_per_chunk: u64,
    index: u64,
    /// Lines read so far.
    line: u64,
}

impl Lines {
    /// Opens a file; `.gz` and `.zst` are decompressed.
    pub fn open(file: &Path, csv: bool, rows_per_chunk: u64) -> Result<Self> {
        let broken = |e: std::io::Error| Failure::io(format_args!("read {}", file.display()), &e);
        let raw = File::open(file).map_err(broken)?;
        let length = raw.metadata().map_err(broken)?.len();
        let consumed = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: raw, consumed: consumed.clone() };
        let reader: Box<dyn BufRead + Send> = match file.extension().and_then(|e| e.to_str()) {
            Some("gz") => Box::new(BufReader::with_capacity(1 << 20, flate2::read::MultiGzDecoder::new(counted))),
            Some("zst") => {
                Box::new(BufReader::with_capacity(1 << 20, zstd::stream::read::Decoder::new(counted).map_err(broken)?))
            }
            _ => Box::new(BufReader::with_capacity(1 << 20, counted)),
        };
        let mut lines = Self {
            file: file.to_owned(),
            reader,
            consumed,
            length,
            header: csv.then(Vec::new),
            rows_per_chunk,
            index: 0,
            line: 0,
        };
        if csv {
            lines.read_header()?;
        }
        Ok(lines)
    }

    fn read_header(&mut self) -> Result<()> {
        let mut header = Vec::new();
        if self.read_record(&mut header)? == 0 {
            return Err(Failure::new(
                Code::InvalidRequest,
                format!("{} is empty; a CSV file begins with a header", self.file.display()),
            ));
        }
        if !header.ends_with(b"\n") {
            header.push(b'\n');
        }
        self.header = Some(header);
        Ok(())
    }

    /// Adds one record to `into`; how many bytes it has, 0 at the end of the file.
    fn read_record(&mut self, into: &mut Vec<u8>) -> Result<usize> {
        let start = into.len();
        let mut quotes = Quotes::default();
        loop {
            let line_start = into.len();
            let room = (MAX_RECORD_BYTES - (line_start - start)) as u64;
            let read = self
                .reader
                .by_ref()
                .take(room)
                .read_until(b'\n', into)
                .map_err(|e| Failure::io(format_args!("read {}", self.file.display()), &e))?;
            if read == 0 && room > 0 {
                return Ok(into.len() - start);
            }
            self.line += 1;
            if read as u64 == room && !into.ends_with(b"\n") {
                return Err(Failure::new(
                    Code::TooLarge,
                    format!(
                        "{}, line {}: the row is longer than {} MiB",
                        self.file.display(),
                        self.line,
                        MAX_RECORD_BYTES >> 20
                    ),
                ));
            }
            if self.header.is_none() || !quotes.open_after(&into[line_start..]) {
                return Ok(into.len() - start);
            }
        }
    }
}

impl Chunks for Lines {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let mut body = self.header.clone().unwrap_or_default();
        let start = body.len();
        let first_line = self.line;
        let mut rows = 0;
        while rows < self.rows_per_chunk && body.len() < CHUNK_BYTES {
            if self.read_record(&mut body)? == 0 {
                break;
            }
            rows += 1;
        }
        if body.len() == start {
            return Ok(None);
        }
        let header_lines = self.header.iter().flatten().filter(|&&b| b == b'\n').count() as i64;
        self.index += 1;
        Ok(Some(Chunk {
            index: self.index - 1,
            body: Bytes::from(body),
            rows,
            line_offset: first_line as i64 - header_lines,
            reached: self.consumed.load(Ordering::Relaxed),
        }))
    }

    fn content_type(&self) -> &'static str {
        if self.header.is_some() { "text/csv" } else { "application/x-ndjson" }
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn counts_rows(&self) -> bool {
        false
    }
}

/// Whether a CSV record is inside quotes, over its lines.
#[derive(Debug, Default)]
struct Quotes {
    open: bool,
}

impl Quotes {
    /// Takes one more line; true when the record goes on after it.
    fn open_after(&mut self, line: &[u8]) -> bool {
        let mut previous = b',';
        for &byte in line {
            if byte == b'"' {
                // A quote opens a field at its start, and within it when doubled.
                self.open = !self.open && matches!(previous, b',' | b'"');
            }
            previous = byte;
        }
        self.open
    }
}

/// Counts what is read, for the progress bar.
struct Counted {
    inner: File,
    consumed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(name: &str, content: &[u8], csv: bool, rows: u64) -> Vec<(i64, u64, String)> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let mut lines = Lines::open(&file, csv, rows).unwrap();
        let mut found = Vec::new();
        while let Some(chunk) = lines.next_chunk().unwrap() {
            assert_eq!(chunk.index, found.len() as u64);
            found.push((chunk.line_offset, chunk.rows, String::from_utf8(chunk.body.to_vec()).unwrap()));
        }
        found
    }

    #[test]
    fn ndjson_is_cut_at_line_ends() {
        let found = chunks("a.ndjson", b"{\"a\":1}\n{\"a\":2}\n{\"a\":3}", false, 2);
        assert_eq!(found, [(0, 2, "{\"a\":1}\n{\"a\":2}\n".into()), (2, 1, "{\"a\":3}".into())]);
    }

    #[test]
    fn csv_is_cut_at_record_ends_with_the_header_repeated() {
        let text = b"a,b\n1,\"x\ny\"\n2,\"say \"\"hi\"\"\"\n3,5\" tall\n4,z\n";
        let found = chunks("a.csv", text, true, 2);
        assert_eq!(
            found,
            [(0, 2, "a,b\n1,\"x\ny\"\n2,\"say \"\"hi\"\"\"\n".into()), (3, 2, "a,b\n3,5\" tall\n4,z\n".into()),]
        );
    }

    #[test]
    fn compressed_files_are_read_through() {
        use std::io::Write;
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"{}\n{}\n").unwrap();
        assert_eq!(chunks("a.ndjson.gz", &gz.finish().unwrap(), false, 9), [(0, 2, "{}\n{}\n".into())]);
        let zst = zstd::encode_all(&b"{}\n"[..], 1).unwrap();
        assert_eq!(chunks("a.ndjson.zst", &zst, false, 9), [(0, 1, "{}\n".into())]);
    }

    #[test]
    fn a_row_without_end_is_refused_before_it_fills_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.ndjson");
        std::fs::write(&file, vec![b'x'; MAX_RECORD_BYTES + 1]).unwrap();
        let failure = Lines::open(&file, false, 10).unwrap().next_chunk().unwrap_err();
        assert!(failure.message.ends_with("line 1: the row is longer than 32 MiB"), "{failure}");
    }

    #[test]
    fn an_empty_file_has_no_chunks_and_an_empty_csv_file_is_refused() {
        assert!(chunks("a.ndjson", b"", false, 10).is_empty());
        assert!(chunks("a.csv", b"a,b\n", true, 10).is_empty());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        std::fs::write(&file, "").unwrap();
        assert!(Lines::open(&file, true, 10).is_err());
    }
}
