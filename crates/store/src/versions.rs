//! Owns a table's earlier versions: reading one, finding one by time, and what each commit did.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use serde_json::{Map, Value};

use crate::action::{Action, CommitInfo, parse, parse_info};
use crate::external::take_columns;
use crate::lake::failed;
use crate::schema::{delta_field, log_field, same_type};
use crate::state::TableState;
use crate::stats::FileStats;
use crate::table::{LakeSnapshot, LakeTable};
use crate::temperature::is_within;
use crate::write::is_url;
use crate::{Error, Result};

/// Commits read at once.
const FETCHES_AT_ONCE: usize = 16;

/// One commit of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The version it made.
    pub version: i64,
    /// When, ms since 1970.
    pub timestamp_ms: i64,
    /// The operation, in Delta's words.
    pub operation: String,
    /// What it was asked for.
    pub parameters: BTreeMap<String, String>,
    /// What it did, as its writer counted.
    pub metrics: BTreeMap<String, String>,
    /// Files that came in.
    pub files_added: u64,
    /// Files that went out.
    pub files_removed: u64,
    /// Rows that came; `None` when the commit does not tell.
    pub rows_added: Option<u64>,
    /// Rows that went; `None` when the commit does not tell.
    pub rows_removed: Option<u64>,
}

impl LakeTable {
    /// The table as it was at a version, with the columns it had. Its files stay while the snapshot is there.
    pub async fn snapshot_at(&self, version: i64) -> Result<Arc<LakeSnapshot>> {
        let newest = self.refresh().await?;
        if version == newest.version {
            return Ok(newest);
        }
        let history = &self.inner.history;
        let readable = history.readable().await?;
        if !readable.contains(&version) {
            let why = if version > newest.version { "it is not there yet" } else { "its log goes back no further" };
            return Err(self.no_version(format!("version {version}"), *readable.start(), newest.version, why));
        }
        let mut state = history.load_until(version).await?;
        if self.inner.is_others {
            // Its log may then have named what nobody here may read.
            take_columns(history, &mut state)?;
        } else {
            let schema = log_schema(&state, &newest).ok_or_else(|| {
                history.misfit(format!(
                    "the columns of version {version} have types that cannot be read; read a later one"
                ))
            })?;
            state.set_log_schema(schema);
        }
        let snapshot = Arc::new(LakeSnapshot::new(state, self.inner.id));
        // From here on vacuum sees that the files are needed; what it deleted before shows as missing.
        self.keep_published(&snapshot);
        let mut state = snapshot.state.as_ref().clone();
        let there = self.data_files(&state, &newest.state).await?;
        let cold = newest.state.cold_folders(self.inner.id);
        if is_whole(&state, &there, &cold) {
            return Ok(snapshot);
        }
        while state.version < newest.version && !is_whole(&state, &there, &cold) {
            if !history.step(&mut state).await? {
                break;
            }
        }
        Err(self.no_version(
            format!("version {version}"),
            state.version,
            newest.version,
            "its data files were vacuumed",
        ))
    }

    /// The version that was the newest at a time, ms since 1970.
    pub async fn version_at(&self, time_ms: i64) -> Result<i64> {
        let newest = self.refresh().await?.version;
        let oldest = *self.inner.history.readable().await?.start();
        // The first version that came later lies between these two.
        let (mut known, mut later) = (oldest - 1, newest + 1);
        while later - known > 1 {
            let middle = known + (later - known) / 2;
            match self.committed_at(middle).await? {
                Some(at) if at > time_ms => later = middle,
                // A version that only a checkpoint tells of is older than those with commits.
                _ => known = middle,
            }
        }
        if known < oldest {
            let time = chrono::DateTime::from_timestamp_millis(time_ms).unwrap_or_default();
            let what = format!("version as of {}", time.format("%Y-%m-%d %H:%M:%S%.3fZ"));
            return Err(self.no_version(what, oldest, newest, "the table's log begins later"));
        }
        Ok(known)
    }

