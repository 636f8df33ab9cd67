//! Owns what an arrangement finds rows by: fingerprints of keys and of whole rows.
//!
//! A fingerprint is the key itself where keys have one length of at most 12 bytes. Others are hashed twice with numbers
//! that each process chooses by chance: polynomials modulo 2^61 - 1, so that two keys of n bytes have one fingerprint
//! in less than n² of 2^100 processes, whoever chose the keys. Equal fingerprints count as equal keys.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::OnceLock;

use super::rows::parts_of;
use super::table::{NO_ROW, Print, Table};
use crate::key::EncodedRows;

/// Bytes of keys that are their own fingerprints.
pub(super) const EXACT: usize = 12;

const PRIME: u64 = (1 << 61) - 1;

/// Chosen once per process.
struct Chance {
    bases: [u64; 2],
    mix: [u64; 2],
}

fn chance() -> &'static Chance {
    static CHANCE: OnceLock<Chance> = OnceLock::new();
    CHANCE.get_or_init(|| {
        let state = RandomState::new();
        let number = |n: u64| state.hash_one(n);
        Chance { bases: [1, 2].map(|n| number(n) % PRIME), mix: [3, 4].map(number) }
    })
}

/// What tells these rows apart. `exact`: they have one length of at most [`EXACT`] bytes.
pub(super) fn prints<'k>(rows: impl Iterator<Item = &'k [u8]>, exact: bool) -> Vec<Print> {
    let chance = chance();
    let words = |row: &[u8]| if exact { padded(row) } else { hashed(row, chance) };
    rows.map(|row| {
        let words = words(row);
        Print { words, hash: spread(words, chance) }
    })
    .collect()
}

fn padded(row: &[u8]) -> [u32; 3] {
    debug_assert!(row.len() <= EXACT, "the key said that it is short");
    // Put together in registers: what is written byte by byte can't be read as words at once.
    let bytes = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    let (low, high) = match row.split_first_chunk() {
        Some((first, rest)) => (u64::from_le_bytes(*first), bytes(rest) as u32),
        None => (bytes(row), 0),
    };
    [low as u32, (low >> 32) as u32, high]
}

fn hashed(row: &[u8], chance: &Chance) -> [u32; 3] {
    let mut sums = chance.bases.map(|base| reduced(u128::from(row.len() as u64 + 1) * u128::from(base)));
    let (blocks, rest) = row.as_chunks::<7>();
    let mut last = [0; 7];
    last[..rest.len()].copy_from_slice(rest);
    for block in blocks.iter().chain([&last]) {
        let [a, b, c, d, e, f, g] = *block;
        let block = u64::from_le_bytes([a, b, c, d, e, f, g, 0]);
        for (sum, base) in sums.iter_mut().zip(chance.bases) {
            *sum = reduced(u128::from(*sum + block) * u128::from(base));
        }
    }
    [sums[0] as u32, (sums[0] >> 32) as u32, sums[1] as u32]
}

/// Modulo [`PRIME`].
fn reduced(product: u128) -> u64 {
    let sum = (product as u64 & PRIME) + (product >> 61) as u64;
    let sum = (sum & PRIME) + (sum >> 61);
    if sum >= PRIME { sum - PRIME } else { sum }
}

fn spread(words: [u32; 3], chance: &Chance) -> u64 {
    let low = u64::from(words[0]) | u64::from(words[1]) << 32;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let first = fold(low ^ chance.mix[0], 0x9e37_79b9_7f4a_7c15);
    fold(first ^ u64::from(words[2]) ^ chance.mix[1], 0xd6e8_feb8_6659_fd93)
}

/// The place in a table of what [`prints`] made.
pub(super) fn place(words: [u32; 3]) -> u64 {
    spread(words, chance())
}

/// An empty table of what [`prints`] makes.
pub(super) fn table() -> Table {
    Table::new(place)
}

