//! Owns the plan node that reads a pinned log view.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use millstream_buffer::{LogBatch, LogReader, LogView};
use millstream_catalog::Positions;
use parking_lot::Mutex;

use super::pruning::LogRanges;
use super::{BatchAdapter, StreamSnapshot};

/// Batches below this many rows are merged into ones of [`BATCH_ROWS`].
const SMALL_ROWS: usize = 4096;
const BATCH_ROWS: usize = 8192;

/// Reads the rows of a log view from a seam to its end.
pub(crate) struct LogScanExec {
    name: String,
    view: Arc<dyn LogView>,
    seam: Positions,
    output: SchemaRef,
    source: Source,
    rows: usize,
    pruned_rows: usize,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Where the rows are.
enum Source {
    /// In memory, spread over the plan's partitions.
    Resident(Vec<Vec<LogBatch>>),
    /// On disk: one partition, read in order.
    Disk(Option<Arc<PruningPredicate>>),
}

impl LogScanExec {
    /// A scan of what `snapshot` shows of the log, as `output` columns. The predicate (over its own schema) only
    /// skips batches; rows are filtered by whoever reads the scan.
    pub(crate) fn new(
        name: String,
        snapshot: &StreamSnapshot,
        output: SchemaRef,
        predicate: Option<(Arc<dyn PhysicalExpr>, SchemaRef)>,
        limit: Option<usize>,
        target_partitions: usize,
    ) -> Result<Self> {
        let predicate =
            predicate.and_then(|(expr, schema)| PruningPredicateBuilder::new().with_file_schema(schema).build(expr));
        let all = snapshot.log.end().rows_since(&snapshot.seam) as usize;
        let (source, rows) = match snapshot.log.resident(&snapshot.seam) {
            Some(batches) => {
                let kept = prune(batches, predicate.as_deref())?;
                let rows = kept.iter().map(|b| b.batch.num_rows()).sum();
                (Source::Resident(spread(kept, target_partitions)), rows)
            }
            None => (Source::Disk(predicate), all),
        };
        let partitions = match &source {
            Source::Resident(parts) => parts.len(),
            Source::Disk(_) => 1,
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&output)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            name,
            view: Arc::clone(&snapshot.log),
            seam: snapshot.seam.clone(),
            output,
            source,
            rows,
            pruned_rows: all - rows,
            limit,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    fn statistics(&self, partition: Option<usize>) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.output);
        let rows = match (&self.source, partition) {
            (Source::Resident(parts), Some(p)) => {
                parts.get(p).map_or(0, |part| part.iter().map(|b| b.batch.num_rows()).sum())
            }
            _ => self.rows,
        };
        statistics.num_rows = match &self.source {
            Source::Disk(Some(_)) => Precision::Inexact(rows),
            _ => Precision::Exact(rows),
        };
        statistics
    }
}

fn prune(batches: Vec<LogBatch>, predicate: Option<&PruningPredicate>) -> Result<Vec<LogBatch>> {
    let Some(predicate) = predicate else { return Ok(batches) };
    let keep = predicate.prune(&LogRanges(&batches))?;
    Ok(batches.into_iter().zip(keep).filter_map(|(b, keep)| keep.then_some(b)).collect())
}

/// Splits into runs of about the same number of rows, keeping the order within each.
fn spread(batches: Vec<LogBatch>, target: usize) -> Vec<Vec<LogBatch>> {
    let rows: usize = batches.iter().map(|b| b.batch.num_rows()).sum();
    if rows < 4 * BATCH_ROWS || target < 2 {
        return vec![batches];
    }
    let share = rows.div_ceil(target);
    let mut parts = vec![Vec::new()];
    let mut filled = 0;
    for batch in batches {
        if filled >= share && parts.len() < target {
            parts.push(Vec::new());
            filled = 0;
        }
        filled += batch.batch.num_rows();
        if let Some(last) = parts.last_mut() {
            last.push(batch);
        }
    }
    parts
}

