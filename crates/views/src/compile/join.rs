//! Owns joins: inner ones meet kept rows with new ones, the others join again the keys that changed.

use std::sync::Arc;

use datafusion::common::{DFSchemaRef, JoinType, NullEquality};
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection, Union, lit};
use datafusion::scalar::ScalarValue;

use super::time_bound::TimeBound;
use super::{Bound, Compiler, Part, Sealed, Times, column, event_time, linear};
use crate::Result;
use crate::arrangement::TimeOf;
use crate::fragment::Fragment;
use crate::key::Key;
use crate::node::{InnerJoin, Keyed, KeyedInput};

impl Compiler<'_> {
    pub(super) async fn join(&mut self, join: &Join) -> Result<Part> {
        let left = self.compile(&join.left).await?;
        let right = self.compile(&join.right).await?;
        let (lefts, rights): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let (left, left_keys) = self.with_columns(left, &lefts)?;
        let (right, right_keys) = self.with_columns(right, &rights)?;
        let left = self.seal(left).await?;
        let right = self.seal(right).await?;
        match join.join_type {
            JoinType::Inner => self.inner(join, (left, left_keys), (right, right_keys)),
            _ => self.rejoin(join, (left, left_keys), (right, right_keys)).await,
        }
    }

    fn inner(&mut self, join: &Join, left: (Sealed, Vec<usize>), right: (Sealed, Vec<usize>)) -> Result<Part> {
        let ((left, left_keys), (right, right_keys)) = (left, right);
        let width = left.schema.fields().len();
        let joined: DFSchemaRef = Arc::new(build_join_schema(&left.schema, &right.schema, &JoinType::Inner)?);
        let grows = left.grows && right.grows;
        let key = match (&left.key, &right.key) {
            (Some(l), Some(r)) => Some(l.iter().copied().chain(r.iter().map(|i| i + width)).collect()),
            _ => None,
        };
        let key_times = event_time::paired((&left.times, &left_keys), (&right.times, &right_keys));
        let expiry = self.expiry(&key_times)?;
        let both = |i: usize| [left_keys[i], width + right_keys[i]];
        let mut times: Times = key_times.iter().flat_map(|(i, b)| both(*i).map(|column| (column, b.clone()))).collect();
        let (mut left_expiry, mut right_expiry) = (expiry.clone(), expiry);
        if let Some(bound) = TimeBound::of(join.filter.as_ref(), &left, &right) {
            if let Some(done) = bound.left_done(&right) {
                left_expiry = left_expiry.and(self.expiry_of(TimeOf::Column(bound.left), &done)?);
                times.entry(bound.left).or_insert_with(|| [left.times[&bound.left].clone(), done].concat());
            }
            if let Some(done) = bound.right_done(&left) {
                right_expiry = right_expiry.and(self.expiry_of(TimeOf::Column(bound.right), &done)?);
                let place = width + bound.right;
                times.entry(place).or_insert_with(|| [right.times[&bound.right].clone(), done].concat());
            }
        }
        let output = Arc::new(linear::weighted(&joined)?.as_arrow().clone());
        let nulls_meet = join.null_equality == NullEquality::NullEqualsNull;
        let label = label(join);
        let node = InnerJoin::new(
            label,
            KeyedInput::new(left, left_keys)?,
            KeyedInput::new(right, right_keys)?,
            output,
            nulls_meet,
            [left_expiry, right_expiry],
        );
        let part = self.part_of(Sealed { node: Box::new(node), schema: Arc::clone(&joined), grows, key, times })?;
        let part = match &join.filter {
            Some(filter) => linear::filter(part, filter.clone())?,
            None => part,
        };
        without_computed(part, &joined, &join.schema)
    }

    /// Every other join: the rows of the keys that changed are joined again.
    async fn rejoin(&mut self, join: &Join, left: (Sealed, Vec<usize>), right: (Sealed, Vec<usize>)) -> Result<Part> {
        let ((left, mut left_keys), (right, mut right_keys)) = (left, right);
        let (left_slot, right_slot) = (self.slot(Arc::clone(&left.schema)), self.slot(Arc::clone(&right.schema)));
        let on = left_keys.iter().zip(&right_keys);
        let on = on.map(|(l, r)| (Expr::Column(column(&left.schema, *l)), Expr::Column(column(&right.schema, *r))));
        let over_slots = Join::try_new(
            Arc::new(left_slot.plan()),
            Arc::new(right_slot.plan()),
            on.collect(),
            join.filter.clone(),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        let joined = Arc::clone(&over_slots.schema);
        let plan = LogicalPlan::Join(over_slots);
        let fragment = Fragment::plan(&plan, vec![left_slot.cell, right_slot.cell], self.state).await?;
        // One NULL on the right of NOT IN decides over every row: there is one key only.
        if join.null_aware {
            left_keys.clear();
            right_keys.clear();
        }
        let key_times = event_time::paired((&left.times, &left_keys), (&right.times, &right_keys));
        let expiry = self.expiry(&key_times)?;
        let arrow = Arc::new(joined.as_arrow().clone());
        let width = left.schema.fields().len();
        let parts = left_keys.iter().zip(&right_keys).map(|(l, r)| match join.join_type {
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => vec![*l],
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => vec![*r],
            JoinType::Right => vec![width + r],
            JoinType::Full | JoinType::Inner => vec![*l, width + r],
        });
        let parts: Vec<Vec<usize>> = parts.collect();
        // The columns of a full join may be NULL on either side.
        let known = |i: &usize| if join.join_type == JoinType::Full { None } else { parts[*i].first().copied() };
        let mut times: Times = key_times.iter().filter_map(|(i, bounds)| Some((known(i)?, bounds.clone()))).collect();
        let output_key = Key::of_parts(&arrow, parts)?;
        let key = match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left.key.clone(),
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right.key.clone(),
            _ => None,
        };
        // With a filter a row on the right could make it fail for a row on the left that is out already.
        let grows = join.join_type == JoinType::LeftSemi && left.grows && right.grows && join.filter.is_none();
        let (mut expiries, mut emitted) = (vec![expiry.clone(), expiry.clone()], expiry);
        let kept = Kept::of(join.join_type).filter(|_| !join.null_aware);
        if let Some((side, done)) = kept.and_then(|kept| Some((kept, self.kept_until(join, kept, &left, &right)?))) {
            let place = if side == Kept::Right && join.join_type == JoinType::Right { width } else { 0 } + done.kept;
            let [kept_side, other_side] = if side == Kept::Left { [0, 1] } else { [1, 0] };
            let until = self.expiry_of(TimeOf::Column(done.kept), &done.bounds)?;
            expiries[kept_side] = std::mem::take(&mut expiries[kept_side]).and(until);
            emitted = emitted.and(self.expiry_of(TimeOf::Column(place), &done.bounds)?);
            if let Some(bounds) = &done.others {
                let until = self.expiry_of(TimeOf::Column(done.other), bounds)?;
                expiries[other_side] = std::mem::take(&mut expiries[other_side]).and(until);
            }
            times.entry(place).or_insert(done.bounds);
        }
        let inputs = vec![KeyedInput::new(left, left_keys)?, KeyedInput::new(right, right_keys)?];
        let outer = usize::from(matches!(
            join.join_type,
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark
        ));
        let node = Keyed::new(label(join), fragment, inputs, arrow, output_key, None)?.leaving_out_of(outer);
        let node = Box::new(node.expiring_apart(expiries, emitted));
        let part = self.part_of(Sealed { node, schema: Arc::clone(&joined), grows, key, times })?;
        without_computed(part, &joined, &join.schema)
    }
}

