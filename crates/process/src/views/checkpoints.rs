//! Owns the checkpoints of views at work: when they are written, and what a restart makes of them.
//!
//! A view's state lies in `views/<id>` of the data directory. A checkpoint holds the dataflow's state and, in its meta,
//! how far each stream was read; both are one commit. So a restart goes on from the rows behind those positions, which
//! are in the log or in the lake, and counts none twice. A view that reads other views is built again from their
//! answers, since their changelogs do not outlive the process.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_buffer::Clock;
use millstream_catalog::{Positions, StreamId, ViewId};
use millstream_views::{Dataflow, DiskOptions, DiskStore, StateStore};
use serde::{Deserialize, Serialize};

use super::input::Input;
use crate::Result;
use crate::engine::{LogEngine, Shared};

/// The folder of all views' state in the data directory.
pub(super) const STATE_FOLDER: &str = "views";

/// How much work a crash may cost: what came in since the last checkpoint is taken in again.
const INTERVAL_US: i64 = 5_000_000;

/// What a restart found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restored {
    /// The dataflow is as the last checkpoint left it.
    Yes,
    /// There is no checkpoint.
    Nothing,
    /// There is one of another query or format; the dataflow can't be used, and the state was removed.
    Unusable,
}

/// The part of a checkpoint's meta that says where the inputs were.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    inputs: Vec<(StreamId, Positions)>,
}

/// Where a view's checkpoints go; nowhere when it reads other views, or the node keeps nothing.
pub(super) struct Checkpoints {
    store: Option<DiskStore>,
    clock: Arc<dyn Clock>,
    last_us: i64,
    /// The positions of the last checkpoint.
    saved: Option<Vec<u8>>,
}

impl Checkpoints {
    /// Opens a view's state and restores the dataflow and the positions of its inputs from it.
    pub(super) fn open(
        shared: &Shared,
        view: ViewId,
        flow: &mut Dataflow,
        inputs: &mut [Input],
    ) -> Result<(Self, Restored)> {
        let clock = &shared.options.clock;
        let with = |store, saved| Self { store, clock: Arc::clone(clock), last_us: clock.now_us(), saved };
        if shared.options.log_engine == LogEngine::Memory || inputs.iter().any(|i| i.position().is_none()) {
            return Ok((with(None, None), Restored::Nothing));
        }
        let store = DiskStore::open(folder(shared, view), DiskOptions::default())?;
        let restored = tokio::task::block_in_place(|| flow.restore(&store));
        let meta = match restored {
            Ok(None) => {
                return Ok((with(Some(store), None), Restored::Nothing));
            }
            Ok(Some(meta)) => meta,
            Err(error @ millstream_views::Error::State { .. }) => {
                tracing::warn!(view = %view, %error, "the view's checkpoint is not used, the view is built from its history");
                return Ok((with(Some(store), None), Restored::Unusable));
            }
            Err(error) => return Err(error.into()),
        };
        let positions = serde_json::from_slice::<Meta>(&meta).ok().filter(|m| m.inputs.len() == inputs.len());
        let Some(positions) = positions else {
            return Ok((with(Some(store), None), Restored::Unusable));
        };
        for (input, (id, position)) in inputs.iter_mut().zip(positions.inputs) {
            if input.position().is_none_or(|(stream, _)| stream != id) {
                return Ok((with(Some(store), None), Restored::Unusable));
            }
            input.taken_to(position);
        }
        Ok((with(Some(store), Some(meta)), Restored::Yes))
    }

    /// Writes a checkpoint if the last one is old enough and something came since.
    pub(super) fn save_if_due(&mut self, flow: &mut Dataflow, inputs: &[Input]) -> Result<()> {
        if self.store.is_none() || self.clock.now_us() - self.last_us < INTERVAL_US {
            return Ok(());
        }
        self.save(flow, inputs)
    }

    /// Writes a checkpoint, unless nothing came since the last one.
    pub(super) fn save(&mut self, flow: &mut Dataflow, inputs: &[Input]) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        let inputs = inputs.iter().filter_map(Input::position).map(|(id, at)| (id, at.clone()));
        let meta = serde_json::to_vec(&Meta { inputs: inputs.collect() }).unwrap_or_default();
        self.last_us = self.clock.now_us();
        if self.saved.as_ref() == Some(&meta) {
            return Ok(());
        }
        tokio::task::block_in_place(|| {
            flow.checkpoint(store, &meta)?;
            store.sync()
        })?;
        self.saved = Some(meta);
        Ok(())
    }
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
