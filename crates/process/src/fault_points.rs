//! Owns the points at which tests make the engine fail, to see what it finds again.

use std::sync::Arc;

use millstream_catalog::fault::Code;
use parking_lot::Mutex;

use crate::{Error, Result};

/// A point between two steps of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPoint {
    /// Steps were taken, and nothing of them is committed.
    OutboxGathered,
    /// The state of a view is committed with its outbox, and nothing of that is delivered.
    OutboxCommitted,
    /// The outbox is delivered, and still in the state.
    OutboxDelivered,
    /// A table's new definition is in the catalog, and its files have the old columns.
    AlterDecided,
}

/// Where the engine is to fail. Cheap to clone; nothing fails unless it is told so.
#[derive(Debug, Clone, Default)]
pub struct FaultPoints(Arc<Mutex<Option<FaultPoint>>>);

impl FaultPoints {
    /// Fails whenever the point is reached, from now on; `None` ends that.
    pub fn fail_at(&self, point: Option<FaultPoint>) {
        *self.0.lock() = point;
    }

    pub(crate) fn reach(&self, point: FaultPoint) -> Result<()> {
        if *self.0.lock() == Some(point) {
            return Err(Error::rejected(Code::IoError, format!("a test fails at {point:?}")));
        }
        Ok(())
    }
}
