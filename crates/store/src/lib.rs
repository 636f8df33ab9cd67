//! What happened ever: the lake of Delta tables, on a local disk or an object store.
//!
//! Depends on `catalog` alone. It knows Delta tables, object stores and what must be synced; it does not know logs,
//! SQL sessions or doors.

mod error;
mod lake;

pub use error::{Error, Result};
pub use lake::{Lake, LakeSnapshot, LakeTable, MaintenanceReport};
