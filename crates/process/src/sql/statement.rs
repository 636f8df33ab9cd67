//! Owns parsed and planned statements.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use millstream_catalog::fault::Code;

use super::column_names::ColumnNames;
use super::point_read::PointReadCell;
use crate::ddl::{Command, ParsedStatement};
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
        let parameters = parameters(&plan).map_err(|(code, message)| Error::rejected(code, message))?;
        let schema = names.put_on(&Arc::new(Schema::clone(plan.schema().as_arrow())));
        let query = Some(PlannedQuery { plan, generation, point_read: PointReadCell::default() });
        Ok(Self { inner: Arc::new(Inner { statement, query, tag, parameters, schema: Some(schema), names }) })
    }

    /// A command of the engine's own; `schema` where it returns rows.
    pub(crate) fn command(statement: Statement, schema: Option<SchemaRef>, tag: &'static str) -> Self {
        let (parameters, names) = (vec![], ColumnNames::default());
        Self { inner: Arc::new(Inner { statement, query: None, tag, parameters, schema, names }) }
    }

    pub(crate) fn statement(&self) -> &Statement {
        &self.inner.statement
    }

    pub(crate) fn planned(&self) -> Option<&PlannedQuery> {
        self.inner.query.as_ref()
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
        let plan = self.planned()?.plan.clone().with_param_values(ParamValues::from(params.to_vec()));
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

/// The types of a plan's parameters, by number.
fn parameters(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>, (Code, String)> {
    let types: HashMap<String, Option<DataType>> =
        plan.get_parameter_types().map_err(|e| (Code::TypeMismatch, e.strip_backtrace()))?;
    let arrays = array_parameters(plan);
    let mut by_number = Vec::new();
    for (name, data_type) in types {
        let data_type = data_type.or_else(|| arrays.get(&name).cloned());
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        let Some(number) = number.filter(|n| (1..=65535).contains(n)) else {
            return Err((Code::SyntaxError, format!("parameter {name} is not of the form $1, $2, …")));
        };
        if by_number.len() < number {
            by_number.resize(number, None);
        }
        by_number[number - 1] = data_type;
    }
    Ok(by_number)
}

/// The types of parameters that stand for an array which is searched, as `$1` in `id = ANY($1)`: arrays of what is
/// looked for. The planner does not find these by itself.
fn array_parameters(plan: &LogicalPlan) -> HashMap<String, DataType> {
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
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    types
}
