//! An arrangement against a plain list of rows, also out of memory and after restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::delta::with_weights;
use crate::store::{MemoryStore, StateStore};

fn batch(rows: &[(i64, String)]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1.as_str())));
    RecordBatch::try_from_iter([("key", keys), ("text", texts)]).unwrap()
}

fn rows(batches: &[RecordBatch]) -> Vec<(i64, String)> {
    let rows = batches.iter().flat_map(|b| {
        let keys = b.column(0).as_primitive::<Int64Type>().values().to_vec();
        let texts: Vec<String> = b.column(1).as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        keys.into_iter().zip(texts).collect::<Vec<_>>()
    });
    rows.collect()
}

fn empty(goes: Goes) -> Arrangement {
    let schema = batch(&[]).schema();
    let key = Key::of_columns(&schema, &[0]).unwrap();
    Arrangement::new(schema, key, goes).unwrap()
}

/// Random changes of `kept` and of a plain list.
struct Changes {
    random: StdRng,
    model: Vec<(i64, String)>,
    /// Letters behind each text.
    padding: usize,
}

impl Changes {
    fn new(seed: u64, padding: usize) -> Self {
        Self { random: StdRng::seed_from_u64(seed), model: Vec::new(), padding }
    }

    fn make(&mut self, kept: &mut Arrangement, round: usize, most: usize) {
        let Self { random, model, padding } = self;
        let mut delta: BTreeMap<(i64, String), i64> = BTreeMap::new();
        for _ in 0..random.random_range(0..most) {
            if round % 7 > 2 && !model.is_empty() && random.random_bool(0.6) {
                let row = model.swap_remove(random.random_range(0..model.len()));
                *delta.entry(row).or_default() -= 1;
            } else {
                let text = format!("t{}{}", random.random_range(0..4), ".".repeat(*padding));
                let row = (random.random_range(0..40), text);
                model.push(row.clone());
                *delta.entry(row).or_default() += 1;
            }
        }
        apply(kept, delta);
    }

    /// Takes away all but a few rows.
    fn purge(&mut self, kept: &mut Arrangement) {
        let mut delta: BTreeMap<(i64, String), i64> = BTreeMap::new();
        self.model.drain(50..).for_each(|row| *delta.entry(row).or_default() -= 1);
        apply(kept, delta);
    }

    fn compare(&mut self, kept: &Arrangement, round: usize) {
        assert_eq!(kept.len(), self.model.len());
        let key = self.random.random_range(0..40);
        let mut under = under(kept, key);
        let mut expected: Vec<_> = self.model.iter().filter(|r| r.0 == key).cloned().collect();
        under.sort();
        expected.sort();
        assert_eq!(under, expected, "round {round}");
    }

    fn compare_all(&mut self, kept: &Arrangement) {
        let mut all = rows(&kept.snapshot().batches().unwrap());
        all.sort();
        self.model.sort();
        assert_eq!(all, self.model);
    }
}

fn apply(kept: &mut Arrangement, delta: BTreeMap<(i64, String), i64>) {
    let changes: Vec<((i64, String), i64)> = delta.into_iter().filter(|(_, w)| *w != 0).collect();
    let changed = batch(&changes.iter().map(|c| c.0.clone()).collect::<Vec<_>>());
    let weights = Int64Array::from_iter_values(changes.iter().map(|c| c.1));
    kept.apply(&with_weights(&changed, weights).unwrap()).unwrap();
}

/// The rows under a key, in their order.
fn under(kept: &Arrangement, key: i64) -> Vec<(i64, String)> {
    let probe = kept.key().encode(&batch(&[(key, String::new())])).unwrap();
    rows(&[kept.rows_under(&probe).unwrap()])
}

#[test]
fn rows_come_and_go_as_in_a_plain_list() {
    let mut changes = Changes::new(7, 0);
    let mut kept = empty(Goes::ByContent);
    for round in 0..400 {
        changes.make(&mut kept, round, 60);
        changes.compare(&kept, round);
    }
    changes.compare_all(&kept);
}

