//! Owns how files' rows are read to be merged: in the order of partition and offset where the files have it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::DateTime;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_catalog::{OFFSET_COLUMN, PARTITION_COLUMN};
use object_store::{ObjectMeta, ObjectStore};

use crate::history::History;
use crate::provider::FOOTER_BYTES;
use crate::state::FileEntry;
use crate::write::{SORTED_TAG, has_tag};

/// Rows decoded at a time from each file: small, since many files are open at once.
const BATCH_ROWS: usize = 2048;

/// How the rows of several files follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeOrder {
    /// One file after the other: their ranges of places do not overlap, or they were in no order.
    Concatenated,
    /// Row by row, by partition and offset.
    Interleaved,
}

impl MergeOrder {
    /// How these files, in the order of their keys, must be merged.
    pub fn of(files: &[Arc<FileEntry>]) -> Self {
        let sorted = files.iter().all(|f| has_tag(&f.add, SORTED_TAG));
        let apart = files.windows(2).all(|pair| match (one_partition(&pair[0]), one_partition(&pair[1])) {
            (Some((a, _, last)), Some((b, first, _))) => a < b || (a == b && last < first),
            _ => false,
        });
        if sorted && !apart { Self::Interleaved } else { Self::Concatenated }
    }

    /// What files are ordered by before they are merged: their first place.
    pub fn key(file: &FileEntry) -> (i64, i64, String) {
        let least = |column| file.stats.range(column).map_or(i64::MAX, |(least, _)| least);
        (least(PARTITION_COLUMN), least(OFFSET_COLUMN), file.add.path.clone())
    }
}

/// The partition and offsets of a file with rows of one partition alone.
fn one_partition(file: &FileEntry) -> Option<(i64, i64, i64)> {
    let (least, most) = file.stats.range(PARTITION_COLUMN)?;
    let (first, last) = file.stats.range(OFFSET_COLUMN)?;
    (least == most).then_some((least, first, last))
}

/// A session that can read the lake, with small batches and no more threads than one merge needs.
pub(crate) fn merge_session(url: &ObjectStoreUrl, store: &Arc<dyn ObjectStore>) -> SessionContext {
    let session =
        SessionContext::new_with_config(SessionConfig::new().with_batch_size(BATCH_ROWS).with_target_partitions(1));
    session.runtime_env().register_object_store(url.as_ref(), store.clone());
    session
}

/// A plan of one output partition with all rows of the files, in the files' schema.
pub(crate) fn merge_plan(
    url: &ObjectStoreUrl,
    history: &History,
    file_schema: SchemaRef,
    files: &[Arc<FileEntry>],
    order: MergeOrder,
) -> Result<Arc<dyn ExecutionPlan>> {
    let files = files.iter().map(|f| partitioned_file(history, f)).collect::<Result<Vec<_>>>()?;
    let groups = match order {
        MergeOrder::Concatenated => vec![FileGroup::new(files)],
        MergeOrder::Interleaved => files.into_iter().map(|f| FileGroup::new(vec![f])).collect(),
    };
    let source = ParquetSource::new(file_schema.clone()).with_metadata_size_hint(FOOTER_BYTES);
    let config = FileScanConfigBuilder::new(url.clone(), Arc::new(source))
        .with_file_groups(groups)
        .with_preserve_order(true)
        .build();
    let scan = DataSourceExec::from_data_source(config);
    if order == MergeOrder::Concatenated {
        return Ok(scan);
    }
    let place = [PARTITION_COLUMN, OFFSET_COLUMN]
        .into_iter()
        .map(|name| Ok(PhysicalSortExpr::new_default(col(name, &file_schema)?)))
        .collect::<Result<Vec<_>>>()?;
    match LexOrdering::new(place) {
        Some(place) => Ok(Arc::new(SortPreservingMergeExec::new(place, scan))),
        None => Ok(scan),
    }
}

fn partitioned_file(history: &History, file: &FileEntry) -> Result<PartitionedFile> {
    let location =
        history.location(&file.add.path).map_err(|e| datafusion::error::DataFusionError::External(Box::new(e)))?;
    Ok(PartitionedFile::new_from_meta(ObjectMeta {
        location,
        last_modified: DateTime::from_timestamp_millis(file.add.modification_time).unwrap_or_default(),
        size: u64::try_from(file.add.size).unwrap_or(0),
        e_tag: None,
        version: None,
    }))
}
