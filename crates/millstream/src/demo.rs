//! Owns `millstream demo`: a node, a year of flights replayed to it over HTTP, and questions answered by SQL.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use indicatif::HumanCount;
use millstream_catalog::fault::Code;

use crate::args::{DemoArgs, Format};
use crate::client::Client;
use crate::config::{Config, LogConfig};
use crate::failure::{Failure, Result};
use crate::ingest::chunk::{Chunks, KeyBase};
use crate::ingest::load::{Loader, Totals};
use crate::ingest::parquet::{Encoding, Parquet};
use crate::ingest::progress_bar;
use crate::node::{self, Node, Signals};
use crate::shell::{Shell, statements};
use crate::telemetry;

const DATA_DIR: &str = "./millstream-demo";
/// The stream that is replayed as a feed, event by event; the others are loaded whole before it.
const FEED: &str = "flights";
/// Events of a request: few enough that the feed moves smoothly.
const EVENTS_PER_REQUEST: usize = 1_000;
const ROWS_PER_REQUEST: usize = 10_000;

/// `millstream demo`.
pub fn run(args: DemoArgs) -> Result<ExitCode> {
    let DemoArgs { once, blueprint, rate, mut serve } = args;
    let blueprint = Blueprint::open(blueprint)?;
    serve.flags.entry("data").or_insert_with(|| DATA_DIR.to_owned());
    let sources = serve.gather()?;
    let asked = |key: &str| sources.flags.contains_key(key) || sources.file_values.contains_key(key);
    let (mut config, _) = Config::resolve(&sources)?;
    free_ports(&mut config, asked);
    if !asked("log.level") {
        config.log = LogConfig { level: "warn".to_owned(), ..config.log };
    }
    telemetry::start(&config.log)?;
    let runtime = node::runtime()?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let node = Node::start(&config).await?;
        let outcome = tokio::select! {
            outcome = replay(&node, &blueprint, rate) => outcome.map(|()| ExitCode::SUCCESS),
            _ = signals.next() => Ok(ExitCode::from(130)),
        };
        if matches!(outcome, Ok(code) if code == ExitCode::SUCCESS) && !once {
            say_what_next(&node);
            signals.next().await;
        }
        node.stop().await;
        outcome
    });
    runtime.shutdown_background();
    outcome
}

/// Takes free ports where the usual ones are in use; those that were asked for stay.
fn free_ports(config: &mut Config, asked: impl Fn(&str) -> bool) {
    for (key, address) in [("listen", &mut config.listen), ("pg_listen", &mut config.pg_listen)] {
        if !asked(key) && std::net::TcpListener::bind(*address).is_err() {
            say(&format!("{address} is in use; taking a free port"));
            address.set_port(0);
        }
    }
}

/// Creates the streams, sends the data, answers the questions.
async fn replay(node: &Node, blueprint: &Blueprint, rate: Option<u64>) -> Result<()> {
    let url = format!("http://{}", node.http);
    let client = Client::new(&url)?;
    say(&format!("a node is up: {url}, postgresql://{}\n", node.pg));
    for statement in statements(&blueprint.streams) {
        client.sql(statement, "application/json").await?;
    }
    for (stream, file) in &blueprint.data {
        let feed = stream == FEED;
        let (encoding, rows) =
            if feed { (Encoding::Ndjson, EVENTS_PER_REQUEST) } else { (Encoding::ArrowIpc, ROWS_PER_REQUEST) };
        let began = Instant::now();
        let totals = send(&client, stream, file, Parquet::open(file, encoding, rows)?, rate.filter(|_| feed)).await?;
        report(stream, &totals, began.elapsed().as_secs_f64());
    }
    for question in &blueprint.questions {
        answer(&client, question).await?;
    }
    Ok(())
}

async fn send(client: &Client, stream: &str, file: &Path, chunks: Parquet, rate: Option<u64>) -> Result<Totals> {
    let keys = KeyBase::of_file(stream, file, chunks.content_type(), None)?;
    let progress = progress_bar(stream, chunks.length(), true);
    let loader =
        Loader { client: client.clone(), stream: stream.into(), parallel: 1, rate, progress: progress.clone() };
    let totals = loader.load(Box::new(chunks), keys).await?;
    progress.finish_and_clear();
    Ok(totals)
}

fn report(stream: &str, totals: &Totals, seconds: f64) {
    let present = match totals.present {
        0 => String::new(),
        rows => format!(", {} were there already", HumanCount(rows)),
    };
    let rate = ((totals.added + totals.present) as f64 / seconds.max(0.001)) as u64;
    say(&format!("{stream:>9}: {} rows added{present} ({} rows/s)", HumanCount(totals.added), HumanCount(rate)));
    for error in &totals.errors {
        say(&format!("           {error}"));
    }
}