/// Commits what changed.
fn save(kept: &mut Arrangement, store: &dyn StateStore) {
    let mut changes = Vec::new();
    drop(kept.attempt());
    kept.changes(&mut changes).unwrap();
    store.commit(changes).unwrap();
    kept.saved();
}

#[test]
fn rows_that_leave_memory_and_restarts_change_nothing_not_even_their_order() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let limited = || {
        let mut kept = empty(Goes::ByContent);
        kept.place(3, Arc::new(Memory::limited(Arc::clone(&store), 0)));
        kept
    };
    // Long texts, so that pieces are worth writing ahead of their checkpoint.
    let mut changes = Changes::new(8, 1000);
    let mut kept = limited();
    let mut compactions = 0;
    for round in 0..240 {
        let before = kept.rows.alive() + kept.rows.dead();
        if round % 80 == 79 {
            changes.purge(&mut kept);
        }
        changes.make(&mut kept, round, 200);
        compactions += usize::from((kept.rows.alive() + kept.rows.dead()) < before);
        kept.rows.memory().begin_next(0);
        kept.relieve().unwrap();
        changes.compare(&kept, round);
        if round % 20 == 11 {
            save(&mut kept, store.as_ref());
            let mut restored = limited();
            restored.rows.memory().own();
            restored.restore(store.as_ref()).unwrap();
            for key in 0..40 {
                assert_eq!(under(&restored, key), under(&kept, key), "round {round}, key {key}");
            }
            kept = restored;
        }
    }
    changes.compare_all(&kept);
    assert!(compactions > 1, "{compactions} compactions");
    save(&mut kept, store.as_ref());
    let pieces = store.keys(b"p").unwrap();
    assert_eq!(pieces.len(), kept.rows.pieces().count(), "nothing is left behind in the store");
}

#[test]
fn rows_that_are_only_read_together_have_no_index() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let limited = || {
        let mut kept = empty(Goes::Unsought);
        kept.place(3, Arc::new(Memory::limited(Arc::clone(&store), 0)));
        kept
    };
    let (mut kept, mut model) = (limited(), Vec::new());
    for round in 0..60 {
        let new: Vec<_> = (0..=17 * round).map(|n| (n % 3, format!("{round} {n}"))).collect();
        apply(&mut kept, BTreeMap::from_iter(new.iter().map(|row| (row.clone(), 1))));
        model.extend(BTreeMap::from_iter(new.into_iter().map(|row| (row, ()))).into_keys());
        kept.rows.memory().begin_next(0);
        kept.relieve().unwrap();
        if round % 10 == 9 {
            save(&mut kept, store.as_ref());
            kept = limited();
            kept.rows.memory().own();
            kept.restore(store.as_ref()).unwrap();
        }
        assert_eq!(rows(&kept.snapshot().batches().unwrap()), model, "round {round}");
    }
    assert!(kept.index_bytes() < kept.len(), "{} bytes beside {} rows", kept.index_bytes(), kept.len());
    let gone = with_weights(&batch(&model[..1]), Int64Array::from(vec![-1])).unwrap();
    assert!(kept.apply(&gone).is_err());
}

#[test]
fn a_row_that_is_not_there_cannot_go() {
    let mut kept = empty(Goes::ByContent);
    kept.insert(batch(&[(1, "a".into())])).unwrap();
    let gone = with_weights(&batch(&[(1, "b".into())]), Int64Array::from(vec![-1])).unwrap();
    assert!(kept.apply(&gone).unwrap_err().to_string().contains("not there"));
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut kept = empty(Goes::ByContent);
    kept.insert(batch(&[(1, "a".into()), (2, "b".into())])).unwrap();
    let before = kept.snapshot();
    kept.apply(&with_weights(&batch(&[(1, "a".into())]), Int64Array::from(vec![-1])).unwrap()).unwrap();
    assert_eq!(rows(&before.batches().unwrap()).len(), 2);
    assert_eq!(rows(&kept.snapshot().batches().unwrap()), [(2, "b".to_owned())]);
}

