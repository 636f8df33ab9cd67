//! Owns the instant at which a statement reads: one log view and one lake snapshot per stream.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_buffer::LogView;
use millstream_catalog::fault::Code;
use millstream_catalog::{Positions, StreamId, ViewId};
use millstream_store::{LakeSnapshot, LakeTable};
use millstream_views::AnswerSnapshot;
use parking_lot::Mutex;

use crate::background::open_table;
use crate::engine::Shared;
use crate::stream::OpenStream;
use crate::tables::TableSnapshot;
use crate::views::OpenView;
use crate::{Error, Result};

/// What one statement sees of every stream it names. A stream named twice is read at the same instant.
#[derive(Debug, Default)]
pub(crate) struct ReadPoint {
    streams: Mutex<HashMap<StreamId, StreamSnapshot>>,
    views: Mutex<HashMap<ViewId, (AnswerSnapshot, usize)>>,
    tables: tokio::sync::Mutex<HashMap<StreamId, TableSnapshot>>,
}

impl ReadPoint {
    /// A point at which one table's snapshot was taken before.
    pub(crate) fn with_table(id: StreamId, snapshot: TableSnapshot) -> Self {
        Self { tables: tokio::sync::Mutex::new(HashMap::from([(id, snapshot)])), ..Self::default() }
    }

    /// The view's answer, taken at the first call, and how many rows it has.
    pub(crate) fn answer(&self, view: &OpenView) -> Result<(AnswerSnapshot, usize)> {
        let mut views = self.views.lock();
        if let Some(snapshot) = views.get(&view.id()) {
            return Ok(snapshot.clone());
        }
        let taken = view.counted_snapshot()?;
        views.insert(view.id(), taken.clone());
        Ok(taken)
    }

    /// Whether the view's answer was taken already.
    pub(crate) fn has_answer(&self, view: &OpenView) -> bool {
        self.views.lock().contains_key(&view.id())
    }
}

/// A stream at one instant.
#[derive(Debug, Clone)]
pub(crate) struct StreamSnapshot {
    /// The log, pinned.
    pub(crate) log: Arc<dyn LogView>,
    /// The lake table and its pinned snapshot; `None` while nothing was tiered.
    pub(crate) lake: Option<(LakeTable, Arc<LakeSnapshot>)>,
    /// Where the lake ends and the log is read from.
    pub(crate) seam: Positions,
}

impl ReadPoint {
    /// The table's snapshot, taken at the first call.
    pub(crate) async fn table(&self, shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<TableSnapshot> {
        let Some(state) = table.table() else {
            return Err(Error::rejected(Code::Internal, format!("{} is read as a table and is none", table.name())));
        };
        let mut tables = self.tables.lock().await;
        if let Some(snapshot) = tables.get(&table.id()) {
            return Ok(snapshot.clone());
        }
        let taken = state.snapshot(shared, table).await?;
        tables.insert(table.id(), taken.clone());
        Ok(taken)
    }

    /// The stream's snapshot, taken at the first call. Opens the lake table if part of the history is in it alone.
    pub(crate) async fn snapshot(&self, shared: &Arc<Shared>, stream: &Arc<OpenStream>) -> Result<StreamSnapshot> {
        let log_is_whole = stream.log().view().start().total() == 0;
        if stream.lake_table().is_none() && !log_is_whole {
            open_table(shared, stream).await?;
        }
        let mut streams = self.streams.lock();
        let id = stream.id();
        if let Some(snapshot) = streams.get(&id) {
            return Ok(snapshot.clone());
        }
        let snapshot = take(stream)?;
        streams.insert(id, snapshot.clone());
        Ok(snapshot)
    }
}

fn take(stream: &OpenStream) -> Result<StreamSnapshot> {
    // The order matters: see the module's picture.
    let log = stream.log().view();
    let lake = stream.lake_table().map(|table| {
        let snapshot = table.snapshot();
        (table, snapshot)
    });
    let partitions = log.end().0.len() as u32;
    let seam = lake.as_ref().map_or_else(|| Positions::zero(partitions), |(_, s)| s.positions.clone());
    if !seam.covers(log.start()) {
        return Err(Error::rejected(
            Code::IoError,
            format!(
                "the history of stream {} is in the lake, which cannot be read yet; see system.jobs",
                stream.name()
            ),
        ));
    }
    Ok(StreamSnapshot { log, lake, seam })
}
