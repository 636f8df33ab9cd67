//! Owns the comparison of a dataflow with plain DataFusion over one history.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::FutureExt;
use millstream_views::{Dataflow, Error, MemoryStore, StateStore, StepOutput, ViewInput, WEIGHT};

use crate::history::{History, Luck, World};
use crate::world::{self, TABLES, kind_of};

/// What comes of a query over a history.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Equal at every point.
    Equal,
    /// It can't be kept incrementally.
    Refused(String),
    /// Plain DataFusion has no answer, or more than one.
    Skipped(String),
    /// The kind of failure, and what is seen.
    Failed(&'static str, String),
}

fn context() -> SessionContext {
    threads(1)
}

fn threads(n: usize) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(n));
    millstream_windows::register(&context).unwrap();
    crate::lookups::register(&context);
    context
}

/// The plan of a query, time windows and all.
async fn plan(state: &SessionState, sql: &str) -> datafusion::error::Result<LogicalPlan> {
    state.statement_to_plan(millstream_windows::parse(sql)?).await
}

fn fill(context: &SessionContext, table: usize, rows: RecordBatch) {
    let name = TABLES[table];
    drop(context.deregister_table(name).unwrap());
    let table = MemTable::try_new(world::schema(table), vec![vec![rows]]).unwrap();
    context.register_table(name, Arc::new(table)).unwrap();
}

/// A session over what the tables hold behind a step.
pub(crate) fn session(history: &History, step: usize) -> SessionContext {
    let context = context();
    (0..TABLES.len()).for_each(|table| fill(&context, table, history.content(table, step)));
    context
}

/// What plain DataFusion answers behind a step.
pub(crate) async fn batches_at(sql: &str, history: &History, step: usize) -> Vec<RecordBatch> {
    session(history, step).sql(sql).await.unwrap().collect().await.unwrap()
}

pub(crate) async fn compile(sql: &str) -> Result<Dataflow, Error> {
    compile_in(&state(), sql).await
}

/// A session that knows the tables.
pub(crate) fn state() -> SessionState {
    let context = context();
    (0..TABLES.len()).for_each(|table| fill(&context, table, RecordBatch::new_empty(world::schema(table))));
    context.state()
}

pub(crate) async fn compile_in(state: &SessionState, sql: &str) -> Result<Dataflow, Error> {
    let mut flow = Dataflow::compile(plan(state, sql).await?, state, &kind_of).await?;
    // The others' deltas come whole.
    flow.narrow(|table| world::number(table.table()).is_multiple_of(2))?;
    Ok(flow)
}

/// Deltas of a table as an input wants them.
pub(crate) fn chosen(input: &ViewInput, deltas: &[RecordBatch]) -> Vec<RecordBatch> {
    let columns = |delta: &RecordBatch| -> Vec<usize> {
        let names = input.schema.fields().iter().map(|field| field.name().as_str()).chain([WEIGHT]);
        names.map(|name| delta.schema().index_of(name).unwrap()).collect()
    };
    deltas.iter().map(|delta| delta.project(&columns(delta)).unwrap()).collect()
}

/// The deltas of the tables that a dataflow reads.
pub(crate) fn inputs_of(flow: &Dataflow, deltas: &[Vec<RecordBatch>]) -> Vec<Vec<RecordBatch>> {
    flow.inputs().iter().map(|input| chosen(input, &deltas[world::number(input.table.table())])).collect()
}

/// Takes a step and shows it in the answer.
pub(crate) async fn stepped(flow: &mut Dataflow, inputs: Vec<Vec<RecordBatch>>) -> Result<StepOutput, Error> {
    let output = flow.step(inputs).await?;
    flow.answer().apply(&output.delta)?;
    Ok(output)
}

