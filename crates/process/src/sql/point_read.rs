//! Owns point reads: queries of rows of one view by its key, found without the engine's planner and operators.
//!
//! A query's plan is looked at once. If it does nothing but look up rows of a view whose whole key is compared with
//! values, filter them and compute columns from each, then running it takes the values, the view's index and, for columns
//! that are no plain ones, expressions made at that time. It gives what the plan would give. Where it cannot be done at
//! once, since a step is being applied or rows have to be read from the disk, a thread does it that may wait.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, Projection, SkipType, TableScan, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::rows::{cancelled, defect, expired, timed_out};
use crate::read::{KeyFilter, Keys, ViewTable};
use crate::views::OpenView;
use crate::{Error, Result};

/// A query of rows by their key.
#[derive(Debug)]
pub(crate) struct PointRead {
    /// Whoever prepared a statement does not keep a dropped view.
    view: Weak<OpenView>,
    key: Vec<usize>,
    keys: KeyFilter,
    /// What else must hold, and the view's columns that it is over.
    filter: Option<(Arc<dyn PhysicalExpr>, Vec<usize>)>,
    /// The view's columns that what is computed is over.
    reads: Vec<usize>,
    outputs: Vec<Output>,
    schema: SchemaRef,
}

/// A column of the result.
#[derive(Debug)]
enum Output {
    /// A column of the view.
    Column(usize),
    /// An expression over the columns that are read.
    Computed(Arc<dyn PhysicalExpr>),
}

/// What a plan was found to be.
#[derive(Debug, Default)]
pub(crate) struct PointReadCell(OnceLock<Option<Arc<PointRead>>>);

impl PointReadCell {
    /// The point read that the plan is, if it is one. A plan is looked at once its view has an answer.
    pub(crate) fn get(
        &self,
        plan: &LogicalPlan,
        schema: Option<SchemaRef>,
        state: impl FnOnce() -> Result<SessionState>,
    ) -> Option<&Arc<PointRead>> {
        if let Some(known) = self.0.get() {
            return known.as_ref();
        }
        let analysis = match (schema, only_view(plan)) {
            (Some(schema), Some(view)) => PointRead::of(plan, &view, &schema, &state().ok()?),
            _ => Analysis::Other,
        };
        match analysis {
            Analysis::TooEarly => None,
            Analysis::Other => self.0.get_or_init(|| None).as_ref(),
            Analysis::PointRead(read) => self.0.get_or_init(|| Some(Arc::new(read))).as_ref(),
        }
    }
}

/// What a plan comes to.
#[derive(Debug)]
enum Analysis {
    /// It is one.
    PointRead(PointRead),
    /// It is none.
    Other,
    /// Its view is still being built: its key is not known.
    TooEarly,
}

impl PointRead {
    /// Looks at a plan over a view, as SQL made it, whose result is `schema`.
    fn of(plan: &LogicalPlan, view: &Arc<OpenView>, schema: &SchemaRef, state: &SessionState) -> Analysis {
        let Some(key) = view.key() else {
            return if view.grows().is_some() { Analysis::Other } else { Analysis::TooEarly };
        };
        if key.is_empty() {
            return Analysis::Other;
        }
        // What fails here fails when the statement is run as any other.
        let read = state.optimize(plan).ok().and_then(|plan| Self::of_optimized(&plan, view, key, schema, state));
        read.map_or(Analysis::Other, Analysis::PointRead)
    }

