//! Owns the short form of the fuzz target: random damage to valid files never makes the log panic or show rows that
//! were not written.

use millstream_buffer::{Error, Log};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::rows::{key, keyed};
use crate::{Bench, DIR};

fn damage(bytes: &mut Vec<u8>, dice: &mut StdRng) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.random_range(0..bytes.len());
    let length = dice.random_range(1..200usize).min(bytes.len() - at);
    match dice.random_range(0..6) {
        0 => bytes[at] ^= 1 << dice.random_range(0..8),
        1 => bytes.truncate(at),
        2 => bytes[at..at + length].fill(0),
        3 => dice.fill(&mut bytes[at..at + length]),
        4 => {
            let again = bytes[at..at + length].to_vec();
            bytes.splice(at..at, again);
        }
        _ => {
            bytes.drain(at..at + length);
        }
    }
}

/// Opens what is there and reads all of it; every row must be one that was written, at its place.
fn open_and_check(bench: &Bench, seed: u64) -> usize {
    let log = match bench.try_open() {
        Ok(log) => log,
        Err(Error::Corrupt { .. } | Error::Misfit { .. }) => return 0,
        Err(e) => panic!("seed {seed}: {e:?}"),
    };
    let view = log.view();
    let mut rows = 0;
    for batch in view.read(view.start()).unwrap() {
        let Ok(batch) = batch else { break };
        let numbers = batch.batch.column(0).to_data();
        for (i, number) in numbers.buffers()[0].typed_data::<i64>().iter().enumerate().take(batch.batch.num_rows()) {
            assert_eq!(*number as u64, batch.base_offset + i as u64, "seed {seed}: a row that was not written");
        }
        rows += batch.batch.num_rows();
    }
    rows
}

#[test]
fn damaged_files_never_make_the_log_panic_or_lie() {
    let bench = Bench { segment_bytes: 3000, ..Bench::new() };
    let log = bench.open();
    for i in 0..12 {
        bench.append(&log, keyed(0, i * 10, 10, key(i as u128, 1))).unwrap();
    }
    bench.trim(&log, &millstream_catalog::Positions(vec![30, 0, 0])).unwrap();
    bench.close(log);
    let whole: Vec<_> = bench.disk.files().into_iter().map(|p| (p.clone(), bench.disk.file(&p))).collect();
    let mut readable = 0;
    for seed in 0..1500 {
        let mut dice = StdRng::seed_from_u64(seed);
        for path in bench.disk.files() {
            bench.disk.set_file(&path, None);
        }
        for (path, content) in &whole {
            bench.disk.set_file(path, content.clone());
        }
        for _ in 0..dice.random_range(1..4) {
            let path = &whole[dice.random_range(0..whole.len())].0;
            bench.change(path, |bytes| damage(bytes, &mut dice));
        }
        readable += usize::from(open_and_check(&bench, seed) > 0);
    }
    assert!(readable > 100, "only {readable} damaged logs could be opened in {DIR}");
}
