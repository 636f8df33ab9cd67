//! Owns the care of lake tables: small files are merged, replaced files deleted, Delta logs kept short.

use std::sync::Arc;

use millstream_store::{LakeTable, MaintenanceReport};

use super::retry::backoff;
use crate::Result;
use crate::engine::Shared;
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
        let Some(table) = stream.lake_table() else { continue };
        // A dropped stream's folder goes when this lock is free, and must not be written to again.
        let _one_at_a_time = stream.tier_lock.lock().await;
        if stream.closing.is_cancelled() {
            return;
        }
        let _permit = shared.tier_permits.acquire().await;
        job.started();
        let round = tokio::select! {
            () = stream.closing.cancelled() => return,
            round = care(&shared, &stream, &table) => round,
        };
        match round {
            Ok(None) => job.idle(),
            Ok(Some(done)) => job.succeeded(done),
            Err(error) => pause = backoff(job.failed(&error)),
        }
    }
}

/// One round: expires what is older than the stream's lake retention, then merges and deletes files. Says what it did.
async fn care(shared: &Shared, stream: &OpenStream, table: &LakeTable) -> Result<Option<String>> {
    let now_ms = shared.options.clock.now_us() / 1000;
    let mut expired = 0;
    if let Some(kept_ms) = stream.definition().stream.options.lake_retention_ms {
        let before_ms = now_ms.saturating_sub(i64::try_from(kept_ms).unwrap_or(i64::MAX));
        expired = table.expire(before_ms, now_ms).await?;
    }
    let report = table.maintain(shared.options.vacuum_retention, now_ms).await?;
    if expired == 0 && report == MaintenanceReport::default() {
        return Ok(None);
    }
    Ok(Some(format!(
        "{} files merged into {}, {expired} expired, {} deleted",
        report.files_compacted, report.files_written, report.files_vacuumed
    )))
}
