//! The window functions through the planner: their plans, their answers beside a model's, and what they refuse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod plans;
mod refusals;
mod table;
