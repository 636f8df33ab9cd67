//! Owns the way of a whole statement: from text to what the planner takes.

use std::ops::ControlFlow;

use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::sql::parser::{CopyToSource, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{TableFactor, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{TokenWithSpan, Tokenizer};

use crate::call::canonical;
use crate::{spelling, version};

/// Parses one statement in PostgreSQL's dialect, its calls ready for the planner.
pub fn parse(sql: &str) -> Result<Statement> {
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|e| DataFusionError::SQL(Box::new(ParserError::from(e)), None))?;
    let mut statements = DFParserBuilder::new(respell(tokens)).with_dialect(&dialect).build()?.parse_statements()?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(mut statement), true) => {
            rewrite(&mut statement);
            Ok(statement)
        }
        _ => plan_err!("expected one statement"),
    }
}

/// Brings a statement's tokens into a form that the parser reads. Tokens keep their places in the text.
pub fn respell(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    spelling::respell(version::respell(tokens))
}

/// Makes a query of the table in each call, so that whoever looks for a statement's tables finds it, takes `TABLE(…)` off,
/// and gives tables their versions.
pub fn rewrite(statement: &mut Statement) {
    let _ = match statement {
        Statement::Statement(statement) => statement.visit(&mut Calls),
        Statement::Explain(explain) => return rewrite(&mut explain.statement),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(&mut Calls),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
}

struct Calls;

impl VisitorMut for Calls {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        version::canonical(factor);
        canonical(factor);
        ControlFlow::Continue(())
    }
}
