//! Owns what a statement's changes are gathered in: checked and numbered, in memory while they are few, in files else.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use millstream_buffer::LogBatch;
use millstream_catalog::{OFFSET_COLUMN, Stream};
use millstream_store::{LakeTable, StagedFile};
use roaring::RoaringTreemap;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::changelog::numbers_of;
use super::keys::{KeyIndex, KeyPrints, Print, part_of};
use super::source::altered_meanwhile;
use super::staged::FilesOfChange;
use super::write::{Applied, Kept, PlaceOf, add_numbers};
use crate::background::open_table;
use crate::engine::Shared;
use crate::read::BatchAdapter;
use crate::stream::{Definition, OpenStream};
use crate::{Error, RejectedRow, Result, Rows};

/// Changes up to this many bytes lie in the log; larger ones in files.
const IN_LOG_BYTES: usize = 16 << 20;
/// Keys among which those that come twice are looked for at once.
const KEYS_AT_ONCE: usize = 1 << 20;

/// Takes in a statement's changes.
pub(super) struct Gatherer<'a> {
    shared: &'a Arc<Shared>,
    table: &'a Arc<OpenStream>,
    definition: Arc<Definition>,
    prints: Option<KeyPrints>,
    keep: Option<&'a Kept>,
    bytes: usize,
    gathered: Gathered,
    come_files: Option<Stager>,
    old_files: Option<Stager>,
    rows_seen: u64,
    coming_bytes: usize,
}

/// A statement's changes, ready to be appended.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Rows that go, while they are few.
    pub(super) gone: Vec<RecordBatch>,
    /// Rows that come with the number of their first, while they are few.
    pub(super) come: Vec<(RecordBatch, i64)>,
    gone_numbers: RoaringTreemap,
    /// Keys of the rows that go, and their numbers.
    gone_keys: Vec<(Vec<Print>, Vec<i64>)>,
    /// Keys of the rows that come, by batch, and the number of the first.
    come_keys: Vec<(Vec<Print>, i64)>,
    files: Option<FilesOfChange>,
    applied: Applied,
}

impl<'a> Gatherer<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, table: &'a Arc<OpenStream>, keep: Option<&'a Kept>) -> Result<Self> {
        let definition = table.definition();
        let prints = KeyPrints::of(&definition.stream)?;
        Ok(Self {
            shared,
            table,
            definition,
            prints,
            keep,
            bytes: 0,
            gathered: Gathered::default(),
            come_files: None,
            old_files: None,
            rows_seen: 0,
            coming_bytes: 0,
        })
    }

    /// Rows go; each goes once, however often it is said.
    pub(super) async fn goes(&mut self, rows: RecordBatch) -> Result<()> {
        let gathered = &mut self.gathered;
        gathered.applied.gone += add_numbers(&rows, &mut gathered.gone_numbers)?;
        if let Some(prints) = &self.prints {
            let numbers = numbers_of(&rows).map_err(|e| Error::from_datafusion(e.into(), ""))?;
            gathered.gone_keys.push((prints.prints(&rows)?, numbers.values().to_vec()));
        }
        self.bytes += content_bytes(&rows);
        match &mut self.old_files {
            Some(files) => files.add(&rows).await?,
            None => gathered.gone.push(rows),
        }
        self.make_room().await
    }

    /// Rows come: defaults are filled in and constraints checked.
    pub(super) async fn comes(&mut self, rows: Rows) -> Result<()> {
        let given = rows.batch.clone();
        if !fits(&given, &self.definition.schema) {
            return Err(altered_meanwhile(self.table.name()));
        }
        let admitted = self.definition.admission.admit(rows, self.shared.options.clock.now_us())?;
        if let Some(rejected) = admitted.rejected.first() {
            return Err(refused_row(&self.definition.stream, &given, rejected, self.rows_seen));
        }
        self.rows_seen += given.num_rows() as u64;
        self.coming_bytes += content_bytes(&given);
        self.shared.check_temporary_room(self.table, self.coming_bytes)?;
        let rows = admitted.batch;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let first = self.table.table().map_or(0, |state| state.take_numbers(rows.num_rows()));
        let gathered = &mut self.gathered;
        gathered.applied.come += rows.num_rows() as u64;
        if let Some(prints) = &self.prints {
            gathered.come_keys.push((prints.prints(&rows)?, first));
        }
        if let Some(kept) = self.keep {
            kept.lock().push(rows.clone());
        }
        self.bytes += content_bytes(&rows);
        match &mut self.come_files {
            Some(files) => files.add(&numbered(&rows, first)?).await?,
            None => gathered.come.push((rows, first)),
        }
        self.make_room().await
    }

    /// Moves to files what is too much for the log.
    async fn make_room(&mut self) -> Result<()> {
        if self.come_files.is_some() || self.bytes <= IN_LOG_BYTES {
            return Ok(());
        }
        let mut come_files = Stager::start(self.shared, self.table).await?;
        for (rows, first) in std::mem::take(&mut self.gathered.come) {
            come_files.add(&numbered(&rows, first)?).await?;
        }
        self.come_files = Some(come_files);
        let mut old_files = Stager::start(self.shared, self.table).await?;
        old_files.wanted = self.table.table().is_some_and(super::state::TableState::is_followed);
        for rows in std::mem::take(&mut self.gathered.gone) {
            old_files.add(&rows).await?;
        }
        self.old_files = Some(old_files);
        Ok(())
    }

    /// What was gathered; files are on the disk.
    pub(super) async fn end(self) -> Result<Gathered> {
        let mut gathered = self.gathered;
        if let (Some(come), Some(old)) = (self.come_files, self.old_files) {
            let next_row = self.table.table().map_or(0, super::state::TableState::next_row);
            let (come, old) = (come.end().await?, old.end().await?);
            gathered.files = Some(FilesOfChange::new(come, old, &gathered.gone_numbers, next_row));
        }
        Ok(gathered)
    }
}

