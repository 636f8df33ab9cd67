//! Every query over 20,000 events, by plain DataFusion, by dataflows and by the engine: all give the answers in
//! `answers/`.

#![expect(clippy::unwrap_used, reason = "a test fails where its own preparation fails")]

mod batch;
mod dataflow;
mod engine;
mod events;
mod golden;
