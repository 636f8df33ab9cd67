//! Owns the care of lake tables: old rows go or move, small files are merged, replaced files deleted, logs kept short.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_store::MaintenanceReport;

use super::retry::backoff;
use super::temperature::{Aged, age_once};
use crate::Result;
use crate::engine::Shared;
use crate::rounds::Round;
use crate::stream::OpenStream;

/// Looks after one stream's table until the stream closes; a round that is under way then is cut off.
pub(crate) async fn maintain_table(shared: Arc<Shared>, stream: Arc<OpenStream>) {
    tokio::select! {
        () = stream.closing.cancelled() => {}
        () = maintain_rounds(&shared, &stream) => {}
    }
}

async fn maintain_rounds(shared: &Arc<Shared>, stream: &Arc<OpenStream>) {
    let job = shared.jobs.register("maintenance", &stream.name().to_string());
    let mut pause = shared.options.maintenance_interval;
    loop {
        tokio::time::sleep(pause).await;
        pause = shared.options.maintenance_interval;
        if stream.lake_table().is_none() {
            continue;
        }
        job.started();
        match care_once(shared, stream).await {
            Ok((aged, report)) if aged == Aged::default() && report == MaintenanceReport::default() => job.idle(),
            Ok((aged, report)) => job.succeeded(format!(
                "{} files merged into {}, {} expired, {} moved to the cold place, {} deleted",
                report.files_compacted,
                report.files_written,
                aged.expired.files,
                aged.cooled.files,
                report.files_vacuumed
            )),
            Err(error) => pause = backoff(job.failed(&error)),
        }
    }
}

/// One round: expires and moves what is old enough, then merges and deletes files.
///
/// Tiering of the stream goes on meanwhile: files are read and written beside it, and only commits wait for each other.
/// A merge whose files went out otherwise is dropped at its commit.
pub(crate) async fn care_once(shared: &Arc<Shared>, stream: &Arc<OpenStream>) -> Result<(Aged, MaintenanceReport)> {
    // Files that a table's log names are not in the lake yet, and must not be taken for leftovers.
    if stream.table().is_some_and(|table| !table.is_known()) {
        return Ok(Default::default());
    }
    // What cannot age is cared for all the same.
    let aged = age_once(shared, stream, "automatic").await;
    // A dropped stream's folder goes when this lock is free, and must not be written to again.
    let _one_at_a_time = stream.care_lock.lock().await;
    // Who made a table that others write to looks after it.
    let own = !stream.closing.is_cancelled() && !stream.is_others();
    let Some(table) = stream.lake_table().filter(|_| own) else {
        return Ok(Default::default());
    };
    let _permit = shared.care_permits.acquire().await;
    let began = Instant::now();
    let done = table.maintain(vacuum_retention(shared, stream), shared.options.clock.now_us() / 1000).await;
    if !matches!(&done, Ok(report) if *report == MaintenanceReport::default()) {
        shared.rounds.record(Round::of("automatic", stream.name(), began.elapsed(), &done));
    }
    Ok((aged?, done?))
}

/// How long replaced files stay readable: as the stream or table says, or as configured.
pub(crate) fn vacuum_retention(shared: &Shared, stream: &OpenStream) -> Duration {
    let own = stream.definition().stream.options.policy.vacuum_retention_ms;
    own.map_or(shared.options.vacuum_retention, Duration::from_millis)
}
