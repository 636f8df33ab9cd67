//! Owns RETURNING: a query over the rows that a statement changed, as they are when it is done.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Cast, Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Expr, ExprWithAlias, Ident, ObjectName as SqlName, Select, SelectItem, SelectItemQualifiedWildcardKind, VisitMut,
    VisitorMut,
};
use millstream_catalog::fault::Code;

use super::ast;
use super::supplied::SuppliedTable;
use super::target::{Target, refused};
use crate::decimals::Digits;
use crate::sql::{ColumnNames, check_uuid_casts, folded, name_of, spell_intervals};
use crate::{Error, Result};

/// What `merge_action()` is called among the columns.
const ACTION: &str = "__action";

/// What a statement gives back of the rows that it changed.
#[derive(Debug, Clone)]
pub(super) struct Returning {
    /// The query over a [`SuppliedTable`].
    pub(super) plan: LogicalPlan,
    pub(super) names: ColumnNames,
    /// The columns of the result.
    pub(super) schema: SchemaRef,
    /// What the rows that are supplied look like: the target's columns, what the statement did to the row, and columns
    /// of the other relations that it names.
    pub(super) rows: SchemaRef,
    /// Whether what was done is among them.
    pub(super) acts: bool,
    /// The columns that it is, where it computes nothing.
    pub(super) plain: Option<Vec<usize>>,
}

/// The relations of a statement, as RETURNING may name them.
pub(super) struct Relations<'a> {
    pub(super) target: &'a Target,
    /// Whether RETURNING may ask what was done.
    pub(super) acts: bool,
    /// Columns of the others, by relation.
    pub(super) others: Vec<(Option<TableReference>, FieldRef)>,
}

impl Returning {
    /// Plans the items of a RETURNING; `text` is the statement.
    pub(super) fn plan(
        state: &SessionState,
        text: &str,
        items: &[SelectItem],
        relations: &Relations<'_>,
    ) -> Result<Self> {
        let wrap = |e| Error::from_datafusion(e, text);
        let seen = relations.columns();
        let fields = seen.iter().enumerate().map(|(i, (_, field))| field.as_ref().clone().with_name(format!("c{i}")));
        let rows = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        let source = provider_as_source(Arc::new(SuppliedTable::new(Arc::clone(&rows))));
        let scan = LogicalPlanBuilder::scan("returned", source, None).map_err(wrap)?;
        let under_names = seen.iter().enumerate().map(|(i, (relation, field))| {
            let column = PlanExpr::Column(Column::new(Some("returned"), format!("c{i}")));
            column.alias_qualified(relation.clone(), field.name())
        });
        let over = scan.project(under_names).map_err(wrap)?;
        let schema = over.schema().as_ref().clone();
        let mut exprs = Vec::new();
        for item in items {
            expand(state, text, item, &schema, &seen, &mut exprs)?;
        }
        let plain = exprs.iter().map(|(_, expr)| plain_column(expr, &schema)).collect();
        let (names, exprs): (Vec<String>, Vec<PlanExpr>) = exprs.into_iter().unzip();
        // Columns of one name are told apart inside, and shown as they were asked for.
        let exprs = exprs.into_iter().enumerate().map(|(i, expr)| expr.alias(format!("r{i}")));
        let plan = over.project(exprs).and_then(LogicalPlanBuilder::build);
        let plan = plan.and_then(|plan| of_known_types(state, plan)).map_err(wrap)?;
        let names = ColumnNames::these(names);
        let schema = names.put_on(&Arc::new(Schema::clone(plan.schema().as_arrow())));
        Ok(Self { plan, names, schema, rows, acts: relations.acts, plain })
    }

    /// The result, where it is nothing but columns of the rows.
    pub(super) fn at_once(&self, rows: &RecordBatch) -> Option<Result<RecordBatch>> {
        let plain = self.plain.as_ref()?;
        let columns: Vec<ArrayRef> = plain.iter().map(|column| Arc::clone(rows.column(*column))).collect();
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &Target::rows(rows.num_rows()));
        Some(batch.map_err(|e| Error::from_datafusion(e.into(), "")))
    }
}

impl Relations<'_> {
    /// Every column under its relation: the target's, what was done, the others'.
    fn columns(&self) -> Vec<(Option<TableReference>, FieldRef)> {
        let alias = TableReference::bare(folded(&self.target.alias));
        let own = self.target.schema.fields().iter().map(|field| (Some(alias.clone()), Arc::clone(field)));
        let action = self.acts.then(|| (None, Arc::new(Field::new(ACTION, DataType::Utf8, true))));
        own.chain(action).chain(self.others.iter().cloned()).collect()
    }
}

type Columns = [(Option<TableReference>, FieldRef)];

