//! How data comes in: bodies decoded to rows, and the HTTP door that takes them.
//!
//! It knows the formats and wires of producers; it does not know how rows are kept or queried.

pub mod decode;
pub mod http;

pub use http::{Limits, router};
