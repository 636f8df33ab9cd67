//! Owns a compiled query and its answer.

mod checkpoint;
mod memory;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use parking_lot::{Mutex, RwLock};

use crate::Result;
use crate::arrangement::{Arrangement, Goes, Memory, Snapshot};
use crate::compile::{CompileOptions, Compiler, InputKind, ViewInput, detached, lookups_apart, refuse, stable};
use crate::delta::{consolidate, weighted_schema};
use crate::key::Key;
use crate::node::{Node, Turn};
use crate::watermark::{Clock, WatermarkGauge};

use checkpoint::Progress;

pub use crate::node::Refused;
pub use checkpoint::CheckpointStats;

/// What a step came to.
#[derive(Debug)]
pub struct StepOutput {
    /// How the answer changed: its columns and the weight. Where rows go, equal rows are added up.
    pub delta: RecordBatch,
    /// Rows that an expression failed on; they were left out.
    pub refused: Vec<Refused>,
    /// Rows that were late for EMIT ON WINDOW CLOSE, or without an event time; they were left out.
    pub late: Vec<Refused>,
}

/// A query that is kept up to date.
#[derive(Debug)]
pub struct Dataflow {
    root: Box<dyn Node>,
    inputs: Vec<ViewInput>,
    answer: Arc<Answer>,
    delta_schema: SchemaRef,
    context: Arc<TaskContext>,
    steps: u64,
    grows: bool,
    taken_back_by: Option<String>,
    progress: Progress,
    memory: Arc<Memory>,
    clock: Clock,
    /// Whether rows behind the watermark are refused.
    closing: bool,
}

impl Dataflow {
    /// Compiles a plan as SQL made it, before any optimizer. `kind_of` says how the tables it names change, and `None`
    /// for those a view cannot read.
    pub async fn compile(
        plan: LogicalPlan,
        state: &SessionState,
        kind_of: &(dyn Fn(&TableReference) -> Option<InputKind> + Sync),
    ) -> Result<Self> {
        Self::compile_with(plan, state, kind_of, CompileOptions::default()).await
    }

    /// [`Dataflow::compile`] with watermarks, and with EMIT ON WINDOW CLOSE if it is asked for.
    pub async fn compile_with(
        plan: LogicalPlan,
        state: &SessionState,
        kind_of: &(dyn Fn(&TableReference) -> Option<InputKind> + Sync),
        options: CompileOptions<'_>,
    ) -> Result<Self> {
        refuse::volatile(&plan)?;
        refuse::several_rows(&plan)?;
        let state = suited(state);
        let plan = state.optimize(&lookups_apart(stable::ordered(detached(plan)?)?)?)?;
        let mut compiler = Compiler::new(&state, kind_of, options);
        let part = match options.emit_on_window_close {
            true => compiler.compile_closing(&plan).await?,
            false => compiler.compile(&plan).await?,
        };
        let root = compiler.seal(part).await?;
        let (inputs, taken_back_by) = (compiler.inputs, compiler.taken_back_by);
        let clock = Clock::new(&inputs, &state)?;
        let schema: SchemaRef = Arc::new(root.schema.as_arrow().clone());
        let key_columns = root.key.clone().unwrap_or_default();
        let goes = match &root.key {
            Some(_) => Goes::ByKey,
            None if root.grows => Goes::Unsought,
            None => Goes::ByContent,
        };
        let rows = Arrangement::new(Arc::clone(&schema), Key::of_columns(&schema, &key_columns)?, goes)?;
        let mut flow = Self {
            root: root.node,
            inputs,
            delta_schema: weighted_schema(&schema),
            answer: Arc::new(Answer { rows: RwLock::new(rows), applied: AtomicU64::default(), schema, key: root.key }),
            context: state.task_ctx(),
            steps: 0,
            grows: root.grows,
            taken_back_by: taken_back_by.filter(|_| !root.grows),
            progress: Progress::default(),
            memory: Arc::default(),
            clock,
            closing: options.emit_on_window_close,
        };
        flow.place()?;
        Ok(flow)
    }

    /// The tables it reads; a step takes their deltas in this order.
    pub fn inputs(&self) -> &[ViewInput] {
        &self.inputs
    }

    /// Whether rows of the answer only ever come.
    pub fn grows(&self) -> bool {
        self.grows
    }

    /// The first operator that takes back rows it gave, as EXPLAIN shows it; `None` when rows of the answer only come.
    pub fn taken_back_by(&self) -> Option<&str> {
        self.taken_back_by.as_deref()
    }

