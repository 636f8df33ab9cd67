//! Owns `millstream sql`: statements to a node, results to stdout, errors with a caret under their place.

mod complete;
mod meta;
mod progress;
mod repl;
mod split;
mod table;

use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use futures::StreamExt;
use millstream_catalog::fault::Code;
use reqwest::Response;
use serde::Deserialize;

use crate::args::{Format, SqlArgs};
use crate::client::{Client, Problem, broken};
use crate::failure::{Failure, Result};
pub use split::statements;
use table::Table;

/// What ends a command that Ctrl-C stopped.
const INTERRUPTED: u8 = 130;

/// Why a statement gave no whole result.
#[derive(Debug)]
pub enum Trouble {
    /// The node refused or failed.
    Node(Problem),
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads the output any more.
    Unread,
    /// The output cannot be written, or the answer cannot be read.
    Output(io::Error),
}

impl Trouble {
    fn into_failure(self, statement: &str) -> Failure {
        match self {
            Trouble::Node(problem) => Failure::new(problem.code.unwrap_or(Code::Internal), problem.show(statement)),
            Trouble::Output(error) => Failure::io("write the result", &error),
            Trouble::Unread => Failure::new(Code::IoError, "nobody reads the output"),
            Trouble::Interrupted => Failure::new(Code::Cancelled, "cancelled"),
        }
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Trouble::Node(problem)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Trouble::Unread } else { Trouble::Output(error) }
    }
}

/// Where statements go and how results look.
#[derive(Debug)]
pub struct Shell {
    client: Client,
    format: Format,
    timing: bool,
}

/// A statement without rows, as the node answers it.
#[derive(Debug, Deserialize)]
struct Done {
    status: Option<String>,
    #[serde(default)]
    notices: Vec<String>,
}

/// `millstream sql`.
pub fn run(args: SqlArgs) -> Result<ExitCode> {
    let runtime = crate::node::runtime()?;
    let shell = Shell::new(Client::new(&args.url)?, args.format);
    let text = match (&args.commands[..], &args.file) {
        ([], None) if io::stdin().is_terminal() => return repl::run(shell, &args.url, &runtime),
        ([], None) => read_stdin()?,
        ([], Some(file)) if file.as_os_str() == "-" => read_stdin()?,
        ([], Some(file)) => {
            std::fs::read_to_string(file).map_err(|e| Failure::io(format_args!("read {}", file.display()), &e))?
        }
        (commands, _) => commands.join(";\n"),
    };
    runtime.block_on(shell.run_all(&text))
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|e| Failure::io("read stdin", &e))?;
    Ok(text)
}

impl Shell {
    /// A shell on a node.
    pub fn new(client: Client, format: Format) -> Self {
        Self { client, format, timing: false }
    }

    /// Runs one statement and prints its result.
    pub async fn print(&self, statement: &str) -> Result<()> {
        self.run_one(statement).await.map_err(|trouble| trouble.into_failure(statement))
    }

