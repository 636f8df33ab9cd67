//! Owns the reading side: a log at one instant, the newest batches from memory, older ones from segment files.

use std::sync::Arc;

use millstream_catalog::Positions;

use super::segment::{PartList, PartMeta, Segment};
use crate::memory::check_start;
use crate::tail::{PinnedTail, TailBatches, begin_at};
use crate::{LogBatch, LogReader, LogView, Result};

/// Neighbouring parts are read together up to this many bytes.
const RUN_BYTES: u64 = 1 << 20;
/// Parts looked at together.
const WINDOW_PARTS: usize = 512;

/// A disk log at one instant.
#[derive(Debug)]
pub(super) struct DiskView {
    pub start: Positions,
    pub end: Positions,
    pub segments: Arc<[Arc<Segment>]>,
    pub tail: PinnedTail,
}

impl LogView for DiskView {
    fn start(&self) -> &Positions {
        &self.start
    }

    fn end(&self) -> &Positions {
        &self.end
    }

    fn read(&self, from: &Positions) -> Result<LogReader> {
        check_start(from, &self.start)?;
        let recent = self.tail.batches(from);
        if from.covers(&self.tail.start) {
            return Ok(Box::new(recent.map(Ok)));
        }
        let first = self.segments.iter().position(|s| !s.is_before(from)).unwrap_or(self.segments.len());
        Ok(Box::new(DiskReader {
            segments: self.segments.clone(),
            from: from.clone(),
            before_sequence: self.tail.first_sequence,
            segment: first,
            list: None,
            part: 0,
            decoded: Vec::new().into_iter(),
            recent,
            failed: false,
        }))
    }

    fn resident(&self, from: &Positions) -> Option<Vec<LogBatch>> {
        let held = from.covers(&self.start) && from.covers(&self.tail.start);
        held.then(|| self.tail.batches(from).collect())
    }

    fn size_since(&self, from: &Positions) -> (u64, u64) {
        let mut bytes = 0;
        for segment in self.segments.iter() {
            let extent = segment.extent();
            let all = extent.end.rows_since(&segment.base);
            let wanted: u64 = (extent.end.0.iter().enumerate())
                .map(|(p, &end)| end.saturating_sub(from.get(p as u32).max(segment.base.get(p as u32))))
                .sum();
            if all > 0 {
                bytes += (u128::from(extent.data_len) * u128::from(wanted) / u128::from(all)) as u64;
            }
        }
        (self.end.rows_since(from), bytes)
    }
}

/// Reads segment files up to where memory takes over.
struct DiskReader {
    segments: Arc<[Arc<Segment>]>,
    from: Positions,
    /// Entries from this one on are in memory.
    before_sequence: u64,
    segment: usize,
    list: Option<PartList>,
    part: usize,
    decoded: std::vec::IntoIter<LogBatch>,
    recent: TailBatches,
    failed: bool,
}

impl Iterator for DiskReader {
    type Item = Result<LogBatch>;

    fn next(&mut self) -> Option<Result<LogBatch>> {
        if self.failed {
            return None;
        }
        loop {
            if let Some(batch) = self.decoded.next() {
                match begin_at(&batch, &self.from) {
                    Some(batch) => return Some(Ok(batch)),
                    None => continue,
                }
            }
            match self.load_run() {
                Ok(true) => {}
                Ok(false) => return self.recent.next().map(Ok),
                Err(e) => {
                    self.failed = true;
                    return Some(Err(e));
                }
            }
        }
    }
}

impl DiskReader {
    /// Decodes the next run of wanted parts; false when memory has the rest.
    fn load_run(&mut self) -> Result<bool> {
        while let Some(segment) = self.segments.get(self.segment) {
            if segment.first_sequence >= self.before_sequence {
                return Ok(false);
            }
            let list = match &self.list {
                Some(list) => list,
                None => self.list.insert(segment.parts()?),
            };
            let window = list.window(self.part, WINDOW_PARTS);
            let skipped = window.iter().take_while(|p| !self.wants(p)).count();
            let run = self.run_of(&window[skipped..]);
            if run.is_empty() {
                if skipped == window.len() && !window.is_empty() && self.reaches(&window) {
                    self.part += skipped;
                } else {
                    self.segment += 1;
                    self.part = 0;
                    self.list = None;
                }
                continue;
            }
            self.part += skipped + run.len();
            self.decoded = segment.read_run(run)?.into_iter();
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether entries behind this window may still be read from disk.
    fn reaches(&self, window: &[PartMeta]) -> bool {
        window.last().is_some_and(|p| p.sequence < self.before_sequence)
    }

    fn wants(&self, part: &PartMeta) -> bool {
        part.sequence < self.before_sequence && self.from.get(part.partition) < part.base_offset + u64::from(part.rows)
    }

    /// The parts at the front that are worth one access to the disk.
    fn run_of<'a>(&self, window: &'a [PartMeta]) -> &'a [PartMeta] {
        let Some(first) = window.first() else {
            return &[];
        };
        let count = window
            .iter()
            .enumerate()
            .take_while(|(i, p)| {
                let span = p.position + p.length - first.position;
                self.wants(p) && (*i == 0 || span <= RUN_BYTES)
            })
            .count();
        &window[..count]
    }
}
