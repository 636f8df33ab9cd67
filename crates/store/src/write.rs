//! Owns the writing of data files: rows in, large Parquet files and their `add` actions out.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use deltalake_core::kernel::Add;
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::encode::Encoder;
use crate::lake::LakeOptions;
use crate::layout::{Folders, PartitionValues, folder};
use crate::schema::{is_sorted, place_columns, to_lake};
use crate::stats::stats_text;
use crate::table::InFlight;

/// The tag that marks files whose statistics are exact, because this crate wrote them.
pub(crate) const OWN_TAG: &str = "millstream.own";
/// The tag that marks files whose rows are in the order of their partition and offset.
pub(crate) const SORTED_TAG: &str = "millstream.sorted";

/// The tag that names the columns whose bounds were cut and so are not values of the file, as a JSON list.
pub(crate) const CUT_TAG: &str = "millstream.cut";

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
    /// The rows' schema.
    pub lake_schema: SchemaRef,
    /// The files' schema: without the columns that name folders.
    pub file_schema: SchemaRef,
    /// Where rows go.
    pub folders: Folders,
    /// Keeps what is written from vacuum.
    pub in_flight: Arc<InFlight>,
    /// The modification time that the files' actions carry, ms since 1970.
    pub now_ms: i64,
}

/// How far a run of the writer is.
#[derive(Default)]
struct Progress {
    open: Option<OpenFile>,
    /// The partition values of the rows that come now.
    values: PartitionValues,
    written: Written,
    /// Columns in which NaN was seen. Bounds leave NaN out, and it is above every number, so they get none.
    nan: BTreeSet<String>,
}

impl FileWriter {
    /// Writes all rows and returns when every file is complete. Encoding keeps a thread busy, so it has its own: those
    /// that answer requests stay free. When the call is dropped, that thread stops too.
    pub async fn write(self, rows: SendableRecordBatchStream) -> Result<Written, Cause> {
        let handle = Handle::current();
        let (_wanted, unwanted) = oneshot::channel::<()>();
        let work = async move {
            tokio::select! {
                written = self.write_all(rows) => written,
                _ = unwanted => Err("the writing of files was given up".into()),
            }
        };
        tokio::task::spawn_blocking(move || handle.block_on(work)).await?
    }

    async fn write_all(self, mut rows: SendableRecordBatchStream) -> Result<Written, Cause> {
        let mut progress = Progress::default();
        while let Some(batch) = rows.next().await {
            let step = match batch {
                Ok(batch) => self.take_in(&batch, &mut progress).await,
                Err(e) => Err(e.into()),
            };
            if let Err(e) = step {
                if let Some(file) = progress.open {
                    file.abort().await;
                }
                return Err(e);
            }
        }
        self.close(&mut progress).await?;
        Ok(progress.written)
    }

    async fn take_in(&self, batch: &RecordBatch, progress: &mut Progress) -> Result<(), Cause> {
        let schema = match self.folders {
            Folders::By(_) => &self.lake_schema,
            Folders::Fixed(_) => &self.file_schema,
        };
        let batch = to_lake(batch, schema)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        for (values, rows) in self.folders.split(&batch)? {
            if values != progress.values {
                self.close(progress).await?;
                progress.values = values;
            }
            // No more than a row group at a time: a file's size is looked at in between.
            let step = self.options.group_rows_of(&batch);
            for start in rows.clone().step_by(step) {
                let some = batch.slice(start, step.min(rows.end - start));
                self.take_in_folder(&to_lake(&some, &self.file_schema)?, progress).await?;
            }
        }
        Ok(())
    }

    async fn take_in_folder(&self, batch: &RecordBatch, progress: &mut Progress) -> Result<(), Cause> {
        let nan = nan_columns(batch);
        if !nan.is_subset(&progress.nan) {
            progress.nan.extend(nan);
            self.close(progress).await?;
        }
        let file = match &mut progress.open {
            Some(file) => file,
            None => progress.open.insert(self.start(&progress.nan, &progress.values)?),
        };
        file.write(batch).await?;
        progress.written.rows += batch.num_rows() as u64;
        if file.bytes() >= self.options.target_file_bytes {
            self.close(progress).await?;
        }
        Ok(())
    }

