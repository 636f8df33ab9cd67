//! Prints how fast the decoder reads 102-byte events, beside arrow-json's decoder on the same bytes.

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use arrow::json::ReaderBuilder;
use millstream_catalog::{Column, DataType, ObjectName, Stream, StreamId, StreamOptions};
use millstream_connect::decode::{DecodeLimits, Format, Plan, decode};

const EVENTS: usize = 10_000;
const ROUNDS: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stream = events()?;
    let body = bytes::Bytes::from(body());
    let plan = Plan::new(&stream);
    let ours = best(body.len(), || {
        let decoded = decode(&plan, Format::JsonLines, &body, DecodeLimits::default())?;
        Ok(decoded.batch.num_rows())
    })?;
    let schema = with_offset_zone(&stream.schema());
    let arrow = best(body.len(), || {
        let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(EVENTS).build_decoder()?;
        decoder.decode(&body)?;
        Ok(decoder.flush()?.map_or(0, |batch| batch.num_rows()))
    })?;
    report(&format!("millstream {ours:.0} MB/s, arrow-json {arrow:.0} MB/s, ratio {:.2}", ours / arrow));
    Ok(())
}

/// The best of several rounds, MB/s.
fn best(
    bytes: usize,
    run: impl Fn() -> Result<usize, Box<dyn std::error::Error>>,
) -> Result<f64, Box<dyn std::error::Error>> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let rows = run()?;
        best = best.min(start.elapsed().as_secs_f64());
        assert_eq!(rows, EVENTS, "every event is decoded");
    }
    Ok(bytes as f64 / best / 1e6)
}

/// arrow-json reads zones by offset only, unless it is built with a zone database.
fn with_offset_zone(schema: &Schema) -> Arc<Schema> {
    let field = |field: &Arc<Field>| match field.data_type() {
        ArrowType::Timestamp(unit, Some(_)) => {
            field.as_ref().clone().with_data_type(ArrowType::Timestamp(*unit, Some("+00:00".into())))
        }
        _ => field.as_ref().clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn events() -> Result<Stream, Box<dyn std::error::Error>> {
    Ok(Stream {
        id: StreamId(uuid::Uuid::nil()),
        name: ObjectName::public("events")?,
        columns: vec![
            Column::new("user_id", DataType::BigInt),
            Column::new("event", DataType::Text),
            Column::new("url", DataType::Text),
            Column::new("price", DataType::Double),
            Column::new("ts", DataType::TimestampTz),
        ],
        checks: Vec::new(),
        watermark: None,
        partition_by: Vec::new(),
        options: StreamOptions::default(),
        comment: None,
        version: 1,
        created_at_ms: 0,
        table: None,
    })
}

fn body() -> Vec<u8> {
    let mut body = Vec::with_capacity(EVENTS * 103);
    for i in 0..EVENTS {
        let (user, page, cents) = (100_000 + i * 7919 % 900_000, 1000 + i * 31 % 9000, i % 100);
        let (minute, second) = (i / 60 % 60, i % 60);
        let event = ["purchase", "pageview", "checkout"][i % 3];
        let row = format!(
            "{{\"user_id\":{user},\"event\":\"{event}\",\"url\":\"/products/{page}\",\"price\":19.{cents:02},\
             \"ts\":\"2026-01-01T00:{minute:02}:{second:02}Z\"}}\n"
        );
        assert_eq!(row.len(), 103, "an event has 102 bytes");
        body.extend_from_slice(row.as_bytes());
    }
    body
}

#[expect(clippy::print_stdout, reason = "an example that reports its measurement")]
fn report(line: &str) {
    println!("{line}");
}