/// Compares with the batch answer over what the tables hold now.
pub(crate) async fn compare(sql: &str, flow: &Dataflow, world: &World) -> Result<(), String> {
    let expected = batch(&context(), sql, &world.history, world.steps - 1, false).await?;
    let found = texts(&flow.answer().snapshot().batches().unwrap());
    difference(&expected, &found).map_or(Ok(()), |difference| Err(format!("{sql}\n{difference}")))
}

/// Runs a query over a history; compares at `points`, and at the end.
pub(crate) async fn outcome(sql: &str, history: &History, points: &(dyn Fn(usize) -> bool + Sync)) -> Outcome {
    let context = context();
    (0..TABLES.len()).for_each(|table| fill(&context, table, history.content(table, 0).slice(0, 0)));
    match AssertUnwindSafe(planned(&context, sql)).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Outcome::Skipped(error),
        Err(_) => return Outcome::Skipped("the engine panics".into()),
    }
    let run = AssertUnwindSafe(run(sql, history, points, &context)).catch_unwind().await;
    if let Ok(outcome) = run {
        return outcome;
    }
    for step in 0..history.steps {
        if let Err(error) = batch(&context, sql, history, step, false).await {
            return Outcome::Skipped(error);
        }
    }
    Outcome::Failed("panics", String::new())
}

async fn planned(context: &SessionContext, sql: &str) -> Result<(), String> {
    let plan = plan(&context.state(), sql).await.map_err(|e| e.to_string())?;
    context.state().create_physical_plan(&plan).await.map_err(|e| e.to_string())?;
    Ok(())
}

async fn run(
    sql: &str,
    history: &History,
    points: &(dyn Fn(usize) -> bool + Sync),
    context: &SessionContext,
) -> Outcome {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let mut flow = match begun(sql, history, &store).await {
        Ok(flow) => flow,
        Err(error @ Error::NotIncremental { .. }) => return Outcome::Refused(error.to_string()),
        Err(error) => return Outcome::Failed("is not compiled", error.to_string()),
    };
    for step in 0..history.steps {
        let output = match step_through(sql, history, step, &mut flow, &store).await {
            Ok(output) => output,
            Err(error) => {
                let batch = batch(context, sql, history, step, false).await;
                return batch.map_or_else(Outcome::Skipped, |_| {
                    Outcome::Failed("does not step", format!("step {step}: {error}\n{}", flow.explain()))
                });
            }
        };
        if !output.refused.is_empty() || points(step) || step + 1 == history.steps {
            let expected = match batch(context, sql, history, step, false).await {
                Ok(expected) => expected,
                Err(error) => return Outcome::Skipped(error),
            };
            if !output.refused.is_empty() {
                return Outcome::Failed("refuses rows", format!("step {step}: {:?}", output.refused));
            }
            let found = texts(&flow.answer().snapshot().batches().unwrap());
            if let Some(difference) = difference(&expected, &found) {
                let again = batch(&threads(3), sql, history, step, true).await;
                if again.is_ok_and(|again| self::difference(&expected, &again).is_some()) {
                    return Outcome::Skipped("the engine disagrees with itself".into());
                }
                return Outcome::Failed("differs", format!("step {step}: {difference}\n{}", flow.explain()));
            }
        }
    }
    Outcome::Equal
}

/// A new dataflow; some have no room in memory for what a checkpoint has.
async fn begun(sql: &str, history: &History, store: &Arc<dyn StateStore>) -> Result<Dataflow, Error> {
    let mut flow = compile(sql).await?;
    if history.tight() {
        flow.limit_memory(Arc::clone(store), 0)?;
    }
    Ok(flow)
}

