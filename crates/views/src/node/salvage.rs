//! Owns runs of an operator over kept rows of which some make an expression fail: those are left out, the others go on.
//!
//! A row that fails stays kept, so that it can go as any other row does; and one that fails only together with a row
//! of the other side is back when that one goes. It is refused once: in the step in which it, or the other one, comes.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;
use datafusion::error::DataFusionError;
use hashbrown::HashSet;

use super::Turn;
use super::rows::{is_about_data, refuse};
use crate::delta::{consolidate, weighted_schema, weights_of};
use crate::fragment::Fragment;
use crate::key::RowEncoder;
use crate::{Error, Result};

/// Failing rows that are remembered.
const REMEMBERED: usize = 10_000;

/// Leaves out the rows of one input that fail.
#[derive(Debug)]
pub(crate) struct Salvage {
    /// The input that rows are left out of.
    input: usize,
    /// Rows that fail by themselves; looking for them again would take time.
    failing: HashSet<Vec<u8>>,
}

/// A row that fails, with the row of the other side that makes it fail.
struct Failure {
    row: usize,
    other: Option<usize>,
    error: DataFusionError,
}

impl Salvage {
    /// Leaves out rows of that input.
    pub(crate) fn of_input(input: usize) -> Self {
        Self { input, failing: HashSet::new() }
    }

    /// Runs the operator over the rows kept for each input, of which `deltas` came or went in this step.
    pub(super) async fn run(
        &mut self,
        fragment: &mut Fragment,
        mut rows: Vec<RecordBatch>,
        deltas: &[Vec<RecordBatch>],
        turn: &Turn,
    ) -> Result<Vec<RecordBatch>> {
        if !self.failing.is_empty() {
            rows[self.input] = self.without_remembered(&rows[self.input])?;
        }
        let error = match run(fragment, &rows, turn).await? {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        let failures = self.failures(fragment, &rows, turn).await?;
        if failures.is_empty() {
            return Err(error.into());
        }
        self.refuse_new(&failures, &rows, deltas, turn)?;
        let mut good = vec![true; rows[self.input].num_rows()];
        failures.iter().for_each(|failure| good[failure.row] = false);
        rows[self.input] = filter_record_batch(&rows[self.input], &BooleanArray::from(good))?;
        Ok(run(fragment, &rows, turn).await??)
    }

    fn without_remembered(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let encoded = encoder(rows)?.encode(rows.columns(), rows.num_rows())?;
        let good: BooleanArray = encoded.iter().map(|row| Some(!self.failing.contains(row))).collect();
        Ok(filter_record_batch(rows, &good)?)
    }

    /// The rows that fail, found by halves.
    async fn failures(&self, fragment: &mut Fragment, rows: &[RecordBatch], turn: &Turn) -> Result<Vec<Failure>> {
        let mut failures = Vec::new();
        let mut waiting = vec![(0, rows[self.input].num_rows())];
        while let Some((begin, len)) = waiting.pop() {
            let mut part = rows.to_vec();
            part[self.input] = rows[self.input].slice(begin, len);
            let Err(error) = run(fragment, &part, turn).await? else { continue };
            match len {
                0 => {}
                1 => {
                    let other = self.other(fragment, &part, turn).await?;
                    failures.push(Failure { row: begin, other, error });
                }
                _ => waiting.extend([(begin + len / 2, len - len / 2), (begin, len / 2)]),
            }
        }
        Ok(failures)
    }

    /// The first row of the other side that the one row left on this side fails with.
    async fn other(&self, fragment: &mut Fragment, rows: &[RecordBatch], turn: &Turn) -> Result<Option<usize>> {
        let other = 1 - self.input;
        let Some(others) = rows.get(other).filter(|others| others.num_rows() > 0) else { return Ok(None) };
        let (mut begin, mut len) = (0, others.num_rows());
        while len > 1 {
            let mut part = rows.to_vec();
            part[other] = others.slice(begin, len / 2);
            if run(fragment, &part, turn).await?.is_err() {
                len /= 2;
            } else {
                begin += len / 2;
                len -= len / 2;
            }
        }
        Ok(Some(begin))
    }

    fn refuse_new(
        &mut self,
        failures: &[Failure],
        rows: &[RecordBatch],
        deltas: &[Vec<RecordBatch>],
        turn: &Turn,
    ) -> Result<()> {
        let mut fresh = Vec::with_capacity(rows.len());
        for (rows, deltas) in rows.iter().zip(deltas) {
            let come = coming(rows, deltas)?;
            let encoded = encoder(rows)?.encode(rows.columns(), rows.num_rows())?;
            fresh.push(encoded.iter().map(|row| come.contains(row)).collect::<Vec<bool>>());
        }
        for failure in failures {
            let mut shown = vec![failure.row; rows.len()];
            if let Some(other) = failure.other {
                shown[1 - self.input] = other;
            }
            if shown.iter().zip(&fresh).any(|(i, fresh)| fresh.get(*i) == Some(&true)) {
                refuse(&side_by_side(rows, &shown)?, &failure.error, turn)?;
            }
        }
        if rows.len() == 1 {
            self.remember(failures, &rows[0])?;
        }
        Ok(())
    }

    fn remember(&mut self, failures: &[Failure], rows: &RecordBatch) -> Result<()> {
        let encoded = encoder(rows)?.encode(rows.columns(), rows.num_rows())?;
        if self.failing.len() + failures.len() > REMEMBERED {
            self.failing.clear();
        }
        self.failing.extend(failures.iter().take(REMEMBERED).map(|failure| encoded.row(failure.row).to_vec()));
        Ok(())
    }
}

/// One run; the inner error is about the data.
async fn run(
    fragment: &mut Fragment,
    rows: &[RecordBatch],
    turn: &Turn,
) -> Result<Result<Vec<RecordBatch>, DataFusionError>> {
    match fragment.run(rows.iter().map(|b| vec![b.clone()]).collect(), &turn.context).await {
        Ok(output) => Ok(Ok(output)),
        Err(Error::Engine(error)) if is_about_data(&error) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

fn encoder(rows: &RecordBatch) -> Result<RowEncoder> {
    RowEncoder::new(rows.schema().fields().iter().map(|f| f.data_type().clone()))
}

/// The rows that come in a step.
fn coming(rows: &RecordBatch, deltas: &[RecordBatch]) -> Result<HashSet<Vec<u8>>> {
    let delta = consolidate(&weighted_schema(&rows.schema()), deltas)?;
    let columns = delta.num_columns() - 1;
    let encoded = encoder(rows)?.encode(&delta.columns()[..columns], delta.num_rows())?;
    let weights = weights_of(&delta);
    Ok((0..delta.num_rows()).filter(|i| weights.value(*i) > 0).map(|i| encoded.row(i).to_vec()).collect())
}

/// One row of each input as one row.
fn side_by_side(rows: &[RecordBatch], places: &[usize]) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (rows, place) in rows.iter().zip(places).filter(|(rows, place)| **place < rows.num_rows()) {
        fields.extend(rows.schema().fields().iter().cloned());
        columns.extend(rows.slice(*place, 1).columns().iter().cloned());
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
