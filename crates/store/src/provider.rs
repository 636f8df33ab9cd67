//! Owns how a snapshot is scanned: the engine's own Parquet scan over the files that can hold matching rows.
//!
//! Statistics from the log give exact row counts, so that `count(*)` reads nothing, and let files go before any is
//! opened; row groups and pages go by the files' own statistics. Footers are kept in the engine's metadata cache.
//! Columns a file lacks are NULL, columns kept as text come back as what they are, both by the scan's own adapter.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, Result, ScalarValue, Statistics, ToDFSchema};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricType};
use object_store::ObjectMeta;

use crate::action::Protocol;
use crate::foreign::ForeignProvider;
use crate::layout::{file_schema, partition_fields, partition_value};
use crate::schema::reader_schema;
use crate::small_files::SmallFilesWhole;
use crate::staged::StagedFile;
use crate::state::{FileEntry, TableState};
use crate::table::{Inner, LakeSnapshot};
use crate::write::{OWN_TAG, has_tag};

/// How much of a file's end is fetched to find its footer: in a request of its own, more than most footers have.
pub(crate) const FOOTER_BYTES: usize = 64 << 10;

/// A provider over one snapshot of a table whose files are plain Parquet.
#[derive(Debug)]
pub(crate) struct LakeProvider {
    table: Arc<Inner>,
    snapshot: Arc<LakeSnapshot>,
    schema: SchemaRef,
    /// How the scan has the columns: those of the files, then those that name folders.
    pub(crate) scan: TableSchema,
    /// Files beside the snapshot's.
    staged: Vec<Arc<FileEntry>>,
    /// Keeps them from vacuum.
    kept: Arc<Vec<StagedFile>>,
    /// Whether the snapshot's files are read too.
    with_snapshot: bool,
}

/// Rides on each file of a plan, so that vacuum sees that the snapshot is being read.
#[derive(Debug)]
struct Lease {
    _state: Arc<TableState>,
    _kept: Arc<Vec<StagedFile>>,
}

impl LakeProvider {
    /// The provider that suits a snapshot's table.
    pub fn of(
        table: &Arc<Inner>,
        snapshot: &Arc<LakeSnapshot>,
        staged: Vec<StagedFile>,
    ) -> crate::Result<Arc<dyn TableProvider>> {
        let state = &snapshot.state;
        let unreadable = match table.is_others {
            // What cannot be read at all was refused when the table was looked at.
            true => None,
            false => state.protocol.as_ref().and_then(Protocol::unreadable),
        };
        let plain = unreadable.is_none() && state.files.values().all(|f| f.add.deletion_vector.is_none());
        let own = Self::new(table, snapshot, staged, plain)?;
        if plain {
            return Ok(Arc::new(own));
        }
        let (table, snapshot, schema) = (table.clone(), snapshot.clone(), own.schema.clone());
        let staged = (!own.staged.is_empty()).then_some(own);
        Ok(Arc::new(ForeignProvider { table, snapshot, schema, staged }))
    }

