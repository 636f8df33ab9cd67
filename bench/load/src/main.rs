//! The command line of the load generator: one measurement a call, its figures as one line of JSON on standard output.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures and failures go to the terminal")]

mod arguments;
mod bulk;
mod connection;
mod decode;
mod event;
mod feed;
mod freshness;
mod keyed;
mod latency;
mod plain;
mod points;
mod views;

use std::process::ExitCode;

use arguments::Arguments;

/// What a measurement gives back.
type Figures = Result<serde_json::Value, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: millstream-bench COMMAND [--name value …]
  bulk       --addr A --stream S [--connections 4] [--events 1000] [--seconds 10] [--total N] [--rate R] [--flush 1]
  feed       --addr A (--query q5 | --keys N [--sequential 1]) [--view V] [--first 0] [--events 1000000]
             [--request-events 50000] [--connections 3] [--per-second 100000]
  freshness  --addr A --stream S [--rate 100000] [--seconds 10] [--query pointed|max | --query view|view-after --view V]
  decode     [--events 1000] [--seconds 3]
  plain      --files PATH,PATH,…   then queries on standard input, one a line
  points     --addr A --sql S [--user U] [--database D] [--keys 1000000] [--first-key 0] [--connections 16]
             [--seconds 10]
  views      [--queries q0,q5 | --sql S] [--events 2000000] [--step-rows 65536] [--per-second 100000]
             [--keys N] [--state FOLDER [--checkpoint-steps N] [--memory BYTES]]
             with --keys over the table keyed (key, value), else over Nexmark's person, auction, bid, side_input";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words);
    let figures = match (command.as_str(), arguments) {
        ("bulk", Ok(a)) => alone(bulk::run(a)),
        ("feed", Ok(a)) => alone(feed::run(a)),
        ("points", Ok(a)) => alone(points::run(a)),
        ("freshness", Ok(a)) => alone(freshness::run(a)),
        ("decode", Ok(a)) => decode::run(&a),
        ("plain", Ok(a)) => on_all_cores(plain::run(a)),
        ("views", Ok(a)) => alone(views::run(a)),
        (_, Err(error)) => Err(error),
        _ => Err(USAGE.into()),
    };
    match figures {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("millstream-bench {command}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On one thread, so that the generator takes as little of the machine as it can.
fn alone(measurement: impl Future<Output = Figures> + 'static) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, measurement)
}

fn on_all_cores(measurement: impl Future<Output = Figures>) -> Figures {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measurement)
}
