//! Dataflows larger than their memory limit: they answer the same.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use millstream_views::{Dataflow, DiskOptions, DiskStore, MemoryStore, StateStore, weighted};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::outcome::{chosen, compile, inputs_of, stepped, texts};
use crate::world::{TABLES, grows, number, rows};

const QUERIES: [&str; 5] = [
    "SELECT id % 20011 AS g, count(*) AS n, sum(a) AS a, max(t) AS t, max(ts) AS ts FROM s GROUP BY id % 20011",
    "SELECT id % 20011 AS g, count(*) AS n, min(a) AS a FROM c GROUP BY id % 20011",
    "SELECT s.id, s.t, c.x FROM s JOIN c ON s.id = c.id",
    "SELECT c.id, c.t, c.ts, s.x, s.t AS u FROM c LEFT JOIN s ON s.id = c.id",
    "SELECT id, t, row_number() OVER (PARTITION BY id % 20011 ORDER BY id) AS n FROM c",
];

/// Tables to which rows come by the thousand; half of a batch goes again where rows go.
struct Bulk {
    random: StdRng,
    tables: Vec<Vec<RecordBatch>>,
    next_id: i64,
}

impl Bulk {
    fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), tables: vec![vec![]; TABLES.len()], next_id: 0 }
    }

    fn change(&mut self) -> Vec<Vec<RecordBatch>> {
        let mut deltas = vec![vec![]; TABLES.len()];
        let ids: Vec<i64> = (self.next_id..self.next_id + 3000).collect();
        self.next_id += 3000;
        for table in [number("s"), number("c")] {
            let kept = &mut self.tables[table];
            if !grows(table) && !kept.is_empty() {
                let at = self.random.random_range(0..kept.len());
                let halves = [0, 1].map(|half| {
                    let rows = UInt32Array::from_iter_values((half..kept[at].num_rows() as u32).step_by(2));
                    take_record_batch(&kept[at], &rows).unwrap()
                });
                deltas[table].push(weighted(&halves[0], -1).unwrap());
                kept[at] = halves[1].clone();
            }
            let new = rows(&mut self.random, table, &ids);
            deltas[table].push(weighted(&new, 1).unwrap());
            kept.push(new);
        }
        deltas
    }
}

fn answer(flow: &Dataflow) -> Vec<String> {
    texts(&flow.answer().snapshot().batches().unwrap())
}

fn bytes(flow: &mut Dataflow) -> usize {
    flow.state_size().1 + flow.answer().bytes()
}

async fn limited(sql: &str, store: &Arc<dyn StateStore>, limit: usize) -> Dataflow {
    let mut flow = compile(sql).await.unwrap();
    flow.limit_memory(Arc::clone(store), limit).unwrap();
    flow
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataflow_larger_than_its_limit_answers_the_same() {
    for sql in QUERIES {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn StateStore> =
            Arc::new(DiskStore::open(folder.path(), DiskOptions { segment_bytes: 4 << 20 }).unwrap());
        let mut world = Bulk::new(11);
        let mut whole = compile(sql).await.unwrap();
        let mut flow = limited(sql, &store, 1).await;
        let mut since: Vec<Vec<Vec<RecordBatch>>> = Vec::new();
        for step in 0..14 {
            let deltas = world.change();
            let inputs = inputs_of(&flow, &deltas);
            stepped(&mut flow, inputs.clone()).await.unwrap();
            stepped(&mut whole, inputs).await.unwrap();
            since.push(deltas);
            if step % 3 == 0 {
                flow.checkpoint(store.as_ref(), b"").unwrap();
                since.clear();
            }
            if step == 8 {
                // Pieces written ahead of the checkpoint that never came do no harm.
                flow = limited(sql, &store, 1).await;
                assert!(flow.restore(store.as_ref()).unwrap().is_some());
                for deltas in since.drain(..) {
                    let inputs = inputs_of(&flow, &deltas);
                    stepped(&mut flow, inputs).await.unwrap();
                }
            }
            if step % 7 == 6 {
                assert_eq!(answer(&flow), answer(&whole), "{sql}");
            }
        }
        flow.checkpoint(store.as_ref(), b"").unwrap();
        let (small, large) = (bytes(&mut flow), bytes(&mut whole));
        // Indexes stay.
        assert!(small < large * 4 / 5, "{sql}: {small} of {large} bytes");
    }
}

#[tokio::test]
async fn a_snapshot_stays_readable_when_its_rows_have_left_memory_and_state() {
    let sql = "SELECT id, t, a FROM c WHERE id >= 0";
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let mut random = StdRng::seed_from_u64(12);
    let mut flow = limited(sql, &store, 1).await;
    let all = rows(&mut random, number("c"), &(0..40_000).collect::<Vec<_>>());
    let delta = chosen(&flow.inputs()[0], &[weighted(&all, 1).unwrap()]);
    stepped(&mut flow, vec![delta]).await.unwrap();
    flow.checkpoint(store.as_ref(), b"").unwrap();
    let before = flow.answer().snapshot();
    let delta = chosen(&flow.inputs()[0], &[weighted(&all, -1).unwrap()]);
    stepped(&mut flow, vec![delta]).await.unwrap();
    flow.checkpoint(store.as_ref(), b"").unwrap();
    assert_eq!(flow.answer().rows(), 0);
    let read: usize = before.parts().map(|part| part.unwrap().num_rows()).sum();
    assert_eq!(read, 40_000);
    // Nobody holds the rows any more.
    stepped(&mut flow, vec![vec![weighted(&rows(&mut random, number("c"), &[1]), 1).unwrap()]]).await.unwrap();
    flow.checkpoint(store.as_ref(), b"").unwrap();
    assert_eq!(store.keys(b"p").unwrap().len(), 1);
}

#[tokio::test]
async fn rows_that_are_used_stay_in_memory() {
    let sql = "SELECT id, count(*) AS n, max(t) AS t FROM s GROUP BY id";
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let mut random = StdRng::seed_from_u64(13);
    let mut flow = limited(sql, &store, 30 << 20).await;
    let all = rows(&mut random, number("s"), &(0..100_000).collect::<Vec<_>>());
    let delta = chosen(&flow.inputs()[0], &[weighted(&all, 1).unwrap()]);
    stepped(&mut flow, vec![delta]).await.unwrap();
    let before = bytes(&mut flow);
    flow.checkpoint(store.as_ref(), b"").unwrap();
    assert_eq!(bytes(&mut flow), before, "what fits stays");
}
