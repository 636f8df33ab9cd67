//! Owns what a query's rows do to a table: which rows go, which come in their place, and what they come with.
//!
//! Every statement that changes rows is a query whose first columns are a row's number and its content, NULL where a
//! row of the source met none. Behind them stand the values that the row is given, and what RETURNING needs of other
//! relations. Where more than one thing may be done, a column says which.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use millstream_catalog::OFFSET_COLUMN;
use millstream_catalog::fault::Code;
use roaring::RoaringTreemap;

use super::assignments::Becomes;
use super::target::Target;
use super::values::all_missing;
use crate::tables::Change;
use crate::{Error, Result, Rows};

/// What the rows of a query do.
#[derive(Debug, Clone)]
pub(super) struct RowChange {
    pub(super) plan: LogicalPlan,
    /// What may be done with a row.
    pub(super) acts: Vec<Act>,
    /// The column that says which, by number; without one the first is done with all rows.
    pub(super) picked: Option<usize>,
    pub(super) repeats: Repeats,
    /// The columns that other relations have for RETURNING.
    pub(super) others: std::ops::Range<usize>,
}

/// One thing that may be done with a row.
#[derive(Debug, Clone)]
pub(super) struct Act {
    /// As `merge_action()` calls it.
    pub(super) name: &'static str,
    /// Whether the row goes.
    pub(super) goes: bool,
    /// What comes, by the target's columns.
    pub(super) comes: Option<Vec<Becomes>>,
}

/// What becomes of a row that a query gives more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// There is none.
    Never,
    /// The first one counts.
    FirstCounts,
    /// It is an error.
    Refused,
}

/// What a piece of the query's rows does.
pub(super) struct Step {
    pub(super) change: Change,
    /// What RETURNING shows of it.
    pub(super) shown: Shown,
    /// How many rows are affected.
    pub(super) rows: u64,
}

/// What RETURNING shows of some rows: the target's columns, what was done, columns of other relations.
pub(super) struct Shown {
    /// The old rows, where none come; else those that came, which the table gives back.
    pub(super) old: Option<RecordBatch>,
    pub(super) action: &'static str,
    pub(super) others: Vec<ArrayRef>,
}

/// Turns a query's rows into steps.
pub(super) struct Stepper<'a> {
    target: &'a Target,
    change: &'a RowChange,
    /// The columns that rows that go are told by, beside their number: the key's, or all.
    gone_columns: Vec<usize>,
    gone_schema: SchemaRef,
    seen: RoaringTreemap,
}

impl<'a> Stepper<'a> {
    /// `whole` says whether rows that go are told with all of their content.
    pub(super) fn new(target: &'a Target, change: &'a RowChange, whole: bool) -> Self {
        let gone_columns: Vec<usize> = match whole {
            true => (0..target.columns().len()).collect(),
            false => target.key().unwrap_or_default(),
        };
        let own = gone_columns.iter().map(|column| Arc::clone(&target.schema.fields()[*column]));
        let number = Arc::new(Field::new(OFFSET_COLUMN, DataType::Int64, false));
        let gone_schema = Arc::new(Schema::new(own.chain(std::iter::once(number)).collect::<Vec<_>>()));
        Self { target, change, gone_columns, gone_schema, seen: RoaringTreemap::new() }
    }

