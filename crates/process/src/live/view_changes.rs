//! Owns following a view: its rows as they are, then each change of them.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use millstream_catalog::ObjectName;
use millstream_catalog::fault::Code;
use tokio::sync::watch;

use super::{push_pieces, stopping};
use crate::engine::Shared;
use crate::views::{Change, Looked, OpenView, Place, Progress, unweighted};
use crate::{Error, Result};

/// How soon a view that is being replaced is looked for again.
const REPLACED_AFTER: Duration = Duration::from_millis(20);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewStart {
    /// With all rows as they are now.
    Snapshot,
    /// With the next change.
    Now,
    /// Behind the row that has this id. When that is not known any more: with a reset.
    After(ChangeId),
}

/// Which row was taken last. `<epoch>-<changes>` is behind so many whole changes of that life of the changelog,
/// `<epoch>-<changes>.<rows>` behind so many rows of the next one, `<epoch>-snapshot` within the rows of the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeId {
    epoch: u64,
    taken: Taken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    PartOfSnapshot,
    Changes { whole: u64, rows: u64 },
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.taken {
            Taken::PartOfSnapshot => write!(f, "{:x}-snapshot", self.epoch),
            Taken::Changes { whole, rows: 0 } => write!(f, "{:x}-{whole}", self.epoch),
            Taken::Changes { whole, rows } => write!(f, "{:x}-{whole}.{rows}", self.epoch),
        }
    }
}

impl FromStr for ChangeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let shown: String = text.chars().take(80).collect();
            Error::rejected(
                Code::InvalidRequest,
                format!("{shown:?} is not the id of a change such as \"9f3c1-1500\"; take it from an event"),
            )
        };
        let (epoch, taken) = text.split_once('-').ok_or_else(bad)?;
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| bad())?;
        if taken == "snapshot" {
            return Ok(Self { epoch, taken: Taken::PartOfSnapshot });
        }
        let (whole, rows) = taken.split_once('.').unwrap_or((taken, "0"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
        Ok(Self { epoch, taken: Taken::Changes { whole: number(whole)?, rows: number(rows)? } })
    }
}

/// What happens to a view, as those who follow it see it.
#[derive(Debug)]
pub enum ViewEvent {
    /// What was told before no longer holds; all rows as they are now follow.
    Reset,
    /// Every row as it was at this point has been told, or was not asked for; what follows are changes.
    Ready(ChangeId),
    /// Rows that come or go.
    Rows(ChangedRows),
}

/// Rows that come, or rows that go.
#[derive(Debug)]
pub struct ChangedRows {
    /// Whether they come.
    pub come: bool,
    /// The rows.
    pub batch: RecordBatch,
    epoch: u64,
    /// The change's number, its rows before these, its rows in all; none for the rows of the beginning.
    change: Option<(u64, u64, u64)>,
}

impl ChangedRows {
    /// The id of a row.
    pub fn id(&self, row: usize) -> ChangeId {
        let taken = match self.change {
            None => Taken::PartOfSnapshot,
            Some((offset, before, all)) => match before + row as u64 + 1 {
                rows if rows == all => Taken::Changes { whole: offset + 1, rows: 0 },
                rows => Taken::Changes { whole: offset, rows },
            },
        };
        ChangeId { epoch: self.epoch, taken }
    }
}

/// A view that is being followed.
#[derive(Debug)]
pub struct ViewChanges {
    shared: Arc<Shared>,
    name: ObjectName,
    view: Arc<OpenView>,
    progress: watch::Receiver<Progress>,
    /// The place of the change that comes next, and how many of its rows were taken already.
    place: Place,
    rows_taken: u64,
    events: VecDeque<ViewEvent>,
}

