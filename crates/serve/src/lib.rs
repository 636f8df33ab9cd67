//! How it goes out: SQL over HTTP and the PostgreSQL wire.
//!
//! Only this crate knows the two wires. It hands SQL to the engine's sessions and writes their batches as they come; it
//! never holds a whole result. [`http::router`] answers HTTP; [`pg::serve`] answers PostgreSQL clients.

mod calendar;
mod column;
pub mod http;
mod parameter;
pub mod pg;
mod sql_type;

pub use sql_type::SqlType;
