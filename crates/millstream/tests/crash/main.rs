//! Kills the real binary at random moments and checks what it promised: acknowledged is durable, exactly once, one
//! name for the whole history.
//!
//! In `two_writers.rs` another program writes the same Delta table meanwhile, in `locations.rs` another node does.
//!
//! `MILLSTREAM_CRASH_ROUNDS` sets the number of kills (0: without end), `MILLSTREAM_CRASH_SEED` repeats a run's choices.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a run tells what it does and what the node said")]

#[path = "../../../../tests/servers/mod.rs"]
mod servers;
#[path = "../support/mod.rs"]
mod support;

mod derived;
mod disk_full;
mod lake;
mod locations;
mod observers;
mod place;
mod tables;
mod two_writers;
mod verify;
mod views;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use place::Place;
use support::{Client, Node, Setup, block_on};
use writer::{Writer, WriterKind};

/// The stream that the writers share.
const STREAM: &str = "events";
/// Its partitions.
const PARTITIONS: i64 = 3;
const KEYED_WRITERS: u32 = 3;
/// The lake is read by its Delta log, and every row compared, each time this many rounds are over.
const THOROUGH_EVERY: u64 = 10;

#[test]
fn no_acknowledged_row_is_lost_doubled_or_reordered_by_kill_9() {
    let dir = tempfile::tempdir().expect("a folder");
    run(Place::Folder(dir.path().to_owned()), dir.path(), 50);
}

#[test]
fn no_acknowledged_row_is_lost_doubled_or_reordered_by_kill_9_while_the_lake_is_on_s3() {
    let test = "no_acknowledged_row_is_lost_doubled_or_reordered_by_kill_9_while_the_lake_is_on_s3";
    let Some(place) = Place::bucket(test) else { return };
    let dir = tempfile::tempdir().expect("a folder");
    run(place, dir.path(), 5);
}

/// So many rounds, unless `MILLSTREAM_CRASH_ROUNDS` says how many.
fn run(place: Place, dir: &std::path::Path, rounds: u64) {
    let rounds = number_from_env("MILLSTREAM_CRASH_ROUNDS").unwrap_or(rounds);
    let seed = number_from_env("MILLSTREAM_CRASH_SEED").unwrap_or_else(|| rand::rng().random::<u32>().into());
    println!("MILLSTREAM_CRASH_SEED={seed} repeats this run's choices");
    block_on(kill_again_and_again(&place, place.setup(dir, "lake"), rounds, seed));
}

async fn kill_again_and_again(place: &Place, mut setup: Setup, rounds: u64, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut writers: Vec<Writer> = (0..KEYED_WRITERS).map(|id| Writer::new(id, WriterKind::Keyed, seed)).collect();
    writers.push(Writer::new(KEYED_WRITERS, WriterKind::Unkeyed, seed));
    let mut ddl = observers::DdlClient::default();
    let mut table = tables::TableClient::new(seed);
    let mut round = 0;
    while rounds == 0 || round < rounds {
        let node = Node::start(setup.clone()).await;
        let client = node.client();
        if round == 0 {
            create(&client).await;
            views::create(&client).await;
            derived::create(&client).await;
            tables::create(&client).await;
        }
        let facts = verify::check(&client, &mut writers).await;
        views::check(&client).await;
        derived::check(&client).await;
        table.check(&client).await;
        ddl.check(&client).await;
        verify::check_latest_retries(&client, &writers).await;
        // Most rounds are short, to die while starting up; some live to see files merged.
        let (most, some) = place.lives_ms();
        let longest = if random.random_bool(0.2) { some } else { most };
        let run_for = Duration::from_millis(random.random_range(20..longest));
        println!("round {round}: {facts}, started in {:?}, killed after {run_for:?}", node.started_in);
        setup = disturb(node, &mut writers, (&mut ddl, &mut table), run_for).await;
        if round % THOROUGH_EVERY == THOROUGH_EVERY - 1 {
            thorough(&setup, &mut writers, place).await;
        }
        round += 1;
    }
    thorough(&setup, &mut writers, place).await;
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

async fn create(client: &Client) {
    client
        .sql(&format!(
            "CREATE STREAM {STREAM} (writer INT NOT NULL, seq BIGINT NOT NULL, shard INT, note TEXT) \
             PARTITION BY (shard) WITH (partitions = {PARTITIONS})"
        ))
        .await;
}

/// Writes, reads and makes objects until the node is killed under them.
async fn disturb(
    node: Node,
    writers: &mut Vec<Writer>,
    (ddl, table): (&mut observers::DdlClient, &mut tables::TableClient),
    run_for: Duration,
) -> Setup {
    let killed = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(observers::Acknowledged::of(writers));
    let mut tasks = tokio::task::JoinSet::new();
    for mut writer in writers.drain(..) {
        let (client, killed, acknowledged) = (node.client(), killed.clone(), acknowledged.clone());
        tasks.spawn(async move {
            writer.run_until_broken(&client, &killed, &acknowledged).await;
            writer
        });
    }
    let reader = tokio::spawn(observers::read_until_broken(node.client(), killed.clone(), acknowledged));
    let ddl_task = tokio::spawn({
        let (client, killed, mut ddl) = (node.client(), killed.clone(), std::mem::take(ddl));
        async move {
            ddl.run_until_broken(&client, &killed).await;
            ddl
        }
    });
    let table_task = tokio::spawn({
        let (client, killed, mut table) =
            (node.client(), killed.clone(), std::mem::replace(table, tables::TableClient::new(0)));
        async move {
            table.run_until_broken(&client, &killed).await;
            table
        }
    });
    tokio::time::sleep(run_for).await;
    killed.store(true, Ordering::SeqCst);
    let setup = node.kill9();
    while let Some(writer) = tasks.join_next().await {
        writers.push(writer.expect("a writer met something it should not have"));
    }
    writers.sort_by_key(|w| w.id);
    reader.await.expect("a reader met something it should not have");
    *ddl = ddl_task.await.expect("the DDL client met something it should not have");
    *table = table_task.await.expect("the table's client met something it should not have");
    setup
}

/// Reads the lake by its Delta log while nothing runs, then compares row by row with what SQL says after a restart.
async fn thorough(setup: &Setup, writers: &mut [Writer], place: &Place) {
    let lake = lake::read(&place.table(&format!("lake/public/{STREAM}")).await.path).await;
    let node = Node::start(setup.clone()).await;
    let client = node.client();
    verify::check(&client, writers).await;
    verify::compare_with_lake(&client, &lake).await;
    println!("the lake alone holds {} rows in {} files, and agrees with SQL", lake.rows(), lake.files);
    node.kill9();
}
