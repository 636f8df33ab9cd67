//! Owns sessions: one client's settings and the statement it is running.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::common::ParamValues;
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DfStatement;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_catalog::fault::Code;
use millstream_views::without_lookups;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::column_names::ColumnNames;
use super::context::Catalogs;
use super::point_read::PointRead;
use super::rows::Query;
use super::settings::Settings;
use super::statement::PlannedQuery;
use super::{
    Outcome, Prepared, RowStream, Statement, check_uuid_casts, coerced, commands, duplicates, hidden, shadowed,
    spell_intervals, time_travel, views,
};
use crate::ddl::{self, Command};
use crate::decimals::Digits;
use crate::dml;
use crate::engine::Shared;
use crate::files::Calls;
use crate::read::ReadPoint;
use crate::views::{Sources, object_name, tables};
use crate::{Error, PositionToken, Result};

/// One client's state: search path, settings, and which statement is running.
#[derive(Debug)]
pub struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(super) settings: Mutex<Settings>,
    running: Arc<Mutex<Option<CancellationToken>>>,
    /// The schema of its temporary tables.
    temporary: String,
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.has_temporary() {
            return;
        }
        let (shared, schema) = (Arc::clone(&self.shared), std::mem::take(&mut self.temporary));
        let workers = shared.workers.handle();
        workers.spawn(async move { shared.drop_all_temporary(&schema).await });
    }
}

/// What a run may use and must wait for.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Ends the statement after this long; `None` takes the session's `statement_timeout`.
    pub timeout: Option<Duration>,
    /// Waits until these positions are visible.
    pub after: Vec<PositionToken>,
}

/// Cancels a session's running statement.
#[derive(Debug, Clone)]
pub struct Canceller {
    running: Arc<Mutex<Option<CancellationToken>>>,
}

