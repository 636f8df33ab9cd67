//! Runs every query as a dataflow: straight through, with restarts in the middle, and as one batch.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_nexmark::{Events, Generator, QUERIES, Query, schema};
use millstream_views::{Dataflow, Error, InputKind, MemoryStore, weighted};

use crate::events::{EVENTS, parts};
use crate::golden::{difference, rendered};

/// Events of a step.
const STEP: u64 = 2_000;
/// Steps between two checkpoints, and between two restarts: most restarts have steps to do again.
const CHECKPOINT_EVERY: usize = 3;
const RESTART_EVERY: usize = 4;

/// A session that knows the streams.
fn session() -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new());
    millstream_windows::register(&context).unwrap();
    let tables = [
        ("person", schema::person()),
        ("auction", schema::auction()),
        ("bid", schema::bid()),
        ("side_input", schema::side_input()),
    ];
    for (name, schema) in tables {
        context.register_table(name, Arc::new(MemTable::try_new(schema, vec![vec![]]).unwrap())).unwrap();
    }
    context
}

async fn compile(context: &SessionContext, query: &Query) -> Result<Dataflow, Error> {
    let state = context.state();
    let plan = state.statement_to_plan(millstream_windows::parse(query.sql)?).await?;
    Dataflow::compile(plan, &state, &|_| Some(InputKind::AppendOnly)).await
}

/// Takes a step and shows it in the answer; the side input comes with the first.
async fn step(flow: &mut Dataflow, events: &Events, first: bool) -> Result<(), Error> {
    let rows_of = |table: &str| match table {
        "person" => events.person.clone(),
        "auction" => events.auction.clone(),
        "bid" => events.bid.clone(),
        _ if first => Generator::side_input(),
        _ => RecordBatch::new_empty(schema::side_input()),
    };
    let inputs = flow.inputs().iter().map(|input| Ok(vec![weighted(&rows_of(input.table.table()), 1)?]));
    let inputs = inputs.collect::<Result<_, Error>>()?;
    let output = flow.step(inputs).await?;
    assert_eq!(output.refused.len(), 0, "{:?}", output.refused);
    flow.answer().apply(&output.delta)
}

fn answer(flow: &Dataflow) -> Result<String, Error> {
    let names: Vec<&str> = flow.schema().fields().iter().map(|f| f.name().as_str()).collect();
    Ok(rendered(&names, &flow.answer().snapshot().batches()?))
}

async fn straight_through(context: &SessionContext, query: &Query, parts: &[Events]) -> Result<String, Error> {
    let mut flow = compile(context, query).await?;
    for (i, events) in parts.iter().enumerate() {
        step(&mut flow, events, i == 0).await?;
    }
    answer(&flow)
}

async fn with_restarts(context: &SessionContext, query: &Query, parts: &[Events]) -> Result<String, Error> {
    let store = MemoryStore::default();
    let mut flow = compile(context, query).await?;
    for (i, events) in parts.iter().enumerate() {
        if i % RESTART_EVERY == RESTART_EVERY - 1 {
            flow = compile(context, query).await?;
            let done = flow.restore(&store)?.map_or(0, |meta| usize::from(meta[0]));
            for (again, events) in parts.iter().enumerate().take(i).skip(done) {
                step(&mut flow, events, again == 0).await?;
            }
        }
        step(&mut flow, events, i == 0).await?;
        if i % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
            flow.checkpoint(&store, &[i as u8 + 1])?;
        }
    }
    answer(&flow)
}

/// What is wrong with all queries run in one way.
async fn wrong(run: impl AsyncFn(&SessionContext, &Query) -> Result<String, Error>) -> Vec<String> {
    let context = session();
    let mut wrong = Vec::new();
    for query in &QUERIES {
        match run(&context, query).await {
            Ok(found) => wrong.extend(difference(query, &found)),
            Err(error) => wrong.push(format!("{}: {error}", query.name())),
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataflow_of_every_query_comes_to_its_batch_answer_step_by_step() {
    let parts = parts(STEP);
    let wrong = wrong(async |context, query| straight_through(context, query, &parts).await).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataflow_of_every_query_comes_to_its_batch_answer_in_one_step() {
    let parts = parts(EVENTS);
    let wrong = wrong(async |context, query| straight_through(context, query, &parts).await).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataflow_of_every_query_comes_to_its_batch_answer_with_restarts_in_the_middle() {
    let parts = parts(STEP);
    let wrong = wrong(async |context, query| with_restarts(context, query, &parts).await).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
