//! Runs `tests/slt/*.slt`: SQL with the answers and errors it must give, over an engine in this process.
//!
//! Each file gets an engine of its own. Records are separated by empty lines:
//!
//! ```text
//! statement ok              query [rowsort]           statement error             ingest STREAM
//! CREATE STREAM …           SELECT …                  SELEC 1                     {"a": 1}
//! ----                      ----                      ----                        ----
//! CREATE STREAM             a | b                     syntax_error at 1: …        1 accepted, 0 refused
//!                           1 | x
//! ```
//!
//! `restart` stops the engine and opens it again on the same data. A line that starts with `#` is a comment.
//! With `MILLSTREAM_SLT=update` the answers are written into the files instead of being compared; with
//! `MILLSTREAM_TEST_LAKE=s3` each lake is a bucket on the tests' S3 server.

#![expect(clippy::unwrap_used, reason = "a test fails where its own preparation fails")]

#[path = "../../../tests/servers/mod.rs"]
mod servers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Schema;
use arrow::json::ReaderBuilder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use millstream_buffer::SystemClock;
use millstream_catalog::fault::Fault;
use millstream_catalog::{ObjectName, SqliteCatalog};
use millstream_process::{Engine, EngineOptions, Error, FileAccess, LogEngine, Outcome, Rows, Session};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_gives_the_answers_it_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/slt");
    let update = std::env::var("MILLSTREAM_SLT").is_ok_and(|v| v == "update");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "slt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no .slt files in {}", folder.display());
    let mut wrong = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let (answered, surprises) = Run::start(&folder).await.file(&text).await;
        surprises.iter().for_each(|s| {
            let _ = writeln!(wrong, "{}: {s}", path.display());
        });
        if update {
            std::fs::write(&path, answered).unwrap();
        } else if answered != text {
            let _ = writeln!(wrong, "{}:\n{}", path.display(), difference(&text, &answered));
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nif the new answers are right, run: make slt");
}

/// The lines that are not the same, by line number.
fn difference(expected: &str, found: &str) -> String {
    let mut shown = String::new();
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let same = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    for (sign, lines) in [("-", &expected), ("+", &found)] {
        for (i, line) in lines.iter().enumerate().skip(same).take(8) {
            let _ = writeln!(shown, "{sign}{:4}: {line}", i + 1);
        }
    }
    shown
}

/// One file's engine.
struct Run {
    data: tempfile::TempDir,
    samples: PathBuf,
    lake: LakePlace,
    engine: Engine,
    session: Session,
    surprises: Vec<String>,
}

impl Run {
    async fn start(samples: &Path) -> Self {
        let data = tempfile::tempdir().unwrap();
        let copies = data.path().join("files");
        copy_folder(samples, &copies);
        let samples = copies.canonicalize().unwrap();
        let lake = LakePlace::fresh(data.path());
        let engine = open(data.path(), &samples, &lake).await;
        let session = engine.session();
        Self { data, samples, lake, engine, session, surprises: Vec::new() }
    }

    /// The file with its answers replaced by those found, and the records that failed or did not against their word.
    async fn file(mut self, text: &str) -> (String, Vec<String>) {
        let mut out = String::new();
        for record in text.split("\n\n") {
            let record = record.trim_matches('\n');
            if record.is_empty() {
                continue;
            }
            if !out.is_empty() {
                out.push('\n');
            }
            let asked: Vec<&str> = record.lines().take_while(|l| *l != "----").collect();
            let _ = writeln!(out, "{}", asked.join("\n"));
            let body = asked.iter().position(|l| !l.starts_with('#'));
            let Some((command, body)) = body.map(|i| (asked[i], asked[i + 1..].join("\n"))) else { continue };
            match self.answer(command, &body).await {
                None => {}
                Some(Ok(answer)) | Some(Err(answer)) if answer.is_empty() => out.push_str("----\n"),
                Some(Ok(answer)) if command != "statement error" => {
                    let _ = writeln!(out, "----\n{answer}");
                }
                Some(Err(error)) if command == "statement error" => {
                    let _ = writeln!(out, "----\n{error}");
                }
                Some(Ok(answer)) => self.surprises.push(format!("{body}\ndid not fail: {answer}")),
                Some(Err(error)) => self.surprises.push(format!("{body}\nfailed: {error}")),
            }
        }
        self.engine.shutdown().await;
        (out, self.surprises)
    }

