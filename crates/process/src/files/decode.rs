//! Owns how a file's rows come: opened in its format, its columns matched with those wanted, in batches with their lines.

mod avro;
mod parquet_file;
mod typed;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use futures::stream::BoxStream;
use millstream_catalog::DataType;
use millstream_catalog::fault::Code;

pub(super) use avro::avro_batches;
pub(super) use typed::{arrow_batches, parquet_batches};

use super::access::File;
use super::bytes::{Pieces, pieces};
use super::cast::{BadCell, Wanted, from_text, from_values, row_in_json};
use super::dialect::{Dialect, Header};
use super::failure::{corrupt, in_file};
use super::format::{Compression, Format};
use super::records::{CsvCutter, Cutting, JsonCutter, RecordReader, Records, TextCutter};
use crate::{Error, Result};

/// How a file is read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) format: Format,
    pub(crate) dialect: Dialect,
    /// What the file is compressed with; `None` where its name tells.
    pub(crate) compression: Option<Compression>,
}

impl Reading {
    pub(crate) fn compression_of(&self, file: &File) -> Compression {
        self.compression.unwrap_or_else(|| Compression::of_name(&file.name))
    }

    /// The columns and rows of a file that is read from its beginning to its end and says its columns itself.
    pub(crate) async fn batches(&self, file: &File) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch>>)> {
        let bytes = pieces(file, self.compression_of(file)).await?;
        match self.format {
            Format::Avro => avro_batches(&file.name, bytes).await,
            _ => arrow_batches(&file.name, bytes).await,
        }
    }
}

/// A column that is wanted of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
}

/// Which fields of a file's records are which columns.
#[derive(Debug, Clone)]
pub(crate) enum Matching {
    /// The first field is the first of these columns, and so on; records have so many fields.
    Position(Vec<String>),
    /// By name, as the header says; a column that the file lacks fails.
    Name,
    /// By name where the header names columns, else by position among these, unless a header must name columns; a
    /// column that is not there is missing.
    NameOrPosition {
        /// The columns.
        order: Vec<String>,
        /// Whether a header that names other columns fails, however many they are.
        strict: bool,
    },
}

/// A row that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) line: u64,
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) text: String,
}

/// Rows of a file as the columns that are wanted.
pub(crate) struct Decoded {
    /// One column per wanted one, in their order.
    pub(crate) batch: RecordBatch,
    /// Per column, which rows did not give it.
    pub(crate) missing: Vec<Option<BooleanBuffer>>,
    /// Rows that cannot be read.
    pub(crate) refused: Vec<Refused>,
    lines: Vec<u64>,
    original: Original,
}

/// Where a row's text is found again.
enum Original {
    Text(Records, Vec<usize>),
    Values(RecordBatch, Vec<usize>),
}

impl Original {
    fn text(&self, row: usize) -> String {
        match self {
            Self::Text(records, kept) => records.text(kept[row]),
            Self::Values(batch, kept) => row_in_json(&batch.slice(kept[row], 1)).unwrap_or_default(),
        }
    }
}

impl Decoded {
    /// The line of a row, for text; its number, from 1, for formats without lines.
    pub(crate) fn line(&self, row: usize) -> u64 {
        self.lines[row]
    }

    /// A row as the file has it.
    pub(crate) fn text(&self, row: usize) -> String {
        self.original.text(row)
    }
}

/// A file being read.
pub(crate) struct FileReader {
    name: String,
    columns: Vec<Column>,
    schema: SchemaRef,
    source: Source,
}

enum Source {
    Text { reader: Box<RecordReader>, cutting: Cutting },
    Values { batches: BoxStream<'static, Result<RecordBatch>>, fields: Vec<Option<usize>>, rows: u64 },
}

impl FileReader {
    /// Opens a file.
    pub(crate) async fn open(
        file: &File,
        reading: &Reading,
        columns: Vec<Column>,
        matching: &Matching,
    ) -> Result<FileReader> {
        let name = file.name.clone();
        let opened = async {
            match reading.format {
                Format::Csv | Format::Json => {
                    let text = pieces(file, reading.compression_of(file)).await?;
                    Self::over_text(name.clone(), text, reading, columns, matching).await
                }
                Format::Parquet => {
                    let (schema, batches) = parquet_batches(file).await?;
                    Self::over_values(name.clone(), &schema, batches, columns, matching)
                }
                Format::Arrow | Format::Avro => {
                    let (schema, batches) = reading.batches(file).await?;
                    Self::over_values(name.clone(), &schema, batches, columns, matching)
                }
            }
        };
        opened.await.map_err(|e| in_file(&file.name, e))
    }