    async fn close(&self, progress: &mut Progress) -> Result<(), Cause> {
        if let Some(file) = progress.open.take() {
            progress.written.adds.push(file.finish(&self.file_schema, self.now_ms).await?);
        }
        Ok(())
    }

    fn start(&self, nan: &BTreeSet<String>, values: &PartitionValues) -> Result<OpenFile, Cause> {
        let name = format!("{}part-{}.{}.parquet", folder(values), Uuid::now_v7(), self.options.codec.name());
        self.in_flight.announce(&name);
        let path = location(&self.folder, &name)?;
        let upload = BufWriter::with_capacity(self.store.clone(), path, self.options.part_bytes)
            .with_max_concurrency(PARTS_AT_ONCE);
        let encoder = Encoder::new(self.file_schema.clone(), self.options, nan.clone(), upload);
        Ok(OpenFile { name, values: values.clone(), encoder, sorted: true, last: None })
    }
}

/// Where a file lies whose name says its place in a folder.
pub(crate) fn location(folder: &Path, file: &str) -> Result<Path, object_store::path::Error> {
    Path::parse(format!("{folder}/{file}"))
}

/// Whether a file's name is its URL.
pub(crate) fn is_url(file: &str) -> bool {
    file.contains("://")
}

/// The top-level columns of a batch that hold NaN.
fn nan_columns(batch: &RecordBatch) -> BTreeSet<String> {
    let has_nan = |column: &ArrayRef| match column.data_type() {
        DataType::Float32 => column.as_primitive::<Float32Type>().values().iter().any(|v| v.is_nan()),
        DataType::Float64 => column.as_primitive::<Float64Type>().values().iter().any(|v| v.is_nan()),
        _ => false,
    };
    let schema = batch.schema_ref().fields();
    schema.iter().zip(batch.columns()).filter(|(_, c)| has_nan(c)).map(|(f, _)| f.name().clone()).collect()
}

/// A file being written.
struct OpenFile {
    name: String,
    values: PartitionValues,
    encoder: Encoder,
    sorted: bool,
    last: Option<(i32, i64)>,
}

impl OpenFile {
    async fn write(&mut self, batch: &RecordBatch) -> Result<(), Cause> {
        self.sorted = self.sorted
            && place_columns(batch).is_some_and(|(partition, offset)| is_sorted(partition, offset, &mut self.last));
        Ok(self.encoder.write(batch).await?)
    }

    /// Bytes of the row groups that are done.
    fn bytes(&self) -> usize {
        self.encoder.bytes()
    }

    /// Gives up a file that is not complete, so that an object store does not keep its parts.
    async fn abort(self) {
        if let Err(e) = self.encoder.abort().await {
            tracing::debug!(file = self.name, error = %e, "an unfinished upload could not be aborted");
        }
    }

    async fn finish(mut self, file_schema: &SchemaRef, now_ms: i64) -> Result<Add, Cause> {
        let (metadata, size) = self.encoder.finish().await?;
        let (stats, cut) = stats_text(&metadata, file_schema);
        let mut tags = HashMap::from([(OWN_TAG.to_owned(), Some("true".to_owned()))]);
        if self.sorted {
            tags.insert(SORTED_TAG.to_owned(), Some("true".to_owned()));
        }
        if !cut.is_empty() {
            tags.insert(CUT_TAG.to_owned(), Some(serde_json::to_string(&cut)?));
        }
        Ok(Add {
            path: self.name,
            partition_values: self.values.into_iter().collect(),
            size: i64::try_from(size)?,
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

/// Whether an `add` action has a tag set.
pub(crate) fn has_tag(add: &Add, tag: &str) -> bool {
    add.tags.as_ref().and_then(|t| t.get(tag)).is_some_and(|v| v.as_deref() == Some("true"))
}
