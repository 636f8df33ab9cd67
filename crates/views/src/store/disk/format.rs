//! Owns the bytes of records: what `mod.rs` draws.

use super::Place;

pub(super) const ALIGNMENT: u64 = 64;
pub(super) const HEAD: usize = 64;
const MARK: &[u8; 4] = b"MSTR";
const VERSION: u16 = 1;
const REMOVED: u32 = 1 << 31;
const ENTRY: usize = 32;

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory = 1,
    Commit = 2,
    Synced = 3,
    Sealed = 4,
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) segment: u64,
    pub(super) record: u64,
    pub(super) length: u64,
    pub(super) table: u64,
    pub(super) synced: u64,
    pub(super) entries: u32,
}

/// A key and where its value lies, or that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) place: Option<Place>,
}

/// A length with padding.
pub(super) fn padded(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT)
}

/// How long the table of these entries is.
pub(super) fn table_length<'k>(keys: impl Iterator<Item = &'k [u8]>) -> u64 {
    keys.map(|key| (ENTRY + key.len()) as u64).sum()
}

/// The head and the table with its padding.
pub(super) fn encode<'e>(head: &Head, entries: impl Iterator<Item = (&'e [u8], Option<Place>)>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + padded(head.table) as usize);
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&[0; 4]);
    for number in [head.segment, head.record, head.length, head.table, head.synced] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&head.entries.to_le_bytes());
    bytes.extend_from_slice(&(head.kind as u16).to_le_bytes());
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    for (key, place) in entries {
        let (gone, place) = match place {
            Some(place) => (0, place),
            None => (REMOVED, Place { segment: 0, position: 0, length: 0, crc: 0 }),
        };
        for number in [place.segment, place.position, place.length] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&place.crc.to_le_bytes());
        bytes.extend_from_slice(&(key.len() as u32 | gone).to_le_bytes());
        bytes.extend_from_slice(key);
    }
    let crc = crc32c::crc32c(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes.resize(padded(bytes.len() as u64) as usize, 0);
    bytes
}

/// Why a head is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHead {
    /// There is something else.
    Invalid,
    /// It is of another format version.
    Version(u16),
}

/// The head of a record; its checksum is checked with the table, by [`check`].
pub(super) fn decode_head(bytes: &[u8]) -> Result<Head, NoHead> {
    if bytes.len() < HEAD || &bytes[..4] != MARK {
        return Err(NoHead::Invalid);
    }
    let version = u16::from_le_bytes([bytes[54], bytes[55]]);
    if version != VERSION {
        return Err(NoHead::Version(version));
    }
    let kind = match u16::from_le_bytes([bytes[52], bytes[53]]) {
        1 => Kind::Directory,
        2 => Kind::Commit,
        3 => Kind::Synced,
        4 => Kind::Sealed,
        _ => return Err(NoHead::Invalid),
    };
    let head = Head {
        kind,
        segment: u64_at(bytes, 8),
        record: u64_at(bytes, 16),
        length: u64_at(bytes, 24),
        table: u64_at(bytes, 32),
        synced: u64_at(bytes, 40),
        entries: u32_at(bytes, 48),
    };
    let whole = head.table < 1 << 40
        && head.length >= HEAD as u64 + padded(head.table)
        && head.length.is_multiple_of(ALIGNMENT);
    if whole { Ok(head) } else { Err(NoHead::Invalid) }
}

/// Whether head and table are as they were written.
pub(super) fn check(head: &[u8], table: &[u8]) -> bool {
    crc32c::crc32c_append(crc32c::crc32c(&head[8..HEAD]), table) == u32_at(head, 4)
}

/// The entries of a table that [`check`] found whole.
pub(super) fn decode_table(mut table: &[u8], entries: u32) -> Option<Vec<Entry>> {
    let mut decoded = Vec::with_capacity(entries as usize);
    for _ in 0..entries {
        if table.len() < ENTRY {
            return None;
        }
        let length = u32_at(table, 28);
        let end = ENTRY + (length & !REMOVED) as usize;
        let key = table.get(ENTRY..end)?.to_vec();
        let place = (length & REMOVED == 0).then(|| Place {
            segment: u64_at(table, 0),
            position: u64_at(table, 8),
            length: u64_at(table, 16),
            crc: u32_at(table, 24),
        });
        decoded.push(Entry { key, place });
        table = &table[end..];
    }
    table.is_empty().then_some(decoded)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}
