//! Dataflows that stop and go on from their last checkpoint: nothing is lost and nothing counts twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use bytes::Bytes;
use millstream_views::{Change, Dataflow, DiskOptions, DiskStore, Error, MemoryStore, StateStore, weighted};
use rand::Rng;

use crate::fixed::QUERIES;
use crate::history::World;
use crate::outcome::{chosen, compare, compile, inputs_of, stepped};
use crate::world::rows;

/// A store of which the `fails_at`-th operation fails: a commit does so before or after it took place.
#[derive(Debug, Default)]
struct Faulty {
    store: MemoryStore,
    operations: AtomicUsize,
    fails_at: usize,
    after: bool,
}

impl Faulty {
    fn fails(&self) -> Result<(), Error> {
        if self.operations.fetch_add(1, Ordering::Relaxed) == self.fails_at {
            let source = std::io::Error::other("a fault");
            return Err(Error::Disk { path: "nowhere".into(), source });
        }
        Ok(())
    }
}

impl StateStore for Faulty {
    fn commit(&self, changes: Vec<Change>) -> Result<(), Error> {
        if self.after {
            self.store.commit(changes)?;
            return self.fails();
        }
        self.fails()?;
        self.store.commit(changes)
    }

    fn sync(&self) -> Result<(), Error> {
        self.fails()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.fails()?;
        self.store.get(key)
    }

    fn keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        self.fails()?;
        self.store.keys(prefix)
    }
}

/// A dataflow from the last checkpoint, with the steps since done again.
async fn restarted(sql: &str, store: &dyn StateStore, deltas: &[Vec<Vec<RecordBatch>>]) -> Result<Dataflow, Error> {
    let mut flow = compile(sql).await?;
    let done = match flow.restore(store)? {
        Some(meta) => u64::from_le_bytes(meta.try_into().unwrap()) as usize,
        None => 0,
    };
    for delta in &deltas[done..] {
        let inputs = inputs_of(&flow, delta);
        stepped(&mut flow, inputs).await?;
    }
    Ok(flow)
}

/// Takes a step in which every input changes by `delta`.
async fn stepped_all(flow: &mut Dataflow, delta: &RecordBatch) -> Result<(), Error> {
    let inputs = flow.inputs().iter().map(|input| chosen(input, std::slice::from_ref(delta))).collect();
    stepped(flow, inputs).await.map(|_| ())
}

fn position(steps: usize) -> [u8; 8] {
    (steps as u64).to_le_bytes()
}

