//! Measures durable ingest: so many connections, so many events a request, each request after the last one's reply.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Figures;
use crate::arguments::{Arguments, Error};
use crate::connection::{Connection, render};
use crate::event::Events;
use crate::latency::Latencies;

/// Bodies a connection sends in turn, so that rendering costs nothing while the clock runs.
const BODIES: u64 = 16;

/// What all connections share.
#[derive(Debug)]
pub struct Load {
    address: String,
    events: u64,
    /// What each connection sends in turn.
    bodies: Vec<Vec<Vec<u8>>>,
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
    let connections: usize = arguments.number("connections", 4)?;
    let load = Rc::new(Load::new(&arguments, connections)?);
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
    if arguments.number("flush", 0)? > 0 {
        Connection::open(&load.address).await?.sql("FLUSH", &[]).await?;
    }
    let flushed = load.began.elapsed().as_secs_f64();
    Ok(json!({
        "seconds_until_flushed": flushed,
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
    /// From the command line. The time begins when everything is rendered.
    pub fn new(arguments: &Arguments, connections: usize) -> Result<Self, Error> {
        let total = arguments.number("total", u64::MAX)?;
        let default_seconds = if total == u64::MAX { 10.0 } else { 86_400.0 };
        let time = Duration::from_secs_f64(arguments.number("seconds", default_seconds)?);
        let path = format!("/v1/streams/{}", arguments.text("stream")?);
        let events: u64 = arguments.number("events", 1000)?;
        let rendered = |connection: usize| -> Vec<Vec<u8>> {
            let mut lines = Events::new((connection as u64) << 32);
            (0..BODIES).map(|_| render(&path, "application/x-ndjson", lines.lines(events as usize))).collect()
        };
        let bodies = (0..connections).map(rendered).collect();
        let began = Instant::now();
        Ok(Self {
            address: arguments.text("addr")?.to_owned(),
            events,
            bodies,
            deadline: began + time,
            left: Cell::new(total),
            rate: arguments.number("rate", 0)?,
            began,
            sent: Cell::new(0),
        })
    }

    /// Sends until the time or the events are over.
    pub async fn drive(self: Rc<Self>, connection: usize) -> Result<Seen, std::io::Error> {
        let bodies = &self.bodies[connection];
        let mut connection = Connection::open(&self.address).await?;
        let mut seen = Seen::default();
        for body in bodies.iter().cycle() {
            if Instant::now() >= self.deadline || self.left.get() < self.events {
                break;
            }
            self.left.set(self.left.get() - self.events);
            self.pace().await;
            let began = Instant::now();
            seen.refused += connection.insist(body).await?.1;
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
