//! Measures how long after its acknowledgement a row is in a query's answer, while others write at a steady rate.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Figures;
use crate::arguments::Arguments;
use crate::bulk::Load;
use crate::connection::{Connection, render};
use crate::event::Events;
use crate::latency::Latencies;

/// Runs `freshness`.
pub async fn run(arguments: Arguments) -> Figures {
    let rate: u64 = arguments.number("rate", 100_000)?;
    let seconds: f64 = arguments.number("seconds", 10.0)?;
    let stream = arguments.text("stream")?.to_owned();
    let pointed = arguments.choice("query", "pointed") == "pointed";
    let paced = Arguments::parse(
        ["--addr", arguments.text("addr")?, "--stream", &stream, "--rate", &rate.to_string()]
            .into_iter()
            .chain(["--seconds", &seconds.to_string(), "--events", "500"])
            .map(str::to_owned),
    )?;
    let load = Rc::new(Load::new(&paced, u64::MAX)?);
    let writers: Vec<_> = (0..4).map(|n| tokio::task::spawn_local(Rc::clone(&load).drive(n))).collect();
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    let mut probe = Probe::open(arguments.text("addr")?, stream, pointed).await?;
    let (mut visible, mut acknowledged) = (Latencies::default(), Latencies::default());
    let mut questions = 0;
    while Instant::now() < deadline {
        let sent = Instant::now();
        let end = probe.write().await?;
        let written = Instant::now();
        acknowledged.record(written - sent);
        loop {
            questions += 1;
            if probe.sees(end).await? {
                break;
            }
        }
        visible.record(written.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for writer in writers {
        writer.await??;
    }
    Ok(json!({
        "rate": rate,
        "query": if pointed { "count(*) at and after the row's offset" } else { "max(_offset) of the stream" },
        "questions": questions,
        "acknowledged_to_visible": visible.figures(),
        "sent_to_acknowledged": acknowledged.figures(),
    }))
}

/// Writes a row, then asks for it.
struct Probe {
    connection: Connection,
    stream: String,
    pointed: bool,
    events: Events,
}

impl Probe {
    async fn open(address: &str, stream: String, pointed: bool) -> std::io::Result<Self> {
        Ok(Self { connection: Connection::open(address).await?, stream, pointed, events: Events::new(99) })
    }

    /// Writes one row; gives back its offset.
    async fn write(&mut self) -> std::io::Result<i64> {
        let path = format!("/v1/streams/{}", self.stream);
        let request = render(&path, "application/x-ndjson", &self.events.lines(1));
        let reply = self.exchange(&request).await?;
        reply["offsets"][0]["start"].as_i64().ok_or_else(|| std::io::Error::other(format!("no offset in {reply}")))
    }

    /// Whether a query sees the row at that offset.
    async fn sees(&mut self, offset: i64) -> std::io::Result<bool> {
        let stream = &self.stream;
        let sql = match self.pointed {
            true => format!("SELECT count(*) FROM {stream} WHERE _offset >= {offset}"),
            false => format!("SELECT max(_offset) FROM {stream}"),
        };
        let request = render("/v1/sql", "application/json", &json!({ "sql": sql }).to_string());
        let reply = self.exchange(&request).await?;
        let value = &reply["rows"][0][0];
        let number = value.as_i64().or_else(|| value.as_str().and_then(|s| s.parse().ok())).unwrap_or(-1);
        Ok(if self.pointed { number > 0 } else { number >= offset })
    }

    async fn exchange(&mut self, request: &[u8]) -> std::io::Result<Value> {
        let (status, body) = self.connection.exchange(request).await?;
        if status != 200 {
            return Err(std::io::Error::other(format!("answered {status}: {body}")));
        }
        serde_json::from_str(&body).map_err(std::io::Error::other)
    }
}
