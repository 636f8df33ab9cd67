//! Owns the lookup join: rows of the left side meet what is kept of the right one when they come, and nothing later
//! changes what came of it.
//!
//! In each step the right side is brought up to date first. Where rows of the left side can go, what came of each is
//! kept under all of its columns, and goes with it; of equal rows the one goes that came first.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;

use super::inner_join::without;
use super::keyed::KeyedInput;
use super::rows::run_by_row;
use super::{Description, Expiry, Node, Turn};
use crate::Result;
use crate::arrangement::{Arrangement, Goes};
use crate::compile::Sealed;
use crate::delta::{conform, consolidate, repeated, rows_of, taken, weighted, weighted_schema, weights_of};
use crate::fragment::Fragment;
use crate::key::{Key, RowEncoder};

/// The column that numbers the pairs of a run.
pub(crate) const PAIR: &str = "__pair";

/// The column that tells one coming of a row from another.
const COMING: &str = "__coming";

/// Pairs made at once, unless one row has more.
const PAIRS: usize = 64 * 1024;

/// What a pair has to fulfil beside equal keys.
#[derive(Debug)]
pub(crate) struct Matches {
    /// Gives for each pair whether it does, and its number.
    fragment: Fragment,
    /// The columns of both sides and the number.
    input: SchemaRef,
}

/// A join of rows that come with what is there.
#[derive(Debug)]
pub(crate) struct LookupJoin {
    label: String,
    left: Box<dyn Node>,
    left_key: Key,
    left_deltas: SchemaRef,
    right: KeyedInput,
    /// The columns of both sides.
    output: SchemaRef,
    matches: Option<Matches>,
    /// Whether a row that meets nothing comes out too.
    outer: bool,
    /// What came of each row of the left side, where such can go.
    given: Option<Arrangement>,
    /// How many rows of the left side have come.
    comings: i64,
    expiry: Expiry,
}

impl Matches {
    pub(crate) fn new(fragment: Fragment, input: SchemaRef) -> Self {
        Self { fragment, input }
    }

    /// Whether each pair is one; `None` of those that it fails on.
    async fn of(&mut self, pairs: &[ArrayRef], rows: usize, turn: &Turn) -> Result<Vec<Option<bool>>> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let columns = pairs.iter().cloned().chain([numbers]).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.input), columns)?;
        let mut met = vec![None; rows];
        for batch in run_by_row(&mut self.fragment, vec![vec![batch]], turn).await? {
            let (meets, numbers) = (batch.column(0).as_boolean(), batch.column(1).as_primitive::<Int64Type>());
            for (meets, number) in meets.iter().zip(numbers.values()) {
                met[*number as usize] = Some(meets.unwrap_or(false));
            }
        }
        Ok(met)
    }
}

impl LookupJoin {
    /// `left` is the node below with the key by which its rows look up; `output` the columns of both sides.
    pub(crate) fn new(
        label: String,
        left: (Sealed, Key),
        right: KeyedInput,
        output: SchemaRef,
        matches: Option<Matches>,
        outer: bool,
        expiry: Expiry,
    ) -> Result<Self> {
        let (left, left_key) = left;
        let width = left.schema.fields().len();
        let given = if left.grows { None } else { Some(given(&output, width)?) };
        Ok(Self {
            label,
            left: left.node,
            left_key,
            left_deltas: weighted_schema(left.schema.as_arrow()),
            right,
            output,
            matches,
            outer,
            given,
            comings: 0,
            expiry,
        })
    }

    /// Takes back what came of the rows of a delta that go.
    fn take_back(&mut self, delta: &RecordBatch) -> Result<Option<RecordBatch>> {
        let Some(given) = &mut self.given else { return Ok(None) };
        let goes: Vec<u32> =
            (0..delta.num_rows()).filter(|i| weights_of(delta).value(*i) < 0).map(|i| i as u32).collect();
        if goes.is_empty() {
            return Ok(None);
        }
        let delta = taken(delta, &goes)?;
        let rows = rows_of(&delta)?;
        let width = rows.num_columns();
        let found = given.find(&given.key().encode(&rows)?);
        let kept = given.gather(&found.rows)?;
        // As keys some values are one that are not equal.
        let encoder = RowEncoder::new(rows.schema().fields().iter().map(|f| f.data_type().clone()))?;
        let wanted = encoder.encode(rows.columns(), rows.num_rows())?;
        let there = encoder.encode(&kept.columns()[..width], kept.num_rows())?;
        let comings = kept.column(kept.num_columns() - 1).as_primitive::<Int64Type>();
        let (mut begin, mut numbers, mut places) = (0, Vec::new(), Vec::new());
        for i in 0..rows.num_rows() {
            let end = begin + found.probe[begin..].iter().take_while(|probe| **probe as usize == i).count();
            let equal: Vec<usize> = (begin..end).filter(|n| there.row(*n) == wanted.row(i)).collect();
            let mut first: Vec<i64> = equal.iter().map(|n| comings.value(*n)).collect();
            first.sort_unstable();
            first.dedup();
            first.truncate(weights_of(&delta).value(i).unsigned_abs() as usize);
            for place in equal.into_iter().filter(|n| first.contains(&comings.value(*n))) {
                numbers.push(found.rows[place]);
                places.push(place as u32);
            }
            begin = end;
        }
        let gone = taken(&kept, &places)?;
        given.remove_numbered(&numbers, &gone)?;
        Ok(Some(weighted(&rows_of(&gone)?, -1)?))
    }