    /// Has the deltas of some inputs come with the columns that are used alone: those of which `has_columns_chosen` is
    /// true of their table. Late rows are told of as a whole, so with EMIT ON WINDOW CLOSE nothing changes. Only for a
    /// dataflow as it was compiled.
    pub fn narrow(&mut self, has_columns_chosen: impl Fn(&TableReference) -> bool) -> Result<()> {
        if self.closing {
            return Ok(());
        }
        let mut used: Vec<Option<BTreeSet<usize>>> =
            self.inputs.iter().map(|input| has_columns_chosen(&input.table).then(BTreeSet::new)).collect();
        self.root.visit_sources(&mut |source| {
            let used = &mut used[source.input()];
            match source.projection() {
                Some(columns) => used.iter_mut().for_each(|used| used.extend(columns)),
                None => *used = None,
            }
        });
        for (number, (input, used)) in self.inputs.iter_mut().zip(used).enumerate() {
            let Some(used) = used else { continue };
            let columns: Vec<usize> = used.into_iter().collect();
            input.schema = Arc::new(input.schema.project(&columns)?);
            self.root.visit_sources(&mut |source| {
                if source.input() == number {
                    source.narrow(&columns);
                }
            });
        }
        Ok(())
    }

    /// Has no answer kept: what steps give goes elsewhere, and the caller sees to it that it gets there. Only for a
    /// dataflow as it was compiled.
    pub fn keep_no_answer(&mut self) {
        self.progress.keep_no_answer();
    }

    /// The columns of the answer.
    pub fn schema(&self) -> &SchemaRef {
        &self.answer.schema
    }

    /// The answer, for readers.
    pub fn answer(&self) -> &Arc<Answer> {
        &self.answer
    }

    /// Takes in one delta per input, and says how the answer changes: the caller applies that to the [`Answer`] when it
    /// is to be seen. After an error the dataflow can't be used any more.
    pub async fn step(&mut self, inputs: Vec<Vec<RecordBatch>>) -> Result<StepOutput> {
        self.progress.begin_step()?;
        let (inputs, late) = self.in_time(inputs)?;
        self.clock.step();
        let turn = Turn {
            inputs,
            watermarks: if self.closing { self.clock.at.clone() } else { vec![] },
            context: Arc::clone(&self.context),
            first: self.steps == 0,
            refused: Mutex::default(),
        };
        self.steps += 1;
        let delta = self.root.step(&turn).await?;
        // Of rows that only come, equal ones may as well stand beside each other.
        let delta = if self.grows || self.root.is_consolidated() {
            concat_batches(&self.delta_schema, &delta)?
        } else {
            consolidate(&self.delta_schema, &delta)?
        };
        self.relieve()?;
        self.progress.end_step(delta.num_rows());
        Ok(StepOutput { delta, refused: turn.refused.into_inner(), late })
    }

    /// Says before a step what the watermark of an input is behind it, in microseconds since the epoch: later steps
    /// bring no row with an earlier event time that counts. It never goes back. Whoever repeats steps behind a checkpoint
    /// says the same before each; where an input has partitions, the caller takes the lowest of those that are not idle.
    pub fn advance_watermark(&mut self, input: usize, to_us: i64) {
        self.clock.advance(input, to_us);
    }

    /// The watermark of an input behind the last step, in microseconds since the epoch.
    pub fn watermark(&self, input: usize) -> Option<i64> {
        self.clock.of(input)
    }

    /// What reads the watermark of an input off its rows; `None` for an input without one.
    pub fn watermark_gauge(&self, input: usize) -> Option<&WatermarkGauge> {
        self.clock.gauge(input)
    }

    /// Whether rows behind the watermark are refused: with EMIT ON WINDOW CLOSE.
    pub fn closes(&self) -> bool {
        self.closing
    }

    /// The deltas without rows that are late, and these.
    fn in_time(&self, inputs: Vec<Vec<RecordBatch>>) -> Result<(Vec<Vec<RecordBatch>>, Vec<Refused>)> {
        let mut late = Vec::new();
        if !self.closing {
            return Ok((inputs, late));
        }
        let mut kept = Vec::with_capacity(inputs.len());
        for (input, batches) in inputs.into_iter().enumerate() {
            let in_time = batches.into_iter().map(|batch| self.clock.in_time(input, batch, &mut late));
            kept.push(in_time.collect::<Result<Vec<_>>>()?);
        }
        Ok((kept, late))
    }

