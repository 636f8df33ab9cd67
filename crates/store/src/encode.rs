//! Owns the encoding of a data file: rows are gathered into row groups, and a group's columns are encoded side by side
//! while the next group is gathered.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use millstream_catalog::OFFSET_COLUMN;
use object_store::buffered::BufWriter;
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

use crate::lake::LakeOptions;
use crate::stats::TEXT_BOUND_BYTES;

/// Rows of a group that are looked at to tell whether a column's values repeat.
const SAMPLED: usize = 8192;
/// Groups with fewer bytes than this are not worth a second thread.
const WORTH_A_THREAD: usize = 256 << 10;

/// How the pages of data files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// For disks: a reader waits for its processor, and LZ4 takes a fourth of the time that zstd takes to decode.
    /// Numbers are not compressed beyond their encoding.
    Lz4,
    /// For object stores: a reader waits for bytes, and zstd's files are about a third smaller.
    Zstd,
}

impl Codec {
    /// What stands in the names of files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Codec::Lz4 => "lz4raw",
            Codec::Zstd => "zstd",
        }
    }

    fn compression(self) -> Result<Compression> {
        Ok(match self {
            Codec::Lz4 => Compression::LZ4_RAW,
            Codec::Zstd => Compression::ZSTD(ZstdLevel::try_new(1)?),
        })
    }
}

type Chunks = Vec<ArrowColumnChunk>;
type File = (SerializedFileWriter<Vec<u8>>, ArrowRowGroupWriterFactory);

/// A file that is being encoded, on its way to the store.
pub(crate) struct Encoder {
    schema: SchemaRef,
    options: LakeOptions,
    /// Columns without bounds.
    unbounded: BTreeSet<String>,
    upload: BufWriter,
    gathered: Vec<RecordBatch>,
    gathered_rows: usize,
    gathered_bytes: usize,
    /// There once the first group shows which columns want a dictionary.
    file: Option<File>,
    under_way: Option<JoinHandle<Result<Chunks>>>,
}

impl Encoder {
    pub(crate) fn new(schema: SchemaRef, options: LakeOptions, unbounded: BTreeSet<String>, upload: BufWriter) -> Self {
        let (gathered, gathered_rows, gathered_bytes) = (Vec::new(), 0, 0);
        Self {
            schema,
            options,
            unbounded,
            upload,
            gathered,
            gathered_rows,
            gathered_bytes,
            file: None,
            under_way: None,
        }
    }

    /// Takes rows, no more than a group's.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.gathered_rows > 0 && self.gathered_rows + batch.num_rows() > self.options.row_group_rows {
            self.encode_group().await?;
        }
        self.gathered_rows += batch.num_rows();
        self.gathered_bytes += slice_bytes(batch);
        self.gathered.push(batch.clone());
        if self.gathered_rows >= self.options.row_group_rows || self.gathered_bytes >= self.options.group_bytes() {
            self.encode_group().await?;
        }
        Ok(())
    }

    /// Bytes of the groups that are done.
    pub(crate) fn bytes(&self) -> usize {
        self.file.as_ref().map_or(0, |(file, _)| file.bytes_written())
    }

    /// Completes the file; what it says of itself, and its size.
    pub(crate) async fn finish(&mut self) -> Result<(ParquetMetaData, usize)> {
        self.encode_group().await?;
        self.settle().await?;
        let (file, _) = self.file()?;
        let metadata = file.finish()?;
        let size = file.bytes_written();
        self.send().await?;
        self.upload.shutdown().await.map_err(external)?;
        Ok((metadata, size))
    }

    /// Gives up, so that an object store does not keep the file's parts.
    pub(crate) async fn abort(mut self) -> object_store::Result<()> {
        self.upload.abort().await
    }

    /// Begins to encode what was gathered, once the group before is done.
    async fn encode_group(&mut self) -> Result<()> {
        if self.gathered_rows == 0 {
            return Ok(());
        }
        self.settle().await?;
        let (file, factory) = self.file()?;
        let writers = factory.create_column_writers(file.flushed_row_groups().len())?;
        let mut columns: VecDeque<Column> = VecDeque::with_capacity(writers.len());
        for (leaf, writer) in writers.into_iter().enumerate() {
            let place = file.schema_descr().get_column_root_idx(leaf);
            match columns.back_mut().filter(|last| last.place == place) {
                Some(column) => column.writers.push(writer),
                None => columns.push_back(Column { place, writers: vec![writer] }),
            }
        }
        let rows = std::mem::take(&mut self.gathered);
        let threads = if self.gathered_bytes < WORTH_A_THREAD { 1 } else { threads() };
        (self.gathered_rows, self.gathered_bytes) = (0, 0);
        let schema = Arc::clone(&self.schema);
        self.under_way = Some(tokio::spawn(encode(schema, rows, columns, threads)));
        Ok(())
    }

    /// Waits for the group that is being encoded, and sends it off.
    async fn settle(&mut self) -> Result<()> {
        let Some(under_way) = self.under_way.take() else { return Ok(()) };
        let chunks = under_way.await.map_err(external)??;
        let (file, _) = self.file()?;
        let mut group = file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.send().await
    }

    /// Hands what was encoded to the upload.
    async fn send(&mut self) -> Result<()> {
        let (file, _) = self.file()?;
        file.flush()?;
        let bytes = Bytes::from(std::mem::take(file.inner_mut()));
        self.upload.put(bytes).await.map_err(external)
    }

    fn file(&mut self) -> Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.start()?,
        };
        Ok(self.file.insert(file))
    }

    fn start(&self) -> Result<File> {
        let mut properties = WriterProperties::builder()
            .set_compression(self.options.codec.compression()?)
            .set_statistics_truncate_length(Some(TEXT_BOUND_BYTES))
            .set_created_by(concat!("millstream ", env!("CARGO_PKG_VERSION")).to_owned());
        for (place, field) in self.schema.fields().iter().enumerate() {
            let path = ColumnPath::new(vec![field.name().clone()]);
            let data_type = field.data_type();
            if self.unbounded.contains(field.name()) {
                properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
            }
            // Numbers of rows mostly follow each other.
            let repeats = field.name() != OFFSET_COLUMN && !hardly_repeats(&self.gathered, place);
            properties = properties.set_column_dictionary_enabled(path.clone(), repeats);
            let packed = !repeats && is_whole(data_type);
            if packed {
                properties = properties.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
            // What is packed or in a dictionary has hardly any air: LZ4 makes nothing of it.
            if self.options.codec == Codec::Lz4 && (packed || repeats && data_type.is_primitive()) {
                properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
            }
        }
        let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
        ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&self.schema), options)?.into_serialized_writer()
    }
}

