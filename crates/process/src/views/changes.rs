//! Owns a view's changelog: the deltas of its answer, numbered, for those who follow it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Int64Type, SchemaRef};
use millstream_catalog::fault::Code;
use millstream_catalog::{Positions, StreamId};

use crate::{Error, Result};

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

/// What a changelog has under a number.
#[derive(Debug)]
pub(crate) enum Looked {
    /// That change.
    Found(Change),
    /// Nothing yet: it is the next one's number.
    NotYet,
    /// It was there and was dropped, or belongs to another changelog.
    Gone,
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

    /// The change of that number.
    pub(crate) fn at(&self, offset: u64) -> Looked {
        let first = self.end - self.kept.len() as u64;
        match offset.checked_sub(first) {
            Some(_) if offset == self.end => Looked::NotYet,
            Some(i) => self.kept.get(i as usize).map_or(Looked::Gone, |change| Looked::Found(change.clone())),
            None => Looked::Gone,
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

/// A delta's rows without their weights, each as often as its weight says: first those that go, then those that come.
/// Also how many go.
pub(crate) fn unweighted(delta: &RecordBatch, schema: &SchemaRef) -> Result<(RecordBatch, usize)> {
    let width = delta.num_columns() - 1;
    let weights = delta.column(width).as_primitive::<Int64Type>();
    let mut order: Vec<u32> = Vec::with_capacity(delta.num_rows());
    let mut going = 0;
    for goes in [true, false] {
        for (i, weight) in weights.values().iter().enumerate() {
            if (*weight < 0) == goes {
                order.extend(std::iter::repeat_n(i as u32, weight.unsigned_abs() as usize));
            }
        }
        if goes {
            going = order.len();
        }
    }
    let order = UInt32Array::from(order);
    let columns = delta.columns()[..width].iter().map(|column| take(column, &order, None));
    let rows = columns.collect::<Result<Vec<_>, _>>();
    let rows = rows.and_then(|columns| {
        let options = RecordBatchOptions::new().with_row_count(Some(order.len()));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
    });
    match rows {
        Ok(rows) => Ok((rows, going)),
        Err(e) => Err(Error::rejected(Code::Internal, format!("a change does not fit its columns: {e}"))),
    }
}

fn size(delta: &RecordBatch) -> usize {
    delta.get_array_memory_size()
}

#[cfg(test)]
mod tests {
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
        assert!(matches!(changes.at(6), Looked::Gone));
        assert!(matches!(changes.at(9), Looked::Found(change) if change.offset == 9));
        assert!(matches!(changes.at(10), Looked::NotYet));
        assert!(matches!(changes.at(11), Looked::Gone), "it belongs to another changelog");
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
