//! Owns the way from a logical plan to nodes.
//!
//! Linear operators are collected into one plan over slots, its [`Part`]; an operator that keeps state seals what is
//! below it into nodes and begins a new part whose one slot is the operator's output. The weight column travels as the
//! last column of every part.

mod aggregate;
mod closing;
mod event_time;
mod join;
mod linear;
mod lookup;
pub(crate) mod refuse;
mod session;
mod sessions;
mod source;
pub(crate) mod stable;
mod summed;
mod sums;
mod time_bound;
mod window;

use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use futures::future::BoxFuture;

use crate::Result;
use crate::WatermarkSpec;
use crate::fragment::Fragment;
use crate::node::{Constant, Linear, Node};
use crate::slot::{Cell, Slot};

pub(crate) use event_time::{Bound, EVENT_TIME, Times};
pub(crate) use lookup::lookups_apart;
pub use lookup::{looked_up, tables_looked_up, without_lookups};
pub(crate) use source::detached;

/// How the rows of an input can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// Rows only come.
    AppendOnly,
    /// Rows come and go.
    Changing,
}

/// A table that a query reads.
#[derive(Debug, Clone)]
pub struct ViewInput {
    /// Its name, as the plan has it.
    pub table: TableReference,
    /// Its columns, in order, all of them unless [`crate::Dataflow::narrow`] says otherwise; deltas given to a step have
    /// them and the weight.
    pub schema: arrow::datatypes::SchemaRef,
    /// How its rows can change.
    pub kind: InputKind,
    /// What is declared of its event times.
    pub watermark: Option<WatermarkSpec>,
    /// Whether rows of other inputs look it up: what is new in it is to be given first.
    pub looked_up: bool,
}

/// The watermark that is declared of a table, if there is one.
pub type WatermarkOf<'a> = dyn Fn(&TableReference) -> Option<WatermarkSpec> + Sync + 'a;

/// How a query is to be compiled.
#[derive(Clone, Copy, Default)]
pub struct CompileOptions<'a> {
    /// The watermarks of the tables.
    pub watermark_of: Option<&'a WatermarkOf<'a>>,
    /// Whether rows come once, when the watermark has passed their window, and late rows are refused.
    pub emit_on_window_close: bool,
}

/// Linear operators over slots, not yet planned.
pub(crate) struct Part {
    /// Its output has the weight as the last column.
    pub(crate) plan: LogicalPlan,
    /// What fills the slots.
    pub(crate) children: Vec<(Cell, Box<dyn Node>)>,
    /// Whether rows only ever come.
    pub(crate) grows: bool,
    /// Columns of which no two rows have the same values.
    pub(crate) key: Option<Vec<usize>>,
    /// Columns that come of event times.
    pub(crate) times: Times,
    /// What the linear operators do, for EXPLAIN.
    pub(crate) steps: Vec<String>,
}

/// A part that has become a node.
pub(crate) struct Sealed {
    pub(crate) node: Box<dyn Node>,
    /// The rows' columns, without the weight.
    pub(crate) schema: DFSchemaRef,
    pub(crate) grows: bool,
    pub(crate) key: Option<Vec<usize>>,
    pub(crate) times: Times,
}

/// Compiles one query.
pub(crate) struct Compiler<'a> {
    pub(crate) state: &'a SessionState,
    pub(crate) kind_of: &'a (dyn Fn(&TableReference) -> Option<InputKind> + Sync),
    pub(crate) options: CompileOptions<'a>,
    pub(crate) inputs: Vec<ViewInput>,
    /// The first node that takes back rows it gave.
    pub(crate) taken_back_by: Option<String>,
    /// Whether it is at what rows look up.
    looked_up: bool,
    slots: usize,
}

impl<'a> Compiler<'a> {
    pub(crate) fn new(
        state: &'a SessionState,
        kind_of: &'a (dyn Fn(&TableReference) -> Option<InputKind> + Sync),
        options: CompileOptions<'a>,
    ) -> Self {
        Self { state, kind_of, options, inputs: Vec::new(), taken_back_by: None, looked_up: false, slots: 0 }
    }

    /// A new slot for rows of these columns.
    pub(crate) fn slot(&mut self, schema: DFSchemaRef) -> Slot {
        self.slots += 1;
        Slot::new(self.slots, schema)
    }

    /// A part that is one node's output.
    pub(crate) fn part_of(&mut self, sealed: Sealed) -> Result<Part> {
        if !sealed.grows && self.taken_back_by.is_none() {
            self.taken_back_by = Some(sealed.node.describe().title);
        }
        let slot = self.slot(linear::weighted(&sealed.schema)?);
        Ok(Part {
            plan: slot.plan(),
            children: vec![(Arc::clone(&slot.cell), sealed.node)],
            grows: sealed.grows,
            key: sealed.key,
            times: sealed.times,
            steps: Vec::new(),
        })
    }

