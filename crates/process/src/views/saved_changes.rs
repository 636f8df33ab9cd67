//! Owns what of a view's changelog outlives the process: its form in the view's checkpoints.
//!
//! The changes since the last checkpoint lie in the next one, if the view says how long they are kept or other views
//! read it; of other views the number of the last one alone. A process that goes on from a checkpoint has them again,
//! and begins a new life of the changelog behind them (`changes`). So a place in a changelog that was within a
//! checkpoint stays what it was, and whoever was there goes on from it.
//!
//! A chunk holds the changes of one checkpoint, or about [`CHUNK_BYTES`] of them. Numbers are little endian, but for
//! that in the key, so that keys sort.
//!
//! ```text
//! key     o c (the caller's keys of a checkpoint), number of the first change 8
//! value   changes 4, zero 4; of each its time 8 (µs since 1970) and what it counts to the limit 8; Arrow IPC stream
//!         with a batch for each, the weights in the last column
//! ```

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use millstream_catalog::fault::Code;
use millstream_views::{Dataflow, StateStore};
use serde::{Deserialize, Serialize};

use super::changes::{Change, Changes, Life, Limits, Place};
use crate::{Error, Result};

/// Bytes of changes that lie in one value, and are read at once.
const CHUNK_BYTES: usize = 8 << 20;

/// The letter of the keys, behind the caller's.
pub(super) const LETTER: u8 = b'c';

/// What a checkpoint says of a changelog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedChanges {
    lives: Vec<Life>,
    /// The oldest change that lies in the checkpoint.
    first: u64,
    /// The number behind the newest that came before the checkpoint.
    end: u64,
}

impl SavedChanges {
    /// The place behind which a restart begins a new life, when so many more changes lie in the checkpoint beside it.
    pub(super) fn end(&self, beside: u64) -> Option<Place> {
        self.lives.last().map(|life| Place { epoch: life.epoch, next: self.end + beside })
    }
}

/// What a checkpoint is to have of a changelog, and the last one has not.
#[derive(Debug)]
pub(super) struct Unsaved {
    pub(super) saved: SavedChanges,
    new: Vec<Change>,
}

impl Unsaved {
    /// `last` is what the last checkpoint has of the same changelog; `kept` says whether the changes are to be in it.
    pub(super) fn of(changes: &Changes, last: Option<&SavedChanges>, kept: bool) -> Self {
        let (lives, end) = (changes.lives().to_vec(), changes.end().next);
        if !kept {
            return Self { saved: SavedChanges { lives, first: end, end }, new: vec![] };
        }
        let (begin, first) = match last.filter(|last| last.first < last.end && changes.first() <= last.end) {
            Some(last) => (last.end, last.first.max(changes.first())),
            None => (changes.first(), changes.first()),
        };
        Self { saved: SavedChanges { lives, first, end }, new: changes.kept_from(begin) }
    }

    /// The changes of the store that put it there.
    pub(super) fn packed(&self, store: &dyn StateStore) -> Result<Vec<millstream_views::Change>> {
        let mut packed = Vec::new();
        let begin = self.new.first().map_or(self.saved.end, |change| change.offset);
        let old = store.keys(&prefix())?;
        let ends = old.iter().skip(1).filter_map(|key| number(key)).chain([begin]);
        for (key, end) in old.iter().zip(ends) {
            // Those behind the last checkpoint are of a commit that failed and was made all the same; and nothing is
            // gone on with where it begins.
            let others = begin == self.saved.first || number(key).is_none_or(|first| first >= begin);
            if others || end <= self.saved.first {
                packed.push((key.clone(), None));
            }
        }
        let mut rest = self.new.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|change| {
                bytes += change.bytes;
                bytes <= CHUNK_BYTES
            });
            let (chunk, more) = rest.split_at(fits.count().max(1));
            packed.push((key(chunk[0].offset), Some(encoded(chunk)?)));
            rest = more;
        }
        Ok(packed)
    }
}

/// The changelog that a checkpoint has, up to the checkpoint; the life that goes on from it has not begun.
pub(super) fn restored(saved: &SavedChanges, store: &dyn StateStore, limits: Limits, now_us: i64) -> Result<Changes> {
    let mut changes = Changes::behind(limits, saved.lives.clone(), saved.first);
    for key in store.keys(&prefix())? {
        let (Some(mut offset), Some(value)) = (number(&key), store.get(&key)?) else { continue };
        for (delta, time_us, bytes) in decoded(&value)? {
            if offset == changes.end().next {
                changes.add(delta, time_us, bytes, now_us);
            }
            offset += 1;
        }
    }
    if changes.end().next != saved.end {
        let (found, end) = (changes.end().next, saved.end);
        return Err(damaged(format!("they end before number {found}, and it counted up to {end}")));
    }
    Ok(changes)
}

fn prefix() -> Vec<u8> {
    [Dataflow::CALLERS_KEYS, &[LETTER]].concat()
}

fn key(first: u64) -> Vec<u8> {
    [prefix().as_slice(), &first.to_be_bytes()].concat()
}

fn number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

fn encoded(chunk: &[Change]) -> Result<Bytes> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(chunk.len() as u64).to_le_bytes());
    for change in chunk {
        bytes.extend_from_slice(&change.time_us.to_le_bytes());
        bytes.extend_from_slice(&(change.bytes as u64).to_le_bytes());
    }
    let schema = chunk[0].delta.schema();
    let write = |bytes| {
        let mut writer = StreamWriter::try_new(bytes, &schema)?;
        for change in chunk {
            writer.write(&of_schema(&change.delta, &schema)?)?;
        }
        writer.into_inner()
    };
    let written = write(bytes);
    let bytes = written.map_err(|e| Error::rejected(Code::Internal, format!("changes cannot be written down: {e}")))?;
    Ok(bytes.into())
}

