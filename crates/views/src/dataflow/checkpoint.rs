//! Owns checkpoints: a dataflow's state in a store, and a dataflow from it.
//!
//! A checkpoint is one commit of the store, so it is there whole or not at all, and holds everything that a step may
//! change: the arrangements of the nodes and the answer's (what is written of them, and what is not written again: the
//! head of `arrangement/save.rs`), the nodes' small values and the watermarks, how many steps there were, and the caller's `meta`, in which
//! the positions of the inputs belong. Whoever restores it gives the dataflow the deltas behind those positions again.
//!
//! # Format, version 2
//!
//! Keys begin with a letter, numbers in keys are big endian, so that they sort; numbers in values are little endian.
//!
//! ```text
//! m                 format version 2, zero 2, arrangements 4, steps 8, small values 4, length of meta 4;
//!                   the small values, 8 each; meta
//! q                 the query: what EXPLAIN says, its inputs, and the columns and keys of its arrangements, as text
//! a, p, l           arrangements, numbered as Node::visit_state visits them; the answer's is the last
//! o…                what the caller commits together with a checkpoint
//! ```
//!
//! A checkpoint of another format version or of another query is refused, with the first line in which the queries
//! differ. Where neither nodes nor answer keep anything, the query may be shown in other words: there is no state that
//! could be another's. A change of what nodes keep, or in which order they are visited, changes the format version when the text
//! does not show it.
//!
//! Pieces may be in the store before the checkpoint that names them: those that found no room in memory, and those of a
//! checkpoint too large for one commit. After a crash nobody names them, and a later checkpoint removes them.
//!
//! The first checkpoint of a dataflow that was not restored removes whatever lies in the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use bytes::Bytes;

use super::Dataflow;
use crate::arrangement::{Arrangement, Piece};
use crate::store::{Change, StateStore};
use crate::{Error, Result};

const FORMAT: u16 = 2;
const META: &[u8] = b"m";
const QUERY: &[u8] = b"q";
const HEAD: usize = 24;
/// New pieces beyond so many bytes in memory are written before the commit of the checkpoint.
const COMMIT_BYTES: usize = 64 << 20;

/// What a checkpoint came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointStats {
    /// Values written.
    pub written: usize,
    /// Their bytes.
    pub written_bytes: u64,
    /// Values removed.
    pub removed: usize,
}

/// How far a dataflow is, as far as checkpoints care.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether the store has a checkpoint of this dataflow.
    in_store: bool,
    /// Whether a step was begun and not ended: then its state is worth nothing.
    within_step: bool,
    /// How many changes of rows of the answer steps have given.
    given: u64,
    /// Of these, how many the caller keeps from the answer.
    withheld: u64,
    /// Whether what steps give goes elsewhere than to the answer.
    gives_away: bool,
}

impl Progress {
    pub(super) fn in_store(&self) -> bool {
        self.in_store
    }

    pub(super) fn keep_no_answer(&mut self) {
        self.gives_away = true;
    }

    /// Refuses a dataflow of which a step or a restore failed.
    pub(super) fn begin_step(&mut self) -> Result<()> {
        if self.within_step {
            return Err(state("a step failed or was given up in the middle; restore the last checkpoint"));
        }
        self.within_step = true;
        Ok(())
    }

    pub(super) fn end_step(&mut self, given: usize) {
        self.within_step = false;
        if !self.gives_away {
            self.given += given as u64;
        }
    }
}

impl Dataflow {
    /// What keys begin with that the caller has in the store.
    pub const CALLERS_KEYS: &'static [u8] = b"o";

    /// Says that the last so many rows that steps gave are not to be in the answer yet: the caller has them in the
    /// checkpoint beside it.
    pub fn withhold(&mut self, rows: usize) {
        self.progress.withheld = rows as u64;
    }

    /// Says that the answer is changed at once by what several steps gave: `together` rows in place of `given`, since
    /// rows that came and went again are in neither.
    pub fn gave_together(&mut self, given: usize, together: usize) {
        self.progress.given = self.progress.given.saturating_sub(given as u64) + together as u64;
    }

    /// Changes the answer of a restored checkpoint by what was withheld from it.
    pub fn apply_withheld(&mut self, delta: &RecordBatch) -> Result<()> {
        self.progress.given += delta.num_rows() as u64;
        self.answer.apply(delta)
    }

    /// Writes what changed since the last checkpoint, and `meta`, in one commit. What steps gave must have been applied
    /// to the answer. Readers of the answer do not wait. It is always the same store; after an error the checkpoint may
    /// be tried again. [`StateStore::sync`] is the caller's to call.
    pub fn checkpoint(&mut self, store: &dyn StateStore, meta: &[u8]) -> Result<CheckpointStats> {
        self.checkpoint_with(store, meta, vec![])
    }

