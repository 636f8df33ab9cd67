//! Owns the checkpoints of views at work: when they are written, and what a restart makes of them.
//!
//! A view's state lies in `views/<id>` of the data directory. A checkpoint holds the dataflow's state and, in its meta,
//! how far each stream was read; both are one commit. So a restart goes on from the rows behind those positions, which
//! are in the log or in the lake, and counts none twice. A view that reads other views is built again from their
//! answers, since their changelogs do not outlive the process.
//!
//! Rows that go elsewhere than to the answer, to a derived stream or to quarantine, are in the same commit and are
//! delivered behind it: see `outbox`.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_buffer::Clock;
use millstream_catalog::{Positions, StreamId, ViewId};
use millstream_views::{Dataflow, DiskOptions, DiskStore, StateStore};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::input::Input;
use super::open::OpenView;
use super::outbox::{Outbox, Parcel, Postmark, delivered};
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
    inputs: Vec<(StreamId, Positions)>,
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
}

/// Where a view's checkpoints go; nowhere when it reads other views.
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
}

impl Checkpoints {
    /// Opens a view's state and restores the dataflow and the positions of its inputs from it.
    pub(super) fn open(
        shared: &Shared,
        view: &OpenView,
        flow: &mut Dataflow,
        inputs: &mut [Input],
    ) -> Result<(Self, Restored)> {
        let (store, overflow) = stores(shared, view, inputs)?;
        let clock = Arc::clone(&shared.options.clock);
        let meta = Meta { life: Uuid::now_v7(), ..Meta::default() };
        let mut opened = Self { store, overflow, last_us: clock.now_us(), clock, meta, in_store: false };
        opened.limit_memory(flow, memory_limit(shared, view))?;
        let restored = opened.restore(view.id(), flow, inputs)?;
        Ok((opened, restored))
    }

    /// Lets state beyond the limit leave memory, of a dataflow that has none yet.
    pub(super) fn limit_memory(&self, flow: &mut Dataflow, bytes: usize) -> Result<()> {
        match &self.overflow {
            Some(overflow) => Ok(flow.limit_memory(Arc::clone(overflow), bytes)?),
            None => Ok(()),
        }
    }

    fn restore(&mut self, view: ViewId, flow: &mut Dataflow, inputs: &mut [Input]) -> Result<Restored> {
        let Some(store) = &self.store else { return Ok(Restored::Nothing) };
        let restored = tokio::task::block_in_place(|| flow.restore(store.as_ref()));
        let meta = match restored {
            Ok(None) => return Ok(Restored::Nothing),
            Ok(Some(meta)) => meta,
            Err(error @ millstream_views::Error::State { .. }) => {
                tracing::warn!(view = %view, %error, "the view's checkpoint cannot be used");
                return Ok(Restored::Unusable(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let unusable = || Ok(Restored::Unusable("it is of other inputs".to_owned()));
        let Some(mut meta) = serde_json::from_slice::<Meta>(&meta).ok().filter(|m| m.inputs.len() == inputs.len())
        else {
            return unusable();
        };
        for (input, reached) in inputs.iter_mut().zip(&meta.reached) {
            input.restore_watermarks(reached);
        }
        for (input, (id, position)) in inputs.iter_mut().zip(&meta.inputs) {
            if input.position().is_none_or(|(stream, _)| stream != *id) {
                return unusable();
            }
            input.taken_to(position.clone());
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
        self.in_store = false;
    }

    /// Where the inputs were at the last checkpoint, nowhere before the first; `None` where there never is one.
    pub(super) fn positions(&self) -> Option<&[(StreamId, Positions)]> {
        self.store.as_ref().map(|_| self.meta.inputs.as_slice())
    }

    /// Delivers what the last checkpoint holds and a crash kept from its place. Closed windows go to the answer, which
    /// nobody sees yet.
    pub(super) async fn deliver_again(&self, shared: &Shared, flow: &mut Dataflow, outbox: &Outbox) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut parcel = Parcel::unpacked(store.as_ref())?;
        for delta in parcel.take_closed() {
            flow.apply_withheld(&delta)?;
        }
        self.deliver(shared, outbox, &parcel).await
    }

    /// Writes a checkpoint if the last one is old enough and something came since.
    pub(super) async fn save_if_due(
        &mut self,
        shared: &Shared,
        flow: &mut Dataflow,
        inputs: &[Input],
        outbox: &mut Outbox,
    ) -> Result<()> {
        if self.store.is_none() || self.clock.now_us() - self.last_us < INTERVAL_US {
            return Ok(());
        }
        self.save(shared, flow, inputs, outbox).await
    }

    /// Writes a checkpoint with what is in the outbox, and delivers that; unless nothing came since the last one.
    pub(super) async fn save(
        &mut self,
        shared: &Shared,
        flow: &mut Dataflow,
        inputs: &[Input],
        outbox: &mut Outbox,
    ) -> Result<()> {
        let parcel = outbox.take()?;
        let Some(store) = self.store.clone() else { return outbox.deliver(shared, &parcel, None).await };
        let positions: Vec<_> = inputs.iter().filter_map(Input::position).map(|(id, at)| (id, at.clone())).collect();
        let watermarks: Vec<_> = (0..inputs.len()).map(|i| flow.watermark(i)).collect();
        self.last_us = self.clock.now_us();
        let unchanged = self.meta.inputs == positions && self.meta.watermarks == watermarks;
        if self.in_store && unchanged && parcel.is_empty() {
            return Ok(());
        }
        for input in inputs {
            input.sync().await?;
        }
        // The next commit takes the place of what was delivered last.
        outbox.sync().await?;
        let meta = Meta {
            inputs: positions,
            reached: inputs.iter().map(Input::watermarks_reached).collect(),
            watermarks,
            life: self.meta.life,
            number: self.meta.number + 1,
        };
        let text = serde_json::to_vec(&meta).unwrap_or_default();
        flow.withhold(parcel.closed_rows());
        tokio::task::block_in_place(|| {
            flow.checkpoint_with(store.as_ref(), &text, parcel.packed(store.as_ref())?)?;
            Ok::<_, Error>(store.sync()?)
        })?;
        (self.meta, self.in_store) = (meta, true);
        self.deliver(shared, outbox, &parcel).await?;
        flow.withhold(0);
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

/// How much memory a view's state may take.
pub(super) fn memory_limit(shared: &Shared, view: &OpenView) -> usize {
    let own = view.definition().options.memory_bytes;
    own.map_or(shared.options.view_memory_bytes, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// A place for state.
type Place = Option<Arc<dyn StateStore>>;

/// Where the checkpoints of a view go, nowhere when it reads other views, since their changelogs do not outlive the
/// process; and where state goes that finds no room in memory.
fn stores(shared: &Shared, view: &OpenView, inputs: &[Input]) -> Result<(Place, Place)> {
    let reads_views = inputs.iter().any(|i| i.position().is_none());
    if shared.options.log_engine == LogEngine::Memory {
        return Ok((if reads_views { None } else { view.state_in_memory() }, None));
    }
    let disk: Arc<dyn StateStore> = Arc::new(DiskStore::open(folder(shared, view.id()), DiskOptions::default())?);
    Ok((if reads_views { None } else { Some(Arc::clone(&disk)) }, Some(disk)))
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
