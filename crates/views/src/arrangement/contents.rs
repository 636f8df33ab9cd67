//! Owns how rows are found by all of their columns, where they go so.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::index::{Chains, content_prints, table};
use super::table::{NO_ROW, Print, Table};
use crate::key::RowEncoder;
use crate::{Error, Result};

/// Finds rows by all of their columns.
#[derive(Debug)]
pub(super) struct Contents {
    encoder: RowEncoder,
    /// The newest of equal rows.
    pub(super) index: Table,
    pub(super) chains: Chains,
}

impl Contents {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self> {
        let types = schema.fields().iter().map(|f| f.data_type().clone());
        let encoder = RowEncoder::new(types).map_err(|_| {
            Error::not_incremental(
                "a row that can change",
                "it has a column of a type without an order (a map or a union); cast it to text",
            )
        })?;
        Ok(Self { encoder, index: table(), chains: Chains::default() })
    }

    pub(super) fn prints(&self, rows: &RecordBatch) -> Result<Vec<Print>> {
        Ok(content_prints(&self.encoder.encode(rows.columns(), rows.num_rows())?))
    }

    pub(super) fn insert(&mut self, print: &Print, row: u32) {
        let before = self.index.put(print, row);
        self.chains.push(row, before);
    }

    /// Takes out the newest row of that content.
    pub(super) fn take(&mut self, print: &Print) -> Option<u32> {
        let row = self.index.find(print);
        if row == NO_ROW {
            return None;
        }
        match self.chains.unlink(row) {
            Some(NO_ROW) | None => self.index.remove(print),
            Some(older) => self.index.put(print, older),
        };
        Some(row)
    }
}
