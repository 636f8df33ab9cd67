//! Runs one suite against every log, and against the disk log in several shapes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cases;
#[path = "../rows/mod.rs"]
mod rows;

use std::sync::Arc;

use millstream_buffer::{Compression, DiskLog, DiskLogOptions, Log, ManualClock, MemoryLog};
use tempfile::TempDir;

/// A log under test.
struct Subject {
    log: Arc<dyn Log>,
    _dir: Option<TempDir>,
}

fn memory() -> Subject {
    let log = MemoryLog::new(rows::schema(), rows::PARTITIONS, Arc::new(ManualClock::at(1_000)));
    Subject { log: Arc::new(log), _dir: None }
}

async fn disk(shape: impl FnOnce(&mut DiskLogOptions)) -> Subject {
    let dir = tempfile::tempdir().unwrap();
    let mut options = DiskLogOptions::new(dir.path().join("log"), rows::schema(), rows::PARTITIONS);
    options.clock = Arc::new(ManualClock::at(1_000));
    shape(&mut options);
    let log = DiskLog::open(options).await.unwrap();
    Subject { log: Arc::new(log), _dir: Some(dir) }
}

macro_rules! suite {
    ($($case:ident,)*) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { crate::cases::$case(crate::memory()).await; })*
        }
        mod on_disk {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { crate::cases::$case(crate::disk(|_| {}).await).await; })*
        }
        mod on_disk_with_small_segments_and_no_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let small = |o: &mut super::DiskLogOptions| { o.segment_bytes = 2048; o.memory_bytes = 0; };
                crate::cases::$case(crate::disk(small).await).await;
            })*
        }
        mod on_disk_compressed {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let lz4 = |o: &mut super::DiskLogOptions| {
                    o.compression = super::Compression::Lz4;
                    o.memory_bytes = 0;
                };
                crate::cases::$case(crate::disk(lz4).await).await;
            })*
        }
    };
}

suite! {
    a_new_log_is_empty,
    offsets_have_no_gaps,
    a_view_shows_what_was_there_when_it_was_made,
    a_read_begins_in_the_middle_of_a_batch,
    resident_rows_are_the_rows_that_are_read,
    an_append_to_many_partitions_is_seen_whole,
    a_retried_key_adds_nothing,
    a_key_with_other_content_is_refused,
    a_key_without_rows_is_remembered,
    of_two_appends_in_flight_with_one_key_one_wins,
    subscribers_follow_the_end,
    a_new_schema_holds_for_later_appends_only,
    a_trim_keeps_every_row_that_it_must,
    a_read_before_the_start_is_refused,
    a_view_reads_on_after_a_trim,
    offsets_go_on_after_a_trim_of_everything,
    appends_that_do_not_fit_are_refused,
    nulls_where_none_may_be_are_refused,
    a_closed_log_refuses_appends_and_reads_on,
    concurrent_appends_are_all_there_in_each_callers_order,
    large_and_small_appends_keep_their_order,
    the_size_of_what_is_left_shrinks,
    every_type_comes_back_as_it_went,
}