impl Gathered {
    /// Rows go: their keys' columns and numbers. How many of them were not said to go before.
    pub(super) fn goes(&mut self, rows: RecordBatch, keys: Vec<Print>, numbers: Vec<i64>) -> u64 {
        let before = self.gone_numbers.len();
        self.gone_numbers.extend(numbers.iter().map(|number| *number as u64));
        let gone = self.gone_numbers.len() - before;
        self.applied.gone += gone;
        self.gone_keys.push((keys, numbers));
        self.gone.push(rows);
        gone
    }

    /// Rows come that were admitted, numbered from `first`.
    pub(super) fn comes(&mut self, rows: RecordBatch, keys: Vec<Print>, first: i64) {
        self.applied.come += rows.num_rows() as u64;
        self.come_keys.push((keys, first));
        self.come.push((rows, first));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.applied.gone == 0 && self.applied.come == 0
    }

    pub(super) fn files(&self) -> Option<&FilesOfChange> {
        self.files.as_ref()
    }

    pub(super) fn rows_that_come(&self) -> u64 {
        self.applied.come
    }

    pub(super) fn into_applied(self) -> Applied {
        self.applied
    }

    /// Refuses rows whose key is there already, or comes twice.
    pub(super) fn check_keys(&self, table: &OpenStream, index: &KeyIndex, place: PlaceOf<'_>) -> Result<()> {
        let taken = self.come_keys.iter().enumerate().find_map(|(batch, (prints, _))| {
            let row = index.first_taken(prints, &self.gone_numbers)?;
            Some((batch, row, false))
        });
        let twice = self.first_twice().map(|(batch, row)| (batch, row, true));
        let Some((batch, row, twice)) = taken.into_iter().chain(twice).min() else { return Ok(()) };
        let stream = &table.definition().stream;
        let refusal = match self.come.get(batch) {
            Some((rows, _)) => index.prints.taken(stream, rows, row, twice),
            None => index.prints.taken_somewhere(stream, twice),
        };
        Err(match (refusal, place(batch, row)) {
            (Error::Rejected { code, message, hint, position }, Some(place)) => {
                Error::Rejected { code, message: format!("{place}: {message}"), hint, position }
            }
            (refusal, _) => refusal,
        })
    }

    /// The batch and the row in it of the first key that came before. Of many keys a part is looked at after the other.
    fn first_twice(&self) -> Option<(usize, usize)> {
        let keys: usize = self.come_keys.iter().map(|(prints, _)| prints.len()).sum();
        let parts = keys.div_ceil(KEYS_AT_ONCE).max(1);
        let mut seen: HashSet<Print> = HashSet::with_capacity(keys / parts);
        let first_of = |part| {
            seen.clear();
            let mut again = |print: &Print| part_of(print, parts) == part && !seen.insert(*print);
            let mut batches = self.come_keys.iter().enumerate();
            batches.find_map(|(batch, (prints, _))| Some((batch, prints.iter().position(&mut again)?)))
        };
        (0..parts).filter_map(first_of).min()
    }