    fn of_optimized(
        plan: &LogicalPlan,
        view: &Arc<OpenView>,
        key: Vec<usize>,
        schema: &SchemaRef,
        state: &SessionState,
    ) -> Option<Self> {
        let (plan, mut whole) = without_order(plan);
        let (projected, mut input) = match plan {
            LogicalPlan::Projection(projection) => (Some(&projection.expr), projection.input.as_ref()),
            plan => (None, plan),
        };
        let outer = input;
        // Below the projection that computes there may be others that choose columns.
        let mut choices = Vec::new();
        let filter = loop {
            let (below, whole_below) = without_order(input);
            whole &= whole_below;
            match below {
                LogicalPlan::Filter(filter) => break filter,
                LogicalPlan::Projection(projection) => {
                    choices.push(chosen(projection)?);
                    input = projection.input.as_ref();
                }
                _ => return None,
            }
        };
        let scan = scan_below(&filter.input)?;
        let scanned = scan.projection.clone().unwrap_or_else(|| (0..view.schema().fields().len()).collect());
        let choose = |columns: Vec<usize>, choice: Vec<usize>| choice.into_iter().map(|c| columns[c]).collect();
        let reads: Vec<usize> = choices.into_iter().rev().fold(scanned.clone(), choose);

        let parts = split_conjunction(&filter.predicate);
        let (keys, used) = KeyFilter::of(&parts, &key, view.schema())?;
        let all_rows = whole && scan.fetch.is_none();
        if !(keys.is_single() || all_rows) {
            return None;
        }
        let settled = |part: usize| used.iter().position(|u| *u == part).is_some_and(|column| keys.is_exact(column));
        let rest = (0..parts.len()).filter(|part| !settled(*part)).map(|part| parts[part].clone());
        let physical = |expr: Expr, input: &LogicalPlan| {
            (!has_parameter(&expr)).then(|| state.create_physical_expr(expr, input.schema()).ok()).flatten()
        };
        let filter = match conjunction(rest) {
            Some(rest) => Some((physical(rest, &filter.input)?, scanned)),
            None => None,
        };
        let output = |expr: &Expr| match unaliased(expr) {
            Expr::Column(column) => Some(Output::Column(reads[outer.schema().maybe_index_of_column(column)?])),
            expr => Some(Output::Computed(physical(expr.clone(), outer)?)),
        };
        let outputs: Vec<Output> = match projected {
            Some(exprs) => exprs.iter().map(output).collect::<Option<_>>()?,
            None => reads.iter().map(|column| Output::Column(*column)).collect(),
        };
        let read_schema = outer.schema().as_arrow();
        let type_of = |output: &Output| match output {
            Output::Column(column) => Some(view.schema().field(*column).data_type().clone()),
            Output::Computed(expr) => expr.data_type(read_schema).ok(),
        };
        let fits = outputs.len() == schema.fields().len()
            && outputs.iter().zip(schema.fields()).all(|(o, f)| type_of(o).as_ref() == Some(f.data_type()));
        let schema = Arc::clone(schema);
        fits.then_some(Self { view: Arc::downgrade(view), key, keys, filter, reads, outputs, schema })
    }

    /// The rows, if they can be told at once; `None` where the query has to be run otherwise.
    pub(crate) fn rows_at_hand(&self, params: &[ScalarValue]) -> Result<Option<RecordBatch>> {
        self.rows(params, |view, keys| view.lookup_at_hand(&self.key, keys))
    }

    /// The rows, from a thread that may wait; `None` where the query has to be run otherwise.
    pub(crate) async fn rows_from(
        self: &Arc<Self>,
        workers: Handle,
        params: &[ScalarValue],
        cancel: &CancellationToken,
        timeout: Option<Duration>,
    ) -> Result<Option<RecordBatch>> {
        let (read, params) = (Arc::clone(self), params.to_vec());
        let work = workers.spawn_blocking(move || read.rows(&params, |view, keys| view.lookup(&read.key, keys)));
        tokio::select! {
            rows = work => rows.unwrap_or_else(|broken| Err(defect(&broken))),
            () = cancel.cancelled() => Err(cancelled()),
            () = expired(timeout) => Err(timed_out(timeout)),
        }
    }

