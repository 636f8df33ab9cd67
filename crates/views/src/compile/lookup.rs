//! Owns lookup joins: `JOIN t FOR SYSTEM_TIME AS OF PROCTIME()`, where rows meet what is in `t` when they come.
//!
//! The planner marks such a table ([`looked_up`]). Before the optimizer sees a plan each join over a mark becomes one
//! node, [`Lookup`]: the optimizer may change the order of joins, and what a row meets here depends on it.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, JoinType, NullEquality, TableReference};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::builder::build_join_schema;
use datafusion::logical_expr::utils::{conjunction, find_valid_equijoin_key_pair, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Extension, Filter, Join, LogicalPlan, Operator, Projection, UserDefinedLogicalNodeCore,
};

use super::join::without_computed;
use super::{Compiler, Part, Sealed, column, event_time};
use crate::fragment::Fragment;
use crate::key::Key;
use crate::node::{KeyedInput, LookupJoin, Matches, PAIR};
use crate::{Error, Result};

const CLAUSE: &str = "FOR SYSTEM_TIME AS OF PROCTIME()";

/// What is looked up as it is when rows come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
struct Present {
    input: LogicalPlan,
}

/// Marks what `FOR SYSTEM_TIME AS OF PROCTIME()` stands behind, for dataflows.
pub fn looked_up(plan: LogicalPlan) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(Present { input: plan }) })
}

/// The plan without such marks: a query that runs once reads the present in any case.
pub fn without_lookups(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let plain = plan.transform_up_with_subqueries(|node| match present(&node) {
        Some(input) => Ok(Transformed::yes(input.clone())),
        None => Ok(Transformed::no(node)),
    });
    Ok(plain?.data)
}

/// The tables right behind such marks; `None` for what is no table.
pub fn tables_looked_up(plan: &LogicalPlan) -> Vec<Option<TableReference>> {
    let mut tables = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        match present(node) {
            Some(LogicalPlan::TableScan(scan)) => tables.push(Some(scan.table_name.clone())),
            Some(_) => tables.push(None),
            None => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "looking does not fail");
    tables
}

fn present(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    let any: &dyn std::any::Any = extension.node.as_any();
    any.downcast_ref::<Present>().map(|present| &present.input)
}

/// The lookup that a node of a plan is.
pub(super) fn lookup(plan: &LogicalPlan) -> Option<&Lookup> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    let any: &dyn std::any::Any = extension.node.as_any();
    any.downcast_ref::<Lookup>()
}

/// The plan with its lookup joins as nodes of their own.
pub(crate) fn lookups_apart(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut refused = None;
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match side(&join.right) {
            Some(right) => match Lookup::of(&join, right) {
                Ok(lookup) => Ok(Transformed::yes(lookup.plan())),
                Err(error) => {
                    refused.get_or_insert(error);
                    Ok(Transformed::no(LogicalPlan::Join(join)))
                }
            },
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        LogicalPlan::Filter(filter) => below(filter),
        // What was a join has other columns where it had wider ones before.
        other => Ok(Transformed::no(other)),
    })?;
    match refused {
        Some(error) => Err(error),
        None => Ok(plan.data),
    }
}

/// The right side of a join without its mark, if it has one.
fn side(plan: &LogicalPlan) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let input = side(&alias.input)?;
            plan.with_new_exprs(vec![], vec![input]).ok()
        }
        other => present(other).cloned(),
    }
}

/// Takes the parts of a filter that ask for columns of the left side below the lookup.
fn below(filter: Filter) -> PlanResult<Transformed<LogicalPlan>> {
    let Some(found) = lookup(&filter.input) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
    let (lefts, rests): (Vec<Expr>, Vec<Expr>) =
        split_conjunction(&filter.predicate).into_iter().cloned().partition(|part| of_left(part, found.left.schema()));
    let Some(predicate) = conjunction(lefts) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
    let left = LogicalPlan::Filter(Filter::try_new(predicate, Arc::clone(&found.left))?);
    let found = Lookup { left: Arc::new(left), ..found.clone() }.plan();
    let plan = match conjunction(rests) {
        Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, Arc::new(found))?),
        None => found,
    };
    Ok(Transformed::yes(plan))
}

