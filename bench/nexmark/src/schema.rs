//! Owns the columns of the three kinds of events and of the side input.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

static PERSON: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("email_address", DataType::Utf8),
        ("credit_card", DataType::Utf8),
        ("city", DataType::Utf8),
        ("state", DataType::Utf8),
        ("date_time", TIME),
        ("extra", DataType::Utf8),
    ])
});

static AUCTION: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("id", DataType::Int64),
        ("item_name", DataType::Utf8),
        ("description", DataType::Utf8),
        ("initial_bid", DataType::Int64),
        ("reserve", DataType::Int64),
        ("date_time", TIME),
        ("expires", TIME),
        ("seller", DataType::Int64),
        ("category", DataType::Int64),
        ("extra", DataType::Utf8),
    ])
});

static BID: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("auction", DataType::Int64),
        ("bidder", DataType::Int64),
        ("price", DataType::Int64),
        ("channel", DataType::Utf8),
        ("url", DataType::Utf8),
        ("date_time", TIME),
        ("extra", DataType::Utf8),
    ])
});

static SIDE_INPUT: LazyLock<SchemaRef> =
    LazyLock::new(|| schema(&[("key", DataType::Int64), ("value", DataType::Utf8)]));

const TIME: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), false)).collect::<Vec<_>>()))
}

/// The columns of a person.
pub fn person() -> SchemaRef {
    PERSON.clone()
}

/// The columns of an auction.
pub fn auction() -> SchemaRef {
    AUCTION.clone()
}

/// The columns of a bid.
pub fn bid() -> SchemaRef {
    BID.clone()
}

/// The columns of the table that q13 looks into.
pub fn side_input() -> SchemaRef {
    SIDE_INPUT.clone()
}