    /// Reads text that comes in pieces.
    pub(crate) async fn over_text(
        name: String,
        text: Pieces,
        reading: &Reading,
        columns: Vec<Column>,
        matching: &Matching,
    ) -> Result<FileReader> {
        let mut reader = RecordReader::new(text);
        let cutting = match reading.format {
            Format::Json => {
                let fields: Vec<(String, bool)> =
                    columns.iter().map(|c| (c.name.clone(), c.data_type == DataType::Json)).collect();
                Cutting::Json(JsonCutter::new(&fields))
            }
            _ => delimited(&mut reader, &reading.dialect, &columns, matching).await?,
        };
        let source = Source::Text { reader: Box::new(reader), cutting };
        Ok(Self { name, schema: schema_of(&columns), columns, source })
    }

    fn over_values(
        name: String,
        schema: &Schema,
        batches: BoxStream<'static, Result<RecordBatch>>,
        columns: Vec<Column>,
        matching: &Matching,
    ) -> Result<FileReader> {
        let fields: Vec<Option<usize>> = columns.iter().map(|c| field_of(schema, &c.name)).collect();
        if let Matching::NameOrPosition { order: known, .. } = matching {
            let unknown = schema.fields().iter().find(|f| !known.iter().any(|k| same_name(k, f.name())));
            if let Some(unknown) = unknown {
                return Err(unknown_column(unknown.name(), known));
            }
        }
        let source = Source::Values { batches, fields, rows: 0 };
        Ok(Self { name, schema: schema_of(&columns), columns, source })
    }

    /// How much text was read so far; nothing for other formats.
    pub(crate) fn bytes_read(&self) -> u64 {
        match &self.source {
            Source::Text { reader, .. } => reader.bytes_read,
            Source::Values { .. } => 0,
        }
    }

    /// How many JSON fields so far were no columns.
    pub(crate) fn unknown_fields(&self) -> u64 {
        match &self.source {
            Source::Text { cutting: Cutting::Json(cutter), .. } => cutter.unknown(),
            _ => 0,
        }
    }

    /// The next rows; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Decoded>> {
        let decoded = match &mut self.source {
            Source::Text { reader, cutting } => match reader.next(cutting).await {
                Ok(Some(records)) => from_records(records, &self.columns, &self.schema).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            Source::Values { batches, fields, rows } => match batches.next().await {
                Some(Ok(batch)) => {
                    let first = *rows + 1;
                    *rows += batch.num_rows() as u64;
                    from_batch(batch, first, fields, &self.columns, &self.schema).map(Some)
                }
                Some(Err(error)) => Err(error),
                None => Ok(None),
            },
        };
        decoded.map_err(|e| in_file(&self.name, e))
    }
}

fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// The field of that name, else the one whose name differs in case alone.
fn field_of(schema: &Schema, name: &str) -> Option<usize> {
    let fields = schema.fields();
    let exact = fields.iter().position(|f| f.name() == name);
    exact.or_else(|| fields.iter().position(|f| same_name(f.name(), name)))
}

fn unknown_column(name: &str, known: &[String]) -> Error {
    Error::Rejected {
        code: Code::UndefinedColumn,
        message: format!("there is no column {name:?}, which the file has; the columns are {}", known.join(", ")),
        hint: Some("add it with ALTER … ADD COLUMN; if it is no header but values, say HEADER false".into()),
        position: None,
    }
}

fn schema_of(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| c.data_type.to_field(&c.name, true)).collect::<Vec<_>>()))
}

/// A header in which one of the columns has several fields.
fn refuse_twice(header: &[String], columns: &[Column]) -> Result<()> {
    let twice = columns.iter().find(|c| header.iter().filter(|cell| same_name(cell, &c.name)).count() > 1);
    twice.map_or(Ok(()), |column| Err(named_twice(&column.name)))
}

