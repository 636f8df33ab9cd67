//! Owns sending a file's chunks: several at once, again when the node is busy, and what became of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use millstream_catalog::fault::Code;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::chunk::{Chunk, Chunks, KeyBase};
use crate::client::{Client, Problem, broken};
use crate::failure::{Failure, Result};

/// How long a chunk is sent again before the load gives up.
const PATIENCE: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Errors that are told in the summary.
const TOLD_ERRORS: usize = 10;

/// What became of a file's rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows that this load added to the stream.
    pub added: u64,
    /// Rows that an earlier load had added.
    pub present: u64,
    /// Rows that are in `system.quarantine`.
    pub quarantined: u64,
    /// The first errors, with the file's lines.
    pub errors: Vec<String>,
}

/// How to send.
#[derive(Debug, Clone)]
pub struct Loader {
    /// To which node.
    pub client: Client,
    /// To which stream.
    pub stream: Arc<str>,
    /// Requests under way at once.
    pub parallel: usize,
    /// Rows a second, at most.
    pub rate: Option<u64>,
    /// Moves as chunks are acknowledged.
    pub progress: ProgressBar,
}

/// A node's reply to an ingest request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply {
    accepted: u64,
    quarantined: u64,
    duplicate: bool,
    errors: Vec<RowError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RowError {
    line: Option<i64>,
    message: String,
}

/// A chunk that was acknowledged.
struct Acknowledged {
    chunk: Chunk,
    reply: Reply,
}

impl Loader {
    /// Sends every chunk of a file; ends at the first that the node refuses for good.
    pub async fn load(self, chunks: Box<dyn Chunks>, keys: KeyBase) -> Result<Totals> {
        let content_type = chunks.content_type();
        let mut coming = read_ahead(chunks, self.parallel);
        let mut under_way = JoinSet::new();
        let mut totals = Totals::default();
        let began = Instant::now();
        let mut sent_rows = 0;
        while let Some(chunk) = coming.recv().await {
            let chunk = chunk?;
            while under_way.len() >= self.parallel {
                self.settle(&mut under_way, &mut totals).await?;
            }
            self.keep_to_rate(began, sent_rows).await;
            sent_rows += chunk.rows;
            let key = keys.key(chunk.index);
            let (client, stream) = (self.client.clone(), self.stream.clone());
            under_way.spawn(async move { send(&client, &stream, content_type, &key, chunk).await });
        }
        while !under_way.is_empty() {
            self.settle(&mut under_way, &mut totals).await?;
        }
        Ok(totals)
    }

    /// Waits for one request and counts what it came to.
    async fn settle(&self, under_way: &mut JoinSet<Result<Acknowledged>>, totals: &mut Totals) -> Result<()> {
        let Some(ended) = under_way.join_next().await else {
            return Ok(());
        };
        let Acknowledged { chunk, reply } =
            ended.map_err(|e| Failure::new(Code::Internal, format!("a sender ended early: {e}")))??;
        totals.add(&chunk, reply);
        if chunk.reached > self.progress.position() {
            self.progress.set_position(chunk.reached);
        }
        Ok(())
    }

    async fn keep_to_rate(&self, began: Instant, sent_rows: u64) {
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(sent_rows as f64 / rate.max(1) as f64);
            sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
}

impl Totals {
    fn add(&mut self, chunk: &Chunk, reply: Reply) {
        if reply.duplicate {
            self.present += reply.accepted;
        } else {
            self.added += reply.accepted;
        }
        self.quarantined += reply.quarantined;
        let room = TOLD_ERRORS.saturating_sub(self.errors.len());
        for error in reply.errors.into_iter().take(room) {
            self.errors.push(match error.line {
                Some(line) => format!("line {}: {}", line + chunk.line_offset, error.message),
                None => error.message,
            });
        }
    }

    /// Adds another file's totals.
    pub fn merge(&mut self, file: &str, other: Totals) {
        self.added += other.added;
        self.present += other.present;
        self.quarantined += other.quarantined;
        let room = TOLD_ERRORS.saturating_sub(self.errors.len());
        self.errors.extend(other.errors.into_iter().take(room).map(|error| format!("{file}, {error}")));
    }
}

/// Reads a file on a thread of its own, no further ahead than can be sent.
fn read_ahead(mut chunks: Box<dyn Chunks>, ahead: usize) -> mpsc::Receiver<Result<Chunk>> {
    let (sender, receiver) = mpsc::channel(ahead.max(1));
    tokio::task::spawn_blocking(move || {
        while let Some(chunk) = chunks.next_chunk().transpose() {
            if sender.blocking_send(chunk).is_err() {
                // Nobody takes it any more: the load has ended.
                return;
            }
        }
    });
    receiver
}

/// Sends one chunk until it is acknowledged, refused for good, or patience ends. Its key makes every try safe.
async fn send(client: &Client, stream: &str, content_type: &str, key: &str, chunk: Chunk) -> Result<Acknowledged> {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let problem = match try_send(client, stream, content_type, key, &chunk).await {
            Ok(reply) => return Ok(Acknowledged { chunk, reply }),
            Err(problem) => problem,
        };
        if problem.code == Some(Code::KeyReused) {
            // The key is made from the file's content: the node has these rows, encoded otherwise by another version.
            let reply = Reply { accepted: chunk.rows, duplicate: true, ..Reply::default() };
            return Ok(Acknowledged { chunk, reply });
        }
        if !problem.is_transient() || began.elapsed() > PATIENCE {
            return Err(refused(problem, &chunk));
        }
        sleep(problem.retry_after.unwrap_or_default().max(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn try_send(
    client: &Client,
    stream: &str,
    content_type: &str,
    key: &str,
    chunk: &Chunk,
) -> Result<Reply, Problem> {
    let response = client.ingest(stream, content_type, Some(key), chunk.body.clone()).await?;
    let text = response.bytes().await.map_err(|e| broken(&e))?;
    serde_json::from_slice(&text).map_err(|e| Problem {
        code: Some(Code::Internal),
        detail: format!("the node's reply is not what it should be: {e}"),
        ..Problem::default()
    })
}

fn refused(problem: Problem, chunk: &Chunk) -> Failure {
    let mut failure = Failure::from(problem);
    failure.message = format!("{} (at chunk {} of {} rows)", failure.message, chunk.index, chunk.rows);
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn errors_name_the_files_lines_and_duplicates_count_as_present() {
        let chunk = Chunk { index: 1, body: Bytes::new(), rows: 3, line_offset: 9, reached: 0 };
        let reply: Reply = serde_json::from_str(
            r#"{"accepted": 2, "quarantined": 1, "errors": [{"line": 2, "column": 5, "message": "not a number"}]}"#,
        )
        .unwrap();
        let mut totals = Totals::default();
        totals.add(&chunk, reply);
        totals.add(&chunk, Reply { accepted: 3, duplicate: true, ..Reply::default() });
        let errors = vec!["line 11: not a number".to_owned()];
        assert_eq!(totals, Totals { added: 2, present: 3, quarantined: 1, errors });
    }
}
