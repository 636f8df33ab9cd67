//! Owns how a view reads the part of a stream's history that only the lake has: range by range of its offsets.
//!
//! ```text
//! files of the lake   ├─────────────┤├──────┤├────────────────────┤
//! position ───────────┘                                           log ───►
//! ranges               1             2       3                     a border of files: read whole, nothing is looked at
//!                      1      2      3       4      5      6       in order, or where files overlap: filtered
//! ```

use std::sync::Arc;

use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use millstream_catalog::{OFFSET_COLUMN, PARTITION_COLUMN, Positions};
use millstream_store::OffsetRange;

use super::input::StreamInput;
use crate::engine::Shared;
use crate::read::{ReadPoint, StreamTable};
use crate::{Error, Result};

/// How many times the rows that were asked for a range may have, so that it ends where files do.
const STRETCH: u64 = 8;

impl StreamInput {
    /// Rows from the input's position on that only the lake has, about `limit` of them, and the position behind them:
    /// the rows of each partition up to it, no others. `in_order` brings them by partition and offset; without it a
    /// range ends where files do, if it can. Batches go through [`StreamInput::noted`]; the watermark is held until
    /// [`StreamInput::taken_to`].
    pub(super) async fn history(
        &mut self,
        shared: &Arc<Shared>,
        limit: u64,
        in_order: bool,
    ) -> Result<(SendableRecordBatchStream, Positions)> {
        self.hold_watermark();
        let point = Arc::new(ReadPoint::default());
        let snapshot = point.snapshot(shared, self.stream()).await?;
        let files = snapshot.lake.as_ref().filter(|_| !in_order).and_then(|(_, lake)| lake.offset_ranges());
        // Other programs may have added rows of partitions that the stream does not have: they are no input.
        let own = |file: &OffsetRange| (file.partition as usize) < self.position().0.len();
        let files = files.map(|files| files.into_iter().filter(own).collect::<Vec<_>>());
        let border = files.and_then(|files| border(&files, self.position(), limit));
        let whole_files = border.is_some();
        let end = border.unwrap_or_else(|| within(self.position(), snapshot.log.start(), limit));
        let mut state = shared.context()?.state();
        state.config_mut().set_extension(point);
        let table = StreamTable::new(Arc::clone(shared), Arc::clone(self.stream()), true).of_lake();
        let wrap = |e| Error::from_datafusion(e, "");
        let (mut columns, width) = self.columns_of(&table)?;
        if whole_files {
            columns.truncate(width);
        }
        let filter = between(self.position(), &end);
        let plan = table.scan(&state, Some(&columns), std::slice::from_ref(&filter), None).await.map_err(wrap)?;
        let plan = spread(plan, &state).map_err(wrap)?;
        let plan = if whole_files { plan } else { filtered(plan, filter, &state).map_err(wrap)? };
        let plan = if in_order { ordered(plan).map_err(wrap)? } else { plan };
        let plan = first_columns(plan, width).map_err(wrap)?;
        Ok((execute_stream(plan, state.task_ctx()).map_err(wrap)?, end))
    }

    /// The table's columns that are read: those that go on, as many as is said, then partition and offset. Those that go
    /// on are the input's, and the partition where its watermark is kept.
    fn columns_of(&self, table: &StreamTable) -> Result<(Vec<usize>, usize)> {
        let place = |name: &str| table.schema().index_of(name).map_err(|e| Error::from_datafusion(e.into(), ""));
        let mut columns = self.output().fields().iter().map(|f| place(f.name())).collect::<Result<Vec<_>>>()?;
        let partition = place(PARTITION_COLUMN)?;
        if self.has_watermark() && !columns.contains(&partition) {
            columns.push(partition);
        }
        let width = columns.len();
        for name in [PARTITION_COLUMN, OFFSET_COLUMN] {
            let index = place(name)?;
            if !columns.contains(&index) {
                columns.push(index);
            }
        }
        Ok((columns, width))
    }
}

/// The position that about `limit` rows lead to, such that every file lies before it, behind it or before `from`;
/// `None` where there is none, or it is far away.
fn border(files: &[OffsetRange], from: &Positions, limit: u64) -> Option<Positions> {
    let mut waiting: Vec<&OffsetRange> = files.iter().filter(|f| f.end > from.get(f.partition)).collect();
    waiting.sort_unstable_by_key(|f| (f.partition, f.start));
    let partitions = waiting.chunk_by(|a, b| a.partition == b.partition);
    let share = (limit / partitions.clone().count().max(1) as u64).max(1);
    let mut end = from.clone();
    for files in partitions {
        let partition = files.first()?.partition;
        end.set(partition, border_of(files, from.get(partition), share)?);
    }
    (!waiting.is_empty()).then_some(end)
}

