//! Owns the probe of views without a node: how many events a second a dataflow takes in, and what it keeps.
//!
//! The events are there before the clock runs. The processor's time is told beside the clock's, since the machine may
//! have other work.

mod compile;
mod cpu;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use millstream_nexmark::QUERIES;
use millstream_views::{Dataflow, DiskOptions, DiskStore, StateStore, weighted};
use serde_json::{Value, json};

use crate::Figures;
use crate::arguments::{Arguments, Error};
use compile::compile;
use rows::Rows;

const GROUP_BY: &str = "SELECT key, count(*) AS n, sum(value) AS total FROM keyed GROUP BY key";

/// What is the same for every query of a run.
struct Setting {
    /// Rows of each step.
    step_rows: u64,
    /// Where states are kept, if they are.
    state: Option<PathBuf>,
    /// Steps between two checkpoints; 0 for none.
    checkpoint_steps: u64,
    /// Bytes of memory; 0 for no limit.
    memory: usize,
}

/// Runs `views`.
pub async fn run(arguments: Arguments) -> Figures {
    let events = arguments.number("events", 2_000_000)?;
    let setting = Setting {
        step_rows: arguments.number("step-rows", 65_536_u64)?.max(1),
        state: arguments.optional("state").map(PathBuf::from),
        checkpoint_steps: arguments.number("checkpoint-steps", 0)?,
        memory: arguments.number("memory", 0)?,
    };
    if setting.state.is_none() && (setting.checkpoint_steps > 0 || setting.memory > 0) {
        return Err("--checkpoint-steps and --memory need --state FOLDER, where the state is kept".into());
    }
    let rows = match arguments.optional("keys") {
        Some(keys) => Rows::keyed(keys.parse().map_err(|_| format!("--keys {keys} is not a number"))?, events),
        None => Rows::nexmark(events, arguments.number("per-second", 100_000)?, setting.step_rows),
    };
    let mut figures = Vec::new();
    for (name, sql) in chosen(&arguments)? {
        let measured = match measure(&sql, &rows, &setting).await {
            Ok(measured) => measured,
            // One query that fails must not cost the others.
            Err(error) => json!({ "error": error.to_string() }),
        };
        eprintln!("{}", line(&name, &measured));
        figures.push(json!({ "query": name, "figures": measured }));
    }
    Ok(json!({ "events": events, "step_rows": setting.step_rows, "queries": figures }))
}

/// The names and texts of the queries.
fn chosen(arguments: &Arguments) -> Result<Vec<(String, String)>, Error> {
    if let Some(sql) = arguments.optional("sql") {
        return Ok(vec![("sql".to_owned(), sql.to_owned())]);
    }
    if let Some(keys) = arguments.optional("keys") {
        return Ok(vec![(format!("{keys} keys"), GROUP_BY.to_owned())]);
    }
    let all: Vec<String> = QUERIES.iter().map(|q| q.name()).collect();
    let wanted = arguments.choice("queries", "all");
    let wanted: Vec<&str> =
        if wanted == "all" { all.iter().map(String::as_str).collect() } else { wanted.split(',').collect() };
    wanted
        .into_iter()
        .map(|name| {
            let query = QUERIES.iter().find(|q| q.name() == name);
            let query = query.ok_or_else(|| format!("no query {name}; there are {}", all.join(", ")))?;
            Ok((name.to_owned(), query.sql.to_owned()))
        })
        .collect()
}

/// Feeds all rows to one query.
async fn measure(sql: &str, rows: &Rows, setting: &Setting) -> Result<Value, Error> {
    let mut flow = compile(sql).await?;
    let folder = setting.state.as_ref().map(|state| state.join("probe"));
    let store = folder.as_deref().map(open_store).transpose()?;
    if let Some(store) = &store
        && setting.memory > 0
    {
        flow.limit_memory(Arc::clone(store), setting.memory)?;
    }
    let mut taken = Taken::default();
    let fixed = rows.fixed(&flow);
    taken.step(&mut flow, fixed).await?;
    taken = Taken::default();
    for step in 0..rows.steps(setting.step_rows) {
        let inputs = rows.step(&flow, step, setting.step_rows);
        taken.step(&mut flow, inputs).await?;
        if let Some(store) = &store
            && setting.checkpoint_steps > 0
            && (step + 1) % setting.checkpoint_steps == 0
        {
            taken.checkpoint(&mut flow, store.as_ref(), step)?;
        }
    }
    let figures = taken.figures(&mut flow);
    drop((flow, store));
    if let Some(folder) = folder {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(figures)
}

/// An empty store.
fn open_store(folder: &Path) -> Result<Arc<dyn StateStore>, Error> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    Ok(Arc::new(DiskStore::open(folder, DiskOptions::default())?))
}

