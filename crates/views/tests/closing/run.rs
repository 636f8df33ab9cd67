//! Owns dataflows over two streams with watermarks, and the model that they are compared with.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use millstream_views::{
    CompileOptions, Dataflow, Error, InputKind, MemoryStore, Refused, StepOutput, WatermarkSpec, weighted,
};

pub(crate) const SECOND: i64 = 1_000_000;
/// How far the watermarks are behind.
pub(crate) const DELAY: i64 = 5 * SECOND;
const TABLES: [&str; 2] = ["s", "p"];

/// A row: key, value, event time.
pub(crate) type Row = (&'static str, i64, Option<i64>);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("a", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]))
}

pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let k = StringArray::from_iter_values(rows.iter().map(|r| r.0));
    let a = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
    let ts = TimestampMicrosecondArray::from_iter(rows.iter().map(|r| r.2)).with_timezone("UTC");
    RecordBatch::try_new(schema(), vec![Arc::new(k), Arc::new(a), Arc::new(ts)]).unwrap()
}

fn context(rows: [&[Row]; 2]) -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    millstream_windows::register(&context).unwrap();
    for (name, rows) in TABLES.iter().zip(rows) {
        let table = MemTable::try_new(schema(), vec![vec![batch(rows)]]).unwrap();
        context.register_table(*name, Arc::new(table)).unwrap();
    }
    context
}

fn watermark_of(_table: &TableReference) -> Option<WatermarkSpec> {
    let delay = lit(ScalarValue::new_interval_mdn(0, 0, DELAY * 1000));
    Some(WatermarkSpec { column: "ts".into(), expr: col("ts") - delay })
}

/// Compiles with watermarks.
pub(crate) async fn compile(sql: &str, emit_on_window_close: bool) -> Result<Dataflow, Error> {
    let context = context([&[], &[]]);
    let plan = context.state().statement_to_plan(millstream_windows::parse(sql)?).await?;
    let options = CompileOptions { watermark_of: Some(&watermark_of), emit_on_window_close };
    Dataflow::compile_with(plan, &context.state(), &|_| Some(InputKind::AppendOnly), options).await
}

/// Rows as text, in order.
pub(crate) fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
        let row = |i: usize| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join(" | ");
        rows.extend((0..batch.num_rows()).map(row));
    }
    rows.sort();
    rows
}

/// What one step takes in.
#[derive(Clone)]
struct Step {
    rows: [Vec<Row>; 2],
    watermarks: [Option<i64>; 2],
}

/// A dataflow and its model, step by step.
pub(crate) struct Run {
    sql: String,
    pub(crate) flow: Dataflow,
    steps: Vec<Step>,
    store: MemoryStore,
    /// The rows that were in time, by table.
    pub(crate) in_time: [Vec<Row>; 2],
    pub(crate) watermarks: [Option<i64>; 2],
}

impl Run {
    pub(crate) async fn new(sql: &str) -> Self {
        let flow = compile(sql, true).await.unwrap();
        assert!(flow.grows(), "{sql}");
        Self {
            sql: sql.to_owned(),
            flow,
            steps: vec![],
            store: MemoryStore::default(),
            in_time: [vec![], vec![]],
            watermarks: [None, None],
        }
    }

    /// Takes rows in, by table, and advances the watermarks to what these rows say.
    pub(crate) async fn step(&mut self, rows: [Vec<Row>; 2]) -> StepOutput {
        let mut late = 0;
        for (table, rows) in rows.iter().enumerate() {
            if !self.reads(table) {
                continue;
            }
            let at = self.watermarks[table].unwrap_or(i64::MIN);
            let kept = rows.iter().filter(|row| row.2.is_some_and(|ts| ts >= at));
            let before = self.in_time[table].len();
            self.in_time[table].extend(kept);
            late += rows.len() - (self.in_time[table].len() - before);
            let reached = rows.iter().filter_map(|row| row.2).max().map(|ts| ts - DELAY);
            self.watermarks[table] = self.watermarks[table].max(reached);
        }
        let step = Step { rows, watermarks: self.watermarks };
        let output = take(&mut self.flow, &step).await;
        self.steps.push(step);
        assert_eq!(output.late.len(), late, "{:?}", output.late);
        output
    }

