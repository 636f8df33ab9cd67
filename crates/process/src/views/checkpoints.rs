//! Owns the checkpoints of views at work: when they are written, and what a restart makes of them.
//!
//! A view's state lies in `views/<id>` of the data directory. A checkpoint holds the dataflow's state and, in its meta,
//! how far each input was read; both are one commit. So a restart goes on from the rows behind those positions, which
//! are in the log or in the lake, and counts none twice. Of a view below the position is a place in its changelog: the
//! view below makes a checkpoint first, which has its changes up to there (`saved_changes`), and after a restart goes on
//! telling them from there. Where it does not have them any more, the view is built again from its answer.
//!
//! Rows that go elsewhere than to the answer, to a derived stream or to quarantine, are in the same commit and are
//! delivered behind it: see `outbox`.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_buffer::Clock;
use millstream_catalog::{Positions, StreamId, ViewId, ViewState};
use millstream_views::{Dataflow, DiskOptions, DiskStore, StateStore};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::changes::{Changes, Place};
use super::input::{Below, Input};
use super::open::{OpenView, new_epoch};
use super::outbox::{Outbox, Parcel, Postmark, delivered};
use super::saved_changes::{self, SavedChanges, Unsaved};
use crate::engine::{LogEngine, Shared};
use crate::{Error, FaultPoint, Result};

/// The folder of all views' state in the data directory.
pub(super) const STATE_FOLDER: &str = "views";

/// How much work a crash may cost: what came in since the last checkpoint is taken in again.
const INTERVAL_US: i64 = 5_000_000;

/// What a restart found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Restored {
    /// The dataflow is as the last checkpoint left it.
    Yes,
    /// There is no checkpoint.
    Nothing,
    /// There is one of another query or format, and why; the dataflow can't be used.
    Unusable(String),
}

/// The part of a checkpoint's meta that says where the inputs were, and which commit it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    /// The streams and tables.
    inputs: Vec<(StreamId, Positions)>,
    /// The views.
    #[serde(default)]
    below: Vec<Below>,
    /// By input: what the watermark of each partition has reached.
    #[serde(default)]
    reached: Vec<Vec<Option<i64>>>,
    /// By input: its watermark. It may move though no position does.
    #[serde(default)]
    watermarks: Vec<Option<i64>>,
    /// Tells this state from one that was begun anew.
    #[serde(default)]
    life: Uuid,
    /// Counts commits.
    #[serde(default)]
    number: u64,
    /// What it has of the view's changelog; nothing before there is one.
    #[serde(default)]
    changes: Option<SavedChanges>,
}

/// Where a view's checkpoints go.
pub(super) struct Checkpoints {
    store: Option<Arc<dyn StateStore>>,
    /// Where state goes that finds no room in memory.
    overflow: Option<Arc<dyn StateStore>>,
    clock: Arc<dyn Clock>,
    last_us: i64,
    /// That of the last checkpoint.
    meta: Meta,
    /// Whether there is one.
    in_store: bool,
    /// The place behind the changes that it has.
    changes_end: Option<Place>,
}

impl Checkpoints {
    /// Opens a view's state and restores the dataflow and the positions of its inputs from it.
    pub(super) fn open(
        shared: &Shared,
        view: &OpenView,
        flow: &mut Dataflow,
        inputs: &mut [Input],
    ) -> Result<(Self, Restored)> {
        let (store, overflow) = stores(shared, view)?;
        let clock = Arc::clone(&shared.options.clock);
        let meta = Meta { life: Uuid::now_v7(), ..Meta::default() };
        let (last_us, in_store, changes_end) = (clock.now_us(), false, None);
        let mut opened = Self { store, overflow, last_us, clock, meta, in_store, changes_end };
        opened.limit_memory(flow, memory_limit(shared, view))?;
        let restored = opened.restore(view, flow, inputs)?;
        Ok((opened, restored))
    }

    /// Lets state beyond the limit leave memory, of a dataflow that has none yet.
    pub(super) fn limit_memory(&self, flow: &mut Dataflow, bytes: usize) -> Result<()> {
        match &self.overflow {
            Some(overflow) => Ok(flow.limit_memory(Arc::clone(overflow), bytes)?),
            None => Ok(()),
        }
    }