    /// The table's commits, newest first, as far as its log goes back.
    pub async fn history(&self, limit: Option<usize>) -> Result<Vec<Commit>> {
        self.refresh().await?;
        let mut versions = self.inner.history.commits().await?;
        versions.reverse();
        versions.truncate(limit.unwrap_or(usize::MAX));
        let commits: Vec<Option<Commit>> = futures::stream::iter(versions)
            .map(|version| self.commit_at(version))
            .buffered(FETCHES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(commits.into_iter().flatten().collect())
    }

    async fn commit_at(&self, version: i64) -> Result<Option<Commit>> {
        let history = &self.inner.history;
        let Some(bytes) = history.read(&history.commit_path(version)).await? else { return Ok(None) };
        let actions = parse(&bytes).map_err(|e| {
            history.misfit(format!("version {version} of its log cannot be read: {e}; restore the file"))
        })?;
        Ok(Some(Commit::of(version, parse_info(&bytes), &actions)))
    }

    /// When a version was committed: as its commit says, or else when it was written.
    async fn committed_at(&self, version: i64) -> Result<Option<i64>> {
        let history = &self.inner.history;
        let path = history.commit_path(version);
        let Some(bytes) = history.read(&path).await? else { return Ok(None) };
        if let Some(timestamp) = parse_info(&bytes).timestamp {
            return Ok(Some(timestamp));
        }
        let written = history.store.head(&path).await.map_err(failed("read", &path))?;
        Ok(Some(written.last_modified.timestamp_millis()))
    }

    /// Those of a state's files that can be read. The newest state's are there; the others are looked for.
    async fn data_files(&self, state: &TableState, newest: &TableState) -> Result<HashSet<String>> {
        let mut there: HashSet<String> = newest.files.keys().cloned().collect();
        if !is_whole(state, &there, &newest.cold_folders(self.inner.id)) {
            there.extend(self.list_data_files().await?.into_iter().map(|(path, _)| path));
        }
        Ok(there)
    }

    fn no_version(&self, what: String, oldest: i64, newest: i64, why: &str) -> Error {
        Error::NoVersion { what, table: self.inner.url.to_string(), why: why.to_owned(), oldest, newest }
    }
}

impl Commit {
    fn of(version: i64, info: CommitInfo, actions: &[Action]) -> Self {
        let (mut files_added, mut files_removed) = (0, 0);
        let (mut rows_added, mut changed) = (Some(0), false);
        for action in actions {
            match action {
                Action::Add(add) => {
                    files_added += 1;
                    if add.data_change {
                        let rows = FileStats::parse(add.stats.as_deref(), None).rows;
                        rows_added = rows_added.zip(rows).map(|(a, b)| a + b);
                    }
                }
                Action::Remove(remove) => {
                    files_removed += 1;
                    changed |= remove.data_change;
                }
                _ => {}
            }
        }
        let metrics = texts(info.operation_metrics);
        let counted = |name: &str| metrics.get(name).and_then(|v| v.parse().ok());
        Self {
            version,
            timestamp_ms: info.timestamp.unwrap_or(0),
            operation: info.operation.unwrap_or_default(),
            parameters: texts(info.operation_parameters),
            files_added,
            files_removed,
            rows_added: counted("numInsertedRows").or(if changed { None } else { rows_added }),
            rows_removed: counted("numDeletedRows").or(if changed { None } else { Some(0) }),
            metrics,
        }
    }
}

/// Values as text; text without its quotes.
fn texts(values: Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    values.into_iter().map(|(name, value)| (name, text(value))).collect()
}

/// Whether all files of a state are there. Those of a clone's source are kept for it; those in the table's own `cold`
/// folders are not.
fn is_whole(state: &TableState, there: &HashSet<String>, cold: &[String]) -> bool {
    state.files.keys().all(|path| there.contains(path) || (is_url(path) && !is_within(path, cold)))
}

/// The columns that a state had, in the stream's types where the stream still has them.
fn log_schema(state: &TableState, newest: &LakeSnapshot) -> Option<SchemaRef> {
    let now = newest.state.log_schema.as_ref()?;
    let field = |then: &Value| {
        let nullable = then["nullable"] != false;
        let kept = now.fields().iter().find(|f| {
            then["name"] == **f.name() && delta_field(f).is_some_and(|now| same_type(&now["type"], &then["type"]))
        });
        match kept {
            Some(kept) => Some(kept.as_ref().clone().with_nullable(nullable)),
            None => log_field(then),
        }
    };
    let fields = state.metadata.as_ref()?.fields().ok()?;
    Some(Arc::new(Schema::new(fields.iter().map(field).collect::<Option<Vec<_>>>()?)))
}
