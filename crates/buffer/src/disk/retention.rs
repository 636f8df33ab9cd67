//! Owns what a trim removes: whole segments behind it that no retention limit holds.

use std::sync::Arc;

use millstream_catalog::Positions;

use super::index::{WriteStep, index_path, load_marks};
use super::segment::{Segment, io_error};
use super::writer::Writer;
use crate::keys::Mark;
use crate::{Error, Result};

/// How much of what trims allow to go is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Retention {
    pub ms: Option<u64>,
    pub bytes: Option<u64>,
}

impl Retention {
    /// Whether rows accepted at `ingest_us` stay in a log of `total_bytes`.
    pub fn holds(&self, ingest_us: i64, now_us: i64, total_bytes: u64) -> bool {
        let young = |ms: u64| now_us.saturating_sub(ingest_us) < (ms as i64).saturating_mul(1000);
        let fits = |limit: u64| total_bytes <= limit;
        match (self.ms, self.bytes) {
            (None, None) => false,
            (Some(ms), None) => young(ms),
            (None, Some(limit)) => fits(limit),
            (Some(ms), Some(limit)) => young(ms) && fits(limit),
        }
    }
}

impl Writer {
    /// Allows rows before `upto` to go and removes what may.
    pub fn trim(&mut self, upto: &Positions) -> Result<()> {
        self.shared.check_writable()?;
        for (partition, &offset) in upto.0.iter().enumerate().take(self.shared.partitions as usize) {
            let partition = partition as u32;
            if offset > self.trim_upto.get(partition) {
                self.trim_upto.set(partition, offset);
            }
        }
        if self.active_is_due() {
            self.roll()?;
        }
        self.apply_retention()
    }

    /// Whether the segment in use would go if it were not in use.
    fn active_is_due(&self) -> bool {
        let retention = *self.shared.retention.lock();
        let total = self.shared.state.read().segments.iter().map(|s| s.data_len()).sum();
        self.has_entries()
            && self.active.segment.is_before(&self.trim_upto)
            && !retention.holds(self.active.extent.last_ingest_us, self.shared.clock.now_us(), total)
    }

    /// Removes the oldest segments that lie before the last trim and that nothing holds.
    pub fn apply_retention(&mut self) -> Result<()> {
        let doomed = self.doomed_segments();
        let Some(last) = doomed.last() else {
            return Ok(());
        };
        let floor = last.extent().next_sequence;
        let marks = self.marks_of(&doomed)?;
        self.note_trim(floor, &marks, &doomed)?;
        let mut state = self.shared.state.write();
        state.segments = state.segments.iter().skip(doomed.len()).cloned().collect();
        if let Some(first) = state.segments.first() {
            state.start = first.base.clone();
        }
        let (start, end) = (state.start.clone(), state.end.clone());
        state.tail.trim(&start, &end);
        drop(state);
        doomed.iter().try_for_each(|segment| self.remove_segment(segment))?;
        self.sync_dir()
    }

    fn doomed_segments(&self) -> Vec<Arc<Segment>> {
        let retention = *self.shared.retention.lock();
        let now_us = self.shared.clock.now_us();
        let segments = self.shared.state.read().segments.clone();
        let mut total: u64 = segments.iter().map(|s| s.data_len()).sum();
        let mut doomed = Vec::new();
        for segment in segments.iter().take(segments.len().saturating_sub(1)) {
            let extent = segment.extent();
            if !self.trim_upto.covers(&extent.end) || retention.holds(extent.last_ingest_us, now_us, total) {
                break;
            }
            total -= extent.data_len;
            doomed.push(segment.clone());
        }
        doomed
    }

    fn marks_of(&self, segments: &[Arc<Segment>]) -> Result<Vec<Mark>> {
        let mut marks = Vec::new();
        for segment in segments {
            marks.append(&mut load_marks(&*self.shared.disk, segment)?);
        }
        Ok(marks)
    }

    /// Writes down what goes before it goes. On a full disk the indexes make room: they can be made anew.
    fn note_trim(&mut self, floor: u64, marks: &[Mark], doomed: &[Arc<Segment>]) -> Result<()> {
        let outcome = match self.trims.note(floor, marks, self.shared.key_limit) {
            Err((WriteStep::Write, Error::DiskFull { .. })) => {
                for segment in doomed {
                    segment.pin()?;
                    let _made_anew_if_gone = self.shared.disk.remove(&index_path(&segment.path));
                }
                self.sync_dir()?;
                self.trims.note(floor, marks, self.shared.key_limit)
            }
            other => other,
        };
        match outcome {
            Ok(()) => Ok(()),
            Err((WriteStep::Write, e)) => Err(e),
            Err((WriteStep::Sync, e)) => Err(self.shared.poison(format!("a trim could not be written down: {e}"))),
        }
    }

    /// Removes a segment's files; views that hold it read on.
    fn remove_segment(&self, segment: &Arc<Segment>) -> Result<()> {
        if Arc::strong_count(segment) > 1 {
            segment.pin()?;
        }
        self.shared.disk.remove(&segment.path).map_err(|e| io_error("remove", &segment.path, e))?;
        let index = index_path(&segment.path);
        match self.shared.disk.remove(&index) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", &index, e)),
            _ => Ok(()),
        }
    }

    fn sync_dir(&self) -> Result<()> {
        self.shared.disk.sync_dir(&self.shared.dir).map_err(|e| self.shared.sync_failed(&self.shared.dir, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_limits_nothing_is_held() {
        assert!(!Retention::default().holds(0, 0, 0));
    }

    #[test]
    fn young_rows_are_held_unless_the_log_is_too_large() {
        let retention = Retention { ms: Some(10), bytes: Some(100) };
        assert!(retention.holds(0, 9_999, 100));
        assert!(!retention.holds(0, 10_000, 100));
        assert!(!retention.holds(0, 9_999, 101));
    }
}