    fn restore(&mut self, view: &OpenView, flow: &mut Dataflow, inputs: &mut [Input]) -> Result<Restored> {
        let Some(store) = &self.store else { return Ok(Restored::Nothing) };
        let restored = tokio::task::block_in_place(|| flow.restore(store.as_ref()));
        let meta = match restored {
            Ok(None) => return Ok(Restored::Nothing),
            Ok(Some(meta)) => meta,
            Err(error @ millstream_views::Error::State { .. }) => {
                tracing::warn!(view = %view.name(), %error, "the view's checkpoint cannot be used");
                return Ok(Restored::Unusable(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let unusable = || Ok(Restored::Unusable("it is of other inputs".to_owned()));
        let Ok(mut meta) = serde_json::from_slice::<Meta>(&meta) else { return unusable() };
        for (input, reached) in inputs.iter_mut().zip(&meta.reached) {
            input.restore_watermarks(reached);
        }
        let (streams, views): (Vec<_>, Vec<_>) = inputs.iter_mut().partition(|input| input.position().is_some());
        if streams.len() != meta.inputs.len() || views.len() != meta.below.len() {
            return unusable();
        }
        for (input, (id, position)) in streams.into_iter().zip(&meta.inputs) {
            if input.position().is_none_or(|(stream, _)| stream != *id) {
                return unusable();
            }
            input.taken_to(position.clone());
        }
        for (input, below) in views.into_iter().zip(&meta.below) {
            let goes_on = input.go_on_from(below);
            // One that is suspended shows what it has; it asks for more when it is resumed.
            if !goes_on && view.definition().state == ViewState::Running {
                tracing::info!(view = %view.name(), "a view below does not have the changes behind the checkpoint");
                return Ok(Restored::Unusable("changes of a view below are gone".to_owned()));
            }
        }
        if meta.life.is_nil() {
            meta.life = self.meta.life;
        }
        (self.meta, self.in_store) = (meta, true);
        Ok(Restored::Yes)
    }

    /// What there is belongs to another life.
    pub(super) fn begin_anew(&mut self) {
        self.meta = Meta { life: Uuid::now_v7(), ..Meta::default() };
        (self.in_store, self.changes_end) = (false, None);
    }

    /// Where the streams and tables were at the last checkpoint; `None` before the first.
    pub(super) fn positions(&self) -> Option<&[(StreamId, Positions)]> {
        self.in_store.then_some(self.meta.inputs.as_slice())
    }

    /// Whether there are checkpoints.
    pub(super) fn are_made(&self) -> bool {
        self.store.is_some()
    }

    /// Whether the last checkpoint is so old that another is due.
    pub(super) fn is_due(&self) -> bool {
        self.are_made() && self.clock.now_us() - self.last_us >= INTERVAL_US
    }

    /// What the last checkpoint has of the view's changelog.
    pub(super) fn saved_changes(&self) -> Option<&SavedChanges> {
        self.meta.changes.as_ref()
    }

    /// The place in the view's changelog up to which the last checkpoint has it.
    pub(super) fn changes_end(&self) -> Option<Place> {
        self.changes_end
    }

    /// Delivers what the last checkpoint holds and a crash kept from its place. Closed windows go to the answer, which
    /// nobody sees yet. Gives the changelog up to there.
    pub(super) async fn deliver_again(
        &mut self,
        shared: &Shared,
        view: &OpenView,
        flow: &mut Dataflow,
        outbox: &Outbox,
    ) -> Result<Changes> {
        let Some(store) = &self.store else { return Ok(view.new_changes()) };
        let now_us = self.clock.now_us();
        let restored = |saved| saved_changes::restored(saved, store.as_ref(), view.changes_kept(), now_us);
        let mut changes = match self.meta.changes.as_ref().map(restored) {
            Some(Ok(changes)) => changes,
            Some(Err(error)) => {
                tracing::warn!(view = %view.name(), %error, "who followed the view begins anew");
                self.meta.changes = None;
                view.new_changes()
            }
            None => view.new_changes(),
        };
        let mut parcel = Parcel::unpacked(store.as_ref())?;
        for delta in parcel.take_closed() {
            flow.apply_withheld(&delta)?;
            changes.push(delta, now_us);
        }
        changes.begin_life(new_epoch());
        self.deliver(shared, outbox, &parcel).await?;
        Ok(changes)
    }

    /// Writes a checkpoint with what is in the outbox and what is new in the changelog, and delivers the outbox; unless
    /// nothing came since the last one, or a view below makes none now.
    pub(super) async fn save(
        &mut self,
        shared: &Shared,
        flow: &mut Dataflow,
        inputs: &[Input],
        outbox: &mut Outbox,
        changes: Option<Unsaved>,
    ) -> Result<()> {
        let parcel = outbox.take()?;
        let Some(store) = self.store.clone() else { return outbox.deliver(shared, &parcel, None).await };
        let meta = Meta {
            inputs: inputs.iter().filter_map(Input::position).map(|(id, at)| (id, at.clone())).collect(),
            below: inputs.iter().filter_map(Input::below).collect(),
            reached: inputs.iter().map(Input::watermarks_reached).collect(),
            watermarks: (0..inputs.len()).map(|i| flow.watermark(i)).collect(),
            life: self.meta.life,
            number: self.meta.number + 1,
            changes: changes.as_ref().map(|changes| changes.saved.clone()),
        };
        self.last_us = self.clock.now_us();
        if self.in_store && parcel.is_empty() && self.meta.says_the_same(&meta) {
            return Ok(());
        }
        for input in inputs {
            if !input.sync().await? {
                return outbox.deliver(shared, &parcel, None).await;
            }
        }
        // The next commit takes the place of what was delivered last.
        outbox.sync().await?;
        let text = serde_json::to_vec(&meta).unwrap_or_default();
        flow.withhold(parcel.closed_rows());
        tokio::task::block_in_place(|| {
            let mut beside = parcel.packed(store.as_ref())?;
            if let Some(changes) = changes {
                beside.extend(changes.packed(store.as_ref())?);
            }
            flow.checkpoint_with(store.as_ref(), &text, beside)?;
            Ok::<_, Error>(store.sync()?)
        })?;
        (self.meta, self.in_store) = (meta, true);
        self.deliver(shared, outbox, &parcel).await?;
        flow.withhold(0);
        self.changes_end = self.meta.changes.as_ref().and_then(|saved| saved.end(parcel.closed_changes()));
        Ok(())
    }

    /// Delivers the last checkpoint's parcel, and then forgets it.
    async fn deliver(&self, shared: &Shared, outbox: &Outbox, parcel: &Parcel) -> Result<()> {
        let Some(store) = self.store.as_ref().filter(|_| !parcel.is_empty()) else { return Ok(()) };
        let postmark = Postmark { life: self.meta.life, number: self.meta.number };
        shared.faults.reach(FaultPoint::OutboxCommitted)?;
        outbox.deliver(shared, parcel, Some(postmark)).await?;
        shared.faults.reach(FaultPoint::OutboxDelivered)?;
        let changes = delivered(store.as_ref())?;
        tokio::task::block_in_place(|| {
            store.commit(changes)?;
            // The log of a stream knows the key for ever. The quarantine has keys of others too and forgets the oldest:
            // what goes there must not be delivered again after a loss of power much later.
            if parcel.goes_to_quarantine() { store.sync() } else { Ok(()) }
        })?;
        Ok(())
    }
}

impl Meta {
    /// Whether a checkpoint with the other would say nothing new.
    fn says_the_same(&self, next: &Self) -> bool {
        let inputs = self.inputs == next.inputs && self.below == next.below;
        inputs && self.watermarks == next.watermarks && self.changes == next.changes
    }
}

/// How much memory a view's state may take.
pub(super) fn memory_limit(shared: &Shared, view: &OpenView) -> usize {
    let own = view.definition().options.memory_bytes;
    own.map_or(shared.options.view_memory_bytes, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// A place for state, if there is one.
type Store = Option<Arc<dyn StateStore>>;

/// Where the checkpoints of a view go, and where state goes that finds no room in memory.
fn stores(shared: &Shared, view: &OpenView) -> Result<(Store, Store)> {
    if shared.options.log_engine == LogEngine::Memory {
        return Ok((view.state_in_memory(), None));
    }
    let disk: Arc<dyn StateStore> = Arc::new(DiskStore::open(folder(shared, view.id()), DiskOptions::default())?);
    Ok((Some(Arc::clone(&disk)), Some(disk)))
}

fn folder(shared: &Shared, view: ViewId) -> PathBuf {
    shared.options.data_dir.join(STATE_FOLDER).join(view.to_string())
}

/// Removes a view's state; what remains goes at the next start.
pub(super) fn remove_state(shared: &Shared, view: ViewId) {
    let folder = folder(shared, view);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "a dropped view's state was not removed");
        }
        _ => {}
    }
}
