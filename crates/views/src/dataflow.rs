//! Owns a compiled query and its answer.

mod checkpoint;
mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use parking_lot::{Mutex, RwLock};

use crate::Result;
use crate::arrangement::{Arrangement, Memory, Snapshot};
use crate::compile::{Compiler, InputKind, ViewInput, detached, refuse, stable};
use crate::delta::{consolidate, weighted_schema};
use crate::key::Key;
use crate::node::{Node, Turn};

use checkpoint::Progress;

pub use crate::node::Refused;
pub use checkpoint::CheckpointStats;

/// What a step came to.
#[derive(Debug)]
pub struct StepOutput {
    /// How the answer changed: its columns and the weight; equal rows added up.
    pub delta: RecordBatch,
    /// Rows that an expression failed on; they were left out.
    pub refused: Vec<Refused>,
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
    progress: Progress,
    memory: Arc<Memory>,
}

impl Dataflow {
    /// Compiles a plan as SQL made it, before any optimizer. `kind_of` says how the tables it names change, and `None`
    /// for those a view cannot read.
    pub async fn compile(
        plan: LogicalPlan,
        state: &SessionState,
        kind_of: &(dyn Fn(&TableReference) -> Option<InputKind> + Sync),
    ) -> Result<Self> {
        refuse::volatile(&plan)?;
        refuse::several_rows(&plan)?;
        let state = suited(state);
        let plan = state.optimize(&stable::ordered(detached(plan)?)?)?;
        let mut compiler = Compiler::new(&state, kind_of);
        let part = compiler.compile(&plan).await?;
        let root = compiler.seal(part).await?;
        let inputs = compiler.inputs;
        let schema: SchemaRef = Arc::new(root.schema.as_arrow().clone());
        let key_columns = root.key.clone().unwrap_or_default();
        let rows = Arrangement::new(Arc::clone(&schema), Key::of_columns(&schema, &key_columns)?, !root.grows)?;
        let mut flow = Self {
            root: root.node,
            inputs,
            delta_schema: weighted_schema(&schema),
            answer: Arc::new(Answer { rows: RwLock::new(rows), applied: AtomicU64::default(), schema, key: root.key }),
            context: state.task_ctx(),
            steps: 0,
            grows: root.grows,
            progress: Progress::default(),
            memory: Arc::default(),
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
        let turn =
            Turn { inputs, context: Arc::clone(&self.context), first: self.steps == 0, refused: Mutex::default() };
        self.progress.begin_step()?;
        self.steps += 1;
        let delta = self.root.step(&turn).await?;
        let delta = consolidate(&self.delta_schema, &delta)?;
        self.relieve()?;
        self.progress.end_step(delta.num_rows());
        Ok(StepOutput { delta, refused: turn.refused.into_inner() })
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

/// The session's settings, with those that dataflows need: one thread per step, joins instead of subqueries, and no
/// shortcuts that look at how many rows there are.
fn suited(state: &SessionState) -> SessionState {
    let mut config = state.config().clone();
    let options = config.options_mut();
    options.execution.target_partitions = 1.try_into().unwrap_or(options.execution.target_partitions);
    options.execution.skip_partial_aggregation_probe_rows_threshold = usize::MAX;
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    options.optimizer.enable_dynamic_filter_pushdown = false;
    SessionStateBuilder::new_from_existing(state.clone())
        .with_config(config)
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

    /// The rows under keys, given as rows that have the key's columns in the answer's places; other columns are not
    /// looked at.
    pub fn lookup(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        let rows = self.rows.read();
        let keys = rows.key().encode(keys)?;
        rows.rows_under(&keys)
    }
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
