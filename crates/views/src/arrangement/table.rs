//! Owns a hash table from fingerprints to row numbers.
//!
//! ```text
//! hash     the upper 12 bits choose a part, the others a place in it
//! parts    0 … 127, of shares between 1 and 2, so that they grow at different times
//! part     [ print 12, row 4 ][ … ][ free ] …    at most four fifths full; what is taken moves to the next place
//! ```
//!
//! A part grows by a quarter, so a table takes some 22 bytes per entry, and no insertion waits for more than a
//! hundredth of the table to be moved. A part shrinks when most of it is free.

/// The end of a chain of rows, and no row at all.
pub(crate) const NO_ROW: u32 = u32::MAX;

const PARTS: usize = 128;
const BUCKETS: usize = 4096;
const PART_OF: [u8; BUCKETS] = shares();
/// Lookups whose first places are read ahead together.
const AHEAD: usize = 32;

/// Tells keys apart; `hash` only says where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    pub(super) words: [u32; 3],
    pub(super) hash: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    words: [u32; 3],
    row: u32,
}

const FREE: Entry = Entry { words: [0; 3], row: NO_ROW };

/// Row numbers by fingerprint.
#[derive(Debug)]
pub(super) struct Table {
    parts: Vec<Part>,
    /// The hash of a fingerprint.
    hash: fn([u32; 3]) -> u64,
}

#[derive(Debug, Default, Clone)]
struct Part {
    entries: Vec<Entry>,
    taken: usize,
}

impl Table {
    pub(super) fn new(hash: fn([u32; 3]) -> u64) -> Self {
        Self { parts: vec![Part::default(); PARTS], hash }
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| size_of::<Part>() + part.entries.capacity() * size_of::<Entry>()).sum()
    }

    /// The row of each fingerprint, or [`NO_ROW`].
    pub(super) fn find_each(&self, prints: &[Print]) -> Vec<u32> {
        let mut rows = Vec::with_capacity(prints.len());
        for some in prints.chunks(AHEAD) {
            self.read_ahead(some);
            rows.extend(some.iter().map(|print| self.find(print)));
        }
        rows
    }

    /// Lets the processor fetch where these lie, all at once.
    fn read_ahead(&self, prints: &[Print]) {
        let rows = prints.iter().map(|print| self.part(print).first(print.hash));
        std::hint::black_box(rows.fold(0, |sum, row| sum ^ row));
    }

    /// The row of a fingerprint, or [`NO_ROW`].
    pub(super) fn find(&self, print: &Print) -> u32 {
        let part = self.part(print);
        part.find(print).map_or(NO_ROW, |at| part.entries[at].row)
    }

    /// Puts a row in the place of the one that was there, which it gives, or [`NO_ROW`].
    pub(super) fn put(&mut self, print: &Print, row: u32) -> u32 {
        let part = &mut self.parts[part_of(print.hash)];
        if let Some(at) = part.find(print) {
            return std::mem::replace(&mut part.entries[at].row, row);
        }
        part.add(print, row, self.hash);
        NO_ROW
    }

    /// [`Table::put`] for rows that are numbered through; gives what was there before each.
    pub(super) fn put_each(&mut self, prints: &[Print], mut row: u32) -> Vec<u32> {
        let mut before = Vec::with_capacity(prints.len());
        for some in prints.chunks(AHEAD) {
            self.read_ahead(some);
            for print in some {
                before.push(self.put(print, row));
                row += 1;
            }
        }
        before
    }

    /// Forgets a fingerprint; gives its row, or [`NO_ROW`].
    pub(super) fn remove(&mut self, print: &Print) -> u32 {
        let part = &mut self.parts[part_of(print.hash)];
        part.find(print).map_or(NO_ROW, |at| part.remove(at, self.hash))
    }

    fn part(&self, print: &Print) -> &Part {
        &self.parts[part_of(print.hash)]
    }
}

