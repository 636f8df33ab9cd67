//! Owns the two indexes of an arrangement: from a key to its rows, and from a row's content to its number.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use twox_hash::XxHash64;

/// The end of a chain of rows.
pub(super) const NO_ROW: u32 = u32::MAX;

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    hash: u64,
    begin: usize,
    len: u32,
    /// The newest row; others follow by `next`.
    pub(super) first: u32,
    /// Living rows under it.
    pub(super) rows: u32,
}

/// Keys and the newest row of each.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    bytes: Vec<u8>,
}

fn key_of<'a>(bytes: &'a [u8], slot: &Slot) -> &'a [u8] {
    &bytes[slot.begin..slot.begin + slot.len as usize]
}

impl KeyIndex {
    pub(super) fn bytes(&self) -> usize {
        self.table.capacity() * 5 + self.slots.capacity() * size_of::<Slot>() + self.bytes.capacity()
    }

    /// The key's slot, made if it is not there.
    pub(super) fn enter(&mut self, key: &[u8]) -> &mut Slot {
        let hash = XxHash64::oneshot(0, key);
        let (slots, bytes) = (&mut self.slots, &mut self.bytes);
        let same = |n: &u32| {
            let slot = &slots[*n as usize];
            slot.hash == hash && key_of(bytes, slot) == key
        };
        let n = match self.table.entry(hash, same, |n| slots[*n as usize].hash) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(room) => {
                let slot = Slot { hash, begin: bytes.len(), len: key.len() as u32, first: NO_ROW, rows: 0 };
                let n = self.free.pop().unwrap_or(slots.len() as u32);
                room.insert(n);
                bytes.extend_from_slice(key);
                if n as usize == slots.len() {
                    slots.push(slot);
                } else {
                    slots[n as usize] = slot;
                }
                n
            }
        };
        &mut self.slots[n as usize]
    }

    /// The newest row under a key, or [`NO_ROW`].
    pub(super) fn first(&self, key: &[u8]) -> u32 {
        let hash = XxHash64::oneshot(0, key);
        self.table.find(hash, |n| self.is(*n, hash, key)).map_or(NO_ROW, |n| self.slots[*n as usize].first)
    }

    /// Forgets a key; gives its newest row, or [`NO_ROW`].
    pub(super) fn leave(&mut self, key: &[u8]) -> u32 {
        let hash = XxHash64::oneshot(0, key);
        let (slots, bytes) = (&self.slots, &self.bytes);
        let same = |n: &u32| slots[*n as usize].hash == hash && key_of(bytes, &slots[*n as usize]) == key;
        let Ok(found) = self.table.find_entry(hash, same) else { return NO_ROW };
        let (n, _) = found.remove();
        self.free.push(n);
        self.slots[n as usize].first
    }

    /// One row under the key is gone; the last one takes the key along.
    pub(super) fn one_less(&mut self, key: &[u8]) {
        let slot = self.enter(key);
        slot.rows = slot.rows.saturating_sub(1);
        if slot.rows == 0 {
            self.leave(key);
        }
    }

    fn is(&self, n: u32, hash: u64, key: &[u8]) -> bool {
        let slot = &self.slots[n as usize];
        slot.hash == hash && key_of(&self.bytes, slot) == key
    }
}

/// Row numbers by the hash of the whole row.
#[derive(Debug, Default)]
pub(super) struct RowIndex {
    table: HashTable<(u64, u32)>,
}

impl RowIndex {
    pub(super) fn bytes(&self) -> usize {
        self.table.capacity() * 17
    }

    pub(super) fn insert(&mut self, row: &[u8], number: u32) {
        let hash = XxHash64::oneshot(1, row);
        self.table.insert_unique(hash, (hash, number), |entry| entry.0);
    }

    /// Takes out a row of that content that is `live`.
    pub(super) fn take(&mut self, row: &[u8], live: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = XxHash64::oneshot(1, row);
        loop {
            let entry = self.table.find_entry(hash, |(h, _)| *h == hash).ok()?;
            let ((_, number), _) = entry.remove();
            if live(number) {
                return Some(number);
            }
        }
    }
}