/// The times of a run.
#[derive(Default)]
struct Taken {
    rows: usize,
    changes: usize,
    refused: usize,
    steps: Duration,
    slowest: Duration,
    applying: Duration,
    checkpoints: Duration,
    cpu: Duration,
}

impl Taken {
    /// Takes a step and shows it in the answer.
    async fn step(&mut self, flow: &mut Dataflow, inputs: Vec<Vec<RecordBatch>>) -> Result<(), Error> {
        self.rows += inputs.iter().flatten().map(RecordBatch::num_rows).sum::<usize>();
        let (cpu, began) = (cpu::used(), Instant::now());
        let weighted = inputs.iter().map(|batches| batches.iter().map(|batch| weighted(batch, 1)).collect());
        let output = flow.step(weighted.collect::<Result<_, _>>()?).await?;
        let stepped = began.elapsed();
        flow.answer().apply(&output.delta)?;
        let applied = began.elapsed();
        self.cpu += cpu::used().saturating_sub(cpu);
        self.changes += output.delta.num_rows();
        self.refused += output.refused.len();
        self.steps += stepped;
        self.applying += applied - stepped;
        self.slowest = self.slowest.max(applied);
        Ok(())
    }

    fn checkpoint(&mut self, flow: &mut Dataflow, store: &dyn StateStore, step: u64) -> Result<(), Error> {
        let (cpu, began) = (cpu::used(), Instant::now());
        flow.checkpoint(store, &step.to_le_bytes())?;
        self.checkpoints += began.elapsed();
        self.cpu += cpu::used().saturating_sub(cpu);
        Ok(())
    }

    fn figures(&self, flow: &mut Dataflow) -> Value {
        let (state_rows, state_bytes) = flow.state_size();
        let seconds = (self.steps + self.applying + self.checkpoints).as_secs_f64();
        json!({
            "rows": self.rows,
            "events_per_s": self.rows as f64 / seconds,
            "events_per_cpu_s": self.rows as f64 / self.cpu.as_secs_f64(),
            "step_s": self.steps.as_secs_f64(),
            "apply_s": self.applying.as_secs_f64(),
            "checkpoint_s": self.checkpoints.as_secs_f64(),
            "slowest_step_ms": self.slowest.as_secs_f64() * 1000.0,
            "cpu_s": self.cpu.as_secs_f64(),
            "changes": self.changes,
            "refused": self.refused,
            "state_rows": state_rows,
            "state_bytes": state_bytes,
            "answer_rows": flow.answer().rows(),
            "answer_bytes": flow.answer().bytes(),
            "resident_bytes": cpu::resident_bytes(),
        })
    }
}

/// The figures for a reader.
fn line(name: &str, figures: &Value) -> String {
    if let Some(error) = figures["error"].as_str() {
        return format!("{name:<12} {error}");
    }
    let number = |field: &str| figures[field].as_f64().unwrap_or_default();
    let (rate, of_cpu) = (number("events_per_s") / 1e6, number("events_per_cpu_s") / 1e6);
    let (step, apply, checkpoint) = (number("step_s"), number("apply_s"), number("checkpoint_s"));
    let (state_rows, state_mb) = (number("state_rows"), number("state_bytes") / 1e6);
    let (answer_rows, answer_mb) = (number("answer_rows"), number("answer_bytes") / 1e6);
    let (slowest, resident) = (number("slowest_step_ms"), number("resident_bytes") / 1e6);
    format!(
        "{name:<12} {rate:>8.3} M/s {of_cpu:>8.3} M/cpu-s | step {step:.2} apply {apply:.2} checkpoint {checkpoint:.2} s, \
         slowest {slowest:.0} ms | state {state_rows} rows {state_mb:.1} MB | answer {answer_rows} rows {answer_mb:.1} MB \
         | resident {resident:.0} MB"
    )
}