    /// What these rows do.
    pub(super) fn steps(&mut self, rows: &RecordBatch) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for (i, act) in self.change.acts.iter().enumerate() {
            let picked = match self.change.picked {
                None => rows.clone(),
                Some(column) => {
                    let picks = cast(rows.column(column), &DataType::Int32).map_err(unfit)?;
                    let picks = picks.as_primitive::<Int32Type>();
                    let mask: BooleanArray = picks.iter().map(|pick| Some(pick == i32::try_from(i).ok())).collect();
                    filter_record_batch(rows, &mask).map_err(unfit)?
                }
            };
            let picked = if act.goes { self.once(picked)? } else { picked };
            if picked.num_rows() > 0 {
                steps.push(self.step(act, &picked)?);
            }
        }
        Ok(steps)
    }

    /// The rows whose number was not there yet.
    fn once(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        if self.change.repeats == Repeats::Never {
            return Ok(rows);
        }
        let numbers = rows.column(0).as_primitive::<Int64Type>().clone();
        let first: BooleanArray =
            numbers.values().iter().map(|number| Some(self.seen.insert(*number as u64))).collect();
        match (first.false_count(), self.change.repeats) {
            (0, _) => Ok(rows),
            (_, Repeats::Refused) => Err(Error::Rejected {
                code: Code::CardinalityViolation,
                message: format!("MERGE cannot change a row of {} a second time", self.target.stream.name),
                hint: Some("more than one row of the source meets it: make the source have one".to_owned()),
                position: None,
            }),
            _ => filter_record_batch(&rows, &first).map_err(unfit),
        }
    }

    fn step(&self, act: &Act, rows: &RecordBatch) -> Result<Step> {
        let columns = self.target.columns().len();
        let old = || rows.columns()[1..=columns].iter().zip(self.target.schema.fields()).map(conformed);
        let gone = match act.goes {
            true => {
                let fields = self.target.schema.fields();
                let own = self.gone_columns.iter().map(|column| conformed((rows.column(column + 1), &fields[*column])));
                let columns = own.chain(std::iter::once(Ok(Arc::clone(rows.column(0)))));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                Some(RecordBatch::try_new(Arc::clone(&self.gone_schema), columns).map_err(unfit)?)
            }
            false => None,
        };
        let come = act.comes.as_ref().map(|comes| self.come(comes, rows)).transpose()?;
        let shown = Shown {
            old: match come {
                Some(_) => None,
                None => {
                    let columns = old().collect::<Result<Vec<_>>>()?;
                    Some(RecordBatch::try_new(Arc::clone(&self.target.schema), columns).map_err(unfit)?)
                }
            },
            action: act.name,
            others: rows.columns()[self.change.others.clone()].to_vec(),
        };
        Ok(Step { change: Change { gone, come }, shown, rows: rows.num_rows() as u64 })
    }

    fn come(&self, comes: &[Becomes], rows: &RecordBatch) -> Result<Rows> {
        let mut columns = Vec::with_capacity(comes.len());
        let mut missing = Vec::with_capacity(comes.len());
        for (i, (becomes, field)) in comes.iter().zip(self.target.schema.fields()).enumerate() {
            let (column, absent) = match becomes {
                Becomes::Old => (conformed((rows.column(i + 1), field))?, None),
                Becomes::Default => {
                    (new_null_array(field.data_type(), rows.num_rows()), Some(all_missing(rows.num_rows())))
                }
                Becomes::Computed { column, assignment } => (assignment.apply(rows.column(*column))?, None),
            };
            columns.push(column);
            missing.push(absent);
        }
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.target.schema), columns, &Target::rows(rows.num_rows()));
        Ok(Rows { batch: batch.map_err(unfit)?, missing })
    }
}

impl Shown {
    /// The rows as RETURNING sees them; `come` are the rows that came, where there are any.
    pub(super) fn rows(self, come: Option<&RecordBatch>, acts: bool, schema: &SchemaRef) -> Result<RecordBatch> {
        let Some(own) = self.old.as_ref().or(come) else {
            return Err(Error::rejected(Code::Internal, "rows that came were not given back"));
        };
        let action = acts.then(|| Arc::new(StringArray::from(vec![self.action; own.num_rows()])) as ArrayRef);
        let columns = own.columns().iter().cloned().chain(action).chain(self.others);
        let columns = columns.zip(schema.fields()).map(|(column, field)| conformed((&column, field)));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &Target::rows(own.num_rows())).map_err(unfit)
    }
}

/// A column with the type that its field has: the engine may give texts in another form.
fn conformed((column, field): (&ArrayRef, &Arc<Field>)) -> Result<ArrayRef> {
    match column.data_type() == field.data_type() {
        true => Ok(Arc::clone(column)),
        false => cast(column, field.data_type()).map_err(unfit),
    }
}

fn unfit(error: arrow::error::ArrowError) -> Error {
    Error::from_datafusion(error.into(), "")
}