    fn reads(&self, table: usize) -> bool {
        self.flow.inputs().iter().any(|input| input.table.table() == TABLES[table])
    }

    /// The lowest watermark of what it reads.
    pub(crate) fn watermark(&self) -> Option<i64> {
        let tables = (0..TABLES.len()).filter(|table| self.reads(*table));
        tables.map(|table| self.watermarks[table]).min().flatten()
    }

    pub(crate) fn checkpoint(&mut self) {
        self.flow.checkpoint(&self.store, &(self.steps.len() as u64).to_le_bytes()).unwrap();
    }

    /// Compiles it again, takes up the last checkpoint and repeats the steps behind it.
    pub(crate) async fn restart(&mut self) {
        self.flow = compile(&self.sql, true).await.unwrap();
        let meta = self.flow.restore(&self.store).unwrap();
        let done = meta.map_or(0, |meta| u64::from_le_bytes(meta.try_into().unwrap()) as usize);
        for step in &self.steps[done..] {
            take(&mut self.flow, step).await;
        }
    }

    /// The rows that came out so far.
    pub(crate) fn answer(&self) -> Vec<String> {
        texts(&self.flow.answer().snapshot().batches().unwrap())
    }

    /// The batch answer of a query over the rows that were in time, with `{w}` for the watermark, `{s}` and `{p}` for
    /// those of the tables.
    pub(crate) async fn model(&self, sql: &str) -> Vec<String> {
        let Some(at) = self.watermark() else { return vec![] };
        let context = context([&self.in_time[0], &self.in_time[1]]);
        let mut sql = sql.replace("{w}", &format!("to_timestamp_micros({at})"));
        for (table, at) in TABLES.iter().zip(self.watermarks) {
            sql = sql.replace(&format!("{{{table}}}"), &format!("to_timestamp_micros({})", at.unwrap_or(0)));
        }
        let plan = context.state().statement_to_plan(millstream_windows::parse(&sql).unwrap()).await.unwrap();
        texts(&context.execute_logical_plan(plan).await.unwrap().collect().await.unwrap())
    }
}

async fn take(flow: &mut Dataflow, step: &Step) -> StepOutput {
    let mut inputs = Vec::new();
    for input in 0..flow.inputs().len() {
        let table = TABLES.iter().position(|t| *t == flow.inputs()[input].table.table()).unwrap();
        let rows = batch(&step.rows[table]);
        if let Some(reached) = flow.watermark_gauge(input).unwrap().reached(&rows).unwrap() {
            flow.advance_watermark(input, reached);
        }
        inputs.push(vec![weighted(&rows, 1).unwrap()]);
        assert!(step.watermarks[table] >= flow.watermark(input));
    }
    let output = flow.step(inputs).await.unwrap();
    for input in 0..flow.inputs().len() {
        let table = TABLES.iter().position(|t| *t == flow.inputs()[input].table.table()).unwrap();
        assert_eq!(flow.watermark(input), step.watermarks[table]);
    }
    let weights = output.delta.column(output.delta.num_columns() - 1);
    let weights = texts(&[RecordBatch::try_from_iter([("w", Arc::clone(weights))]).unwrap()]);
    assert!(weights.iter().all(|w| !w.starts_with('-')), "a row goes: {:?}", output.delta);
    flow.answer().apply(&output.delta).unwrap();
    output
}

/// The reasons why rows were left out.
pub(crate) fn reasons(refused: &[Refused]) -> Vec<&str> {
    refused.iter().map(|r| r.reason.as_str()).collect()
}