/// The refusal of a header that names a column more than once.
pub(super) fn named_twice(name: &str) -> Error {
    Error::Rejected {
        code: Code::DuplicateColumn,
        message: format!("the header names column {name:?} more than once"),
        hint: Some("give each field of the header a name of its own, or say HEADER false if it is none".into()),
        position: None,
    }
}

/// Reads the header, if there is one, and matches fields with columns.
async fn delimited(
    reader: &mut RecordReader,
    dialect: &Dialect,
    columns: &[Column],
    matching: &Matching,
) -> Result<Cutting> {
    let by_position = |order: &[String]| -> Vec<Option<usize>> {
        columns.iter().map(|c| order.iter().position(|name| same_name(name, &c.name))).collect()
    };
    let names_columns = |cells: &[String]| match matching {
        Matching::Position(order) | Matching::NameOrPosition { order, .. } => {
            !cells.is_empty() && cells.iter().all(|cell| order.iter().any(|name| same_name(name, cell.trim())))
        }
        Matching::Name => true,
    };
    let header = match dialect.header {
        Header::No => None,
        Header::Yes => Some(reader.first(peeker(dialect), |_| true).await?),
        Header::IfItNamesColumns => {
            let first = reader.first(peeker(dialect), |cells| names_columns(cells)).await?;
            let headed = names_columns(&first);
            if !headed && let Matching::NameOrPosition { order, .. } = matching {
                refuse_half_a_header(&first, order)?;
            }
            headed.then_some(first)
        }
    };
    let header: Option<Vec<String>> = header.map(|cells| cells.iter().map(|cell| cell.trim().to_owned()).collect());
    let (width, wanted) = match (matching, &header) {
        (Matching::Position(order), _) => (order.len(), by_position(order)),
        (Matching::NameOrPosition { .. }, Some(header)) if names_columns(header) => {
            refuse_twice(header, columns)?;
            (header.len(), by_position(header))
        }
        (Matching::NameOrPosition { order, strict }, Some(header))
            if !header.is_empty() && (*strict || header.len() != order.len()) =>
        {
            let stranger = header.iter().find(|cell| !order.iter().any(|name| same_name(name, cell)));
            return Err(unknown_column(stranger.map_or("", String::as_str), order));
        }
        (Matching::NameOrPosition { order, .. }, _) => (order.len(), by_position(order)),
        (Matching::Name, header) => {
            let header = all_named(header.clone().unwrap_or_default());
            refuse_twice(&header, columns)?;
            let wanted = by_position(&header);
            let lacking = columns.iter().zip(&wanted).find(|(_, field)| field.is_none() && !header.is_empty());
            if let Some((column, _)) = lacking {
                let message =
                    format!("the file has no column {:?}; its columns are {}", column.name, header.join(", "));
                return Err(Error::rejected(Code::UndefinedColumn, message));
            }
            (header.len(), wanted)
        }
    };
    Ok(match dialect.backslashes {
        true => Cutting::Text(TextCutter::new(dialect.clone(), width, wanted)),
        false => Cutting::Csv(CsvCutter::new(dialect.clone(), Some(width), wanted)),
    })
}

/// A header's fields, those without a name by their number.
pub(super) fn all_named(header: Vec<String>) -> Vec<String> {
    let named = |(i, name): (usize, String)| if name.is_empty() { format!("column{i}") } else { name };
    header.into_iter().enumerate().map(named).collect()
}

/// A first record that names some of the columns is a header that names others besides.
fn refuse_half_a_header(cells: &[String], order: &[String]) -> Result<()> {
    let names = |cell: &&String| order.iter().any(|name| same_name(name, cell.trim()));
    let stranger = cells.iter().find(|cell| !names(cell));
    match stranger.filter(|_| cells.iter().any(|cell| names(&cell))) {
        Some(stranger) => Err(unknown_column(stranger.trim(), order)),
        None => Ok(()),
    }
}

fn peeker(dialect: &Dialect) -> CsvCutter {
    CsvCutter::any(dialect.clone())
}