    async fn answer(&mut self, command: &str, body: &str) -> Option<Result<String, String>> {
        // File names in statements are relative to a copy of the folder of the .slt files.
        let body = body.replace("$DIR", &self.samples.display().to_string());
        let words: Vec<&str> = command.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["statement", "ok" | "error"] => self.statement(&body).await,
            ["query"] => self.query(&body, false).await,
            ["query", "rowsort"] => self.query(&body, true).await,
            ["ingest", stream] => self.ingest(stream, &body).await,
            ["restart"] => {
                self.engine.shutdown().await;
                self.engine = open(self.data.path(), &self.samples, &self.lake).await;
                self.session = self.engine.session();
                return None;
            }
            _ => panic!("unknown record {command:?}"),
        };
        let plain = |text: String| text.trim_end().replace(&self.samples.display().to_string(), "$DIR");
        Some(answer.map(plain).map_err(|e| plain(shown_error(&e))))
    }

    async fn statement(&self, sql: &str) -> Result<String, Error> {
        match self.session.execute(sql).await? {
            Outcome::Done { tag, notices } => Ok(std::iter::once(tag)
                .chain(notices.into_iter().map(|n| format!("notice: {n}")))
                .collect::<Vec<_>>()
                .join("\n")),
            copy @ (Outcome::CopyIn(_) | Outcome::CopyOut { .. }) => Ok(format!("wants a client: {copy:?}")),
            Outcome::Rows { mut rows, tag } => {
                let mut count = 0;
                while let Some(batch) = rows.next().await {
                    count += batch?.num_rows();
                }
                Ok(format!("{tag} {count}"))
            }
        }
    }

    async fn query(&self, sql: &str, sort: bool) -> Result<String, Error> {
        let Outcome::Rows { mut rows, .. } = self.session.execute(sql).await? else {
            return Ok("a statement without rows".to_owned());
        };
        let schema = rows.schema();
        let header: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let mut lines = Vec::new();
        while let Some(batch) = rows.next().await {
            lines.extend(shown_rows(&batch?));
        }
        if sort {
            lines.sort();
        }
        lines.insert(0, header.join(" | "));
        Ok(lines.join("\n"))
    }

    /// Sends lines of JSON through admission into the stream.
    async fn ingest(&self, stream: &str, lines: &str) -> Result<String, Error> {
        let handle = self.engine.stream(&ObjectName::parse(stream)?)?;
        let definition = handle.definition();
        let loose: Vec<_> =
            definition.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let mut reader = ReaderBuilder::new(Arc::new(Schema::new(loose))).build(lines.as_bytes()).unwrap();
        let batch: RecordBatch = reader.next().unwrap().unwrap();
        let objects: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let missing = definition
            .columns
            .iter()
            .map(|c| Some(objects.iter().map(|o| o.get(&c.name).is_none()).collect::<BooleanBuffer>()))
            .collect();
        let admitted = handle.admit(Rows { batch, missing })?;
        let refused: Vec<String> =
            admitted.rejected.iter().map(|r| format!("row {}: {}: {}", r.row, r.code.name(), r.reason)).collect();
        let receipt = handle.append(admitted.batch, Vec::new(), None).await?;
        let mut answer = format!("{} accepted, {} refused", receipt.accepted, refused.len());
        refused.iter().for_each(|r| {
            let _ = write!(answer, "\n{r}");
        });
        Ok(answer)
    }
}

/// Copies what statements may read: they write beside it.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &copy);
        } else if path.extension().is_none_or(|e| e != "slt") {
            std::fs::copy(&path, &copy).unwrap();
        }
    }
}

fn shown_error(error: &Error) -> String {
    let at = error.position().map_or_else(String::new, |p| format!(" at {p}"));
    let hint = error.hint().map_or_else(String::new, |h| format!("\nhint: {h}"));
    format!("{}{at}: {error}{hint}", error.code().name())
}

fn shown_rows(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    (0..batch.num_rows())
        .map(|row| {
            let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            cells.join(" | ").replace("\n\n", "\n \n").trim_end().to_owned()
        })
        .collect()
}

/// Where an engine's lake lies, and what its store is told.
struct LakePlace {
    url: String,
    options: BTreeMap<String, String>,
}

impl LakePlace {
    /// A place that nobody else uses.
    fn fresh(data: &Path) -> Self {
        if std::env::var("MILLSTREAM_TEST_LAKE").is_ok_and(|kind| kind == "s3") {
            let server = servers::S3Server::shared("SQL on S3").expect("`make test-s3` sets Python up");
            return Self { url: format!("s3://{}/lake", server.new_bucket()), options: server.options() };
        }
        let lake = data.join("lake");
        std::fs::create_dir_all(&lake).unwrap();
        Self { url: format!("file://{}", lake.canonicalize().unwrap().display()), options: BTreeMap::new() }
    }
}

async fn open(data: &Path, samples: &Path, lake: &LakePlace) -> Engine {
    let (store_url, store) = millstream_store::store_from_url(&lake.url, &lake.options).unwrap();
    let catalog = SqliteCatalog::open(data.join("catalog.sqlite")).await.unwrap();
    Engine::open(EngineOptions {
        data_dir: data.to_owned(),
        catalog: Arc::new(catalog),
        store_url,
        store,
        log_engine: LogEngine::Disk,
        clock: Arc::new(SystemClock),
        query_memory_bytes: 256 << 20,
        view_memory_bytes: 256 << 20,
        statement_timeout: Duration::from_secs(60),
        max_queries: 4,
        ingest_queue_bytes: 64 << 20,
        log_memory_bytes: 16 << 20,
        tier_bytes: 64 << 20,
        tier_age: Duration::from_secs(3600),
        maintenance_interval: Duration::from_secs(3600),
        vacuum_retention: Duration::from_secs(3600),
        files: FileAccess::under(samples),
    })
    .await
    .unwrap()
}