impl Canceller {
    /// Ends the running statement with `query_canceled`; does nothing when none runs.
    pub fn cancel(&self) {
        if let Some(token) = self.running.lock().as_ref() {
            token.cancel();
        }
    }
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let settings = Settings::new(shared.options.statement_timeout);
        let temporary = shared.temporary.next_schema();
        Self { shared, settings: Mutex::new(settings), running: Arc::default(), temporary }
    }

    /// The schema of its temporary tables.
    pub(super) fn temporary_schema(&self) -> String {
        self.temporary.clone()
    }

    /// Whether it has temporary tables.
    pub(super) fn has_temporary(&self) -> bool {
        self.shared.temporary.any_in(&self.temporary)
    }

    /// Splits a text into statements; `;` separates them. An empty text gives an empty list.
    ///
    /// This only parses: a later statement may need what an earlier one makes, so each is planned when it is its turn.
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>> {
        let parsed = ddl::parse(sql)?;
        Ok(parsed.into_iter().map(|p| Statement { text: p.text.clone(), parsed: Arc::new(p) }).collect())
    }

    /// Plans a statement: checks names and types, and finds its parameters and result columns.
    pub async fn prepare(&self, statement: &Statement) -> Result<Prepared> {
        let (statement, put_in) = self.resolved(statement)?;
        self.prepare_resolved(&statement).await.map_err(|e| put_in.back(e))
    }

    /// Apart from its caller's future, which would be as large as all that a statement may become.
    fn prepare_resolved<'a>(&'a self, statement: &'a Statement) -> BoxFuture<'a, Result<Prepared>> {
        let prepared = async move {
            match statement.command() {
                Command::Sql(sql) => self.plan(statement, sql).await,
                Command::EmitChanges { query } => views::prepare_changes(self, statement, query).await,
                command => {
                    let (schema, tag) = commands::shape(command);
                    Ok(Prepared::command(statement.clone(), schema, tag))
                }
            }
        };
        prepared.boxed()
    }

    /// Runs a prepared statement. The result streams; dropping it cancels the query.
    pub async fn run(&self, prepared: &Prepared, params: &[ScalarValue], options: RunOptions) -> Result<Outcome> {
        if self.shared.closing.is_cancelled() {
            return Err(Error::rejected(Code::ShuttingDown, "the node is stopping"));
        }
        let prepared = &self.current(prepared).await?;
        let timeout = options.timeout.or_else(|| self.settings.lock().timeout());
        self.wait_for(&options.after, timeout).await?;
        if let (Some(query), false) = (prepared.planned(), options.after.is_empty()) {
            self.wait_for_views(&query.plan, &options.after, timeout).await?;
        }
        if let Some(change) = prepared.change() {
            check_params(prepared, params)?;
            return dml::run(self, change, &prepared.statement().text, params, timeout).await;
        }
        match (prepared.planned(), prepared.statement().command()) {
            (Some(query), _) => self.run_query(prepared, query, params, timeout).await,
            (None, Command::EmitChanges { query }) => {
                views::changes(self, query, &prepared.statement().text, options.timeout).await
            }
            (None, _) => commands::start(self, prepared.statement()).await,
        }
    }

    /// The rows of a prepared statement, if it is a point read that can be answered at once; else, and where it fails,
    /// it is to be run.
    pub fn run_at_once(&self, prepared: &Prepared, params: &[ScalarValue]) -> Option<RecordBatch> {
        let query = prepared.planned()?;
        if query.generation != self.shared.plans.generation() || self.shared.closing.is_cancelled() {
            return None;
        }
        let rows = self.point_read(prepared, query)?.rows_at_hand(params).ok()??;
        self.shared.queries.count();
        Some(rows)
    }

    /// The statement of that text as it was prepared lately, by whichever session.
    pub fn prepared(&self, text: &str) -> Option<Prepared> {
        if self.reads_plainly(text) { self.shared.plans.get(text) } else { None }
    }

    /// Parses, plans and runs one statement without parameters.
    pub async fn execute(&self, sql: &str) -> Result<Outcome> {
        let statements = self.parse(sql)?;
        let [statement] = statements.as_slice() else {
            return Err(Error::rejected(
                Code::SyntaxError,
                format!("one statement is expected here, {} were given", statements.len()),
            ));
        };
        let prepared = self.prepare(statement).await?;
        self.run(&prepared, &[], RunOptions::default()).await
    }

    /// A handle that cancels what this session is running, for another connection to call.
    pub fn canceller(&self) -> Canceller {
        Canceller { running: Arc::clone(&self.running) }
    }

    /// A session setting's value, as SHOW prints it.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.settings.lock().get(name).map(str::to_owned)
    }

    /// How long a statement of this session may run; `None` is without limit.
    pub fn timeout(&self) -> Option<Duration> {
        self.settings.lock().timeout()
    }

    /// Sets a session setting, as SET does.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.settings.lock().set(name, value)
    }

    async fn plan(&self, statement: &Statement, sql: &DfStatement) -> Result<Prepared> {
        if let Some(known) = self.shared.plans.get(&statement.text) {
            return Ok(known);
        }
        let generation = self.shared.plans.generation();
        let keeps = !names_a_time(&statement.text);
        if dml::is_change(sql) {
            let change = dml::plan(&self.shared, &statement.text, sql, generation).await?;
            let prepared = Prepared::of_change(statement.clone(), change)?;
            if keeps {
                self.shared.plans.keep(&prepared);
            }
            return Ok(prepared);
        }
        let plan = match sql {
            DfStatement::Explain(explain) if dml::is_change(&explain.statement) => {
                dml::explain(&self.shared, &statement.text, explain, generation).await?
            }
            _ => plan_statement(&self.shared, sql, &statement.text, SameNames::ToldApart).await?,
        };
        let plan = without_lookups(plan).map_err(|e| Error::from_datafusion(e, &statement.text))?;
        let tag = permitted(&plan)?;
        let names = ColumnNames::of(sql, plan.schema().as_arrow());
        let prepared = Prepared::query(statement.clone(), plan, generation, tag, names)?;
        // What a time is may change from one use to the next.
        if keeps {
            self.shared.plans.keep(&prepared);
        }
        Ok(prepared)
    }

    /// The statement planned over the catalog as it is now.
    async fn current(&self, prepared: &Prepared) -> Result<Prepared> {
        match (prepared.generation(), prepared.statement().command()) {
            (Some(generation), Command::Sql(sql)) if generation != self.shared.plans.generation() => {
                let now = self.plan(prepared.statement(), sql).await?;
                match now.looks_like(prepared) {
                    true => Ok(now),
                    false => Err(Error::rejected(Code::Unsupported, "cached plan must not change result type")),
                }
            }
            _ => Ok(prepared.clone()),
        }
    }

    fn point_read<'a>(&self, prepared: &'a Prepared, query: &'a PlannedQuery) -> Option<&'a Arc<PointRead>> {
        query.point_read.get(&query.plan, prepared.schema(), || Ok(self.shared.context()?.state()))
    }

    async fn run_query(
        &self,
        prepared: &Prepared,
        query: &PlannedQuery,
        params: &[ScalarValue],
        timeout: Option<Duration>,
    ) -> Result<Outcome> {
        let text = &prepared.statement().text;
        check_params(prepared, params)?;
        let expected = prepared.parameter_types().len();
        if let Some(read) = self.point_read(prepared, query)
            && let Some(rows) = self.run_point_read(read, text, params, timeout).await?
        {
            return Ok(Outcome::Rows { rows: RowStream::ready(rows), tag: prepared.tag() });
        }
        let plan = query.plan.clone();
        let plan = if expected == 0 {
            plan
        } else {
            plan.with_param_values(ParamValues::from(params.to_vec())).map_err(|e| Error::from_datafusion(e, text))?
        };
        let guard = self.shared.queries.begin(text)?;
        self.runs(guard.cancel_token());
        let mut state = self.shared.context()?.state();
        state.mark_start_execution();
        state.config_mut().set_extension(Arc::new(ReadPoint::default()));
        let (names, tag) = (prepared.names().clone(), prepared.tag());
        let prepared = (expected == 0).then(|| prepared.clone());
        let query = Query { sql: text.clone(), plan, prepared, names, state, timeout, guard };
        let rows = RowStream::start(&self.shared.workers, query).await?;
        Ok(Outcome::Rows { rows, tag })
    }

    /// Starts a plan that a statement of another kind is made of; its rows, and the statement's number.
    pub(super) async fn rows_of_plan(&self, plan: LogicalPlan, text: &str) -> Result<(RowStream, u64)> {
        let guard = self.shared.queries.begin(text)?;
        self.runs(guard.cancel_token());
        let number = guard.id();
        let mut state = self.shared.context()?.state();
        state.mark_start_execution();
        state.config_mut().set_extension(Arc::new(ReadPoint::default()));
        let (sql, names, timeout) = (text.to_owned(), ColumnNames::default(), self.timeout());
        let query = Query { sql, plan, prepared: None, names, state, timeout, guard };
        Ok((RowStream::start(&self.shared.workers, query).await?, number))
    }

    /// The rows of a point read; `None` where it has to be run by its plan. One that takes no time takes no place among
    /// the running statements.
    async fn run_point_read(
        &self,
        read: &Arc<PointRead>,
        text: &str,
        params: &[ScalarValue],
        timeout: Option<Duration>,
    ) -> Result<Option<RecordBatch>> {
        if let Some(rows) = read.rows_at_hand(params)? {
            self.shared.queries.count();
            return Ok(Some(rows));
        }
        let guard = self.shared.queries.begin(text)?;
        self.runs(guard.cancel_token());
        let rows = read.rows_from(self.shared.workers.handle(), params, guard.cancel_token(), timeout).await;
        guard.add_rows(rows.as_ref().ok().and_then(Option::as_ref).map_or(0, RecordBatch::num_rows));
        guard.finish(rows.as_ref().err());
        rows
    }

    /// What a cancel of this session ends from here on.
    pub(crate) fn runs(&self, cancel: &CancellationToken) {
        *self.running.lock() = Some(cancel.clone());
    }

    /// Returns when the views that a plan reads have taken in these positions.
    async fn wait_for_views(
        &self,
        plan: &LogicalPlan,
        tokens: &[PositionToken],
        timeout: Option<Duration>,
    ) -> Result<()> {
        let mut wanted = Sources::new();
        for token in tokens {
            wanted.insert(self.shared.stream(&token.stream)?.id(), token.positions.clone());
        }
        let deadline = tokio::time::Instant::now() + timeout.unwrap_or(self.shared.options.statement_timeout);
        for table in tables(plan) {
            let Some(name) = object_name(&table) else { continue };
            if let Some(view) = self.shared.view(&name).or_else(|| self.shared.writer(&name)) {
                let object = view.definition().object();
                self.shared.wait_for_view_over(object, &wanted, deadline).await?;
            }
        }
        Ok(())
    }

    /// Returns when every position is visible. On one node whatever was acknowledged is, so this waits only for
    /// positions that are still ahead: those of a request another client has under way.
    async fn wait_for(&self, tokens: &[PositionToken], timeout: Option<Duration>) -> Result<()> {
        for token in tokens {
            let stream = self.shared.stream(&token.stream)?;
            let partitions = stream.definition().stream.options.partitions as usize;
            if token.positions.0.len() > partitions {
                return Err(Error::rejected(
                    Code::InvalidRequest,
                    format!("position {token} names a partition that stream {} does not have", token.stream),
                ));
            }
            let mut ends = stream.log().subscribe();
            let reached = ends.wait_for(|end| end.covers(&token.positions));
            let limit = timeout.unwrap_or(self.shared.options.statement_timeout);
            let waited = tokio::time::timeout(limit, reached).await;
            if !matches!(waited, Ok(Ok(_))) {
                return Err(Error::rejected(
                    Code::Timeout,
                    format!("position {token} was not reached within {} ms", limit.as_millis()),
                ));
            }
        }
        Ok(())
    }
}

