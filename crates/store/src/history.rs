//! Owns the reading of a table's Delta log: checkpoints, commits, and what was committed since.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::action::{Action, parse};
use crate::places::Places;
use crate::state::TableState;
use crate::write::is_url;
use crate::{Error, Result};

/// Commits fetched at once when a table is opened.
const FETCHES_AT_ONCE: usize = 16;

/// The log folder of one table.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The table's folder.
    pub folder: Path,
    /// The table's URL, for messages.
    pub table: String,
    /// What URLs of the store's objects begin with.
    pub own_url: String,
}

/// What the log folder holds.
#[derive(Debug, Default)]
struct Listing {
    commits: Vec<i64>,
    /// Complete checkpoints: version and the files in order.
    checkpoints: Vec<(i64, Vec<Path>)>,
}

impl History {
    /// Where a file of the table lies in the store: in its folder, or where its URL says. What names a file in Delta is
    /// its object's name, letter by letter.
    pub fn location(&self, file: &str) -> Result<Path, object_store::path::Error> {
        match is_url(file) {
            true => Places::path_of(&self.own_url, file),
            false => Path::parse(format!("{}/{file}", self.folder)),
        }
    }

    /// The log folder.
    pub fn log_folder(&self) -> Path {
        self.folder.clone().join("_delta_log")
    }

    /// Where a version's commit lies.
    pub fn commit_path(&self, version: i64) -> Path {
        self.log_folder().join(format!("{version:020}.json"))
    }

    /// The newest state; its version is −1 when there is no table.
    pub async fn load(&self) -> Result<TableState> {
        self.load_until(i64::MAX).await
    }

    /// The state at a version, or the newest when there is none that late.
    pub async fn load_until(&self, last: i64) -> Result<TableState> {
        let mut listing = self.list().await?;
        listing.commits.retain(|&version| version <= last);
        listing.checkpoints.retain(|&(version, _)| version <= last);
        let mut state = TableState::empty();
        if let Some((version, files)) = listing.checkpoints.last() {
            let mut actions = vec![];
            for file in files {
                let bytes = self.read(file).await?.ok_or_else(|| self.gone(file))?;
                actions.extend(self.checkpoint_actions(bytes)?);
            }
            state.apply(*version, actions);
            state.checkpoint = Some(*version);
        }
        let versions: Vec<i64> = listing.commits.into_iter().filter(|&v| v > state.version).collect();
        let mut commits = futures::stream::iter(versions)
            .map(|version| async move { Ok::<_, Error>((version, self.read_commit(version).await?)) })
            .buffered(FETCHES_AT_ONCE);
        while let Some((version, actions)) = commits.try_next().await? {
            let missing = state.version + 1;
            match actions {
                Some(actions) if version == missing => state.apply(version, actions),
                _ => return Err(self.misfit(format!("version {missing} is missing from its log; restore the file"))),
            }
        }
        Ok(state)
    }

    /// Takes in every commit after the state's version; says whether there was one.
    pub async fn catch_up(&self, state: &mut TableState) -> Result<bool> {
        let before = state.version;
        while self.step(state).await? {}
        Ok(state.version > before)
    }

    /// Takes in the commit after the state's version; says whether there is one.
    pub async fn step(&self, state: &mut TableState) -> Result<bool> {
        let Some(actions) = self.read_commit(state.version + 1).await? else { return Ok(false) };
        state.apply(state.version + 1, actions);
        Ok(true)
    }

    /// The versions whose commits are there, in order.
    pub async fn commits(&self) -> Result<Vec<i64>> {
        Ok(self.list().await?.commits)
    }

    /// The versions that the log can still tell of: those with all commits from the first, or from a checkpoint.
    pub async fn readable(&self) -> Result<RangeInclusive<i64>> {
        let listing = self.list().await?;
        let last_checkpoint = listing.checkpoints.last().map(|&(version, _)| version);
        let newest = listing.commits.last().copied().max(last_checkpoint).unwrap_or(-1);
        let mut first_commit = newest + 1;
        for &version in listing.commits.iter().rev().take_while(|&&version| version <= newest) {
            if version + 1 != first_commit {
                break;
            }
            first_commit = version;
        }
        let whole = |version: &i64| *version + 1 >= first_commit;
        let oldest = match first_commit {
            0 => Some(0),
            _ => listing.checkpoints.iter().map(|&(version, _)| version).find(whole),
        };
        Ok(oldest.unwrap_or(newest)..=newest)
    }

