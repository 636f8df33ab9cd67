//! Owns the work of a change that needs queries: the table's turn, what the queries give, and the change that is made.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, ParamValues, ScalarValue};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::physical_plan::execute_stream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use millstream_catalog::fault::{Code, Fault};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::beside::{admitted, kept_of_repeats};
use super::conflict::{Conflict, Keys};
use super::insert::Source;
use super::row_change::{RowChange, Shown, Step, Stepper};
use super::run::inserted;
use super::supplied::SuppliedRows;
use super::target::Target;
use super::{PlannedChange, What};
use crate::engine::Shared;
use crate::jobs::Measure;
use crate::queries::QueryGuard;
use crate::read::ReadPoint;
use crate::sql::{SPARING_TRIES, cancelled, given_back, shared_out, sparing, stopping_with};
use crate::tables::{self, Applied, Change, Kept, Turn, Upsert, Upserted};
use crate::{Error, Result, Rows, StreamHandle};

/// What a change came to.
#[derive(Debug)]
pub(super) struct Done {
    /// Rows that are affected.
    pub(super) rows: u64,
    /// What RETURNING gives.
    pub(super) returned: Option<RecordBatch>,
}

/// It may still be stopped, and then nothing is changed.
const COMPUTING: u8 = 0;
/// It is made durable, or was.
const COMMITTING: u8 = 1;
/// It was stopped.
const STOPPED: u8 = 2;

/// A change with everything it needs to run.
pub(super) struct Work {
    pub(super) shared: Arc<Shared>,
    pub(super) change: Arc<PlannedChange>,
    text: String,
    params: Vec<ScalarValue>,
    pub(super) guard: QueryGuard,
    measure: Arc<Measure>,
    phase: AtomicU8,
    end: CancellationToken,
    /// How often it did not fit into memory: then it goes on on the disk.
    failed: AtomicUsize,
    /// The memory of the last try.
    pool: Mutex<Option<Weak<dyn MemoryPool>>>,
}

type Changes<'a> = BoxStream<'a, Result<Change>>;

impl Work {
    pub(super) fn new(
        shared: Arc<Shared>,
        change: Arc<PlannedChange>,
        text: &str,
        params: &[ScalarValue],
        (guard, measure): (QueryGuard, Arc<Measure>),
        end: CancellationToken,
    ) -> Arc<Self> {
        let (text, params) = (text.to_owned(), params.to_vec());
        Arc::new(Self {
            shared,
            change,
            text,
            params,
            guard,
            measure,
            phase: AtomicU8::new(COMPUTING),
            end,
            failed: AtomicUsize::new(0),
            pool: Mutex::default(),
        })
    }

