//! Owns a running query: the task that drives it and the stream its rows come out of.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::{Stream, StreamExt};
use millstream_catalog::fault::{Code, Fault};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::column_names::ColumnNames;
use super::shares::shared_out;
use super::spilling::{SPARING_TRIES, given_back, has_hash_join, sparing};
use super::stopping::stopping_with;
use super::{Prepared, QueryWorkers};
use crate::files::{CopyIn, CopyOptions};
use crate::queries::QueryGuard;
use crate::{Error, Result, files};

/// Batches that may wait for a slow client.
const BATCHES_AHEAD: usize = 2;

/// What a statement came to.
#[derive(Debug)]
pub enum Outcome {
    /// Rows; the tag is for the wire's CommandComplete (`SELECT`, `SHOW`, `EXPLAIN`).
    Rows {
        /// The rows.
        rows: RowStream,
        /// The command, without its count.
        tag: &'static str,
    },
    /// No rows: the command tag, as PostgreSQL spells it (`CREATE STREAM`, `INSERT 0 5`, `SET`), and notices.
    Done {
        /// The whole tag.
        tag: String,
        /// Things to tell the user, such as "stream x exists already, skipped".
        notices: Vec<String>,
    },
    /// The client is to send rows: COPY … FROM STDIN.
    CopyIn(CopyIn),
    /// Rows in another form than a query's: COPY … TO STDOUT.
    CopyOut {
        /// The rows.
        rows: RowStream,
        /// How they are to be written.
        options: CopyOptions,
    },
}

/// A query's rows. Batches arrive as they are made; dropping the stream cancels the query and frees its memory.
#[derive(Debug)]
pub struct RowStream {
    schema: SchemaRef,
    first: Option<RecordBatch>,
    rest: Option<mpsc::Receiver<Result<RecordBatch>>>,
    task: Option<JoinHandle<()>>,
    live: bool,
}

impl RowStream {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Whether it goes on without end, its rows coming as things change: each batch must be shown when it comes.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// One batch that is there already.
    pub(crate) fn ready(batch: RecordBatch) -> Self {
        Self { schema: batch.schema(), first: Some(batch), rest: None, task: None, live: false }
    }

    /// Rows that come as they come, from a task that goes with the stream.
    pub(crate) fn live(schema: SchemaRef, rows: mpsc::Receiver<Result<RecordBatch>>, task: JoinHandle<()>) -> Self {
        Self { schema, first: None, rest: Some(rows), task: Some(task), live: true }
    }

    /// Starts a query and waits for its first batch, so that what fails early fails before any answer is begun.
    pub(crate) async fn start(workers: &QueryWorkers, query: Query) -> Result<Self> {
        let schema = query.names.put_on(&Arc::new(arrow::datatypes::Schema::clone(query.plan.schema().as_arrow())));
        let (output, mut rest) = mpsc::channel(BATCHES_AHEAD);
        let mut stream = Self { schema, first: None, rest: None, task: None, live: false };
        stream.task = Some(tokio::spawn(query.drive(workers.handle(), output)));
        stream.first = rest.recv().await.transpose()?;
        stream.rest = Some(rest);
        Ok(stream)
    }
}

impl Drop for RowStream {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Stream for RowStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        match &mut self.rest {
            Some(rest) => rest.poll_recv(cx),
            None => Poll::Ready(None),
        }
    }
}

/// A planned query with everything it needs to run.
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) plan: LogicalPlan,
    /// The statement that the plan is of, if it is just as it was prepared.
    pub(crate) prepared: Option<Prepared>,
    pub(crate) names: ColumnNames,
    pub(crate) state: SessionState,
    pub(crate) timeout: Option<Duration>,
    pub(crate) guard: QueryGuard,
}

