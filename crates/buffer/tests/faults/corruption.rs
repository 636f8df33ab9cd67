//! Owns one test per known corruption: what was never durable goes, what was durable is an error that names the place.

use millstream_buffer::{Error, Log};

use crate::rows::{numbers, numbers_from};
use crate::{Bench, DIR, entries};

fn count(log: &dyn Log) -> usize {
    numbers(log, 0).len()
}

/// The segment and position of the corruption that opening reports.
fn corruption(bench: &Bench) -> (String, u64, String) {
    match bench.try_open().map(|_| ()) {
        Err(Error::Corrupt { segment, position, reason }) => (segment, position, reason),
        other => panic!("no corruption was found: {other:?}"),
    }
}

#[test]
fn a_torn_header_is_cut_and_the_valid_prefix_kept() {
    for kept in [1, 4, 40, 63] {
        let bench = Bench::left_behind(5);
        let last = bench.segments().pop().unwrap();
        bench.change(&last, |bytes| bytes.truncate(entries(bytes)[3] + kept));
        let log = bench.open();
        assert_eq!(count(&log), 30);
        assert_eq!(log.stats().torn_bytes, kept as u64);
        bench.fill(&log, 30, 1);
        drop(log);
        assert_eq!(count(&bench.open()), 40);
    }
}

#[test]
fn a_torn_body_is_cut_and_the_valid_prefix_kept() {
    let bench = Bench::left_behind(5);
    let last = bench.segments().pop().unwrap();
    bench.change(&last, |bytes| bytes.truncate(bytes.len() - 100));
    let log = bench.open();
    assert_eq!(count(&log), 40);
    assert!(log.stats().torn_bytes > 0);
}

#[test]
fn a_torn_segment_header_is_an_error_that_names_the_segment() {
    let bench = Bench::left_behind(5);
    let last = bench.segments().pop().unwrap();
    for length in [0, 20, 100] {
        bench.change(&last, |bytes| bytes.truncate(length));
        assert_eq!(corruption(&bench).0, last.display().to_string());
    }
}

#[test]
fn a_flipped_bit_in_the_middle_is_an_error_that_names_segment_and_position() {
    let bench = Bench::left_behind(5);
    let last = bench.segments().pop().unwrap();
    let places = entries(&bench.disk.file(&last).unwrap());
    for byte in [places[2], places[2] + 30, places[2] + 70, places[3] - 70] {
        bench.change(&last, |bytes| bytes[byte] ^= 0x10);
        let (segment, position, _) = corruption(&bench);
        assert_eq!((segment, position), (last.display().to_string(), places[2] as u64));
        bench.change(&last, |bytes| bytes[byte] ^= 0x10);
    }
    assert_eq!(count(&bench.open()), 50);
}

#[test]
fn a_flipped_bit_at_the_end_cuts_what_no_close_vouched_for() {
    let bench = Bench::left_behind(5);
    let last = bench.segments().pop().unwrap();
    let places = entries(&bench.disk.file(&last).unwrap());
    bench.change(&last, |bytes| bytes[places[4] + 70] ^= 1);
    assert_eq!(count(&bench.open()), 40);
}

#[test]
fn a_flipped_bit_at_the_end_of_a_closed_log_is_an_error() {
    let bench = Bench::new();
    let log = bench.open();
    bench.fill(&log, 0, 5);
    bench.close(log);
    let log = bench.open();
    bench.fill(&log, 50, 1);
    drop(log);
    let last = bench.segments().pop().unwrap();
    let places = entries(&bench.disk.file(&last).unwrap());
    // The index of the close is believed, so the damage shows when the rows are read.
    bench.change(&last, |bytes| bytes[places[5] - 70] ^= 1);
    let log = bench.open();
    let view = log.view();
    let failed = view.read(view.start()).unwrap().find_map(Result::err);
    assert!(matches!(failed, Some(Error::Corrupt { .. })), "{failed:?}");
    drop(log);
    let index = last.with_extension("idx");
    bench.change(&index, |bytes| {
        let half = bytes.len() - 20;
        bytes[half] ^= 1;
    });
    let (_, position, _) = corruption(&bench);
    assert_eq!(position, places[4] as u64);
}

#[test]
fn a_zeroed_tail_is_cut() {
    for zeros in [10, 64, 4096, 3_000_000] {
        let bench = Bench::left_behind(5);
        let last = bench.segments().pop().unwrap();
        bench.change(&last, |bytes| bytes.resize(bytes.len() + zeros, 0));
        let log = bench.open();
        assert_eq!(count(&log), 50);
        assert_eq!(log.stats().torn_bytes, zeros as u64);
    }
}

#[test]
fn a_tail_that_was_zeroed_over_rows_is_cut() {
    let bench = Bench::left_behind(5);
    let last = bench.segments().pop().unwrap();
    bench.change(&last, |bytes| {
        let from = entries(bytes)[4];
        bytes[from..].fill(0);
    });
    assert_eq!(count(&bench.open()), 40);
}

#[test]
fn a_missing_segment_is_an_error_that_names_it() {
    for missing in [0, 1, 2] {
        let bench = Bench::left_behind(60);
        let segments = bench.segments();
        assert!(segments.len() >= 4);
        bench.disk.set_file(&segments[missing], None);
        bench.disk.set_file(&segments[missing].with_extension("idx"), None);
        assert_eq!(corruption(&bench).0, segments[missing].display().to_string());
    }
}

