//! EMIT ON WINDOW CLOSE: each window comes once, as the batch answer over the rows that were in time has it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod equality;
mod explain;
mod run;
mod state;
