//! Owns a view's changelog: the deltas of its answer, numbered, for those who follow it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Int64Type, SchemaRef};
use millstream_catalog::fault::Code;
use millstream_catalog::{Positions, StreamId};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How far a view has read each stream that it depends on, directly or through other views.
pub(crate) type Sources = BTreeMap<StreamId, Positions>;

/// Lowers positions to those of others, of the streams that both know.
pub(super) fn lower(sources: &mut Sources, to: &Sources) {
    for (id, positions) in sources {
        if let Some(least) = to.get(id) {
            lower_one(positions, least);
        }
    }
}

/// Likewise, of one stream.
pub(super) fn lower_one(positions: &mut Positions, to: &Positions) {
    for (partition, offset) in positions.0.iter_mut().enumerate() {
        *offset = (*offset).min(to.get(partition as u32));
    }
}

/// A place in a changelog: before a change. Numbers go on from life to life; the epoch says whether this changelog, and
/// not another one, had such a place, and still has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The life.
    pub(crate) epoch: u64,
    /// The number of the change that comes next.
    pub(crate) next: u64,
}

/// One step's change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Its number; there are no gaps.
    pub(crate) offset: u64,
    /// The rows and their weights.
    pub(crate) delta: RecordBatch,
    /// When it was made, µs since 1970.
    pub(crate) time_us: i64,
    /// What it counts to the limit.
    pub(crate) bytes: usize,
}

/// What a changelog has at a place.
#[derive(Debug)]
pub(crate) enum Looked {
    /// That change.
    Found(Change),
    /// Nothing yet: it is the next one's number.
    NotYet,
    /// It was there and is gone, or belongs to another changelog.
    Gone,
}

/// A stretch of a changelog that was written without a break. A restart goes on from a checkpoint, and what came behind
/// that may come again in other steps: so a new life begins there, and the end of the one before is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    /// Tells it from all others.
    pub(super) epoch: u64,
    /// The number of its first change.
    pub(super) begin: u64,
}

/// The lives that are remembered.
const LIVES: usize = 64;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// So many bytes at most.
    pub(super) bytes: usize,
    /// Nothing older than this, µs.
    pub(super) us: Option<i64>,
}

/// The newest changes.
#[derive(Debug)]
pub(crate) struct Changes {
    kept: VecDeque<Change>,
    end: u64,
    bytes: usize,
    limits: Limits,
    /// In their order, the present one last.
    lives: Vec<Life>,
}

impl Changes {
    /// None yet, in a first life.
    pub(super) fn new(limits: Limits, epoch: u64) -> Self {
        Self::behind(limits, vec![Life { epoch, begin: 0 }], 0)
    }

    /// Those before `end` are not known, or are added with [`Changes::add`] once that is their number.
    pub(super) fn behind(limits: Limits, lives: Vec<Life>, end: u64) -> Self {
        Self { kept: VecDeque::new(), end, bytes: 0, limits, lives }
    }

    /// From here on it is another life.
    pub(super) fn begin_life(&mut self, epoch: u64) {
        self.lives.push(Life { epoch, begin: self.end });
        self.lives.drain(..self.lives.len().saturating_sub(LIVES));
    }

    /// The lives, the present one last.
    pub(super) fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// The number of the oldest that is kept.
    pub(super) fn first(&self) -> u64 {
        self.end - self.kept.len() as u64
    }

    /// The place behind the newest.
    pub(crate) fn end(&self) -> Place {
        Place { epoch: self.epoch(), next: self.end }
    }

    fn epoch(&self) -> u64 {
        self.lives.last().map_or(0, |life| life.epoch)
    }

    /// Adds one; the oldest go.
    pub(crate) fn push(&mut self, delta: RecordBatch, now_us: i64) {
        let bytes = delta.get_array_memory_size();
        self.add(delta, now_us, bytes, now_us);
    }

    /// Adds one that was made at another time, and counts so many bytes.
    pub(super) fn add(&mut self, delta: RecordBatch, time_us: i64, bytes: usize, now_us: i64) {
        self.bytes += bytes;
        self.kept.push_back(Change { offset: self.end, delta, time_us, bytes });
        self.end += 1;
        while let Some(oldest) = self.kept.front() {
            let old = self.limits.us.is_some_and(|limit| now_us - oldest.time_us > limit);
            if self.kept.len() == 1 || self.bytes <= self.limits.bytes && !old {
                break;
            }
            self.bytes -= oldest.bytes;
            self.kept.pop_front();
        }
    }

