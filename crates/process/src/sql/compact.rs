//! Owns batches that hold no more than they show, for queries that have little memory.
//!
//! Rows that a scan gives are often a window into something larger: a page of a file, a batch of the log. An operator
//! that keeps such rows is charged for all of it, and a sort spills after a few batches, or has no room for one. Behind
//! scans, and before sorts, stands a node that cuts large batches and copies what is a window.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt, stream};

/// A column that holds this many times what it shows is copied,
const TIMES: usize = 2;
/// if it is more than a few bytes.
const FEW_BYTES: usize = 8 << 10;
/// A batch takes no more than this part of a share of the memory.
const PART_OF_SHARE: usize = 32;

/// Lets scans give, and sorts take, batches that hold no more than they show.
#[derive(Debug)]
pub(super) struct CompactRows;

impl PhysicalOptimizerRule for CompactRows {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            if node.children().is_empty() {
                return Ok(Transformed::yes(Arc::new(CompactExec(node)) as Arc<dyn ExecutionPlan>));
            }
            match node.downcast_ref::<SortExec>().map(SortExec::input) {
                Some(input) if input.downcast_ref::<CompactExec>().is_none() => {
                    let input = Arc::new(CompactExec(Arc::clone(input)));
                    Ok(Transformed::yes(replace_children_if_necessary(node, vec![input])?))
                }
                _ => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "compact_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Copies rows out of what is larger than they are.
#[derive(Debug)]
struct CompactExec(Arc<dyn ExecutionPlan>);

impl DisplayAs for CompactExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompactExec")
    }
}

impl ExecutionPlan for CompactExec {
    fn name(&self) -> &str {
        "CompactExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.0.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.0]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("rows are compacted of one input") };
        Ok(Arc::new(Self(input)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let most = context.session_config().batch_size().max(1);
        let most_bytes = match context.memory_pool().memory_limit() {
            MemoryLimit::Finite(share) => share / PART_OF_SHARE,
            _ => usize::MAX,
        };
        let rows = self.0.execute(partition, context)?;
        let schema = rows.schema();
        let pieces = rows.map_ok(move |batch| {
            let most = most.min(rows_within(&batch, most_bytes));
            stream::iter(pieces(&batch, most)).map(|piece| compacted(&piece))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, pieces.try_flatten())))
    }
}

/// How many rows of a batch have so many bytes, as rows are on average.
fn rows_within(batch: &RecordBatch, bytes: usize) -> usize {
    let shown: usize = batch.columns().iter().map(shown_bytes).filter(|bytes| *bytes < usize::MAX).sum();
    (bytes / (shown / batch.num_rows().max(1)).max(1)).max(1)
}

/// The batch in pieces of so many rows at most.
fn pieces(batch: &RecordBatch, most: usize) -> Vec<RecordBatch> {
    let starts = (0..batch.num_rows()).step_by(most);
    starts.map(|start| batch.slice(start, most.min(batch.num_rows() - start))).collect()
}

fn compacted(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch.columns().iter().map(|column| match holds_more_than_it_shows(column) {
        true => copied(column),
        false => Ok(Arc::clone(column)),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns.collect::<Result<_>>()?, &options)?)
}

fn holds_more_than_it_shows(column: &ArrayRef) -> bool {
    column.get_array_memory_size() > shown_bytes(column).saturating_mul(TIMES).saturating_add(FEW_BYTES)
}

/// Bytes of the values that a column shows.
fn shown_bytes(column: &ArrayRef) -> usize {
    let views = column.len() * size_of::<u128>();
    match column.data_type() {
        DataType::Utf8View => views + column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => views + column.as_binary_view().total_buffer_bytes_used(),
        _ => column.to_data().get_slice_memory_size().unwrap_or(usize::MAX),
    }
}

fn copied(column: &ArrayRef) -> Result<ArrayRef> {
    let all: UInt32Array = (0..column.len() as u32).collect();
    let column = take(column, &all, None)?;
    Ok(match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => column,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryViewArray, Int64Array, ListArray, StringArray, StringViewArray};
    use arrow::datatypes::Int32Type;
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::prelude::SessionConfig;

    use super::*;

    fn rows(count: usize) -> RecordBatch {
        let texts: Vec<String> = (0..count).map(|i| format!("text {i} of more than twelve bytes")).collect();
        let numbers = (0..count as i64).map(|i| (i % 3 != 0).then_some(i));
        let lists = texts.iter().map(|t| Some(vec![Some(t.len() as i32), None]));
        let columns: [(&str, ArrayRef); 5] = [
            ("n", Arc::new(Int64Array::from_iter(numbers))),
            ("s", Arc::new(StringArray::from_iter_values(&texts))),
            ("v", Arc::new(StringViewArray::from_iter_values(&texts))),
            ("b", Arc::new(BinaryViewArray::from_iter_values(&texts))),
            ("l", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[test]
    fn a_window_is_copied_and_what_is_shown_whole_is_not() {
        let batch = rows(10_000);
        assert_eq!(compacted(&batch).unwrap().get_array_memory_size(), batch.get_array_memory_size());
        let window = batch.slice(4_000, 100);
        let copy = compacted(&window).unwrap();
        assert_eq!(copy, window);
        // What is copied of a list keeps some room.
        for (column, of) in copy.columns().iter().zip(window.columns()).take(4) {
            let (held, before) = (column.get_array_memory_size(), of.get_array_memory_size());
            assert!(held < 20_000, "{held} bytes of {}, which held {before}", column.data_type());
        }
    }

    #[test]
    fn a_batch_has_as_many_rows_as_fit_and_one_at_least() {
        let batch = rows(1_000);
        let a_row = batch.columns().iter().map(shown_bytes).sum::<usize>() / 1_000;
        assert_eq!([0, a_row * 10, usize::MAX].map(|bytes| rows_within(&batch, bytes).min(5_000)), [1, 10, 5_000]);
    }

    #[tokio::test]
    async fn large_batches_are_cut() {
        let batch = rows(2_500);
        let input = MemorySourceConfig::try_new_exec(&[vec![batch.clone()]], batch.schema(), None).unwrap();
        let context = TaskContext::default().with_session_config(SessionConfig::new().with_batch_size(1_000));
        let given: Vec<_> = CompactExec(input).execute(0, Arc::new(context)).unwrap().try_collect().await.unwrap();
        assert_eq!(given.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        assert_eq!(arrow::compute::concat_batches(&batch.schema(), &given).unwrap(), batch);
    }
}
