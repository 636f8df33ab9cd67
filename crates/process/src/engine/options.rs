//! Owns what an engine needs to start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_buffer::Clock;
use millstream_catalog::Catalog;
use object_store::ObjectStore;
use url::Url;

use crate::FileAccess;

/// Which implementation keeps the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEngine {
    /// Segment files under the data directory.
    Disk,
    /// Memory only; for tests.
    Memory,
}

/// What an engine needs to start.
#[derive(Clone)]
pub struct EngineOptions {
    /// Where logs and spill files lie.
    pub data_dir: PathBuf,
    /// The catalog.
    pub catalog: Arc<dyn Catalog>,
    /// The lake's root.
    pub store_url: Url,
    /// The lake's object store.
    pub store: Arc<dyn ObjectStore>,
    /// Which log.
    pub log_engine: LogEngine,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Memory for all queries together, bytes; beyond it they spill or fail.
    pub query_memory_bytes: usize,
    /// How long a statement may run by default.
    pub statement_timeout: Duration,
    /// Queries running at once; one more is answered with `too_busy`.
    pub max_queries: usize,
    /// Ingest: bytes of decoded rows waiting for the disk, over all streams.
    pub ingest_queue_bytes: usize,
    /// Bytes of recent rows that each log keeps in memory for readers.
    pub log_memory_bytes: usize,
    /// Memory for the state of each view that sets no limit of its own, bytes; beyond it state lies on the disk.
    pub view_memory_bytes: usize,
    /// Tiering writes a file when this many bytes of log (encoded) wait.
    pub tier_bytes: u64,
    /// Tiering writes a file at the latest when the oldest waiting row is this old.
    pub tier_age: Duration,
    /// How often compaction and vacuum look at each table.
    pub maintenance_interval: Duration,
    /// Files removed from a table stay readable this long before vacuum deletes them.
    pub vacuum_retention: Duration,
    /// Which files statements may read and write.
    pub files: FileAccess,
}

impl std::fmt::Debug for EngineOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineOptions")
            .field("data_dir", &self.data_dir)
            .field("store_url", &self.store_url.as_str())
            .finish_non_exhaustive()
    }
}

/// Whether the engine can serve, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Ready for traffic.
    pub ready: bool,
    /// What is wrong, one line each; also set while ready when something needs a look.
    pub problems: Vec<String>,
}