    /// Runs statements until one fails.
    async fn run_all(&self, text: &str) -> Result<ExitCode> {
        for statement in split::statements(text) {
            match self.run_one(statement).await {
                Ok(()) => {}
                Err(Trouble::Unread) => return Ok(ExitCode::SUCCESS),
                Err(Trouble::Interrupted) => return Ok(ExitCode::from(INTERRUPTED)),
                Err(trouble) => return Err(trouble.into_failure(statement)),
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs one statement and prints its result; Ctrl-C ends it here and, as the connection closes, on the node.
    async fn run_one(&self, statement: &str) -> Result<(), Trouble> {
        let began = Instant::now();
        let mut out = BufWriter::new(io::stdout().lock());
        let outcome = tokio::select! {
            outcome = self.fetch(statement, &mut out) => outcome,
            outcome = progress::show(&self.client, statement) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Trouble::Interrupted),
        };
        outcome?;
        if self.timing {
            writeln!(out, "time: {}", show_time(began.elapsed()))?;
        }
        Ok(out.flush()?)
    }

    async fn fetch(&self, statement: &str, out: &mut impl Write) -> Result<(), Trouble> {
        let accept = match self.format {
            Format::Table => "application/vnd.apache.arrow.stream",
            Format::Json => "application/x-ndjson",
            Format::Csv => "text/csv",
        };
        let response = self.client.sql(statement, accept).await?;
        let content_type =
            response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        if !content_type.starts_with(accept) {
            return self.print_done(response, out).await;
        }
        match self.format {
            Format::Table => print_table(response, out).await,
            Format::Json => print_array(response, out).await,
            Format::Csv => print_csv(response, out).await,
        }
    }

    /// What a statement without rows came to; only people read it.
    async fn print_done(&self, response: Response, out: &mut impl Write) -> Result<(), Trouble> {
        let text = response.text().await.map_err(|e| broken(&e))?;
        let Ok(done) = serde_json::from_str::<Done>(&text) else {
            return Ok(());
        };
        say(&done.notices);
        match (self.format, done.status) {
            (Format::Table, Some(status)) => Ok(writeln!(out, "{status}")?),
            _ => Ok(()),
        }
    }
}

#[expect(clippy::print_stderr, reason = "notices are not part of a result")]
fn say(notices: &[String]) {
    for notice in notices {
        eprintln!("notice: {notice}");
    }
}

async fn print_table(response: Response, out: &mut impl Write) -> Result<(), Trouble> {
    let mut decoder = StreamDecoder::new();
    let mut table = None;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let mut bytes = Buffer::from(chunk.map_err(|e| broken(&e))?);
        while !bytes.is_empty() {
            let batch = decoder.decode(&mut bytes).map_err(io::Error::other)?;
            if table.is_none() {
                table = decoder.schema().map(|schema| Table::new(&schema));
            }
            if let (Some(batch), Some(table)) = (batch, &mut table) {
                table.push(&batch, out)?;
            }
        }
    }
    match table {
        Some(table) => Ok(table.finish(out)?),
        None => Ok(()),
    }
}

/// Objects, one a line, as a JSON array.
async fn print_array(response: Response, out: &mut impl Write) -> Result<(), Trouble> {
    let mut chunks = response.bytes_stream();
    let mut line: Vec<u8> = Vec::new();
    let mut separator: &[u8] = b"[";
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| broken(&e))?;
        for piece in chunk.split_inclusive(|&b| b == b'\n') {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") {
                line.pop();
                if let Some(problem) = last_words(&line) {
                    return Err(problem.into());
                }
                out.write_all(separator)?;
                out.write_all(&line)?;
                line.clear();
                separator = b",\n ";
            }
        }
    }
    Ok(out.write_all(if separator == b"[" { b"[]\n" } else { b"]\n" })?)
}

/// The failure that ended a result after its first rows; NDJSON carries it in a line of its own.
fn last_words(line: &[u8]) -> Option<Problem> {
    let problem = line.strip_prefix(b"{\"error\":")?.strip_suffix(b"}")?;
    let text = std::str::from_utf8(problem).ok()?;
    text.contains("\"sqlstate\"").then(|| Problem::parse(200, text)).filter(|p| p.code.is_some())
}

/// CSV with the line ends of this system; what is quoted stays as it is.
async fn print_csv(response: Response, out: &mut impl Write) -> Result<(), Trouble> {
    let mut chunks = response.bytes_stream();
    let mut quoted = false;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| broken(&e))?;
        out.write_all(&plain_line_ends(&chunk, &mut quoted))?;
    }
    Ok(())
}

fn plain_line_ends(csv: &[u8], quoted: &mut bool) -> Vec<u8> {
    let mut plain = Vec::with_capacity(csv.len());
    for &byte in csv {
        *quoted ^= byte == b'"';
        if byte != b'\r' || *quoted {
            plain.push(byte);
        }
    }
    plain
}

fn show_time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{:.1} ms", time.as_secs_f64() * 1000.0),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_keeps_line_ends_inside_quotes_only() {
        let mut quoted = false;
        let mut plain = plain_line_ends(b"a\r\n\"x\r", &mut quoted);
        plain.extend(plain_line_ends(b"\ny \"\"z\"\"\"\r\n", &mut quoted));
        assert_eq!(plain, b"a\n\"x\r\ny \"\"z\"\"\"\n");
    }

    #[test]
    fn the_last_line_of_ndjson_can_be_a_failure_but_a_row_that_looks_like_one_is_a_row() {
        let failure = br#"{"error":{"code":"out_of_memory","sqlstate":"53200","detail":"too large"}}"#;
        assert_eq!(last_words(failure).and_then(|p| p.code), Some(Code::OutOfMemory));
        assert!(last_words(br#"{"error":"the engine stalled"}"#).is_none());
        assert!(last_words(br#"{"a":1}"#).is_none());
    }
}
