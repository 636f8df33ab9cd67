//! Owns staged files: rows that lie in the table's folder as Parquet files and are in no Delta commit yet.

use std::sync::Arc;

use chrono::Utc;
use datafusion::execution::SendableRecordBatchStream;
use deltalake_core::kernel::Add;
use millstream_catalog::OFFSET_COLUMN;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::stats::FileStats;
use crate::table::{InFlight, LakeTable};

/// A file of rows that is complete and synced, and waits for the commit that takes it into the table.
///
/// While the value or a clone of it is there, vacuum leaves the file alone. One that was read back from JSON does not
/// keep its file until it went through [`LakeTable::keep_staged`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StagedFile {
    /// What its `add` action will be.
    pub(crate) add: Add,
    #[serde(skip)]
    kept: Option<Arc<InFlight>>,
}

impl StagedFile {
    /// The file's path in the table's folder.
    pub fn path(&self) -> &str {
        &self.add.path
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.add.size).unwrap_or(0)
    }

    /// How many rows it holds.
    pub fn rows(&self) -> u64 {
        self.stats().rows.unwrap_or(0)
    }

    /// The least and the greatest row number in it.
    pub fn row_range(&self) -> Option<(i64, i64)> {
        self.stats().range(OFFSET_COLUMN)
    }

    fn stats(&self) -> FileStats {
        FileStats::parse(self.add.stats.as_deref(), None)
    }
}

impl LakeTable {
    /// Writes rows (full schema, log types) as Parquet files, complete and synced, which no reader of the table sees:
    /// [`LakeTable::change`] takes them in, [`LakeTable::provider_with_staged`] reads them beside the table.
    pub async fn stage(&self, rows: SendableRecordBatchStream) -> Result<Vec<StagedFile>> {
        let (written, kept) = self.write(&self.snapshot().state, rows, Utc::now().timestamp_millis()).await?;
        Ok(written.adds.into_iter().map(|add| StagedFile { add, kept: Some(kept.clone()) }).collect())
    }

    /// The same files, kept from vacuum while what is returned is there. To be called for files that a log names
    /// before the first maintenance after a start.
    pub fn keep_staged(&self, files: &[StagedFile]) -> Vec<StagedFile> {
        let kept = self.in_flight();
        let keep = |file: &StagedFile| {
            if file.kept.is_some() {
                return file.clone();
            }
            kept.announce(&file.add.path);
            StagedFile { add: file.add.clone(), kept: Some(kept.clone()) }
        };
        files.iter().map(keep).collect()
    }
}