    /// A provider over staged files alone, in the snapshot's schema.
    pub fn of_staged(
        table: &Arc<Inner>,
        snapshot: &Arc<LakeSnapshot>,
        staged: Vec<StagedFile>,
    ) -> crate::Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(Self::new(table, snapshot, staged, false)?))
    }

    pub(crate) fn new(
        table: &Arc<Inner>,
        snapshot: &Arc<LakeSnapshot>,
        kept: Vec<StagedFile>,
        with_snapshot: bool,
    ) -> crate::Result<Self> {
        let state = &snapshot.state;
        let Some(log_schema) = &state.log_schema else { return Err(table.history.misfit("it has no schema".into())) };
        let schema = reader_schema(log_schema);
        let beside = kept.iter().filter(|f| !with_snapshot || !state.files.contains_key(f.path()));
        let staged = beside.map(|f| Arc::new(FileEntry::new(f.add.clone()))).collect();
        let (table, snapshot) = (table.clone(), snapshot.clone());
        let partitioned_by = state.partitioned_by();
        let names: Vec<&str> = partitioned_by.iter().map(String::as_str).collect();
        let scan = TableSchema::builder(file_schema(&schema, &names))
            .with_table_partition_cols(partition_fields(&schema, partitioned_by))
            .build();
        Ok(Self { table, snapshot, schema, scan, staged, kept: Arc::new(kept), with_snapshot })
    }

    /// The files that are read.
    fn entries(&self) -> Vec<&Arc<FileEntry>> {
        let own = self.with_snapshot.then(|| self.snapshot.state.files.values());
        own.into_iter().flatten().chain(&self.staged).collect()
    }

    /// The files that can hold rows for which all filters are true, and how many go for what reason.
    pub(crate) fn candidates(&self, state: &dyn Session, filters: &[Expr]) -> Result<(Vec<PartitionedFile>, Pruned)> {
        let entries = self.entries();
        let stats: Vec<Arc<Statistics>> = entries.iter().map(|e| self.statistics(e)).collect();
        let kept_by = |filters: &mut dyn Iterator<Item = &Expr>| match conjunction(filters.cloned()) {
            Some(filter) if !entries.is_empty() => self.prune(state, filter, &stats),
            _ => Ok(vec![true; entries.len()]),
        };
        let folders = self.scan.table_partition_cols();
        let names_folder = |name: &str| folders.iter().any(|field| field.name() == name);
        let of_folders = |filter: &&Expr| filter.column_refs().iter().all(|column| names_folder(&column.name));
        let counted = |keep: &[bool]| keep.iter().filter(|keep| **keep).count();
        let in_folders = match folders.is_empty() {
            true => entries.len(),
            false => counted(&kept_by(&mut filters.iter().filter(of_folders))?),
        };
        let keep = kept_by(&mut filters.iter())?;
        let pruned = Pruned { files: entries.len(), in_folders, left: counted(&keep) };
        let lease = Arc::new(Lease { _state: self.snapshot.state.clone(), _kept: self.kept.clone() });
        let files = entries
            .into_iter()
            .zip(stats)
            .zip(keep)
            .filter(|(_, keep)| *keep)
            .map(|((entry, stats), _)| self.partitioned_file(entry, stats, &lease))
            .collect::<Result<_>>()?;
        Ok((files, pruned))
    }

    /// Tells what was pruned before the scan, beside what the scan tells of itself in EXPLAIN ANALYZE.
    fn tell(&self, pruned: &Pruned, metrics: &ExecutionPlanMetricsSet) {
        let tell = |name: String, before: usize, after: usize| {
            let told = MetricBuilder::new(metrics).with_type(MetricType::Summary).pruning_metrics(name, 0);
            told.add_pruned(before.saturating_sub(after));
            told.add_matched(after);
        };
        let columns = |fields: &[String]| fields.join(", ");
        let folders = self.snapshot.state.partitioned_by();
        if !folders.is_empty() {
            let name = format!("lake_files_pruned_partitions({})", columns(folders));
            tell(name, pruned.files, pruned.in_folders);
        }
        let layout = self.table.layout();
        let sorted_by = &layout.sorted_by;
        let name = match sorted_by.is_empty() {
            true => "lake_files_pruned_statistics".to_owned(),
            false => format!("lake_files_pruned_statistics(sorted by {})", columns(sorted_by)),
        };
        tell(name, pruned.in_folders, pruned.left);
    }

    /// A file's statistics, for the columns as the scan has them.
    fn statistics(&self, entry: &FileEntry) -> Arc<Statistics> {
        let make = || {
            let size = u64::try_from(entry.add.size).unwrap_or(0);
            let mut stats = entry.stats.to_engine(self.scan.table_schema(), size, has_tag(&entry.add, OWN_TAG));
            let folders = stats.column_statistics.len() - self.scan.table_partition_cols().len();
            let values = self.partition_values(entry).unwrap_or_default();
            for (column, value) in stats.column_statistics[folders..].iter_mut().zip(values) {
                *column = constant(value, &stats.num_rows);
            }
            Arc::new(stats)
        };
        entry.scan_stats.get_or_init(make).clone()
    }

    /// The values of the columns that name a file's folder.
    fn partition_values(&self, entry: &FileEntry) -> Result<Vec<ScalarValue>> {
        let own = has_tag(&entry.add, OWN_TAG);
        let fields = self.scan.table_partition_cols().iter();
        fields.map(|field| partition_value(&entry.add.partition_values, field, own)).collect()
    }

    /// Where the scan has the columns that are wanted.
    fn scan_columns(&self, projection: Option<&Vec<usize>>) -> Result<Option<Vec<usize>>> {
        if self.scan.table_partition_cols().is_empty() {
            return Ok(projection.cloned());
        }
        let there = self.scan.table_schema();
        let at = |i: usize| Ok(there.index_of(self.schema.field(i).name())?);
        let columns = match projection {
            Some(columns) => columns.iter().map(|&i| at(i)).collect::<Result<Vec<_>>>()?,
            None => (0..self.schema.fields().len()).map(at).collect::<Result<Vec<_>>>()?,
        };
        Ok(Some(columns))
    }

    /// The statistics of all files in one, worked out once per snapshot.
    fn all_statistics(&self) -> Result<Statistics> {
        let state = &self.snapshot.state;
        if !self.staged.is_empty() || !self.with_snapshot {
            let each = self.entries().into_iter().map(|e| self.statistics(e)).collect::<Vec<_>>();
            return Statistics::try_merge_iter(each.iter().map(Arc::as_ref), self.scan.table_schema());
        }
        if let Some(stats) = state.all_stats.get() {
            return Ok(stats.clone());
        }
        let each = state.files.values().map(|e| self.statistics(e)).collect::<Vec<_>>();
        let all = Statistics::try_merge_iter(each.iter().map(Arc::as_ref), self.scan.table_schema())?;
        Ok(state.all_stats.get_or_init(|| all).clone())
    }

    fn prune(&self, state: &dyn Session, filter: Expr, stats: &[Arc<Statistics>]) -> Result<Vec<bool>> {
        let schema = self.scan.table_schema();
        let df_schema = schema.clone().to_dfschema()?;
        let filter = state.create_physical_expr(filter, &df_schema)?;
        match PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(filter) {
            Ok(predicate) => predicate.prune(&Bounds { stats, schema }),
            // A filter that says nothing about bounds keeps every file.
            Err(_) => Ok(vec![true; stats.len()]),
        }
    }

    fn partitioned_file(
        &self,
        entry: &FileEntry,
        stats: Arc<Statistics>,
        lease: &Arc<Lease>,
    ) -> Result<PartitionedFile> {
        let location = self
            .table
            .history
            .location(&entry.add.path)
            .map_err(|e| datafusion::error::DataFusionError::External(Box::new(e)))?;
        let meta = ObjectMeta {
            location,
            last_modified: DateTime::from_timestamp_millis(entry.add.modification_time).unwrap_or_default(),
            size: u64::try_from(entry.add.size).unwrap_or(0),
            e_tag: None,
            version: None,
        };
        let mut file = PartitionedFile::new_from_meta(meta).with_extension(lease.clone());
        file.partition_values = self.partition_values(entry)?;
        file.statistics = Some(stats);
        Ok(file)
    }
}

