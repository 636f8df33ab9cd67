//! Owns how Parquet files are cut: runs of rows, as Arrow IPC streams or as NDJSON events.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use millstream_catalog::fault::Code;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::chunk::{Chunk, Chunks};
use crate::failure::{Failure, Result};

/// A body that is larger is cut in two.
const MAX_BODY_BYTES: usize = 16 << 20;

/// How rows are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// An Arrow IPC stream.
    ArrowIpc,
    /// A JSON object a line, as producers of events send them.
    Ndjson,
}

/// A Parquet file.
pub struct Parquet {
    file: PathBuf,
    reader: ParquetRecordBatchReader,
    encoding: Encoding,
    length: u64,
    rows_per_chunk: usize,
    /// Read, but not in a chunk yet.
    held: Option<RecordBatch>,
    /// Cut off from a chunk that was too large, the next one last.
    pieces: Vec<RecordBatch>,
    index: u64,
    row: u64,
}

impl Parquet {
    /// Opens a file.
    pub fn open(file: &Path, encoding: Encoding, rows_per_chunk: usize) -> Result<Self> {
        let raw = File::open(file).map_err(|e| Failure::io(format_args!("read {}", file.display()), &e))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(raw).map_err(|e| not_parquet(file, &e))?;
        let length = builder.metadata().file_metadata().num_rows().max(0) as u64;
        let reader = builder.with_batch_size(rows_per_chunk).build().map_err(|e| not_parquet(file, &e))?;
        Ok(Self {
            file: file.to_owned(),
            reader,
            encoding,
            length,
            rows_per_chunk,
            held: None,
            pieces: Vec::new(),
            index: 0,
            row: 0,
        })
    }

    /// The next rows: as many as a chunk has, fewer only at the end, wherever the file's row groups end.
    fn next_rows(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let mut parts: Vec<RecordBatch> = self.held.take().into_iter().collect();
        let mut rows: usize = parts.iter().map(RecordBatch::num_rows).sum();
        while rows < self.rows_per_chunk {
            let Some(batch) = self.reader.next() else {
                break;
            };
            let batch = batch?;
            rows += batch.num_rows();
            parts.push(batch);
        }
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        let whole = if parts.len() == 1 { first.clone() } else { concat_batches(&first.schema(), &parts)? };
        if rows > self.rows_per_chunk {
            self.held = Some(whole.slice(self.rows_per_chunk, rows - self.rows_per_chunk));
        }
        Ok((rows > 0).then(|| whole.slice(0, rows.min(self.rows_per_chunk))))
    }

    fn encode(&self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let mut body = Vec::new();
        match self.encoding {
            Encoding::ArrowIpc => {
                let mut writer = StreamWriter::try_new(&mut body, &batch.schema())?;
                writer.write(batch)?;
                writer.finish()?;
            }
            Encoding::Ndjson => {
                let mut writer = LineDelimitedWriter::new(&mut body);
                writer.write(batch)?;
                writer.finish()?;
            }
        }
        Ok(body)
    }

    /// The next piece whose body is small enough to send.
    fn next_body(&mut self) -> Result<Option<(usize, Vec<u8>)>, ArrowError> {
        if self.pieces.is_empty() {
            let rows = self.next_rows()?;
            self.pieces.extend(rows);
        }
        while let Some(piece) = self.pieces.pop() {
            let body = self.encode(&piece)?;
            let rows = piece.num_rows();
            if body.len() <= MAX_BODY_BYTES || rows == 1 {
                return Ok(Some((rows, body)));
            }
            self.pieces.push(piece.slice(rows / 2, rows - rows / 2));
            self.pieces.push(piece.slice(0, rows / 2));
        }
        Ok(None)
    }
}

impl Chunks for Parquet {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let Some((rows, body)) = self.next_body().map_err(|e| not_parquet(&self.file, &e))? else {
            return Ok(None);
        };
        let first = self.row;
        self.row += rows as u64;
        self.index += 1;
        Ok(Some(Chunk {
            index: self.index - 1,
            body: Bytes::from(body),
            rows: rows as u64,
            line_offset: first as i64,
            reached: self.row,
        }))
    }

    fn content_type(&self) -> &'static str {
        match self.encoding {
            Encoding::ArrowIpc => "application/vnd.apache.arrow.stream",
            Encoding::Ndjson => "application/x-ndjson",
        }
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn counts_rows(&self) -> bool {
        true
    }
}

fn not_parquet(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::InvalidRequest, format!("cannot read {} as Parquet: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::ipc::reader::StreamReader;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    fn file_of(rows: i64, row_group: usize, text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::with_suffix(".parquet").unwrap();
        let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let t: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|_| text)));
        let batch = RecordBatch::try_from_iter([("n", n), ("t", t)]).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group)).build();
        let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        file
    }

    fn rows_of(file: &Path, per_chunk: usize) -> Vec<u64> {
        let mut parquet = Parquet::open(file, Encoding::ArrowIpc, per_chunk).unwrap();
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(chunk) = parquet.next_chunk().unwrap() {
            for batch in StreamReader::try_new(&chunk.body[..], None).unwrap() {
                let batch = batch.unwrap();
                let n = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
                assert!(n.values().iter().all(|&n| {
                    next += 1;
                    n == next - 1
                }));
            }
            found.push(chunk.rows);
        }
        assert_eq!(found.iter().sum::<u64>(), parquet.length());
        found
    }

    #[test]
    fn chunks_do_not_depend_on_row_groups() {
        assert_eq!(rows_of(file_of(100, 7, "x").path(), 40), [40, 40, 20]);
        assert_eq!(rows_of(file_of(100, 1000, "x").path(), 40), [40, 40, 20]);
        assert!(rows_of(file_of(0, 10, "x").path(), 40).is_empty());
    }

    #[test]
    fn a_body_that_is_too_large_is_cut() {
        let text = "x".repeat(5 << 20);
        assert_eq!(rows_of(file_of(10, 100, &text).path(), 10), [2, 3, 2, 3]);
    }

    #[test]
    fn what_is_not_parquet_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = Parquet::open(file.path(), Encoding::ArrowIpc, 10).err().unwrap();
        assert!(failure.message.starts_with("cannot read ") && failure.message.contains("as Parquet"), "{failure}");
    }
}