/// Takes a step; behind it there may be a checkpoint, or a new dataflow may go on from the last one.
async fn step_through(
    sql: &str,
    history: &History,
    step: usize,
    flow: &mut Dataflow,
    store: &Arc<dyn StateStore>,
) -> Result<StepOutput, Error> {
    let output = stepped(flow, inputs_at(flow, history, step)).await?;
    let luck = history.luck(step);
    if [Luck::Checkpoint, Luck::CheckpointAndRestart].contains(&luck) {
        flow.checkpoint(store.as_ref(), &(step as u64 + 1).to_le_bytes())?;
    }
    if [Luck::Restart, Luck::CheckpointAndRestart].contains(&luck) {
        *flow = begun(sql, history, store).await?;
        let done = flow.restore(store.as_ref())?.map_or(0, |meta| u64::from_le_bytes(meta.try_into().unwrap()));
        for again in done as usize..=step {
            stepped(flow, inputs_at(flow, history, again)).await?;
        }
    }
    Ok(output)
}

fn inputs_at(flow: &Dataflow, history: &History, step: usize) -> Vec<Vec<RecordBatch>> {
    flow.inputs().iter().map(|i| chosen(i, &history.delta(world::number(i.table.table()), step))).collect()
}

/// The answer of plain DataFusion behind a step, `backwards` over the same rows in another order.
async fn batch(
    context: &SessionContext,
    sql: &str,
    history: &History,
    step: usize,
    backwards: bool,
) -> Result<Vec<String>, String> {
    for table in 0..TABLES.len() {
        let mut rows = history.content(table, step);
        if backwards {
            let order: UInt32Array = (0..rows.num_rows() as u32).rev().collect();
            rows = take_record_batch(&rows, &order).unwrap();
        }
        fill(context, table, rows);
    }
    let answer = async { context.execute_logical_plan(plan(&context.state(), sql).await?).await?.collect().await };
    let answer = AssertUnwindSafe(answer).catch_unwind().await;
    let answer = answer.map_err(|_| "the engine panics".to_owned())?;
    Ok(texts(&answer.map_err(|e| e.to_string())?))
}

/// Every row as text, floats rounded, in order.
pub(crate) fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
        for i in 0..batch.num_rows() {
            let cells: Vec<String> = columns.iter().map(|c| rounded(c.value(i).to_string())).collect();
            rows.push(cells.join(" | "));
        }
    }
    rows.sort();
    rows
}

fn rounded(cell: String) -> String {
    match cell.parse::<f64>() {
        Ok(number) if cell.contains(['.', 'e']) && number.is_finite() => {
            // What is left of a difference that should be nothing.
            let number = if number.abs() < 1e-9 { number * 0.0 } else { number };
            format!("{number:.6e}")
        }
        _ => cell,
    }
}

fn difference(expected: &[String], found: &[String]) -> Option<String> {
    if expected == found {
        return None;
    }
    let mut extra: Vec<&String> = found.iter().collect();
    let mut missing = Vec::new();
    for row in expected {
        match extra.iter().position(|r| *r == row) {
            Some(i) => drop(extra.swap_remove(i)),
            None => missing.push(row),
        }
    }
    // The last digits of a float may fall on either side of where it is rounded.
    missing.retain(|row| match extra.iter().position(|r| near(r, row)) {
        Some(i) => {
            extra.swap_remove(i);
            false
        }
        None => true,
    });
    if missing.is_empty() && extra.is_empty() {
        return None;
    }
    missing.truncate(5);
    extra.sort();
    extra.truncate(5);
    let (wanted, have) = (expected.len(), found.len());
    Some(format!("these rows are wrong: {have} instead of {wanted}\nmissing: {missing:#?}\nextra: {extra:#?}"))
}

fn near(one: &str, other: &str) -> bool {
    let (one, other): (Vec<&str>, Vec<&str>) = (one.split(" | ").collect(), other.split(" | ").collect());
    one.len() == other.len() && one.iter().zip(&other).all(|(a, b)| a == b || near_cells(a, b))
}

fn near_cells(one: &str, other: &str) -> bool {
    match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(a), Ok(b)) if one.contains('e') && other.contains('e') => (a - b).abs() <= 2e-6 * a.abs().max(1e-3),
        _ => false,
    }
}