#[async_trait]
impl TableProvider for LakeProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let of_scan = self.all_statistics().ok()?;
        if self.scan.table_partition_cols().is_empty() {
            return Some(of_scan);
        }
        let columns = self.scan_columns(None).ok()??;
        Some(of_scan.project(Some(&columns)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let env = state.runtime_env();
        env.register_object_store(self.table.engine_url.as_ref(), self.table.history.store.clone());
        let (mut files, pruned) = self.candidates(state, filters)?;
        if let Some(limit) = limit.filter(|_| filters.is_empty()) {
            files = enough(files, limit);
        }
        if files.is_empty() {
            let projected = datafusion::common::project_schema(&self.schema, projection)?;
            return Ok(Arc::new(EmptyExec::new(projected)));
        }
        let statistics = if files.len() == self.entries().len() {
            self.all_statistics()?
        } else {
            Statistics::try_merge_iter(files.iter().filter_map(|f| f.statistics.as_deref()), self.scan.table_schema())?
        };
        let source = parquet_source(&self.table, state, self.scan.clone());
        self.tell(&pruned, source.metrics());
        let config = FileScanConfigBuilder::new(self.table.engine_url.clone(), Arc::new(source))
            .with_file_groups(balance(files, state.config().target_partitions()))
            .with_statistics(statistics)
            .with_projection_indices(self.scan_columns(projection)?)?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// How files of a table are read: each footer once, while the engine's cache keeps it, and with few requests.
pub(crate) fn parquet_source(table: &Inner, state: &dyn Session, schema: TableSchema) -> ParquetSource {
    let (store, footers) = (table.history.store.clone(), state.runtime_env().cache_manager.get_file_metadata_cache());
    let reader: Arc<dyn ParquetFileReaderFactory> = match table.url.scheme() {
        "file" => Arc::new(CachedParquetFileReaderFactory::new(store, footers)),
        _ => Arc::new(SmallFilesWhole::new(store, footers)),
    };
    let mut options = state.default_table_options().parquet;
    options.global = state.config_options().execution.parquet.clone();
    ParquetSource::new(schema)
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(reader)
        .with_metadata_size_hint(FOOTER_BYTES)
}

/// How many files there were, how many of them in folders that can hold what is asked for, and how many are left.
pub(crate) struct Pruned {
    files: usize,
    in_folders: usize,
    left: usize,
}

/// The statistics of a column that has one value in all rows.
fn constant(value: ScalarValue, rows: &Precision<usize>) -> ColumnStatistics {
    let mut stats = ColumnStatistics::new_unknown();
    if value.is_null() {
        stats.null_count = *rows;
        return stats;
    }
    stats.null_count = Precision::Exact(0);
    stats.min_value = Precision::Exact(value.clone());
    stats.max_value = Precision::Exact(value);
    stats
}

/// The first files that surely have `limit` rows between them.
fn enough(files: Vec<PartitionedFile>, limit: usize) -> Vec<PartitionedFile> {
    let mut rows = 0;
    files
        .into_iter()
        .take_while(|file| {
            let needed = rows < limit;
            rows += match file.statistics.as_ref().map(|s| s.num_rows) {
                Some(Precision::Exact(n)) => n,
                _ => 0,
            };
            needed
        })
        .collect()
}

/// Spreads files over at most `groups` groups of like size, largest first.
pub(crate) fn balance(mut files: Vec<PartitionedFile>, groups: usize) -> Vec<FileGroup> {
    files.sort_by_key(|f| std::cmp::Reverse(f.object_meta.size));
    let mut bins: Vec<(u64, Vec<PartitionedFile>)> = vec![(0, vec![]); groups.clamp(1, files.len().max(1))];
    for file in files {
        if let Some(least) = bins.iter_mut().min_by_key(|(size, _)| *size) {
            least.0 += file.object_meta.size;
            least.1.push(file);
        }
    }
    bins.into_iter().map(|(_, files)| FileGroup::new(files)).collect()
}

/// Files' bounds as pruning wants them. Inexact bounds still are bounds: no value lies outside them.
struct Bounds<'a> {
    stats: &'a [Arc<Statistics>],
    schema: &'a SchemaRef,
}

impl Bounds<'_> {
    fn column(&self, column: &Column) -> Option<impl Iterator<Item = &ColumnStatistics>> {
        let index = self.schema.index_of(column.name()).ok()?;
        Some(self.stats.iter().map(move |s| &s.column_statistics[index]))
    }

    fn values(&self, column: &Column, of: fn(&ColumnStatistics) -> &Precision<ScalarValue>) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(column.name()).ok()?;
        let null = ScalarValue::try_from(field.data_type()).ok()?;
        let values = self.column(column)?.map(|c| of(c).get_value().cloned().unwrap_or_else(|| null.clone()));
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |c| &c.min_value)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |c| &c.max_value)
    }

    fn num_containers(&self) -> usize {
        self.stats.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts = self.column(column)?.map(|c| c.null_count.get_value().map(|&n| n as u64));
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let counts = self.stats.iter().map(|s| s.num_rows.get_value().map(|&n| n as u64));
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
