//! Owns the running of INSERT with ON CONFLICT: which rows come, which meet one that is there, and what is done then.
//!
//! Rows are taken in as the source gives them, and what is done with them is handed on at once, so that a statement may
//! have more rows than fit into memory. Where rows that are there must be looked at, those that meet them wait until
//! they are worth a query.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{max, min, not};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use millstream_catalog::OFFSET_COLUMN;

use super::conflict::{Conflict, Keys, Update, chosen, refuse_repeats};
use super::insert::Source;
use super::row_change::{Shown, Step, Stepper};
use super::supplied::MET_COLUMN;
use super::target::Target;
use super::work::{Done, Queries, Work};
use crate::engine::Shared;
use crate::stream::Definition;
use crate::tables::{self, Change, RowsByKey, Turn};
use crate::{Error, Result, Rows};

/// Rows that wait for a query have this many bytes at most,
const MOST_WAITING: usize = 16 << 20;
/// and no more than this part of the memory of all queries.
const PART_OF_MEMORY: usize = 8;

impl Work {
    /// Adds rows whose key is not there, and does with the others what ON CONFLICT says.
    pub(super) async fn insert_beside(&self, turn: Turn, source: &Source, conflict: &Conflict) -> Result<Done> {
        let queries = self.queries(Some(&turn))?;
        let rows = self.source(&queries, source).await?;
        let beside = Beside {
            shared: &self.shared,
            target: &self.change.target,
            queries: &queries,
            conflict,
            rows: rows.fuse().boxed(),
            there: turn.rows_by_key().await?,
            whole: turn.needs_old_content(),
            keys: Keys::new(&self.change.target)?,
            waiting: Vec::new(),
            waiting_bytes: 0,
        };
        let steps = stream::try_unfold(beside, |mut beside| async move {
            let steps = beside.next().await?;
            Ok::<_, Error>(steps.map(|steps| (stream::iter(steps.into_iter().map(Ok)), beside)))
        });
        self.apply(turn, &queries, steps.try_flatten().boxed()).await
    }
}

/// The rows of an INSERT beside those that are there.
struct Beside<'a> {
    shared: &'a Shared,
    target: &'a Target,
    queries: &'a Queries<'a>,
    conflict: &'a Conflict,
    rows: BoxStream<'a, Result<Rows>>,
    there: RowsByKey,
    /// Whether rows that go are told with all of their content.
    whole: bool,
    /// Keys of the rows that came.
    keys: Keys,
    /// Rows that meet one that is there, with its number.
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
}

impl Beside<'_> {
    /// What is done with the next rows; `None` behind the last.
    async fn next(&mut self) -> Result<Option<Vec<Step>>> {
        match self.rows.try_next().await? {
            Some(rows) => self.take(rows).await.map(Some),
            None if self.waiting.is_empty() => Ok(None),
            None => self.change().await.map(Some),
        }
    }

    async fn take(&mut self, rows: Rows) -> Result<Vec<Step>> {
        let rows = admitted(self.shared, self.target, &self.target.open.definition(), rows)?;
        let rows = kept_of_repeats(self.target, self.conflict, &mut self.keys, rows)?;
        let met = Int64Array::from(self.there.find(&rows)?);
        let new: BooleanArray = (0..met.len()).map(|row| Some(met.is_null(row))).collect();
        let mut steps = Vec::new();
        let come = chosen(&rows, &new)?;
        if come.num_rows() > 0 {
            steps.push(step(None, come, "INSERT"));
        }
        match self.conflict {
            Conflict::Update(update) if new.true_count() < new.len() => {
                let there = not(&new).map_err(unfit)?;
                let (rows, met) = (chosen(&rows, &there)?, kept_numbers(&met));
                if update.replaces && !self.whole {
                    steps.push(step(Some(self.keys_of(&rows, met)?), rows, "UPDATE"));
                } else {
                    steps.extend(self.wait(with_numbers(&rows, MET_COLUMN, met)?).await?);
                }
            }
            _ => {}
        }
        Ok(steps)
    }

    /// What is told of rows that go: the columns of their keys, and their numbers.
    fn keys_of(&self, rows: &RecordBatch, met: Int64Array) -> Result<RecordBatch> {
        let keys = rows.project(&self.target.key().unwrap_or_default()).map_err(unfit)?;
        with_numbers(&keys, OFFSET_COLUMN, met)
    }

    /// Keeps rows until there are enough for a query.
    async fn wait(&mut self, met: RecordBatch) -> Result<Vec<Step>> {
        self.waiting_bytes += met.get_array_memory_size();
        self.waiting.push(met);
        let most = MOST_WAITING.min(self.shared.options.query_memory_bytes / PART_OF_MEMORY);
        match self.waiting_bytes >= most {
            true => self.change().await,
            false => Ok(Vec::new()),
        }
    }

    /// Changes the rows that those which wait have met.
    async fn change(&mut self) -> Result<Vec<Step>> {
        let Conflict::Update(update) = self.conflict else { return Ok(Vec::new()) };
        let Update { change, .. } = update.as_ref();
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let plan = within(&change.plan, &waiting)?;
        let mut stepper = Stepper::new(self.target, change, self.whole);
        let mut changed = self.queries.rows(&plan, waiting).await?;
        let mut steps = Vec::new();
        while let Some(batch) = changed.try_next().await? {
            steps.extend(stepper.steps(&batch)?);
        }
        Ok(steps)
    }
}

