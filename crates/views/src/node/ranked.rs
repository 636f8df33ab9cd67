//! Owns the node of first places: the rows of each key that come first in an order, where rows only come.
//!
//! A row behind the last place never comes back, so that only those that are shown are kept. They are sorted again with
//! what is new, by key and then by the bytes of the order's columns; rows whose place is what it was change nothing.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{SortOptions, concat_batches};
use arrow::datatypes::{SchemaRef, UInt64Type};
use arrow::row::{RowConverter, Rows, SortField};
use async_trait::async_trait;

use super::{Description, Expiry, Node, Turn};
use crate::Result;
use crate::arrangement::{Arrangement, Found, Goes};
use crate::compile::Sealed;
use crate::delta::{conform, repeated, taken, weighted, weighted_schema};
use crate::key::{EncodedRows, Key};

/// How places are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Each row has its own.
    RowNumber,
    /// Equal rows share one, and the next is behind all of them.
    Rank,
    /// Equal rows share one, and the next follows.
    DenseRank,
}

/// What places are, and which are kept.
#[derive(Debug)]
pub(crate) struct Places {
    /// A column of the output each, behind those of the input.
    pub(crate) columns: Vec<Place>,
    /// The last place that is kept, of one of the columns.
    pub(crate) last: (usize, u64),
    /// Columns of the input, and in which direction.
    pub(crate) order: Vec<(usize, SortOptions)>,
}

/// The first rows of each key.
#[derive(Debug)]
pub(crate) struct Ranked {
    label: String,
    child: Box<dyn Node>,
    places: Places,
    order: RowConverter,
    /// Columns of the input.
    width: usize,
    input: SchemaRef,
    /// What is shown: the input's columns and the places.
    kept: Arrangement,
    output: SchemaRef,
    expiry: Expiry,
}

/// A row to be sorted.
struct Candidate {
    key: u32,
    /// The first bytes of its order.
    prefix: u64,
    /// Its number among old rows and new.
    row: u32,
}

impl Ranked {
    pub(crate) fn new(
        label: String,
        input: Sealed,
        keys: &[usize],
        places: Places,
        schema: SchemaRef,
        expiry: Expiry,
    ) -> Result<Self> {
        let of_input: SchemaRef = Arc::new(input.schema.as_arrow().clone());
        let fields = places.order.iter().map(|(column, options)| {
            SortField::new_with_options(of_input.field(*column).data_type().clone(), *options)
        });
        let order = RowConverter::new(fields.collect())?;
        let goes = if places.is_one_row() { Goes::ByKey } else { Goes::Never };
        let key = Key::of_columns(&schema, keys)?;
        Ok(Self {
            label,
            child: input.node,
            places,
            order,
            width: of_input.fields().len(),
            input: of_input,
            output: weighted_schema(&schema),
            kept: Arrangement::new(schema, key, goes)?,
            expiry,
        })
    }

    async fn changed(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let delta = self.child.step(turn).await?;
        let new = delta.iter().map(|batch| conform(&repeated(batch)?, &self.input)).collect::<Result<Vec<_>>>()?;
        let new = concat_batches(&self.input, &new)?;
        if new.num_rows() == 0 {
            return Ok(vec![]);
        }
        let keys = self.kept.key().encode(&new)?;
        let (numbers, firsts) = keys.numbered();
        let found = self.kept.find_keys(firsts.iter().map(|i| keys.row(*i)));
        let old = self.kept.gather(&found.rows)?;
        let (goes, comes) = self.compared(&old, &new, &found, &numbers)?;
        self.keep(&comes, &goes, &found, &keys, &firsts)?;
        let gone = weighted(&taken(&old, &goes)?, -1)?;
        let batches = [gone, weighted(&comes, 1)?].into_iter().filter(|batch| batch.num_rows() > 0);
        batches.map(|batch| conform(&batch, &self.output)).collect()
    }

    /// The numbers of old rows that go, and the rows that come, with their places.
    fn compared(
        &self,
        old: &RecordBatch,
        new: &RecordBatch,
        found: &Found,
        numbers: &[u32],
    ) -> Result<(Vec<u32>, RecordBatch)> {
        let before = old.num_rows();
        let columns: Vec<usize> = (0..self.width).collect();
        let all = concat_batches(&self.input, [&conform(&old.project(&columns)?, &self.input)?, new])?;
        let old_places = self.old_places(old);
        let order: Vec<ArrayRef> = self.places.order.iter().map(|(c, _)| ArrayRef::clone(all.column(*c))).collect();
        let order = self.order.convert_columns(&order)?;
        let sorted = self.sorted(&order, found.probe.iter().chain(numbers), &old_places);
        let (mut goes, mut comes) = (Vec::new(), Vec::new());
        let mut places: Vec<Vec<u64>> = vec![Vec::new(); self.places.columns.len()];
        let mut counter = Counter::default();
        for (i, candidate) in sorted.iter().enumerate() {
            let place = counter.next(candidate, i.checked_sub(1).map(|i| &sorted[i]), &order);
            let row = candidate.row as usize;
            let stays = self.places.keep(&place);
            let unchanged = row < before && self.places.are(&place, &old_places, row);
            if row < before && !(stays && unchanged) {
                goes.push(candidate.row);
            }
            if stays && !unchanged {
                comes.push(candidate.row);
                self.places.columns.iter().zip(&mut places).for_each(|(kind, column)| column.push(place.of(*kind)));
            }
        }
        let mut rows = taken(&all, &comes)?.columns().to_vec();
        rows.extend(places.into_iter().map(|column| Arc::new(UInt64Array::from(column)) as ArrayRef));
        Ok((goes, RecordBatch::try_new(Arc::clone(self.kept.schema()), rows)?))
    }

