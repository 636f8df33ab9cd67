//! Measures a log on this machine's disk: appends of 1000 rows from 4 tasks, single rows from 64, reading back, and
//! opening again.
//!
//! `cargo run --release -p millstream-buffer --example append_rate [seconds] [folder]`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_buffer::{Append, DiskLog, DiskLogOptions, Log, Part};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("device", DataType::Utf8, false),
        Field::new("reading", DataType::Float64, false),
        Field::new("seq", DataType::Int64, false),
        Field::new("city", DataType::Utf8, true),
    ]))
}

fn rows(count: i64) -> Outcome<RecordBatch> {
    let text = |prefix: &str| StringArray::from_iter_values((0..count).map(|i| format!("{prefix}-{:05}", i % 997)));
    Ok(RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(0..count)),
            Arc::new(text("device")),
            Arc::new(Float64Array::from_iter_values((0..count).map(|i| i as f64 / 7.0))),
            Arc::new(Int64Array::from_iter_values(0..count)),
            Arc::new(text("city")),
        ],
    )?)
}

/// Seconds of processor time that this process has used, as Linux counts them: in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

async fn measure(log: &Arc<DiskLog>, tasks: u32, rows_each: i64, time: Duration) -> Outcome<()> {
    let fsyncs = log.stats().fsyncs;
    let cpu = cpu_seconds();
    let begin = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                let batch = rows(rows_each)?;
                let mut slow = Vec::new();
                while begin.elapsed() < time {
                    let asked = Instant::now();
                    let part = Part { partition: task % 4, batch: batch.clone() };
                    log.append(Append { parts: vec![part], key: None }).await?;
                    slow.push(asked.elapsed());
                }
                Outcome::Ok(slow)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in running {
        times.extend(task.await??);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    times.sort_unstable();
    let quantile = |q: f64| times.get((times.len() as f64 * q) as usize).copied().unwrap_or_default();
    println!(
        "{tasks:>3} tasks, {rows_each:>5} rows each: {:>10.0} rows/s, {:>8.0} appends/s, {:>6.0} fsyncs/s, \
         {:.1} µs of processor an append, p50 {:?}, p99 {:?}, p99.9 {:?}",
        times.len() as f64 * rows_each as f64 / seconds,
        times.len() as f64 / seconds,
        (log.stats().fsyncs - fsyncs) as f64 / seconds,
        cpu * 1e6 / times.len().max(1) as f64,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
    );
    Ok(())
}

fn read_back(log: &DiskLog) -> Outcome<()> {
    let begin = Instant::now();
    let view = log.view();
    let mut rows = 0;
    let mut batches = 0;
    for batch in view.read(view.start())? {
        rows += batch?.batch.num_rows();
        batches += 1;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("read {rows} rows in {batches} batches: {:.0} rows/s", rows as f64 / seconds);
    Ok(())
}

async fn run(dir: &Path, time: Duration) -> Outcome<()> {
    let options = || DiskLogOptions::new(dir.join("log"), schema(), 4);
    let log = Arc::new(DiskLog::open(options()).await?);
    measure(&log, 4, 1000, time).await?;
    measure(&log, 64, 1, time).await?;
    measure(&log, 1, 1, time / 2).await?;
    println!("{:?}", log.stats());
    read_back(&log)?;
    drop(log);
    for closed in [false, true] {
        let begin = Instant::now();
        let log = DiskLog::open(options()).await?;
        let gigabytes = log.stats().disk_bytes as f64 / 1e9;
        println!("opened {gigabytes:.2} GB in {:?}, closed before: {closed}", begin.elapsed());
        log.close().await?;
    }
    DiskLog::remove(&dir.join("log")).await?;
    Ok(())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(5), |s| s.parse())?;
    let dir = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    run(&dir.join(format!("append-rate-{}", std::process::id())), Duration::from_secs(seconds)).await
}
