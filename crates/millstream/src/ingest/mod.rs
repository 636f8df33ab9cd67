//! Owns `millstream ingest`: files into a stream, each exactly once, with a progress bar.

pub mod chunk;
mod lines;
pub mod load;
pub mod parquet;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressState, ProgressStyle};
use millstream_catalog::fault::Code;

use crate::args::{FileFormat, IngestArgs};
use crate::client::Client;
use crate::failure::{Failure, Result};
use chunk::{Chunks, KeyBase};
use lines::Lines;
use load::{Loader, Totals};
use parquet::{Encoding, Parquet};

/// Rows of a request. Not a flag: files must be cut the same way every time.
const ROWS_PER_CHUNK: usize = 10_000;

/// `millstream ingest`.
pub fn run(args: &IngestArgs) -> Result<ExitCode> {
    let runtime = crate::node::runtime()?;
    let began = Instant::now();
    let totals = runtime.block_on(load_all(args))?;
    summarise(args, &totals, began.elapsed());
    Ok(ExitCode::SUCCESS)
}

async fn load_all(args: &IngestArgs) -> Result<Totals> {
    let client = Client::new(&args.url)?;
    let formats = args.files.iter().map(|f| format_of(f, args.format)).collect::<Result<Vec<_>>>()?;
    let mut totals = Totals::default();
    for (file, format) in args.files.iter().zip(formats) {
        let name = file.display().to_string();
        let chunks = open(file, format)?;
        let keys = {
            let (stream, file, again) = (args.stream.clone(), file.clone(), args.again.clone());
            let content_type = chunks.content_type();
            tokio::task::spawn_blocking(move || KeyBase::of_file(&stream, &file, content_type, again.as_deref()))
                .await
                .map_err(|e| Failure::new(Code::Internal, format!("reading {name} ended early: {e}")))??
        };
        let progress = progress_bar(&name, chunks.length(), chunks.counts_rows());
        let loader = Loader {
            client: client.clone(),
            stream: args.stream.as_str().into(),
            parallel: usize::from(args.parallel),
            rate: None,
            progress: progress.clone(),
        };
        let loaded = loader.load(chunks, keys).await.map_err(|failure| {
            progress.abandon();
            let message = format!("{name}: {failure}; run the same command again to go on where it stopped");
            Failure::new(failure.code, message)
        })?;
        progress.finish();
        totals.merge(&name, loaded);
    }
    Ok(totals)
}

fn open(file: &Path, format: FileFormat) -> Result<Box<dyn Chunks>> {
    Ok(match format {
        FileFormat::Parquet => Box::new(Parquet::open(file, Encoding::ArrowIpc, ROWS_PER_CHUNK)?),
        FileFormat::Csv => Box::new(Lines::open(file, true, ROWS_PER_CHUNK as u64)?),
        FileFormat::Ndjson => Box::new(Lines::open(file, false, ROWS_PER_CHUNK as u64)?),
    })
}

fn format_of(file: &Path, told: Option<FileFormat>) -> Result<FileFormat> {
    let name = file.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let stem = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let by_name = match stem.rsplit_once('.').map(|(_, extension)| extension) {
        Some("parquet" | "pq") => Some(FileFormat::Parquet),
        Some("csv") => Some(FileFormat::Csv),
        Some("ndjson" | "jsonl" | "json") => Some(FileFormat::Ndjson),
        _ => None,
    };
    told.or(by_name).ok_or_else(|| {
        Failure::new(
            Code::UnsupportedMediaType,
            format!("cannot tell the format of {} from its name; say --format parquet, csv or ndjson", file.display()),
        )
    })
}

/// A bar on stderr; none when that is not a terminal.
pub fn progress_bar(name: &str, length: u64, rows: bool) -> ProgressBar {
    let template = match rows {
        true => "{prefix} {bar:30} {human_pos}/{human_len} rows  {rows_per_second}  {eta} left",
        false => "{prefix} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .with_key("rows_per_second", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing to the bar's own buffer does not fail.
            let _ = write!(out, "{}/s", HumanCount(state.per_sec() as u64));
        });
    let bar = ProgressBar::new(length).with_style(style).with_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what the command came to")]
fn summarise(args: &IngestArgs, totals: &Totals, took: Duration) {
    let bytes: u64 = args.files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
    println!(
        "{}: {} rows added, {} there already, {} in quarantine ({} in {:.1} s)",
        args.stream,
        HumanCount(totals.added),
        HumanCount(totals.present),
        HumanCount(totals.quarantined),
        HumanBytes(bytes),
        took.as_secs_f64()
    );
    for error in &totals.errors {
        eprintln!("  {error}");
    }
    if totals.quarantined > 0 {
        eprintln!("  all of them: SELECT * FROM system.quarantine WHERE stream = '{}'", args.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_names_or_by_hand() {
        let of = |name: &str| format_of(Path::new(name), None).ok();
        assert_eq!(of("a/B.PARQUET"), Some(FileFormat::Parquet));
        assert_eq!(of("a.csv.gz"), Some(FileFormat::Csv));
        assert_eq!(of("a.jsonl.zst"), Some(FileFormat::Ndjson));
        assert_eq!(of("a.txt"), None);
        assert_eq!(format_of(Path::new("a.txt"), Some(FileFormat::Csv)).ok(), Some(FileFormat::Csv));
    }
}