    /// Makes the index say what these changes do.
    pub(super) fn take_keys(&mut self, index: &mut KeyIndex) {
        for (prints, numbers) in std::mem::take(&mut self.gone_keys) {
            index.remove(&prints, &numbers);
        }
        for (prints, first) in std::mem::take(&mut self.come_keys) {
            index.add(&prints, first);
        }
    }
}

/// Whether rows have a table's columns. Those of a statement that was planned before its columns became others do not.
pub(super) fn fits(rows: &RecordBatch, schema: &SchemaRef) -> bool {
    let same = |(a, b): (&FieldRef, &FieldRef)| a.name() == b.name() && a.data_type() == b.data_type();
    rows.num_columns() == schema.fields().len() && rows.schema().fields().iter().zip(schema.fields()).all(same)
}

/// Writes rows to files of a table, in a task of its own.
pub(super) struct Stager {
    output: mpsc::Sender<Result<RecordBatch, datafusion::error::DataFusionError>>,
    writer: AbortOnDropHandle<Result<Vec<StagedFile>, millstream_store::Error>>,
    adapter: BatchAdapter,
    now_us: i64,
    /// Whether there is any use for the rows.
    wanted: bool,
}

impl Stager {
    pub(super) async fn start(shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<Self> {
        let lake: LakeTable = open_table(shared, table).await?;
        let definition = table.definition();
        let schema = match table.is_others() {
            true => Arc::clone(&definition.schema),
            false => {
                lake.set_schema(Arc::clone(&definition.full_schema)).await?;
                Arc::clone(&definition.full_schema)
            }
        };
        let builder = RecordBatchReceiverStream::builder(Arc::clone(&schema), 2);
        let output = builder.tx();
        let rows = builder.build();
        let writer = AbortOnDropHandle::new(tokio::spawn(async move { lake.stage(rows).await }));
        let adapter = BatchAdapter::new(schema);
        Ok(Self { output, writer, adapter, now_us: shared.options.clock.now_us(), wanted: true })
    }

    pub(super) async fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        if !self.wanted || rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = LogBatch { partition: 0, base_offset: 0, ingest_time_us: self.now_us, batch: rows.clone() };
        let rows = self.adapter.adapt(&rows).map_err(|e| Error::from_datafusion(e, ""))?;
        // A writer that ended has failed; its failure is told at the end.
        let _ = self.output.send(Ok(rows)).await;
        Ok(())
    }

    pub(super) async fn end(self) -> Result<Vec<StagedFile>> {
        drop(self.output);
        let written = self.writer.await.map_err(|e| {
            Error::rejected(
                millstream_catalog::fault::Code::Internal,
                format!("writing a table's files ended early: {e}"),
            )
        })?;
        Ok(written?)
    }
}

/// The rows with their numbers behind.
fn numbered(rows: &RecordBatch, first: i64) -> Result<RecordBatch> {
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    let numbers = Int64Array::from_iter_values(first..first + rows.num_rows() as i64);
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(OFFSET_COLUMN, DataType::Int64, false)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(numbers) as ArrayRef);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| Error::from_datafusion(e.into(), ""))
}

fn content_bytes(rows: &RecordBatch) -> usize {
    let bytes = |column: &arrow::array::ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    rows.columns().iter().map(bytes).sum()
}

/// A row's values as a message shows them, cut to 200 characters.
pub(super) fn shown_row(rows: &RecordBatch, row: usize) -> String {
    let value = |column: &ArrayRef| match array_value_to_string(column, row) {
        _ if column.is_null(row) => "NULL".to_owned(),
        Ok(text) if text.is_empty() => "''".to_owned(),
        Ok(text) => text,
        Err(_) => "?".to_owned(),
    };
    let shown = rows.columns().iter().map(value).collect::<Vec<_>>().join(", ");
    shown.chars().take(200).collect()
}

/// The refusal of a statement for a row of it; `before` rows of the statement were looked at before these.
pub(crate) fn refused_row(table: &Stream, given: &RecordBatch, rejected: &RejectedRow, before: u64) -> Error {
    let shown = shown_row(given, rejected.row);
    let number = before + rejected.row as u64 + 1;
    let message = format!("{} of table {}: {}; it is row {number}: ({shown})", "a row", table.name, rejected.reason);
    Error::rejected(rejected.code, message)
}