/// Fields may differ in what they say of themselves.
fn of_schema(delta: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(delta.num_rows()));
    RecordBatch::try_new_with_options(SchemaRef::clone(schema), delta.columns().to_vec(), &options)
}

/// The deltas, when they were made, and what they count.
fn decoded(bytes: &[u8]) -> Result<Vec<(RecordBatch, i64, usize)>> {
    let cut = || damaged("a value is cut off");
    let (count, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
    let count = u64::from_le_bytes(*count) as usize;
    let (heads, stream) = count.checked_mul(16).and_then(|length| rest.split_at_checked(length)).ok_or_else(cut)?;
    let deltas = StreamReader::try_new(stream, None).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let deltas: Vec<RecordBatch> = deltas.map_err(damaged)?;
    if deltas.len() != count {
        return Err(cut());
    }
    let (words, _) = heads.as_chunks::<8>();
    let heads = words.chunks(2).map(|head| (i64::from_le_bytes(head[0]), u64::from_le_bytes(head[1]) as usize));
    Ok(deltas.into_iter().zip(heads).map(|(delta, (time_us, bytes))| (delta, time_us, bytes)).collect())
}

fn damaged(reason: impl std::fmt::Display) -> Error {
    Error::rejected(Code::DataCorrupted, format!("a view's changes cannot be read: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use millstream_views::MemoryStore;

    use super::*;

    fn delta(n: i64) -> RecordBatch {
        let words: ArrayRef = Arc::new(StringArray::from(vec![format!("w{n}")]));
        let weights: ArrayRef = Arc::new(Int64Array::from(vec![if n % 2 == 0 { 1 } else { -1 }]));
        RecordBatch::try_from_iter([("word", words), ("weight", weights)]).unwrap()
    }

    fn limits(bytes: usize) -> Limits {
        Limits { bytes, us: None }
    }

    fn save(changes: &Changes, last: Option<&SavedChanges>, kept: bool, store: &MemoryStore) -> SavedChanges {
        let unsaved = Unsaved::of(changes, last, kept);
        store.commit(unsaved.packed(store).unwrap()).unwrap();
        unsaved.saved
    }

    fn push(changes: &mut Changes, numbers: std::ops::Range<i64>) {
        numbers.for_each(|n| changes.push(delta(n), n));
    }

    fn shown(changes: &Changes) -> Vec<(u64, RecordBatch, i64)> {
        changes.kept_from(0).into_iter().map(|c| (c.offset, c.delta, c.time_us)).collect()
    }

    #[test]
    fn changes_come_out_of_the_store_as_they_went_in_and_old_ones_leave_it() {
        let (store, size) = (MemoryStore::default(), delta(10).get_array_memory_size());
        let mut changes = Changes::new(limits(5 * size), 7);
        push(&mut changes, 0..2);
        let mut saved = save(&changes, None, true, &store);
        for end in [4, 7, 7, 20, 21] {
            let begin = changes.end().next as i64;
            push(&mut changes, begin..end);
            saved = save(&changes, Some(&saved), true, &store);
            let again = restored(&saved, &store, limits(5 * size), 0).unwrap();
            assert_eq!(shown(&again), shown(&changes), "up to {end}");
            assert_eq!(again.end(), changes.end());
            assert_eq!(saved.end(0), Some(changes.end()));
        }
        assert_eq!(store.keys(b"").unwrap().len(), 2, "chunks whose changes all went are gone");
    }

    #[test]
    fn without_a_retention_the_number_alone_is_kept() {
        let store = MemoryStore::default();
        let mut changes = Changes::new(limits(usize::MAX), 7);
        push(&mut changes, 0..3);
        let kept = save(&changes, None, true, &store);
        push(&mut changes, 3..5);
        let saved = save(&changes, Some(&kept), false, &store);
        assert!(store.keys(b"").unwrap().is_empty());
        let mut again = restored(&saved, &store, limits(usize::MAX), 0).unwrap();
        assert_eq!((shown(&again), again.end()), (vec![], changes.end()));
        // They are kept again from here on, with those that are still there.
        again.begin_life(8);
        push(&mut again, 5..6);
        let saved = save(&again, Some(&saved), true, &store);
        let third = restored(&saved, &store, limits(usize::MAX), 0).unwrap();
        assert_eq!(shown(&third), shown(&again));
        assert_eq!(third.translated(Place { epoch: 7, next: 5 }, 0), Some(Place { epoch: 8, next: 5 }));
        let saved = save(&changes, Some(&SavedChanges::default()), true, &store);
        assert_eq!(shown(&restored(&saved, &store, limits(usize::MAX), 0).unwrap()), shown(&changes));
    }

    #[test]
    fn what_is_missing_or_cut_off_is_an_error() {
        let store = MemoryStore::default();
        let mut changes = Changes::new(limits(usize::MAX), 7);
        push(&mut changes, 0..3);
        let saved = save(&changes, None, true, &store);
        let whole = store.get(&key(0)).unwrap().unwrap();
        for length in [0, 7, 8, 40, 60, whole.len() / 2] {
            store.commit(vec![(key(0), Some(whole.slice(..length)))]).unwrap();
            let error = restored(&saved, &store, limits(usize::MAX), 0).unwrap_err();
            assert!(error.to_string().contains("changes cannot be read"), "{length}: {error}");
        }
        store.commit(vec![(key(0), None)]).unwrap();
        assert!(restored(&saved, &store, limits(usize::MAX), 0).is_err());
    }
}