/// What tells whole rows apart.
pub(super) fn content_prints(rows: &EncodedRows) -> Vec<Print> {
    prints(rows.iter(), false)
}

/// The neighbours of a row in its chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) older: u32,
    pub(super) newer: u32,
}

/// Rows of one key, or of one content, from the newest to the oldest.
#[derive(Debug, Default)]
pub(super) struct Chains {
    /// By region.
    links: Vec<Vec<Link>>,
}

impl Chains {
    pub(super) fn bytes(&self) -> usize {
        self.links.iter().map(|links| links.capacity() * size_of::<Link>() + size_of::<Vec<Link>>()).sum()
    }

    /// Makes room for rows from that number on.
    pub(super) fn reserve(&mut self, base: u32, rows: usize) {
        let (region, place) = parts_of(base);
        if region >= self.links.len() {
            self.links.resize_with(region + 1, Vec::new);
        }
        self.links[region].resize(place + rows, Link { older: NO_ROW, newer: NO_ROW });
    }

    /// Forgets the rows of a region.
    pub(super) fn forget(&mut self, region: u32) {
        if let Some(links) = self.links.get_mut(region as usize) {
            *links = Vec::new();
        }
    }

    fn at(&mut self, row: u32) -> &mut Link {
        let (region, place) = parts_of(row);
        &mut self.links[region][place]
    }

    /// The rows beside one.
    pub(super) fn neighbours(&self, row: u32) -> Link {
        let (region, place) = parts_of(row);
        self.links[region][place]
    }

    /// Puts a row between two others.
    pub(super) fn link(&mut self, row: u32, older: u32, newer: u32) {
        *self.at(row) = Link { older, newer };
        if older != NO_ROW {
            self.at(older).newer = row;
        }
        if newer != NO_ROW {
            self.at(newer).older = row;
        }
    }

    /// Puts a row before the newest one of a chain, or of none.
    pub(super) fn push(&mut self, row: u32, newest: u32) {
        self.link(row, newest, NO_ROW);
    }

    /// The row before one.
    pub(super) fn older(&self, row: u32) -> u32 {
        self.neighbours(row).older
    }

    /// Takes a row out of its chain. Gives what is the newest then, if that changes; [`NO_ROW`] when none is left.
    pub(super) fn unlink(&mut self, row: u32) -> Option<u32> {
        let Link { older, newer } = self.neighbours(row);
        if older != NO_ROW {
            self.at(older).newer = newer;
        }
        if newer == NO_ROW {
            return Some(older);
        }
        self.at(newer).older = older;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn different_keys_have_different_fingerprints() {
        let mut keys: Vec<Vec<u8>> = (0..40).flat_map(|n| [vec![0; n], vec![1; n], vec![255; n]]).collect();
        keys.extend((0..20_000u32).map(|n| format!("key {n} of some length").into_bytes()));
        keys.extend((0..20_000u64).map(|n| n.to_be_bytes().repeat(3)));
        let keys: HashSet<Vec<u8>> = keys.into_iter().collect();
        let seen: HashSet<[u32; 3]> = prints(keys.iter().map(Vec::as_slice), false).iter().map(|p| p.words).collect();
        assert_eq!(seen.len(), keys.len());
    }

    #[test]
    fn short_keys_are_their_own_fingerprints_and_spread_over_the_places() {
        let keys: Vec<[u8; 9]> = (0..4096u64)
            .map(|n| {
                let mut key = [1; 9];
                key[1..].copy_from_slice(&n.to_be_bytes());
                key
            })
            .collect();
        let made = prints(keys.iter().map(|key| key.as_slice()), true);
        assert_eq!(made.iter().map(|p| p.words).collect::<HashSet<_>>().len(), keys.len());
        let places: HashSet<u64> = made.iter().map(|p| p.hash >> 52).collect();
        // Balls into as many bins leave 1/e of them empty.
        assert!((2400..2800).contains(&places.len()), "{}", places.len());
    }
}
