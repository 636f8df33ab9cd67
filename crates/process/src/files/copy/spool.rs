//! Owns pieces that wait until all are read: in memory while they are small, in a file without a name beyond that.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use millstream_catalog::fault::Code;

use super::load::{Lines, Piece};
use crate::{Error, Result};

/// Rows that wait in memory.
const MEMORY_BYTES: usize = 16 << 20;

/// Pieces that wait, in their order.
pub(super) struct Spool {
    schema: SchemaRef,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    file: Option<StreamWriter<BufWriter<File>>>,
    /// Of each piece, its file and number in it.
    places: Vec<(usize, u64)>,
}

impl Spool {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, held: Vec::new(), held_bytes: 0, file: None, places: Vec::new() }
    }

    /// Takes a piece; `folder` is for the file.
    pub(super) fn push(&mut self, piece: Piece, folder: &Path) -> Result<()> {
        self.places.push((piece.file, piece.number));
        if let Some(file) = &mut self.file {
            return file.write(&piece.batch).map_err(|e| failed(&e));
        }
        self.held_bytes += piece.batch.get_array_memory_size();
        self.held.push(piece.batch);
        if self.held_bytes > MEMORY_BYTES {
            let file = tempfile::tempfile_in(folder).map_err(|e| failed(&e))?;
            let mut writer = StreamWriter::try_new(BufWriter::new(file), &self.schema).map_err(|e| failed(&e))?;
            for batch in std::mem::take(&mut self.held) {
                writer.write(&batch).map_err(|e| failed(&e))?;
            }
            self.file = Some(writer);
        }
        Ok(())
    }

    /// Gives the pieces back.
    pub(super) fn end(self) -> Result<Spooled> {
        let file = match self.file {
            None => None,
            Some(writer) => {
                let buffered = writer.into_inner().map_err(|e| failed(&e))?;
                let mut file = buffered.into_inner().map_err(|e| failed(&e))?;
                file.rewind().map_err(|e| failed(&e))?;
                Some(StreamReader::try_new(BufReader::new(file), None).map_err(|e| failed(&e))?)
            }
        };
        Ok(Spooled { held: self.held.into_iter(), file, places: self.places.into_iter() })
    }
}

/// The pieces of a spool.
pub(super) struct Spooled {
    held: std::vec::IntoIter<RecordBatch>,
    file: Option<StreamReader<BufReader<File>>>,
    places: std::vec::IntoIter<(usize, u64)>,
}

impl Spooled {
    /// All pieces as one batch, where they are few enough to be.
    pub(super) fn whole(&mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        if self.file.is_some() {
            return Ok(None);
        }
        let held: Vec<RecordBatch> = self.held.by_ref().collect();
        arrow::compute::concat_batches(schema, &held).map(Some).map_err(|e| failed(&e))
    }

    /// The next piece with its place.
    pub(super) fn next(&mut self) -> Result<Option<Piece>> {
        let batch = match &mut self.file {
            Some(file) => file.next().transpose().map_err(|e| failed(&e))?,
            None => self.held.next(),
        };
        let place = self.places.next();
        let piece =
            |(batch, (file, number))| Piece { file, number, batch, refused: Vec::new(), lines: Lines::default() };
        Ok(batch.zip(place).map(piece))
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::rejected(Code::IoError, format!("rows of a COPY cannot wait on the disk: {error}; is there room?"))
}
