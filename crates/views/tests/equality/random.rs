//! Random queries over random changes.
//!
//! `MILLSTREAM_SEED` is the first case's seed and `MILLSTREAM_CASES` how many there are (0: without end). A failing case
//! is shrunk and printed as it stands in `cases.rs`.

#![expect(clippy::print_stdout, reason = "whoever watches sees seeds and failures at once")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;

use crate::grammar::query;
use crate::history::History;
use crate::outcome::{Outcome, outcome};
use crate::shrink::Shrinker;

const CASES: u64 = 300;
const STEPS: usize = 6;
/// How long one failing case is made smaller.
const PATIENCE: Duration = Duration::from_secs(120);
/// A case that takes longer is left out.
const LONG: Duration = Duration::from_secs(30);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// What came of the cases.
#[derive(Default)]
struct Tally {
    equal: u64,
    refused: BTreeMap<String, u64>,
    skipped: BTreeMap<String, u64>,
    failures: Vec<String>,
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Equal => self.equal += 1,
            Outcome::Refused(why) => *self.refused.entry(why).or_default() += 1,
            Outcome::Skipped(why) => *self.skipped.entry(why.chars().take(90).collect()).or_default() += 1,
            Outcome::Failed(..) => {}
        }
    }

    fn report(&self) -> String {
        let lines = |counts: &BTreeMap<String, u64>| {
            let mut lines: Vec<(u64, &String)> = counts.iter().map(|(why, n)| (*n, why)).collect();
            lines.sort_by_key(|line| std::cmp::Reverse(line.0));
            lines.iter().take(12).map(|(n, why)| format!("\n    {n:4} {why}")).collect::<String>()
        };
        let (refused, skipped): (u64, u64) = (self.refused.values().sum(), self.skipped.values().sum());
        format!(
            "{} equal, {refused} refused{}\n  {skipped} skipped{}\n  {} failed",
            self.equal,
            lines(&self.refused),
            lines(&self.skipped),
            self.failures.len()
        )
    }
}

async fn case(seed: u64) -> (Outcome, Option<String>) {
    let (sql, history) = (query(seed), History::random(seed, STEPS));
    if std::env::var("MILLSTREAM_SHOW").is_ok() {
        println!("{seed}: {sql}");
    }
    let points = move |step: usize| (seed >> (step % 8)) & 1 == 1;
    let run = tokio::time::timeout(LONG, outcome(&sql, &history, &points)).await;
    let outcome = run.unwrap_or_else(|_| Outcome::Skipped("it takes too long".into()));
    let Outcome::Failed(kind, failure) = &outcome else { return (outcome, None) };
    println!("MILLSTREAM_SEED={seed} {kind}; making it smaller\n{sql}");
    let mut shrinker = Shrinker::new(sql, history, kind, failure.clone(), PATIENCE);
    shrinker.run().await;
    let text = format!("MILLSTREAM_SEED={seed} {kind}: {}\n{}", shrinker.failure, shrinker.pasted());
    (outcome, Some(text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_queries_over_random_changes_equal_their_batch_answers() {
    let cases = number("MILLSTREAM_CASES").unwrap_or(CASES);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * 1_000_000;
    let first = number("MILLSTREAM_SEED").unwrap_or(if cases == 0 { clock } else { 1 });
    let last = if cases == 0 { u64::MAX } else { first + cases };
    println!("MILLSTREAM_SEED={first} repeats these cases");
    let mut tally = Tally::default();
    let mut running = futures::stream::iter(first..last).map(|seed| tokio::spawn(case(seed))).buffer_unordered(2);
    let mut done = 0;
    while let Some(result) = running.next().await {
        let (outcome, failure) = result.unwrap();
        tally.add(outcome);
        done += 1;
        if let Some(failure) = failure {
            println!("{failure}");
            tally.failures.push(failure);
            if cases == 0 {
                break;
            }
        }
        if cases == 0 && done % 1000 == 0 {
            println!("{done} cases: {}", tally.report());
        }
    }
    println!("{done} cases: {}", tally.report());
    assert!(tally.failures.is_empty(), "{} of {done} cases fail", tally.failures.len());
    let refused: u64 = tally.refused.values().sum();
    assert!(refused * 100 < 15 * done.max(100), "{refused} of {done} queries are refused");
}
