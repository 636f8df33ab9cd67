//! The command line of the generator: how fast it is on one core, and its events as files for other systems.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures and failures go to the terminal")]

mod files;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use millstream_nexmark::{Config, Generator};

const USAGE: &str = "usage: millstream-nexmark COMMAND
  rate  [EVENTS=20000000]                                                 events/s of one core
  write FOLDER [EVENTS=1000000] [EVENTS_PER_SECOND=100000] [PARTS=2]      CSV files, PARTS of each kind";

/// Events made at a time: as many as stay in a core's cache.
const STEP: u64 = 10_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["rate", rest @ ..] if rest.len() <= 1 => rate(rest),
        ["write", folder, rest @ ..] if rest.len() <= 3 => write(Path::new(folder), rest),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A number on the command line, or its default.
fn number(words: &[&str], place: usize, default: u64) -> Result<u64, Box<dyn Error>> {
    let Some(word) = words.get(place) else { return Ok(default) };
    let number = word.replace('_', "").parse().map_err(|_| format!("{word:?} is not a number\n{USAGE}"))?;
    if number == 0 { Err(format!("{word:?} is no amount\n{USAGE}").into()) } else { Ok(number) }
}

fn rate(words: &[&str]) -> Result<(), Box<dyn Error>> {
    let events = number(words, 0, 20_000_000)?;
    for extra in [true, false] {
        let generator = Generator::new(Config { extra, ..Config::default() });
        let (start, mut rows) = (Instant::now(), 0);
        for first in (0..events).step_by(STEP as usize) {
            let made = generator.batch(first..events.min(first + STEP));
            rows += made.person.num_rows() + made.auction.num_rows() + made.bid.num_rows();
        }
        let rate = rows as f64 / start.elapsed().as_secs_f64();
        println!("{{\"extra\":{extra},\"events\":{rows},\"events_per_second\":{rate:.0}}}");
    }
    Ok(())
}

fn write(folder: &Path, words: &[&str]) -> Result<(), Box<dyn Error>> {
    let events = number(words, 0, 1_000_000)?;
    let events_per_second = number(words, 1, 100_000)?;
    let parts = number(words, 2, 2)?;
    let generator = Generator::new(Config { seed: 42, events_per_second, ..Config::default() });
    let rows = files::write(&generator, events, parts, folder)?;
    println!("{{\"person\":{},\"auction\":{},\"bid\":{},\"side_input\":{}}}", rows[0], rows[1], rows[2], rows[3]);
    Ok(())
}