/// Runs `sql` with checkpoints and restarts at random; compares after each restart and at the end.
async fn check_with_restarts(sql: &str, seed: u64, steps: usize, store: &dyn StateStore) -> Result<(), String> {
    let mut world = World::new(seed);
    let mut deltas: Vec<Vec<Vec<RecordBatch>>> = Vec::new();
    let told = |e: Error| format!("{sql}\nseed {seed}: {e}");
    let mut flow = compile(sql).await.map_err(told)?;
    for step in 0..steps {
        deltas.push(world.change());
        let inputs = inputs_of(&flow, &deltas[step]);
        stepped(&mut flow, inputs).await.map_err(told)?;
        if world.random.random_bool(0.5) {
            flow.checkpoint(store, &position(step + 1)).map_err(told)?;
        }
        if world.random.random_bool(0.3) || step + 1 == steps {
            flow = restarted(sql, store, &deltas).await.map_err(told)?;
            let compared = compare(sql, &flow, &world).await;
            compared.map_err(|e| format!("{e}\nseed {seed}, step {step}, restarted\n{}", flow.explain()))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_query_goes_on_from_its_checkpoint() {
    let mut failures = Vec::new();
    for (n, sql) in QUERIES.iter().enumerate() {
        if let Err(failure) = check_with_restarts(sql, n as u64, 10, &MemoryStore::default()).await {
            failures.push(failure);
        }
    }
    assert!(failures.is_empty(), "{} of {} fail:\n\n{}", failures.len(), QUERIES.len(), failures.join("\n\n"));
}

#[tokio::test]
async fn a_dataflow_goes_on_from_files() {
    let sql = "SELECT s.k, count(*) AS n, max(c.a) AS most FROM s JOIN c ON s.k = c.k GROUP BY s.k";
    for seed in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::new(seed);
        let mut deltas = Vec::new();
        for step in 0..12 {
            let store = DiskStore::open(folder.path(), DiskOptions { segment_bytes: 20_000 }).unwrap();
            let mut flow = restarted(sql, &store, &deltas).await.unwrap();
            deltas.push(world.change());
            let inputs = inputs_of(&flow, &deltas[step]);
            stepped(&mut flow, inputs).await.unwrap();
            if world.random.random_bool(0.7) {
                flow.checkpoint(&store, &position(step + 1)).unwrap();
            }
            compare(sql, &flow, &world).await.unwrap();
        }
    }
}

#[tokio::test]
async fn whatever_operation_of_the_store_fails_nothing_is_lost() {
    let sql = "SELECT k, count(*) AS n, max(a) AS most FROM c GROUP BY k HAVING count(*) > 1";
    for after in [false, true] {
        for fails_at in 0.. {
            let store = Faulty { fails_at, after, ..Faulty::default() };
            let mut world = World::new(fails_at as u64);
            let mut deltas = Vec::new();
            let mut flow = compile(sql).await.unwrap();
            for step in 0..8 {
                deltas.push(world.change());
                let inputs = inputs_of(&flow, &deltas[step]);
                stepped(&mut flow, inputs).await.unwrap();
                let checkpointed = flow.checkpoint(&store, &position(step + 1));
                // Some give up and restart, which may fail too and is tried again; others try the next time.
                if checkpointed.is_err() && step % 2 == 0 || step == 5 {
                    flow = match restarted(sql, &store, &deltas).await {
                        Ok(flow) => flow,
                        Err(_) => restarted(sql, &store, &deltas).await.unwrap(),
                    };
                }
                compare(sql, &flow, &world).await.unwrap();
            }
            let flow = restarted(sql, &store.store, &deltas).await.unwrap();
            compare(sql, &flow, &world).await.unwrap();
            if store.operations.load(Ordering::Relaxed) <= fails_at {
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_checkpoint_of_another_query_is_refused() {
    let store = MemoryStore::default();
    let mut flow = compile("SELECT k, count(*) AS n FROM s GROUP BY k").await.unwrap();
    assert_eq!(flow.restore(&store).unwrap(), None);
    flow.checkpoint(&store, b"here").unwrap();
    let mut other = compile("SELECT k, sum(a) AS n FROM s GROUP BY k").await.unwrap();
    let refused = other.restore(&store).unwrap_err().to_string();
    assert!(refused.contains("belongs to another query") && refused.contains("sum"), "{refused}");
    let mut same = compile("SELECT k, count(*) AS n FROM s GROUP BY k").await.unwrap();
    assert_eq!(same.restore(&store).unwrap(), Some(b"here".to_vec()));
}

#[tokio::test]
async fn what_goes_along_with_a_checkpoint_is_there_with_it_and_no_answer_is_kept() {
    let store = MemoryStore::default();
    let key = [Dataflow::CALLERS_KEYS, b"1"].concat();
    let without_answer = async |sql: &str| {
        let mut flow = compile(sql).await.unwrap();
        flow.keep_no_answer();
        flow
    };
    let mut flow = without_answer("SELECT k, a FROM s WHERE a > 0").await;
    assert_eq!(flow.restore(&store).unwrap(), None);
    let (mut world, mut given) = (World::new(8), 0);
    for _ in 0..5 {
        let inputs = inputs_of(&flow, &world.change());
        given += flow.step(inputs).await.unwrap().delta.num_rows();
    }
    assert!(given > 0, "nothing was given");
    flow.checkpoint_with(&store, b"here", vec![(key.clone(), Some(Bytes::from_static(b"delta")))]).unwrap();
    assert_eq!(store.get(&key).unwrap().as_deref(), Some(b"delta".as_slice()));
    assert_eq!(flow.answer().rows(), 0);
    // Nothing is kept that could be another query's.
    let mut reworded = without_answer("SELECT k, a FROM s WHERE a >= 1").await;
    assert_eq!(reworded.restore(&store).unwrap(), Some(b"here".to_vec()));
    let mut keeping = without_answer("SELECT DISTINCT k FROM s").await;
    assert!(keeping.restore(&store).is_err());
}

#[tokio::test]
async fn a_value_that_is_missing_is_an_error_never_another_answer() {
    let sql = "SELECT k, count(*) AS n, max(a) AS most FROM c GROUP BY k";
    let store = MemoryStore::default();
    let mut world = World::new(8);
    let mut flow = compile(sql).await.unwrap();
    for _ in 0..5 {
        let deltas = world.change();
        let inputs = inputs_of(&flow, &deltas);
        stepped(&mut flow, inputs).await.unwrap();
    }
    flow.checkpoint(&store, b"here").unwrap();
    let keys = store.keys(b"").unwrap();
    assert!(keys.len() > 8, "{keys:?}");
    for missing in keys {
        let damaged = MemoryStore::default();
        let kept = store.keys(b"").unwrap().into_iter().filter(|key| *key != missing);
        damaged.commit(kept.map(|key| (key.clone(), store.get(&key).unwrap())).collect()).unwrap();
        let restored = compile(sql).await.unwrap().restore(&damaged);
        match missing[0] {
            b'm' => assert_eq!(restored.unwrap(), None),
            _ => assert!(restored.is_err(), "without {missing:?}"),
        }
    }
}

#[tokio::test]
async fn a_large_checkpoint_takes_several_commits_and_counts_with_the_last() {
    let sql = "SELECT id, repeat('0123456789', 300) AS long FROM s";
    let mut world = World::new(6);
    let ids = (0..30_000).collect::<Vec<_>>();
    let few = weighted(&rows(&mut world.random, 0, &ids[..100]), 1).unwrap();
    let many = weighted(&rows(&mut world.random, 0, &ids), 1).unwrap();
    for fails_at in 0.. {
        let store = Faulty { fails_at, ..Faulty::default() };
        let mut flow = compile(sql).await.unwrap();
        stepped_all(&mut flow, &few).await.unwrap();
        flow.checkpoint(&store.store, b"few").unwrap();
        // Nobody says that the rows of a batch share a piece.
        for part in 0..6 {
            stepped_all(&mut flow, &many.slice(part * 5000, 5000)).await.unwrap();
        }
        let failed = flow.checkpoint(&store, b"many").is_err();
        let mut again = compile(sql).await.unwrap();
        let restored = again.restore(&store.store).unwrap().unwrap();
        assert_eq!(restored, if failed { b"few".to_vec() } else { b"many".to_vec() });
        assert_eq!(again.answer().rows(), if failed { 100 } else { 30_100 });
        if !failed {
            assert!(store.operations.load(Ordering::Relaxed) > 2, "one commit");
            break;
        }
        flow.checkpoint(&store.store, b"many").unwrap();
        let mut again = compile(sql).await.unwrap();
        assert_eq!(again.restore(&store.store).unwrap(), Some(b"many".to_vec()));
        assert_eq!(again.answer().rows(), 30_100);
    }
}

#[tokio::test]
async fn a_checkpoint_waits_for_the_answer() {
    let store = MemoryStore::default();
    let mut flow = compile("SELECT count(*) AS n FROM s").await.unwrap();
    let output = flow.step(vec![vec![]]).await.unwrap();
    let refused = flow.checkpoint(&store, b"").unwrap_err().to_string();
    assert!(refused.contains("apply it first"), "{refused}");
    flow.answer().apply(&output.delta).unwrap();
    flow.checkpoint(&store, b"").unwrap();
}

#[tokio::test]
async fn a_checkpoint_without_changes_moves_the_positions_alone() {
    let store = MemoryStore::default();
    let sql = "SELECT k, count(*) AS n FROM s GROUP BY k";
    let mut flow = compile(sql).await.unwrap();
    let mut world = World::new(3);
    for _ in 0..4 {
        let deltas = world.change();
        let inputs = inputs_of(&flow, &deltas);
        stepped(&mut flow, inputs).await.unwrap();
    }
    flow.checkpoint(&store, b"one").unwrap();
    let stats = flow.checkpoint(&store, b"two").unwrap();
    assert_eq!((stats.written, stats.removed), (1, 0));
    assert!(stats.written_bytes < 100, "{stats:?}");
    let mut again = compile(sql).await.unwrap();
    assert_eq!(again.restore(&store).unwrap(), Some(b"two".to_vec()));
    compare(sql, &again, &world).await.unwrap();
}

#[tokio::test]
async fn a_step_that_touches_ten_of_100_000_keys_writes_little() {
    let queries = [
        "SELECT id, count(*) AS n, sum(a) AS a FROM s GROUP BY id",
        "SELECT s.id, s.a, p.a AS b FROM s JOIN p ON s.id = p.id",
        "SELECT id, count(*) AS n, sum(a) AS a FROM c GROUP BY id",
    ];
    for sql in queries {
        let store = MemoryStore::default();
        let mut world = World::new(5);
        let mut flow = compile(sql).await.unwrap();
        let all = weighted(&rows(&mut world.random, 0, &(0..100_000).collect::<Vec<_>>()), 1).unwrap();
        stepped_all(&mut flow, &all).await.unwrap();
        let whole = flow.checkpoint(&store, b"").unwrap();
        assert!(whole.written_bytes > 1_000_000, "{sql}: {whole:?}");
        for _ in 0..5 {
            for _ in 0..10 {
                let id = world.random.random_range(0..100_000);
                let one = weighted(&rows(&mut world.random, 0, &[id]), 1).unwrap();
                stepped_all(&mut flow, &one).await.unwrap();
            }
            let stats = flow.checkpoint(&store, b"").unwrap();
            assert!(stats.written_bytes < 80_000, "{sql}: {stats:?}");
        }
    }
}