fn names_a_time(text: &str) -> bool {
    text.as_bytes().windows(11).any(|word| word.eq_ignore_ascii_case(b"system_time"))
}

fn check_params(prepared: &Prepared, params: &[ScalarValue]) -> Result<()> {
    let (expected, given) = (prepared.parameter_types().len(), params.len());
    if given >= expected {
        return Ok(());
    }
    let message = format!("the statement has {expected} parameters, {given} were given");
    Err(Error::rejected(Code::InvalidRequest, message))
}

/// What becomes of result columns that have one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SameNames {
    /// They are shown one beside the other.
    ToldApart,
    /// They are an error: something is to be made of them that needs names.
    Refused,
}

/// Plans a parsed statement; `text` is the statement, for the places of errors.
pub(crate) async fn plan_statement(
    shared: &Shared,
    sql: &DfStatement,
    text: &str,
    names: SameNames,
) -> Result<LogicalPlan> {
    let ast = rewritten(text, sql);
    let shows_hidden = hidden::names_hidden(&ast);
    plan_rewritten(shared, ast, text, names, shows_hidden).await
}

/// Plans a query that a statement becomes; `shows_hidden` says whether its relations show their hidden columns.
pub(crate) async fn plan_query(
    shared: &Shared,
    query: DfStatement,
    text: &str,
    shows_hidden: bool,
) -> Result<LogicalPlan> {
    let plan = plan_rewritten(shared, query, text, SameNames::ToldApart, shows_hidden).await?;
    without_lookups(plan).map_err(|e| Error::from_datafusion(e, text))
}

