//! Owns the tables of the tests, their random changes, and the comparison of a dataflow with plain DataFusion.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_views::{Dataflow, Error, InputKind, weighted};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The tables: `s` and `p` only grow, `c` and `d` change.
pub(crate) const TABLES: [&str; 4] = ["s", "p", "c", "d"];

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("k", DataType::Int32, true),
        Field::new("a", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
        Field::new("t", DataType::Utf8, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("day", DataType::Date32, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
    ]))
}

pub(crate) fn rows(random: &mut StdRng, n: usize, next_id: &mut i64) -> RecordBatch {
    let mut maybe = |p: f64| !random.random_bool(p);
    let present: Vec<[bool; 6]> =
        (0..n).map(|_| [maybe(0.1), maybe(0.1), maybe(0.1), maybe(0.1), maybe(0.1), maybe(0.1)]).collect();
    let ids: Vec<i64> = (0..n as i64).map(|i| *next_id + i).collect();
    *next_id += n as i64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(Int32Array::from_iter(present.iter().map(|p| p[0].then(|| random.random_range(0..6))))),
        Arc::new(Int64Array::from_iter(present.iter().map(|p| p[1].then(|| random.random_range(-20..100))))),
        // Quarters add up exactly.
        Arc::new(Float64Array::from_iter(
            present.iter().map(|p| p[2].then(|| f64::from(random.random_range(-80..80)) / 4.0)),
        )),
        Arc::new(StringArray::from_iter(
            present.iter().map(|p| p[3].then(|| ["red", "green", "blue", "", "a\"b"][random.random_range(0..5)])),
        )),
        Arc::new(BooleanArray::from_iter(present.iter().map(|p| p[4].then(|| random.random_bool(0.5))))),
        Arc::new(Date32Array::from_iter(present.iter().map(|p| p[5].then(|| random.random_range(19_000..19_010))))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            (0..n).map(|_| 1_700_000_000_000_000 + random.random_range(0..600) * 1_000_000),
        )),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn context(tables: &[Vec<RecordBatch>]) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(1);
    let context = SessionContext::new_with_config(config);
    for (name, batches) in TABLES.iter().zip(tables) {
        let table = MemTable::try_new(schema(), vec![batches.clone()]).unwrap();
        context.register_table(*name, Arc::new(table)).unwrap();
    }
    context
}

pub(crate) fn kind_of(table: &datafusion::common::TableReference) -> Option<InputKind> {
    match table.table() {
        "s" | "p" => Some(InputKind::AppendOnly),
        "c" | "d" => Some(InputKind::Changing),
        _ => None,
    }
}

pub(crate) async fn compile(sql: &str) -> Result<Dataflow, Error> {
    let context = context(&vec![vec![]; TABLES.len()]);
    let plan = context.state().create_logical_plan(sql).await?;
    Dataflow::compile(plan, &context.state(), &kind_of).await
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
        Ok(number) if cell.contains('.') && number.is_finite() => format!("{number:.6e}"),
        _ => cell,
    }
}

/// The tables' rows, and how they change.
pub(crate) struct World {
    pub(crate) random: StdRng,
    pub(crate) tables: Vec<Vec<RecordBatch>>,
    next_id: i64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), tables: vec![vec![]; TABLES.len()], next_id: 0 }
    }

    /// Changes the tables: gives each one's delta.
    pub(crate) fn change(&mut self) -> Vec<Vec<RecordBatch>> {
        let Self { random, tables, next_id } = self;
        let mut deltas: Vec<Vec<RecordBatch>> = vec![vec![]; TABLES.len()];
        for (i, table) in tables.iter_mut().enumerate() {
            if random.random_bool(0.3) {
                continue;
            }
            if i >= 2 && !table.is_empty() && random.random_bool(0.5) {
                let all = concat_batches(&schema(), table.iter()).unwrap();
                let (gone, kept) = parted(random, &all);
                deltas[i].push(weighted(&gone, -1).unwrap());
                *table = vec![kept];
            }
            let n = [0, 1, 3, 20][random.random_range(0..4)];
            let new = rows(random, n, next_id);
            deltas[i].push(weighted(&new, 1).unwrap());
            table.push(new);
        }
        deltas
    }
}

/// The deltas of the tables that a dataflow reads.
pub(crate) fn inputs_of(flow: &Dataflow, deltas: &[Vec<RecordBatch>]) -> Vec<Vec<RecordBatch>> {
    let inputs = flow.inputs().iter().map(|input| {
        let i = TABLES.iter().position(|t| *t == input.table.table()).unwrap();
        deltas[i].clone()
    });
    inputs.collect()
}

/// Runs `sql` as a dataflow over `steps` random changes and compares it with its batch answer now and then.
pub(crate) async fn check(sql: &str, seed: u64, steps: usize) -> Result<(), String> {
    let mut flow = compile(sql).await.map_err(|e| format!("{sql}\nis refused: {e}"))?;
    let mut world = World::new(seed);
    for step in 0..steps {
        let deltas = world.change();
        let inputs = inputs_of(&flow, &deltas);
        let output = flow.step(inputs).await.map_err(|e| format!("{sql}\nseed {seed}, step {step}: {e}"))?;
        if !output.refused.is_empty() {
            return Err(format!("{sql}\nseed {seed}, step {step}: {:?}", output.refused));
        }
        if world.random.random_bool(0.4) || step + 1 == steps {
            compare(sql, &flow, &world.tables)
                .await
                .map_err(|e| format!("{e}\nseed {seed}, step {step}\n{}", flow.explain()))?;
        }
    }
    Ok(())
}

fn parted(random: &mut StdRng, all: &RecordBatch) -> (RecordBatch, RecordBatch) {
    let share = [0.05, 0.3, 1.0][random.random_range(0..3)];
    let goes = BooleanArray::from_iter((0..all.num_rows()).map(|_| Some(random.random_bool(share))));
    let stays = arrow::compute::not(&goes).unwrap();
    let part = |mask| arrow::compute::filter_record_batch(all, mask).unwrap();
    (part(&goes), part(&stays))
}

pub(crate) async fn compare(sql: &str, flow: &Dataflow, tables: &[Vec<RecordBatch>]) -> Result<(), String> {
    let batch = context(tables).sql(sql).await.unwrap().collect().await.map_err(|e| e.to_string())?;
    let (expected, found) = (texts(&batch), texts(&flow.answer().snapshot().batches().unwrap()));
    if expected == found {
        return Ok(());
    }
    let missing: Vec<&String> = expected.iter().filter(|r| !found.contains(r)).take(5).collect();
    let extra: Vec<&String> = found.iter().filter(|r| !expected.contains(r)).take(5).collect();
    let (wanted, have) = (expected.len(), found.len());
    Err(format!("{sql}\nhas {have} rows, should have {wanted}\nmissing: {missing:#?}\nextra: {extra:#?}"))
}
