//! Owns the writing of data files: rows in, large Parquet files and their `add` actions out.
//!
//! Compression is zstd level 1: its files are about a third smaller than lz4's for a tenth more time to encode, and
//! bytes are what a scan from an object store waits for.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use deltalake_core::kernel::Add;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::async_writer::{AsyncArrowWriter, AsyncFileWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::lake::LakeOptions;
use crate::schema::{is_sorted, place_columns, to_lake};
use crate::stats::{TEXT_BOUND_BYTES, stats_text};

/// The tag that marks files whose statistics are exact, because this crate wrote them.
pub(crate) const OWN_TAG: &str = "millstream.own";
/// The tag that marks files whose rows are in the order of their partition and offset.
pub(crate) const SORTED_TAG: &str = "millstream.sorted";

/// The tag that names the columns whose bounds were cut and so are not values of the file, as a JSON list.
pub(crate) const CUT_TAG: &str = "millstream.cut";

/// Bytes that go to the store in one part.
const PART_BYTES: usize = 8 << 20;
/// Parts under way at once.
const PARTS_AT_ONCE: usize = 4;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What a run of the writer made.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The files, in the order of their rows.
    pub adds: Vec<Add>,
    /// Rows in all of them.
    pub rows: u64,
}

/// Writes data files into one table's folder.
pub(crate) struct FileWriter {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The table's folder.
    pub folder: Path,
    /// Sizes.
    pub options: LakeOptions,
    /// The files' schema.
    pub lake_schema: SchemaRef,
    /// Told the name of each file before its first byte is written.
    pub announce: Box<dyn Fn(&str) + Send + Sync>,
    /// The modification time that the files' actions carry, ms since 1970.
    pub now_ms: i64,
}

impl FileWriter {
    /// Writes all rows and returns when every file is complete.
    pub async fn write<S, E>(&self, mut rows: S) -> Result<Written, Cause>
    where
        S: Stream<Item = Result<RecordBatch, E>> + Unpin,
        E: Into<Cause>,
    {
        let mut written = Written::default();
        let mut open: Option<OpenFile> = None;
        while let Some(batch) = rows.next().await {
            let step = match batch {
                Ok(batch) => self.take_in(&batch, &mut open, &mut written).await,
                Err(e) => Err(e.into()),
            };
            if let Err(e) = step {
                if let Some(file) = open {
                    file.abort().await;
                }
                return Err(e);
            }
        }
        if let Some(file) = open {
            written.adds.push(file.finish(&self.lake_schema, self.now_ms).await?);
        }
        Ok(written)
    }

    async fn take_in(
        &self,
        batch: &RecordBatch,
        open: &mut Option<OpenFile>,
        written: &mut Written,
    ) -> Result<(), Cause> {
        let batch = to_lake(batch, &self.lake_schema)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let file = match open {
            Some(file) => file,
            None => open.insert(self.start()?),
        };
        file.write(&batch).await?;
        written.rows += batch.num_rows() as u64;
        if file.bytes() >= self.options.target_file_bytes
            && let Some(file) = open.take()
        {
            written.adds.push(file.finish(&self.lake_schema, self.now_ms).await?);
        }
        Ok(())
    }

    fn start(&self) -> Result<OpenFile, Cause> {
        let name = format!("part-{}.zstd.parquet", Uuid::now_v7());
        (self.announce)(&name);
        let upload = BufWriter::with_capacity(self.store.clone(), self.folder.clone().join(name.as_str()), PART_BYTES)
            .with_max_concurrency(PARTS_AT_ONCE);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(self.options.row_group_rows))
            .set_max_row_group_bytes(Some(self.options.row_group_bytes))
            .set_statistics_truncate_length(Some(TEXT_BOUND_BYTES))
            .set_created_by(concat!("millstream ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let parquet = AsyncArrowWriter::try_new_with_options(Upload(upload), self.lake_schema.clone(), options)?;
        Ok(OpenFile { name, parquet, sorted: true, last: None })
    }
}

/// A file being written.
struct OpenFile {
    name: String,
    parquet: AsyncArrowWriter<Upload>,
    sorted: bool,
    last: Option<(i32, i64)>,
}

impl OpenFile {
    async fn write(&mut self, batch: &RecordBatch) -> Result<(), Cause> {
        self.sorted = self.sorted
            && place_columns(batch).is_some_and(|(partition, offset)| is_sorted(partition, offset, &mut self.last));
        Ok(self.parquet.write(batch).await?)
    }

    /// Bytes written and waiting.
    fn bytes(&self) -> usize {
        self.parquet.bytes_written() + self.parquet.in_progress_size()
    }

    /// Gives up a file that is not complete, so that an object store does not keep its parts.
    async fn abort(self) {
        if let Err(e) = self.parquet.into_inner().0.abort().await {
            tracing::debug!(file = self.name, error = %e, "an unfinished upload could not be aborted");
        }
    }

    async fn finish(mut self, lake_schema: &SchemaRef, now_ms: i64) -> Result<Add, Cause> {
        let metadata = self.parquet.finish().await?;
        let (stats, cut) = stats_text(&metadata, lake_schema);
        let mut tags = HashMap::from([(OWN_TAG.to_owned(), Some("true".to_owned()))]);
        if self.sorted {
            tags.insert(SORTED_TAG.to_owned(), Some("true".to_owned()));
        }
        if !cut.is_empty() {
            tags.insert(CUT_TAG.to_owned(), Some(serde_json::to_string(&cut)?));
        }
        Ok(Add {
            path: self.name,
            partition_values: HashMap::new(),
            size: i64::try_from(self.parquet.bytes_written())?,
            modification_time: now_ms,
            data_change: true,
            stats: Some(stats),
            tags: Some(tags),
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        })
    }
}

/// The file's bytes on their way to the store, without a copy.
struct Upload(BufWriter);

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ParquetError>> {
        Box::pin(async { self.0.put(bytes).await.map_err(|e| ParquetError::External(Box::new(e))) })
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), ParquetError>> {
        Box::pin(async { self.0.shutdown().await.map_err(|e| ParquetError::External(Box::new(e))) })
    }
}

/// Whether an `add` action has a tag set.
pub(crate) fn has_tag(add: &Add, tag: &str) -> bool {
    add.tags.as_ref().and_then(|t| t.get(tag)).is_some_and(|v| v.as_deref() == Some("true"))
}