/// The side of which rows come out whether or not they meet one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Left,
    Right,
}

impl Kept {
    fn of(join_type: JoinType) -> Option<Self> {
        match join_type {
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => Some(Self::Left),
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => Some(Self::Right),
            JoinType::Inner | JoinType::Full => None,
        }
    }
}

/// Until when rows are kept of a join that is bounded in time.
struct KeptUntil {
    /// The column of times of the side that is kept, and the bounds below which what it gives is final.
    kept: usize,
    bounds: Vec<Bound>,
    /// The column of the other side, and the bounds below which all that its rows met is final.
    other: usize,
    others: Option<Vec<Bound>>,
}

impl Compiler<'_> {
    fn kept_until(&self, join: &Join, kept: Kept, left: &Sealed, right: &Sealed) -> Option<KeptUntil> {
        let bound = TimeBound::of(join.filter.as_ref(), left, right)?;
        let (bound, kept, other) = match kept {
            Kept::Left => (bound, left, right),
            Kept::Right => (bound.exchanged(), right, left),
        };
        let done = bound.left_done(other)?;
        let bounds = [kept.times.get(&bound.left)?.clone(), done].concat();
        let data_type = kept.schema.field(bound.left).data_type();
        let others = bound.at_least.and_then(|by| bounds.iter().map(|b| b.moved(by, data_type)).collect());
        Some(KeptUntil { kept: bound.left, bounds, other: bound.right, others })
    }
}

/// A full join as a left one, and the rows on the right that meet nothing.
pub(super) fn outer_joins_apart(join: &Join) -> Result<LogicalPlan> {
    let with_type = |join_type| {
        Join::try_new(
            Arc::clone(&join.left),
            Arc::clone(&join.right),
            join.on.clone(),
            join.filter.clone(),
            join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )
    };
    let (left, rest) = (with_type(JoinType::Left)?, with_type(JoinType::RightAnti)?);
    let width = join.left.schema().fields().len();
    let exprs = (0..join.schema.fields().len()).map(|i| {
        let (qualifier, field) = join.schema.qualified_field(i);
        let value = match i.checked_sub(width) {
            Some(i) => Expr::Column(column(&rest.schema, i)),
            None => lit(ScalarValue::try_from(field.data_type())?),
        };
        Ok(value.alias_qualified(qualifier.cloned(), field.name()))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    let rest = Projection::try_new(exprs, Arc::new(LogicalPlan::Join(rest)))?;
    let inputs = vec![Arc::new(LogicalPlan::Join(left)), Arc::new(LogicalPlan::Projection(rest))];
    Ok(LogicalPlan::Union(Union { inputs, schema: Arc::clone(&join.schema) }))
}

/// Leaves out the columns that were computed for the key.
pub(super) fn without_computed(part: Part, joined: &DFSchemaRef, wanted: &DFSchemaRef) -> Result<Part> {
    if joined.fields().len() == wanted.fields().len() {
        return Ok(part);
    }
    let exprs = joined.columns().into_iter().filter(|c| !c.name.starts_with("__key")).map(Expr::Column);
    linear::project_weighted(part, exprs.collect())
}

fn label(join: &Join) -> String {
    let on: Vec<String> = join.on.iter().map(|(l, r)| format!("{l} = {r}")).collect();
    let mut label = format!("{} join", join.join_type.to_string().to_lowercase());
    if !on.is_empty() {
        label.push_str(&format!(" on {}", on.join(" and ")));
    }
    if let Some(filter) = &join.filter {
        label.push_str(&format!(" where {filter}"));
    }
    label
}
