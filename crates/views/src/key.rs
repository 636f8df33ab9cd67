//! Owns the bytes by which rows are told apart: equal rows have equal bytes.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::is_not_null;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::utils::normalize_float_zero;
use hashbrown::HashMap;

use crate::{Error, Result};

/// Turns columns into comparable bytes.
#[derive(Debug)]
pub(crate) struct RowEncoder {
    /// `None` for no columns: all rows are equal then.
    converter: Option<RowConverter>,
}

/// Encoded rows.
#[derive(Debug)]
pub(crate) struct EncodedRows {
    rows: Option<Rows>,
    len: usize,
}

impl RowEncoder {
    /// For columns of these types; refuses those that have no order.
    pub(crate) fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        let fields: Vec<SortField> = types.into_iter().map(SortField::new).collect();
        if fields.is_empty() {
            return Ok(Self { converter: None });
        }
        Ok(Self { converter: Some(RowConverter::new(fields)?) })
    }

    pub(crate) fn encode(&self, columns: &[ArrayRef], len: usize) -> Result<EncodedRows> {
        let rows = self.converter.as_ref().map(|c| c.convert_columns(columns)).transpose()?;
        Ok(EncodedRows { rows, len })
    }
}

impl EncodedRows {
    /// One row of no columns.
    pub(crate) fn empty_key() -> Self {
        Self { rows: None, len: 1 }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len).map(|i| self.row(i))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A number for each different row, in the order in which they are first seen: by row, and where each was first.
    pub(crate) fn numbered(&self) -> (Vec<u32>, Vec<usize>) {
        let mut known: HashMap<&[u8], u32> = HashMap::with_capacity(self.len);
        let mut firsts = Vec::new();
        let numbers = (0..self.len).map(|i| {
            *known.entry(self.row(i)).or_insert_with(|| {
                firsts.push(i);
                (firsts.len() - 1) as u32
            })
        });
        (numbers.collect(), firsts)
    }

    pub(crate) fn row(&self, i: usize) -> &[u8] {
        match &self.rows {
            Some(rows) => rows.row(i).data(),
            None => &[],
        }
    }
}

/// Which columns of a row make its key. Each part is a list of columns of one type: the first that is not NULL counts,
/// so that a row of an outer join has the key of whichever side it comes from.
#[derive(Debug)]
pub(crate) struct Key {
    parts: Vec<Vec<usize>>,
    encoder: RowEncoder,
    /// The length of its bytes, where that is always the same.
    width: Option<usize>,
}

impl Key {
    /// A key of single columns.
    pub(crate) fn of_columns(schema: &SchemaRef, columns: &[usize]) -> Result<Self> {
        Self::of_parts(schema, columns.iter().map(|c| vec![*c]).collect())
    }

    /// A key of parts.
    pub(crate) fn of_parts(schema: &SchemaRef, parts: Vec<Vec<usize>>) -> Result<Self> {
        let types: Vec<DataType> = parts.iter().map(|p| schema.field(p[0]).data_type().clone()).collect();
        let width = types.iter().map(encoded_width).sum();
        let encoder = RowEncoder::new(types).map_err(|_| {
            let names: Vec<&str> = parts.iter().map(|p| schema.field(p[0]).name().as_str()).collect();
            Error::not_incremental(
                format!("a key over {}", names.join(", ")),
                "a column of this type has no order; cast it to text",
            )
        })?;
        Ok(Self { parts, encoder, width })
    }

    /// The length of its bytes, where that is always the same.
    pub(crate) fn width(&self) -> Option<usize> {
        self.width
    }

    /// The columns of the first choice.
    pub(crate) fn columns(&self) -> Vec<usize> {
        self.parts.iter().map(|p| p[0]).collect()
    }

    /// The numbers of its columns.
    pub(crate) fn describe(&self) -> String {
        format!("key {:?}", self.parts)
    }

    /// The values of one of its parts.
    pub(crate) fn part(&self, rows: &RecordBatch, part: usize) -> Result<ArrayRef> {
        first_not_null(rows, &self.parts[part])
    }

    /// The keys of rows.
    pub(crate) fn encode(&self, rows: &RecordBatch) -> Result<EncodedRows> {
        let columns = self.parts.iter().map(|part| first_not_null(rows, part)).collect::<Result<Vec<_>>>()?;
        self.encode_values(&columns, rows.num_rows())
    }

    /// Keys whose parts have these values.
    pub(crate) fn encode_values(&self, values: &[ArrayRef], len: usize) -> Result<EncodedRows> {
        // As keys 0.0 and -0.0 are one, as they are for the engine's joins and groups.
        let values: Vec<ArrayRef> = values.iter().map(normalize_float_zero).collect();
        self.encoder.encode(&values, len)
    }

    /// Which rows have a NULL in their key.
    pub(crate) fn has_null(&self, rows: &RecordBatch) -> Vec<bool> {
        let mut nulls = vec![false; rows.num_rows()];
        for part in &self.parts {
            let column = rows.column(part[0]);
            if let Some(buffer) = column.logical_nulls() {
                nulls.iter_mut().enumerate().for_each(|(i, null)| *null |= buffer.is_null(i));
            }
        }
        nulls
    }
}

/// The bytes of any value of a type, if that is one number.
fn encoded_width(of: &DataType) -> Option<usize> {
    match of {
        DataType::Boolean => Some(2),
        other => other.primitive_width().map(|width| width + 1),
    }
}

fn first_not_null(rows: &RecordBatch, columns: &[usize]) -> Result<ArrayRef> {
    let mut chosen = ArrayRef::clone(rows.column(columns[0]));
    for column in &columns[1..] {
        chosen = zip(&is_not_null(&chosen)?, &chosen, rows.column(*column))?;
    }
    Ok(chosen)
}
