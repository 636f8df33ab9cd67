//! Owns what waits for the disk: the bound on its bytes, and the hand-over to a log's writer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_catalog::Positions;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::payload::Encoded;
use crate::{Appended, Error, Key, Result};

/// A bound on the bytes that wait for the disk; logs may share one.
#[derive(Debug)]
pub struct QueueBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

impl QueueBudget {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicUsize::new(0) })
    }

    /// Bytes waiting now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Room for `bytes`, or `Busy` at once. One that alone is over the limit passes when nothing else waits.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reserved> {
        let fits = |used: usize| {
            let after = used.saturating_add(bytes);
            (used == 0 || after <= self.limit_bytes).then_some(after)
        };
        match self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Reserved { budget: self.clone(), bytes }),
            Err(queued_bytes) => Err(Error::Busy { queued_bytes, limit_bytes: self.limit_bytes }),
        }
    }
}

/// Bytes of a budget, given back on drop.
#[derive(Debug)]
pub(super) struct Reserved {
    budget: Arc<QueueBudget>,
    pub bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Rows on their way to the disk.
#[derive(Debug)]
pub(super) enum Rows {
    /// Encoded by the caller; stays a part of its own.
    Ready(Encoded),
    /// Few; the writer joins them with others.
    Few(RecordBatch),
}

/// One append, checked.
#[derive(Debug)]
pub(super) struct Submission {
    pub parts: Vec<(u32, Rows)>,
    pub key: Option<Key>,
    pub reserved: Reserved,
    pub reply: oneshot::Sender<Result<Appended>>,
}

/// What a writer is asked to do.
#[derive(Debug)]
pub(super) enum Request {
    Append(Submission),
    /// What a key was answered, if it is known.
    Recall(Key, oneshot::Sender<Result<Option<Appended>>>),
    SetSchema(SchemaRef, oneshot::Sender<Result<()>>),
    Trim(Positions, oneshot::Sender<Result<()>>),
    Sync(oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Request::Append(submission) => submission.reserved.bytes,
            _ => 0,
        }
    }
}

/// Hands requests to the writer in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

impl Queue {
    /// Adds a request; `Closed` after the last one.
    pub fn push(&self, request: Request) -> Result<()> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Error::Closed);
        }
        waiting.requests.push_back(request);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Adds the last request, or none: no further one is taken.
    pub fn close(&self, last: Option<Request>) {
        let mut waiting = self.waiting.lock();
        if !waiting.closed {
            waiting.closed = true;
            waiting.requests.extend(last);
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Drops what still waits: its callers learn that nobody will answer.
    pub fn clear(&self) {
        let dropped = std::mem::take(&mut self.waiting.lock().requests);
        drop(dropped);
    }

    /// Waits for requests and moves the oldest ones to `taken`, about `limit_bytes` of them. False at the end.
    pub fn take(&self, taken: &mut Vec<Request>, limit_bytes: usize) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.requests.is_empty() {
            if waiting.closed {
                return false;
            }
            self.arrived.wait(&mut waiting);
        }
        let mut bytes = 0;
        while let Some(request) = waiting.requests.front() {
            bytes += request.bytes();
            if !taken.is_empty() && bytes > limit_bytes {
                break;
            }
            taken.extend(waiting.requests.pop_front());
        }
        true
    }
}
