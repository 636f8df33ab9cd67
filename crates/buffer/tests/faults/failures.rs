//! Owns one test per kind of failing disk.

use millstream_buffer::{Error, Log, QueueBudget};
use millstream_catalog::{Durability, Positions};

use crate::rows::{append, key, keyed, numbers};
use crate::{Bench, DIR};

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let bench = Bench::new();
    let log = bench.open();
    bench.fill(&log, 0, 3);
    bench.disk.set_capacity(Some(bench.disk.used_bytes() + 100));
    for _ in 0..3 {
        let refused = bench.append(&log, append(0, 30, 10));
        assert!(matches!(refused, Err(Error::DiskFull { .. })), "{refused:?}");
    }
    assert_eq!(numbers(&log, 0).len(), 30);
    bench.disk.set_capacity(None);
    bench.fill(&log, 30, 2);
    drop(log);
    assert_eq!(numbers(&bench.open(), 0), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_trim_makes_room_on_a_full_disk() {
    let bench = Bench::new();
    let log = bench.open();
    for i in 0..60 {
        bench.append(&log, keyed(0, i * 10, 10, key(i as u128, 1))).unwrap();
    }
    bench.disk.set_capacity(Some(bench.disk.used_bytes()));
    assert!(matches!(bench.append(&log, append(0, 600, 1)), Err(Error::DiskFull { .. })));
    bench.trim(&log, &Positions(vec![300, 0, 0])).unwrap();
    bench.append(&log, append(0, 600, 1)).unwrap();
    drop(log);
    let log = bench.open();
    assert!(bench.append(&log, keyed(0, 0, 10, key(0, 1))).unwrap().duplicate);
}

#[test]
fn a_failed_sync_poisons_the_log_and_reads_go_on() {
    let bench = Bench::new();
    let log = bench.open();
    bench.fill(&log, 0, 3);
    bench.disk.fail_sync_after(0);
    for _ in 0..2 {
        let refused = bench.append(&log, append(0, 30, 10));
        assert!(matches!(&refused, Err(Error::Poisoned { reason, .. }) if reason.contains("sync")), "{refused:?}");
    }
    assert!(matches!(bench.trim(&log, &Positions(vec![10, 0, 0])), Err(Error::Poisoned { .. })));
    assert!(log.stats().poisoned.is_some());
    assert_eq!(numbers(&log, 0).len(), 30);
    drop(log);
    let reopened = bench.open();
    assert_eq!(numbers(&reopened, 0)[..30], (0..30).collect::<Vec<_>>());
    bench.append(&reopened, append(1, 0, 1)).unwrap();
}

#[test]
fn a_failed_sync_is_not_tried_again() {
    let bench = Bench::new();
    let log = bench.open();
    bench.disk.fail_sync_after(0);
    assert!(bench.append(&log, append(0, 0, 1)).is_err());
    let syncs = log.stats().fsyncs;
    assert!(bench.append(&log, append(0, 0, 1)).is_err());
    assert_eq!(log.stats().fsyncs, syncs);
}

#[test]
fn an_append_over_the_budget_is_answered_busy_at_once() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.budget = QueueBudget::new(1);
    let budget = options.budget.clone();
    let log = millstream_buffer::DiskLog::open_blocking(options).unwrap();
    // Alone it passes, however large; beside another it does not.
    let outcomes = futures::executor::block_on(futures::future::join_all([
        log.append(append(0, 0, 10)),
        log.append(append(0, 10, 10)),
    ]));
    assert!(outcomes.iter().all(|o| matches!(o, Ok(_) | Err(Error::Busy { limit_bytes: 1, .. }))), "{outcomes:?}");
    assert!(outcomes.iter().any(Result::is_ok));
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn without_fsync_a_crash_loses_a_tail_and_nothing_else() {
    for seed in 0..40 {
        let mut bench = Bench::new();
        let mut options = bench.options();
        options.durability = Durability::Os;
        let log = millstream_buffer::DiskLog::open_blocking(options).unwrap();
        bench.fill(&log, 0, 40);
        bench.disk.cut_power_after(0);
        drop(log);
        bench.disk = bench.disk.after_crash(seed);
        let found = numbers(&bench.open(), 0);
        assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>());
    }
}

#[test]
fn one_sync_serves_many_appends() {
    let bench = Bench::new();
    let log = bench.open();
    let before = log.stats().fsyncs;
    let appends = (0..200).map(|i| log.append(append(0, i, 1)));
    let outcomes = futures::executor::block_on(futures::future::join_all(appends));
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(log.stats().fsyncs - before < 200, "{} syncs", log.stats().fsyncs - before);
    assert_eq!(numbers(&log, 0), (0..200).collect::<Vec<_>>());
}

#[test]
fn another_number_of_partitions_is_refused() {
    let bench = Bench::left_behind(2);
    let mut options = bench.options();
    options.partitions += 1;
    let refused = millstream_buffer::DiskLog::open_blocking(options).map(|_| ());
    assert!(matches!(&refused, Err(Error::Misfit { reason }) if reason.contains(DIR)), "{refused:?}");
}

#[test]
fn a_restart_goes_on_in_the_same_segment() {
    let bench = Bench::left_behind(2);
    for i in 0..3 {
        let log = bench.open();
        bench.fill(&log, 20 + i * 10, 1);
    }
    assert_eq!(bench.segments().len(), 1);
    assert_eq!(numbers(&bench.open(), 0), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_slice_of_something_large_does_not_keep_it_in_memory() {
    let bench = Bench::new();
    let log = bench.open();
    let large = crate::rows::rows(0, 200_000);
    for (first, count) in [(0, 10), (10, 2000)] {
        let part = millstream_buffer::Part { partition: 0, batch: large.slice(first, count) };
        bench.append(&log, millstream_buffer::Append { parts: vec![part], key: None }).unwrap();
    }
    let view = log.view();
    for batch in view.resident(view.end()).unwrap().iter().chain(&view.resident(view.start()).unwrap_or_default()) {
        assert!(batch.batch.get_array_memory_size() < 1_000_000);
    }
    assert_eq!(numbers(&log, 0), (0..2010).collect::<Vec<_>>());
}

#[test]
fn what_was_synced_survives_without_fsync() {
    for seed in 0..20 {
        let mut bench = Bench::new();
        let log = bench.open();
        log.set_durability(Durability::Os);
        bench.fill(&log, 0, 10);
        futures::executor::block_on(log.sync()).unwrap();
        bench.fill(&log, 100, 5);
        bench.disk.cut_power_after(0);
        drop(log);
        bench.disk = bench.disk.after_crash(seed);
        let found = numbers(&bench.open(), 0);
        assert!(found.len() >= 100);
        assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>());
    }
}