impl ViewChanges {
    pub(super) fn begin(shared: &Arc<Shared>, name: &ObjectName, start: ViewStart) -> Result<Self> {
        if shared.live.is_cancelled() {
            return Err(stopping());
        }
        let view = shared.existing_view(name)?;
        let progress = view.subscribe();
        let place = view.changelog_end()?;
        let (shared, name, events) = (Arc::clone(shared), name.clone(), VecDeque::new());
        let mut follower = Self { shared, name, view, progress, place, rows_taken: 0, events };
        match start {
            ViewStart::Snapshot => follower.take_snapshot()?,
            ViewStart::Now => follower.events.push_back(follower.ready()),
            ViewStart::After(ChangeId { epoch, taken: Taken::Changes { whole, rows } }) => {
                (follower.place, follower.rows_taken) = (Place { epoch, next: whole }, rows);
            }
            ViewStart::After(_) => follower.reset()?,
        }
        Ok(follower)
    }

    /// The next event, once there is one. It may be given up and asked for again.
    pub async fn next(&mut self) -> Result<ViewEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.shared.live.is_cancelled() {
                return Err(stopping());
            }
            if self.view.closing.is_cancelled() {
                self.find_again().await?;
                continue;
            }
            let (place, looked) = self.view.change_at(self.place, self.rows_taken);
            self.place = place;
            match looked {
                Looked::Found(change) => self.take(&change)?,
                Looked::Gone => self.reset()?,
                Looked::NotYet => self.changed().await,
            }
        }
    }

    async fn changed(&mut self) {
        tokio::select! {
            // Its sender lives as long as the view, which is held here.
            _ = self.progress.changed() => {}
            () = self.view.closing.cancelled() => {}
            () = self.shared.live.cancelled() => {}
        }
    }

    /// The view was dropped, or another one has taken its place.
    async fn find_again(&mut self) -> Result<()> {
        let found = self.shared.existing_view(&self.name)?;
        if Arc::ptr_eq(&found, &self.view) || found.changelog_end().is_err() {
            tokio::time::sleep(REPLACED_AFTER).await;
            return Ok(());
        }
        self.progress = found.subscribe();
        self.view = found;
        self.reset()
    }

    fn reset(&mut self) -> Result<()> {
        self.events.push_back(ViewEvent::Reset);
        self.take_snapshot()
    }

    fn take_snapshot(&mut self) -> Result<()> {
        let (answer, place, _) = self.view.snapshot()?;
        (self.place, self.rows_taken) = (place, 0);
        let epoch = place.epoch;
        for batch in answer.batches()? {
            let batch = batch.with_schema(Arc::clone(self.view.schema())).map_err(misfit)?;
            let rows = |batch, _| ViewEvent::Rows(ChangedRows { come: true, batch, epoch, change: None });
            push_pieces(&mut self.events, &batch, rows);
        }
        self.events.push_back(self.ready());
        Ok(())
    }

    fn ready(&self) -> ViewEvent {
        let taken = Taken::Changes { whole: self.place.next, rows: 0 };
        ViewEvent::Ready(ChangeId { epoch: self.place.epoch, taken })
    }

    fn take(&mut self, change: &Change) -> Result<()> {
        let (rows, going) = unweighted(&change.delta, self.view.schema())?;
        let all = rows.num_rows();
        let taken = usize::try_from(self.rows_taken).unwrap_or(usize::MAX).min(all);
        let epoch = self.place.epoch;
        for (come, from, to) in [(false, taken.min(going), going), (true, taken.max(going), all)] {
            let part = rows.slice(from, to - from);
            push_pieces(&mut self.events, &part, |batch, before| {
                let change = Some((change.offset, (from + before) as u64, all as u64));
                ViewEvent::Rows(ChangedRows { come, batch, epoch, change })
            });
        }
        self.place.next += 1;
        self.rows_taken = 0;
        Ok(())
    }
}

fn misfit(error: arrow::error::ArrowError) -> Error {
    Error::rejected(Code::Internal, format!("a view's rows do not fit its columns: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses() {
        for text in ["9f3c1-1500", "0-0", "ffffffffffffffff-7.12", "a-snapshot"] {
            assert_eq!(text.parse::<ChangeId>().unwrap().to_string(), text);
        }
        for bad in ["", "1", "x-1", "1-", "1-2.", "1--2", "snapshot"] {
            assert!(bad.parse::<ChangeId>().is_err(), "{bad:?}");
        }
    }
}