async fn plan_rewritten(
    shared: &Shared,
    mut ast: DfStatement,
    text: &str,
    names: SameNames,
    shows_hidden: bool,
) -> Result<LogicalPlan> {
    let mut state = shared.context()?.state();
    if shows_hidden {
        show_hidden(&mut state);
        hidden::hide_in_wildcards(&mut ast, &|name| shared.hides_columns(name));
    }
    time_travel::name_versions(&mut ast, &state)?;
    Calls::resolve(&shared.options.files, &mut state, &mut ast).await?;
    check_casts(&mut ast);
    let digits = Digits::of_statement(&mut ast);
    let plan = match state.statement_to_plan(ast.clone()).await {
        Err(e) if duplicates::is_duplicate(&e) && names == SameNames::Refused => {
            let message = "two columns of the query have one name: give one of them another with AS";
            return Err(Error::rejected(Code::DuplicateColumn, message));
        }
        Err(e) if duplicates::is_duplicate(&e) => state.statement_to_plan(duplicates::told_apart(ast)).await,
        Ok(plan) if shadowed::takes_fields_of_plain_columns(&plan) => {
            let told_apart = state.statement_to_plan(shadowed::told_apart(ast)).await;
            Ok(told_apart.ok().filter(|plan| !shadowed::takes_fields_of_plain_columns(plan)).unwrap_or(plan))
        }
        planned => planned,
    };
    let plan = plan.and_then(|plan| digits.exact_plan(plan));
    let plan = plan.map_err(|e| Error::from_datafusion(e, text))?;
    Ok(coerced::with_types_of_rows(&state, plan))
}

