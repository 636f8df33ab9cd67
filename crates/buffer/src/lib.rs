//! What happened lately: the durable log of a stream, and its engines.
//!
//! Depends on `catalog` alone. It knows batches, offsets and producer keys; it does not know SQL, the lake, or who
//! the producers and readers are.

mod clock;
mod error;
mod log;

pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
pub use log::{
    Append, Appended, Key, Log, LogBatch, LogReader, LogStats, LogView, OffsetRange, Part,
};