    /// [`Dataflow::checkpoint`] with changes of the caller's own in the same commit. Their keys begin with
    /// [`Dataflow::CALLERS_KEYS`]; outside of checkpoints they are the caller's to change.
    pub fn checkpoint_with(
        &mut self,
        store: &dyn StateStore,
        meta: &[u8],
        beside: Vec<Change>,
    ) -> Result<CheckpointStats> {
        debug_assert!(beside.iter().all(|(key, _)| key.starts_with(Self::CALLERS_KEYS)), "keys are the caller's own");
        if self.progress.within_step {
            return Err(state("a step failed or was given up in the middle; restore the last checkpoint"));
        }
        if self.answer.applied.load(Ordering::Relaxed) + self.progress.withheld != self.progress.given {
            return Err(state("a step's delta was not applied to the answer; apply it first"));
        }
        if !self.memory.goes_to(store) {
            return Err(state("it goes to another store than the pieces that find no room in memory"));
        }
        let (mut arrangements, mut new) = (0, Vec::new());
        self.visit(&mut |number, kept| {
            arrangements = number + 1;
            new.extend(kept.attempt());
            Ok(())
        })?;
        let ahead = self.write_ahead(&new, store)?;
        drop(new);
        let mut changes = Vec::new();
        if !self.memory.is_owned() {
            changes = everything(store)?;
        }
        if !self.progress.in_store {
            changes.push((QUERY.to_vec(), Some(self.query().into())));
        }
        self.root.visit_state(&mut |kept| kept.changes(&mut changes))?;
        self.answer.rows.read().changes(&mut changes)?;
        changes.push((META.to_vec(), Some(self.meta(arrangements, meta))));
        changes.extend(beside);
        let stats = CheckpointStats::of(&changes).and(ahead);
        store.commit(changes)?;
        self.progress.in_store = true;
        self.memory.own();
        self.visit(&mut |_, kept| {
            kept.saved();
            Ok(())
        })?;
        self.relieve()?;
        Ok(stats)
    }

    /// Writes pieces before the commit that names them, when there are too many for one commit: until then nobody looks
    /// for them.
    fn write_ahead(&self, pieces: &[Arc<Piece>], store: &dyn StateStore) -> Result<CheckpointStats> {
        let mut stats = CheckpointStats::default();
        if pieces.iter().map(|piece| piece.bytes()).sum::<usize>() <= COMMIT_BYTES {
            return Ok(stats);
        }
        if !self.memory.is_owned() {
            store.commit(everything(store)?)?;
            self.memory.own();
        }
        let (mut begin, mut bytes) = (0, 0);
        for (end, piece) in pieces.iter().enumerate().map(|(n, piece)| (n + 1, piece)) {
            bytes += piece.bytes();
            if bytes < COMMIT_BYTES / 4 && end < pieces.len() {
                continue;
            }
            let some = &pieces[begin..end];
            let changes = some.iter().map(|piece| piece.change()).collect::<Result<Vec<_>>>()?;
            stats = stats.and(CheckpointStats::of(&changes));
            store.commit(changes)?;
            some.iter().for_each(|piece| piece.set_stored());
            (begin, bytes) = (end, 0);
        }
        Ok(stats)
    }

    /// Takes over the state of the last checkpoint and gives its `meta`; `None` if the store has none. Only for a
    /// dataflow as it was compiled; after an error it can't be used any more.
    pub fn restore(&mut self, store: &dyn StateStore) -> Result<Option<Vec<u8>>> {
        if self.steps > 0 || self.progress.in_store {
            return Err(state("it is in use already; restore into a newly compiled one"));
        }
        if !self.memory.goes_to(store) {
            return Err(state("it lies in another store than the pieces that find no room in memory"));
        }
        let Some(saved) = store.get(META)? else { return Ok(None) };
        let saved = Saved::decode(&saved)?;
        let query = store.get(QUERY)?.unwrap_or_default();
        if let Some(difference) = difference(&String::from_utf8_lossy(&query), &self.query())
            && !(saved.has_meta_alone() && self.progress.gives_away)
        {
            return Err(state(format!("it belongs to another query: {difference}")));
        }
        self.progress.begin_step()?;
        self.memory.own();
        let mut arrangements = 0;
        self.visit(&mut |number, kept| {
            arrangements = number + 1;
            kept.restore(store)
        })?;
        let mut values = saved.values.iter();
        let mut missing = false;
        self.visit_values(&mut |value| match values.next() {
            Some(saved) => *value = *saved,
            None => missing = true,
        });
        if missing || values.next().is_some() || arrangements != saved.arrangements {
            return Err(state("it was written by nodes that keep other things"));
        }
        self.steps = saved.steps;
        self.progress.in_store = true;
        self.progress.end_step(0);
        Ok(Some(saved.meta))
    }

