//! Owns one run: takes steps on the log and on the model, and compares them after each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millstream_buffer::{Append, DiskLog, DiskLogOptions, Error, Key, Log, ManualClock, Part, SimulatedDisk};
use millstream_catalog::Positions;
use tokio::runtime::Runtime;

use crate::model::{Model, Piece};

pub const PARTITIONS: u32 = 2;

#[derive(Debug, Clone)]
pub enum Step {
    Append { parts: Vec<(u32, usize)>, key: Option<u8> },
    AppendTogether(usize),
    RetryKey(u8),
    Trim(u64),
    ChangeSchema,
    Retain { seconds: u64, bytes: u64 },
    Wait(i64),
    FillDisk(u64),
    FailSync(u64),
    Restart,
    DropAndOpen,
    Crash { after: u64, seed: u64 },
}

pub struct Run {
    runtime: Runtime,
    disk: SimulatedDisk,
    clock: ManualClock,
    log: Option<DiskLog>,
    model: Model,
    width: usize,
    memory_bytes: usize,
    next_number: i64,
}

impl Run {
    pub fn new(memory: bool) -> Self {
        let mut run = Self {
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            disk: SimulatedDisk::new(),
            clock: ManualClock::at(1_000_000),
            log: None,
            model: Model::new(PARTITIONS),
            width: 2,
            memory_bytes: if memory { 1 << 20 } else { 0 },
            next_number: 0,
        };
        run.open();
        run
    }

    fn schema(&self) -> SchemaRef {
        let fields = (0..self.width).map(|i| match i {
            0 => Field::new("n", DataType::Int64, false),
            _ => Field::new(format!("text{i}"), DataType::Utf8, true),
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn open(&mut self) {
        let mut options = DiskLogOptions::new(PathBuf::from("/log"), self.schema(), PARTITIONS);
        options.disk = Arc::new(self.disk.clone());
        options.clock = Arc::new(self.clock.clone());
        options.segment_bytes = 6_000;
        options.memory_bytes = self.memory_bytes;
        self.log = Some(DiskLog::open_blocking(options).unwrap());
        let (start, rows) = self.read();
        self.model.settle(&start, &rows);
    }

    fn log(&self) -> &DiskLog {
        self.log.as_ref().unwrap()
    }

    /// The log's rows, by partition and offset.
    fn read(&self) -> (Positions, Vec<BTreeMap<u64, i64>>) {
        let view = self.log().view();
        let mut rows = vec![BTreeMap::new(); PARTITIONS as usize];
        for batch in view.read(view.start()).unwrap() {
            let batch = batch.unwrap();
            let numbers = batch.batch.column(0).as_primitive::<Int64Type>();
            let text = batch.batch.column(1).as_string::<i32>();
            for i in 0..numbers.len() {
                assert_eq!(text.value(i), numbers.value(i).to_string());
                let before = rows[batch.partition as usize].insert(batch.base_offset + i as u64, numbers.value(i));
                assert_eq!(before, None);
            }
        }
        assert_eq!(rows.iter().map(|r| r.len() as u64).sum::<u64>(), view.end().rows_since(view.start()));
        (view.start().clone(), rows)
    }

    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Append { parts, key } => self.append(parts, *key),
            Step::AppendTogether(count) => self.append_together(*count),
            Step::RetryKey(key) => self.retry(*key),
            Step::Trim(percent) => self.trim(*percent),
            Step::ChangeSchema => self.change_schema(),
            Step::Retain { seconds, bytes } => {
                let limit = |n: u64| (n > 0).then_some(n);
                self.log().set_retention(limit(*seconds * 1000), limit(*bytes));
            }
            Step::Wait(ms) => self.clock.advance_ms(*ms),
            Step::FillDisk(room) => self.fill_disk(*room),
            Step::FailSync(after) => self.fail_sync(*after),
            Step::Restart => self.restart(),
            Step::DropAndOpen => {
                self.log = None;
                self.open();
            }
            Step::Crash { after, seed } => self.crash(*after, *seed),
        }
        let (start, rows) = self.read();
        self.model.check(&start, &rows);
        self.model.saw_start(&start);
    }

    pub fn finish(&mut self) {
        self.restart();
        self.crash(0, 1);
        for key in self.model.keys.keys().copied().collect::<Vec<_>>() {
            self.retry(key);
        }
    }

    /// Rows numbered on from the last ones; one piece per partition.
    fn pieces(&mut self, parts: &[(u32, usize)]) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for &(partition, count) in parts {
            if pieces.iter().all(|p| p.partition != partition) {
                pieces.push(Piece { partition, first: self.next_number, count });
                self.next_number += count as i64;
            }
        }
        pieces
    }

