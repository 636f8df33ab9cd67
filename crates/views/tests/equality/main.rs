//! A view equals its query: after any changes, in any batches, the kept answer is what plain DataFusion answers over
//! the same rows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod fixed;
mod grammar;
mod history;
mod lookups;
mod memory;
mod nodes;
mod outcome;
mod random;
mod refused;
mod restart;
mod shrink;
mod world;
