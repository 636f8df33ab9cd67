//! Owns a table's state at one version: what its log adds up to.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use deltalake_core::kernel::{Add, Remove};
use millstream_catalog::{Positions, StreamId};

use crate::action::{Action, Metadata, Protocol};
use crate::stats::FileStats;
use crate::write::CUT_TAG;

/// One data file of a table.
#[derive(Debug)]
pub(crate) struct FileEntry {
    /// Its `add` action.
    pub add: Add,
    /// Rows and bounds, as its `add` action has them.
    pub stats: FileStats,
    /// The same for the engine, made when first asked for; they are of the schema the state has.
    pub scan_stats: OnceLock<Arc<Statistics>>,
}

impl FileEntry {
    /// What an `add` action says.
    pub fn new(add: Add) -> Self {
        let cut = add.tags.as_ref().and_then(|t| t.get(CUT_TAG)).and_then(Option::as_deref);
        let mut stats = FileStats::parse(add.stats.as_deref(), cut);
        if let Some(deleted) = &add.deletion_vector {
            stats.rows = stats.rows.map(|rows| rows.saturating_sub(u64::try_from(deleted.cardinality).unwrap_or(0)));
        }
        Self { add, stats, scan_stats: OnceLock::new() }
    }

    /// The action that takes it out. Without `data_change` its rows come in again by another file.
    pub fn removal(&self, now_ms: i64, data_change: bool) -> Remove {
        Remove {
            path: self.add.path.clone(),
            data_change,
            deletion_timestamp: Some(now_ms),
            extended_file_metadata: Some(true),
            partition_values: Some(self.add.partition_values.clone()),
            size: Some(self.add.size),
            tags: None,
            deletion_vector: self.add.deletion_vector.clone(),
            base_row_id: None,
            default_row_commit_version: None,
        }
    }
}

/// What a table's log adds up to at one version.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableState {
    /// The version; −1 before the first commit.
    pub version: i64,
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// The metadata.
    pub metadata: Option<Metadata>,
    /// The files, by path.
    pub files: BTreeMap<String, Arc<FileEntry>>,
    /// The applications' progress.
    pub txns: BTreeMap<String, i64>,
    /// When files went out, ms since 1970, by path.
    pub tombstones: BTreeMap<String, i64>,
    /// The version of the newest checkpoint.
    pub checkpoint: Option<i64>,
    /// The stream's full schema in log types: what readers get.
    pub log_schema: Option<SchemaRef>,
    /// All files' statistics in one, made when first asked for.
    pub all_stats: OnceLock<Statistics>,
}

impl TableState {
    /// The state before the first commit.
    pub fn empty() -> Self {
        Self { version: -1, ..Self::default() }
    }

    /// Takes in the actions of one commit, or of a whole checkpoint.
    ///
    /// Removals come first, wherever they stand: a file that gets another deletion vector goes and comes in one commit,
    /// and the lines have no order.
    pub fn apply(&mut self, version: i64, actions: impl IntoIterator<Item = Action>) {
        self.all_stats = OnceLock::new();
        let mut adds = vec![];
        for action in actions {
            match action {
                Action::Metadata(m) => self.metadata = Some(m),
                Action::Protocol(p) => self.protocol = Some(p),
                Action::Add(add) => adds.push(add),
                Action::Remove(remove) => {
                    self.files.remove(&remove.path);
                    self.tombstones.insert(remove.path, remove.deletion_timestamp.unwrap_or(0));
                }
                Action::Txn(txn) => {
                    self.txns.insert(txn.app_id, txn.version);
                }
            }
        }
        for add in adds {
            self.tombstones.remove(&add.path);
            self.files.insert(add.path.clone(), Arc::new(FileEntry::new(add)));
        }
        self.version = version;
    }

    /// Whether a file is there, with the rows that it had: a deletion vector that came since takes some of them out.
    pub fn holds(&self, file: &FileEntry) -> bool {
        self.files.get(&file.add.path).is_some_and(|now| now.add.deletion_vector == file.add.deletion_vector)
    }

    /// Gives readers another schema; what was worked out for the old one is dropped.
    pub fn set_log_schema(&mut self, schema: SchemaRef) {
        if self.log_schema.as_ref() == Some(&schema) {
            return;
        }
        self.log_schema = Some(schema);
        self.all_stats = OnceLock::new();
        for entry in self.files.values_mut() {
            *entry =
                Arc::new(FileEntry { add: entry.add.clone(), stats: entry.stats.clone(), scan_stats: OnceLock::new() });
        }
    }

    /// Where a stream is in this table.
    pub fn positions(&self, id: StreamId) -> Positions {
        let prefix = app_prefix(id);
        let mut positions = Positions::default();
        for (app, &version) in self.txns.range(prefix.clone()..) {
            let Some(rest) = app.strip_prefix(&prefix) else { break };
            if let (Ok(partition), Ok(offset)) = (rest.parse(), u64::try_from(version)) {
                positions.set(partition, offset);
            }
        }
        positions
    }

    /// The number of a table's next row.
    pub fn next_row(&self, id: StreamId) -> i64 {
        self.txns.get(&rows_app_id(id)).copied().unwrap_or(0)
    }

    /// The columns whose values choose a file's folder.
    pub fn partitioned_by(&self) -> &[String] {
        self.metadata.as_ref().map_or(&[], |m| &m.partition_columns)
    }

    /// Rows in all files, as their statistics say.
    pub fn rows(&self) -> u64 {
        self.files.values().map(|f| f.stats.rows.unwrap_or(0)).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|f| u64::try_from(f.add.size).unwrap_or(0)).sum()
    }
}

/// What every application id of a stream begins with.
fn app_prefix(id: StreamId) -> String {
    format!("millstream/{id}/")
}

/// The application id under which a partition's end offset is kept.
pub(crate) fn app_id(id: StreamId, partition: u32) -> String {
    format!("millstream/{id}/{partition}")
}

/// The application id under which the number of a table's next row is kept.
pub(crate) fn rows_app_id(id: StreamId) -> String {
    format!("millstream/{id}:rows")
}

/// Whether two positions are the same; a partition that one does not name is at 0.
pub(crate) fn same_positions(a: &Positions, b: &Positions) -> bool {
    a.covers(b) && b.covers(a)
}