    /// Stops it if nothing was made durable yet; whether it did.
    pub(super) fn stop(&self) -> bool {
        self.phase.compare_exchange(COMPUTING, STOPPED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// From here on it cannot be stopped.
    fn commit(&self) -> Result<()> {
        match self.phase.compare_exchange(COMPUTING, COMMITTING, Ordering::AcqRel, Ordering::Acquire) {
            Err(STOPPED) => Err(cancelled()),
            _ if self.end.is_cancelled() => Err(cancelled()),
            _ => Ok(()),
        }
    }

    /// Does it; when it does not fit into memory, again on the disk.
    pub(super) async fn go(self: Arc<Self>) -> Result<Done> {
        let mut alone = None;
        for tries in 1..=SPARING_TRIES {
            let error = match self.go_once().await {
                Err(error) if self.may_fit_on_disk(&error) => error,
                done => return done,
            };
            tracing::info!(%error, "a change did not fit into memory, it is run again on the disk");
            self.failed.store(tries, Ordering::Release);
            self.guard.restart();
            self.measure.restart();
            let pool = self.pool.lock().take();
            if let Some(pool) = pool {
                given_back(pool).await;
            }
            if alone.is_none() {
                alone = self.shared.sparing_permits.acquire().await.ok();
            }
        }
        self.go_once().await
    }

    /// Whether a query of it ran out of memory before anything was made durable.
    fn may_fit_on_disk(&self, error: &Error) -> bool {
        matches!(error, Error::Query { code: Code::OutOfMemory, .. }) && self.phase.load(Ordering::Acquire) == COMPUTING
    }

    /// The number of the try on the disk; `None` at first.
    fn sparing_try(&self) -> Option<usize> {
        self.failed.load(Ordering::Acquire).checked_sub(1)
    }

    async fn go_once(&self) -> Result<Done> {
        match &self.change.what {
            What::Rows(change) => {
                let turn = self.turn().await?;
                self.change_rows(turn, change).await
            }
            What::Insert(insert) => match (&insert.source, &insert.conflict) {
                (source, None) => self.insert(source).await,
                (source, Some(conflict)) => {
                    let turn = self.turn().await?;
                    self.insert_beside(turn, source, conflict).await
                }
            },
        }
    }

    /// The table's turn, unless the table was altered while it was waited for.
    async fn turn(&self) -> Result<Turn> {
        let target = &self.change.target;
        let turn = Turn::of(&self.shared, &target.open).await?;
        let (now, then) = (Arc::clone(&target.open.definition().stream), &target.stream);
        match now.columns == then.columns && now.table == then.table {
            true => Ok(turn),
            false => Err(tables::altered_meanwhile(target.open.name())),
        }
    }

    async fn insert(&self, source: &Source) -> Result<Done> {
        let queries = self.queries(None)?;
        let rows = self.source(&queries, source).await?;
        let rows = rows.inspect_ok(|rows| self.measure.add_rows(rows.batch.num_rows() as u64));
        let (kept, returned) = (Kept::default(), Mutex::default());
        let last = stream::once(async {
            let came = std::mem::take(&mut *kept.lock());
            let rows = self.returned(&queries, inserted(came)).await?;
            *returned.lock() = rows;
            self.commit()
        });
        let rows = rows.chain(last.try_filter_map(|()| async { Ok(None) })).boxed();
        let keep = self.keeps().then_some(&kept);
        let applied = insert_rows(&self.shared, &self.change.target, rows, keep).await?;
        Ok(Done { rows: applied.come, returned: returned.into_inner() })
    }

    fn keeps(&self) -> bool {
        self.change.returning.is_some()
    }

    async fn change_rows(&self, turn: Turn, change: &RowChange) -> Result<Done> {
        let queries = self.queries(Some(&turn))?;
        let target = &self.change.target;
        let whole = turn.needs_old_content();
        let reads = whole || self.keeps() || change.acts.iter().any(|act| act.comes.is_some());
        let plan = if reads { change.plan.clone() } else { without_content(&change.plan, target)? };
        let rows = queries.rows(&plan, vec![]).await?;
        let mut stepper = Stepper::new(target, change, whole);
        let steps = rows.map(move |batch| batch.and_then(|batch| stepper.steps(&batch)));
        let steps = steps.map_ok(|steps| stream::iter(steps.into_iter().map(Ok))).try_flatten();
        self.apply(turn, &queries, steps.boxed()).await
    }

    /// Hands the steps to the table as one change.
    pub(super) async fn apply(
        &self,
        turn: Turn,
        queries: &Queries<'_>,
        steps: BoxStream<'_, Result<Step>>,
    ) -> Result<Done> {
        let keeps = self.keeps();
        let shown: Mutex<Vec<Shown>> = Mutex::default();
        let (kept, returned) = (Kept::default(), Mutex::default());
        let rows = AtomicU64::new(0);
        let changes = steps.map_ok(|step| {
            rows.fetch_add(step.rows, Ordering::Relaxed);
            self.guard.add_rows(usize::try_from(step.rows).unwrap_or(usize::MAX));
            self.measure.add_rows(step.rows);
            if keeps {
                shown.lock().push(step.shown);
            }
            step.change
        });
        let last = stream::once(async {
            let (shown, came) = (std::mem::take(&mut *shown.lock()), std::mem::take(&mut *kept.lock()));
            let mut came = came.into_iter();
            let shown = shown.into_iter().map(|shown| {
                let come = if shown.old.is_some() { None } else { came.next() };
                (shown, come)
            });
            let rows = self.returned(queries, shown.collect()).await?;
            *returned.lock() = rows;
            self.commit()
        });
        let changes: Changes<'_> = changes.chain(last.try_filter_map(|()| async { Ok(None) })).boxed();
        let _: Applied = turn.apply(changes, keeps.then_some(&kept)).await?;
        Ok(Done { rows: rows.into_inner(), returned: returned.into_inner() })
    }

    /// What RETURNING gives of rows. It is asked for when all changes are known and none is made, so that a statement
    /// whose RETURNING fails has changed nothing.
    async fn returned(
        &self,
        queries: &Queries<'_>,
        shown: Vec<(Shown, Option<RecordBatch>)>,
    ) -> Result<Option<RecordBatch>> {
        let Some(returning) = &self.change.returning else { return Ok(None) };
        let rows = returning.shown(shown)?;
        if returning.is_plain() {
            let rows = rows.iter().filter_map(|rows| returning.at_once(rows)).collect::<Result<Vec<_>>>()?;
            return returning.joined(&rows).map(Some);
        }
        let mut result = Vec::new();
        let mut batches = queries.rows(&returning.plan, rows).await?;
        while let Some(batch) = batches.try_next().await? {
            let batch = returning.names.put_on_batch(batch);
            result.push(batch.map_err(|e| Error::from_datafusion(e.into(), &self.text))?);
        }
        returning.joined(&result).map(Some)
    }

    /// The rows of an INSERT.
    pub(super) async fn source<'a>(
        &'a self,
        queries: &Queries<'a>,
        source: &'a Source,
    ) -> Result<BoxStream<'a, Result<Rows>>> {
        let target = &self.change.target;
        match source {
            Source::Values(values) => {
                let mut computed = Vec::with_capacity(values.computed.len());
                for plan in &values.computed {
                    let mut rows = queries.rows(plan, vec![]).await?;
                    while let Some(batch) = rows.try_next().await? {
                        if batch.num_rows() > 0 {
                            computed.push(batch);
                        }
                    }
                }
                let rows = values.rows(target, &self.params, &computed)?;
                Ok(stream::once(async { Ok(rows) }).boxed())
            }
            Source::Query(query) => {
                let rows = queries.rows(&query.plan, vec![]).await?;
                Ok(rows.map(move |batch| batch.and_then(|batch| query.rows(target, &batch))).boxed())
            }
        }
    }

