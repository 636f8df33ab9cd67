//! Owns the sorting of rows on their way to files: in bounded memory, with the rest on the disk.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::{SessionConfig, SessionContext};
use parking_lot::Mutex;

/// Memory of one sort; rows beyond it lie in temporary files.
const SORT_MEMORY_BYTES: usize = 256 << 20;

/// A stream that a plan reads once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl std::fmt::Debug for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let taken = self.rows.lock().take();
        taken.unwrap_or_else(|| Box::pin(datafusion::physical_plan::EmptyRecordBatchStream::new(self.schema.clone())))
    }
}

/// The rows in the order of columns, NULL first; columns that the rows lack are left out.
pub(crate) fn sorted(rows: SendableRecordBatchStream, columns: &[String]) -> Result<SendableRecordBatchStream> {
    let schema = rows.schema();
    let there = columns.iter().filter(|name| schema.index_of(name).is_ok());
    let keys = there
        .map(|name| Ok(PhysicalSortExpr::new(col(name, &schema)?, SortOptions::new(false, true))))
        .collect::<Result<Vec<_>>>()?;
    let Some(order) = LexOrdering::new(keys) else { return Ok(rows) };
    let once = Arc::new(Once { schema: schema.clone(), rows: Mutex::new(Some(rows)) });
    let source = Arc::new(StreamingTableExec::try_new(schema, vec![once], None, [], false, None)?);
    let env = RuntimeEnvBuilder::new().with_memory_limit(SORT_MEMORY_BYTES, 1.0).build_arc()?;
    let session = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), env);
    SortExec::new(order, source).execute(0, session.task_ctx())
}