#[test]
fn replaced_rows_do_not_pile_up() {
    let mut kept = empty(Goes::ByKey);
    for round in 0..5000 {
        let rows = batch(&[(1, format!("a{round}")), (2, format!("b{round}"))]);
        let keys = kept.key().encode(&rows).unwrap();
        kept.replace(&keys, rows).unwrap();
    }
    assert_eq!(kept.len(), 2);
    assert!((kept.rows.alive() + kept.rows.dead()) < 10_000, "{}", (kept.rows.alive() + kept.rows.dead()));
    let probe = kept.key().encode(&batch(&[(2, String::new())])).unwrap();
    assert_eq!(rows(&[kept.rows_under(&probe).unwrap()]), [(2, "b4999".to_owned())]);
}

#[test]
fn where_no_two_rows_have_one_key_rows_go_by_it() {
    let mut random = StdRng::seed_from_u64(9);
    let mut kept = empty(Goes::ByKey);
    let mut model: BTreeMap<i64, String> = BTreeMap::new();
    for round in 0..600 {
        let mut delta: BTreeMap<(i64, String), i64> = BTreeMap::new();
        for _ in 0..random.random_range(0..40) {
            let key = random.random_range(0..300);
            if delta.keys().any(|(changed, _)| *changed == key) {
                continue;
            }
            let new = random.random_bool(0.6).then(|| format!("t{round}"));
            if let Some(old) = model.remove(&key) {
                delta.insert((key, old), -1);
            }
            if let Some(new) = new {
                model.insert(key, new.clone());
                delta.insert((key, new), 1);
            }
        }
        apply(&mut kept, delta);
        assert_eq!(kept.len(), model.len());
    }
    let keys: Vec<(i64, String)> = (0..300).map(|key| (key, String::new())).collect();
    let found = kept.find_one_each(&kept.key().encode(&batch(&keys)).unwrap());
    let there: Vec<u32> = found.iter().copied().filter(|row| *row != NO_ROW).collect();
    assert_eq!(rows(&[kept.gather(&there).unwrap()]), model.clone().into_iter().collect::<Vec<_>>());
    let absent: Vec<i64> = (0..300).filter(|key| found[*key as usize] == NO_ROW).collect();
    assert!(absent.iter().all(|key| !model.contains_key(key)) && absent.len() + model.len() == 300);
}

#[test]
fn by_key_too_only_what_is_there_goes_and_no_key_has_two_rows() {
    let changed = |changes: &[(i64, &str, i64)]| {
        let mut kept = empty(Goes::ByKey);
        kept.insert(batch(&[(1, "a".into()), (2, "b".into())])).unwrap();
        let rows = batch(&changes.iter().map(|c| (c.0, c.1.to_owned())).collect::<Vec<_>>());
        let weights = Int64Array::from_iter_values(changes.iter().map(|c| c.2));
        kept.apply(&with_weights(&rows, weights).unwrap()).map(|()| kept.len())
    };
    assert_eq!(changed(&[(1, "c", 1), (1, "a", -1), (2, "b", -1), (3, "d", 1)]).unwrap(), 2);
    for gone in [&[(3, "a", -1)][..], &[(1, "a", -1), (1, "a", -1)], &[(1, "a", -2)]] {
        assert!(changed(gone).unwrap_err().to_string().contains("not there"), "{gone:?}");
    }
    for twice in [&[(1, "c", 1)][..], &[(3, "c", 1), (3, "d", 1)], &[(1, "a", -1), (1, "c", 1), (1, "d", 1)]] {
        assert!(changed(twice).unwrap_err().to_string().contains("two rows have one key"), "{twice:?}");
    }
}

