//! Owns the lake: where tables lie, and what one table can do.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use millstream_catalog::{ObjectName, Positions, StreamId};
use object_store::ObjectStore;
use url::Url;

use crate::Result;

/// The root of all tables.
#[derive(Debug, Clone)]
pub struct Lake {}

impl Lake {
    /// A lake on `store`, whose root is `url` (`file:///…` or `s3://bucket/prefix`).
    pub fn new(_url: Url, _store: Arc<dyn ObjectStore>) -> Self {
        unimplemented!()
    }

    /// Opens the table of a stream at `<root>/<schema>/<name>/`, creating it when it is not there.
    ///
    /// `schema` is the stream's full schema, hidden columns behind. Columns the table lacks are added.
    pub async fn open(&self, _name: &ObjectName, _id: StreamId, _schema: SchemaRef) -> Result<LakeTable> {
        unimplemented!()
    }

    /// Deletes the table of a dropped stream: every object under its folder.
    pub async fn remove(&self, _name: &ObjectName) -> Result<()> {
        unimplemented!()
    }
}

/// One stream's Delta table. Cheap to clone; clones share the newest snapshot.
#[derive(Debug, Clone)]
pub struct LakeTable {}

/// The table at one version.
#[derive(Debug, Clone)]
pub struct LakeSnapshot {
    /// The Delta version.
    pub version: i64,
    /// The stream's rows before these offsets are in the table.
    pub positions: Positions,
    /// Rows in all files, as their statistics say.
    pub rows: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
}

/// What a round of care did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MaintenanceReport {
    /// Files that were merged away.
    pub files_compacted: u64,
    /// Files that took their place.
    pub files_written: u64,
    /// Files deleted for good.
    pub files_vacuumed: u64,
}

impl LakeTable {
    /// The newest snapshot this process knows; no I/O.
    pub fn snapshot(&self) -> Arc<LakeSnapshot> {
        unimplemented!()
    }

    /// Writes `rows` (full schema, log types) as large Parquet files and commits them with `end` as application
    /// transactions, one per partition, in one Delta commit. When it returns, everything is synced and the snapshot
    /// includes it.
    ///
    /// `start` is where the caller believes the table to be. When the table is at another position (an earlier try
    /// did commit), nothing is committed and the table's snapshot is returned: compare its positions.
    pub async fn append(
        &self,
        _start: &Positions,
        _end: &Positions,
        _rows: SendableRecordBatchStream,
    ) -> Result<Arc<LakeSnapshot>> {
        unimplemented!()
    }

    /// A provider over one snapshot: full schema in log types with `Utf8View` for text, pruning by file and row group
    /// statistics, filters, projections and limits pushed down.
    pub fn provider(&self, _snapshot: &Arc<LakeSnapshot>) -> Result<Arc<dyn TableProvider>> {
        unimplemented!()
    }

    /// Adds columns at the end of the user's columns: metadata only.
    pub async fn set_schema(&self, _schema: SchemaRef) -> Result<()> {
        unimplemented!()
    }

    /// Merges small files, writes a checkpoint when due, deletes files that were replaced longer than `retention` ago.
    pub async fn maintain(&self, _retention: Duration, _now_ms: i64) -> Result<MaintenanceReport> {
        unimplemented!()
    }
}