    /// What queries of this statement run in: all of them see the same.
    pub(super) fn queries(&self, turn: Option<&Turn>) -> Result<Queries<'_>> {
        let mut state = self.shared.context()?.state();
        state.mark_start_execution();
        let point = match turn.and_then(|turn| Some((turn.table().id(), turn.base()?))) {
            Some((id, base)) => ReadPoint::with_table(id, base.clone()),
            None => ReadPoint::default(),
        };
        state.config_mut().set_extension(Arc::new(point));
        if let Some(tries) = self.sparing_try() {
            state = sparing(&state, true, tries);
        }
        let base = state.runtime_env();
        let pool = self.guard.count_memory(Arc::clone(&base.memory_pool));
        *self.pool.lock() = Some(Arc::downgrade(&pool));
        let runtime = Arc::new(RuntimeEnv { memory_pool: pool, ..RuntimeEnv::clone(base) });
        Ok(Queries { work: self, state, runtime })
    }
}

/// Runs the queries of a statement.
pub(super) struct Queries<'a> {
    work: &'a Work,
    state: SessionState,
    runtime: Arc<RuntimeEnv>,
}

impl<'a> Queries<'a> {
    /// The rows of a query, with these rows supplied. They fail once the statement has been stopped.
    pub(super) async fn rows(
        &self,
        plan: &LogicalPlan,
        supplied: Vec<RecordBatch>,
    ) -> Result<BoxStream<'a, Result<RecordBatch>>> {
        let work = self.work;
        let wrap = move |e| Error::from_datafusion(e, &work.text);
        let mut plan = plan.clone();
        if !work.params.is_empty() {
            plan = plan.with_param_values(ParamValues::from(work.params.clone())).map_err(wrap)?;
        }
        let mut state = self.state.clone();
        // Rows are supplied as many as fit into memory: all others go by them.
        let alone = supplied.is_empty();
        if !alone && has_one_join(&plan) {
            state.config_mut().options_mut().optimizer.prefer_hash_join = true;
        }
        state.config_mut().set_extension(Arc::new(SuppliedRows(supplied)));
        let plan = state.create_physical_plan(&plan).await.map_err(wrap)?;
        let plan = stopping_with(plan, &work.end).map_err(wrap)?;
        let mut runtime = Arc::clone(&self.runtime);
        if alone && work.sparing_try().is_some() {
            let memory_pool = shared_out(&runtime.memory_pool, &plan).map_err(wrap)?;
            runtime = Arc::new(RuntimeEnv { memory_pool, ..RuntimeEnv::clone(&runtime) });
        }
        let context = TaskContext::from(&state).with_runtime(runtime);
        let rows: SendableRecordBatchStream = execute_stream(plan, Arc::new(context)).map_err(wrap)?;
        let rows = rows.map_err(wrap).take_until(work.end.cancelled());
        // A result that was cut short is none.
        let cut = stream::once(async move { if work.end.is_cancelled() { Err(cancelled()) } else { Ok(None) } });
        Ok(rows.map_ok(Some).chain(cut).try_filter_map(|rows| async { Ok(rows) }).boxed())
    }
}