    fn batch(&self, piece: &Piece) -> RecordBatch {
        let numbers: Vec<i64> = (piece.first..piece.first + piece.count as i64).collect();
        let text: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.iter().map(i64::to_string)));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(numbers))];
        columns.resize(self.width, text);
        RecordBatch::try_new(self.schema(), columns).unwrap()
    }

    fn request(&self, pieces: &[Piece], key: Option<u8>) -> Append {
        let parts = pieces.iter().map(|p| Part { partition: p.partition, batch: self.batch(p) }).collect();
        Append { parts, key: key.map(|id| Key { id: id.into(), content: 1, note: id.into() }) }
    }

    fn append(&mut self, parts: &[(u32, usize)], key: Option<u8>) {
        // A key in doubt is settled by the next restart; until then its answer depends on what is not known.
        let key = key.filter(|k| !self.model.is_doubtful(*k));
        let pieces = self.pieces(parts);
        let request = self.request(&pieces, key);
        match self.runtime.block_on(self.log().append(request)) {
            Ok(appended) if appended.duplicate => {
                assert_eq!(Some(&appended.ranges), key.and_then(|k| self.model.keys.get(&k)));
            }
            Ok(appended) => {
                assert!(key.is_none_or(|k| !self.model.keys.contains_key(&k)), "key {key:?} was forgotten");
                self.model.acknowledged(&pieces, &appended.ranges, key);
            }
            Err(e) => self.refused(&e, pieces, key),
        }
    }

    fn refused(&mut self, error: &Error, pieces: Vec<Piece>, key: Option<u8>) {
        let expected = matches!(error, Error::Poisoned { .. } | Error::DiskFull { .. } | Error::Io { .. });
        assert!(expected, "{error:?}");
        if key.is_none_or(|k| !self.model.keys.contains_key(&k)) {
            self.model.failed(pieces, key);
        }
    }

    fn append_together(&mut self, count: usize) {
        let all: Vec<Vec<Piece>> = (0..count).map(|i| self.pieces(&[(i as u32 % PARTITIONS, 1 + i % 3)])).collect();
        let requests: Vec<Append> = all.iter().map(|p| self.request(p, None)).collect();
        let log = self.log.as_ref().unwrap();
        let appends = requests.into_iter().map(|r| log.append(r));
        let outcomes = self.runtime.block_on(futures::future::join_all(appends));
        for (pieces, outcome) in all.into_iter().zip(outcomes) {
            match outcome {
                Ok(appended) => self.model.acknowledged(&pieces, &appended.ranges, None),
                Err(e) => self.refused(&e, pieces, None),
            }
        }
    }

    fn retry(&mut self, key: u8) {
        if let Some(ranges) = self.model.keys.get(&key).cloned() {
            let pieces = [Piece { partition: 0, first: i64::from(key), count: 1 }];
            let request = self.request(&pieces, Some(key));
            if let Ok(appended) = self.runtime.block_on(self.log().append(request)) {
                assert!(appended.duplicate, "key {key} was forgotten");
                assert_eq!((appended.ranges, appended.note), (ranges, u64::from(key)));
            }
        }
    }

    fn trim(&mut self, percent: u64) {
        let end = self.model.end();
        let upto = Positions(end.0.iter().map(|o| o * percent / 100).collect());
        for (partition, &offset) in upto.0.iter().enumerate() {
            let partition = partition as u32;
            self.model.trimmed.set(partition, offset.max(self.model.trimmed.get(partition)));
        }
        // A trim that fails has removed nothing that it must not; the check that follows sees to it.
        let _outcome = self.runtime.block_on(self.log().trim(&upto));
    }

    fn change_schema(&mut self) {
        self.width = if self.width == 2 { 3 } else { 2 };
        self.runtime.block_on(self.log().set_schema(self.schema())).unwrap();
    }

    fn fill_disk(&mut self, room: u64) {
        self.disk.set_capacity(Some(self.disk.used_bytes() + room));
        for _ in 0..3 {
            self.append(&[(0, 3), (1, 40)], None);
        }
        self.disk.set_capacity(None);
        let was_usable = self.log().stats().poisoned.is_none();
        let before = self.model.end();
        self.append(&[(0, 1)], None);
        if was_usable {
            assert!(self.model.end() != before || self.disk.is_down(), "the log stayed full");
        }
    }

    fn fail_sync(&mut self, after: u64) {
        self.disk.fail_sync_after(after);
        for _ in 0..=after {
            self.append(&[(0, 2)], None);
        }
        if let Some(reason) = self.log().stats().poisoned {
            assert!(reason.contains("sync"), "{reason}");
            let pieces = self.pieces(&[(1, 1)]);
            let refused = self.runtime.block_on(self.log().append(self.request(&pieces, None)));
            assert!(matches!(refused, Err(Error::Poisoned { .. })), "{refused:?}");
        }
        let (start, rows) = self.read();
        self.model.check(&start, &rows);
        self.disk.fail_sync_after(u64::MAX);
        self.log = None;
        self.open();
    }

    fn restart(&mut self) {
        let closed = self.runtime.block_on(self.log().close());
        assert!(closed.is_ok() || self.log().stats().poisoned.is_some(), "{closed:?}");
        self.log = None;
        self.open();
    }

    /// The power fails some operations later, whatever the log does then.
    fn crash(&mut self, after: u64, seed: u64) {
        self.disk.cut_power_after(after);
        let mut turns = 0;
        while !self.disk.is_down() && turns < 6 {
            match (seed >> turns) % 4 {
                0 => self.trim(60 + 10 * (seed % 5)),
                1 => self.append_together(4),
                _ => self.append(&[(turns % PARTITIONS, 3), (1 - turns % PARTITIONS, 30)], Some(20 + turns as u8)),
            }
            turns += 1;
        }
        let (start, rows) = self.read();
        self.model.check(&start, &rows);
        self.log = None;
        self.disk = self.disk.after_crash(seed);
        self.open();
    }
}
