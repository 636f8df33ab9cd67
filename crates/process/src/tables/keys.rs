//! Owns the index of a table's primary key: which row has a key.
//!
//! A key is kept as its fingerprint, 128 bits of a hash: 24 bytes a row, and no row is read to tell whether a key is
//! there. Two keys of one fingerprint are not told apart; among a thousand million keys, the chance that there are two
//! such is below 10^-20. The index lies in parts that grow one after the other: while a part grows it is there twice.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;
use millstream_catalog::fault::Code;
use millstream_catalog::{OFFSET_COLUMN, PrimaryKey, Stream};
use roaring::RoaringTreemap;
use twox_hash::XxHash64;

use crate::{Error, Result};

/// A key, shortened: two hashes of it.
pub(super) type Print = [u64; 2];

/// Makes fingerprints of keys.
#[derive(Debug)]
pub(super) struct KeyPrints {
    name: String,
    /// The key's columns with the types of the table.
    schema: SchemaRef,
    converter: RowConverter,
}

impl KeyPrints {
    /// Of a table's primary key; `None` when it has none.
    pub(super) fn of(table: &Stream) -> Result<Option<Self>> {
        let Some(PrimaryKey { name, columns }) = table.table.as_ref().and_then(|t| t.primary_key.as_ref()) else {
            return Ok(None);
        };
        let schema = table.schema();
        let indices = columns.iter().map(|c| schema.index_of(c)).collect::<Result<Vec<_>, _>>().map_err(unfit)?;
        let schema: Schema = schema.project(&indices).map_err(unfit)?;
        let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(unfit)?;
        Ok(Some(Self { name: name.clone(), schema: Arc::new(schema), converter }))
    }

    /// The key of each row; `rows` has the key's columns among others, of the table's types or the reader's.
    pub(super) fn prints(&self, rows: &RecordBatch) -> Result<Vec<Print>> {
        let columns: Vec<ArrayRef> = self.columns(rows)?.iter().map(same_key).collect();
        let encoded = self.converter.convert_columns(&columns).map_err(unfit)?;
        Ok(encoded.iter().map(|row| [1, 2].map(|seed| XxHash64::oneshot(seed, row.as_ref()))).collect())
    }

    /// The key's columns.
    pub(super) fn fields(&self) -> &Fields {
        self.schema.fields()
    }

    /// The values of the key's columns, of the table's types.
    pub(super) fn columns(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let column = |field: &Arc<arrow::datatypes::Field>| {
            let column = rows.column_by_name(field.name()).ok_or_else(|| {
                Error::rejected(Code::Internal, format!("rows came without key column {:?}", field.name()))
            })?;
            if column.data_type() == field.data_type() {
                return Ok(Arc::clone(column));
            }
            cast(column, field.data_type()).map_err(unfit)
        };
        self.schema.fields().iter().map(column).collect()
    }

    /// The refusal of rows that are no longer at hand.
    pub(super) fn taken_somewhere(&self, table: &Stream, twice: bool) -> Error {
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        self.refusal(table, &format!("a key ({})", names.join(", ")), twice)
    }

    /// The refusal of a row whose key is there already.
    pub(super) fn taken(&self, table: &Stream, rows: &RecordBatch, row: usize, twice: bool) -> Error {
        let key = self.shown(rows, row);
        self.refusal(table, &key, twice)
    }

    /// The refusal of a key that rows of the table break.
    pub(super) fn there_twice(&self, table: &Stream, rows: &RecordBatch, row: usize) -> Error {
        Error::Rejected {
            code: Code::UniqueViolation,
            message: format!(
                "primary key {:?} of table {} cannot be added: {} is there twice",
                self.name,
                table.name,
                self.shown(rows, row)
            ),
            hint: Some("DELETE the rows that are too many, then alter the table".to_owned()),
            position: None,
        }
    }