#[test]
fn a_missing_last_segment_is_an_error_that_names_it() {
    let bench = Bench::left_behind(60);
    let last = bench.segments().pop().unwrap();
    bench.disk.set_file(&last, None);
    assert_eq!(corruption(&bench).0, last.display().to_string());
}

#[test]
fn all_segments_missing_after_a_trim_is_an_error() {
    let bench = Bench::new();
    let log = bench.open();
    bench.fill(&log, 0, 20);
    bench.trim(&log, &log.view().end().clone()).unwrap();
    drop(log);
    for path in bench.disk.files().into_iter().filter(|p| !p.ends_with("trims")) {
        bench.disk.set_file(&path, None);
    }
    assert!(corruption(&bench).2.contains("missing"));
}

#[test]
fn a_duplicate_segment_is_an_error_that_names_it() {
    let bench = Bench::left_behind(60);
    let segments = bench.segments();
    let copy = std::path::Path::new(DIR).join(format!("{:020}.seg", 1));
    bench.disk.set_file(&copy, bench.disk.file(&segments[1]));
    assert_eq!(corruption(&bench).0, copy.display().to_string());
}

#[test]
fn overlapping_segments_are_an_error() {
    let bench = Bench::left_behind(60);
    let segments = bench.segments();
    // Entries of the segment behind, once more at the end of the one before.
    let next = bench.disk.file(&segments[1]).unwrap();
    let places = entries(&next);
    bench.change(&segments[0], |bytes| bytes.extend_from_slice(&next[places[0]..places[1]]));
    assert_eq!(corruption(&bench).0, segments[1].display().to_string());
}

#[test]
fn a_sealed_segment_that_was_cut_is_an_error_that_names_it() {
    let bench = Bench::left_behind(60);
    let sealed = bench.segments().remove(1);
    let places = entries(&bench.disk.file(&sealed).unwrap());
    bench.change(&sealed, |bytes| bytes.truncate(places[places.len() - 2]));
    let (segment, position, _) = corruption(&bench);
    assert_eq!((segment, position), (sealed.display().to_string(), places[places.len() - 2] as u64));
}

#[test]
fn damage_in_a_sealed_segment_is_found_when_it_is_read() {
    let bench = Bench::left_behind(60);
    let sealed = bench.segments().remove(1);
    let places = entries(&bench.disk.file(&sealed).unwrap());
    bench.change(&sealed, |bytes| bytes[places[1] - 70] ^= 1);
    let log = bench.open();
    let view = log.view();
    let results: Vec<_> = view.read(view.start()).unwrap().collect();
    assert!(
        matches!(&results.last(), Some(Err(Error::Corrupt { segment, .. })) if *segment == sealed.display().to_string())
    );
}

#[test]
fn a_missing_index_is_made_anew() {
    let bench = Bench::left_behind(60);
    let segments = bench.segments();
    for segment in &segments[..segments.len() - 1] {
        bench.disk.set_file(&segment.with_extension("idx"), None);
    }
    assert_eq!(count(&bench.open()), 600);
    assert!(bench.disk.file(&segments[1].with_extension("idx")).is_some());
}

#[test]
fn a_damaged_index_is_made_anew() {
    let bench = Bench::left_behind(60);
    let index = bench.segments()[1].with_extension("idx");
    let length = bench.disk.file(&index).unwrap().len();
    for byte in (0..length).step_by(7) {
        bench.change(&index, |bytes| bytes[byte] ^= 4);
        assert_eq!(count(&bench.open()), 600, "byte {byte}");
    }
}

#[test]
fn an_index_ahead_of_its_data_is_made_anew() {
    let bench = Bench::left_behind(60);
    let segments = bench.segments();
    // The index of a longer segment of the same name.
    let longer = Bench { segment_bytes: 9000, ..Bench::new() };
    let log = longer.open();
    longer.fill(&log, 0, 60);
    drop(log);
    let ahead = longer.disk.file(&segments[0].with_extension("idx"));
    assert!(ahead.is_some());
    bench.disk.set_file(&segments[0].with_extension("idx"), ahead);
    assert_eq!(count(&bench.open()), 600);
}

#[test]
fn a_close_that_vouches_for_more_than_is_there_is_an_error() {
    let bench = Bench::new();
    let log = bench.open();
    bench.fill(&log, 0, 5);
    bench.close(log);
    let last = bench.segments().pop().unwrap();
    let places = entries(&bench.disk.file(&last).unwrap());
    bench.change(&last, |bytes| bytes.truncate(places[4]));
    let (segment, position, reason) = corruption(&bench);
    assert_eq!((segment, position), (last.display().to_string(), places[4] as u64));
    assert!(reason.contains("remove its index"), "{reason}");
    bench.disk.set_file(&last.with_extension("idx"), None);
    assert_eq!(count(&bench.open()), 40);
}

#[test]
fn a_view_without_damage_reads_on_beside_a_damaged_one() {
    let bench = Bench::left_behind(60);
    let sealed = bench.segments().remove(0);
    bench.change(&sealed, |bytes| {
        let last = bytes.len() - 70;
        bytes[last] ^= 1;
    });
    let log = bench.open();
    let view = log.view();
    let mut later = view.end().clone();
    later.set(0, later.get(0) - 50);
    assert_eq!(numbers_from(&*view, &later)[&0].len(), 50);
}
