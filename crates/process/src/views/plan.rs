//! Owns the way from a view's query to its plan and its dataflow.

use std::collections::BTreeSet;

use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use millstream_catalog::fault::Code;
use millstream_catalog::{
    Column, DEFAULT_SCHEMA, Dependency, INGEST_TIME_COLUMN, ObjectId, ObjectName, View, ViewKind,
};
use millstream_views::{CompileOptions, Dataflow, InputKind, WatermarkSpec, tables_looked_up};

use super::columns;
use super::inline::over_streams;
use super::plain::plain_views_of;
use crate::admit::watermark_of;
use crate::ddl;
use crate::ddl::is_temporary;
use crate::engine::Shared;
use crate::sql::{ColumnNames, SameNames, plan_statement};
use crate::{Error, Result};

/// A query's plan, its columns, and what it reads.
pub(crate) struct PlannedQuery {
    pub(crate) plan: LogicalPlan,
    pub(crate) columns: Vec<Column>,
    pub(crate) depends_on: Vec<Dependency>,
}

/// Plans a query whose statement is at hand; `text` is the statement around it, for the places of errors.
pub(crate) async fn plan_query(shared: &Shared, statement: &Statement, text: &str) -> Result<PlannedQuery> {
    let plan = plan_statement(shared, statement, text, SameNames::Refused).await?;
    let shown = ColumnNames::of(statement, plan.schema().as_arrow()).put_on(plan.schema().inner());
    let columns = columns::of_schema(&shown)?;
    let mut depends_on = dependencies(shared, &plan)?;
    depends_on.extend(plain_views_of(shared, statement));
    Ok(PlannedQuery { plan, columns, depends_on })
}

/// The plan of a view's query, with the view's columns.
pub(super) async fn plan_of(shared: &Shared, view: &View) -> Result<LogicalPlan> {
    let statement = ddl::parse_query(&view.query)?;
    let plan = plan_statement(shared, &statement, &view.query, SameNames::Refused).await?;
    let shown = ColumnNames::of(&statement, plan.schema().as_arrow()).put_on(plan.schema().inner());
    columns::conformed_view(plan, &shown, view)
}

/// The dataflow of a view's query.
pub(super) async fn dataflow(shared: &Shared, view: &View) -> Result<Dataflow> {
    let plan = plan_of(shared, view).await?;
    let is_stream = matches!(view.kind, ViewKind::DerivedStream { .. });
    let flow = compile(shared, plan, Form { is_stream, closes: view.emit_on_window_close }).await?;
    if is_stream {
        refuse_taking_back(&view.name, &flow)?;
    }
    Ok(flow)
}

/// What becomes of a query.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Form {
    /// Whether it writes a stream.
    pub(crate) is_stream: bool,
    /// Whether it has EMIT ON WINDOW CLOSE.
    pub(crate) closes: bool,
}

/// A stream takes no row back.
fn refuse_taking_back(stream: &ObjectName, flow: &Dataflow) -> Result<()> {
    let Some(operator) = flow.taken_back_by() else { return Ok(()) };
    Err(Error::rejected(
        Code::Unsupported,
        format!(
            "stream {stream} can only be given rows, and its query takes rows back that it gave, in {operator:?}: write \
             CREATE MATERIALIZED VIEW, or add EMIT ON WINDOW CLOSE"
        ),
    ))
}

impl PlannedQuery {
    /// Refuses to make something that stays of what goes with a connection.
    pub(super) fn outlives_connections(self) -> Result<Self> {
        match self.depends_on.iter().find(|input| is_temporary(&input.name)) {
            None => Ok(self),
            Some(input) => Err(Error::rejected(
                Code::Unsupported,
                format!("{} is temporary and goes with its connection: no view can stand on it", input.name.name()),
            )),
        }
    }

    /// The plan that gives the columns in the forms in which they are kept.
    pub(crate) fn conformed(self) -> Result<LogicalPlan> {
        columns::conformed(self.plan, &self.columns)
    }

    /// The dataflow of it.
    pub(crate) async fn dataflow(self, shared: &Shared) -> Result<Dataflow> {
        compile(shared, columns::conformed(self.plan, &self.columns)?, Form::default()).await
    }

    /// What EXPLAIN CREATE shows: the nodes, what each keeps and by which key.
    pub(crate) async fn explain(self, shared: &Shared, form: Form) -> Result<String> {
        Ok(compile(shared, columns::conformed(self.plan, &self.columns)?, form).await?.explain())
    }
}

/// The dataflow of a planned query. What gives rows for good, to a stream, as closed windows or as what was looked up,
/// reads streams alone: their positions mean the same for ever.
async fn compile(shared: &Shared, plan: LogicalPlan, form: Form) -> Result<Dataflow> {
    refuse_times_of_tables(shared, &plan)?;
    let looked_up = tables_looked_up(&plan);
    check_looked_up(shared, &looked_up)?;
    let given = form.is_stream || form.closes || !looked_up.is_empty();
    let plan = if given { over_streams(shared, plan).await? } else { plan };
    let kind_of = |table: &TableReference| kind_of(shared, table);
    let state = shared.context()?.state();
    if !form.closes {
        let mut flow = Dataflow::compile(plan, &state, &kind_of).await?;
        // Streams and tables are read column by column; what another view gives is there as a whole.
        flow.narrow(|table| object_name(table).is_some_and(|name| shared.view(&name).is_none()))?;
        return Ok(flow);
    }
    let watermarks = watermarks(shared, &plan, &state)?;
    let watermark_of = |table: &TableReference| watermarks.iter().find(|(of, _)| of == table).map(|(_, w)| w.clone());
    let options = CompileOptions { watermark_of: Some(&watermark_of), emit_on_window_close: true };
    Ok(Dataflow::compile_with(plan, &state, &kind_of, options).await?)
}