impl ExecutionPlan for LogScanExec {
    fn name(&self) -> &str {
        "LogScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("LogScanExec has no children") }
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let adapter = BatchAdapter::new(Arc::clone(&self.output));
        match &self.source {
            Source::Resident(parts) => {
                let batches = parts.get(partition).cloned().unwrap_or_default();
                let reader: LogReader = Box::new(batches.into_iter().map(Ok));
                let rows = Rows::new(reader, adapter, None, self.limit, metrics);
                let stream = futures::stream::iter(rows);
                let stream = RecordBatchStreamAdapter::new(Arc::clone(&self.output), stream.fuse());
                Ok(Box::pin(datafusion::physical_plan::coop::cooperative(stream)))
            }
            Source::Disk(predicate) => {
                let reader = self.view.read(&self.seam).map_err(external)?;
                let rows = Rows::new(reader, adapter, predicate.clone(), self.limit, metrics);
                Ok(read_in_background(rows, Arc::clone(&self.output)))
            }
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        args: &datafusion::physical_plan::statistics::StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::new(self.statistics(args.partition())))
    }
}

/// Reads where blocking is allowed, two batches ahead of the consumer.
fn read_in_background(rows: Rows, schema: SchemaRef) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStream::builder(schema, 2);
    let output = builder.tx();
    builder.spawn_blocking(move || {
        for batch in rows {
            if output.blocking_send(batch).is_err() {
                break;
            }
        }
        Ok(())
    });
    builder.build()
}

/// Turns a log reader into batches of the output schema, merging small ones.
struct Rows {
    reader: Mutex<LogReader>,
    adapter: BatchAdapter,
    predicate: Option<Arc<PruningPredicate>>,
    coalescer: BatchCoalescer,
    remaining: usize,
    done: bool,
    metrics: BaselineMetrics,
}

impl Rows {
    fn new(
        reader: LogReader,
        adapter: BatchAdapter,
        predicate: Option<Arc<PruningPredicate>>,
        limit: Option<usize>,
        metrics: BaselineMetrics,
    ) -> Self {
        let coalescer =
            BatchCoalescer::new(adapter.output(), BATCH_ROWS).with_biggest_coalesce_batch_size(Some(SMALL_ROWS));
        let remaining = limit.unwrap_or(usize::MAX);
        Self { reader: Mutex::new(reader), adapter, predicate, coalescer, remaining, done: false, metrics }
    }

    fn step(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.coalescer.next_completed_batch() {
                return Ok(Some(batch));
            }
            if self.done {
                return Ok(None);
            }
            let next = if self.remaining == 0 { None } else { self.reader.get_mut().next() };
            match next {
                Some(log) => self.take(log.map_err(external)?)?,
                None => {
                    self.done = true;
                    self.coalescer.finish_buffered_batch()?;
                }
            }
        }
    }

    fn take(&mut self, log: LogBatch) -> Result<()> {
        let kept = prune(vec![log], self.predicate.as_deref())?;
        for log in &kept {
            let mut batch = self.adapter.adapt(log)?;
            if batch.num_rows() > self.remaining {
                batch = batch.slice(0, self.remaining);
            }
            self.remaining -= batch.num_rows();
            self.coalescer.push_batch(batch)?;
        }
        Ok(())
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let timer = self.metrics.elapsed_compute().clone();
        let _timer = timer.timer();
        match self.step() {
            Ok(Some(batch)) => {
                self.metrics.record_output(batch.num_rows());
                Some(Ok(batch))
            }
            Ok(None) => None,
            Err(error) => {
                self.done = true;
                self.remaining = 0;
                Some(Err(error))
            }
        }
    }
}

fn external(error: millstream_buffer::Error) -> DataFusionError {
    DataFusionError::External(Box::new(crate::Error::from(error)))
}

impl DisplayAs for LogScanExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.source {
            Source::Resident(_) => "memory",
            Source::Disk(_) => "disk",
        };
        write!(f, "LogScanExec: stream={}, from={place}, rows={}", self.name, self.rows)?;
        if self.pruned_rows > 0 {
            write!(f, ", pruned_rows={}", self.pruned_rows)?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for LogScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogScanExec").field("stream", &self.name).field("rows", &self.rows).finish()
    }
}
