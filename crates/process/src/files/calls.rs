//! Owns the calls of `read_…` in a statement: found and looked into before it is planned, tables for the planner after.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr as PlanExpr;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, Statement, TableAlias, TableFactor, TableFunctionArgs as SqlArgs, Value,
    Visit, VisitMut, Visitor, VisitorMut,
};

use super::access::FileAccess;
use super::arguments::ReadCall;
use super::table::FilesTable;
use crate::{Error, Result};

/// The files that a statement reads, in the order in which it names them.
#[derive(Debug)]
pub(crate) struct Calls {
    tables: Vec<Arc<dyn TableProvider>>,
}

impl Calls {
    /// Looks into the files that a statement reads, and puts tables in their place that `state` knows.
    pub(crate) async fn resolve(access: &FileAccess, state: &mut SessionState, sql: &mut DfStatement) -> Result<()> {
        let Some(statement) = inner(sql) else { return Ok(()) };
        let mut finder = Finder::default();
        if let ControlFlow::Break(error) = Visit::visit(&*statement, &mut finder) {
            return Err(error);
        }
        if finder.found.is_empty() {
            return Ok(());
        }
        let mut tables: Vec<Arc<dyn TableProvider>> = Vec::new();
        let mut names = Vec::new();
        for call in finder.found {
            names.push(call.name.clone());
            tables.push(Arc::new(FilesTable::open(access, state, call).await?));
        }
        let _ = VisitMut::visit(statement, &mut Replacer { names: names.clone(), next: 0 });
        let calls: Arc<dyn TableFunctionImpl> = Arc::new(Calls { tables });
        names.sort();
        names.dedup();
        names.iter().for_each(|name| state.register_udtf(name, Arc::clone(&calls)));
        Ok(())
    }
}

impl TableFunctionImpl for Calls {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let number = match args.exprs() {
            [PlanExpr::Literal(ScalarValue::Int64(Some(number)), _)] => usize::try_from(*number).ok(),
            _ => None,
        };
        let table = number.and_then(|number| self.tables.get(number));
        table.cloned().ok_or_else(|| DataFusionError::Plan("files are read in a FROM alone".to_owned()))
    }
}

fn inner(statement: &mut DfStatement) -> Option<&mut Statement> {
    match statement {
        DfStatement::Statement(statement) => Some(statement),
        DfStatement::Explain(explain) => inner(&mut explain.statement),
        _ => None,
    }
}

#[derive(Default)]
struct Finder {
    found: Vec<ReadCall>,
}

impl Visitor for Finder {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, relation: &TableFactor) -> ControlFlow<Error> {
        match ReadCall::of(relation) {
            Ok(call) => {
                self.found.extend(call);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Puts numbers in place of arguments, in the order in which they were found.
struct Replacer {
    names: Vec<String>,
    next: usize,
}

impl VisitorMut for Replacer {
    type Break = ();

    fn pre_visit_table_factor(&mut self, relation: &mut TableFactor) -> ControlFlow<()> {
        if !matches!(ReadCall::of(relation), Ok(Some(_))) {
            return ControlFlow::Continue(());
        }
        if let TableFactor::Table { name, alias, args, .. } = relation {
            let called = self.names[self.next].clone();
            let number = Expr::Value(Value::Number(self.next.to_string(), false).with_empty_span());
            *name = vec![Ident::new(called.clone())].into();
            *args = Some(SqlArgs { args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(number))], settings: None });
            alias.get_or_insert_with(|| TableAlias {
                explicit: true,
                name: Ident::with_quote('"', called),
                columns: Vec::new(),
                at: None,
            });
            self.next += 1;
        }
        ControlFlow::Continue(())
    }
}
