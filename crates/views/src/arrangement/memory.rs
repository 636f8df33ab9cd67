//! Owns what the pieces of one dataflow may take in memory together, and where those go that find no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::Result;
use crate::store::{Change, StateStore};

/// Room for pieces.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) store: Option<Arc<dyn StateStore>>,
    limit: AtomicUsize,
    /// What the indexes leave of the limit.
    allowance: AtomicUsize,
    resident: AtomicUsize,
    /// Pieces that are not in memory.
    away: AtomicUsize,
    /// Whether a piece was read and found no room since the last time room was made.
    missed: AtomicBool,
    /// Steps, to tell which pieces were used lately.
    clock: AtomicU64,
    /// Whether everything in the store is this dataflow's.
    owned: AtomicBool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            store: None,
            limit: AtomicUsize::new(usize::MAX),
            allowance: AtomicUsize::new(usize::MAX),
            resident: AtomicUsize::new(0),
            away: AtomicUsize::new(0),
            missed: AtomicBool::new(false),
            clock: AtomicU64::new(0),
            owned: AtomicBool::new(false),
        }
    }
}

impl Memory {
    /// Pieces beyond `limit` bytes go to the store.
    pub(crate) fn limited(store: Arc<dyn StateStore>, limit: usize) -> Self {
        let (limit, allowance) = (AtomicUsize::new(limit), AtomicUsize::new(limit));
        Self { store: Some(store), limit, allowance, ..Self::default() }
    }

    /// Another limit, from the next step on. Without a store there is none.
    pub(crate) fn change_limit(&self, limit: usize) {
        if self.is_limited() {
            self.limit.store(limit, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.store.is_some()
    }

    /// A step ended, and indexes take so many bytes of the limit. Pieces always have an eighth of it.
    pub(crate) fn begin_next(&self, index_bytes: usize) {
        let limit = self.limit.load(Ordering::Relaxed);
        let allowance = limit.saturating_sub(index_bytes).max(limit / 8);
        self.allowance.store(allowance, Ordering::Relaxed);
        self.clock.fetch_add(1, Ordering::Relaxed);
    }

    /// Steps so far.
    pub(super) fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Bytes that have to go so that there is some room again.
    pub(crate) fn excess(&self) -> usize {
        let allowance = self.allowance.load(Ordering::Relaxed);
        let resident = self.resident.load(Ordering::Relaxed);
        if resident > allowance || self.missed.load(Ordering::Relaxed) {
            return resident.saturating_sub(allowance - allowance / 8);
        }
        0
    }

    /// Whether pieces take so much that some will have to go before long.
    pub(super) fn is_tight(&self) -> bool {
        self.resident.load(Ordering::Relaxed) > self.allowance.load(Ordering::Relaxed) / 2
    }

    /// Room was made.
    pub(crate) fn relieved(&self) {
        self.missed.store(false, Ordering::Relaxed);
    }

    /// Whether everything in the store is this dataflow's.
    pub(crate) fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Relaxed)
    }

    /// Everything in the store is this dataflow's.
    pub(crate) fn own(&self) {
        self.owned.store(true, Ordering::Relaxed);
    }

    /// Whether pieces go to this store.
    pub(crate) fn goes_to(&self, store: &dyn StateStore) -> bool {
        self.store.as_ref().is_none_or(|own| std::ptr::addr_eq(Arc::as_ptr(own), store))
    }

    /// Writes pieces ahead of their checkpoint.
    pub(super) fn write(&self, changes: Vec<Change>) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        if !self.is_owned() {
            store.commit(store.keys(b"")?.into_iter().map(|key| (key, None)).collect())?;
            self.own();
        }
        store.commit(changes)
    }

    /// Whether so many bytes more can stay. If not, room is made for others like them behind the step.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let room =
            self.resident.load(Ordering::Relaxed).saturating_add(bytes) <= self.allowance.load(Ordering::Relaxed);
        if !room {
            self.missed.store(true, Ordering::Relaxed);
        }
        room
    }

    /// Whether all pieces are in memory.
    pub(super) fn has_all(&self) -> bool {
        self.away.load(Ordering::Relaxed) == 0
    }

    /// A piece is made.
    pub(super) fn begin(&self, bytes: usize) {
        self.resident.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A piece is no more.
    pub(super) fn end(&self, bytes: usize, in_memory: bool) {
        if in_memory {
            self.resident.fetch_sub(bytes, Ordering::Relaxed);
        } else {
            self.away.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A piece comes back.
    pub(super) fn enter(&self, bytes: usize) {
        self.resident.fetch_add(bytes, Ordering::Relaxed);
        self.away.fetch_sub(1, Ordering::Relaxed);
    }

    /// A piece leaves.
    pub(super) fn leave(&self, bytes: usize) {
        self.resident.fetch_sub(bytes, Ordering::Relaxed);
        self.away.fetch_add(1, Ordering::Relaxed);
    }
}
