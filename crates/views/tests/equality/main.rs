//! A view equals its query: after any changes, in any batches, the kept answer is what plain DataFusion answers over
//! the same rows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixed;
mod restart;
mod world;
