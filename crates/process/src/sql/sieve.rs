//! Owns the use of what joins learn while they run: a scan's rows that cannot find a partner go before anything is done
//! with them.
//!
//! A hash join that has read its build side knows the keys that can match, and hands them to the scans of the other
//! side as a filter. The engine uses it to leave out files, row groups and pages, whose bounds rarely say much; here
//! it also goes over the rows, before they are joined, spread over partitions or aggregated. Where nearly all rows stay,
//! the work is saved: a filter that let most of a batch through rests for some batches, longer each time.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{BatchCoalescer, filter_record_batch, prep_null_mask_filter};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{exec_err, internal_err};
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;

/// A batch of which more than this share stays was not worth the look: a look at many keys costs about as much as what it
/// saves, to spread the rows over partitions and to join them.
const WORTHWHILE: f64 = 0.15;
/// The most batches that a filter rests.
const LONGEST_REST: usize = 64;

/// Puts a sieve behind every scan that a join hands its keys to.
#[derive(Debug)]
pub(crate) struct SieveBehindScans;

impl PhysicalOptimizerRule for SieveBehindScans {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|node| {
            let scan = match node.downcast_ref::<FilterExec>() {
                Some(filter) => filter.input(),
                None => &node,
            };
            let Some(filters) = learnt_filters(scan)? else { return Ok(Transformed::no(node)) };
            let schema = node.schema();
            let known =
                |f: &Arc<dyn PhysicalExpr>| collect_columns(f).iter().all(|c| schema.index_of(c.name()).is_ok());
            let filters = filters.into_iter().filter(known).map(|f| reassign_expr_columns(f, &schema));
            let filters = filters.collect::<Result<Vec<_>>>()?;
            if filters.is_empty() {
                return Ok(Transformed::no(node));
            }
            let sieve: Arc<dyn ExecutionPlan> = Arc::new(SieveExec::new(node, filters));
            Ok(Transformed::new(sieve, true, TreeNodeRecursion::Jump))
        })
        .data()
    }

    fn name(&self) -> &str {
        "sieve_behind_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The filters that a scan of Parquet files was handed for the length of the query, if it gives columns as they are and
/// does not go over its rows by itself.
fn learnt_filters(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Vec<Arc<dyn PhysicalExpr>>>> {
    let Some(scan) = node.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    let Some((config, source)) = scan.downcast_to_file_source::<ParquetSource>() else { return Ok(None) };
    let Some(predicate) = config.file_source().filter() else { return Ok(None) };
    if source.table_parquet_options().global.pushdown_filters || !gives_columns(config) {
        return Ok(None);
    }
    let learnt = |f: &&Arc<dyn PhysicalExpr>| f.downcast_ref::<DynamicFilterPhysicalExpr>().is_some();
    let filters: Vec<_> = split_conjunction(&predicate).into_iter().filter(learnt).cloned().collect();
    Ok((!filters.is_empty()).then_some(filters))
}

/// Whether each column that a scan gives is the file's column of that name.
fn gives_columns(config: &FileScanConfig) -> bool {
    let Some(projection) = config.file_source().projection() else { return true };
    projection.iter().all(|p| p.expr.downcast_ref::<Column>().is_some_and(|c| c.name() == p.alias))
}

/// Leaves out rows for which one of the filters is not true.
#[derive(Debug)]
struct SieveExec {
    input: Arc<dyn ExecutionPlan>,
    filters: Vec<Arc<dyn PhysicalExpr>>,
    metrics: ExecutionPlanMetricsSet,
}

impl SieveExec {
    fn new(input: Arc<dyn ExecutionPlan>, filters: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        Self { input, filters, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for SieveExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SieveExec: ")?;
        for (i, filter) in self.filters.iter().enumerate() {
            write!(f, "{}{filter}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl ExecutionPlan for SieveExec {
    fn name(&self) -> &str {
        "SieveExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for filter in &self.filters {
            if f(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("a sieve has one input") };
        Ok(Arc::new(Self::new(input, self.filters.clone())))
    }

    /// What was learnt in one run says nothing about the next.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.input), vec![])))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        if self.filters.is_empty() {
            return Ok(input);
        }
        let schema = input.schema();
        let sieve = Sieve {
            meshes: self.filters.iter().cloned().map(Mesh::new).collect(),
            gathered: BatchCoalescer::new(Arc::clone(&schema), context.session_config().batch_size()),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            looked: MetricBuilder::new(&self.metrics).counter("rows_looked_at", partition),
            time: MetricBuilder::new(&self.metrics).subset_time("filter_time", partition),
            ended: false,
        };
        let rows = futures::stream::try_unfold((input, sieve), |(mut input, mut sieve)| async move {
            loop {
                if let Some(batch) = sieve.gathered.next_completed_batch() {
                    sieve.baseline.record_output(batch.num_rows());
                    return Ok(Some((batch, (input, sieve))));
                }
                if sieve.ended {
                    return Ok(None);
                }
                match input.next().await {
                    Some(batch) => sieve.take(batch?)?,
                    None => {
                        sieve.ended = true;
                        sieve.gathered.finish_buffered_batch()?;
                    }
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The sieve of one partition.
struct Sieve {
    meshes: Vec<Mesh>,
    gathered: BatchCoalescer,
    baseline: BaselineMetrics,
    looked: Count,
    time: Time,
    ended: bool,
}

impl Sieve {
    fn take(&mut self, mut batch: RecordBatch) -> Result<()> {
        let time = self.time.clone();
        let _timer = time.timer();
        for mesh in &mut self.meshes {
            if batch.num_rows() == 0 {
                return Ok(());
            }
            if mesh.rests == 0 {
                self.looked.add(batch.num_rows());
            }
            batch = mesh.sift(batch)?;
        }
        Ok(self.gathered.push_batch(batch)?)
    }
}

/// One filter, and whether it is worth its cost.
struct Mesh {
    filter: Arc<dyn PhysicalExpr>,
    /// Batches that still pass without a look.
    rests: usize,
    /// The length of the next rest.
    next_rest: usize,
}

impl Mesh {
    fn new(filter: Arc<dyn PhysicalExpr>) -> Self {
        Self { filter, rests: 0, next_rest: 1 }
    }

    fn sift(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.rests > 0 {
            self.rests -= 1;
            return Ok(batch);
        }
        let stays = self.filter.evaluate(&batch)?.into_array(batch.num_rows())?;
        let Some(stays) = stays.as_boolean_opt() else { return exec_err!("a filter gives {}", stays.data_type()) };
        let stays = if stays.null_count() > 0 { prep_null_mask_filter(stays) } else { stays.clone() };
        let count = stays.true_count();
        if count as f64 > WORTHWHILE * batch.num_rows() as f64 {
            self.rests = self.next_rest;
            self.next_rest = (self.next_rest * 2).min(LONGEST_REST);
        } else {
            self.next_rest = 1;
        }
        Ok(if count == batch.num_rows() { batch } else { filter_record_batch(&batch, &stays)? })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{binary, col, lit};
    use futures::TryStreamExt;

    use super::*;

    fn numbers(values: Vec<Option<i64>>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap()
    }

    fn below(limit: i64, batch: &RecordBatch) -> Arc<dyn PhysicalExpr> {
        let schema = batch.schema();
        binary(col("n", &schema).unwrap(), Operator::Lt, lit(limit), &schema).unwrap()
    }

    #[tokio::test]
    async fn rows_for_which_a_filter_is_false_or_null_go() {
        let batch = numbers(vec![Some(1), None, Some(30), Some(2)]);
        let filters = vec![below(10, &batch), below(2, &batch)];
        let input = MemorySourceConfig::try_new_exec(&[vec![batch.clone()]], batch.schema(), None).unwrap();
        let sieve = SieveExec::new(input, filters);
        let rows: Vec<_> = sieve.execute(0, Arc::default()).unwrap().try_collect().await.unwrap();
        assert_eq!(rows, [numbers(vec![Some(1)])]);
    }

    #[test]
    fn a_filter_that_lets_most_rows_through_rests_longer_each_time() {
        let most = numbers((0..10).map(Some).collect());
        let mut mesh = Mesh::new(below(9, &most));
        let looks: Vec<bool> = (0..12).map(|_| mesh.sift(most.clone()).unwrap().num_rows() == 9).collect();
        let looked: Vec<usize> = (0..12).filter(|i| looks[*i]).collect();
        assert_eq!(looked, [0, 2, 5, 10]);
        let few = numbers((8..100).map(Some).collect());
        mesh.rests = 0;
        assert_eq!(mesh.sift(few.clone()).unwrap().num_rows(), 1);
        assert_eq!(mesh.rests, 0);
        assert_eq!(mesh.sift(few).unwrap().num_rows(), 1);
    }
}
