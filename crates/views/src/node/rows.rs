//! Owns runs over rows of which some make an expression fail: those are set aside, the others go on.

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use datafusion::error::DataFusionError;
use futures::future::BoxFuture;

use super::{Refused, Turn};
use crate::delta::{WEIGHT, weights_of};
use crate::fragment::Fragment;
use crate::{Error, Result};

/// Runs a fragment that works row by row (what it gives for two batches is what it gives for each). When it fails on
/// the data, halves of the input are tried, down to the rows that it fails on.
pub(super) async fn run_by_row(
    fragment: &mut Fragment,
    inputs: Vec<Vec<RecordBatch>>,
    turn: &Turn,
) -> Result<Vec<RecordBatch>> {
    if inputs.iter().all(|batches| batches.iter().all(|b| b.num_rows() == 0)) {
        return Ok(vec![]);
    }
    let failed = match fragment.run(inputs.clone(), &turn.context).await {
        Err(Error::Engine(error)) if is_about_data(&error) => error,
        result => return result,
    };
    let slots = inputs.len();
    let mut output = Vec::new();
    let mut tried = false;
    for (slot, batches) in inputs.into_iter().enumerate() {
        for batch in batches {
            tried = true;
            output.extend(run_halves(fragment, slot, slots, batch, turn).await?);
        }
    }
    if tried { Ok(output) } else { Err(failed.into()) }
}

fn run_halves<'a>(
    fragment: &'a mut Fragment,
    slot: usize,
    slots: usize,
    batch: RecordBatch,
    turn: &'a Turn,
) -> BoxFuture<'a, Result<Vec<RecordBatch>>> {
    Box::pin(async move {
        let mut inputs = vec![vec![]; slots];
        inputs[slot] = vec![batch.clone()];
        let error = match fragment.run(inputs, &turn.context).await {
            Err(Error::Engine(error)) if is_about_data(&error) => error,
            result => return result,
        };
        let rows = batch.num_rows();
        if rows <= 1 {
            set_aside(&batch, &error, turn)?;
            return Ok(vec![]);
        }
        let mut output = run_halves(fragment, slot, slots, batch.slice(0, rows / 2), turn).await?;
        output.extend(run_halves(fragment, slot, slots, batch.slice(rows / 2, rows - rows / 2), turn).await?);
        Ok(output)
    })
}

/// A row that goes was refused when it came.
fn set_aside(row: &RecordBatch, error: &DataFusionError, turn: &Turn) -> Result<()> {
    let has_weight = row.schema().fields().last().is_some_and(|f| f.name() == WEIGHT);
    if row.num_rows() == 0 || has_weight && weights_of(row).value(0) < 0 {
        return Ok(());
    }
    refuse(row, error, turn)
}

/// Tells of a row that is left out.
pub(super) fn refuse(row: &RecordBatch, error: &DataFusionError, turn: &Turn) -> Result<()> {
    let schema = row.schema();
    let own: Vec<usize> = (0..row.num_columns()).filter(|i| !schema.field(*i).name().starts_with("__")).collect();
    let row = as_json(&row.project(&own)?)?;
    turn.refused.lock().push(Refused { reason: reason(error), row });
    Ok(())
}

/// A row as JSON.
pub(crate) fn as_json(row: &RecordBatch) -> Result<String> {
    let mut text = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut text);
    writer.write(row)?;
    writer.finish()?;
    drop(writer);
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

fn reason(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        DataFusionError::Execution(text) => text.clone(),
        other => other.strip_backtrace(),
    }
}

/// Whether other rows would not have failed.
pub(super) fn is_about_data(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ArrowError(..) | DataFusionError::Execution(_))
}
