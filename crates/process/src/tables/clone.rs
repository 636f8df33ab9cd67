//! Owns the first change of a clone: what its source's log says behind the files that the clone has.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use futures::{StreamExt, TryStreamExt, stream};
use millstream_buffer::LogBatch;
use millstream_catalog::OFFSET_COLUMN;
use roaring::RoaringTreemap;

use super::changelog::numbers_of;
use super::keys::index_columns;
use super::source::TableSource;
use super::state::TableSnapshot;
use super::write::{Change, Turn};
use crate::engine::Shared;
use crate::read::BatchAdapter;
use crate::stream::OpenStream;
use crate::{Error, Result, Rows};

/// Makes a clone, which has the files of `then`, what the source was at that instant. Rows that come get numbers of the
/// clone's own.
pub(crate) async fn follow_hot(shared: &Arc<Shared>, clone: &Arc<OpenStream>, then: &TableSnapshot) -> Result<()> {
    let hot = &then.hot;
    if hot.is_empty() {
        return Ok(());
    }
    let turn = Turn::of(shared, clone).await?;
    let gone = Arc::clone(&hot.gone);
    let mut going = Vec::new();
    if !gone.is_empty() {
        let mut rows = numbered_rows(shared, clone).await?;
        while let Some(batch) = rows.try_next().await.map_err(wrap)? {
            going.push(picked(&batch, &gone, true)?);
        }
    }
    let own = Arc::clone(&clone.definition().schema);
    let nullable = own.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    let own: SchemaRef = Arc::new(Schema::new(nullable));
    let going = going.into_iter().map(|gone| Ok(Change { gone: Some(gone), come: None }));
    let coming = hot.rows(&own)?.into_iter().map(|batch| Ok(comes(batch)));
    let changes = stream::iter(going.chain(coming));
    if hot.files.is_empty() {
        return turn.apply(changes.boxed(), None).await.map(|_| ());
    }
    let staged = then.table.staged_provider(&hot.files)?;
    let rows = rows_of(shared, staged.as_ref(), None).await?;
    let adapter = BatchAdapter::new(own);
    let staged = rows.map(move |batch| {
        let batch = picked(&batch.map_err(wrap)?, &gone, false)?;
        let batch = LogBatch { partition: 0, base_offset: 0, ingest_time_us: 0, batch };
        Ok(comes(adapter.adapt(&batch).map_err(wrap)?))
    });
    turn.apply(changes.chain(staged).boxed(), None).await.map(|_| ())
}

fn comes(batch: RecordBatch) -> Change {
    let missing = vec![None; batch.num_columns()];
    Change { gone: None, come: Some(Rows { batch, missing }) }
}

/// The keys and numbers of a table's rows.
async fn numbered_rows(shared: &Arc<Shared>, table: &Arc<OpenStream>) -> Result<SendableRecordBatchStream> {
    let source = TableSource::new(Arc::clone(shared), Arc::clone(table), true);
    let schema = source.schema();
    let columns = index_columns(&table.definition().stream);
    let columns: Vec<usize> = columns.iter().filter_map(|c| schema.index_of(c).ok()).collect();
    rows_of(shared, &source, Some(&columns)).await
}

async fn rows_of(
    shared: &Arc<Shared>,
    table: &dyn TableProvider,
    columns: Option<&Vec<usize>>,
) -> Result<SendableRecordBatchStream> {
    let session = shared.context()?.state();
    let plan = table.scan(&session, columns, &[], None).await.map_err(wrap)?;
    execute_stream(plan, session.task_ctx()).map_err(wrap)
}

/// The rows of a batch that are among those that went, or those that are not.
fn picked(batch: &RecordBatch, gone: &RoaringTreemap, wanted: bool) -> Result<RecordBatch> {
    debug_assert!(batch.column_by_name(OFFSET_COLUMN).is_some(), "rows show their numbers");
    let numbers = numbers_of(batch).map_err(|e| wrap(e.into()))?;
    let picked: BooleanArray = numbers.values().iter().map(|n| Some(gone.contains(*n as u64) == wanted)).collect();
    filter_record_batch(batch, &picked).map_err(|e| wrap(e.into()))
}

fn wrap(error: datafusion::error::DataFusionError) -> Error {
    Error::from_datafusion(error, "")
}
