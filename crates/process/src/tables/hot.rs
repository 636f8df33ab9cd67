//! Owns a table's hot tier: what its log says beyond what the lake has.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use millstream_buffer::LogBatch;
use millstream_catalog::OFFSET_COLUMN;
use millstream_store::{LakeTable, StagedFile};
use roaring::RoaringTreemap;

use super::changelog::Changes;
use super::staged::FilesOfChange;
use crate::read::BatchAdapter;
use crate::{Error, Result};

/// Neighbouring batches are joined up to this many rows, so that many small statements make few batches.
const JOINED_ROWS: usize = 8192;

/// What the log says from one position to another. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hot {
    /// The log position that it begins at: where the lake ends.
    pub(crate) from: u64,
    /// The log position behind it.
    pub(crate) to: u64,
    /// Rows that came, as readers see them, hidden columns behind; some may have gone again.
    come: Vec<RecordBatch>,
    /// Rows that came in files.
    pub(crate) files: Vec<StagedFile>,
    /// Numbers of rows that went, of the lake, of files, or of `come`.
    pub(crate) gone: Arc<RoaringTreemap>,
    /// The number after the greatest that a row of this tier has.
    pub(crate) next_row: i64,
}

impl Hot {
    /// The tier before its first entry.
    pub(crate) fn at(position: u64) -> Self {
        Self { from: position, to: position, ..Self::default() }
    }

    /// Takes in a piece of the log that follows it.
    pub(crate) fn take(&mut self, log: &LogBatch, adapter: &BatchAdapter, lake: &LakeTable) -> Result<()> {
        let changes = Changes::of(log, adapter)?;
        if let Some(rows) = changes.come {
            self.next_row = self.next_row.max(greatest(&rows) + 1);
            self.add(rows)?;
        }
        if !changes.gone.is_empty() {
            Arc::make_mut(&mut self.gone).extend(changes.gone);
        }
        for text in changes.files {
            let files = FilesOfChange::parse(&text)?;
            self.next_row = self.next_row.max(files.next_row);
            if let Some(gone) = files.gone_rows()? {
                *Arc::make_mut(&mut self.gone) |= gone;
            }
            self.files.extend(lake.keep_staged(&files.come));
        }
        self.to = log.base_offset + log.batch.num_rows() as u64;
        Ok(())
    }

    fn add(&mut self, rows: RecordBatch) -> Result<()> {
        self.come.push(rows);
        // Like joins like, as in a merge sort: each row is copied a few times at most.
        while let [.., before, last] = &self.come[..] {
            let together = before.num_rows() + last.num_rows();
            if before.num_rows() > 2 * last.num_rows() || together > JOINED_ROWS || before.schema() != last.schema() {
                break;
            }
            let joined =
                concat_batches(&last.schema(), [before, last]).map_err(|e| Error::from_datafusion(e.into(), ""))?;
            self.come.truncate(self.come.len() - 2);
            self.come.push(joined);
        }
        Ok(())
    }

    /// The rows that came and are still there, in the adapter's schema.
    pub(crate) fn rows(&self, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let adapter = BatchAdapter::new(Arc::clone(schema));
        let mut kept = Vec::with_capacity(self.come.len());
        for batch in &self.come {
            // Rows that went may break rules that came since: they go before the others take their form.
            let batch = match self.live(batch) {
                None => batch.clone(),
                Some(live) => filter_record_batch(batch, &live).map_err(|e| Error::from_datafusion(e.into(), ""))?,
            };
            let rows = LogBatch { partition: 0, base_offset: 0, ingest_time_us: 0, batch };
            let rows = adapter.adapt(&rows).map_err(|e| Error::from_datafusion(e, ""))?;
            if rows.num_rows() > 0 {
                kept.push(rows);
            }
        }
        Ok(kept)
    }

    /// What went alone.
    pub(crate) fn without_rows(&self) -> Self {
        Self { come: vec![], files: vec![], ..self.clone() }
    }

    /// Bytes of the files that came.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.files.iter().map(StagedFile::bytes).sum()
    }

    /// How many rows came, whether or not they went again.
    pub(crate) fn rows_came(&self) -> u64 {
        let in_files: u64 = self.files.iter().map(StagedFile::rows).sum();
        self.come.iter().map(|b| b.num_rows() as u64).sum::<u64>() + in_files
    }

    /// Whether a file that came has a row that went.
    pub(crate) fn files_lost_rows(&self) -> bool {
        let lost = |(least, most): (i64, i64)| self.gone.range_cardinality(least as u64..=most as u64) > 0;
        self.files.iter().any(|file| file.row_range().is_none_or(lost))
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Which rows of a batch are still there; `None` when all are.
    fn live(&self, batch: &RecordBatch) -> Option<BooleanArray> {
        let numbers = batch.column_by_name(OFFSET_COLUMN)?.as_primitive::<Int64Type>();
        if self.gone.is_empty() || !touches(&self.gone, numbers.values()) {
            return None;
        }
        Some(numbers.values().iter().map(|n| Some(!self.gone.contains(*n as u64))).collect())
    }
}

/// Whether any number between the least and the greatest of these went.
fn touches(gone: &RoaringTreemap, numbers: &[i64]) -> bool {
    match (numbers.iter().min(), numbers.iter().max()) {
        (Some(least), Some(most)) => gone.range_cardinality(*least as u64..=*most as u64) > 0,
        _ => false,
    }
}

fn greatest(rows: &RecordBatch) -> i64 {
    let numbers = rows.column_by_name(OFFSET_COLUMN).map(|n| n.as_primitive::<Int64Type>().clone());
    numbers.and_then(|n| n.values().iter().max().copied()).unwrap_or(-1)
}
