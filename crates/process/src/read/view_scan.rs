//! Owns the plan node that reads a view's answer: rows under some keys, or all of it, batch by batch.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use millstream_views::AnswerSnapshot;
use parking_lot::Mutex;

/// Answers below this many rows are read by one thread.
const FEW_ROWS: usize = 64 * 1024;

/// Reads rows of a view.
pub(crate) struct ViewScanExec {
    view: String,
    source: Source,
    rows: usize,
    /// The view's columns that are read.
    columns: Option<Vec<usize>>,
    output: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Which rows.
#[derive(Debug)]
pub(crate) enum Source {
    /// Those that were found under so many keys.
    Found(RecordBatch, usize),
    /// All of them, in parts that whoever is free takes.
    Whole(AnswerSnapshot, Mutex<Vec<Run>>),
}

/// One reading of a whole answer.
#[derive(Debug)]
pub(crate) struct Run {
    parts: Parts,
    /// The partitions that read it.
    readers: Vec<usize>,
}

#[derive(Clone)]
struct Parts(Arc<Mutex<Box<dyn Iterator<Item = millstream_views::Result<RecordBatch>> + Send>>>);

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parts")
    }
}

impl ViewScanExec {
    /// The rows that were found under so many keys.
    pub(crate) fn found(
        view: String,
        rows: RecordBatch,
        keys: usize,
        schema: &SchemaRef,
        columns: Option<&Vec<usize>>,
    ) -> Result<Self> {
        let count = rows.num_rows();
        Self::new(view, Source::Found(rows, keys), count, schema, columns, 1)
    }

    /// Everything: `rows` rows.
    pub(crate) fn whole(
        view: String,
        answer: AnswerSnapshot,
        rows: usize,
        schema: &SchemaRef,
        columns: Option<&Vec<usize>>,
        target_partitions: usize,
    ) -> Result<Self> {
        let partitions = if rows < FEW_ROWS { 1 } else { target_partitions };
        Self::new(view, Source::Whole(answer, Mutex::default()), rows, schema, columns, partitions)
    }

    fn new(
        view: String,
        source: Source,
        rows: usize,
        schema: &SchemaRef,
        columns: Option<&Vec<usize>>,
        partitions: usize,
    ) -> Result<Self> {
        let output = match columns {
            Some(columns) => Arc::new(schema.project(columns)?),
            None => Arc::clone(schema),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&output)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let (columns, properties) = (columns.cloned(), Arc::new(properties));
        Ok(Self { view, source, rows, columns, output, properties, metrics: ExecutionPlanMetricsSet::new() })
    }

    fn partitions(&self) -> usize {
        self.properties.partitioning.partition_count()
    }

    /// The parts that a partition is to help read. One that comes again begins another reading.
    fn parts(&self, answer: &AnswerSnapshot, runs: &mut Vec<Run>, partition: usize) -> Parts {
        let at = runs.iter().position(|run| !run.readers.contains(&partition)).unwrap_or_else(|| {
            let parts: Box<dyn Iterator<Item = _> + Send> = Box::new(answer.clone().parts());
            runs.push(Run { parts: Parts(Arc::new(Mutex::new(parts))), readers: vec![] });
            runs.len() - 1
        });
        runs[at].readers.push(partition);
        match runs[at].readers.len() == self.partitions() {
            true => runs.remove(at).parts,
            false => runs[at].parts.clone(),
        }
    }
}

/// A batch of an answer as the plan's columns.
fn shaped(batch: &RecordBatch, columns: Option<&Vec<usize>>, output: &SchemaRef) -> Result<RecordBatch> {
    let arrays = match columns {
        Some(columns) => columns.iter().map(|column| Arc::clone(batch.column(*column))).collect(),
        None => batch.columns().to_vec(),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(output), arrays, &options)?)
}

impl ExecutionPlan for ViewScanExec {
    fn name(&self) -> &str {
        "ViewScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("ViewScanExec has no children") }
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let parts: Box<dyn Iterator<Item = Result<RecordBatch>> + Send> = match &self.source {
            Source::Found(rows, _) => Box::new(std::iter::once(Ok(rows.clone()))),
            Source::Whole(answer, runs) => {
                let parts = self.parts(answer, &mut runs.lock(), partition);
                Box::new(std::iter::from_fn(move || {
                    let part = parts.0.lock().next()?;
                    Some(part.map_err(|e| crate::Error::from(e).into()))
                }))
            }
        };
        let (columns, output) = (self.columns.clone(), Arc::clone(&self.output));
        let rows = parts.map(move |part| {
            let batch = shaped(&part?, columns.as_ref(), &output)?;
            metrics.output_rows().add(batch.num_rows());
            Ok(batch)
        });
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&self.output), futures::stream::iter(rows));
        Ok(Box::pin(datafusion::physical_plan::coop::cooperative(stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        args: &datafusion::physical_plan::statistics::StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.output);
        statistics.num_rows = match args.partition() {
            Some(_) if self.partitions() > 1 => Precision::Inexact(self.rows / self.partitions()),
            _ => Precision::Exact(self.rows),
        };
        Ok(Arc::new(statistics))
    }
}

impl DisplayAs for ViewScanExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.output.fields().iter().map(|field| field.name().as_str()).collect();
        let (view, names) = (&self.view, names.join(", "));
        match &self.source {
            Source::Found(_, keys) => {
                let keys = if *keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") };
                write!(f, "ViewScanExec: view={view}, point read of {keys}, projection=[{names}]")
            }
            Source::Whole(..) => write!(f, "ViewScanExec: view={view}, scan, projection=[{names}]"),
        }
    }
}

impl fmt::Debug for ViewScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewScanExec").field("view", &self.view).finish_non_exhaustive()
    }
}