fn has_one_join(plan: &LogicalPlan) -> bool {
    let mut joins = 0;
    let counted = plan.apply_with_subqueries(|node| {
        joins += usize::from(matches!(node, LogicalPlan::Join(_) | LogicalPlan::Subquery(_)));
        Ok(TreeNodeRecursion::Continue)
    });
    counted.is_ok() && joins == 1
}

/// The query of rows that go, of whose content nobody needs more than their key: no more is read.
fn without_content(plan: &LogicalPlan, target: &Target) -> Result<LogicalPlan> {
    let wrap = |e| Error::from_datafusion(e, "");
    let (key, schema) = (target.key().unwrap_or_default(), plan.schema());
    let mut exprs = Vec::with_capacity(schema.fields().len());
    for i in 0..schema.fields().len() {
        let (relation, field) = schema.qualified_field(i);
        let needed = i == 0 || i > target.columns().len() || key.contains(&(i - 1));
        exprs.push(match needed {
            true => Expr::Column(Column::new(relation.cloned(), field.name())),
            false => {
                let null = ScalarValue::try_new_null(field.data_type()).map_err(wrap)?;
                lit(null).alias_qualified(relation.cloned(), field.name())
            }
        });
    }
    LogicalPlanBuilder::from(plan.clone()).project(exprs).and_then(LogicalPlanBuilder::build).map_err(wrap)
}

/// Rows that are at hand come, and take the places of those that have their keys, or are left out. `None` where this
/// takes a query.
pub(super) async fn upsert_rows(
    shared: &Arc<Shared>,
    target: &Target,
    conflict: &Conflict,
    rows: Rows,
) -> Result<Option<Upserted>> {
    let Some(met) = conflict.blind() else { return Ok(None) };
    let definition = target.open.definition();
    if definition.stream.columns != target.stream.columns {
        return Ok(None);
    }
    let rows = admitted(shared, target, &definition, rows)?;
    let rows = kept_of_repeats(target, conflict, &mut Keys::new(target)?, rows)?;
    tables::upsert(shared, &target.open, Upsert { rows, met, definition }).await
}

/// Rows come into a table or a stream.
pub(super) async fn insert_rows(
    shared: &Arc<Shared>,
    target: &Target,
    mut rows: BoxStream<'_, Result<Rows>>,
    keep: Option<&Kept>,
) -> Result<Applied> {
    if target.stream.table.is_some() {
        return tables::insert(shared, &target.open, rows, keep).await;
    }
    let handle = StreamHandle::of(shared, &target.open)?;
    // All rows are one append, so they wait in memory, which is the queries'.
    let engine = shared.context()?.runtime_env();
    let waiting = MemoryConsumer::new("rows for a stream").register(&engine.memory_pool);
    let mut admitted = Vec::new();
    while let Some(rows) = rows.try_next().await? {
        let held = waiting.try_grow(2 * rows.batch.get_array_memory_size());
        held.map_err(|e| too_many(target, Error::from_datafusion(e, "")))?;
        let rows = handle.admit(rows)?;
        if let Some(row) = rows.rejected.first() {
            return Err(refused(target, row));
        }
        if let Some(kept) = keep {
            kept.lock().push(rows.batch.clone());
        }
        admitted.push(rows.batch);
    }
    let Some(first) = admitted.first() else { return Ok(Applied::default()) };
    let batch = match admitted.len() {
        1 => first.clone(),
        _ => arrow::compute::concat_batches(&first.schema(), &admitted)
            .map_err(|e| Error::rejected(Code::Internal, format!("rows of one statement differ: {e}")))?,
    };
    let receipt = handle.append(batch, vec![], None).await?;
    Ok(Applied { gone: 0, come: receipt.accepted, duplicate: receipt.duplicate })
}

fn too_many(target: &Target, error: Error) -> Error {
    Error::Rejected {
        code: error.code(),
        message: format!("the rows of one INSERT into stream {} are too many: {error}", target.stream.name),
        hint: Some("nothing was added; insert fewer at a time, or write them to a file and COPY it".to_owned()),
        position: None,
    }
}

fn refused(target: &Target, row: &crate::RejectedRow) -> Error {
    let stream = &target.stream;
    Error::rejected(
        row.code,
        format!("a row of {} {}: {}; it is row {}", stream.kind(), stream.name, row.reason, row.row + 1),
    )
}