fn of_left(part: &Expr, left: &DFSchema) -> bool {
    let columns = part.column_refs();
    let subquery = part.exists(|expr| {
        Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
    });
    !columns.is_empty() && columns.iter().all(|column| left.has_column(column)) && !subquery.unwrap_or(true)
}

/// Expressions of the left side and of the right one that are equal.
type Pairs = Vec<(Expr, Expr)>;

/// A join whose left rows meet the right side as it is when they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) left: Arc<LogicalPlan>,
    right: Arc<LogicalPlan>,
    on: Expr,
    /// Inner or left.
    join_type: JoinType,
    schema: DFSchemaRef,
}

impl Lookup {
    fn of(join: &Join, right: LogicalPlan) -> Result<Self> {
        if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
            return Err(Error::not_incremental(
                format!("{} JOIN … {CLAUSE}", join.join_type.to_string().to_uppercase()),
                "rows of the left side look up the right one, so it is JOIN or LEFT JOIN",
            ));
        }
        if join.null_equality == NullEquality::NullEqualsNull {
            return Err(no_key());
        }
        let on = join.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
        let on = conjunction(on.chain(join.filter.clone())).ok_or_else(no_key)?;
        Ok(Self::new(Arc::clone(&join.left), Arc::new(right), on, join.join_type)?)
    }

    fn new(left: Arc<LogicalPlan>, right: Arc<LogicalPlan>, on: Expr, join_type: JoinType) -> PlanResult<Self> {
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &join_type)?);
        Ok(Self { left, right, on, join_type, schema })
    }

    fn plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// Pairs of equal keys, and what else is asked for.
    fn keys(&self) -> Result<(Pairs, Option<Expr>)> {
        let (mut keys, mut rest) = (Vec::new(), Vec::new());
        for part in split_conjunction(&self.on) {
            let pair = match part {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                    find_valid_equijoin_key_pair(left, right, self.left.schema(), self.right.schema())?
                }
                _ => None,
            };
            match pair {
                Some(pair) => keys.push(pair),
                None => rest.push(part.clone()),
            }
        }
        if keys.is_empty() { Err(no_key()) } else { Ok((keys, conjunction(rest))) }
    }

    fn label(&self) -> String {
        format!("{} join on {}", self.join_type.to_string().to_lowercase(), self.on)
    }
}

fn no_key() -> Error {
    Error::not_incremental(
        format!("a JOIN … {CLAUSE} without a key"),
        "rows are looked up by equal columns; write ON a.k = b.k, and further conditions behind AND",
    )
}

/// The error for a mark that is in no join.
pub(super) fn misplaced(plan: &LogicalPlan) -> Option<Error> {
    present(plan)?;
    Some(Error::not_incremental(
        format!("{CLAUSE} here"),
        "it says what rows look up; write it behind the table on the right of JOIN or LEFT JOIN",
    ))
}

