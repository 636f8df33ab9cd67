//! Starts, kills and talks to the real binary, as a stranger would: by its command line, its signals and its ports.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of the support")]

mod client;
mod node;

pub use client::{Client, Reply, Table, int, table, text};
pub use node::{Node, Setup, is_root};

/// Ingest, tiering, trimming, compaction and checkpoints all at once within a second.
pub const RESTLESS: &[(&str, &str)] = &[
    ("MILLSTREAM_TIER_BYTES", "65536"),
    ("MILLSTREAM_TIER_AGE", "200ms"),
    ("MILLSTREAM_MAINTENANCE_INTERVAL", "500ms"),
    ("MILLSTREAM_VACUUM_RETENTION", "10s"),
];

/// Nothing reaches the lake while the test runs.
pub const LOG_ONLY: &[(&str, &str)] = &[("MILLSTREAM_TIER_BYTES", "1000000000000"), ("MILLSTREAM_TIER_AGE", "1h")];

/// Runs a test's body on a runtime of its own.
pub fn block_on<F: Future>(body: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(body)
}

/// Asks until the answer is `Some`, or fails naming what was waited for.
pub async fn poll<T, F, Fut>(what: &str, seconds: u64, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "waited {seconds} s in vain for {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
