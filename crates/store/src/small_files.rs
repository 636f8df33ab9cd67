//! Owns how small data files of an object store are read: in one request, however many of their parts are asked for.
//!
//! A scan asks for the footer, for the columns that a filter needs, and then for the others of the rows that are left. In
//! an object store each request costs more than all bytes of a small file do.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ParquetMetaData;

/// Files up to this size are fetched whole.
const SMALL_BYTES: u64 = 128 << 10;

/// Makes readers that fetch small files whole, and larger ones in parts.
#[derive(Debug)]
pub(crate) struct SmallFilesWhole {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
    in_parts: CachedParquetFileReaderFactory,
}

impl SmallFilesWhole {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, footers: Arc<FileMetadataCache>) -> Self {
        let in_parts = CachedParquetFileReaderFactory::new(Arc::clone(&store), Arc::clone(&footers));
        Self { store, footers, in_parts }
    }
}

impl ParquetFileReaderFactory for SmallFilesWhole {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        if file.object_meta.size > SMALL_BYTES {
            return self.in_parts.create_reader(partition, file, footer_bytes, metrics);
        }
        let (store, footers, metrics) = (Arc::clone(&self.store), Arc::clone(&self.footers), metrics.clone());
        Ok(Box::new(SmallFile { partition, file, metrics, store, footers, fetched: None }))
    }
}

/// A reader that fetches its file when any part is first asked for.
struct SmallFile {
    partition: usize,
    file: PartitionedFile,
    metrics: ExecutionPlanMetricsSet,
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
    fetched: Option<Box<dyn AsyncFileReader + Send>>,
}

impl SmallFile {
    /// A reader of the file's copy in memory.
    async fn fetched(&mut self) -> ParquetResult<&mut Box<dyn AsyncFileReader + Send>> {
        let reader = match self.fetched.take() {
            Some(reader) => reader,
            None => self.fetch().await?,
        };
        Ok(self.fetched.insert(reader))
    }

    async fn fetch(&mut self) -> ParquetResult<Box<dyn AsyncFileReader + Send>> {
        let failed = |error: object_store::Error| ParquetError::External(Box::new(error));
        let place = &self.file.object_meta.location;
        // Never more than a small file has, whatever the log said of its size.
        let bytes =
            self.store.get_range(place, 0..SMALL_BYTES.min(self.file.object_meta.size)).await.map_err(failed)?;
        let copy = InMemory::new();
        copy.put(place, bytes.into()).await.map_err(failed)?;
        let readers = CachedParquetFileReaderFactory::new(Arc::new(copy), Arc::clone(&self.footers));
        readers
            .create_reader(self.partition, self.file.clone(), Some(SMALL_BYTES as usize), &self.metrics)
            .map_err(|error| ParquetError::External(error.into()))
    }
}

impl AsyncFileReader for SmallFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.fetched().await?.get_bytes(range).await }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.fetched().await?.get_byte_ranges(ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { self.fetched().await?.get_metadata(options).await }.boxed()
    }
}
