//! Owns a view's changelog: the deltas of its answer, numbered, for those who follow it.

use arrow::array::RecordBatch;
use millstream_catalog::{Positions, StreamId};
use std::collections::{BTreeMap, VecDeque};

/// How far a view has read each stream that it depends on, directly or through other views.
pub(crate) type Sources = BTreeMap<StreamId, Positions>;

/// One step's change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Its number; there are no gaps.
    pub(crate) offset: u64,
    /// The rows and their weights.
    pub(crate) delta: RecordBatch,
    /// When it was made, µs since 1970.
    pub(crate) time_us: i64,
}

/// The newest changes.
#[derive(Debug)]
pub(crate) struct Changes {
    kept: VecDeque<Change>,
    end: u64,
    bytes: usize,
    limit_bytes: usize,
    limit_us: Option<i64>,
}

impl Changes {
    /// None yet. At most `limit_bytes` are kept, and none longer than `limit_us`.
    pub(crate) fn new(limit_bytes: usize, limit_us: Option<i64>) -> Self {
        Self { kept: VecDeque::new(), end: 0, bytes: 0, limit_bytes, limit_us }
    }

    /// The number that the next change gets.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Adds one; the oldest go.
    pub(crate) fn push(&mut self, delta: RecordBatch, now_us: i64) {
        self.bytes += size(&delta);
        self.kept.push_back(Change { offset: self.end, delta, time_us: now_us });
        self.end += 1;
        while let Some(oldest) = self.kept.front() {
            let old = self.limit_us.is_some_and(|limit| now_us - oldest.time_us > limit);
            if self.kept.len() == 1 || self.bytes <= self.limit_bytes && !old {
                break;
            }
            self.bytes -= size(&oldest.delta);
            self.kept.pop_front();
        }
    }

    /// The changes from that number on; `None` when some of them are gone.
    pub(crate) fn since(&self, offset: u64) -> Option<Vec<Change>> {
        let first = self.end - self.kept.len() as u64;
        if offset < first {
            return None;
        }
        Some(self.kept.iter().skip((offset - first) as usize).cloned().collect())
    }
}

fn size(delta: &RecordBatch) -> usize {
    delta.get_array_memory_size()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn delta(n: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![n])) as ArrayRef)]).unwrap()
    }

    #[test]
    fn changes_are_numbered_and_the_oldest_go() {
        let mut changes = Changes::new(3 * size(&delta(0)), None);
        for n in 0..10 {
            changes.push(delta(n), n);
        }
        assert_eq!(changes.end(), 10);
        assert!(changes.since(6).is_none());
        let offsets: Vec<u64> = changes.since(7).unwrap().iter().map(|c| c.offset).collect();
        assert_eq!(offsets, [7, 8, 9]);
        assert!(changes.since(10).unwrap().is_empty());
    }

    #[test]
    fn changes_older_than_the_retention_go() {
        let mut changes = Changes::new(usize::MAX, Some(5));
        for n in 0..10 {
            changes.push(delta(n), n);
        }
        assert_eq!(changes.since(4).unwrap().len(), 6);
        assert!(changes.since(3).is_none());
    }
}
