//! Owns tiering: log ranges become lake files, exactly once.
//!
//! One task per stream. A round takes the rows between the lake's positions and the log's end, writes them as
//! Parquet files and commits them in one Delta version that also carries the new positions. The positions are the
//! truth about what is in the lake: a round that fails or dies anywhere is simply begun again from the positions that
//! the table then shows, and files without a commit are left to vacuum. Only after the commit is synced may the log
//! drop what is behind it.

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use millstream_buffer::LogView;
use millstream_catalog::Positions;
use millstream_store::{LakeTable, Layout};

use super::retry::backoff;
use crate::ddl::is_temporary;
use crate::engine::Shared;
use crate::external;
use crate::read::lake_batch;
use crate::stream::{Counters, OpenStream};
use crate::tables::{merge_down, patience, reshape_of, trimmed_to};
use crate::{Error, Result};

/// How often a stream looks at the age and size of what waits, unless less than that is old already.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until the stream closes: a round whenever enough waits for long enough.
pub(crate) async fn tier_stream(shared: Arc<Shared>, stream: Arc<OpenStream>) {
    // A round that is cut off is one that never was: the next start begins it again. So nothing is waited for at the
    // end, least of all a store that does not answer.
    tokio::select! {
        () = stream.closing.cancelled() => {}
        () = tier_rounds(&shared, &stream) => {}
    }
}

async fn tier_rounds(shared: &Arc<Shared>, stream: &Arc<OpenStream>) {
    let job = shared.jobs.register("tiering", &stream.name().to_string());
    let mut ends = stream.log().subscribe();
    let mut waiting_since: Option<i64> = None;
    let mut pause = Duration::ZERO;
    let look = LOOK.min(shared.options.tier_age).max(Duration::from_millis(10));
    loop {
        if waiting_since.is_none() && pause.is_zero() && stream.lake_table().is_some() {
            // An idle stream costs nothing: it wakes with its next row.
            if ends.changed().await.is_err() {
                return;
            }
        } else {
            tokio::time::sleep(pause.max(look)).await;
        }
        let unknown = stream.lake_table().is_none() || stream.table().is_some_and(|table| !table.is_known());
        if unknown && let Err(error) = open_and_look(shared, stream).await {
            pause = backoff(job.failed(&error));
            continue;
        }
        let (rows, bytes) = waiting(stream);
        if rows == 0 {
            waiting_since = None;
            pause = Duration::ZERO;
            continue;
        }
        let now = shared.options.clock.now_us();
        let since = *waiting_since.get_or_insert(now);
        let age = Duration::from_micros(now.saturating_sub(since).max(0) as u64);
        let due = bytes >= shared.options.tier_bytes || age >= shared.options.tier_age;
        if !due {
            continue;
        }
        let early = bytes < shared.options.tier_bytes;
        if early && patience(shared, stream).await.is_ok_and(|patience| age < patience) {
            continue;
        }
        job.started();
        match tier_once(shared, stream).await {
            Ok(0) => job.idle(),
            Ok(rows) => {
                job.succeeded(format!("{rows} rows to the lake"));
                waiting_since = None;
            }
            Err(error) => {
                pause = backoff(job.failed(&error));
                continue;
            }
        }
        pause = Duration::ZERO;
    }
}

async fn open_and_look(shared: &Arc<Shared>, stream: &Arc<OpenStream>) -> Result<()> {
    open_table(shared, stream).await?;
    match stream.table() {
        Some(table) => table.look(shared, stream).await,
        None => Ok(()),
    }
}

/// Rows and bytes between the lake and the log's end.
fn waiting(stream: &OpenStream) -> (u64, u64) {
    let view = stream.log().view();
    let from = stream.lake_positions();
    (view.end().rows_since(&from), view.size_since(&from).1)
}

