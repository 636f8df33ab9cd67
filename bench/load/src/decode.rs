//! Measures the limit: how fast one core turns the same events from JSON into Arrow, and does nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::json;

use crate::Figures;
use crate::arguments::Arguments;
use crate::event::Events;

/// Runs `decode`.
pub fn run(arguments: &Arguments) -> Figures {
    let events: usize = arguments.number("events", 1000)?;
    let time = Duration::from_secs_f64(arguments.number("seconds", 3.0)?);
    let bodies: Vec<String> = (0..16).map(|seed| Events::new(seed << 32).lines(events)).collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Int64, true),
        Field::new("event", DataType::Utf8, true),
        Field::new("url", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]));
    let mut decoder = arrow::json::ReaderBuilder::new(schema).with_batch_size(events).build_decoder()?;
    let (began, mut rows) = (Instant::now(), 0);
    for body in bodies.iter().cycle() {
        let mut rest = body.as_bytes();
        while !rest.is_empty() {
            let taken = decoder.decode(rest)?;
            rest = &rest[taken..];
            if taken == 0 || rest.is_empty() {
                rows += decoder.flush()?.map_or(0, |batch| batch.num_rows());
            }
        }
        if began.elapsed() >= time {
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(json!({ "events": rows, "seconds": seconds, "events_per_s": rows as f64 / seconds }))
}
