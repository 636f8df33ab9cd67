//! Owns what producer keys live through.

use millstream_buffer::Log;

use crate::Bench;
use crate::rows::{append, key, keyed, numbers};

#[test]
fn keys_survive_a_restart() {
    let bench = Bench::new();
    let log = bench.open();
    let mut answers = Vec::new();
    for i in 0..60 {
        answers.push(bench.append(&log, keyed(i % 3, i64::from(i) * 10, 10, key(u128::from(i), 1))).unwrap());
    }
    drop(log);
    assert!(bench.segments().len() > 3);
    for closed in [true, false] {
        let log = bench.open();
        for (i, first) in answers.iter().enumerate() {
            let again = bench.append(&log, keyed(0, 0, 10, key(i as u128, 1))).unwrap();
            assert!(again.duplicate, "key {i}");
            assert_eq!((&again.ranges, again.note), (&first.ranges, first.note));
        }
        if closed {
            bench.close(log);
        }
    }
    let log = bench.open();
    assert!(bench.append(&log, keyed(0, 0, 1, key(7, 2))).is_err());
}

#[test]
fn keys_survive_the_trim_of_their_rows_and_a_restart() {
    let bench = Bench::new();
    let log = bench.open();
    for i in 0..60 {
        bench.append(&log, keyed(0, i * 10, 10, key(i as u128, 1))).unwrap();
        if i % 9 == 0 {
            bench.trim(&log, &log.view().end().clone()).unwrap();
        }
    }
    bench.trim(&log, &log.view().end().clone()).unwrap();
    assert_eq!(numbers(&log, 0).len(), 0);
    drop(log);
    let log = bench.open();
    for i in 0..60 {
        assert!(bench.append(&log, keyed(0, 0, 10, key(i, 1))).unwrap().duplicate, "key {i}");
    }
    assert_eq!(log.view().end().get(0), 600);
}

#[test]
fn the_newest_keys_up_to_the_limit_survive_many_trims() {
    let bench = Bench { key_limit: 20, ..Bench::new() };
    let log = bench.open();
    for i in 0..200 {
        bench.append(&log, keyed(0, i * 10, 10, key(i as u128, 1))).unwrap();
        bench.trim(&log, &log.view().end().clone()).unwrap();
    }
    let kept = bench.disk.file(std::path::Path::new("/log/trims")).unwrap().len();
    assert!(kept < 20_000, "the file of trims has {kept} bytes");
    drop(log);
    let log = bench.open();
    for i in 180..200 {
        assert!(bench.append(&log, keyed(0, 0, 10, key(i, 1))).unwrap().duplicate, "key {i}");
    }
    assert!(!bench.append(&log, keyed(0, 0, 10, key(100, 1))).unwrap().duplicate);
}

#[test]
fn a_key_whose_append_was_lost_in_a_crash_may_be_used_again() {
    let mut bench = Bench::new();
    let log = bench.open();
    bench.fill(&log, 0, 2);
    bench.disk.cut_power_after(0);
    assert!(bench.append(&log, keyed(0, 20, 10, key(1, 1))).is_err());
    drop(log);
    let found = (0..50)
        .map(|seed| {
            bench.disk = bench.disk.after_crash(seed);
            let log = bench.open();
            let rows = numbers(&log, 0).len();
            let retried = bench.append(&log, keyed(0, 20, 10, key(1, 1))).unwrap();
            assert_eq!(retried.duplicate, rows == 30);
            assert_eq!(numbers(&log, 0), (0..30).collect::<Vec<_>>());
            retried.duplicate
        })
        .count();
    assert_eq!(found, 50);
}

#[test]
fn a_key_is_remembered_across_a_schema_change() {
    let bench = Bench::new();
    let log = bench.open();
    bench.append(&log, keyed(0, 0, 1, key(5, 1))).unwrap();
    bench.append(&log, append(0, 1, 1)).unwrap();
    drop(log);
    let mut options = bench.options();
    let mut fields: Vec<_> = options.schema.fields().iter().cloned().collect();
    fields.push(std::sync::Arc::new(arrow::datatypes::Field::new("more", arrow::datatypes::DataType::Int64, true)));
    options.schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
    let log = millstream_buffer::DiskLog::open_blocking(options).unwrap();
    assert!(bench.append(&log, millstream_buffer::Append { parts: vec![], key: Some(key(5, 1)) }).unwrap().duplicate);
}