/// One round: opens the lake table if that is still to be done, then moves what waits. Returns the rows moved, of a
/// table the changes.
pub(crate) async fn tier_once(shared: &Arc<Shared>, stream: &Arc<OpenStream>) -> Result<u64> {
    if stream.is_others() {
        return Ok(0);
    }
    let _one_at_a_time = stream.tier_lock.lock().await;
    let table = open_table(shared, stream).await?;
    if stream.table().is_some() {
        let taken = merge_down(shared, stream).await?;
        trim(stream, &table).await;
        return Ok(taken);
    }
    let definition = stream.definition();
    let view = stream.log().view();
    let start = table.snapshot().positions.clone();
    let end = view.end().clone();
    let rows = end.rows_since(&start);
    if rows == 0 {
        trim(stream, &table).await;
        return Ok(0);
    }
    table.set_schema(Arc::clone(&definition.full_schema)).await?;
    // With durability = 'os' the log may still lose its tail: what the lake has must not be given out again.
    stream.log().sync().await?;
    // One stream encodes at a time: two cores are soon busy, and memory stays that of one writer.
    let _permit = shared.tier_permits.acquire().await;
    let input = log_rows(Arc::clone(&view), &start, Arc::clone(&definition.full_schema))?;
    let snapshot = table.append(&start, &end, input).await?;
    let moved = snapshot.positions.rows_since(&start);
    Counters::add(&stream.counters.tiered_rows, moved);
    trim(stream, &table).await;
    Ok(moved)
}

/// The stream's lake table, opened at the first call and created if it is not there.
pub(crate) async fn open_table(shared: &Arc<Shared>, stream: &Arc<OpenStream>) -> Result<LakeTable> {
    if let Some(table) = stream.lake_table() {
        return Ok(table);
    }
    // Two tables would each know their own commits alone: readers of the one would miss what the other moved.
    let _one_at_a_time = stream.open_lock.lock().await;
    if let Some(table) = stream.lake_table() {
        return Ok(table);
    }
    if stream.is_others() {
        let table = external::open(shared, stream).await?;
        stream.set_lake_table(table.clone());
        return Ok(table);
    }
    let definition = stream.definition();
    let schema = Arc::clone(&definition.full_schema);
    let layout = definition.stream.table.as_ref().map(Layout::from).unwrap_or_default();
    let folder = definition.stream.folder();
    let lake = if is_temporary(&folder) { shared.temporary.lake() } else { &shared.lake };
    if let Some(reshape) = reshape_of(shared, &definition)? {
        // A change of its columns that was decided and cut short is finished first.
        lake.finish_reshape(&folder, stream.id(), &reshape).await?;
    }
    let table = lake.open_laid_out(&folder, stream.id(), schema, layout).await?;
    table.set_policy(&definition.stream.options.policy);
    stream.set_lake_table(table.clone());
    Ok(table)
}

async fn trim(stream: &OpenStream, table: &LakeTable) {
    let positions = trimmed_to(stream, &table.snapshot().positions);
    if let Err(error) = stream.log().trim(&positions).await {
        tracing::warn!(stream = %stream.name(), error = %crate::error::chain(&error), "the log was not trimmed");
    }
}

/// The log's rows from `start` to the view's end in the lake's schema, read where blocking is allowed.
fn log_rows(
    view: Arc<dyn LogView>,
    start: &Positions,
    schema: arrow::datatypes::SchemaRef,
) -> Result<SendableRecordBatchStream> {
    let reader = view.read(start)?;
    let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&schema), 2);
    let output = builder.tx();
    builder.spawn_blocking(move || {
        // The view pins the segments until the last row is read.
        let _pinned = view;
        for batch in reader {
            let batch = match batch {
                Ok(log) => lake_batch(&log, &schema),
                Err(error) => Err(Error::from(error).into()),
            };
            let failed = batch.is_err();
            if output.blocking_send(batch).is_err() || failed {
                break;
            }
        }
        Ok(())
    });
    Ok(builder.build())
}
