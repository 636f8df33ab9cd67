//! Measures durable ingest: so many connections, so many events a request, each request after the last one's reply.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Figures;
use crate::arguments::Arguments;
use crate::connection::{Connection, render};
use crate::event::Events;
use crate::latency::Latencies;

/// Bodies a connection sends in turn, so that rendering costs nothing while the clock runs.
const BODIES: u64 = 16;

/// What all connections share.
#[derive(Debug)]
pub struct Load {
    address: String,
    path: String,
    events: u64,
    deadline: Instant,
    /// Events that may still be sent.
    left: Cell<u64>,
    /// Events a second over all connections; 0 for as many as go.
    rate: u64,
    began: Instant,
    sent: Cell<u64>,
}

/// What one connection saw.
#[derive(Debug, Default)]
pub struct Seen {
    acknowledged: u64,
    refused: u64,
    latencies: Latencies,
}

/// Runs `bulk`.
pub async fn run(arguments: Arguments) -> Figures {
    let connections: u64 = arguments.number("connections", 4)?;
    let load = Rc::new(Load::new(&arguments, u64::MAX)?);
    let mut tasks = Vec::new();
    for connection in 0..connections {
        tasks.push(tokio::task::spawn_local(Rc::clone(&load).drive(connection)));
    }
    let mut all = Seen::default();
    for task in tasks {
        let seen = task.await??;
        all.acknowledged += seen.acknowledged;
        all.refused += seen.refused;
        all.latencies.merge(seen.latencies);
    }
    let seconds = load.began.elapsed().as_secs_f64();
    Ok(json!({
        "connections": connections,
        "events_per_request": load.events,
        "events": all.acknowledged,
        "seconds": seconds,
        "events_per_s": all.acknowledged as f64 / seconds,
        "refused_requests": all.refused,
        "latency": all.latencies.figures(),
    }))
}

impl Load {
    /// From the command line; `total` bounds the events when the command line does not.
    pub fn new(arguments: &Arguments, total: u64) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let began = Instant::now();
        let total = arguments.number("total", total)?;
        let default_seconds = if total == u64::MAX { 10.0 } else { 86_400.0 };
        Ok(Self {
            address: arguments.text("addr")?.to_owned(),
            path: format!("/v1/streams/{}", arguments.text("stream")?),
            events: arguments.number("events", 1000)?,
            deadline: began + Duration::from_secs_f64(arguments.number("seconds", default_seconds)?),
            left: Cell::new(total),
            rate: arguments.number("rate", 0)?,
            began,
            sent: Cell::new(0),
        })
    }

    /// Sends until the time or the events are over.
    pub async fn drive(self: Rc<Self>, seed: u64) -> Result<Seen, std::io::Error> {
        let mut events = Events::new(seed << 32);
        let mut next = || render(&self.path, "application/x-ndjson", &events.lines(self.events as usize));
        let bodies: Vec<Vec<u8>> = (0..BODIES).map(|_| next()).collect();
        let mut connection = Connection::open(&self.address).await?;
        let mut seen = Seen::default();
        for body in bodies.iter().cycle() {
            if Instant::now() >= self.deadline || self.left.get() < self.events {
                break;
            }
            self.left.set(self.left.get() - self.events);
            self.pace().await;
            let began = Instant::now();
            loop {
                let (status, reply) = connection.exchange(body).await?;
                match status {
                    200 => break,
                    429 | 503 => {
                        seen.refused += 1;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    _ => return Err(std::io::Error::other(format!("answered {status}: {reply}"))),
                }
            }
            seen.latencies.record(began.elapsed());
            seen.acknowledged += self.events;
        }
        Ok(seen)
    }

    /// Waits until the next request is due.
    async fn pace(&self) {
        let sent = self.sent.get();
        self.sent.set(sent + self.events);
        if self.rate > 0 {
            let due = self.began + Duration::from_secs_f64(sent as f64 / self.rate as f64);
            tokio::time::sleep_until(due.into()).await;
        }
    }
}
