//! Owns what becomes of rows as they age: old files go to the cold place, and rows that expired go.
//!
//! Age is counted from a row's `_ingest_time`, by the files' statistics: a file goes to the cold place, and its rows go,
//! when the newest row in it is old enough. A stream's files go out of the Delta table as they are. A table's rows go by
//! a change like any other, so that the index of its key and the views over it follow; the merge behind it takes out
//! the files without reading them.

use std::sync::Arc;
use std::time::Instant;

use datafusion::catalog::TableProvider;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use millstream_store::{Cooled, LakeTable};

use super::tiering::tier_once;
use crate::engine::Shared;
use crate::rounds::Round;
use crate::stream::OpenStream;
use crate::tables::{Change, TableSource, Turn};
use crate::{Error, Result};

/// Rows of a table that expire by one change, about: others wait for it.
const ROWS_AT_ONCE: u64 = 4_000_000;

/// What expired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Expired {
    /// Files whose rows went.
    pub(crate) files: u64,
    /// These rows.
    pub(crate) rows: u64,
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Aged {
    pub(crate) expired: Expired,
    pub(crate) cooled: Cooled,
}

/// Expires and moves what is due, and keeps a record of it as `kind` when something was done or failed. The caller sees
/// to it that the table's log was looked at.
pub(crate) async fn age_once(shared: &Arc<Shared>, stream: &Arc<OpenStream>, kind: &'static str) -> Result<Aged> {
    let Some(table) = stream.lake_table() else { return Ok(Aged::default()) };
    let began = Instant::now();
    let mut aged = Aged::default();
    let done = age(shared, stream, &table, &mut aged).await;
    if done.is_err() || aged != Aged::default() {
        let error = done.as_ref().err().map(|error| crate::error::chain(error));
        let round = Round { kind, object: stream.name().to_string(), took: began.elapsed(), error, ..Round::default() };
        shared.rounds.record(Round { expired: aged.expired, cooled: aged.cooled, ..round });
    }
    done.map(|()| aged)
}

async fn age(shared: &Arc<Shared>, stream: &Arc<OpenStream>, table: &LakeTable, aged: &mut Aged) -> Result<()> {
    let options = stream.definition().stream.options.clone();
    if let Some(kept_ms) = options.lake_retention_ms {
        aged.expired = expire(shared, stream, table, before(shared, kept_ms)).await?;
    }
    if let (Some(warm_ms), Some(place)) = (options.policy.warm_ms, &options.policy.cold) {
        // A dropped stream's folder goes when this lock is free, and must not be written to again.
        let _one_at_a_time = stream.care_lock.lock().await;
        if stream.closing.is_cancelled() {
            return Ok(());
        }
        let _permit = shared.care_permits.acquire().await;
        aged.cooled = table.cool(place, before(shared, warm_ms), now_ms(shared)).await?;
    }
    Ok(())
}

fn now_ms(shared: &Shared) -> i64 {
    shared.options.clock.now_us() / 1000
}

/// The time that many milliseconds ago.
fn before(shared: &Shared, age_ms: u64) -> i64 {
    now_ms(shared).saturating_sub(i64::try_from(age_ms).unwrap_or(i64::MAX))
}

async fn expire(shared: &Arc<Shared>, stream: &Arc<OpenStream>, table: &LakeTable, before_ms: i64) -> Result<Expired> {
    let Some(old) = table.old_part(&table.snapshot(), before_ms, u64::MAX) else { return Ok(Expired::default()) };
    if stream.table().is_some() {
        let mut all = Expired::default();
        loop {
            let some = expire_rows(shared, stream, before_ms).await?;
            if some.rows == 0 {
                return Ok(all);
            }
            all.files += some.files;
            all.rows += some.rows;
        }
    }
    let _one_at_a_time = stream.care_lock.lock().await;
    if stream.closing.is_cancelled() {
        return Ok(Expired::default());
    }
    let files = table.expire(before_ms, now_ms(shared)).await?;
    Ok(Expired { files, rows: if files > 0 { old.rows } else { 0 } })
}

/// Takes rows of a table out that lie in files of which every row is older, and merges that.
async fn expire_rows(shared: &Arc<Shared>, table: &Arc<OpenStream>, before_ms: i64) -> Result<Expired> {
    let wrap = |e| Error::from_datafusion(e, "");
    let turn = Turn::of(shared, table).await?;
    let Some(state) = table.table() else { return Ok(Expired::default()) };
    let mut snapshot = state.snapshot(shared, table).await?;
    let Some(old) = snapshot.table.old_part(&snapshot.lake, before_ms, ROWS_AT_ONCE) else {
        return Ok(Expired::default());
    };
    snapshot.lake = Arc::clone(&old);
    snapshot.hot = Arc::new(snapshot.hot.without_rows());
    let source = TableSource::new(Arc::clone(shared), Arc::clone(table), true).at(snapshot);
    let columns = turn.columns_that_go();
    let schema = source.schema();
    let columns: Vec<usize> = columns.iter().filter_map(|c| schema.index_of(c).ok()).collect();
    let session = shared.context()?.state();
    let plan = source.scan(&session, Some(&columns), &[], None).await.map_err(wrap)?;
    let rows = execute_stream(plan, session.task_ctx()).map_err(wrap)?;
    let gone = rows.map(move |rows| Ok(Change { gone: Some(rows.map_err(wrap)?), come: None }));
    let applied = turn.apply(gone.boxed(), None).await?;
    if applied.gone == 0 {
        return Ok(Expired::default());
    }
    tier_once(shared, table).await?;
    Ok(Expired { files: old.files, rows: applied.gone })
}
