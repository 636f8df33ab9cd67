//! Owns the columns of files that nobody has said: read from their heads, or found in their first rows.

use std::collections::HashMap;

use arrow::array::StringArray;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use millstream_catalog::fault::Code;
use serde::de::IgnoredAny;

use super::access::File;
use super::arguments::ReadCall;
use super::bytes::pieces;
use super::decode::{Column, all_named, named_twice};
use super::dialect::Header;
use super::failure::{corrupt, in_file, parquet_head_error};
use super::format::Format;
use super::records::{CsvCutter, Cutting, RecordReader};
use crate::ddl;
use crate::{Error, Result};

/// Rows of a CSV file that are looked at.
const CSV_ROWS: usize = 24 * 1024;
/// Text of the first JSON file that is looked at, and of each of the next.
const JSON_BYTES: usize = 16 << 20;
const NEXT_JSON_BYTES: usize = 1 << 20;
/// JSON files that are looked at.
const JSON_FILES: usize = 16;
/// Parquet files whose heads are read at once.
const HEADS_AT_ONCE: usize = 8;

/// The columns of text files.
pub(super) async fn text_columns(call: &ReadCall, files: &[File]) -> Result<Vec<Column>> {
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    match call.reading.format {
        Format::Json => json_columns(call, files).await,
        _ => csv_columns(call, first).await.map_err(|e| in_file(&first.name, e)),
    }
}

async fn csv_columns(call: &ReadCall, file: &File) -> Result<Vec<Column>> {
    let dialect = &call.reading.dialect;
    let mut reader = RecordReader::new(pieces(file, call.reading.compression_of(file)).await?);
    let headed = dialect.header != Header::No;
    let first = reader.first(CsvCutter::any(dialect.clone()), |_| headed).await?;
    if first.is_empty() {
        let message = "it is empty, so that its columns are not known; say them with columns = 'name type, …'";
        return Err(Error::rejected(Code::BadFile, message));
    }
    let names: Vec<String> = match headed {
        true => {
            let names = all_named(first.iter().map(|name| name.trim().to_owned()).collect());
            let twice = (1..names.len()).find(|i| names[..*i].iter().any(|n| n.eq_ignore_ascii_case(&names[*i])));
            if let Some(i) = twice {
                return Err(named_twice(&names[i]));
            }
            names
        }
        false => (0..first.len()).map(|i| format!("column{i}")).collect(),
    };
    let wanted = (0..names.len()).map(Some).collect();
    let mut cutting = Cutting::Csv(CsvCutter::new(dialect.clone(), Some(names.len()), wanted));
    let mut seen: Vec<Vec<StringArray>> = vec![Vec::new(); names.len()];
    let mut rows = 0;
    while rows < CSV_ROWS
        && let Some(records) = reader.next(&mut cutting).await?
    {
        rows += records.len();
        seen.iter_mut().zip(records.columns).for_each(|(seen, cells)| seen.push(cells));
    }
    let types = seen.iter().map(|cells| ddl::infer_cells(cells.iter().flat_map(|c| c.iter().flatten())));
    Ok(names.into_iter().zip(types).map(|(name, data_type)| Column { name, data_type }).collect())
}

async fn json_columns(call: &ReadCall, files: &[File]) -> Result<Vec<Column>> {
    let mut sample = Vec::new();
    for (i, file) in files.iter().take(JSON_FILES).enumerate() {
        let room = if i == 0 { JSON_BYTES } else { NEXT_JSON_BYTES };
        let begin = sample.len();
        let mut text = pieces(file, call.reading.compression_of(file)).await?;
        let mut whole = true;
        while let Some(piece) = text.next().await.transpose()? {
            sample.extend_from_slice(&piece);
            if sample.len() - begin >= room {
                whole = false;
                break;
            }
        }
        if !whole && let Some(end) = sample.iter().rposition(|b| *b == b'\n') {
            sample.truncate(end.max(begin));
        }
        sample.push(b'\n');
    }
    if call.ignore_errors {
        sample = sample.split_inclusive(|b| *b == b'\n').filter(|line| is_object(line)).flatten().copied().collect();
    }
    let name = files.first().map_or("", |file| file.name.as_str());
    let columns = ddl::infer(&sample).map_err(|e| corrupt(name, "JSON", &e))?;
    Ok(columns.into_iter().map(|c| Column { name: c.name, data_type: c.data_type }).collect())
}

fn is_object(line: &[u8]) -> bool {
    serde_json::from_slice::<HashMap<String, IgnoredAny>>(line).is_ok()
}

/// The columns of Arrow and Avro files: of all of them, by name.
pub(super) async fn values_schema(call: &ReadCall, files: &[File]) -> Result<SchemaRef> {
    let head = |file| async move { Ok(call.reading.batches(file).await?.0) };
    let heads: Vec<_> = files.iter().map(|file| head(file).boxed()).collect();
    let schema = merged(call.reading.format, heads).await?;
    // A column that only some files have is NULL in the rows of the others.
    Ok(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()).into())
}

async fn parquet_head(state: &dyn Session, file: &File) -> Result<SchemaRef> {
    let format = ParquetFormat::default();
    let schema = format.infer_schema(state, &file.store, std::slice::from_ref(&file.meta)).await;
    schema.map_err(|e| parquet_head_error(&file.name, e))
}

/// The columns of Parquet files: of all of them, by name.
pub(super) async fn parquet_schema(state: &dyn Session, files: &[File]) -> Result<SchemaRef> {
    let heads: Vec<_> = files.iter().map(|file| parquet_head(state, file).boxed()).collect();
    merged(Format::Parquet, heads).await
}

async fn merged(format: Format, heads: Vec<BoxFuture<'_, Result<SchemaRef>>>) -> Result<SchemaRef> {
    let schemas: Vec<SchemaRef> = futures::stream::iter(heads).buffered(HEADS_AT_ONCE).try_collect().await?;
    let plain = schemas.iter().map(|schema| schema.as_ref().clone().with_metadata(Default::default()));
    let merged = Schema::try_merge(plain).map_err(|e| {
        let name = format.name();
        let message = format!("the {name} files do not have the same types of columns: {e}; read them one by one");
        Error::rejected(Code::TypeMismatch, message)
    })?;
    Ok(merged.into())
}