#[test]
fn rows_that_go_by_key_are_read_one_by_one_when_they_have_left_memory() {
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
    let limited = || {
        let mut kept = empty(Goes::ByKey);
        kept.place(3, Arc::new(Memory::limited(Arc::clone(&store), 0)));
        kept
    };
    let mut random = StdRng::seed_from_u64(10);
    let mut model: BTreeMap<i64, String> = BTreeMap::new();
    let mut kept = limited();
    for round in 0..120 {
        let mut changed: BTreeMap<i64, String> = BTreeMap::new();
        for _ in 0..random.random_range(0..600) {
            let text = format!("{round}{}", ".".repeat(random.random_range(0..1000)));
            changed.insert(random.random_range(0..2500), text);
        }
        let new = batch(&changed.clone().into_iter().collect::<Vec<_>>());
        let keys = kept.key().encode(&new).unwrap();
        kept.replace(&keys, new).unwrap();
        model.extend(changed);
        kept.rows.memory().begin_next(0);
        kept.relieve().unwrap();
        let keys: Vec<(i64, String)> = model.keys().map(|key| (*key, String::new())).collect();
        for some in [&keys[..], &keys[..5.min(keys.len())], &keys[keys.len() / 2..]] {
            let found = kept.find_one_each(&kept.key().encode(&batch(some)).unwrap());
            let expected: Vec<(i64, String)> = some.iter().map(|(key, _)| (*key, model[key].clone())).collect();
            assert_eq!(rows(&[kept.gather(&found).unwrap()]), expected, "round {round}");
        }
        if round % 25 == 13 {
            save(&mut kept, store.as_ref());
            kept = limited();
            kept.rows.memory().own();
            kept.restore(store.as_ref()).unwrap();
        }
    }
    assert!(kept.rows.dead() <= kept.rows.alive() + 4096, "{} dead", kept.rows.dead());
    assert!(kept.rows.regions().count() > 5, "many regions");
    let resident = kept.rows.bytes();
    assert!(resident < 200_000, "{resident} bytes in memory");
}

#[test]
fn compaction_leaves_each_keys_rows_in_their_order() {
    let mut kept = empty(Goes::ByContent);
    let mut random = StdRng::seed_from_u64(11);
    let mut model: Vec<(i64, String)> = Vec::new();
    let mut number = 0;
    let mut before = 0;
    let mut compactions = 0;
    for round in 0..300 {
        let new: Vec<(i64, String)> = (0..random.random_range(1..200))
            .map(|_| {
                number += 1;
                (random.random_range(0..30), format!("{number}"))
            })
            .collect();
        kept.insert(batch(&new)).unwrap();
        model.extend(new);
        let few = 200 + 5000 * (round / 60 % 2);
        let mut gone: BTreeMap<(i64, String), i64> = BTreeMap::new();
        while model.len() > few {
            gone.insert(model.remove(random.random_range(0..model.len())), -1);
        }
        if !gone.is_empty() {
            apply(&mut kept, gone);
        }
        let all = kept.rows.alive() + kept.rows.dead();
        compactions += usize::from(all < before);
        before = all;
        let key = random.random_range(0..30);
        let expected: Vec<_> = model.iter().filter(|row| row.0 == key).cloned().collect();
        assert_eq!(under(&kept, key), expected, "round {round}");
    }
    assert_eq!(rows(&kept.snapshot().batches().unwrap()), model);
    assert!(compactions > 3, "{compactions}");
}

#[test]
fn rows_below_a_time_go_with_their_keys() {
    let mut kept = empty(Goes::ByContent);
    for round in 0..40 {
        kept.insert(batch(&(0..100).map(|n| (round * 10 + n % 10, format!("{n}"))).collect::<Vec<_>>())).unwrap();
        let taken = kept.take_below(TimeOf::KeyPart(0), (round - 5) * 10).unwrap();
        assert_eq!(taken.num_rows(), if round > 5 { 100 } else { 0 }, "round {round}");
    }
    assert_eq!(kept.len(), 600);
    assert!(kept.rows.dead() <= kept.len() + 4096);
    assert_eq!(kept.take_below(TimeOf::KeyPart(0), 1000).unwrap().num_rows(), 600);
    let bytes = kept.index_bytes();
    assert!(bytes < 400_000, "{bytes} bytes of nothing");
}
