//! Owns the table that the planner sees of files: their columns, and the scan of those that are there when it runs.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use millstream_catalog::fault::Code;
use url::Url;

use super::access::{File, FileAccess, find};
use super::arguments::ReadCall;
use super::decode::{Column, Matching};
use super::dialect::Header;
use super::format::Format;
use super::infer;
use super::scan::FileScan;
use crate::{Error, Result};

/// Files as a table.
#[derive(Debug)]
pub(super) struct FilesTable {
    access: FileAccess,
    call: ReadCall,
    schema: SchemaRef,
    /// Text files: what is read of them.
    columns: Vec<Column>,
}

impl FilesTable {
    /// Looks into the files of a call for their columns.
    pub(super) async fn open(access: &FileAccess, state: &SessionState, call: ReadCall) -> Result<Self> {
        let files = find(access, state.runtime_env(), &call.patterns).await?;
        let mut columns = Vec::new();
        let schema = match call.reading.format {
            Format::Parquet => infer::parquet_schema(state, &files).await?,
            Format::Arrow | Format::Avro => infer::values_schema(&call, &files).await?,
            Format::Csv | Format::Json => {
                columns = match &call.columns {
                    Some(columns) => columns.clone(),
                    None => infer::text_columns(&call, &files).await?,
                };
                let fields = columns.iter().map(|c| c.data_type.to_field(&c.name, true));
                Arc::new(Schema::new(fields.collect::<Vec<_>>()))
            }
        };
        Ok(Self { access: access.clone(), call, schema, columns })
    }

    fn matching(&self) -> Matching {
        let named = self.call.reading.dialect.header == Header::Yes && self.call.columns.is_none();
        match named {
            true => Matching::Name,
            false => Matching::Position(self.columns.iter().map(|c| c.name.clone()).collect()),
        }
    }

    fn scan_in_turn(
        &self,
        files: Vec<File>,
        projection: Option<&Vec<usize>>,
        partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(wanted) => Arc::new(self.schema.project(wanted).map_err(|e| Error::from_datafusion(e.into(), ""))?),
            None => Arc::clone(&self.schema),
        };
        let columns = match projection {
            Some(wanted) if !self.columns.is_empty() => wanted.iter().map(|i| self.columns[*i].clone()).collect(),
            _ => self.columns.clone(),
        };
        let scans = spread(files, partitions).into_iter().map(|files| {
            let scan = FileScan {
                files,
                reading: self.call.reading.clone(),
                columns: columns.clone(),
                matching: self.matching(),
                schema: Arc::clone(&schema),
                ignore_errors: self.call.ignore_errors,
            };
            Arc::new(scan) as Arc<dyn PartitionStream>
        });
        let plan = StreamingTableExec::try_new(Arc::clone(&schema), scans.collect(), None, [], false, None);
        Ok(Arc::new(plan.map_err(|e| Error::from_datafusion(e, ""))?))
    }

    async fn scan_parquet(
        &self,
        state: &dyn Session,
        files: &[File],
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let urls = files.iter().map(url_of).collect::<Result<Vec<_>>>()?;
        let format = ParquetFormat::default().with_options(state.table_options().parquet.clone());
        let options = ListingOptions::new(Arc::new(format)).with_file_extension("");
        let config = ListingTableConfig::new_with_multi_paths(urls)
            .with_listing_options(options)
            .with_schema(Arc::clone(&self.schema));
        ListingTable::try_new(config)?.scan(state, projection, filters, limit).await
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let use_of_filters = match self.call.reading.format {
            Format::Parquet => TableProviderFilterPushDown::Inexact,
            _ => TableProviderFilterPushDown::Unsupported,
        };
        Ok(vec![use_of_filters; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let files = find(&self.access, state.runtime_env(), &self.call.patterns).await?;
        match self.call.reading.format {
            Format::Parquet => self.scan_parquet(state, &files, projection, filters, limit).await,
            _ => Ok(self.scan_in_turn(files, projection, state.config().target_partitions())?),
        }
    }
}

/// The files over so many partitions, about as many bytes in each.
fn spread(files: Vec<File>, partitions: usize) -> Vec<Vec<File>> {
    let mut parts: Vec<(u64, Vec<File>)> = vec![(0, Vec::new()); partitions.clamp(1, files.len().max(1))];
    for file in files {
        if let Some((bytes, part)) = parts.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += file.meta.size.max(1);
            part.push(file);
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

fn url_of(file: &File) -> Result<ListingTableUrl> {
    let bad = |e: &dyn std::fmt::Display| {
        Error::rejected(Code::InvalidRequest, format!("file {:?} has a name that cannot be used: {e}", file.name))
    };
    let mut url = Url::parse(file.store_url.as_str()).map_err(|e| bad(&e))?;
    url.set_path(&file.meta.location.as_ref().replace('%', "%25"));
    ListingTableUrl::try_new(url, None).map_err(|e| bad(&e))
}
