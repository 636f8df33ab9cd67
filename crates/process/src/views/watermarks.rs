//! Owns the watermark of a stream that a view reads: one per partition, and which partitions are idle.
//!
//! A partition's watermark is the largest value of the watermark's expression that was read from it. The stream's is the
//! least of them, so that a partition that is read ahead of another makes no row of the other late. A partition in which
//! nothing came for the idle time, and of which nothing is left to read, is idle and does not count; when all are idle
//! the watermark stays.
//!
//! History is read in ranges of offsets, a like share of each partition that has some left. Within a range rows come in
//! no order of time, nor of partitions, so the watermark is held and moves when the range is read to its end. Then a row
//! is late in history if it would have been late when it came, about, and no more windows are open than that takes.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use millstream_buffer::Clock;
use millstream_catalog::ViewOptions;
use millstream_views::WatermarkGauge;

use crate::Result;

/// How long nothing must come in a partition until it is idle, unless the view says otherwise.
const IDLE_US: i64 = 30_000_000;

/// The watermarks of a stream's partitions.
pub(super) struct Watermarks {
    gauge: WatermarkGauge,
    partitions: Vec<Partition>,
    idle_us: i64,
    clock: Arc<dyn Clock>,
    /// Whether a range of history is being read.
    held: bool,
}

#[derive(Debug, Clone, Copy)]
struct Partition {
    /// The largest value so far.
    reached: Option<i64>,
    /// When rows came last; when the reading began, if there were none since.
    heard_us: i64,
}

/// The time after which a partition is idle.
pub(super) fn idle_us(options: &ViewOptions) -> i64 {
    options.idle_timeout_ms.map_or(IDLE_US, |ms| (ms as i64).saturating_mul(1000))
}

impl Watermarks {
    pub(super) fn new(gauge: WatermarkGauge, partitions: u32, clock: Arc<dyn Clock>) -> Self {
        let partition = Partition { reached: None, heard_us: clock.now_us() };
        Self { gauge, partitions: vec![partition; partitions as usize], idle_us: IDLE_US, clock, held: false }
    }

    /// Changes the time after which a partition is idle.
    pub(super) fn idle_after(&mut self, idle_us: i64) {
        self.idle_us = idle_us;
    }

    /// Takes note of rows of one partition.
    pub(super) fn saw(&mut self, partition: u32, rows: &RecordBatch) -> Result<()> {
        let reached = self.gauge.reached(rows)?;
        self.note(partition as usize, reached);
        Ok(())
    }

    /// Takes note of rows of several partitions, given by their numbers.
    pub(super) fn saw_mixed(&mut self, partitions: &dyn Array, rows: &RecordBatch) -> Result<()> {
        let values = self.gauge.values(rows)?;
        for (partition, value) in partitions.as_primitive::<Int32Type>().values().iter().zip(values.iter()) {
            self.note(*partition as usize, value);
        }
        Ok(())
    }

    fn note(&mut self, partition: usize, reached: Option<i64>) {
        if let Some(known) = self.partitions.get_mut(partition) {
            known.reached = known.reached.max(reached);
            known.heard_us = self.clock.now_us();
        }
    }

    /// Holds the watermark while a range of history is read, or lets it go.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// The stream's watermark now; `None` when it does not move. `unread` says of which partitions something is left
    /// to read.
    pub(super) fn now(&self, unread: impl Fn(u32) -> bool) -> Option<i64> {
        let now_us = self.clock.now_us();
        let counts = |(_, until): &(Partition, i64)| *until > now_us;
        self.lowest(self.ends(unread).into_iter().filter(counts).map(|(partition, _)| partition))
    }

    /// When a partition that goes idle lets the watermark pass `at`, if nothing else comes.
    pub(super) fn moves_at(&self, at: Option<i64>, unread: impl Fn(u32) -> bool) -> Option<i64> {
        let now_us = self.clock.now_us();
        let mut ends = self.ends(unread);
        ends.sort_by_key(|(_, until)| *until);
        for (i, (_, until)) in ends.iter().enumerate() {
            // Those that end at the same time go idle together.
            let left = ends[i..].iter().filter(|(_, later)| later > until).map(|(partition, _)| *partition);
            if *until > now_us && *until < i64::MAX && self.lowest(left) > at {
                return Some(*until);
            }
        }
        None
    }

    /// The partitions, each with the time at which it is idle.
    fn ends(&self, unread: impl Fn(u32) -> bool) -> Vec<(Partition, i64)> {
        let end = |(i, partition): (usize, &Partition)| {
            let until = if unread(i as u32) { i64::MAX } else { partition.heard_us.saturating_add(self.idle_us) };
            (*partition, until)
        };
        self.partitions.iter().enumerate().map(end).collect()
    }

    fn lowest(&self, partitions: impl Iterator<Item = Partition>) -> Option<i64> {
        // A partition that had no row yet holds the others until it is idle.
        if self.held { None } else { partitions.map(|partition| partition.reached).min().flatten() }
    }

    /// What each partition has reached, for a checkpoint.
    pub(super) fn reached(&self) -> Vec<Option<i64>> {
        self.partitions.iter().map(|partition| partition.reached).collect()
    }

    /// Takes over what each partition had reached.
    pub(super) fn restore(&mut self, reached: &[Option<i64>]) {
        for (partition, reached) in self.partitions.iter_mut().zip(reached) {
            partition.reached = *reached;
        }
    }
}
