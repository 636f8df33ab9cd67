//! Owns parsed and planned statements.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use millstream_catalog::fault::Code;

use super::column_names::ColumnNames;
use super::optimized::OptimizedCell;
use super::point_read::PointReadCell;
use crate::ddl::{Command, ParsedStatement};
use crate::dml::PlannedChange;
use crate::{Error, Result};

/// A parsed statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its text, without the `;`.
    pub text: String,
    pub(crate) parsed: Arc<ParsedStatement>,
}

impl Statement {
    pub(crate) fn command(&self) -> &Command {
        &self.parsed.command
    }
}

/// A planned statement. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prepared {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    statement: Statement,
    query: Option<PlannedQuery>,
    change: Option<Arc<PlannedChange>>,
    tag: &'static str,
    parameters: Vec<Option<DataType>>,
    schema: Option<SchemaRef>,
    names: ColumnNames,
}

/// A query's plan.
#[derive(Debug)]
pub(crate) struct PlannedQuery {
    pub(crate) plan: LogicalPlan,
    /// Which state of the catalog it was planned over.
    pub(crate) generation: u64,
    /// How it is run without the plan, if it can be.
    pub(crate) point_read: PointReadCell,
    /// The plan as the optimizer leaves it.
    pub(crate) optimized: OptimizedCell,
}

impl Prepared {
    /// A query, planned over that state of the catalog.
    pub(crate) fn query(
        statement: Statement,
        plan: LogicalPlan,
        generation: u64,
        tag: &'static str,
        names: ColumnNames,
    ) -> Result<Self> {
        let parameters = parameters(&[&plan], BTreeMap::new())?;
        let schema = names.put_on(&Arc::new(Schema::clone(plan.schema().as_arrow())));
        let query = Some(PlannedQuery {
            plan,
            generation,
            point_read: PointReadCell::default(),
            optimized: OptimizedCell::default(),
        });
        let schema = Some(schema);
        Ok(Self { inner: Arc::new(Inner { statement, query, change: None, tag, parameters, schema, names }) })
    }

    /// A statement that changes rows.
    pub(crate) fn of_change(statement: Statement, change: PlannedChange) -> Result<Self> {
        let parameters = parameters(&change.plans(), change.parameters())?;
        let (schema, tag, names) = (change.schema(), change.tag(), ColumnNames::default());
        let change = Some(Arc::new(change));
        Ok(Self { inner: Arc::new(Inner { statement, query: None, change, tag, parameters, schema, names }) })
    }

    /// A command of the engine's own; `schema` where it returns rows.
    pub(crate) fn command(statement: Statement, schema: Option<SchemaRef>, tag: &'static str) -> Self {
        let (parameters, names) = (vec![], ColumnNames::default());
        Self { inner: Arc::new(Inner { statement, query: None, change: None, tag, parameters, schema, names }) }
    }

    pub(crate) fn statement(&self) -> &Statement {
        &self.inner.statement
    }

    pub(crate) fn planned(&self) -> Option<&PlannedQuery> {
        self.inner.query.as_ref()
    }

    pub(crate) fn change(&self) -> Option<&Arc<PlannedChange>> {
        self.inner.change.as_ref()
    }

    /// Which state of the catalog it was planned over; `None` for commands.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.planned().map(|query| query.generation).or(self.change().map(|change| change.generation))
    }

    pub(crate) fn tag(&self) -> &'static str {
        self.inner.tag
    }

    pub(crate) fn names(&self) -> &ColumnNames {
        &self.inner.names
    }

    /// Whether clients that know this one's parameters and columns can use the other.
    pub(crate) fn looks_like(&self, other: &Prepared) -> bool {
        let same_columns = match (&self.inner.schema, &other.inner.schema) {
            (Some(a), Some(b)) => {
                let same = |(a, b): (&Arc<Field>, &Arc<Field>)| {
                    a.name() == b.name() && a.data_type() == b.data_type() && a.metadata() == b.metadata()
                };
                a.fields().len() == b.fields().len() && a.fields().iter().zip(b.fields()).all(same)
            }
            (a, b) => a.is_none() && b.is_none(),
        };
        same_columns && self.inner.parameters == other.inner.parameters
    }

    /// The types of `$1`, `$2`, …; `None` where the statement does not tell.
    pub fn parameter_types(&self) -> &[Option<DataType>] {
        &self.inner.parameters
    }

    /// The result's columns; `None` for statements that return no rows. Field metadata tells JSON and UUID from text
    /// (`millstream_catalog::LOGICAL_TYPE_KEY`).
    pub fn schema(&self) -> Option<SchemaRef> {
        self.inner.schema.clone()
    }

    /// The result's columns when the parameters have these values: their types may decide the columns', as in
    /// `SELECT $1`.
    pub fn schema_with(&self, params: &[ScalarValue]) -> Option<SchemaRef> {
        let Some(query) = self.planned() else { return self.schema() };
        let plan = query.plan.clone().with_param_values(ParamValues::from(params.to_vec()));
        match plan {
            Ok(plan) => Some(self.inner.names.put_on(&Arc::new(Schema::clone(plan.schema().as_arrow())))),
            Err(_) => self.schema(),
        }
    }

    /// Whether it is a query, run by the planner, and no command of the engine's own.
    pub fn is_query(&self) -> bool {
        self.inner.query.is_some()
    }

    /// The statement's text.
    pub fn text(&self) -> &str {
        &self.inner.statement.text
    }
}

/// The types of a statement's parameters, by number: those that are `known`, and those of its plans.
fn parameters(plans: &[&LogicalPlan], mut known: BTreeMap<usize, DataType>) -> Result<Vec<Option<DataType>>> {
    let mut by_number: Vec<Option<DataType>> = Vec::new();
    let mut put = |number: usize, data_type: Option<DataType>| {
        if by_number.len() < number {
            by_number.resize(number, None);
        }
        by_number[number - 1] = by_number[number - 1].take().or(data_type);
    };
    while let Some((number, data_type)) = known.pop_first() {
        put(number, Some(data_type));
    }
    for plan in plans {
        let types: HashMap<String, Option<DataType>> =
            plan.get_parameter_types().map_err(|e| Error::rejected(Code::TypeMismatch, e.strip_backtrace()))?;
        let others = other_parameters(plan);
        for (name, data_type) in types {
            let data_type = data_type.or_else(|| others.get(&name).cloned());
            let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
            let Some(number) = number.filter(|n| (1..=65535).contains(n)) else {
                let message = format!("parameter {name} is not of the form $1, $2, …");
                return Err(Error::rejected(Code::SyntaxError, message));
            };
            put(number, data_type);
        }
    }
    Ok(by_number)
}

/// The types of parameters that the planner does not find by itself: of one that stands for an array which is searched,
/// as `$1` in `id = ANY($1)`, an array of what is looked for; of one that is cast, as in `$1::int[]`, that type.
fn other_parameters(plan: &LogicalPlan) -> HashMap<String, DataType> {
    let mut types = HashMap::new();
    let _ = plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.name() == "array_has"
                    && let [Expr::Placeholder(parameter), item] = call.args.as_slice()
                    && let Ok(item) = item.get_type(&schema)
                {
                    let item = Field::new_list_field(item, true);
                    types.insert(parameter.id.clone(), DataType::List(Arc::new(item)));
                }
                // What is cast to text may be anything.
                if let Expr::Cast(cast) = expr
                    && let Expr::Placeholder(parameter) = cast.expr.as_ref()
                    && !cast.field.data_type().is_string()
                {
                    types.entry(parameter.id.clone()).or_insert_with(|| cast.field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    types
}
