//! Owns the reading half of COPY FROM: files one after the other, their rows cast, admitted and counted.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Schema, SchemaRef};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::CopyOptions;
use crate::files::access::File;
use crate::files::bytes::Pieces;
use crate::files::decode::{Column, Decoded, FileReader, Matching, Refused};
use crate::files::failure::at_line;
use crate::jobs::{Job, Measure};
use crate::stream::{Counters, OpenStream};
use crate::{Error, QuarantinedRow, Result, Rows};

/// Pieces that may wait to be written.
const PIECES_AHEAD: usize = 2;

/// What is read.
pub(super) enum Input {
    Files(Vec<File>),
    /// What a client sends.
    Sent(Pieces),
}

/// Rows of one file that were read together.
#[derive(Debug)]
pub(super) struct Piece {
    /// Which file, and the piece's number in it.
    pub(super) file: usize,
    pub(super) number: u64,
    /// Those that were admitted, in the stream's schema.
    pub(super) batch: RecordBatch,
    /// Those that were not.
    pub(super) refused: Vec<QuarantinedRow>,
    /// Where those that were admitted stand in the file.
    pub(super) lines: Lines,
}

/// The lines of rows, most of which stand one below the other.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<(usize, u64)>);

impl Lines {
    fn of(lines: impl Iterator<Item = u64>) -> Self {
        let mut starts: Vec<(usize, u64)> = Vec::new();
        for (row, line) in lines.enumerate() {
            if starts.last().is_none_or(|(first, of_first)| of_first + (row - first) as u64 != line) {
                starts.push((row, line));
            }
        }
        Self(starts)
    }

    /// The line of a row.
    pub(super) fn of_row(&self, row: usize) -> Option<u64> {
        let (first, line) = self.0.iter().rev().find(|(first, _)| *first <= row)?;
        Some(line + (row - first) as u64)
    }
}

/// How far a load is, for `system.jobs`; it goes from there with this.
#[derive(Debug)]
pub(super) struct Progress {
    measure: Arc<Measure>,
    _job: Job,
}

impl Progress {
    pub(super) fn new((job, measure): (Job, Arc<Measure>), input: &Input) -> Self {
        if let Input::Files(files) = input {
            measure.total_files.store(files.len() as u64, Ordering::Relaxed);
            measure.total_bytes.store(files.iter().map(|f| f.meta.size).sum(), Ordering::Relaxed);
        }
        Self { measure, _job: job }
    }

    fn read(&self, rows: u64, bytes: u64) {
        self.measure.add_rows(rows);
        self.measure.bytes.store(bytes, Ordering::Relaxed);
    }

    fn finished_file(&self, bytes: u64) {
        self.measure.bytes.store(bytes, Ordering::Relaxed);
        self.measure.files.fetch_add(1, Ordering::Relaxed);
    }
}

/// A load about to begin.
pub(super) struct Load {
    pub(super) open: Arc<OpenStream>,
    /// The columns that rows have, in the order in which they have them where they have no names.
    pub(super) columns: Vec<Column>,
    pub(super) options: CopyOptions,
    /// Whether a file's header must name columns: they were not said otherwise.
    pub(super) strict: bool,
    pub(super) progress: Arc<Progress>,
    pub(super) now_us: i64,
}

/// Pieces as they come; dropping it ends the reading.
pub(super) struct Pieced {
    pieces: mpsc::Receiver<Result<Piece>>,
    _task: AbortOnDropHandle<()>,
}

impl Pieced {
    pub(super) async fn next(&mut self) -> Option<Result<Piece>> {
        self.pieces.recv().await
    }
}

impl Load {
    /// Begins to read, on the query threads.
    pub(super) fn start(self, input: Input, workers: &Handle) -> Pieced {
        let (output, pieces) = mpsc::channel(PIECES_AHEAD);
        let task = workers.spawn(async move {
            if let Err(error) = self.read(input, &output).await {
                // Who wanted the rows may be gone.
                drop(output.send(Err(error)).await);
            }
        });
        Pieced { pieces, _task: AbortOnDropHandle::new(task) }
    }

