//! Owns the making of a Delta table of a folder of Parquet files, in place: no file is written again.
//!
//! Each file's footer gives its rows and bounds, all footers together the columns; folders `name=value` give the
//! columns that name folders. The table is there with its first commit, or not at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use chrono::Utc;
use datafusion::common::ScalarValue;
use deltalake_core::kernel::Add;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::action::{About, Action, Metadata, Protocol};
use crate::external::{first_commit, history_at};
use crate::history::History;
use crate::lake::failed;
use crate::schema::{delta_field, has_timestamp_ntz};
use crate::stats::stats_text;
use crate::{Error, Result};

/// Footers read at once.
const FOOTERS_AT_ONCE: usize = 8;
/// What is read of a file's end at first: most footers are shorter.
const TAIL_BYTES: u64 = 64 << 10;
/// The folder that stands for no value.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// What became of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converted {
    /// Its files.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
}

/// A file with what its footer says.
struct Found {
    meta: ObjectMeta,
    /// Its path in the folder.
    path: String,
    schema: SchemaRef,
    stats: String,
    rows: u64,
}

/// Makes a Delta table of the Parquet files under `url`, of which none is changed. `partitioned_by` are the columns
/// that name folders, in the order of the folders. A folder that has a Delta log already is refused.
pub async fn convert_to_delta(url: &Url, store: &Arc<dyn ObjectStore>, partitioned_by: &[Field]) -> Result<Converted> {
    let history = history_at(url, store);
    let refused = |reason: String| Error::Refused { table: history.table.clone(), reason };
    let log = history.log_folder();
    if store.list(Some(&log)).next().await.transpose().map_err(failed("list", &log))?.is_some() {
        return Err(refused("it is a Delta table already; CREATE TABLE … LOCATION gives it a name".to_owned()));
    }
    let mut files = parquet_files(&history).await?;
    if files.is_empty() {
        return Err(refused("there are no Parquet files under it".to_owned()));
    }
    files.sort_by(|a, b| a.location.cmp(&b.location));
    let mut found = futures::stream::iter(files).map(|meta| footer(&history, meta)).buffered(FOOTERS_AT_ONCE);
    let (mut fields, mut adds, mut rows): (Vec<FieldRef>, Vec<Add>, u64) = (vec![], vec![], 0);
    while let Some(file) = found.try_next().await? {
        merge(&mut fields, &file, partitioned_by).map_err(&refused)?;
        let values = folder_values(&file.path, partitioned_by).map_err(&refused)?;
        rows += file.rows;
        adds.push(add(file, values));
    }
    let all: Vec<FieldRef> = fields.into_iter().chain(partitioned_by.iter().cloned().map(Arc::new)).collect();
    let delta = all.iter().map(|f| delta_field(f).ok_or_else(|| refused(unfit(f)))).collect::<Result<Vec<_>>>()?;
    let now_ms = Utc::now().timestamp_millis();
    let names = partitioned_by.iter().map(|f| f.name().clone()).collect();
    let metadata = Metadata::new(Uuid::new_v4().to_string(), delta, names, BTreeMap::new(), now_ms);
    let converted = Converted { files: adds.len() as u64, rows };
    let mut actions = vec![Action::Protocol(Protocol::new(has_timestamp_ntz(&all))), Action::Metadata(metadata)];
    actions.extend(adds.into_iter().map(Action::Add));
    let about = About::new("CONVERT", now_ms)
        .with_parameter("numFiles", converted.files.to_string())
        .with_metric("numConvertedFiles", converted.files)
        .with_metric("numOutputRows", rows);
    first_commit(&history, &about, &actions).await?;
    Ok(converted)
}

/// The Parquet files under a folder, without what `_` and `.` hide.
async fn parquet_files(history: &History) -> Result<Vec<ObjectMeta>> {
    let folder = &history.folder;
    let all: Vec<ObjectMeta> = history.store.list(Some(folder)).try_collect().await.map_err(failed("list", folder))?;
    let shown = |meta: &ObjectMeta| {
        // A folder `_x=1` is one of values.
        let hidden = |part: &str| part.starts_with('.') || (part.starts_with('_') && !part.contains('='));
        relative(folder, &meta.location).split('/').all(|part| !hidden(part))
    };
    let is_parquet = |meta: &ObjectMeta| {
        let name = meta.location.filename().unwrap_or_default().to_ascii_lowercase();
        name.ends_with(".parquet") || name.ends_with(".pq")
    };
    Ok(all.into_iter().filter(|meta| meta.size > 0 && is_parquet(meta) && shown(meta)).collect())
}

/// What a file's footer says.
async fn footer(history: &History, meta: ObjectMeta) -> Result<Found> {
    let path = relative(&history.folder, &meta.location);
    let unsound = |e: &dyn std::fmt::Display| Error::Refused {
        table: history.table.clone(),
        reason: format!("file {path:?} is not sound Parquet: {e}; write it again, or take it out of the folder"),
    };
    let mut metadata = ParquetMetaDataReader::new();
    let mut tail = TAIL_BYTES.min(meta.size);
    loop {
        let range = meta.size - tail..meta.size;
        let bytes = history.store.get_range(&meta.location, range).await.map_err(failed("read", &meta.location))?;
        match metadata.try_parse_sized(&bytes, meta.size) {
            Ok(()) => break,
            Err(ParquetError::NeedMoreData(more)) if more as u64 > tail && more as u64 <= meta.size => {
                tail = more as u64;
            }
            Err(e) => return Err(unsound(&e)),
        }
    }
    let metadata = metadata.finish().map_err(|e| unsound(&e))?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let footer = ArrowReaderMetadata::try_new(Arc::new(metadata), options).map_err(|e| unsound(&e))?;
    let (stats, _) = stats_text(footer.metadata(), footer.schema());
    let stats = without_float_bounds(&stats, footer.schema());
    let schema = with_instants(footer.schema(), footer.metadata());
    let rows = u64::try_from(footer.metadata().file_metadata().num_rows()).unwrap_or(0);
    Ok(Found { meta, path, schema, stats, rows })
}

