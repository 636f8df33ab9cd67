//! Owns the record of what was done for lake tables: the last rounds of care, automatic and on demand
//! (`system.maintenance`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream_buffer::Clock;
use millstream_catalog::ObjectName;
use millstream_store::{Cooled, MaintenanceReport};
use parking_lot::Mutex;

use crate::background::Expired;

/// Rounds that are kept.
const KEPT: usize = 1000;

/// One round of care of one table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Round {
    /// When it ended, µs since 1970.
    pub(crate) ended_us: i64,
    /// What ran: `automatic`, `optimize`, `temperature` or `vacuum`.
    pub(crate) kind: &'static str,
    /// The table or stream.
    pub(crate) object: String,
    /// How long it took.
    pub(crate) took: Duration,
    /// What it did.
    pub(crate) report: MaintenanceReport,
    /// What went because of its age.
    pub(crate) expired: Expired,
    /// What went to the cold place.
    pub(crate) cooled: Cooled,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

impl Round {
    /// A round that merged files.
    pub(crate) fn of<E: std::fmt::Display>(
        kind: &'static str,
        object: &ObjectName,
        took: Duration,
        done: &Result<MaintenanceReport, E>,
    ) -> Self {
        let (report, error) = match done {
            Ok(report) => (report.clone(), None),
            Err(error) => (MaintenanceReport::default(), Some(error.to_string())),
        };
        Self { kind, object: object.to_string(), took, report, error, ..Self::default() }
    }

    /// A round that deleted files, so many with so many bytes.
    pub(crate) fn of_vacuum<E: std::fmt::Display>(
        object: &ObjectName,
        took: Duration,
        done: &Result<(u64, u64), E>,
    ) -> Self {
        let done = done.as_ref().map(|&(files_vacuumed, bytes_vacuumed)| MaintenanceReport {
            files_vacuumed,
            bytes_vacuumed,
            ..MaintenanceReport::default()
        });
        Self::of("vacuum", object, took, &done)
    }
}

/// The last rounds of all tables.
#[derive(Debug)]
pub(crate) struct Rounds {
    clock: Arc<dyn Clock>,
    kept: Mutex<VecDeque<Round>>,
}

impl Rounds {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    /// Keeps a round that just ended.
    pub(crate) fn record(&self, round: Round) {
        let mut kept = self.kept.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Round { ended_us: self.clock.now_us(), ..round });
    }

    /// The rounds, oldest first.
    pub(crate) fn list(&self) -> Vec<Round> {
        self.kept.lock().iter().cloned().collect()
    }
}
