//! Owns ON CONFLICT: which rows meet one that has their key, and what is done then.

use std::collections::HashSet;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::row::{RowConverter, SortField};
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ConflictTarget, Expr, Ident, Join, JoinConstraint, JoinOperator, OnConflict, OnConflictAction,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use millstream_catalog::OFFSET_COLUMN;
use millstream_catalog::fault::Code;
use twox_hash::XxHash64;

use super::assignments::{Becomes, Sets};
use super::ast::{self, Selection};
use super::planner::Planner;
use super::row_change::{Act, Repeats, RowChange};
use super::supplied::{MET_COLUMN, SchemaForm};
use super::target::{Target, refused};
use super::update::in_from;
use crate::sql::folded;
use crate::tables::{Met, same_key};
use crate::{Error, Result};

/// What is done with a row whose key is there.
#[derive(Debug)]
pub(super) enum Conflict {
    /// It is left out.
    Nothing,
    /// The row that is there is changed.
    Update(Box<Update>),
}

/// How rows that are there are changed.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) change: RowChange,
    /// Whether they become just what the statement's rows are: then nobody has to look at them.
    pub(super) replaces: bool,
}

impl Conflict {
    /// What becomes of a row whose key is there, where that takes no look at it.
    pub(super) fn blind(&self) -> Option<Met> {
        match self {
            Conflict::Nothing => Some(Met::LeftOut),
            Conflict::Update(update) => update.replaces.then_some(Met::Replaces),
        }
    }
}

/// Plans an ON CONFLICT; `None` where nothing can conflict.
pub(super) async fn plan(planner: &Planner<'_>, target: &Target, on: &OnConflict) -> Result<Option<Conflict>> {
    target.must_change("ON CONFLICT")?;
    check_target(target, on, planner.text)?;
    let update = match &on.action {
        OnConflictAction::DoNothing => return Ok(target.key().map(|_| Conflict::Nothing)),
        OnConflictAction::DoUpdate(update) => update,
    };
    let text = planner.text;
    let sets = Sets::of(target, text, &update.assignments)?;
    let mut items = ast::row_items(target);
    let first = items.len();
    let values = sets.items.iter().cloned().enumerate();
    items.extend(values.map(|(i, value)| ast::named(value, format!("__set{i}"))));
    let name = &target.stream.name;
    let excluded = Ident::new("excluded");
    let met = Expr::BinaryOp {
        left: Box::new(ast::column_of(&target.alias, OFFSET_COLUMN)),
        op: BinaryOperator::Eq,
        right: Box::new(ast::column_of(&excluded, MET_COLUMN)),
    };
    let mut from = in_from(target);
    let rows = ast::relation(SchemaForm::Excluded.name(name.schema()), name, &excluded);
    let join_operator = JoinOperator::Inner(JoinConstraint::On(met));
    from.joins = vec![Join { relation: rows.relation, global: false, join_operator }];
    let query = Selection { with: None, items, from: vec![from], filter: update.selection.clone() }.query()?;
    let plan = planner.plan(query).await?;
    let comes = sets.resolve(target, &plan, first, &Becomes::Old)?;
    let replaces = update.selection.is_none() && replaces(target, &plan, &comes);
    let others = plan.schema().fields().len()..plan.schema().fields().len();
    let acts = vec![Act { name: "UPDATE", goes: true, comes: Some(comes) }];
    let change = RowChange { plan, acts, picked: None, repeats: Repeats::Never, others };
    Ok(Some(Conflict::Update(Box::new(Update { change, replaces }))))
}

/// Whether each column becomes what the row has that met it: the key's are so already, and what is generated is so if
/// all others are.
fn replaces(target: &Target, plan: &LogicalPlan, comes: &[Becomes]) -> bool {
    let LogicalPlan::Projection(projection) = plan else { return false };
    let key = target.key().unwrap_or_default();
    comes.iter().enumerate().all(|(column, becomes)| match becomes {
        Becomes::Old => key.contains(&column),
        Becomes::Default => target.is_generated(column),
        Becomes::Computed { column: item, .. } => {
            let item = projection.expr.get(*item).map(|item| item.clone().unalias());
            matches!(item, Some(PlanExpr::Column(of)) if of.name == target.columns()[column].name
                && of.relation.as_ref().is_some_and(|relation| relation.table() == "excluded"))
        }
    })
}

