//! Owns the making of small tables, column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int16Builder, Int32Array, Int64Builder, ListBuilder, StringArray,
};
use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::Result;

/// Rows of one kind, and the columns that were made of them.
pub(super) struct Sheet<'a, T> {
    rows: &'a [T],
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl<'a, T> Sheet<'a, T> {
    /// A sheet with a line for each of these.
    pub(super) fn of(rows: &'a [T]) -> Self {
        Self { rows, fields: vec![], columns: vec![] }
    }

    fn with(mut self, name: &str, column: ArrayRef) -> Self {
        self.fields.push(Field::new(name, column.data_type().clone(), true));
        self.columns.push(column);
        self
    }

    pub(super) fn text<S: Into<String>>(self, name: &str, value: impl Fn(&T) -> S) -> Self {
        self.optional(name, |row| Some(value(row)))
    }

    pub(super) fn optional<S: Into<String>>(self, name: &str, value: impl Fn(&T) -> Option<S>) -> Self {
        let values: StringArray = self.rows.iter().map(|row| value(row).map(Into::into)).collect();
        self.with(name, Arc::new(values))
    }

    pub(super) fn int(self, name: &str, value: impl Fn(&T) -> i32) -> Self {
        let values = Int32Array::from_iter_values(self.rows.iter().map(value));
        self.with(name, Arc::new(values))
    }

    pub(super) fn optional_int(self, name: &str, value: impl Fn(&T) -> Option<i32>) -> Self {
        let values: Int32Array = self.rows.iter().map(value).collect();
        self.with(name, Arc::new(values))
    }

    pub(super) fn small(self, name: &str, value: impl Fn(&T) -> i16) -> Self {
        let values = Int16Array::from_iter_values(self.rows.iter().map(value));
        self.with(name, Arc::new(values))
    }

    pub(super) fn real(self, name: &str, value: f32) -> Self {
        let values = Float32Array::from_value(value, self.rows.len());
        self.with(name, Arc::new(values))
    }

    pub(super) fn flag(self, name: &str, value: impl Fn(&T) -> bool) -> Self {
        let values: BooleanArray = self.rows.iter().map(|row| Some(value(row))).collect();
        self.with(name, Arc::new(values))
    }

    /// Lists of small numbers.
    pub(super) fn smalls(self, name: &str, value: impl Fn(&T) -> Option<Vec<i16>>) -> Self {
        let mut lists = ListBuilder::new(Int16Builder::new());
        for row in self.rows {
            let list = value(row);
            lists.values().append_slice(list.as_deref().unwrap_or_default());
            lists.append(list.is_some());
        }
        let lists = lists.finish();
        self.with(name, Arc::new(lists))
    }

    /// Lists of numbers of objects.
    pub(super) fn oids(self, name: &str, value: impl Fn(&T) -> Vec<i64>) -> Self {
        let mut lists = ListBuilder::new(Int64Builder::new());
        for row in self.rows {
            lists.values().append_slice(&value(row));
            lists.append(true);
        }
        let lists = lists.finish();
        self.with(name, Arc::new(lists))
    }

    /// A column without values.
    pub(super) fn nothing(self, name: &str, data_type: DataType) -> Self {
        let column = new_null_array(&data_type, self.rows.len());
        self.with(name, column)
    }

    /// Lists of texts, of which there are none.
    pub(super) fn no_texts(self, name: &str) -> Self {
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        self.nothing(name, DataType::List(item))
    }

    /// The table.
    pub(super) fn table(self) -> Result<Arc<dyn TableProvider>> {
        let schema = Arc::new(Schema::new(self.fields));
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), self.columns, &options)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }
}