/// The columns of a file; those in the form that old writers have for instants (INT96) as what they are.
fn with_instants(schema: &Schema, metadata: &ParquetMetaData) -> SchemaRef {
    let columns = metadata.file_metadata().schema_descr().columns();
    let is_instant = |name: &str| {
        columns.iter().any(|c| c.physical_type() == PhysicalType::INT96 && c.path().parts() == [name.to_owned()])
    };
    let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let fields = schema.fields().iter().map(|field| match is_instant(field.name()) {
        true => Arc::new(field.as_ref().clone().with_data_type(instant.clone())),
        false => field.clone(),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Statistics without the bounds of floats: NaN is in no bound and above every number, and who wrote a file does not
/// say whether it is there.
fn without_float_bounds(stats: &str, schema: &Schema) -> String {
    let Ok(mut json) = serde_json::from_str::<Value>(stats) else { return stats.to_owned() };
    for field in schema.fields().iter().filter(|f| f.data_type().is_floating()) {
        for bounds in ["minValues", "maxValues"] {
            if let Some(bounds) = json.get_mut(bounds).and_then(Value::as_object_mut) {
                bounds.remove(field.name());
            }
        }
    }
    json.to_string()
}

fn relative(folder: &Path, location: &Path) -> String {
    let (folder, location) = (folder.as_ref(), location.as_ref());
    location.strip_prefix(folder).unwrap_or(location).trim_start_matches('/').to_owned()
}

/// Adds a file's columns to those of the others; an error is the reason why they do not go together.
fn merge(fields: &mut Vec<FieldRef>, file: &Found, partitioned_by: &[Field]) -> Result<(), String> {
    let first = fields.is_empty();
    for field in file.schema.fields() {
        if partitioned_by.iter().any(|p| p.name() == field.name()) {
            return Err(format!(
                "column {:?} of file {:?} names folders too; it must be in one of both",
                field.name(),
                file.path
            ));
        }
        let kept = kept_type(field.data_type()).ok_or_else(|| format!("file {:?}: {}", file.path, unfit(field)))?;
        match fields.iter_mut().find(|f| f.name() == field.name()) {
            Some(known) if *known.data_type() == kept => {
                if field.is_nullable() {
                    *known = Arc::new(known.as_ref().clone().with_nullable(true));
                }
            }
            Some(known) => {
                return Err(format!(
                    "column {:?} is {} in file {:?} and {} in the files before it; write the file with the others' type",
                    field.name(),
                    kept,
                    file.path,
                    known.data_type()
                ));
            }
            None => fields.push(Arc::new(Field::new(field.name(), kept, !first || field.is_nullable()))),
        }
    }
    for field in fields.iter_mut().filter(|f| !f.is_nullable() && file.schema.field_with_name(f.name()).is_err()) {
        *field = Arc::new(field.as_ref().clone().with_nullable(true));
    }
    Ok(())
}

/// The type that a table has for a type of a Parquet file.
fn kept_type(found: &DataType) -> Option<DataType> {
    Some(match found {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(..) => found.clone(),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Timestamp(_, Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::List(item) | DataType::LargeList(item) => DataType::List(Arc::new(kept_field(item)?)),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|f| kept_field(f).map(Arc::new)).collect::<Option<Vec<_>>>()?.into())
        }
        _ => return None,
    })
}

fn kept_field(field: &FieldRef) -> Option<Field> {
    Some(Field::new(field.name(), kept_type(field.data_type())?, field.is_nullable()))
}

fn unfit(field: &Field) -> String {
    format!(
        "column {:?} has the type {}, which Delta tables do not have; write the files with another",
        field.name(),
        field.data_type()
    )
}

/// The values that a file's folders say; an error is the reason why they are not those of the columns.
fn folder_values(path: &str, columns: &[Field]) -> Result<HashMap<String, Option<String>>, String> {
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    let named: Vec<(&str, &str)> = folders.iter().filter_map(|folder| folder.split_once('=')).collect();
    let expected: Vec<&str> = columns.iter().map(|c| c.name().as_str()).collect();
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    if names != expected {
        let fix = match names.is_empty() {
            true => "leave PARTITIONED BY out".to_owned(),
            false => format!("write PARTITIONED BY ({}) with their types", names.join(" …, ") + " …"),
        };
        return Err(format!("file {path:?} lies in folders of {names:?}, not of {expected:?}; {fix}"));
    }
    let values = columns.iter().zip(named).map(|(column, (name, text))| {
        let text = decoded(text);
        if text == NO_VALUE || text.is_empty() {
            return Ok((name.to_owned(), None));
        }
        ScalarValue::try_from_string(text.clone(), column.data_type())
            .map_err(|_| format!("folder {name}={text} of file {path:?} is no value of type {}", column.data_type()))?;
        Ok((name.to_owned(), Some(text)))
    });
    values.collect()
}

/// The text without its `%20` and the like.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn add(file: Found, partition_values: HashMap<String, Option<String>>) -> Add {
    Add {
        path: file.path,
        partition_values,
        size: i64::try_from(file.meta.size).unwrap_or(i64::MAX),
        modification_time: file.meta.last_modified.timestamp_millis(),
        data_change: true,
        stats: Some(file.stats),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    }
}