impl Compiler<'_> {
    /// A lookup join; with `closes` the windows of its left side close below it.
    pub(super) async fn lookup(&mut self, lookup: &Lookup, closes: bool) -> Result<Part> {
        let right = self.looked_up_side(lookup).await?;
        let left = if closes { self.compile_closing(&lookup.left).await? } else { self.compile(&lookup.left).await? };
        let (keys, rest) = lookup.keys()?;
        let (lefts, rights): (Vec<Expr>, Vec<Expr>) = keys.into_iter().unzip();
        let (left, left_keys) = self.with_columns(left, &lefts)?;
        let (right, right_keys) = self.with_columns(right, &rights)?;
        let left = self.seal(left).await?;
        let right = self.seal(right).await?;
        let joined: DFSchemaRef = Arc::new(build_join_schema(&left.schema, &right.schema, &lookup.join_type)?);
        let width = left.schema.fields().len();
        // No two rows of the right side meet one of the left.
        let one = right.key.as_ref().is_some_and(|key| key.iter().all(|column| right_keys.contains(column)));
        let key = match (&left.key, &right.key) {
            (Some(left), _) if one => Some(left.clone()),
            (Some(left), Some(right)) if lookup.join_type == JoinType::Inner => {
                Some(left.iter().copied().chain(right.iter().map(|i| i + width)).collect())
            }
            _ => None,
        };
        let matches = match rest {
            Some(rest) => Some(self.matches(rest, &left, &right).await?),
            None => None,
        };
        let (grows, times) = (left.grows, left.times.clone());
        let all: Vec<usize> = (0..width).collect();
        let expiry = self.expiry(&event_time::of_key(&times, &all))?;
        let arrow = Arc::new(joined.as_arrow().clone());
        let left_key = Key::of_columns(&Arc::new(left.schema.as_arrow().clone()), &left_keys)?;
        let outer = lookup.join_type == JoinType::Left;
        let right = KeyedInput::new(right, right_keys)?;
        let node = LookupJoin::new(lookup.label(), (left, left_key), right, arrow, matches, outer, expiry)?;
        let part = self.part_of(Sealed { node: Box::new(node), schema: Arc::clone(&joined), grows, key, times })?;
        without_computed(part, &joined, &lookup.schema)
    }

    /// The right side; it has inputs of its own, which come before those of the left one.
    async fn looked_up_side(&mut self, lookup: &Lookup) -> Result<Part> {
        if std::mem::replace(&mut self.looked_up, true) {
            return Err(Error::not_incremental(
                format!("{CLAUSE} inside of what is looked up"),
                "make a stream of the inner query: CREATE STREAM … AS",
            ));
        }
        // What the right side takes back, the left one does not.
        let taken_back_by = self.taken_back_by.take();
        let right = self.compile(&lookup.right).await;
        (self.looked_up, self.taken_back_by) = (false, taken_back_by);
        right
    }

    /// What tells of each pair whether it is one.
    async fn matches(&mut self, condition: Expr, left: &Sealed, right: &Sealed) -> Result<Matches> {
        let pair = Arc::new(Field::new(PAIR, DataType::Int64, false));
        let fields = left.schema.iter().chain(right.schema.iter()).map(|(q, f)| (q.cloned(), Arc::clone(f)));
        let fields = fields.chain([(None, pair)]).collect();
        let schema: DFSchemaRef = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        let slot = self.slot(Arc::clone(&schema));
        let pair = Expr::Column(column(&schema, schema.fields().len() - 1));
        let exprs = vec![condition.alias("__meets"), pair];
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(slot.plan()))?);
        let fragment = Fragment::plan(&plan, vec![slot.cell], self.state).await?;
        Ok(Matches::new(fragment, Arc::new(schema.as_arrow().clone())))
    }
}

impl UserDefinedLogicalNodeCore for Present {
    fn name(&self) -> &str {
        "Present"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLAUSE)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        Ok(inputs.into_iter().next().map_or_else(|| self.clone(), |input| Self { input }))
    }
}

impl PartialOrd for Lookup {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for Lookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.on.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for Lookup {
    fn name(&self) -> &str {
        "Lookup"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.on.clone()]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookup: {}", self.label())
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        let on = exprs.into_iter().next().unwrap_or_else(|| self.on.clone()).unalias();
        let mut inputs = inputs.into_iter().map(Arc::new);
        let left = inputs.next().unwrap_or_else(|| Arc::clone(&self.left));
        let right = inputs.next().unwrap_or_else(|| Arc::clone(&self.right));
        Self::new(left, right, on, self.join_type)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let (mut left, mut right) = (BTreeSet::new(), BTreeSet::new());
        for place in output_columns {
            if *place < width {
                left.insert(*place)
            } else {
                right.insert(place - width)
            };
        }
        for column in self.on.column_refs() {
            left.extend(self.left.schema().maybe_index_of_column(column));
            right.extend(self.right.schema().maybe_index_of_column(column));
        }
        Some(vec![left.into_iter().collect(), right.into_iter().collect()])
    }
}
