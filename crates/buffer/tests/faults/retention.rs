//! Owns what trims leave behind, by age and by size.

use millstream_buffer::Log;

use crate::Bench;
use crate::rows::numbers;

#[test]
fn young_rows_outlive_a_trim() {
    let bench = Bench::new();
    let log = bench.open();
    log.set_retention(Some(1000), None);
    bench.fill(&log, 0, 30);
    bench.clock.advance_ms(600);
    bench.fill(&log, 300, 30);
    let end = log.view().end().clone();
    bench.trim(&log, &end).unwrap();
    assert_eq!(numbers(&log, 0).len(), 600);
    bench.clock.advance_ms(600);
    bench.trim(&log, &end).unwrap();
    let left = numbers(&log, 0);
    assert!((300..400).contains(&left.len()), "{} rows are left", left.len());
    bench.clock.advance_ms(600);
    bench.trim(&log, &end).unwrap();
    assert!(numbers(&log, 0).is_empty());
}

#[test]
fn a_log_over_its_size_lets_young_rows_go() {
    let bench = Bench::new();
    let log = bench.open();
    log.set_retention(Some(1_000_000), Some(20_000));
    bench.fill(&log, 0, 100);
    assert!(log.stats().disk_bytes > 30_000);
    bench.trim(&log, &log.view().end().clone()).unwrap();
    let stats = log.stats();
    assert!((14_000..=20_000).contains(&stats.disk_bytes), "{} bytes are left", stats.disk_bytes);
}

#[test]
fn rows_that_no_trim_allows_to_go_stay_whatever_the_limits() {
    let bench = Bench::new();
    let log = bench.open();
    log.set_retention(None, Some(1));
    bench.fill(&log, 0, 100);
    bench.clock.advance_ms(1_000_000);
    bench.trim(&log, &millstream_catalog::Positions::zero(3)).unwrap();
    assert_eq!(numbers(&log, 0).len(), 1000);
}

#[test]
fn a_trim_gives_the_space_back() {
    let bench = Bench::new();
    let log = bench.open();
    bench.fill(&log, 0, 100);
    let full = bench.disk.used_bytes();
    bench.trim(&log, &log.view().end().clone()).unwrap();
    assert!(bench.disk.used_bytes() < full / 20);
    assert_eq!(bench.segments().len(), 1);
    drop(log);
    let log = bench.open();
    assert_eq!(log.view().start(), log.view().end());
    bench.fill(&log, 1000, 1);
    assert_eq!(numbers(&log, 0).len(), 10);
}

#[test]
fn a_trim_that_a_crash_interrupted_is_finished_at_the_next_start() {
    for after in 0..14 {
        for seed in 0..8 {
            let mut bench = Bench::left_behind(40);
            let log = bench.open();
            let before = log.stats().segments;
            bench.disk.cut_power_after(after);
            let trimmed = bench.trim(&log, &millstream_catalog::Positions(vec![300, 0, 0]));
            drop(log);
            bench.disk = bench.disk.after_crash(seed);
            let log = bench.open();
            let start = log.view().start().get(0);
            assert!(start <= 300);
            assert_eq!(numbers(&log, 0), (start as i64..400).collect::<Vec<_>>());
            assert!(trimmed.is_err() || log.stats().segments < before);
        }
    }
}
