//! Two programs write one Delta table: the node, which is killed again and again, and a stranger on delta-rs, which
//! appends meanwhile. No commit of either is lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{Client, Node, RESTLESS, Setup, block_on, text};
use crate::{lake, number_from_env};

const STREAM: &str = "shared";
/// No stream of the tests has as many partitions, so the stranger's rows are told from the node's.
const STRANGERS_PARTITION: i64 = 9;
/// Rounds unless `MILLSTREAM_CRASH_ROUNDS` says how many.
const ROUNDS: u64 = 8;

#[test]
fn two_writers_of_one_table_lose_no_commit_while_one_is_killed() {
    let rounds = number_from_env("MILLSTREAM_CRASH_ROUNDS").unwrap_or(ROUNDS);
    let seed = number_from_env("MILLSTREAM_CRASH_SEED").unwrap_or_else(|| rand::rng().random::<u32>().into());
    println!("two_writers: MILLSTREAM_CRASH_SEED={seed} repeats this run's choices");
    let dir = tempfile::tempdir().expect("a folder");
    let lake_dir = dir.path().join("lake");
    let setup = Setup::new(dir.path(), RESTLESS).with("MILLSTREAM_STORE_URL", format!("file://{}", lake_dir.display()));
    block_on(run(setup, rounds, seed, lake_dir.join("public").join(STREAM)));
}

async fn run(mut setup: Setup, rounds: u64, seed: u64, table: PathBuf) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut producer = Producer::default();
    let node = Node::start(setup.clone()).await;
    // Files that another program wrote and has not committed yet are not to be taken for leftovers.
    let policy = "vacuum_retention = '1 hour', checkpoint_interval = 10";
    let create = format!("CREATE STREAM {STREAM} (writer INT NOT NULL, seq BIGINT NOT NULL) WITH ({policy})");
    node.client().sql(&create).await;
    producer.send(&node.client()).await;
    node.client().sql(&format!("FLUSH STREAM {STREAM}")).await;
    setup = node.kill9();
    let stranger = Stranger::start(table.clone(), seed);
    let mut round = 0;
    while rounds == 0 || round < rounds {
        assert!(!stranger.task.is_finished(), "the stranger ended");
        let committed = stranger.rows();
        let node = Node::start(setup.clone()).await;
        producer.check(&node.client(), committed).await;
        let run_for = Duration::from_millis(random.random_range(50..1500));
        println!(
            "two_writers, round {round}: {} rows of the node, {committed} of the stranger, killed after {run_for:?}",
            producer.sent
        );
        setup = producer.run_until_killed(node, run_for).await;
        round += 1;
    }
    let committed = stranger.end().await;
    let node = Node::start(setup.clone()).await;
    producer.check(&node.client(), committed).await;
    node.client().sql(&format!("FLUSH STREAM {STREAM}")).await;
    node.client().sql(&format!("OPTIMIZE {STREAM}")).await;
    node.kill9();
    // As a third program sees it: `read` fails at a gap or a double.
    let found = lake::read(&table).await;
    let rows = |partition: i64| found.partitions.get(&partition).map_or(0, Vec::len) as i64;
    assert_eq!((rows(0), rows(STRANGERS_PARTITION)), (producer.sent, committed));
    println!("two_writers: {} rows of the node and {committed} of the stranger are all there", producer.sent);
}

/// Sends rows to the node, one by one, each until it is acknowledged.
#[derive(Debug, Default)]
struct Producer {
    /// Rows that are there for sure.
    sent: i64,
}

impl Producer {
    async fn send(&mut self, client: &Client) -> bool {
        let row = format!("{{\"writer\": 0, \"seq\": {}}}", self.sent);
        let key = format!("row {}", self.sent);
        match client.try_ingest(STREAM, row, &[("idempotency-key", &key)]).await {
            Ok(reply) if reply.status == 200 => self.sent += 1,
            Ok(reply) => assert_eq!(reply.status, 429, "{}", reply.text()),
            Err(_) => return false,
        }
        true
    }