fn from_records(mut records: Records, columns: &[Column], schema: &SchemaRef) -> Result<Decoded> {
    let mut bad = Vec::new();
    let mut values = Vec::with_capacity(columns.len());
    for (cells, column) in records.columns.iter().zip(columns) {
        values.push(from_text(cells, wanted(column), &mut bad)?);
    }
    let rows = records.len();
    let mut refused: Vec<Refused> = std::mem::take(&mut records.bad)
        .into_iter()
        .map(|bad| Refused { line: bad.line, code: bad.code, reason: bad.reason, text: bad.text })
        .collect();
    let missing = std::mem::take(&mut records.missing);
    let lines = std::mem::take(&mut records.lines);
    records.columns.clear();
    let text = |row: usize| records.text(row);
    refused.extend(refused_cells(&bad, &lines, text));
    let (batch, missing, kept) = without(&bad, rows, values, missing, schema)?;
    refused.sort_by_key(|r| r.line);
    let lines = kept.iter().map(|row| lines[*row]).collect();
    Ok(Decoded { batch, missing, refused, lines, original: Original::Text(records, kept) })
}

fn from_batch(
    batch: RecordBatch,
    first: u64,
    fields: &[Option<usize>],
    columns: &[Column],
    schema: &SchemaRef,
) -> Result<Decoded> {
    let rows = batch.num_rows();
    let mut bad = Vec::new();
    let (mut values, mut missing) = (Vec::with_capacity(columns.len()), Vec::with_capacity(columns.len()));
    for (column, field) in columns.iter().zip(fields) {
        match field {
            Some(i) => {
                values.push(from_values(batch.column(*i), batch.schema().field(*i), wanted(column), &mut bad)?);
                missing.push(None);
            }
            None => {
                values.push(arrow::array::new_null_array(&column.data_type.to_arrow(), rows));
                missing.push(Some(BooleanBuffer::new_set(rows)));
            }
        }
    }
    let lines: Vec<u64> = (first..first + rows as u64).collect();
    let refused = refused_cells(&bad, &lines, |row| row_in_json(&batch.slice(row, 1)).unwrap_or_default());
    let (decoded, missing, kept) = without(&bad, rows, values, missing, schema)?;
    let lines = kept.iter().map(|row| lines[*row]).collect();
    Ok(Decoded { batch: decoded, missing, refused, lines, original: Original::Values(batch, kept) })
}

fn wanted(column: &Column) -> Wanted<'_> {
    Wanted { name: &column.name, data_type: &column.data_type }
}

/// Each row once, with its first value that does not fit.
fn refused_cells(bad: &[BadCell], lines: &[u64], text: impl Fn(usize) -> String) -> Vec<Refused> {
    let mut by_row: Vec<&BadCell> = bad.iter().collect();
    by_row.sort_by_key(|cell| cell.row);
    by_row.dedup_by_key(|cell| cell.row);
    let refused = by_row.into_iter().map(|cell| Refused {
        line: lines[cell.row],
        code: cell.code,
        reason: cell.reason.clone(),
        text: text(cell.row),
    });
    refused.collect()
}

type Kept = (RecordBatch, Vec<Option<BooleanBuffer>>, Vec<usize>);

/// The rows that have no bad cell.
fn without(
    bad: &[BadCell],
    rows: usize,
    values: Vec<ArrayRef>,
    missing: Vec<Option<BooleanBuffer>>,
    schema: &SchemaRef,
) -> Result<Kept> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let fail = |e: arrow::error::ArrowError| corrupt("", "rows", &e);
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), values, &options).map_err(fail)?;
    if bad.is_empty() {
        return Ok((batch, missing, (0..rows).collect()));
    }
    let mut keep = vec![true; rows];
    bad.iter().for_each(|cell| keep[cell.row] = false);
    let kept = (0..rows).filter(|row| keep[*row]).collect();
    let keep = BooleanArray::from(keep);
    let batch = filter_record_batch(&batch, &keep).map_err(fail)?;
    let missing = missing.into_iter().map(|missing| {
        let Some(missing) = missing else { return Ok(None) };
        let kept = filter(&BooleanArray::new(missing, None), &keep).map_err(fail)?;
        Ok(Some(arrow::array::AsArray::as_boolean(kept.as_ref()).values().clone()))
    });
    let missing = missing.collect::<Result<_>>()?;
    Ok((batch, missing, kept))
}