    async fn read(&self, input: Input, output: &mpsc::Sender<Result<Piece>>) -> Result<()> {
        let matching = Matching::NameOrPosition {
            order: self.columns.iter().map(|c| c.name.clone()).collect(),
            strict: self.strict && matches!(input, Input::Files(_)),
        };
        let reading = self.options.reading();
        match input {
            Input::Files(files) => {
                let mut before = 0;
                for (i, file) in files.iter().enumerate() {
                    let mut reader = FileReader::open(file, &reading, self.columns.clone(), &matching).await?;
                    let fetched = || before + file.fetched().min(file.meta.size);
                    if !self.read_one(&mut reader, &file.name, i, |_| fetched(), output).await? {
                        return Ok(());
                    }
                    before += file.meta.size;
                    self.progress.finished_file(before);
                }
            }
            Input::Sent(pieces) => {
                let name = "stdin".to_owned();
                let mut reader =
                    FileReader::over_text(name.clone(), pieces, &reading, self.columns.clone(), &matching).await?;
                self.read_one(&mut reader, &name, 0, FileReader::bytes_read, output).await?;
            }
        }
        Ok(())
    }

    /// Reads one file; whether somebody still wants more. `bytes` says how many were read so far, of all files.
    async fn read_one(
        &self,
        reader: &mut FileReader,
        name: &str,
        file: usize,
        bytes: impl Fn(&FileReader) -> u64,
        output: &mpsc::Sender<Result<Piece>>,
    ) -> Result<bool> {
        let mut number = 0;
        while let Some(decoded) = reader.next().await? {
            let rows = decoded.batch.num_rows() as u64;
            let piece = self.piece(decoded, name, file, number)?;
            number += 1;
            self.progress.read(rows, bytes(reader));
            if output.send(Ok(piece)).await.is_err() {
                return Ok(false);
            }
        }
        Counters::add(&self.open.counters.unknown_fields, reader.unknown_fields());
        Ok(true)
    }

    /// Admits rows; a row that is refused ends the load, unless such rows go to quarantine.
    fn piece(&self, mut decoded: Decoded, name: &str, file: usize, number: u64) -> Result<Piece> {
        let definition = self.open.definition();
        let mut refusals = std::mem::take(&mut decoded.refused);
        let rows = self.rows(&decoded, &definition.stream.columns)?;
        let admitted = definition.admission.admit(rows, self.now_us)?;
        refusals.extend(admitted.rejected.iter().map(|r| Refused {
            line: decoded.line(r.row),
            code: r.code,
            reason: r.reason.clone(),
            text: decoded.text(r.row),
        }));
        refusals.sort_by_key(|refused| refused.line);
        if let (Some(first), false) = (refusals.first(), self.options.quarantine) {
            return Err(advised(at_line(name, first.line, first.code, &first.reason)));
        }
        let refused = refusals
            .into_iter()
            .map(|r| QuarantinedRow { reason: format!("{name}, line {}: {}", r.line, r.reason), text: r.text })
            .collect();
        let rejected: HashSet<usize> = admitted.rejected.iter().map(|r| r.row).collect();
        let kept = (0..decoded.batch.num_rows()).filter(|row| !rejected.contains(row));
        let lines = Lines::of(kept.map(|row| decoded.line(row)));
        Ok(Piece { file, number, batch: admitted.batch, refused, lines })
    }

    /// The rows with all columns of the stream; those that are not copied are missing.
    fn rows(&self, decoded: &Decoded, columns: &[millstream_catalog::Column]) -> Result<Rows> {
        let count = decoded.batch.num_rows();
        let (mut fields, mut arrays, mut missing) = (Vec::new(), Vec::<ArrayRef>::new(), Vec::new());
        for column in columns {
            let field: Field = column.data_type.to_field(&column.name, true);
            match self.columns.iter().position(|c| c.name == column.name) {
                Some(i) => {
                    arrays.push(Arc::clone(decoded.batch.column(i)));
                    missing.push(decoded.missing[i].clone());
                }
                None => {
                    arrays.push(new_null_array(field.data_type(), count));
                    missing.push(Some(BooleanBuffer::new_set(count)));
                }
            }
            fields.push(field);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)
            .map_err(|e| Error::from_datafusion(e.into(), ""))?;
        Ok(Rows { batch, missing })
    }
}

fn advised(error: Error) -> Error {
    match error {
        Error::Rejected { code, message, hint: None, position } => {
            let hint = Some(
                "nothing was added; WITH (on_error = quarantine) sets such rows aside and takes the others".to_owned(),
            );
            Error::Rejected { code, message, hint, position }
        }
        other => other,
    }
}