    pub(crate) fn compile<'b>(&'b mut self, plan: &'b LogicalPlan) -> BoxFuture<'b, Result<Part>> {
        Box::pin(self.compile_node(plan))
    }

    async fn compile_node(&mut self, plan: &LogicalPlan) -> Result<Part> {
        refuse::subqueries(plan)?;
        match plan {
            LogicalPlan::TableScan(scan) => self.source(scan),
            LogicalPlan::Projection(projection) => {
                let part = self.compile(&projection.input).await?;
                linear::project(part, &projection.expr, &projection.input)
            }
            LogicalPlan::Filter(filter) => {
                let part = match filter.input.as_ref() {
                    LogicalPlan::Window(window) => self.first_places(&filter.predicate, window, None).await?,
                    LogicalPlan::Projection(projection) => match projection.input.as_ref() {
                        LogicalPlan::Window(window) => {
                            self.first_places(&filter.predicate, window, Some(projection)).await?
                        }
                        _ => self.compile(&filter.input).await?,
                    },
                    _ => self.compile(&filter.input).await?,
                };
                linear::filter(part, filter.predicate.clone())
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let part = self.compile(&alias.input).await?;
                linear::alias(part, alias)
            }
            LogicalPlan::Unnest(unnest) => {
                let part = self.compile(&unnest.input).await?;
                linear::unnest(part, unnest)
            }
            LogicalPlan::Union(union) => {
                let mut parts = Vec::with_capacity(union.inputs.len());
                for input in &union.inputs {
                    parts.push(self.compile(input).await?);
                }
                linear::union(parts, union)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate).await,
            LogicalPlan::Join(join) => self.join(join).await,
            LogicalPlan::Window(window) => self.window(window, None).await,
            LogicalPlan::Limit(limit) => self.limit(plan, limit).await,
            // The order of a view's rows is its reader's business.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.compile(&sort.input).await,
            LogicalPlan::Sort(sort) => self.top(plan, sort).await,
            LogicalPlan::Repartition(repartition) => self.compile(&repartition.input).await,
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => self.constant(plan).await,
            other => match lookup::lookup(other) {
                Some(lookup) => self.lookup(lookup, false).await,
                None => Err(lookup::misplaced(other).unwrap_or_else(|| refuse::operator(other))),
            },
        }
    }

    /// Rows that are in the query itself.
    async fn constant(&mut self, plan: &LogicalPlan) -> Result<Part> {
        let fragment = Fragment::plan(plan, vec![], self.state).await?;
        let schema = Arc::clone(plan.schema());
        let node = Box::new(Constant::new(fragment, Arc::new(schema.as_arrow().clone())));
        self.part_of(Sealed { node, schema, grows: true, key: None, times: Times::new() })
    }

    /// Turns a part into a node.
    pub(crate) async fn seal(&mut self, mut part: Part) -> Result<Sealed> {
        let schema = linear::unweighted(part.plan.schema())?;
        let (grows, key, times) = (part.grows, part.key.take(), std::mem::take(&mut part.times));
        if matches!(&part.plan, LogicalPlan::Extension(_)) && part.children.len() == 1 {
            let (_, node) = part.children.remove(0);
            return Ok(Sealed { node, schema, grows, key, times });
        }
        let cells = part.children.iter().map(|(cell, _)| Arc::clone(cell)).collect();
        let fragment = Fragment::plan(&part.plan, cells, self.state).await?;
        let children = part.children.into_iter().map(|(_, node)| node).collect();
        let output = Arc::new(linear::weighted(&schema)?.as_arrow().clone());
        let tells_apart = linear::tells_apart(&part.plan);
        let node = Box::new(Linear::new(fragment, children, output, part.steps, tells_apart));
        Ok(Sealed { node, schema, grows, key, times })
    }

    /// Makes each expression a column of the part: gives their numbers. Expressions that are no columns are computed
    /// behind the others.
    pub(crate) fn with_columns(&mut self, part: Part, exprs: &[Expr]) -> Result<(Part, Vec<usize>)> {
        let schema = linear::unweighted(part.plan.schema())?;
        let width = schema.fields().len();
        let mut columns = Vec::with_capacity(exprs.len());
        let mut computed = Vec::new();
        for expr in exprs {
            match expr {
                Expr::Column(column) => columns.push(schema.index_of_column(column)?),
                other => {
                    columns.push(width + computed.len());
                    self.slots += 1;
                    computed.push(other.clone().alias(format!("__key{}", self.slots)));
                }
            }
        }
        if computed.is_empty() {
            return Ok((part, columns));
        }
        let key = part.key.clone();
        let exprs = schema.columns().into_iter().map(Expr::Column).chain(computed).collect::<Vec<_>>();
        let mut part = linear::project_weighted(part, exprs)?;
        part.key = key;
        Ok((part, columns))
    }
}

/// The column of that number.
pub(crate) fn column(schema: &DFSchemaRef, i: usize) -> Column {
    Column::from(schema.qualified_field(i))
}