/// A column of a row group, and what encodes its leaves.
struct Column {
    place: usize,
    writers: Vec<ArrowColumnWriter>,
}

/// Encodes a row group on that many threads; the chunks of its leaves, in their order.
async fn encode(
    schema: SchemaRef,
    rows: Vec<RecordBatch>,
    columns: VecDeque<Column>,
    threads: usize,
) -> Result<Chunks> {
    let (rows, columns) = (Arc::new(rows), Arc::new(Mutex::new(columns)));
    let work = (0..threads).map(|_| {
        let (schema, rows, columns) = (Arc::clone(&schema), Arc::clone(&rows), Arc::clone(&columns));
        tokio::task::spawn_blocking(move || {
            let mut done = Vec::new();
            loop {
                let Some(column) = columns.lock().pop_front() else { return Ok::<_, ParquetError>(done) };
                done.push((column.place, encode_column(&schema, &rows, column)?));
            }
        })
    });
    let mut done = Vec::new();
    for part in work.collect::<Vec<_>>() {
        done.extend(part.await.map_err(external)??);
    }
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().flat_map(|(_, chunks)| chunks).collect())
}

fn encode_column(schema: &SchemaRef, rows: &[RecordBatch], mut column: Column) -> Result<Chunks> {
    let field = schema.field(column.place);
    for batch in rows {
        let leaves = compute_leaves(field, batch.column(column.place))?;
        for (writer, leaf) in column.writers.iter_mut().zip(&leaves) {
            writer.write(leaf)?;
        }
    }
    column.writers.into_iter().map(ArrowColumnWriter::close).collect()
}

/// How many threads encode one file.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Whether nearly every row of a column has a value of its own: a dictionary of them is work for nothing.
fn hardly_repeats(rows: &[RecordBatch], column: usize) -> bool {
    let sample = || -> Result<bool, ArrowError> {
        let Some(first) = rows.first() else { return Ok(false) };
        let data_type = first.column(column).data_type().clone();
        if data_type.is_nested() || matches!(data_type, DataType::Null | DataType::Boolean) {
            return Ok(false);
        }
        let converter = RowConverter::new(vec![SortField::new(data_type)])?;
        let total: usize = rows.iter().map(RecordBatch::num_rows).sum();
        let step = total.div_ceil(SAMPLED).max(1);
        let mut seen: HashSet<Box<[u8]>> = HashSet::new();
        let (mut sampled, mut next) = (0, 0);
        for batch in rows {
            let places: UInt64Array = (next..batch.num_rows()).step_by(step).map(|row| row as u64).collect();
            next = (next + places.len() * step).saturating_sub(batch.num_rows());
            let values = take(batch.column(column), &places, None)?;
            let values = converter.convert_columns(&[values])?;
            sampled += values.num_rows();
            seen.extend(values.iter().map(|value| Box::from(value.as_ref())));
        }
        Ok(sampled * 9 <= seen.len() * 10)
    };
    // A column that can't be looked at keeps its dictionary.
    sample().unwrap_or(false)
}

/// Whether values are whole numbers of up to 64 bits in Parquet.
fn is_whole(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(precision, _) => *precision <= 18,
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal256(..) => false,
        DataType::Interval(_) => false,
        other => other.is_primitive(),
    }
}

/// Bytes of the values that a batch shows.
pub(crate) fn slice_bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    batch.columns().iter().map(bytes).sum()
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}
