//! Owns the planning of the queries that a statement becomes.

use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement};

use crate::Result;
use crate::engine::Shared;
use crate::sql::plan_query;

/// Plans queries of one statement.
pub(super) struct Planner<'a> {
    pub(super) shared: &'a Shared,
    /// The statement, for the places of errors.
    pub(super) text: &'a str,
    /// Whether the statement names hidden columns of relations.
    pub(super) shows_hidden: bool,
}

impl Planner<'_> {
    /// Plans a query.
    pub(super) async fn plan(&self, query: Box<Query>) -> Result<LogicalPlan> {
        let statement = DfStatement::Statement(Box::new(Statement::Query(query)));
        plan_query(self.shared, statement, self.text, self.shows_hidden).await
    }

    /// What expressions are planned in.
    pub(super) fn state(&self) -> Result<SessionState> {
        Ok(self.shared.context()?.state())
    }
}
