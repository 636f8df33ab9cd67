//! Owns joins: inner ones meet kept rows with new ones, the others join again the keys that changed.

use std::sync::Arc;

use datafusion::common::{DFSchemaRef, JoinType, NullEquality};
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};

use super::{Compiler, Part, Sealed, column, event_time, linear};
use crate::Result;
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
        let times = key_times.iter().flat_map(|(i, b)| both(*i).map(|column| (column, b.clone()))).collect();
        let output = Arc::new(linear::weighted(&joined)?.as_arrow().clone());
        let nulls_meet = join.null_equality == NullEquality::NullEqualsNull;
        let label = label(join);
        let node = InnerJoin::new(
            label,
            KeyedInput::new(left, left_keys)?,
            KeyedInput::new(right, right_keys)?,
            output,
            nulls_meet,
            expiry,
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
        let times = key_times.iter().filter_map(|(i, bounds)| Some((known(i)?, bounds.clone()))).collect();
        let output_key = Key::of_parts(&arrow, parts)?;
        let key = match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left.key.clone(),
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right.key.clone(),
            _ => None,
        };
        // With a filter a row on the right could make it fail for a row on the left that is out already.
        let grows = join.join_type == JoinType::LeftSemi && left.grows && right.grows && join.filter.is_none();
        let inputs = vec![KeyedInput::new(left, left_keys)?, KeyedInput::new(right, right_keys)?];
        let outer = usize::from(matches!(
            join.join_type,
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark
        ));
        let node = Keyed::new(label(join), fragment, inputs, arrow, output_key, None)?.leaving_out_of(outer);
        let node = Box::new(node.expiring(expiry));
        let part = self.part_of(Sealed { node, schema: Arc::clone(&joined), grows, key, times })?;
        without_computed(part, &joined, &join.schema)
    }
}

/// Leaves out the columns that were computed for the key.
fn without_computed(part: Part, joined: &DFSchemaRef, wanted: &DFSchemaRef) -> Result<Part> {
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
