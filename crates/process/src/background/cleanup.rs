//! Owns the removal of what DROP left behind: log folders and lake folders of streams that are no more.

use std::sync::Arc;

use super::retry::backoff;
use crate::Result;
use crate::engine::Shared;

/// Removes the lake folders of dropped streams; tries until it is done or the engine stops. What is cut off then is
/// removed at the next start.
pub(crate) async fn remove_dropped(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.closing.cancelled() => {}
        () = remove_rounds(&shared) => {}
    }
}

async fn remove_rounds(shared: &Shared) {
    let job = shared.jobs.register("cleanup", "dropped streams");
    loop {
        job.started();
        let pause = match remove_all(shared).await {
            Ok(0) => {
                job.idle();
                None
            }
            Ok(n) => {
                job.succeeded(format!("{n} dropped streams removed from the lake"));
                None
            }
            Err(error) => Some(backoff(job.failed(&error))),
        };
        tokio::select! {
            () = shared.cleanup_now.notified() => {}
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}

async fn remove_all(shared: &Shared) -> Result<usize> {
    let dropped = shared.options.catalog.list_dropped().await?;
    let mut removed = 0;
    for stream in &dropped {
        if shared.is_filling(stream.id) {
            continue;
        }
        shared.remove_log(stream.id).await?;
        shared.lake.remove(&stream.name, stream.id).await?;
        shared.options.catalog.forget_dropped(stream.id).await?;
        removed += 1;
    }
    Ok(removed)
}