    fn rows(
        &self,
        params: &[ScalarValue],
        lookup: impl FnOnce(&OpenView, &[ArrayRef]) -> Result<Option<RecordBatch>>,
    ) -> Result<Option<RecordBatch>> {
        let Some(view) = self.view.upgrade() else { return Ok(None) };
        let wrap = |e| Error::from_datafusion(e, "");
        let found = match self.keys.keys(params).map_err(wrap)? {
            Keys::Unfit => return Ok(None),
            Keys::None => RecordBatch::new_empty(Arc::clone(view.schema())),
            Keys::Some(keys) => match lookup(&view, &keys)? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        self.result(found).map(Some).map_err(wrap)
    }

    /// What the query makes of the rows that were found.
    fn result(&self, mut found: RecordBatch) -> datafusion::error::Result<RecordBatch> {
        let mut read = None;
        if let Some((filter, over)) = &self.filter {
            let kept = filter.evaluate(&found.project(over)?)?.into_array(found.num_rows())?;
            found = filter_record_batch(&found, kept.as_boolean())?;
        }
        let rows = found.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            columns.push(match output {
                Output::Column(column) => Arc::clone(found.column(*column)),
                Output::Computed(expr) => {
                    let read = match &read {
                        Some(read) => read,
                        None => read.insert(found.project(&self.reads)?),
                    };
                    expr.evaluate(read)?.into_array(rows)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// The view that a plan reads, if it reads no other table and makes of it nothing but rows from rows, now as later.
fn only_view(plan: &LogicalPlan) -> Option<Arc<OpenView>> {
    let mut views = Vec::new();
    let mut filtered = false;
    let visited = plan.apply(|node| {
        node.apply_expressions(|expr| {
            if !is_steady(expr) {
                views.push(None);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        match node {
            LogicalPlan::TableScan(scan) => views.push(view_of(scan)),
            LogicalPlan::Filter(_) => filtered = true,
            LogicalPlan::Projection(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_) => {}
            _ => views.push(None),
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match (visited, views.as_mut_slice()) {
        (Ok(_), [view]) if filtered => view.take(),
        _ => None,
    }
}

fn view_of(scan: &TableScan) -> Option<Arc<OpenView>> {
    let provider: Arc<dyn TableProvider> = source_as_provider(&scan.source).ok()?;
    let any: &dyn std::any::Any = provider.as_ref();
    any.downcast_ref::<ViewTable>().map(|table| Arc::clone(table.view()))
}

/// The plan without what makes no difference to a single row: its order, and limits that let it pass. Also whether
/// nothing was left away.
fn without_order(mut plan: &LogicalPlan) -> (&LogicalPlan, bool) {
    let mut whole = true;
    loop {
        plan = match plan {
            LogicalPlan::Sort(sort) if sort.fetch != Some(0) => &sort.input,
            LogicalPlan::Limit(limit)
                if matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)))
                    && matches!(limit.get_fetch_type(), Ok(FetchType::Literal(rows)) if rows != Some(0)) =>
            {
                &limit.input
            }
            LogicalPlan::SubqueryAlias(alias) => {
                plan = &alias.input;
                continue;
            }
            _ => return (plan, whole),
        };
        whole = false;
    }
}

/// The columns that a projection takes, if it does nothing else.
fn chosen(projection: &Projection) -> Option<Vec<usize>> {
    let column = |expr: &Expr| match unaliased(expr) {
        Expr::Column(column) => projection.input.schema().maybe_index_of_column(column),
        _ => None,
    };
    projection.expr.iter().map(column).collect()
}

fn scan_below(mut plan: &LogicalPlan) -> Option<&TableScan> {
    loop {
        plan = match plan {
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::TableScan(scan) if scan.fetch != Some(0) => return Some(scan),
            _ => return None,
        };
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        expr => expr,
    }
}

/// Whether an expression gives the same for the same row and parameters, whenever it is asked, and asks no other table.
fn is_steady(expr: &Expr) -> bool {
    let other = expr.exists(|expr| {
        Ok(match expr {
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::ScalarSubquery(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::ScalarVariable(..)
            | Expr::Unnest(_) => true,
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
            _ => false,
        })
    });
    matches!(other, Ok(false))
}

fn has_parameter(expr: &Expr) -> bool {
    !matches!(expr.exists(|expr| Ok(matches!(expr, Expr::Placeholder(_)))), Ok(false))
}