/// Adds what an item is: expressions with the names that they are shown under.
fn expand(
    state: &SessionState,
    text: &str,
    item: &SelectItem,
    schema: &DFSchema,
    columns: &Columns,
    out: &mut Vec<(String, PlanExpr)>,
) -> Result<()> {
    match item {
        SelectItem::Wildcard(_) => out.extend(all(columns, None)),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            let relation = name.0.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
            let before = out.len();
            out.extend(all(columns, Some(&relation)));
            if out.len() == before {
                let message = format!("there is no table {relation:?} in the statement");
                return Err(Error::rejected(Code::UndefinedObject, message));
            }
        }
        SelectItem::UnnamedExpr(expr) => {
            out.push((name_of(expr), planned(state, text, expr, schema)?));
        }
        SelectItem::ExprWithAlias { expr, alias } => {
            out.push((folded(alias), planned(state, text, expr, schema)?));
        }
        other => {
            let message = format!("{other} cannot be returned");
            return Err(Error::rejected(Code::Unsupported, message));
        }
    }
    Ok(())
}

fn all<'a>(columns: &'a Columns, of: Option<&'a str>) -> impl Iterator<Item = (String, PlanExpr)> + 'a {
    columns.iter().filter_map(move |(relation, field)| {
        let wanted = match (of, relation) {
            (_, None) => field.name() != ACTION && of.is_none(),
            (None, Some(_)) => true,
            (Some(of), Some(relation)) => relation.table() == of,
        };
        let column = PlanExpr::Column(Column::new(relation.clone(), field.name()));
        wanted.then(|| (field.name().clone(), column))
    })
}

fn planned(state: &SessionState, text: &str, expr: &Expr, schema: &DFSchema) -> Result<PlanExpr> {
    let wrap = |e| Error::from_datafusion(e, text);
    let mut expr = expr.clone();
    if let ControlFlow::Break(span) = VisitMut::visit(&mut expr, &mut Replaced) {
        return Err(refused(
            Code::Unsupported,
            "a subquery in RETURNING is not supported: query behind the statement",
            text,
            span,
        ));
    }
    check_uuid_casts(&mut expr);
    spell_intervals(&mut expr);
    let digits = Digits::of(&mut expr);
    let expr = state
        .create_logical_expr_from_sql_expr(ExprWithAlias { expr, alias: None }, schema)
        .and_then(|expr| digits.exact_expr(expr, schema))
        .map_err(wrap)?;
    let aggregates = expr.exists(|e| Ok(matches!(e, PlanExpr::AggregateFunction(_) | PlanExpr::WindowFunction(_))));
    if aggregates.map_err(wrap)? {
        let message = "aggregate and window functions are not allowed in RETURNING";
        return Err(Error::rejected(Code::InvalidRequest, message));
    }
    Ok(expr)
}

/// Names what `merge_action()` gives; stops at subqueries.
struct Replaced;

impl VisitorMut for Replaced {
    type Break = datafusion::sql::sqlparser::tokenizer::Span;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        ControlFlow::Break(select.select_token.0.span)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(call) = expr
            && call.name.to_string().eq_ignore_ascii_case("merge_action")
        {
            *expr = Expr::Identifier(Ident::with_quote('"', ACTION));
        }
        ControlFlow::Continue(())
    }
}

/// A projection whose columns have the types that its rows come in: the branches of a CASE, for example, are of one type
/// only when the plan is made to run. What a parameter takes part in is cast, as its type is told with its value.
fn of_known_types(state: &SessionState, plan: LogicalPlan) -> datafusion::error::Result<LogicalPlan> {
    let coerced = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
    let LogicalPlan::Projection(projection) = plan else { return Ok(plan) };
    let typed = projection.expr.into_iter().zip(projection.schema.fields()).zip(coerced.schema().fields());
    let typed = typed.map(|((expr, before), after)| {
        let open = expr.exists(|e| Ok(matches!(e, PlanExpr::Placeholder(_))))?;
        if before.data_type() == after.data_type() && !open || *after.data_type() == DataType::Null {
            return Ok(expr);
        }
        let expr = expr.unalias();
        let expr = match expr {
            PlanExpr::Placeholder(_) => expr,
            expr => PlanExpr::Cast(Cast::new(Box::new(expr), after.data_type().clone())),
        };
        Ok(expr.alias(before.name()))
    });
    let typed = typed.collect::<datafusion::error::Result<Vec<_>>>()?;
    LogicalPlanBuilder::from(Arc::unwrap_or_clone(projection.input)).project(typed)?.build()
}

fn plain_column(expr: &PlanExpr, schema: &DFSchema) -> Option<usize> {
    match expr {
        PlanExpr::Column(column) => schema.maybe_index_of_column(column),
        _ => None,
    }
}

/// The items that a query gives for RETURNING beside the target's columns: all of the other relations.
pub(super) fn other_items(returning: bool, others: &[SqlName]) -> Vec<SelectItem> {
    if returning { others.iter().map(|other| ast::all_of(other, None)).collect() } else { Vec::new() }
}