/// Plans over tables that show their hidden columns.
fn show_hidden(state: &mut SessionState) {
    if let Some(list) = Catalogs::with_hidden(state.catalog_list()) {
        state.register_catalog_list(list);
    }
}

/// The command tag of a plan that sessions may run; what would write files or change the context is refused.
pub(super) fn permitted(plan: &LogicalPlan) -> Result<&'static str> {
    const ROWS: &str = "only the statement itself can be run";
    const OBJECTS: &str = "what can be made are CREATE STREAM, CREATE TABLE and CREATE MATERIALIZED VIEW";
    let (name, instead) = match plan {
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => return Ok("EXPLAIN"),
        LogicalPlan::Ddl(ddl) => (ddl.name(), OBJECTS),
        LogicalPlan::Dml(dml) => (dml.name(), ROWS),
        LogicalPlan::Copy(_) => ("Copy", "ask for the result as CSV, Arrow or Parquet over HTTP: POST /v1/sql"),
        LogicalPlan::Statement(statement) => (statement.name(), "send it as a query"),
        _ => return Ok("SELECT"),
    };
    Err(Error::rejected(Code::Unsupported, format!("{} is not supported; {instead}", as_sql(name))))
}

/// A plan's name as the statement's words: `DropTable` is DROP TABLE, `CreateMemoryTable` CREATE TABLE.
fn as_sql(name: &str) -> String {
    let mut words = String::new();
    for c in name.replace("Memory", "").replace("Catalog", "").chars() {
        if c.is_uppercase() && !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
        words.extend(c.to_uppercase());
    }
    words
}

fn check_casts(statement: &mut DfStatement) {
    match statement {
        DfStatement::Statement(statement) => {
            check_uuid_casts(statement.as_mut());
            spell_intervals(statement.as_mut());
        }
        DfStatement::Explain(explain) => check_casts(&mut explain.statement),
        _ => {}
    }
}

/// The statement with the spellings of PostgreSQL's tools brought into a form that the planner takes.
fn rewritten(text: &str, statement: &DfStatement) -> DfStatement {
    match statement {
        DfStatement::Statement(inner) => {
            let inner = crate::pg_catalog::rewrite(text, inner.as_ref().clone());
            DfStatement::Statement(Box::new(inner))
        }
        other => other.clone(),
    }
}
