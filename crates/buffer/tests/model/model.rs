//! Owns the model: what a log must hold, by what its callers were told.

use std::collections::{BTreeMap, BTreeSet};

use millstream_buffer::OffsetRange;
use millstream_catalog::Positions;

/// One append's rows in one partition: numbers from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub partition: u32,
    pub first: i64,
    pub count: usize,
}

/// An append that nobody was told about.
#[derive(Debug, Clone)]
pub struct Doubtful {
    pub pieces: Vec<Piece>,
    pub key: Option<u8>,
}

/// What must be there, and what may be.
#[derive(Debug, Default)]
pub struct Model {
    /// The number at each offset, by partition.
    rows: Vec<BTreeMap<u64, i64>>,
    pub keys: BTreeMap<u8, Vec<OffsetRange>>,
    doubtful: Vec<Doubtful>,
    /// Rows before these offsets may be gone.
    pub trimmed: Positions,
    start: Positions,
}

impl Model {
    pub fn new(partitions: u32) -> Self {
        Self {
            rows: vec![BTreeMap::new(); partitions as usize],
            trimmed: Positions::zero(partitions),
            start: Positions::zero(partitions),
            ..Self::default()
        }
    }

    /// An append was acknowledged.
    pub fn acknowledged(&mut self, pieces: &[Piece], ranges: &[OffsetRange], key: Option<u8>) {
        assert_eq!(pieces.len(), ranges.len());
        for (piece, range) in pieces.iter().zip(ranges) {
            assert_eq!((piece.partition, piece.count as u64), (range.partition, range.end - range.start));
            for (offset, number) in (range.start..range.end).zip(piece.first..) {
                let before = self.rows[piece.partition as usize].insert(offset, number);
                assert_eq!(before, None, "offset {offset} of partition {} was given twice", piece.partition);
            }
        }
        if let Some(key) = key {
            self.keys.insert(key, ranges.to_vec());
        }
    }

    /// An append failed: it may come back after a restart, wholly.
    pub fn failed(&mut self, pieces: Vec<Piece>, key: Option<u8>) {
        self.doubtful.push(Doubtful { pieces, key });
    }

    /// Whether a key is used by an append in doubt.
    pub fn is_doubtful(&self, key: u8) -> bool {
        self.doubtful.iter().any(|d| d.key == Some(key))
    }

    /// Compares what a log shows with what it must; `rows` are its rows by partition and offset.
    pub fn check(&self, start: &Positions, rows: &[BTreeMap<u64, i64>]) {
        assert!(self.trimmed.covers(start), "the log starts at {start:?}, trims went to {:?}", self.trimmed);
        assert!(start.covers(&self.start), "the log starts at {start:?}, it had started at {:?}", self.start);
        for (partition, (shown, expected)) in rows.iter().zip(&self.rows).enumerate() {
            let kept: BTreeMap<u64, i64> =
                expected.range(start.get(partition as u32)..).map(|(&o, &n)| (o, n)).collect();
            assert_eq!(shown, &kept, "partition {partition}");
        }
    }

    /// After a restart: takes over the appends in doubt that are there, forgets those that are not, then checks.
    pub fn settle(&mut self, start: &Positions, rows: &[BTreeMap<u64, i64>]) {
        for doubt in std::mem::take(&mut self.doubtful) {
            let found: Vec<Option<OffsetRange>> = doubt.pieces.iter().map(|p| find(p, rows)).collect();
            let there: Vec<OffsetRange> = found.iter().flatten().copied().collect();
            assert!(there.is_empty() || there.len() == found.len(), "half of an append is there: {doubt:?}");
            if !there.is_empty() {
                self.acknowledged(&doubt.pieces, &there, doubt.key);
            }
        }
        self.check(start, rows);
    }

    pub fn saw_start(&mut self, start: &Positions) {
        self.start = start.clone();
    }

    /// The end in every partition.
    pub fn end(&self) -> Positions {
        Positions(self.rows.iter().map(|r| r.last_key_value().map_or(0, |(o, _)| o + 1)).collect())
    }
}

/// Where a piece's rows are; all or none, once, in order.
fn find(piece: &Piece, rows: &[BTreeMap<u64, i64>]) -> Option<OffsetRange> {
    let numbers = piece.first..piece.first + piece.count as i64;
    let offsets: Vec<u64> =
        rows[piece.partition as usize].iter().filter(|(_, n)| numbers.contains(n)).map(|(&o, _)| o).collect();
    if offsets.is_empty() {
        return None;
    }
    let start = offsets[0];
    let whole: Vec<u64> = (start..start + piece.count as u64).collect();
    assert_eq!(offsets, whole, "rows of {piece:?} are not there once and in order");
    let distinct: BTreeSet<i64> = offsets.iter().map(|o| rows[piece.partition as usize][o]).collect();
    assert_eq!(distinct.len(), piece.count);
    Some(OffsetRange { partition: piece.partition, start, end: start + piece.count as u64 })
}
