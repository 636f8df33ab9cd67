//! Owns merging down: what a table's log says becomes part of its Delta table, exactly once.

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use millstream_catalog::Positions;
use millstream_store::RowChanges;

use super::state::{TableSnapshot, TableState};
use crate::Result;
use crate::background::tier_once;
use crate::engine::Shared;
use crate::stream::{Counters, OpenStream};

/// Files are written again at no more than this rate, unless much waits.
const REWRITE_BYTES_A_SECOND: u64 = 32 << 20;
/// No change waits longer for the lake.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// Takes what the hot tier has into the lake, in one commit. Returns the number of log records taken. The caller sees
/// to it that one merge of a table runs at a time.
pub(crate) async fn merge_down(shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<u64> {
    let Some(state) = table.table() else { return Ok(0) };
    let snapshot = state.snapshot(shared, table).await?;
    let records = snapshot.hot.to - snapshot.hot.from;
    if snapshot.hot.is_empty() {
        return Ok(0);
    }
    let schema = Arc::clone(&table.definition().full_schema);
    snapshot.table.set_schema(Arc::clone(&schema)).await?;
    // With durability = 'os' the log may still lose its tail: what the lake has must not be given out again.
    table.log().sync().await?;
    let _permit = shared.tier_permits.acquire().await;
    let changes = RowChanges { operation: operation(state, &snapshot), ..changes_of(&snapshot, schema)? };
    snapshot.table.change(changes).await?;
    state.was_merged();
    Counters::add(&table.counters.tiered_rows, snapshot.hot.rows_came());
    Ok(records)
}

/// Makes a change that the table's history is to name: with a commit of its own, as far as the lake is at hand and
/// nobody changes the table at the same time.
pub(crate) async fn named_change<T>(
    shared: &Arc<Shared>,
    table: &Arc<OpenStream>,
    name: &'static str,
    change: impl Future<Output = Result<T>>,
) -> Result<T> {
    // A lake that cannot be reached keeps no statement from being done.
    drop(tier_once(shared, table).await);
    let end = || table.log().view().end().total();
    let start = end();
    let changed = change.await?;
    if let Some(state) = table.table() {
        *state.named.lock() = Some((start..end(), name));
    }
    drop(tier_once(shared, table).await);
    Ok(changed)
}

/// What the history calls the commit of these changes.
fn operation(state: &TableState, snapshot: &TableSnapshot) -> String {
    let hot = &snapshot.hot;
    match &*state.named.lock() {
        Some((range, name)) if *range == (hot.from..hot.to) => (*name).to_owned(),
        _ if hot.gone.is_empty() => "WRITE".to_owned(),
        _ => "MERGE".to_owned(),
    }
}

/// How long the lake may wait for changes that make it write these many bytes again: a little for few, more for many,
/// so that single rows which change all over a large table do not keep the disk busy.
pub(crate) async fn patience(shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<Duration> {
    let Some(state) = table.table() else { return Ok(Duration::ZERO) };
    let snapshot = state.snapshot(shared, table).await?;
    let rewritten = snapshot.lake.bytes_touched(&snapshot.hot.gone);
    Ok(Duration::from_secs(rewritten / REWRITE_BYTES_A_SECOND).min(LONGEST_PATIENCE))
}

fn changes_of(snapshot: &TableSnapshot, schema: arrow::datatypes::SchemaRef) -> Result<RowChanges> {
    let hot = &snapshot.hot;
    let rows = hot.rows(&schema)?;
    let come: Option<SendableRecordBatchStream> = (!rows.is_empty()).then(|| {
        let rows = futures::stream::iter(rows.into_iter().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(schema, rows)) as SendableRecordBatchStream
    });
    Ok(RowChanges {
        operation: String::new(),
        start: Positions(vec![hot.from]),
        end: Positions(vec![hot.to]),
        next_row: hot.next_row.max(snapshot.lake.next_row()),
        come,
        staged: hot.files.clone(),
        gone: Arc::clone(&hot.gone),
    })
}
