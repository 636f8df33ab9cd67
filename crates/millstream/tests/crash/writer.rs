//! Owns one producer: what it sends, what it was promised, and what it does not know yet.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::STREAM;
use crate::observers::Acknowledged;
use crate::support::{Client, Reply};

/// How a producer deals with a request whose reply it never saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriterKind {
    /// It has a key for each request and sends it again until it is answered.
    Keyed,
    /// It goes on with the next rows; the request must be there whole or not at all.
    Unkeyed,
}

/// A request: rows `first..first + good`, and texts that cannot be rows among them.
#[derive(Debug, Clone)]
pub struct Request {
    pub key: String,
    pub body: String,
    pub first: u64,
    pub good: u64,
    pub bad: Vec<String>,
}

/// A producer with a sequence of its own.
#[derive(Debug)]
pub struct Writer {
    /// The value of its `writer` column.
    pub id: u32,
    /// What it does about doubt.
    pub kind: WriterKind,
    random: StdRng,
    next_seq: u64,
    requests: u64,
    /// Sequence ranges that are in the stream for sure.
    pub stored: Vec<(u64, u64)>,
    /// Bad rows that are in quarantine for sure.
    pub quarantined: Vec<String>,
    /// The request that was not answered.
    pub in_doubt: Option<Request>,
    /// The last answered request and its reply, for a late retry.
    pub latest: Option<(Request, Value)>,
}

impl Writer {
    /// A producer that has sent nothing.
    pub fn new(id: u32, kind: WriterKind, seed: u64) -> Self {
        Self {
            id,
            kind,
            random: StdRng::seed_from_u64(seed ^ (u64::from(id) + 1) << 32),
            next_seq: 0,
            requests: 0,
            stored: Vec::new(),
            quarantined: Vec::new(),
            in_doubt: None,
            latest: None,
        }
    }

    /// Rows that are in the stream for sure.
    pub fn stored_rows(&self) -> u64 {
        self.stored.iter().map(|(first, end)| end - first).sum()
    }

    /// The sum of the sequence numbers that are in the stream for sure.
    pub fn stored_sum(&self) -> u64 {
        self.stored.iter().map(|(first, end)| (end - first) * (first + end - 1) / 2).sum()
    }

    /// Sends request after request until the connection breaks.
    pub async fn run_until_broken(&mut self, client: &Client, killed: &AtomicBool, acknowledged: &Acknowledged) {
        loop {
            let request = match self.in_doubt.take() {
                Some(request) => request,
                None => self.next_request(),
            };
            let sent = match self.kind {
                WriterKind::Keyed => {
                    client.try_ingest(STREAM, request.body.clone(), &[("idempotency-key", &request.key)]).await
                }
                WriterKind::Unkeyed => client.try_ingest(STREAM, request.body.clone(), &[]).await,
            };
            match sent {
                Ok(reply) if reply.status == 429 => {
                    assert!(reply.retry_after.is_some(), "429 comes with Retry-After");
                    self.in_doubt = Some(request);
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Ok(reply) => {
                    self.acknowledge(request, reply.ok());
                    acknowledged.add(self.id, self.stored_rows());
                }
                Err(error) => {
                    assert!(killed.load(Ordering::SeqCst), "writer {}: {error:?} though the node lives", self.id);
                    self.in_doubt = Some(request);
                    return;
                }
            }
        }
    }

    /// Takes note that a request is in the stream.
    pub fn acknowledge(&mut self, request: Request, reply: Reply) {
        assert_eq!(reply.count("accepted"), request.good, "writer {}: {}", self.id, reply.text());
        assert_eq!(reply.count("quarantined"), request.bad.len() as u64, "writer {}: {}", self.id, reply.text());
        self.store(&request);
        self.quarantined.extend(request.bad.iter().cloned());
        self.latest = Some((request, reply.body));
    }

    /// Takes note that a request's rows are in the stream.
    pub fn store(&mut self, request: &Request) {
        let end = request.first + request.good;
        match self.stored.last_mut() {
            Some(last) if last.1 == request.first => last.1 = end,
            _ => self.stored.push((request.first, end)),
        }
    }

    fn next_request(&mut self) -> Request {
        let (first, lines) = (self.next_seq, self.random.random_range(1..60));
        let mut request = Request {
            key: format!("writer-{}-request-{}", self.id, self.requests),
            body: String::new(),
            first,
            good: 0,
            bad: Vec::new(),
        };
        let some_are_bad = self.random.random_bool(0.2);
        for line in 0..lines {
            if some_are_bad && line > 0 && self.random.random_bool(0.1) {
                let text = self.bad_row(request.bad.len());
                request.body.push_str(&text);
                request.bad.push(text);
            } else {
                let seq = first + request.good;
                let note = "x".repeat(self.random.random_range(0..80));
                let (writer, shard) = (self.id, seq % 7);
                let row = format!(r#"{{"writer":{writer},"seq":{seq},"shard":{shard},"note":"{note}"}}"#);
                request.body.push_str(&row);
                request.good += 1;
            }
            request.body.push('\n');
        }
        self.requests += 1;
        self.next_seq += request.good;
        request
    }

    /// A line that is not a row, and that tells where it came from.
    fn bad_row(&mut self, index: usize) -> String {
        let name = format!("w{}-r{}-{index}", self.id, self.requests);
        match self.random.random_range(0..3) {
            0 => format!(r#"{{"writer":{},"seq":"{name}","shard":1}}"#, self.id),
            1 => format!(r#"{{"writer":{},"note":"{name}"}}"#, self.id),
            _ => format!(r#"{{"writer":{},"seq":1,"note":"{name}"#, self.id),
        }
    }
}