/// The only key that rows can meet by is the primary one.
fn check_target(target: &Target, on: &OnConflict, text: &str) -> Result<()> {
    let wrong = |code, message: &str, span| Err(refused(code, message, text, span));
    let key = target.stream.table.as_ref().and_then(|table| table.primary_key.as_ref());
    match (&on.conflict_target, key) {
        (None, _) => match on.action {
            OnConflictAction::DoNothing => Ok(()),
            OnConflictAction::DoUpdate(_) => {
                let message = "ON CONFLICT DO UPDATE needs the columns of the primary key: ON CONFLICT (key) DO UPDATE";
                wrong(Code::SyntaxError, message, Span::empty())
            }
        },
        (Some(ConflictTarget::Columns(columns)), key) => {
            let named = columns.iter().map(|column| target.column(column, text)).collect::<Result<HashSet<_>>>()?;
            if target.key().is_some_and(|key| key.into_iter().collect::<HashSet<_>>() == named) {
                return Ok(());
            }
            let span = columns.first().map_or(Span::empty(), |column| column.span);
            let message = match key {
                Some(key) => format!(
                    "no constraint matches the ON CONFLICT: the primary key of {} is ({})",
                    target.stream.name,
                    key.columns.join(", ")
                ),
                None => format!("no constraint matches the ON CONFLICT: {} has no primary key", target.stream.name),
            };
            wrong(Code::InvalidConflictTarget, &message, span)
        }
        (Some(ConflictTarget::OnConstraint(name)), key) => {
            let given = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
            if key.is_some_and(|key| key.name == given) {
                return Ok(());
            }
            let message = format!("{} has no key constraint {given:?}", target.stream.name);
            wrong(Code::UndefinedConstraint, &message, Span::empty())
        }
    }
}

/// Tells which rows of a statement have a key that another row of it had before.
#[derive(Debug)]
pub(super) struct Keys {
    columns: Vec<usize>,
    converter: RowConverter,
    seen: HashSet<(u64, u64)>,
}

impl Keys {
    pub(super) fn new(target: &Target) -> Result<Self> {
        let columns = target.key().unwrap_or_default();
        let fields = columns.iter().map(|column| SortField::new(target.schema.field(*column).data_type().clone()));
        let converter = RowConverter::new(fields.collect()).map_err(unfit)?;
        Ok(Self { columns, converter, seen: HashSet::new() })
    }

    /// The rows that are the first of their key.
    pub(super) fn first(&mut self, rows: &RecordBatch) -> Result<BooleanArray> {
        let columns: Vec<_> = self.columns.iter().map(|column| same_key(rows.column(*column))).collect();
        let keys = self.converter.convert_columns(&columns).map_err(unfit)?;
        // 128 bits of hashes stand for a key.
        let print = |key: &[u8]| (XxHash64::oneshot(1, key), XxHash64::oneshot(2, key));
        Ok(keys.iter().map(|key| Some(self.seen.insert(print(key.as_ref())))).collect())
    }
}

/// DO UPDATE takes no row twice.
pub(super) fn refuse_repeats(target: &Target, first: &BooleanArray) -> Result<()> {
    if first.false_count() == 0 {
        return Ok(());
    }
    Err(Error::Rejected {
        code: Code::CardinalityViolation,
        message: format!("ON CONFLICT DO UPDATE cannot affect a row of {} a second time", target.stream.name),
        hint: Some("rows of one statement must have different keys".to_owned()),
        position: None,
    })
}

/// Rows that a mask holds.
pub(super) fn chosen(rows: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    match mask.false_count() == 0 && mask.null_count() == 0 {
        true => Ok(rows.clone()),
        false => filter_record_batch(rows, mask).map_err(unfit),
    }
}

fn unfit(error: arrow::error::ArrowError) -> Error {
    Error::from_datafusion(error.into(), "")
}