/// The same for the files of one partition, in order.
fn border_of(files: &[&OffsetRange], from: u64, limit: u64) -> Option<u64> {
    let (mut reached, mut border) = (from, None);
    for (i, file) in files.iter().enumerate() {
        if file.start < from {
            return None;
        }
        reached = reached.max(file.end);
        let is_border = files.get(i + 1).is_none_or(|next| reached <= next.start);
        if is_border {
            border = Some(reached);
        }
        if is_border && reached - from >= limit {
            break;
        }
    }
    border.filter(|border| border - from <= limit.saturating_mul(STRETCH))
}

/// The position that `limit` rows lead to, from where the log no longer has them; not beyond `start`, where it has.
fn within(from: &Positions, start: &Positions, limit: u64) -> Positions {
    let partitions = 0..start.0.len() as u32;
    let behind = partitions.clone().filter(|&p| from.get(p) < start.get(p)).count() as u64;
    let share = (limit / behind.max(1)).max(1);
    let mut end = from.clone();
    for partition in partitions.filter(|&p| from.get(p) < start.get(p)) {
        end.set(partition, start.get(partition).min(from.get(partition) + share));
    }
    end
}

/// Rows at or behind `start` and before `end`, in the partitions where there are such.
fn between(start: &Positions, end: &Positions) -> Expr {
    let partitions = end.0.iter().enumerate().filter(|(p, end)| start.get(*p as u32) < **end);
    let per_partition = partitions.map(|(partition, end)| {
        let from = start.get(partition as u32);
        let offsets = col(OFFSET_COLUMN).gt_eq(lit(from as i64)).and(col(OFFSET_COLUMN).lt(lit(*end as i64)));
        col(PARTITION_COLUMN).eq(lit(partition as i32)).and(offsets)
    });
    per_partition.reduce(Expr::or).unwrap_or_else(|| lit(false))
}

/// The same rows, read by several threads where files are large enough.
fn spread(plan: Arc<dyn ExecutionPlan>, state: &dyn Session) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let several = plan.repartitioned(state.config().target_partitions(), state.config_options())?;
    Ok(several.unwrap_or(plan))
}

/// The rows for which a filter is true; parts of files go by their statistics.
fn filtered(
    plan: Arc<dyn ExecutionPlan>,
    filter: Expr,
    state: &dyn Session,
) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let predicate = state.create_physical_expr(filter, &DFSchema::try_from(plan.schema())?)?;
    let filtered = Arc::new(FilterExecBuilder::new(predicate, plan).build()?);
    FilterPushdown::new().optimize(filtered, state.config_options())
}

/// The rows by partition and offset.
fn ordered(plan: Arc<dyn ExecutionPlan>) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let by = [PARTITION_COLUMN, OFFSET_COLUMN].into_iter().map(|name| {
        let column = PhysicalColumn::new_with_schema(name, &plan.schema())?;
        Ok(PhysicalSortExpr::new_default(Arc::new(column)))
    });
    let by = by.collect::<datafusion::error::Result<Vec<_>>>()?;
    let Some(order) = LexOrdering::new(by) else { return Ok(plan) };
    Ok(Arc::new(SortExec::new(order, Arc::new(CoalescePartitionsExec::new(plan)))))
}

/// The first columns of a plan.
fn first_columns(plan: Arc<dyn ExecutionPlan>, width: usize) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let columns = schema.fields().iter().take(width).enumerate().map(|(i, field)| ProjectionExpr {
        expr: Arc::new(PhysicalColumn::new(field.name(), i)),
        alias: field.name().clone(),
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(partition: u32, start: u64, end: u64) -> OffsetRange {
        OffsetRange { partition, start, end }
    }

    fn border_at(files: &[OffsetRange], from: &[u64], limit: u64) -> Option<Vec<u64>> {
        border(files, &Positions(from.to_vec()), limit).map(|end| end.0)
    }

    #[test]
    fn a_range_ends_where_files_do() {
        let files = [file(0, 10, 20), file(0, 0, 10), file(0, 20, 30)];
        assert_eq!(border_at(&files, &[0], 5), Some(vec![10]));
        assert_eq!(border_at(&files, &[0], 15), Some(vec![20]));
        assert_eq!(border_at(&files, &[10], 100), Some(vec![30]));
    }

    #[test]
    fn files_that_overlap_are_read_together_or_not_as_a_whole() {
        let files = [file(0, 0, 10), file(0, 5, 30), file(0, 40, 50)];
        assert_eq!(border_at(&files, &[0], 5), Some(vec![30]), "offsets that went with their rows are no matter");
        assert_eq!(border_at(&files, &[0], 1), None, "too far");
        assert_eq!(border_at(&files, &[7], 5), None, "begins within files");
    }

    #[test]
    fn each_partition_has_its_share() {
        let files = [file(0, 0, 10), file(1, 0, 4), file(1, 4, 9), file(2, 0, 3)];
        assert_eq!(border_at(&files, &[0, 0, 3], 8), Some(vec![10, 4, 3]));
        assert_eq!(border_at(&files, &[10, 9, 3], 8), None, "nothing is left");
    }
}
