//! Owns a commit group: appends that become one entry, with offsets given and small ones joined.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use millstream_catalog::Positions;
use tokio::sync::oneshot;

use super::format::encoding;
use super::payload::{Encoded, Encoder, compact_if_wasteful};
use super::queue::{Reserved, Rows, Submission};
use crate::keys::{KeyMemory, Mark};
use crate::{Appended, Error, OffsetRange, Result};

/// Small appends are joined up to this many rows.
const JOINED_ROWS: usize = 8192;

/// A part of the entry to be.
#[derive(Debug)]
pub(super) struct GroupPart {
    pub partition: u32,
    pub base_offset: u64,
    pub rows: usize,
    pieces: Pieces,
}

#[derive(Debug)]
enum Pieces {
    Ready(Encoded),
    Few(Vec<RecordBatch>),
}

/// A caller that waits for the group.
#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Result<Appended>>,
    answer: Result<Appended>,
    reserved: Reserved,
}

/// Appends on their way into one entry.
#[derive(Debug)]
pub(super) struct Group {
    pub parts: Vec<GroupPart>,
    pub marks: Vec<Mark>,
    /// The log's end after the group.
    pub end: Positions,
    by_key: HashMap<u128, usize>,
    joining: HashMap<u32, usize>,
    waiters: Vec<Waiter>,
}

impl Group {
    /// An empty group behind `end`.
    pub fn new(end: Positions) -> Self {
        Self {
            parts: Vec::new(),
            marks: Vec::new(),
            end,
            by_key: HashMap::new(),
            joining: HashMap::new(),
            waiters: Vec::new(),
        }
    }

    /// Whether there is something to write.
    pub fn has_content(&self) -> bool {
        !self.parts.is_empty() || !self.marks.is_empty()
    }

    /// Whether somebody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Adds an append; one whose key is known adds nothing.
    pub fn add(&mut self, submission: Submission, keys: &KeyMemory) {
        let Submission { parts, key, reserved, reply } = submission;
        if let Some(key) = &key {
            let first = match self.by_key.get(&key.id) {
                Some(&mark) => Some(self.marks[mark].answer(key)),
                None => keys.recall(key),
            };
            if let Some(answer) = first {
                self.waiters.push(Waiter { reply, answer, reserved });
                return;
            }
        }
        let ranges: Vec<OffsetRange> = parts.into_iter().map(|(partition, rows)| self.place(partition, rows)).collect();
        let note = key.map_or(0, |key| key.note);
        if let Some(key) = key {
            self.by_key.insert(key.id, self.marks.len());
            self.marks.push(Mark { key, ranges: ranges.clone().into() });
        }
        let answer = Ok(Appended { ranges, duplicate: false, note });
        self.waiters.push(Waiter { reply, answer, reserved });
    }

    /// Gives rows their offsets.
    fn place(&mut self, partition: u32, rows: Rows) -> OffsetRange {
        let count = match &rows {
            Rows::Ready(encoded) => encoded.batch.num_rows(),
            Rows::Few(batch) => batch.num_rows(),
        };
        let start = self.end.get(partition);
        let range = OffsetRange { partition, start, end: start + count as u64 };
        self.end.set(partition, range.end);
        let pieces = match rows {
            Rows::Ready(encoded) => {
                self.joining.remove(&partition);
                Pieces::Ready(encoded)
            }
            Rows::Few(batch) => {
                if let Some(part) = self.joining.get(&partition).map(|&i| &mut self.parts[i])
                    && part.rows + count <= JOINED_ROWS
                    && let Pieces::Few(pieces) = &mut part.pieces
                {
                    part.rows += count;
                    pieces.push(batch);
                    return range;
                }
                self.joining.insert(partition, self.parts.len());
                Pieces::Few(vec![batch])
            }
        };
        self.parts.push(GroupPart { partition, base_offset: start, rows: count, pieces });
        range
    }

    /// Encodes what the callers did not; gives each part with its bytes.
    pub fn encode(&mut self, encoder: &Encoder) -> Result<Vec<(GroupPart, Encoded)>> {
        let mut encoded = Vec::with_capacity(self.parts.len());
        for mut part in self.parts.drain(..) {
            let pieces = std::mem::replace(&mut part.pieces, Pieces::Few(Vec::new()));
            let bytes = match pieces {
                Pieces::Ready(ready) => ready,
                Pieces::Few(batches) => join(&batches, encoder)?,
            };
            encoded.push((part, bytes));
        }
        Ok(encoded)
    }

    /// Answers everybody: with what they were promised, or with what went wrong.
    pub fn answer(self, outcome: Result<()>) {
        for waiter in self.waiters {
            let answer = outcome.clone().and(waiter.answer);
            drop(waiter.reserved);
            // A caller that has left needs no answer.
            let _left = waiter.reply.send(answer);
        }
    }

    /// Answers everybody with an error.
    pub fn fail(self, error: &Error) {
        self.answer(Err(error.clone()));
    }
}

/// One batch of many, holding no more memory than it needs.
fn join(batches: &[RecordBatch], encoder: &Encoder) -> Result<Encoded> {
    let joined = match batches {
        [one] => one.clone(),
        many => concat_batches(&encoder.schema, many).map_err(|e| encoding("join", e))?,
    };
    let mut encoded = encoder.encode(joined)?;
    compact_if_wasteful(&mut encoded)?;
    Ok(encoded)
}