    /// Sends, tiers and merges until the node is killed under it.
    async fn run_until_killed(&mut self, node: Node, run_for: Duration) -> Setup {
        let client = node.client();
        let (deadline, mut calls) = (tokio::time::Instant::now() + run_for, 0_u64);
        let work = async {
            while self.send(&client).await {
                calls += 1;
                let care = match calls % 40 {
                    10 | 30 => format!("FLUSH STREAM {STREAM}"),
                    20 => format!("OPTIMIZE {STREAM}"),
                    _ => continue,
                };
                let reply = client.statement(&care).await;
                assert_eq!(reply.status, 200, "{care}: {}", reply.text());
            }
        };
        drop(tokio::time::timeout_at(deadline, work).await);
        node.kill9()
    }

    /// Every acknowledged row is there once, and so is every row that the stranger had committed before the start.
    async fn check(&mut self, client: &Client, committed: i64) {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE _partition = 0), count(DISTINCT seq) FILTER (WHERE _partition = 0), \
             count(*) FILTER (WHERE _partition = {STRANGERS_PARTITION}), \
             count(DISTINCT _offset) FILTER (WHERE _partition = {STRANGERS_PARTITION}) FROM {STREAM}"
        );
        let counts = client.sql(&sql).await.ints().remove(0);
        assert_eq!(counts[0], counts[1], "a row of the node is there twice");
        assert!((self.sent..=self.sent + 1).contains(&counts[0]), "{} rows were acknowledged, {counts:?}", self.sent);
        self.sent = counts[0];
        assert_eq!(counts[2], counts[3], "a row of the stranger is there twice");
        assert!(counts[2] >= committed, "{committed} rows were committed by the stranger, {counts:?}");
        let jobs = client.sql("SELECT object, last_error FROM system.jobs WHERE last_error IS NOT NULL").await;
        let failed: Vec<_> = jobs.rows.iter().filter(|job| text(&job[0]) == STREAM).collect();
        assert!(failed.is_empty(), "a task failed: {failed:?}");
    }
}

/// Another program that writes the table.
struct Stranger {
    rows: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Stranger {
    fn start(table: PathBuf, seed: u64) -> Self {
        let (rows, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn({
            let (rows, stop) = (rows.clone(), stop.clone());
            async move {
                let mut random = StdRng::seed_from_u64(seed ^ 9);
                while !stop.load(Ordering::SeqCst) {
                    let next = rows.load(Ordering::SeqCst);
                    append(&table, next).await;
                    rows.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
                }
            }
        });
        Self { rows, stop, task }
    }

    /// Rows that it committed.
    fn rows(&self) -> i64 {
        self.rows.load(Ordering::SeqCst)
    }

    async fn end(self) -> i64 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the stranger's commits succeed");
        self.rows.load(Ordering::SeqCst)
    }
}

/// Commits one row. Both write the log without asking each other, so a commit that others overtook is tried again.
async fn append(table: &Path, offset: i64) {
    let delta = lake::open(table).await;
    let schema = delta.snapshot().expect("the table is loaded").snapshot().arrow_schema();
    let column = |name: &str, data_type| -> ArrayRef {
        match name {
            "writer" => Arc::new(Int32Array::from(vec![STRANGERS_PARTITION as i32])),
            "_partition" => Arc::new(Int32Array::from(vec![STRANGERS_PARTITION as i32])),
            "seq" | "_offset" => Arc::new(Int64Array::from(vec![offset])),
            "_ingest_time" => Arc::new(TimestampMicrosecondArray::from(vec![offset]).with_timezone("UTC")),
            _ => new_null_array(data_type, 1),
        }
    };
    let columns = schema.fields().iter().map(|f| column(f.name(), f.data_type())).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("the row fits the table");
    match delta.write([batch]).await {
        Ok(_) => {}
        // The log is listed again behind the commit too, so that the row may be there.
        Err(error) if lake::is_gap(&error) => {
            let rows = lake::read(table).await.partitions.get(&STRANGERS_PARTITION).map_or(0, Vec::len) as i64;
            if rows == offset {
                Box::pin(append(table, offset)).await;
            }
        }
        Err(error) => panic!("row {offset} of the stranger was not committed: {error}"),
    }
}
