//! Owns the formats that hold Arrow's values: Parquet and Arrow IPC, read batch by batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;

use super::parquet_file::ParquetFile;
use crate::Result;
use crate::files::access::File;
use crate::files::bytes::Pieces;
use crate::files::failure::{corrupt, parquet_error};

/// Rows of a batch.
pub(super) const BATCH_ROWS: usize = 8192;
/// What a file of Arrow IPC begins with, with zeros behind it, where a stream begins at once.
const FILE_MAGIC: &[u8] = b"ARROW1";

pub(super) type Batches = BoxStream<'static, Result<RecordBatch>>;

/// The columns and rows of a Parquet file.
pub(in crate::files) async fn parquet_batches(file: &File) -> Result<(SchemaRef, Batches)> {
    let reader = ParquetFile { file: file.clone() };
    let name = file.name.clone();
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|e| parquet_error(&file.name, e, None))?;
    let schema = Arc::clone(builder.schema());
    let stream = builder.with_batch_size(BATCH_ROWS).build().map_err(|e| parquet_error(&file.name, e, None))?;
    let mut rows = 0;
    let batches = stream.map(move |batch| match batch {
        Ok(batch) => {
            rows += batch.num_rows();
            Ok(batch)
        }
        Err(e) => Err(parquet_error(&name, e, Some(rows))),
    });
    Ok((schema, batches.boxed()))
}

/// The columns and rows of Arrow IPC, be it a file or a stream.
///
/// A file holds a stream between its magic bytes and its footer; it is read as that stream.
pub(in crate::files) async fn arrow_batches(name: &str, pieces: Pieces) -> Result<(SchemaRef, Batches)> {
    let mut reader = ArrowReader {
        name: name.to_owned(),
        pieces,
        decoder: StreamDecoder::new(),
        held: Buffer::from_vec(Vec::<u8>::new()),
        begun: false,
        is_file: false,
        done: false,
    };
    let first = reader.next().await?;
    let Some(schema) = reader.decoder.schema() else {
        return Err(corrupt(name, "Arrow IPC", &"it has no schema"));
    };
    let rest = futures::stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|batch| (batch, reader)))
    });
    let batches = futures::stream::iter(first.map(Ok)).chain(rest).into_stream().boxed();
    Ok((schema, batches))
}

struct ArrowReader {
    name: String,
    pieces: Pieces,
    decoder: StreamDecoder,
    held: Buffer,
    begun: bool,
    is_file: bool,
    done: bool,
}

impl ArrowReader {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while !self.done {
            if !self.held.is_empty() {
                match self.decoder.decode(&mut self.held) {
                    Ok(Some(batch)) => return Ok(Some(batch)),
                    Ok(None) => {}
                    // What stands behind the end of a file's stream is its footer.
                    Err(ArrowError::IpcError(e)) if self.is_file && e == "Unexpected EOS" => self.done = true,
                    Err(e) => return Err(corrupt(&self.name, "Arrow IPC", &e)),
                }
                continue;
            }
            match self.pieces.next().await.transpose()? {
                Some(piece) if !self.begun => {
                    self.begun = true;
                    self.is_file = piece.starts_with(FILE_MAGIC);
                    let padded = piece.iter().skip(FILE_MAGIC.len()).take_while(|b| **b == 0).count();
                    let start = if self.is_file { FILE_MAGIC.len() + padded } else { 0 };
                    self.held = Buffer::from(piece.slice(start..));
                }
                Some(piece) => self.held = Buffer::from(piece),
                None => {
                    self.done = true;
                    self.decoder.finish().map_err(|e| corrupt(&self.name, "Arrow IPC", &e))?;
                }
            }
        }
        Ok(None)
    }
}