    /// Rows and bytes that the nodes keep, without the answer.
    pub fn state_size(&mut self) -> (usize, usize) {
        let (mut rows, mut bytes) = (0, 0);
        let counted = self.root.visit_state(&mut |kept| {
            rows += kept.len();
            bytes += kept.bytes();
            Ok(())
        });
        debug_assert!(counted.is_ok(), "counting does not fail");
        (rows, bytes)
    }

    /// The nodes, what each keeps and under which key, as a tree of lines.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        explain(self.root.as_ref(), 0, &mut text);
        text
    }
}

fn explain(node: &dyn Node, depth: usize, text: &mut String) {
    let description = node.describe();
    let indent = "  ".repeat(depth);
    text.push_str(&format!("{indent}{}\n", description.title));
    for state in description.state {
        text.push_str(&format!("{indent}  keeps {state}\n"));
    }
    for child in node.children() {
        explain(child, depth + 1, text);
    }
}

/// The optimizer's rule that counts distinct values in two levels of groups, of which the upper one takes rows back:
/// distinct values have a node of their own.
const TWO_LEVELS_FOR_DISTINCT: &str = "single_distinct_aggregation_to_group_by";

/// The session's settings, with those that dataflows need: one thread per step, joins instead of subqueries, and no
/// shortcuts that look at how many rows there are.
fn suited(state: &SessionState) -> SessionState {
    let mut config = state.config().clone();
    let options = config.options_mut();
    options.execution.target_partitions = 1.try_into().unwrap_or(options.execution.target_partitions);
    options.execution.skip_partial_aggregation_probe_rows_threshold = usize::MAX;
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options.optimizer.enable_dynamic_filter_pushdown = false;
    // It would take the place of the session's own.
    options.catalog.create_default_catalog_and_schema = false;
    let rules = state.optimizers().iter().filter(|rule| rule.name() != TWO_LEVELS_FOR_DISTINCT);
    SessionStateBuilder::new_from_existing(state.clone())
        .with_config(config)
        .with_optimizer_rules(rules.map(Arc::clone).collect())
        .with_execution_props(stable::named_anew(state.execution_props()))
        .build()
}

/// The rows of a view, for readers beside the one that steps.
#[derive(Debug)]
pub struct Answer {
    rows: RwLock<Arrangement>,
    /// How many changes of rows it has taken in.
    applied: AtomicU64,
    schema: SchemaRef,
    key: Option<Vec<usize>>,
}

/// An answer at one instant.
#[derive(Debug, Clone)]
pub struct AnswerSnapshot(Snapshot);

impl Answer {
    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Columns of which no two rows have the same values, if the query has such.
    pub fn key(&self) -> Option<&[usize]> {
        self.key.as_deref()
    }

    /// Changes it by a step's delta. Readers see all of it or nothing.
    pub fn apply(&self, delta: &RecordBatch) -> Result<()> {
        let mut rows = self.rows.write();
        rows.apply(delta)?;
        self.applied.fetch_add(delta.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows.read().len()
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        self.rows.read().bytes()
    }

    /// Everything, as it is now.
    pub fn snapshot(&self) -> AnswerSnapshot {
        AnswerSnapshot(self.rows.read().snapshot())
    }

    /// The rows under keys, each once however often its key is asked for. `keys` are the values of the key's columns, in
    /// the order of [`Answer::key`].
    pub fn lookup(&self, keys: &[ArrayRef]) -> Result<RecordBatch> {
        under(&self.rows.read(), keys)
    }

    /// [`Answer::lookup`] as far as it can be done at once: nothing when a step has been changing the answer for longer
    /// than `patience`, or when rows have to be read from the store.
    pub fn lookup_at_hand(&self, keys: &[ArrayRef], patience: Duration) -> Result<Option<RecordBatch>> {
        let Some(rows) = self.rows.try_read_for(patience) else { return Ok(None) };
        if !rows.is_in_memory() {
            return Ok(None);
        }
        under(&rows, keys).map(Some)
    }
}

fn under(rows: &Arrangement, keys: &[ArrayRef]) -> Result<RecordBatch> {
    let encoded = rows.key().encode_values(keys, keys.first().map_or(0, |values| values.len()))?;
    if encoded.len() == 1 {
        return rows.rows_under(&encoded);
    }
    let mut asked = HashSet::with_capacity(encoded.len());
    let found = rows.find_keys(encoded.iter().filter(|key| asked.insert(*key)));
    rows.gather(&found.rows)
}

impl AnswerSnapshot {
    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    /// The rows, all at once.
    pub fn batches(self) -> Result<Vec<RecordBatch>> {
        self.0.batches()
    }

    /// The rows, batch by batch: one that memory does not hold is read when its turn comes.
    pub fn parts(self) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        self.0.parts()
    }
}