    /// The same place in the present life; `None` if this changelog never had it, or lost it with the end of a life.
    /// `rows` of the change there were taken already.
    pub(super) fn called_now(&self, place: Place, rows: u64) -> Option<Place> {
        let life = self.lives.iter().position(|life| life.epoch == place.epoch)?;
        let lost = self
            .lives
            .get(life + 1)
            .is_some_and(|next| place.next > next.begin || place.next == next.begin && rows > 0);
        (!lost && place.next <= self.end).then(|| Place { epoch: self.epoch(), next: place.next })
    }

    /// [`Changes::called_now`], if everything behind the place is kept.
    pub(crate) fn translated(&self, place: Place, rows: u64) -> Option<Place> {
        self.called_now(place, rows).filter(|place| place.next >= self.first())
    }

    /// The change at a place, if it has a change yet.
    pub(crate) fn at(&self, place: Place, rows: u64) -> Looked {
        let Some(Place { next, .. }) = self.translated(place, rows) else { return Looked::Gone };
        let found = self.kept.get((next - self.first()) as usize);
        found.map_or(Looked::NotYet, |change| Looked::Found(change.clone()))
    }

    /// The changes from that place on; `None` when some of them are gone.
    pub(crate) fn since(&self, place: Place) -> Option<Vec<Change>> {
        let place = self.translated(place, 0)?;
        Some(self.kept_from(place.next))
    }

    /// Those that are kept, of that number and later.
    pub(super) fn kept_from(&self, number: u64) -> Vec<Change> {
        self.kept.iter().skip(number.saturating_sub(self.first()) as usize).cloned().collect()
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

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn delta(n: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![n])) as ArrayRef)]).unwrap()
    }

    fn unlimited() -> Limits {
        Limits { bytes: usize::MAX, us: None }
    }

    fn offsets(changes: Option<Vec<Change>>) -> Option<Vec<u64>> {
        changes.map(|changes| changes.iter().map(|c| c.offset).collect())
    }

    #[test]
    fn changes_are_numbered_and_the_oldest_go() {
        let mut changes = Changes::new(Limits { bytes: 3 * delta(0).get_array_memory_size(), us: None }, 1);
        for n in 0..10 {
            changes.push(delta(n), n);
        }
        let at = |next| Place { epoch: 1, next };
        assert_eq!(changes.end(), at(10));
        assert_eq!(offsets(changes.since(at(6))), None);
        assert_eq!(offsets(changes.since(at(7))), Some(vec![7, 8, 9]));
        assert_eq!(offsets(changes.since(at(10))), Some(vec![]));
        assert_eq!(offsets(changes.since(at(11))), None, "it was never there");
        assert!(matches!(changes.at(at(6), 0), Looked::Gone));
        assert!(matches!(changes.at(at(9), 0), Looked::Found(change) if change.offset == 9));
        assert!(matches!(changes.at(at(10), 0), Looked::NotYet));
        assert!(matches!(changes.at(at(11), 0), Looked::Gone));
        assert!(matches!(changes.at(Place { epoch: 2, next: 9 }, 0), Looked::Gone), "it belongs to another changelog");
    }

    #[test]
    fn changes_older_than_the_retention_go() {
        let mut changes = Changes::new(Limits { us: Some(5), ..unlimited() }, 1);
        for n in 0..10 {
            changes.push(delta(n), n);
        }
        assert_eq!(changes.since(Place { epoch: 1, next: 4 }).unwrap().len(), 6);
        assert!(changes.since(Place { epoch: 1, next: 3 }).is_none());
    }

    #[test]
    fn a_life_goes_on_from_where_the_next_one_begins() {
        let mut changes = Changes::behind(unlimited(), vec![Life { epoch: 1, begin: 0 }], 3);
        changes.push(delta(3), 0);
        changes.begin_life(2);
        changes.push(delta(4), 0);
        let at = |epoch, next| Place { epoch, next };
        assert_eq!(offsets(changes.since(at(1, 2))), None, "it is not kept any more");
        assert_eq!(offsets(changes.since(at(1, 3))), Some(vec![3, 4]));
        assert_eq!(offsets(changes.since(at(1, 4))), Some(vec![4]));
        assert_eq!(offsets(changes.since(at(1, 5))), None, "it was behind the checkpoint");
        assert!(matches!(changes.at(at(1, 3), 1), Looked::Found(change) if change.offset == 3));
        assert!(matches!(changes.at(at(1, 4), 1), Looked::Gone), "these rows were behind the checkpoint");
        assert_eq!(changes.translated(at(1, 4), 0), Some(at(2, 4)));
        assert_eq!(changes.end(), at(2, 5));
        (3..3 + LIVES as u64).for_each(|epoch| changes.begin_life(epoch));
        assert_eq!(changes.lives().len(), LIVES);
        assert_eq!(offsets(changes.since(at(2, 5))), None);
    }
}
