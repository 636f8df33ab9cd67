//! Owns the memory limit of a dataflow: rows beyond it lie in the store and are read back when they are needed.
//!
//! Indexes stay in memory and count against the limit; pieces of rows share what is left, at least an eighth. After
//! each step those that were used longest ago leave until the limit is kept; a piece that no checkpoint has yet is
//! written ahead of it. Where a step wants few rows of a piece that is not in memory, it reads these and not the piece;
//! a piece of which many rows are wanted comes back if there is room. So a dataflow larger than its limit gets slower.
//! Within a step memory may exceed the limit by what the step itself brings and makes.

use std::sync::Arc;

use super::Dataflow;
use crate::arrangement::{Memory, Piece};
use crate::store::StateStore;
use crate::{Error, Result};

impl Dataflow {
    /// Keeps the rows of nodes and answer in memory up to a limit of bytes, and others in `store`, to which its
    /// checkpoints then must go. Only for a dataflow as it was compiled, before [`Dataflow::restore`].
    pub fn limit_memory(&mut self, store: Arc<dyn StateStore>, bytes: usize) -> Result<()> {
        if self.steps > 0 || self.progress.in_store() {
            let reason = "it has rows already; set the limit of a newly compiled one".to_owned();
            return Err(Error::State { node: "a dataflow".into(), reason });
        }
        self.memory = Arc::new(Memory::limited(store, bytes));
        self.place()
    }

    /// Changes the limit of a dataflow that has one; it is kept from the next step on.
    pub fn change_memory_limit(&mut self, bytes: usize) {
        self.memory.change_limit(bytes);
    }

    /// Tells the arrangements their numbers and the memory they share.
    pub(super) fn place(&mut self) -> Result<()> {
        let memory = Arc::clone(&self.memory);
        self.visit(&mut |number, kept| {
            kept.place(number, Arc::clone(&memory));
            Ok(())
        })
    }

    /// Makes room where the limit is exceeded.
    pub(super) fn relieve(&mut self) -> Result<()> {
        let memory = Arc::clone(&self.memory);
        if !memory.is_limited() {
            return Ok(());
        }
        let mut index_bytes = 0;
        self.visit(&mut |_, kept| {
            index_bytes += kept.index_bytes();
            Ok(())
        })?;
        memory.begin_next(index_bytes);
        if memory.excess() == 0 {
            return Ok(());
        }
        let mut pieces: Vec<Arc<Piece>> = Vec::new();
        self.visit(&mut |_, kept| {
            pieces.extend(kept.pieces().cloned());
            Ok(())
        })?;
        pieces.sort_by_cached_key(|piece| piece.used());
        for piece in pieces {
            if memory.excess() == 0 {
                break;
            }
            piece.leave();
        }
        if memory.excess() > 0 {
            self.visit(&mut |_, kept| kept.relieve())?;
        }
        memory.relieved();
        Ok(())
    }
}