    /// By place column, the places of the old rows.
    fn old_places(&self, old: &RecordBatch) -> Vec<Vec<u64>> {
        let columns = (self.width..old.num_columns()).map(|n| old.column(n).as_primitive::<UInt64Type>());
        columns.map(|column| column.values().to_vec()).collect()
    }

    /// Old rows and new, by key, order, and which was first.
    fn sorted<'k>(&self, order: &Rows, keys: impl Iterator<Item = &'k u32>, old: &[Vec<u64>]) -> Vec<Candidate> {
        let mut rows: Vec<Candidate> = keys
            .zip(0..)
            .map(|(key, row)| Candidate { key: *key, prefix: prefix(order.row(row as usize).data()), row })
            .collect();
        let first = |row: u32| old[self.places.last.0].get(row as usize).copied().unwrap_or(u64::MAX);
        rows.sort_unstable_by(|a, b| {
            (a.key, a.prefix)
                .cmp(&(b.key, b.prefix))
                .then_with(|| order.row(a.row as usize).cmp(&order.row(b.row as usize)))
                .then_with(|| first(a.row).cmp(&first(b.row)))
                .then_with(|| a.row.cmp(&b.row))
        });
        rows
    }

    fn keep(
        &mut self,
        comes: &RecordBatch,
        goes: &[u32],
        found: &Found,
        keys: &EncodedRows,
        firsts: &[usize],
    ) -> Result<()> {
        if self.places.is_one_row() {
            let keys = self.kept.key().encode(comes)?;
            return self.kept.replace(&keys, comes.clone());
        }
        let rows: Vec<u32> = goes.iter().map(|i| found.rows[*i as usize]).collect();
        let theirs = goes.iter().map(|i| keys.row(firsts[found.probe[*i as usize] as usize]));
        self.kept.remove_found(theirs, &rows)?;
        self.kept.insert(comes.clone())
    }
}

impl Places {
    fn is_one_row(&self) -> bool {
        self.last.1 == 1 && self.columns[self.last.0] == Place::RowNumber
    }

    fn keep(&self, place: &Counter) -> bool {
        place.of(self.columns[self.last.0]) <= self.last.1
    }

    fn are(&self, place: &Counter, old: &[Vec<u64>], row: usize) -> bool {
        self.columns.iter().zip(old).all(|(kind, old)| place.of(*kind) == old[row])
    }
}

/// Places of the rows of one key, counted.
#[derive(Debug, Default, Clone, Copy)]
struct Counter {
    number: u64,
    rank: u64,
    dense: u64,
}

impl Counter {
    /// The places of a row behind another one.
    fn next(&mut self, row: &Candidate, before: Option<&Candidate>, order: &Rows) -> Self {
        let before = before.filter(|before| before.key == row.key);
        let Some(before) = before else {
            *self = Self { number: 1, rank: 1, dense: 1 };
            return *self;
        };
        self.number += 1;
        if order.row(before.row as usize).cmp(&order.row(row.row as usize)) != Ordering::Equal {
            self.rank = self.number;
            self.dense += 1;
        }
        *self
    }

    fn of(&self, kind: Place) -> u64 {
        match kind {
            Place::RowNumber => self.number,
            Place::Rank => self.rank,
            Place::DenseRank => self.dense,
        }
    }
}

/// The first eight bytes as a number that is ordered as they are.
fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let len = bytes.len().min(8);
    first[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(first)
}

#[async_trait]
impl Node for Ranked {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let output = self.changed(turn).await?;
        for (part, at) in self.expiry.passed(turn)? {
            self.kept.take_below(part, at)?;
        }
        Ok(output)
    }

    fn describe(&self) -> Description {
        let schema = self.kept.schema();
        let names: Vec<&str> = self.kept.key().columns().iter().map(|c| schema.field(*c).name().as_str()).collect();
        let state = vec![format!("the first rows, by {}{}", names.join(", "), self.expiry.note())];
        Description { title: format!("First places: {}", self.label), state }
    }

    fn children(&self) -> Vec<&dyn Node> {
        vec![self.child.as_ref()]
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        vec![&mut self.child]
    }

    fn is_consolidated(&self) -> bool {
        true
    }

    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        self.child.visit_state(visit)?;
        visit(&mut self.kept)
    }
}
