//! Runs the disk log on damaged files and failing disks: one test per kind of damage, one per kind of failure.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod corruption;
#[path = "../damage/mod.rs"]
mod damage;
mod failures;
mod keys;
mod mutation;
mod retention;
#[path = "../rows/mod.rs"]
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_buffer::{Append, Appended, DiskLog, DiskLogOptions, Log, ManualClock, Result, SimulatedDisk};
use millstream_catalog::Positions;

/// Where the log of every test lies.
const DIR: &str = "/log";

/// A simulated disk with a log on it.
struct Bench {
    disk: SimulatedDisk,
    clock: ManualClock,
    segment_bytes: u64,
    key_limit: usize,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        Self {
            disk: SimulatedDisk::new(),
            clock: ManualClock::at(1_000_000),
            segment_bytes: 4096,
            key_limit: 1000,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
        }
    }

    fn options(&self) -> DiskLogOptions {
        let mut options = DiskLogOptions::new(DIR, rows::schema(), rows::PARTITIONS);
        options.disk = Arc::new(self.disk.clone());
        options.clock = Arc::new(self.clock.clone());
        options.segment_bytes = self.segment_bytes;
        options.key_limit = self.key_limit;
        options.memory_bytes = 0;
        options
    }

    fn try_open(&self) -> Result<DiskLog> {
        DiskLog::open_blocking(self.options())
    }

    fn open(&self) -> DiskLog {
        self.try_open().unwrap()
    }

    fn append(&self, log: &DiskLog, append: Append) -> Result<Appended> {
        self.runtime.block_on(log.append(append))
    }

    fn trim(&self, log: &DiskLog, upto: &Positions) -> Result<()> {
        self.runtime.block_on(log.trim(upto))
    }

    fn close(&self, log: DiskLog) {
        self.runtime.block_on(log.close()).unwrap();
    }

    /// Appends `count` times ten rows to partition 0, numbered on from `first`.
    fn fill(&self, log: &DiskLog, first: i64, count: i64) {
        for i in 0..count {
            self.append(log, rows::append(0, first + i * 10, 10)).unwrap();
        }
    }

    /// A log of `count` appends, left as a process that is killed leaves it.
    fn left_behind(count: i64) -> Self {
        let bench = Self::new();
        let log = bench.open();
        bench.fill(&log, 0, count);
        drop(log);
        bench
    }

    /// The segment files, oldest first.
    fn segments(&self) -> Vec<PathBuf> {
        self.disk.files().into_iter().filter(|p| p.extension().is_some_and(|e| e == "seg")).collect()
    }

    fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.disk.file(path).unwrap();
        change(&mut bytes);
        self.disk.set_file(path, Some(bytes));
    }
}

/// Where the entries of a segment begin, and where the last one ends: found by their mark.
fn entries(segment: &[u8]) -> Vec<usize> {
    let mut at = u32::from_le_bytes(segment[12..16].try_into().unwrap()) as usize;
    let mut found = vec![at];
    while at < segment.len() && &segment[at..at + 4] == b"MENT" {
        at += u64::from_le_bytes(segment[at + 8..at + 16].try_into().unwrap()) as usize;
        found.push(at);
    }
    found
}