    /// What comes of rows that come.
    async fn look_up(&mut self, rows: &RecordBatch, turn: &Turn, output: &mut Vec<RecordBatch>) -> Result<()> {
        let mut found = self.right.rows.find(&self.left_key.encode(rows)?);
        let nulls = self.left_key.has_null(rows);
        if nulls.contains(&true) {
            found = without(found, &nulls);
        }
        let (mut row, mut begin) = (0, 0);
        while row < rows.num_rows() {
            let (first_row, first) = (row, begin);
            while row < rows.num_rows() {
                let end = begin + found.probe[begin..].iter().take_while(|probe| **probe as usize == row).count();
                if row > first_row && (end - first > PAIRS || row - first_row >= PAIRS) {
                    break;
                }
                (row, begin) = (row + 1, end);
            }
            let probe: Vec<u32> = found.probe[first..begin].iter().map(|probe| probe - first_row as u32).collect();
            let some = rows.slice(first_row, row - first_row);
            output.extend(self.pairs(&some, &probe, &found.rows[first..begin], turn).await?);
        }
        Ok(())
    }

    /// What comes of some rows and those that they find.
    async fn pairs(
        &mut self,
        rows: &RecordBatch,
        probe: &[u32],
        found: &[u32],
        turn: &Turn,
    ) -> Result<Option<RecordBatch>> {
        let theirs = self.right.rows.gather(found)?;
        let met = match &mut self.matches {
            Some(matches) if !probe.is_empty() => {
                let ours = taken(rows, probe)?;
                let pairs = [ours.columns(), theirs.columns()].concat();
                matches.of(&pairs, probe.len(), turn).await?
            }
            _ => vec![Some(true); probe.len()],
        };
        // By pair the row of the left side and that of the right.
        let mut pairs: Vec<(u32, Option<u32>)> = Vec::with_capacity(probe.len());
        let mut alone = vec![self.outer; rows.num_rows()];
        let mut failed = vec![false; rows.num_rows()];
        for (place, (row, met)) in probe.iter().zip(&met).enumerate() {
            match met {
                Some(true) => pairs.push((*row, Some(place as u32))),
                Some(false) => continue,
                // The row that the pair would be kept for is left out.
                None => failed[*row as usize] = self.outer,
            }
            alone[*row as usize] = false;
        }
        pairs.retain(|(row, _)| !failed[*row as usize]);
        pairs.extend((0..rows.num_rows() as u32).filter(|row| alone[*row as usize]).map(|row| (row, None)));
        if pairs.is_empty() {
            self.comings += rows.num_rows() as i64;
            return Ok(None);
        }
        let batch = self.side_by_side(rows, &theirs, &pairs)?;
        if let Some(given) = &mut self.given {
            let comings = Int64Array::from_iter_values(pairs.iter().map(|(row, _)| self.comings + i64::from(*row)));
            let columns = batch.columns().iter().cloned().chain([Arc::new(comings) as ArrayRef]).collect();
            given.insert(RecordBatch::try_new(Arc::clone(given.schema()), columns)?)?;
        }
        self.comings += rows.num_rows() as i64;
        Ok(Some(weighted(&batch, 1)?))
    }

    fn side_by_side(
        &self,
        ours: &RecordBatch,
        theirs: &RecordBatch,
        pairs: &[(u32, Option<u32>)],
    ) -> Result<RecordBatch> {
        let left: UInt32Array = pairs.iter().map(|(left, _)| *left).collect();
        let right: UInt32Array = pairs.iter().map(|(_, right)| *right).collect();
        let taken = |column: &ArrayRef, places: &UInt32Array| match column.len() {
            0 => Ok(new_null_array(column.data_type(), places.len())),
            _ => take(column, places, None),
        };
        let lefts = ours.columns().iter().map(|column| taken(column, &left));
        let rights = theirs.columns().iter().map(|column| taken(column, &right));
        let columns = lefts.chain(rights).collect::<Result<Vec<ArrayRef>, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

/// Where what came of each row is kept.
fn given(output: &SchemaRef, width: usize) -> Result<Arrangement> {
    let coming = Arc::new(Field::new(COMING, DataType::Int64, false));
    let fields: Vec<_> = output.fields().iter().cloned().chain([coming]).collect();
    let schema = Arc::new(Schema::new(fields));
    let key = Key::of_columns(&schema, &(0..width).collect::<Vec<_>>())?;
    Arrangement::new(schema, key, Goes::Never)
}

#[async_trait]
impl Node for LookupJoin {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let right = self.right.node.step(turn).await?;
        self.right.take_in(&right)?;
        let mut left = self.left.step(turn).await?;
        let mut output = Vec::new();
        if self.given.is_some() {
            // A row may come in one batch and go in another.
            left = vec![consolidate(&self.left_deltas, &left)?];
            output.extend(self.take_back(&left[0])?);
        }
        for batch in &left {
            self.look_up(&repeated(batch)?, turn, &mut output).await?;
        }
        if let Some(given) = &mut self.given {
            self.expiry.take(given, turn)?;
        }
        let schema = weighted_schema(&self.output);
        output.iter().map(|batch| conform(batch, &schema)).collect()
    }

    fn describe(&self) -> Description {
        let mut state = vec![format!("right rows, {}", self.right.key_names())];
        if self.given.is_some() {
            state.push(format!("what came out, by left row{}", self.expiry.note()));
        }
        Description { title: format!("Lookup: {}", self.label), state }
    }

    fn children(&self) -> Vec<&dyn Node> {
        vec![self.left.as_ref(), self.right.node.as_ref()]
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        vec![&mut self.left, &mut self.right.node]
    }

    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        self.left.visit_state(visit)?;
        self.right.node.visit_state(visit)?;
        visit(&mut self.right.rows)?;
        self.given.as_mut().map_or(Ok(()), visit)
    }

    fn visit_values(&mut self, visit: &mut dyn FnMut(&mut i64)) {
        visit(&mut self.comings);
        self.children_mut().into_iter().for_each(|child| child.visit_values(visit));
    }
}
