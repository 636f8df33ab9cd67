//! Owns the care of lake tables: small files are merged, replaced files deleted, Delta logs kept short.

use std::sync::Arc;
use std::time::Instant;

use millstream_store::{LakeTable, MaintenanceReport};

use super::retry::backoff;
use crate::Result;
use crate::engine::Shared;
use crate::rounds::Round;
use crate::stream::OpenStream;

/// Looks after one stream's table until the stream closes.
pub(crate) async fn maintain_table(shared: Arc<Shared>, stream: Arc<OpenStream>) {
    let job = shared.jobs.register("maintenance", &stream.name().to_string());
    let mut pause = shared.options.maintenance_interval;
    loop {
        tokio::select! {
            () = stream.closing.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = shared.options.maintenance_interval;
        if stream.lake_table().is_none() {
            continue;
        }
        job.started();
        let round = tokio::select! {
            () = stream.closing.cancelled() => return,
            round = care_once(&shared, &stream) => round,
        };
        match round {
            Ok((0, report)) if report == MaintenanceReport::default() => job.idle(),
            Ok((expired, report)) => job.succeeded(format!(
                "{} files merged into {}, {expired} expired, {} deleted",
                report.files_compacted, report.files_written, report.files_vacuumed
            )),
            Err(error) => pause = backoff(job.failed(&error)),
        }
    }
}

/// One round: expires what is older than the stream's lake retention, then merges and deletes files. Says how many
/// files expired, and what else was done.
///
/// Tiering of the stream goes on meanwhile: files are read and written beside it, and only commits wait for each other.
/// A merge whose files went out otherwise is dropped at its commit.
pub(crate) async fn care_once(shared: &Shared, stream: &OpenStream) -> Result<(u64, MaintenanceReport)> {
    // A dropped stream's folder goes when this lock is free, and must not be written to again.
    let _one_at_a_time = stream.care_lock.lock().await;
    let Some(table) = stream.lake_table().filter(|_| !stream.closing.is_cancelled()) else {
        return Ok(Default::default());
    };
    // Files that a table's log names are not in the lake yet, and must not be taken for leftovers.
    if stream.table().is_some_and(|table| !table.is_known()) {
        return Ok(Default::default());
    }
    let _permit = shared.care_permits.acquire().await;
    let began = Instant::now();
    let done = expire_and_maintain(shared, stream, &table).await;
    let (files_expired, report) = match &done {
        Ok((expired, report)) => (*expired, Ok(report.clone())),
        Err(error) => (0, Err(error)),
    };
    if !matches!(&report, Ok(report) if files_expired == 0 && *report == MaintenanceReport::default()) {
        let round = Round::of("automatic", stream.name(), began.elapsed(), &report);
        shared.rounds.record(Round { files_expired, ..round });
    }
    done
}

async fn expire_and_maintain(
    shared: &Shared,
    stream: &OpenStream,
    table: &LakeTable,
) -> Result<(u64, MaintenanceReport)> {
    let now_ms = shared.options.clock.now_us() / 1000;
    let mut expired = 0;
    if let Some(kept_ms) = stream.definition().stream.options.lake_retention_ms {
        let before_ms = now_ms.saturating_sub(i64::try_from(kept_ms).unwrap_or(i64::MAX));
        expired = table.expire(before_ms, now_ms).await?;
    }
    Ok((expired, table.maintain(shared.options.vacuum_retention, now_ms).await?))
}
