//! What happened lately: the durable log of a stream, and its engines.
//!
//! Depends on `catalog` alone. It knows batches, offsets and producer keys; it does not know SQL, the lake, or who
//! the producers and readers are.

mod clock;
mod device;
mod disk;
mod error;
mod fit;
mod keys;
mod log;
mod memory;
mod simulated;
mod tail;
mod weight;

pub use clock::{Clock, ManualClock, SystemClock};
pub use device::{Disk, DiskFile, RealDisk};
pub use disk::{Compression, DiskLog, DiskLogOptions, QueueBudget};
pub use error::{Error, Result};
pub use log::{Append, Appended, Key, Log, LogBatch, LogReader, LogStats, LogView, OffsetRange, Part};
pub use memory::MemoryLog;
pub use simulated::SimulatedDisk;
