//! Owns what a table has beyond a stream: its hot tier, the next row number, the right to change it, its key's index.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use millstream_buffer::{LogReader, LogView};
use millstream_catalog::Positions;
use millstream_catalog::fault::Code;
use millstream_store::{LakeSnapshot, LakeTable};
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};

use super::holds::Holds;
use super::hot::Hot;
use super::keys::KeyIndex;
use super::upsert::Waiting;
use crate::background::open_table;
use crate::ddl::is_temporary;
use crate::engine::Shared;
use crate::external::follow_columns;
use crate::read::{BatchAdapter, reader_schema};
use crate::stream::OpenStream;
use crate::{Error, Result};

/// The state of an open table.
#[derive(Debug, Default)]
pub(crate) struct TableState {
    /// What the log says beyond the lake; held while it is brought up to date.
    hot: tokio::sync::Mutex<Arc<Hot>>,
    /// The number that the next row gets; known once the table was looked at.
    next_row: AtomicI64,
    looked_at: OnceCell<()>,
    /// Held shared by inserts that are under way, alone by a statement that reads what it changes.
    pub(super) gate: Arc<tokio::sync::RwLock<()>>,
    /// Where each primary key is; `None` until it is needed, and after a write that failed.
    pub(super) keys: Mutex<Option<KeyIndex>>,
    /// Upserts that wait for the table's turn, in the order in which they came.
    pub(super) upserts: Mutex<VecDeque<Waiting>>,
    /// How many views need the old content of rows that go.
    followers: AtomicU64,
    /// How far each of them needs the log.
    pub(crate) holds: Holds,
    /// What the history is to call the changes in this range of the log, if they become a commit of their own.
    pub(super) named: Mutex<Option<(Range<u64>, &'static str)>>,
    /// Told after each merge.
    merged: Notify,
}

/// The hot tier is in memory: writers wait while it has more bytes in the log than this many times what is merged at
/// once,
const MOST_UNMERGED: u64 = 4;
/// and are sent away after this long.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A table at one instant.
#[derive(Debug, Clone)]
pub(crate) struct TableSnapshot {
    /// What the log says beyond the lake.
    pub(crate) hot: Arc<Hot>,
    /// The lake table.
    pub(crate) table: LakeTable,
    /// Its pinned snapshot.
    pub(crate) lake: Arc<LakeSnapshot>,
    /// The version of the definition whose columns it has, as far as columns were more than added.
    pub(crate) reshaped: u32,
}

/// Says that somebody needs the old content of rows that go, until it is dropped.
#[derive(Debug)]
pub(crate) struct Following(Arc<OpenStream>);

impl Following {
    /// Counts one more. A change that is under way may still come without old content: pin the table behind
    /// [`TableState::settle`].
    pub(crate) fn of(table: &Arc<OpenStream>) -> Option<Self> {
        table.table()?.followers.fetch_add(1, Ordering::AcqRel);
        Some(Self(Arc::clone(table)))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(state) = self.0.table() {
            state.followers.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl TableState {
    /// Whether the old content of rows that go must be kept.
    pub(crate) fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Acquire) > 0
    }

    /// Lets the index of the primary key be made anew.
    pub(super) fn forget_keys(&self) {
        *self.keys.lock() = None;
    }

    /// Says that a range of the log was merged.
    pub(super) fn was_merged(&self) {
        self.merged.notify_waiters();
    }

    /// Returns when the hot tier has room for more.
    pub(super) async fn room(&self, shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<()> {
        if is_temporary(table.name()) {
            return shared.make_temporary_room(table).await;
        }
        let most = shared.options.tier_bytes.saturating_mul(MOST_UNMERGED);
        let unmerged = || table.log().view().size_since(&table.lake_positions()).1;
        if unmerged() < most {
            return Ok(());
        }
        let wait = async {
            loop {
                let merged = self.merged.notified();
                if unmerged() < most {
                    return;
                }
                merged.await;
            }
        };
        tokio::time::timeout(LONGEST_WAIT, wait).await.map_err(|_| Error::Rejected {
            code: Code::Busy,
            message: format!(
                "table {} has {} bytes of changes that the lake does not have yet",
                table.name(),
                unmerged()
            ),
            hint: Some("system.jobs says what keeps the lake from taking them; try again later".to_owned()),
            position: None,
        })
    }

    /// Returns when no change that began before is under way.
    pub(crate) async fn settle(&self) {
        drop(self.gate.write().await);
    }

    /// The numbers of that many new rows: the first; the others follow it.
    pub(super) fn take_numbers(&self, rows: usize) -> i64 {
        self.next_row.fetch_add(rows as i64, Ordering::AcqRel)
    }

    /// The number that the next row gets.
    pub(super) fn next_row(&self) -> i64 {
        self.next_row.load(Ordering::Acquire)
    }

    /// The table now: everything acknowledged is in it.
    pub(crate) async fn snapshot(&self, shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<TableSnapshot> {
        if table.is_others() {
            let lake_table = open_table(shared, table).await?;
            let lake = lake_table.newest().await?;
            follow_columns(shared, table, &lake).await?;
            let reshaped = table.definition().stream.reshaped();
            return Ok(TableSnapshot { hot: Arc::new(Hot::at(0)), table: lake_table, lake, reshaped });
        }
        let mut hot = self.hot.lock().await;
        let lake_table = open_table(shared, table).await?;
        loop {
            let view = table.log().view();
            let lake = lake_table.snapshot();
            let seam = lake.positions.get(0);
            // A range may be taken into the lake, and leave the log, between the two looks.
            if seam < view.start().get(0) || seam > view.end().get(0) {
                continue;
            }
            let behind = hot.from != seam;
            if behind || hot.to < view.end().get(0) {
                let base = if behind { Hot::at(seam) } else { Hot::clone(&hot) };
                let schema = reader_schema(&table.definition().full_schema);
                *hot = Arc::new(advance(base, view, BatchAdapter::new(schema), lake_table.clone()).await?);
            }
            let reshaped = table.definition().stream.reshaped();
            return Ok(TableSnapshot { hot: Arc::clone(&hot), table: lake_table.clone(), lake, reshaped });
        }
    }

    /// Gives the table other columns by `change`, while nobody reads it. The caller changes it alone, and its log has
    /// nothing that the lake does not have.
    pub(super) async fn while_unread<T>(&self, change: impl Future<Output = T>) -> T {
        let mut hot = self.hot.lock().await;
        let changed = change.await;
        // What was read has the old columns.
        *hot = Arc::new(Hot::at(hot.to));
        changed
    }

    /// Whether the table was looked at: the files that its log names are known, and so is the next row's number.
    pub(crate) fn is_known(&self) -> bool {
        self.looked_at.initialized()
    }

    /// Looks once at what the log names, and for the greatest row number that was given.
    pub(crate) async fn look(&self, shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<()> {
        let found = async {
            let snapshot = self.snapshot(shared, table).await?;
            let next = snapshot.hot.next_row.max(snapshot.lake.next_row());
            self.next_row.fetch_max(next, Ordering::AcqRel);
            Ok::<_, Error>(())
        };
        self.looked_at.get_or_try_init(|| found).await.map(|_| ())
    }
}

/// The tier with what the view shows behind it.
async fn advance(mut hot: Hot, view: Arc<dyn LogView>, adapter: BatchAdapter, lake: LakeTable) -> Result<Hot> {
    let from = Positions(vec![hot.to]);
    if let Some(batches) = view.resident(&from) {
        for batch in &batches {
            hot.take(batch, &adapter, &lake)?;
        }
        return Ok(hot);
    }
    let read = move || {
        let reader: LogReader = view.read(&from)?;
        for batch in reader {
            hot.take(&batch?, &adapter, &lake)?;
        }
        Ok(hot)
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|e| Error::rejected(Code::Internal, format!("reading a table's log ended early: {e}")))?
}