/// Refuses what is not known of rows that go from a table: when they came.
fn refuse_times_of_tables(shared: &Shared, plan: &LogicalPlan) -> Result<()> {
    let is_table = |name: &ObjectName| shared.stream(name).is_ok_and(|stream| stream.table().is_some());
    let Some(table) = tables(plan).iter().filter_map(object_name).find(is_table) else { return Ok(()) };
    let mut named = false;
    let visited = plan.apply_with_subqueries(|node| {
        named |= node.expressions().iter().any(|e| e.column_refs().iter().any(|c| c.name == INGEST_TIME_COLUMN));
        Ok(if named { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    debug_assert!(visited.is_ok(), "looking does not fail");
    if !named {
        return Ok(());
    }
    Err(Error::rejected(
        Code::Unsupported,
        format!(
            "{INGEST_TIME_COLUMN} cannot be read by a view over table {table}: when a row came is not kept in the \
             changes that take it away; give the table a column of its own with DEFAULT now()"
        ),
    ))
}

/// Refuses to look up streams, which are no more at one time than all that came.
fn check_looked_up(shared: &Shared, tables: &[Option<TableReference>]) -> Result<()> {
    let names = tables.iter().flatten().filter_map(object_name);
    let is_stream = |name: &ObjectName| shared.stream(name).is_ok_and(|stream| stream.table().is_none());
    let Some(stream) = names.filter(|name| shared.view(name).is_none()).find(is_stream) else {
        return Ok(());
    };
    Err(Error::rejected(
        Code::Unsupported,
        format!(
            "stream {stream} cannot be looked up (FOR SYSTEM_TIME AS OF PROCTIME()): it has all rows that ever came; \
             look up a materialized view with the row of each key, such as the last one: SELECT … FROM (SELECT *, \
             row_number() OVER (PARTITION BY key ORDER BY time DESC) AS n FROM {stream}) WHERE n = 1"
        ),
    ))
}

/// The watermarks of the streams that a plan reads.
fn watermarks(
    shared: &Shared,
    plan: &LogicalPlan,
    state: &SessionState,
) -> Result<Vec<(TableReference, WatermarkSpec)>> {
    let mut found = Vec::new();
    for table in tables(plan) {
        // A system table or the like is refused by the compiler.
        let Some(stream) = object_name(&table).and_then(|name| shared.stream(&name).ok()) else { continue };
        if let Some(spec) = watermark_of(&stream.definition().stream, state)? {
            found.push((table, spec));
        }
    }
    Ok(found)
}

/// The object that a table of a plan is.
pub(crate) fn object_name(table: &TableReference) -> Option<ObjectName> {
    ObjectName::new(table.schema().unwrap_or(DEFAULT_SCHEMA), table.table()).ok()
}

fn kind_of(shared: &Shared, table: &TableReference) -> Option<InputKind> {
    let name = object_name(table)?;
    if let Some(view) = shared.view(&name) {
        let kind = if view.grows() == Some(true) { InputKind::AppendOnly } else { InputKind::Changing };
        return Some(kind);
    }
    let stream = shared.stream(&name).ok()?;
    Some(if stream.table().is_some() { InputKind::Changing } else { InputKind::AppendOnly })
}

fn dependencies(shared: &Shared, plan: &LogicalPlan) -> Result<Vec<Dependency>> {
    let mut found: Vec<Dependency> = Vec::new();
    for table in tables(plan) {
        let Some(name) = object_name(&table) else { continue };
        let id = match shared.view(&name) {
            Some(view) => ObjectId::View(view.id()),
            // A system table or the like is refused by the compiler.
            None => match shared.stream(&name) {
                Ok(stream) => ObjectId::Stream(stream.id()),
                Err(_) => continue,
            },
        };
        if !found.iter().any(|d| d.id == id) {
            found.push(Dependency { id, name });
        }
    }
    Ok(found)
}

/// The columns of `table` that a view's query uses; `None` when that cannot be told.
pub(crate) async fn columns_used(shared: &Shared, view: &View, table: &ObjectName) -> Option<BTreeSet<String>> {
    let plan = plan_of(shared, view).await.ok()?;
    // What is selected of a subquery and not used goes, what a `*` stands for stays.
    let plan = shared.context().ok()?.state().optimize(&plan).ok()?;
    let mut used = BTreeSet::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && object_name(&scan.table_name).as_ref() == Some(table)
        {
            used.extend(scan.projected_schema.fields().iter().map(|field| field.name().clone()));
            let filters = scan.filters.iter().flat_map(|filter| filter.column_refs());
            used.extend(filters.map(|column| column.name.clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.is_ok().then_some(used)
}

/// The tables that a plan reads.
pub(crate) fn tables(plan: &LogicalPlan) -> Vec<TableReference> {
    let mut tables = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.push(scan.table_name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "looking does not fail");
    tables
}

impl From<millstream_views::Error> for Error {
    fn from(error: millstream_views::Error) -> Self {
        match error {
            millstream_views::Error::Engine(error) => Error::from_datafusion(error, ""),
            millstream_views::Error::NotIncremental { .. } => Error::rejected(Code::Unsupported, error.to_string()),
            other => Error::rejected(Code::Internal, other.to_string()),
        }
    }
}