impl Part {
    /// Where a hash would like to lie.
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash << 12) * self.entries.len() as u128) >> 64) as usize
    }

    fn first(&self, hash: u64) -> u32 {
        self.entries.get(self.home(hash)).map_or(NO_ROW, |entry| entry.row)
    }

    fn find(&self, print: &Print) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut at = self.home(print.hash);
        loop {
            let entry = &self.entries[at];
            if entry.row == NO_ROW {
                return None;
            }
            if entry.words == print.words {
                return Some(at);
            }
            at = self.behind(at);
        }
    }

    fn behind(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() { 0 } else { at + 1 }
    }

    /// Adds a fingerprint that is not there.
    fn add(&mut self, print: &Print, row: u32, hash: fn([u32; 3]) -> u64) {
        if (self.taken + 1) * 5 > self.entries.len() * 4 {
            let more = if self.entries.len() < 1024 { self.entries.len().max(4) } else { self.entries.len() / 4 };
            self.resize(self.entries.len() + more, hash);
        }
        self.taken += 1;
        self.place(Entry { words: print.words, row }, print.hash);
    }

    fn place(&mut self, entry: Entry, hash: u64) {
        let mut at = self.home(hash);
        while self.entries[at].row != NO_ROW {
            at = self.behind(at);
        }
        self.entries[at] = entry;
    }

    fn resize(&mut self, places: usize, hash: fn([u32; 3]) -> u64) {
        let before = std::mem::replace(&mut self.entries, vec![FREE; places]);
        for entry in before.into_iter().filter(|entry| entry.row != NO_ROW) {
            self.place(entry, hash(entry.words));
        }
    }

    /// Frees a place; those behind it that would like to lie before move up.
    fn remove(&mut self, at: usize, hash: fn([u32; 3]) -> u64) -> u32 {
        let row = self.entries[at].row;
        self.taken -= 1;
        let mut hole = at;
        let mut next = self.behind(hole);
        while self.entries[next].row != NO_ROW {
            let home = self.home(hash(self.entries[next].words));
            let stays = if hole < next { hole < home && home <= next } else { hole < home || home <= next };
            if !stays {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = self.behind(next);
        }
        self.entries[hole] = FREE;
        if self.entries.len() > 64 && self.taken * 4 < self.entries.len() {
            self.resize(self.taken * 2, hash);
        }
        row
    }
}

fn part_of(hash: u64) -> usize {
    usize::from(PART_OF[(hash >> 52) as usize])
}

/// Which part a bucket belongs to: each part has a 128th more of the logarithm of 2 than the one before.
const fn shares() -> [u8; BUCKETS] {
    const RATIO: f64 = 1.005_429_901_112_803;
    let mut of = [0; BUCKETS];
    let mut share = BUCKETS as f64 * (RATIO - 1.0);
    let (mut part, mut bucket, mut end) = (0, 0, share);
    while bucket < BUCKETS {
        while bucket as f64 >= end && part < PARTS - 1 {
            part += 1;
            share *= RATIO;
            end += share;
        }
        of[bucket] = part as u8;
        bucket += 1;
    }
    of
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn print(key: u32, hash: fn([u32; 3]) -> u64) -> Print {
        let words = [key, key ^ 7, 1];
        Print { words, hash: hash(words) }
    }

    /// Keys of few homes, so that they push each other along and around the end.
    fn crowded(words: [u32; 3]) -> u64 {
        u64::from(words[0] % 8) << 61 | u64::MAX >> (4 + words[0] % 2 * 20)
    }

    fn spread(words: [u32; 3]) -> u64 {
        u64::from(words[0]).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn it_holds_what_a_map_holds() {
        for (hash, keys) in [(crowded as fn([u32; 3]) -> u64, 300), (spread, 60_000)] {
            let mut random = StdRng::seed_from_u64(5);
            let (mut table, mut map) = (Table::new(hash), HashMap::new());
            for row in 0..200_000 {
                let key = random.random_range(0..keys);
                if random.random_bool(if row % 100_000 < 50_000 { 0.2 } else { 0.8 }) {
                    assert_eq!(table.remove(&print(key, hash)), map.remove(&key).unwrap_or(NO_ROW));
                } else {
                    assert_eq!(table.put(&print(key, hash), row), map.insert(key, row).unwrap_or(NO_ROW));
                }
            }
            let prints: Vec<Print> = (0..keys).map(|key| print(key, hash)).collect();
            let expected: Vec<u32> = (0..keys).map(|key| map.get(&key).copied().unwrap_or(NO_ROW)).collect();
            assert_eq!(table.find_each(&prints), expected);
            map.keys().for_each(|key| assert_ne!(table.remove(&print(*key, hash)), NO_ROW));
            assert!(table.bytes() < PARTS * (64 * size_of::<Entry>() + size_of::<Part>()), "{}", table.bytes());
        }
    }

    #[test]
    fn parts_have_shares_of_one_to_two() {
        let mut shares = [0; PARTS];
        PART_OF.iter().for_each(|part| shares[usize::from(*part)] += 1);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!((20..=24).contains(least) && (42..=46).contains(most), "{shares:?}");
    }
}
