//! Owns what keeps records in a table's log that the lake has: followers that have not taken them yet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use millstream_catalog::Positions;
use parking_lot::Mutex;

use crate::stream::OpenStream;

/// A log does not grow beyond this for the sake of followers: those behind it begin anew from the table.
const HELD_BYTES: u64 = 1 << 30;

/// The position from which a follower still needs a table's log, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold(Arc<AtomicU64>);

/// The followers' positions.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<Vec<Weak<AtomicU64>>>);

impl Hold {
    /// Says that what is before `position` is not needed any more.
    pub(crate) fn release_to(&self, position: u64) {
        self.0.store(position, Ordering::Release);
    }
}

impl Holds {
    /// A follower that needs all that the log has.
    pub(crate) fn hold(&self) -> Hold {
        let position = Arc::new(AtomicU64::new(0));
        let mut held = self.0.lock();
        held.retain(|hold| hold.strong_count() > 0);
        held.push(Arc::downgrade(&position));
        Hold(position)
    }

    fn least(&self) -> Option<u64> {
        let held = self.0.lock();
        held.iter().filter_map(Weak::upgrade).map(|position| position.load(Ordering::Acquire)).min()
    }
}

/// The positions that a table's log may be trimmed to: what the lake has and no follower still needs.
pub(crate) fn trimmed_to(table: &OpenStream, lake: &Positions) -> Positions {
    let held = table.table().and_then(|state| state.holds.least());
    let Some(held) = held.filter(|held| *held < lake.get(0)) else { return lake.clone() };
    let held = Positions(vec![held]);
    if table.log().view().size_since(&held).1 > HELD_BYTES { lake.clone() } else { held }
}