/// Prints a question's answer, and fails when it is not the expected one.
async fn answer(client: &Client, question: &Question) -> Result<()> {
    say(&format!("\n{}", question.title));
    let shell = Shell::new(client.clone(), Format::Table);
    shell.print(&question.sql).await?;
    let response = client.sql(&question.sql, "text/csv").await?;
    let found = response.text().await.map_err(|e| Failure::from(crate::client::broken(&e)))?;
    match first_difference(&question.expected, &found) {
        None => Ok(()),
        Some(difference) => {
            Err(Failure::new(Code::DataCorrupted, format!("{}: not the expected answer: {difference}", question.title)))
        }
    }
}

/// Where two CSV texts differ, numbers and times compared as such.
fn first_difference(expected: &str, found: &str) -> Option<String> {
    let same_cell = |a: &str, b: &str| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() < 1e-9,
        _ => a == b || time(a) == time(b),
    };
    let same_line = |a: &str, b: &str| {
        a.split(',').count() == b.split(',').count() && a.split(',').zip(b.split(',')).all(|(a, b)| same_cell(a, b))
    };
    let (mut expected, mut found) = (expected.lines(), found.lines());
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return None,
            (Some(a), Some(b)) if same_line(a, b) => {}
            (a, b) => {
                return Some(format!("expected {:?}, found {:?}", a.unwrap_or_default(), b.unwrap_or_default()));
            }
        }
    }
}

/// A UTC time, however it is written.
fn time(text: &str) -> String {
    let text = text.replacen(' ', "T", 1);
    ["Z", "+00:00", "+00"].iter().find_map(|zone| text.strip_suffix(zone)).unwrap_or(&text).to_owned()
}

fn say_what_next(node: &Node) {
    say(&format!(
        "\nIt stays up until Ctrl-C. Try, in another terminal:\n\
         \n  psql -h {} -p {} -c '\\d flights'\
         \n  target/debug/millstream sql --url http://{}\
         \n  curl http://{}/v1/sql -H 'content-type: application/json' \\\n    -d '{{\"sql\": \"SELECT dest, count(*) FROM flights GROUP BY dest ORDER BY 2 DESC LIMIT 3\"}}'\
         \n  curl http://{}/metrics",
        node.pg.ip(),
        node.pg.port(),
        node.http,
        node.http,
        node.http
    ));
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn say(text: &str) {
    println!("{text}");
}

/// A folder with streams, data and questions.
#[derive(Debug)]
struct Blueprint {
    /// The statements that create the streams.
    streams: String,
    /// Streams and their files; the feed last.
    data: Vec<(String, PathBuf)>,
    /// In the order of their files' names.
    questions: Vec<Question>,
}

/// A question and its answer.
#[derive(Debug)]
struct Question {
    /// The SQL's first comment.
    title: String,
    sql: String,
    /// CSV with a header.
    expected: String,
}

impl Blueprint {
    fn open(folder: PathBuf) -> Result<Self> {
        let streams = read(&folder.join("streams.sql"))?;
        let mut data = Vec::new();
        for file in list(&folder.join("data"), "parquet")? {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            data.push((name, file));
        }
        data.sort_by_key(|(name, _)| name == FEED);
        let mut questions = Vec::new();
        for file in list(&folder.join("answers"), "sql")? {
            let sql = read(&file)?;
            let title = sql.lines().next().unwrap_or_default().trim_start_matches("--").trim().to_owned();
            questions.push(Question { title, sql, expected: read(&file.with_extension("csv"))? });
        }
        Ok(Self { streams, data, questions })
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|e| {
        let hint = "; run this at the root of the repository, or name the folder with --blueprint";
        let mut failure = Failure::io(format_args!("read {}", file.display()), &e);
        failure.message.push_str(hint);
        failure
    })
}

fn list(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let broken = |e: std::io::Error| Failure::io(format_args!("list {}", folder.display()), &e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(broken)? {
        files.push(entry.map_err(broken)?.path());
    }
    files.retain(|f| f.extension().is_some_and(|e| e == extension));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_by_value() {
        let expected = "t,n\n2014-01-01T05:26:00Z,1.0\n";
        assert_eq!(first_difference(expected, "t,n\r\n2014-01-01 05:26:00+00,1\r\n"), None);
        assert!(first_difference(expected, "t,n\n2014-01-01T05:27:00Z,1\n").is_some());
        assert!(first_difference(expected, "t,n\n").is_some());
        assert!(first_difference("a,b\n", "a\n").is_some());
    }
}