impl Query {
    /// Watches over the query from the caller's threads: an operator that computes for long without a pause can keep
    /// the query threads busy, and must not keep the client from being answered.
    async fn drive(self, workers: Handle, output: mpsc::Sender<Result<RecordBatch>>) {
        let query = Arc::new(self);
        let cancel = query.guard.cancel_token().clone();
        let timeout = query.timeout;
        // Set however this ends, also when the client has left and the task is dropped.
        let end = CancellationToken::new();
        let _ended = end.clone().drop_guard();
        let mut work = AbortOnDropHandle::new(workers.spawn({
            let (query, output) = (Arc::clone(&query), output.clone());
            async move { query.produce(&output, &end).await }
        }));
        let result = tokio::select! {
            result = &mut work => result.unwrap_or_else(|broken| Err(defect(&broken))),
            () = cancel.cancelled() => Err(cancelled()),
            () = expired(timeout) => Err(timed_out(timeout)),
        };
        query.guard.finish(result.as_ref().err());
        if let Err(error) = result {
            // The client may have left; then there is nobody to tell.
            drop(output.send(Err(error)).await);
        }
    }

    async fn produce(&self, output: &mpsc::Sender<Result<RecordBatch>>, end: &CancellationToken) -> Result<()> {
        let mut again = None;
        let mut done = self.produce_by(&self.state, false, output, end, &mut again).await;
        let mut has_joins = false;
        for tries in 0..SPARING_TRIES {
            let (error, (joins, pool)) = match (done, again.take()) {
                (Err(error), Some(first)) if error.code() == Code::OutOfMemory => (error, first),
                (done, _) => return done,
            };
            tracing::info!(%error, "a query did not fit into memory, it is run again on the disk");
            given_back(pool).await;
            has_joins |= joins;
            done = self.produce_by(&sparing(&self.state, has_joins, tries), true, output, end, &mut again).await;
        }
        done
    }

    /// `spares` says that `state` plans for little memory; `again` says whether it may be tried again, since no row was
    /// sent yet, and whether it has joins in memory.
    async fn produce_by(
        &self,
        state: &SessionState,
        spares: bool,
        output: &mpsc::Sender<Result<RecordBatch>>,
        end: &CancellationToken,
        again: &mut Option<(bool, Weak<dyn MemoryPool>)>,
    ) -> Result<()> {
        let wrap = |e| Error::from_datafusion(e, &self.sql);
        let optimized = match self.prepared.as_ref().and_then(Prepared::planned) {
            Some(query) => query.optimized.get(&query.plan, state),
            None => state.optimize(&self.plan),
        };
        let planner = state.query_planner();
        let plan = planner.create_physical_plan(&optimized.map_err(wrap)?, state).await.map_err(wrap)?;
        let plan = stopping_with(plan, end).map_err(wrap)?;
        let base = self.state.runtime_env();
        let pool = self.guard.count_memory(Arc::clone(&base.memory_pool));
        *again = Some((has_hash_join(&plan), Arc::downgrade(&pool)));
        let pool = if spares { shared_out(&pool, &plan).map_err(wrap)? } else { pool };
        let runtime = Arc::new(RuntimeEnv { memory_pool: pool, ..RuntimeEnv::clone(base) });
        let context = datafusion::execution::TaskContext::from(state).with_runtime(runtime);
        let mut rows = execute_stream(Arc::clone(&plan), Arc::new(context)).map_err(wrap)?;
        while let Some(batch) = rows.next().await {
            let batch = match batch.map_err(wrap) {
                Ok(batch) => batch,
                Err(error) => return Err(files::explained(error, &plan, base).await),
            };
            if batch.num_rows() == 0 {
                continue;
            }
            *again = None;
            self.guard.add_rows(batch.num_rows());
            let batch = self.names.put_on_batch(batch).map_err(|e| wrap(e.into()))?;
            if output.send(Ok(batch)).await.is_err() {
                return Err(cancelled());
            }
        }
        Ok(())
    }
}

pub(crate) async fn expired(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

pub(crate) fn defect(broken: &JoinError) -> Error {
    Error::rejected(Code::Internal, format!("the statement hit a defect of Millstream; see the log: {broken}"))
}

pub(crate) fn cancelled() -> Error {
    Error::rejected(Code::Cancelled, "the statement was cancelled by its client")
}

pub(crate) fn timed_out(timeout: Option<Duration>) -> Error {
    let ms = timeout.unwrap_or_default().as_millis();
    Error::Rejected {
        code: Code::Timeout,
        message: format!("the statement ran longer than its limit of {ms} ms and was ended"),
        hint: Some("SET statement_timeout = '5min' allows more for this session".into()),
        position: None,
    }
}
