//! Owns damage to a valid log, told by bytes, and the check that the log neither panics nor lies; the fuzz target and
//! the mutation test run it.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use futures::executor::block_on;
use millstream_buffer::{Append, DiskLog, DiskLogOptions, Error, Key, Log, ManualClock, Part, SimulatedDisk};
use millstream_catalog::Positions;

/// The files of a valid log: some segments with their indexes, the last one closed, and a trim.
pub struct ValidLog {
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn options(disk: &SimulatedDisk) -> DiskLogOptions {
    let mut options = DiskLogOptions::new("/log", schema(), 2);
    options.disk = Arc::new(disk.clone());
    options.clock = Arc::new(ManualClock::at(1_000_000));
    options.segment_bytes = 2500;
    options.memory_bytes = 0;
    options
}

fn append(log: &DiskLog, number: i64) {
    let rows = Int64Array::from_iter_values(number * 10..number * 10 + 10);
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(rows)]).expect("the column has the schema's type");
    let key = Key { id: number as u128, content: 1, note: 0 };
    let append = Append { parts: vec![Part { partition: 1, batch }], key: Some(key) };
    block_on(log.append(append)).expect("the disk has no faults yet");
}

impl ValidLog {
    /// A log whose rows are numbered by their offsets.
    pub fn new(closed: bool) -> Self {
        let disk = SimulatedDisk::new();
        let log = DiskLog::open_blocking(options(&disk)).expect("a new log opens");
        (0..14).for_each(|n| append(&log, n));
        block_on(log.trim(&Positions(vec![0, 30]))).expect("the disk has no faults yet");
        if closed {
            block_on(log.close()).expect("the disk has no faults yet");
            drop(log);
            let log = DiskLog::open_blocking(options(&disk)).expect("a closed log opens");
            append(&log, 14);
        } else {
            drop(log);
        }
        let content = |path: PathBuf| disk.file(&path).map(|bytes| (path, bytes));
        Self { files: disk.files().into_iter().filter_map(content).collect() }
    }

    /// Damages a copy as `instructions` say, opens it, reads all of it. Gives the rows that could be read.
    pub fn damage_and_check(&self, instructions: &[u8]) -> usize {
        let disk = SimulatedDisk::new();
        let mut files = self.files.clone();
        let mut instructions = Instructions(instructions);
        while !instructions.0.is_empty() {
            instructions.damage(&mut files);
        }
        for (path, bytes) in files {
            disk.set_file(&path, Some(bytes));
        }
        open_and_check(&disk)
    }
}

/// Takes numbers from bytes; zeros at the end.
struct Instructions<'a>(&'a [u8]);

impl Instructions<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        let number = u32::from_le_bytes([self.byte(), self.byte(), self.byte(), 0]);
        number as usize % limit.max(1)
    }

    fn damage(&mut self, files: &mut Vec<(PathBuf, Vec<u8>)>) {
        let (what, which) = (self.byte(), self.below(files.len()));
        if what % 8 == 7 {
            if files.len() > 1 {
                files.remove(which);
            }
            return;
        }
        let other = self.below(files.len());
        let donor = files[other].1.clone();
        let bytes = &mut files[which].1;
        let at = self.below(bytes.len() + 1).min(bytes.len());
        let length = self.below(300).min(bytes.len() - at);
        match what % 8 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (self.byte() % 8),
            1 => bytes.truncate(at),
            2 => bytes[at..at + length].fill(0),
            3 => (at..at + length).for_each(|i| bytes[i] = self.byte()),
            4 => {
                let from = self.below(donor.len() + 1) / 64 * 64;
                bytes.splice(at..at, donor[from..(from + length).min(donor.len()).max(from)].to_vec());
            }
            5 => drop(bytes.drain(at..at + length)),
            6 => {
                let again = bytes[at / 64 * 64..].to_vec();
                bytes.extend_from_slice(&again);
            }
            _ => {}
        }
    }
}

/// Every row that is shown must be one that was written, at its place.
fn open_and_check(disk: &SimulatedDisk) -> usize {
    let log = match DiskLog::open_blocking(options(disk)) {
        Ok(log) => log,
        Err(Error::Corrupt { .. } | Error::Misfit { .. }) => return 0,
        Err(other) => panic!("the damage was not recognised: {other:?}"),
    };
    let view = log.view();
    let mut rows = 0;
    for batch in view.read(view.start()).expect("a view reads from its start") {
        let Ok(batch) = batch else { break };
        assert_eq!(batch.partition, 1);
        for (offset, number) in (batch.base_offset..).zip(batch.batch.column(0).as_primitive::<Int64Type>().values()) {
            assert_eq!(*number as u64, offset, "a row that was not written");
        }
        rows += batch.batch.num_rows();
    }
    rows
}
