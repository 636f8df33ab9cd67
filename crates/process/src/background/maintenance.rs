//! Owns the care of lake tables: small files are merged, replaced files deleted, Delta logs kept short.

use std::sync::Arc;

use super::retry::backoff;
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
        let _permit = shared.tier_permits.acquire().await;
        job.started();
        let now_ms = shared.options.clock.now_us() / 1000;
        match table.maintain(shared.options.vacuum_retention, now_ms).await {
            Ok(report) if report == Default::default() => job.idle(),
            Ok(report) => job.succeeded(format!(
                "{} files merged into {}, {} files deleted",
                report.files_compacted, report.files_written, report.files_vacuumed
            )),
            Err(error) => pause = backoff(job.failed(&error)),
        }
    }
}