    /// A row's key as `(columns) = (values)`.
    fn shown(&self, rows: &RecordBatch, row: usize) -> String {
        let value = |column: &ArrayRef| {
            arrow::util::display::array_value_to_string(column, row).unwrap_or_else(|_| "?".to_owned())
        };
        let values = self.columns(rows).map(|columns| columns.iter().map(value).collect::<Vec<_>>().join(", "));
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        format!("({}) = ({})", names.join(", "), values.unwrap_or_default())
    }

    fn refusal(&self, table: &Stream, key: &str, twice: bool) -> Error {
        let cause = if twice { "comes twice in the statement" } else { "is there already" };
        Error::Rejected {
            code: Code::UniqueViolation,
            message: format!("primary key {:?} of table {}: {key} {cause}", self.name, table.name),
            hint: Some("INSERT … ON CONFLICT says what becomes of such rows".to_owned()),
            position: None,
        }
    }
}

/// The values of a key's column, equal ones with equal bits: -0 as 0, every NaN as one.
pub(crate) fn same_key(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => Arc::new(
            column
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|value| if value.is_nan() { f32::NAN } else { value + 0.0 }),
        ),
        DataType::Float64 => Arc::new(
            column
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|value| if value.is_nan() { f64::NAN } else { value + 0.0 }),
        ),
        _ => Arc::clone(column),
    }
}

/// Which row has which key.
#[derive(Debug)]
pub(super) struct KeyIndex {
    pub(super) prints: KeyPrints,
    parts: Vec<HashMap<Print, i64>>,
}

/// Parts of an index.
const PARTS: usize = 64;

/// In which of so many parts a key is.
pub(super) fn part_of(print: &Print, parts: usize) -> usize {
    // What a map makes of a key is another hash.
    print[0] as usize % parts
}

impl KeyIndex {
    pub(super) fn new(prints: KeyPrints) -> Self {
        Self { prints, parts: vec![HashMap::new(); PARTS] }
    }

    /// Adds rows of the table, with their numbers in `_offset`.
    pub(super) fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        let numbers = super::changelog::numbers_of(rows).map_err(unfit)?;
        let prints = self.prints.prints(rows)?;
        self.extend(prints.into_iter().zip(numbers.values().iter().copied()));
        Ok(())
    }

    /// The row that has a key.
    pub(super) fn row(&self, print: Print) -> Option<i64> {
        self.parts[part_of(&print, PARTS)].get(&print).copied()
    }

    /// The first of `prints` whose row is there, and stays when the rows in `gone` go.
    pub(super) fn first_taken(&self, prints: &[Print], gone: &RoaringTreemap) -> Option<usize> {
        prints.iter().position(|print| self.row(*print).is_some_and(|row| !gone.contains(row as u64)))
    }

    /// Rows go.
    pub(super) fn remove(&mut self, prints: &[Print], numbers: &[i64]) {
        for (print, number) in prints.iter().zip(numbers) {
            if self.row(*print) == Some(*number) {
                self.parts[part_of(print, PARTS)].remove(print);
            }
        }
    }

    /// Rows come, numbered from `first`.
    pub(super) fn add(&mut self, prints: &[Print], first: i64) {
        self.extend(prints.iter().copied().zip(first..));
    }

    fn extend(&mut self, rows: impl Iterator<Item = (Print, i64)>) {
        for (print, number) in rows {
            self.parts[part_of(&print, PARTS)].insert(print, number);
        }
    }
}

/// The columns to read to build the index: the key's and the number.
pub(super) fn index_columns(table: &Stream) -> Vec<String> {
    let key = table.table.as_ref().and_then(|t| t.primary_key.as_ref());
    let mut columns: Vec<String> = key.map(|k| k.columns.clone()).unwrap_or_default();
    columns.push(OFFSET_COLUMN.to_owned());
    columns
}

fn unfit(error: arrow::error::ArrowError) -> Error {
    Error::rejected(Code::Internal, format!("a primary key cannot be read: {error}"))
}