    async fn read_commit(&self, version: i64) -> Result<Option<Vec<Action>>> {
        let path = self.commit_path(version);
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        let actions =
            parse(&bytes).map_err(|e| self.misfit(format!("version {version} of its log cannot be read: {e}")))?;
        Ok(Some(actions))
    }

    /// An object's bytes; `None` when it is not there.
    pub async fn read(&self, path: &Path) -> Result<Option<Bytes>> {
        let failed =
            |e: object_store::Error| Error::Store { action: "read", path: path.to_string(), source: Box::new(e) };
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(failed)?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    async fn list(&self) -> Result<Listing> {
        let folder = self.log_folder();
        let found = self.store.list_with_delimiter(Some(&folder)).await.map_err(|e| Error::Store {
            action: "list",
            path: folder.to_string(),
            source: Box::new(e),
        })?;
        let mut names: Vec<String> =
            found.objects.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect();
        names.sort_unstable();
        let mut listing = Listing::default();
        let mut parts: Vec<(i64, usize, Path)> = Vec::new();
        for name in names {
            match LogFile::of(&name) {
                Some(LogFile::Commit(version)) => listing.commits.push(version),
                Some(LogFile::Checkpoint(version, of)) => parts.push((version, of, folder.clone().join(name.as_str()))),
                None => {}
            }
        }
        for group in parts.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            if group.len() == group[0].1 {
                listing.checkpoints.push((group[0].0, group.iter().map(|(_, _, path)| path.clone()).collect()));
            }
        }
        Ok(listing)
    }

    /// The actions in a checkpoint file: its rows as JSON are lines as commits have them.
    fn checkpoint_actions(&self, bytes: Bytes) -> Result<Vec<Action>> {
        const WANTED: [&str; 5] = ["add", "remove", "txn", "metaData", "protocol"];
        let damaged = |e: &dyn std::fmt::Display| self.misfit(format!("its checkpoint cannot be read: {e}"));
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| damaged(&e))?;
        let columns: Vec<usize> = builder
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, f)| WANTED.contains(&f.name().as_str()))
            .map(|(i, _)| i)
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        let reader = builder.with_projection(mask).build().map_err(|e| damaged(&e))?;
        let mut actions = Vec::new();
        for batch in reader {
            let mut lines = Vec::new();
            let mut writer = LineDelimitedWriter::new(&mut lines);
            writer.write(&batch.map_err(|e| damaged(&e))?).map_err(|e| damaged(&e))?;
            writer.finish().map_err(|e| damaged(&e))?;
            actions.extend(parse(&lines).map_err(|e| damaged(&e))?);
        }
        Ok(actions)
    }

    fn gone(&self, path: &Path) -> Error {
        self.misfit(format!("{path} was listed and is gone; another process may be cleaning its log"))
    }

    /// An error that says this table does not fit.
    pub fn misfit(&self, reason: String) -> Error {
        Error::Misfit { table: self.table.clone(), reason }
    }
}

/// A file of the log folder that matters.
enum LogFile {
    Commit(i64),
    /// A checkpoint's version and how many files it has.
    Checkpoint(i64, usize),
}

impl LogFile {
    fn of(name: &str) -> Option<Self> {
        let (version, rest) = name.split_once('.')?;
        if version.len() != 20 {
            return None;
        }
        let version = version.parse().ok()?;
        match rest.split('.').collect::<Vec<_>>()[..] {
            ["json"] => Some(Self::Commit(version)),
            ["checkpoint", "parquet"] => Some(Self::Checkpoint(version, 1)),
            ["checkpoint", _part, of, "parquet"] => Some(Self::Checkpoint(version, of.parse().ok()?)),
            _ => None,
        }
    }
}