fn step(gone: Option<RecordBatch>, come: RecordBatch, action: &'static str) -> Step {
    let rows = come.num_rows() as u64;
    let missing = vec![None; come.num_columns()];
    let shown = Shown { old: None, action, others: vec![] };
    Step { change: Change { gone, come: Some(Rows { batch: come, missing }) }, shown, rows }
}

/// The rows with a column of numbers behind the others.
fn with_numbers(rows: &RecordBatch, name: &str, numbers: Int64Array) -> Result<RecordBatch> {
    let number: FieldRef = Arc::new(Field::new(name, DataType::Int64, true));
    let fields: Vec<FieldRef> = rows.schema().fields().iter().cloned().chain([number]).collect();
    let columns = rows.columns().iter().cloned().chain([Arc::new(numbers) as ArrayRef]);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.collect()).map_err(unfit)
}

/// The numbers that are there.
fn kept_numbers(met: &Int64Array) -> Int64Array {
    met.iter().flatten().collect::<Vec<_>>().into()
}

/// The query of rows that are met, over the files that may have them alone.
fn within(plan: &LogicalPlan, met: &[RecordBatch]) -> Result<LogicalPlan> {
    let numbers = || met.iter().filter_map(|rows| rows.column_by_name(MET_COLUMN)?.as_primitive_opt::<Int64Type>());
    let least = numbers().filter_map(min::<Int64Type>).min();
    let most = numbers().filter_map(max::<Int64Type>).max();
    let (Some(least), Some(most)) = (least, most) else { return Ok(plan.clone()) };
    let number = Expr::Column(Column::from(plan.schema().qualified_field(0)));
    let filter = number.between(lit(least), lit(most));
    let narrowed = LogicalPlanBuilder::from(plan.clone()).filter(filter).and_then(LogicalPlanBuilder::build);
    narrowed.map_err(|e| Error::from_datafusion(e, ""))
}

/// The rows with their defaults, so that they have their keys.
pub(super) fn admitted(shared: &Shared, target: &Target, definition: &Definition, rows: Rows) -> Result<RecordBatch> {
    let given = rows.batch.clone();
    let admitted = definition.admission.admit(rows, shared.options.clock.now_us())?;
    match admitted.rejected.first() {
        None => Ok(admitted.batch),
        Some(row) => Err(tables::refused_row(&target.stream, &given, row, 0)),
    }
}

/// Of rows with one key, the first may come, or none where one would take the other's place.
pub(super) fn kept_of_repeats(
    target: &Target,
    conflict: &Conflict,
    keys: &mut Keys,
    rows: RecordBatch,
) -> Result<RecordBatch> {
    let first = keys.first(&rows)?;
    match conflict {
        Conflict::Nothing => chosen(&rows, &first),
        Conflict::Update(_) => refuse_repeats(target, &first).map(|()| rows),
    }
}

fn unfit(error: arrow::error::ArrowError) -> Error {
    Error::from_datafusion(error.into(), "")
}
