//! Measures how long after its acknowledgement a row is in a query's answer, while others write at a steady rate.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Figures;
use crate::arguments::{Arguments, Error};
use crate::bulk::Load;
use crate::connection::{Connection, render};
use crate::event::Events;
use crate::latency::Latencies;

/// Connections of the others.
const WRITERS: usize = 4;

/// Runs `freshness`.
pub async fn run(arguments: Arguments) -> Figures {
    let rate: u64 = arguments.number("rate", 100_000)?;
    let seconds: f64 = arguments.number("seconds", 10.0)?;
    let stream = arguments.text("stream")?.to_owned();
    let question = Question::of(&arguments)?;
    let asked = question.text().to_owned();
    let paced = Arguments::parse(
        ["--addr", arguments.text("addr")?, "--stream", &stream, "--rate", &rate.to_string()]
            .into_iter()
            .chain(["--seconds", &seconds.to_string(), "--events", "500"])
            .map(str::to_owned),
    )?;
    let load = Rc::new(Load::new(&paced, WRITERS)?);
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::task::spawn_local(Rc::clone(&load).drive(n))).collect();
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    let mut probe = Probe::open(arguments.text("addr")?, stream, question).await?;
    let (mut visible, mut acknowledged) = (Latencies::default(), Latencies::default());
    let mut questions = 0;
    while Instant::now() < deadline {
        let sent = Instant::now();
        let row = probe.write().await?;
        let written = Instant::now();
        acknowledged.record(written - sent);
        loop {
            questions += 1;
            if probe.sees(&row).await? {
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
        "query": asked,
        "questions": questions,
        "acknowledged_to_visible": visible.figures(),
        "sent_to_acknowledged": acknowledged.figures(),
    }))
}

/// What is asked until the row is there.
enum Question {
    /// How many rows there are at its offset.
    Pointed,
    /// The last offset of the stream.
    Max,
    /// A view's row, over and over.
    View(String),
    /// A view's row, once, behind the row's position.
    ViewAfter(String),
}

impl Question {
    fn of(arguments: &Arguments) -> Result<Self, Error> {
        let view = || arguments.text("view").map(str::to_owned);
        match arguments.choice("query", "pointed") {
            "pointed" => Ok(Self::Pointed),
            "max" => Ok(Self::Max),
            "view" => Ok(Self::View(view()?)),
            "view-after" => Ok(Self::ViewAfter(view()?)),
            other => Err(format!("--query {other} is not pointed, max, view or view-after").into()),
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::Pointed => "count(*) at and after the row's offset",
            Self::Max => "max(_offset) of the stream",
            Self::View(_) => "the view's row, until it has changed",
            Self::ViewAfter(_) => "the view's row behind the position",
        }
    }
}

/// The user of the rows that are looked for in a view; nobody else has this number.
const USER: u64 = 7;

/// A row that was acknowledged.
struct Written {
    offset: i64,
    position: String,
}

/// Writes a row, then asks for it.
struct Probe {
    connection: Connection,
    stream: String,
    question: Question,
    events: Events,
    written: i64,
}

impl Probe {
    async fn open(address: &str, stream: String, question: Question) -> std::io::Result<Self> {
        let connection = Connection::open(address).await?;
        Ok(Self { connection, stream, question, events: Events::new(99), written: 0 })
    }

    /// Writes one row.
    async fn write(&mut self) -> Result<Written, Error> {
        let path = format!("/v1/streams/{}", self.stream);
        let line = match self.question {
            Question::Pointed | Question::Max => self.events.lines(1),
            _ => format!(
                "{{\"user_id\":{USER},\"event\":\"probe\",\"url\":\"/\",\"price\":1.5,\"ts\":\"2026-01-01T00:00:00Z\"}}\n"
            ),
        };
        let (reply, _) = self.connection.insist(&render(&path, "application/x-ndjson", line)).await?;
        let reply: Value = serde_json::from_str(&reply)?;
        self.written += 1;
        let offset = reply["offsets"][0]["start"].as_i64().ok_or_else(|| format!("no offset in {reply}"))?;
        Ok(Written { offset, position: reply["position"].as_str().unwrap_or_default().to_owned() })
    }

    /// Whether a query sees the row.
    async fn sees(&mut self, row: &Written) -> Result<bool, Error> {
        let (stream, offset) = (&self.stream, row.offset);
        let number = match &self.question {
            Question::Pointed => {
                self.number(&format!("SELECT count(*) FROM {stream} WHERE _offset >= {offset}"), &[]).await?
            }
            Question::Max => self.number(&format!("SELECT max(_offset) FROM {stream}"), &[]).await?,
            Question::View(view) => self.number(&format!("SELECT n FROM {view} WHERE user_id = {USER}"), &[]).await?,
            Question::ViewAfter(view) => {
                let sql = format!("SELECT n FROM {view} WHERE user_id = {USER}");
                self.number(&sql, std::slice::from_ref(&row.position)).await?
            }
        };
        match self.question {
            Question::Pointed => Ok(number > 0),
            Question::Max => Ok(number >= offset),
            Question::View(_) => Ok(number >= self.written),
            Question::ViewAfter(_) if number >= self.written => Ok(true),
            Question::ViewAfter(_) => {
                Err(format!("behind {} the view has {number} of {}", row.position, self.written).into())
            }
        }
    }

    /// The number that a query gives; -1 where there is no row.
    async fn number(&mut self, sql: &str, after: &[String]) -> Result<i64, Error> {
        let reply = self.connection.sql(sql, after).await?;
        let value = &reply["rows"][0][0];
        Ok(value.as_i64().or_else(|| value.as_str().and_then(|s| s.parse().ok())).unwrap_or(-1))
    }
}
