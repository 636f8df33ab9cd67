//! Owns the columns while they are being filled.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;

use crate::schema;

/// Columns of persons.
pub(crate) struct Persons {
    pub(crate) id: Vec<i64>,
    pub(crate) name: StringBuilder,
    pub(crate) email_address: StringBuilder,
    pub(crate) credit_card: StringBuilder,
    pub(crate) city: StringBuilder,
    pub(crate) state: StringBuilder,
    pub(crate) date_time: Vec<i64>,
    pub(crate) extra: StringBuilder,
}

impl Persons {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            id: Vec::with_capacity(rows),
            name: texts(rows, 12),
            email_address: texts(rows, 16),
            credit_card: texts(rows, 20),
            city: texts(rows, 10),
            state: texts(rows, 2),
            date_time: Vec::with_capacity(rows),
            extra: texts(rows, 160),
        }
    }

    pub(crate) fn finish(mut self) -> RecordBatch {
        batch(
            schema::person(),
            [
                numbers(self.id),
                Arc::new(self.name.finish()),
                Arc::new(self.email_address.finish()),
                Arc::new(self.credit_card.finish()),
                Arc::new(self.city.finish()),
                Arc::new(self.state.finish()),
                times(self.date_time),
                Arc::new(self.extra.finish()),
            ],
        )
    }
}

/// Columns of auctions.
pub(crate) struct Auctions {
    pub(crate) id: Vec<i64>,
    pub(crate) item_name: StringBuilder,
    pub(crate) description: StringBuilder,
    pub(crate) initial_bid: Vec<i64>,
    pub(crate) reserve: Vec<i64>,
    pub(crate) date_time: Vec<i64>,
    pub(crate) expires: Vec<i64>,
    pub(crate) seller: Vec<i64>,
    pub(crate) category: Vec<i64>,
    pub(crate) extra: StringBuilder,
}

impl Auctions {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            id: Vec::with_capacity(rows),
            item_name: texts(rows, 12),
            description: texts(rows, 52),
            initial_bid: Vec::with_capacity(rows),
            reserve: Vec::with_capacity(rows),
            date_time: Vec::with_capacity(rows),
            expires: Vec::with_capacity(rows),
            seller: Vec::with_capacity(rows),
            category: Vec::with_capacity(rows),
            extra: texts(rows, 400),
        }
    }

    pub(crate) fn finish(mut self) -> RecordBatch {
        batch(
            schema::auction(),
            [
                numbers(self.id),
                Arc::new(self.item_name.finish()),
                Arc::new(self.description.finish()),
                numbers(self.initial_bid),
                numbers(self.reserve),
                times(self.date_time),
                times(self.expires),
                numbers(self.seller),
                numbers(self.category),
                Arc::new(self.extra.finish()),
            ],
        )
    }
}

/// Columns of bids.
pub(crate) struct Bids {
    pub(crate) auction: Vec<i64>,
    pub(crate) bidder: Vec<i64>,
    pub(crate) price: Vec<i64>,
    pub(crate) channel: StringBuilder,
    pub(crate) url: StringBuilder,
    pub(crate) date_time: Vec<i64>,
    pub(crate) extra: StringBuilder,
}

impl Bids {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            auction: Vec::with_capacity(rows),
            bidder: Vec::with_capacity(rows),
            price: Vec::with_capacity(rows),
            channel: texts(rows, 10),
            url: texts(rows, 68),
            date_time: Vec::with_capacity(rows),
            extra: texts(rows, 70),
        }
    }

    pub(crate) fn finish(mut self) -> RecordBatch {
        batch(
            schema::bid(),
            [
                numbers(self.auction),
                numbers(self.bidder),
                numbers(self.price),
                Arc::new(self.channel.finish()),
                Arc::new(self.url.finish()),
                times(self.date_time),
                Arc::new(self.extra.finish()),
            ],
        )
    }
}

/// So many keys from 0, each with itself as text.
pub(crate) fn side_input(rows: i64) -> RecordBatch {
    let values = StringArray::from_iter_values((0..rows).map(|key| key.to_string()));
    batch(schema::side_input(), [numbers((0..rows).collect()), Arc::new(values)])
}

/// Appends a text made of parts; gives back its length.
pub(crate) fn put(column: &mut StringBuilder, parts: std::fmt::Arguments<'_>) -> usize {
    let before = column.values_slice().len();
    column.write_fmt(parts).expect("a builder takes any text");
    let length = column.values_slice().len() - before;
    column.append_value("");
    length
}

fn texts(rows: usize, bytes_each: usize) -> StringBuilder {
    StringBuilder::with_capacity(rows, rows * bytes_each)
}

fn numbers(values: Vec<i64>) -> Arc<dyn Array> {
    Arc::new(Int64Array::from(values))
}

fn times(values: Vec<i64>) -> Arc<dyn Array> {
    Arc::new(TimestampMicrosecondArray::from(values))
}

fn batch<const N: usize>(schema: SchemaRef, columns: [Arc<dyn Array>; N]) -> RecordBatch {
    RecordBatch::try_new(schema, columns.into()).expect("the columns are those of the schema, all of one length")
}
