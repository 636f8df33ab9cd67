//! An arrangement against a plain list of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::delta::with_weights;

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

fn empty(retracts: bool) -> Arrangement {
    let schema = batch(&[]).schema();
    let key = Key::of_columns(&schema, &[0]).unwrap();
    Arrangement::new(schema, key, retracts).unwrap()
}

#[test]
fn rows_come_and_go_as_in_a_plain_list() {
    let mut random = StdRng::seed_from_u64(7);
    let mut kept = empty(true);
    let mut model: Vec<(i64, String)> = Vec::new();
    for round in 0..400 {
        let mut delta: BTreeMap<(i64, String), i64> = BTreeMap::new();
        for _ in 0..random.random_range(0..60) {
            if round % 7 > 2 && !model.is_empty() && random.random_bool(0.6) {
                let row = model.swap_remove(random.random_range(0..model.len()));
                *delta.entry(row).or_default() -= 1;
            } else {
                let row = (random.random_range(0..40), format!("t{}", random.random_range(0..4)));
                model.push(row.clone());
                *delta.entry(row).or_default() += 1;
            }
        }
        let changes: Vec<((i64, String), i64)> = delta.into_iter().filter(|(_, w)| *w != 0).collect();
        let changed = batch(&changes.iter().map(|c| c.0.clone()).collect::<Vec<_>>());
        let weights = Int64Array::from_iter_values(changes.iter().map(|c| c.1));
        kept.apply(&with_weights(&changed, weights).unwrap()).unwrap();

        assert_eq!(kept.len(), model.len());
        let key = random.random_range(0..40);
        let probe = kept.key().encode(&batch(&[(key, String::new())])).unwrap();
        let mut under = rows(&[kept.rows_under(&probe).unwrap()]);
        let mut expected: Vec<_> = model.iter().filter(|r| r.0 == key).cloned().collect();
        under.sort();
        expected.sort();
        assert_eq!(under, expected, "round {round}");
    }
    let mut all = rows(&kept.snapshot().batches().unwrap());
    all.sort();
    model.sort();
    assert_eq!(all, model);
}

#[test]
fn a_row_that_is_not_there_cannot_go() {
    let mut kept = empty(true);
    kept.insert(batch(&[(1, "a".into())])).unwrap();
    let gone = with_weights(&batch(&[(1, "b".into())]), Int64Array::from(vec![-1])).unwrap();
    assert!(kept.apply(&gone).unwrap_err().to_string().contains("not there"));
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut kept = empty(true);
    kept.insert(batch(&[(1, "a".into()), (2, "b".into())])).unwrap();
    let before = kept.snapshot();
    kept.apply(&with_weights(&batch(&[(1, "a".into())]), Int64Array::from(vec![-1])).unwrap()).unwrap();
    assert_eq!(rows(&before.batches().unwrap()).len(), 2);
    assert_eq!(rows(&kept.snapshot().batches().unwrap()), [(2, "b".to_owned())]);
}

#[test]
fn replaced_rows_do_not_pile_up() {
    let mut kept = empty(false);
    for round in 0..5000 {
        kept.replace(batch(&[(1, format!("a{round}")), (2, format!("b{round}"))])).unwrap();
    }
    assert_eq!(kept.len(), 2);
    assert!(kept.next.len() < 10_000, "{}", kept.next.len());
    let probe = kept.key().encode(&batch(&[(2, String::new())])).unwrap();
    assert_eq!(rows(&[kept.rows_under(&probe).unwrap()]), [(2, "b4999".to_owned())]);
}