    /// Visits everything that is kept under keys: the nodes' in their order, then the answer.
    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(u32, &mut Arrangement) -> Result<()>) -> Result<()> {
        let mut number = 0;
        self.root.visit_state(&mut |kept| {
            number += 1;
            visit(number - 1, kept)
        })?;
        visit(number, &mut self.answer.rows.write())
    }

    /// Visits the numbers of the nodes, then the watermarks.
    fn visit_values(&mut self, visit: &mut dyn FnMut(&mut i64)) {
        self.root.visit_values(visit);
        self.clock.at.iter_mut().for_each(visit);
    }

    fn meta(&mut self, arrangements: u32, meta: &[u8]) -> Bytes {
        let mut values = Vec::new();
        self.visit_values(&mut |value| values.push(*value));
        let mut bytes = Vec::with_capacity(HEAD + 8 * values.len() + meta.len());
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&arrangements.to_le_bytes());
        bytes.extend_from_slice(&self.steps.to_le_bytes());
        bytes.extend_from_slice(&(values.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(meta.len() as u32).to_le_bytes());
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        bytes.extend_from_slice(meta);
        bytes.into()
    }

    /// What the state belongs to.
    fn query(&mut self) -> String {
        let mut text = self.explain();
        for input in &self.inputs {
            let looked_up = if input.looked_up { ", looked up" } else { "" };
            text.push_str(&format!("reads {} ({:?}{looked_up})\n", input.table, input.kind));
        }
        let described = self.visit(&mut |number, kept| {
            text.push_str(&format!("{number}: {}\n", kept.describe()));
            Ok(())
        });
        debug_assert!(described.is_ok(), "describing does not fail");
        text
    }
}

/// Changes that remove whatever there is.
fn everything(store: &dyn StateStore) -> Result<Vec<Change>> {
    Ok(store.keys(b"")?.into_iter().map(|key| (key, None)).collect())
}

impl CheckpointStats {
    fn and(self, more: Self) -> Self {
        Self {
            written: self.written + more.written,
            written_bytes: self.written_bytes + more.written_bytes,
            removed: self.removed + more.removed,
        }
    }

    fn of(changes: &[Change]) -> Self {
        let values = changes.iter().filter_map(|(_, value)| value.as_ref());
        let written = values.clone().count();
        let written_bytes = values.map(|value| value.len() as u64).sum();
        Self { written, written_bytes, removed: changes.len() - written }
    }
}

/// The value under [`META`].
struct Saved {
    arrangements: u32,
    steps: u64,
    values: Vec<i64>,
    meta: Vec<u8>,
}

impl Saved {
    /// Whether no node keeps anything: the answer's arrangement is there in any case.
    fn has_meta_alone(&self) -> bool {
        self.arrangements == 1 && self.values.is_empty()
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let format = bytes.first_chunk().map_or(0, |version| u16::from_le_bytes(*version));
        if format != FORMAT {
            return Err(state(format!("its format is {format}, this version of millstream reads format {FORMAT}")));
        }
        Self::decode_format_2(bytes).ok_or_else(|| state("its head is not whole"))
    }

    fn decode_format_2(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let (words, _) = head.as_chunks::<4>();
        let word = |i: usize| u32::from_le_bytes(words[i]);
        let (values, meta) = rest.split_at_checked(8 * word(4) as usize)?;
        let values = values.as_chunks::<8>().0.iter().map(|value| i64::from_le_bytes(*value)).collect();
        let steps = u64::from(word(2)) | u64::from(word(3)) << 32;
        let whole = meta.len() == word(5) as usize;
        whole.then(|| Self { arrangements: word(1), steps, values, meta: meta.to_vec() })
    }
}

/// The first line in which two queries differ.
fn difference(stored: &str, own: &str) -> Option<String> {
    if stored == own {
        return None;
    }
    let lines = stored.lines().zip(own.lines()).find(|(stored, own)| stored != own);
    Some(match lines {
        Some((stored, own)) => format!("it has \"{}\" where this one has \"{}\"", stored.trim(), own.trim()),
        None => "one of them keeps more than the other".to_owned(),
    })
}

fn state(reason: impl Into<String>) -> Error {
    Error::State { node: "a checkpoint".into(), reason: reason.into() }
}
