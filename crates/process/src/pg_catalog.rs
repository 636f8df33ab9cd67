//! Owns what PostgreSQL's tools read about a database: the `pg_catalog` schema, its functions, and the rewriting of their
//! queries into a form that the planner takes.
//!
//! Two steps make `\d` in psql work:
//! 1. `register` once, on the context whose state every session is cloned from. The tables are views of the context's
//!    catalog list, so streams made later appear in them.
//! 2. [`rewrite`] on every statement before it is planned.
//!
//! The context's default catalog must be the database's name, its default schema `public`.

mod empty;
mod functions;
mod information;
mod known;
mod relations;
mod sheet;
mod tables;
mod told;
mod visible;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::catalog::information_schema::{INFORMATION_SCHEMA, InformationSchemaProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{Statement, VisitMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{
    CurrentUserVariableToSessionUserFunctionCall, FixVersionColumnName, RewriteArrayAnyAllOperation,
    SqlStatementRewriteRule, StripCallableQualifier, StripCollate,
};

use empty::EmptyCatalog;
use information::InformationSchema;
use known::{KnownAnswers, types_query};
use tables::CatalogSchema;

pub(crate) use relations::Numbered;

/// What `version()` and `server_version` say, so that tools choose queries of that release.
pub const POSTGRES_VERSION: &str = "16.6";

/// Words that make a statement one that reads the system catalog, beside the names of its tables.
const CATALOG_WORDS: [&str; 5] = ["pg_catalog", "regclass", "regtype", "regproc", "regnamespace"];

static PARSER: LazyLock<PostgresCompatibilityParser> = LazyLock::new(PostgresCompatibilityParser::new);

/// Adds the schemas `pg_catalog` and `information_schema` and PostgreSQL's information functions to a context.
pub(crate) fn register(ctx: &SessionContext, database: &str, numbered: Numbered) -> Result<()> {
    const NAME: &str = "pg_catalog";
    setup_pg_catalog(ctx, database, OneRole).map_err(|e| *e)?;
    functions::register(ctx);
    let numbered = Arc::new(numbered);
    told::register(ctx, &numbered);
    visible::register(ctx, &numbered);
    let missing = || DataFusionError::Internal(format!("database {database} is not there"));
    let schemas = ctx.catalog(database).ok_or_else(missing)?;
    let base = schemas.schema(NAME).ok_or_else(missing)?;
    schemas.register_schema(NAME, Arc::new(CatalogSchema::new(base, Arc::clone(&numbered))))?;
    let base = Arc::new(InformationSchemaProvider::new(Arc::clone(ctx.state().catalog_list())));
    schemas.register_schema(INFORMATION_SCHEMA, Arc::new(InformationSchema::new(base, numbered, database)))?;
    Ok(())
}

/// Brings a parsed statement into a form that the planner takes; `text` is what it was parsed from.
///
/// Queries of the system catalog are parsed anew, token by token, with all of the compatibility rules. Every other
/// statement keeps its shape and its positions: only spellings that PostgreSQL's drivers send are replaced.
pub fn rewrite(text: &str, statement: Statement) -> Statement {
    if let Some(query) = types_query(text)
        && let Ok(Some(query)) = Parser::parse_sql(&PostgreSqlDialect {}, query).map(|mut queries| queries.pop())
    {
        return query;
    }
    if reads_catalog(text)
        && let Ok(mut statements) = PARSER.parse(&with_known_answers(text, &statement))
        && statements.len() == 1
        && let Some(mut rewritten) = statements.pop()
    {
        let _ = rewritten.visit(&mut EmptyCatalog);
        return rewritten;
    }
    let rules: [&dyn SqlStatementRewriteRule; 5] = [
        &RewriteArrayAnyAllOperation,
        &StripCallableQualifier,
        &CurrentUserVariableToSessionUserFunctionCall,
        &StripCollate,
        &FixVersionColumnName,
    ];
    rules.into_iter().fold(statement, |statement, rule| rule.rewrite(statement))
}

/// The text with calls in the place of questions that have an answer by number; as it is where there are none.
fn with_known_answers<'a>(text: &'a str, statement: &Statement) -> Cow<'a, str> {
    let (mut statement, mut known) = (statement.clone(), KnownAnswers::default());
    let _ = statement.visit(&mut known);
    if known.found == 0 { Cow::Borrowed(text) } else { Cow::Owned(statement.to_string()) }
}

fn reads_catalog(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .map(str::to_ascii_lowercase)
        .any(|word| CATALOG_WORDS.contains(&word.as_str()) || PG_CATALOG_TABLES.contains(&word.as_str()))
}

/// The one role there is, until there are accounts: whoever connects may do everything.
#[derive(Debug, Clone)]
struct OneRole;

#[async_trait]
impl PgCatalogContextProvider for OneRole {
    async fn roles(&self) -> Vec<String> {
        vec!["postgres".to_owned()]
    }

    async fn role(&self, name: &str) -> Option<Role> {
        (name == "postgres").then(|| Role {
            name: name.to_owned(),
            is_superuser: true,
            can_login: true,
            can_create_db: true,
            can_create_role: true,
            can_create_user: true,
            can_replication: false,
            grants: vec![],
            inherited_roles: vec![],
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionConfig;
    use datafusion::sql::parser::Statement as PlannerStatement;

    use super::*;

    async fn context() -> SessionContext {
        let config = SessionConfig::new().with_default_catalog_and_schema("millstream", "public");
        let ctx = SessionContext::new_with_config(config);
        ctx.sql("CREATE TABLE flights (carrier TEXT NOT NULL, delay BIGINT)").await.unwrap();
        register(&ctx, "millstream", Numbered::default()).unwrap();
        ctx
    }

    async fn rows(ctx: &SessionContext, sql: &str) -> String {
        let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        let statement = rewrite(sql, parsed.remove(0));
        let plan = ctx.state().statement_to_plan(PlannerStatement::Statement(Box::new(statement))).await.unwrap();
        let batches = ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
    }

    #[tokio::test]
    async fn psql_lists_tables() {
        let ctx = context().await;
        let text = rows(
            &ctx,
            r#"SELECT n.nspname as "Schema", c.relname as "Name",
               CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as "Type",
               pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
               FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
               WHERE c.relkind IN ('r','p','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast'
               AND n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2"#,
        )
        .await;
        assert!(text.contains("flights") && text.contains("table"), "{text}");
    }

    #[tokio::test]
    async fn the_version_is_postgresqls() {
        let text = rows(&context().await, "SELECT pg_catalog.version()").await;
        assert!(text.contains("PostgreSQL 16"), "{text}");
    }

    #[tokio::test]
    async fn an_array_parameter_spelling_of_drivers_is_taken() {
        let text = rows(&context().await, "SELECT 2 = ANY(ARRAY[1, 2]) AS found, current_user").await;
        assert!(text.contains("true") && text.contains("postgres"), "{text}");
    }

    #[tokio::test]
    async fn an_array_of_a_subquery_is_empty() {
        let sql = "SELECT relname, array_to_string(relkind || array(SELECT 'x' FROM pg_am), ',') AS a,
                   ARRAY(SELECT rolname FROM pg_roles) AS b FROM pg_catalog.pg_class WHERE relname = 'flights'";
        let text = rows(&context().await, sql).await;
        assert!(text.contains("flights") && text.contains("{}"), "{text}");
    }

    #[tokio::test]
    async fn what_asks_for_indexes_finds_none() {
        let ctx = context().await;
        let sql =
            "SELECT i.attnum FROM (SELECT unnest(pg_index.indkey) AS attnum, generate_subscripts(pg_index.indkey, 1)
                   AS ord FROM pg_catalog.pg_index) AS i";
        assert!(!rows(&ctx, sql).await.contains("1 |"));
        let sql =
            "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname NOT LIKE 'pg/_' || '%' ESCAPE '/' ORDER BY 1";
        let text = rows(&ctx, sql).await;
        assert!(text.contains("public") && !text.contains("pg_catalog"), "{text}");
        let sql = "SELECT relname, CASE WHEN relhasindex THEN (SELECT json_build_object('a', pg_am.oid) FROM pg_am
                   WHERE pg_am.oid = pg_class.relam) END AS x, CASE WHEN relhasindex THEN (SELECT pg_catalog.pg_get_expr(
                   d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = pg_class.oid) END AS y, 1 <> (SELECT
                   t.typcollation FROM pg_type t WHERE t.oid = pg_class.reltype) AS z FROM pg_class WHERE relname = 'flights'";
        assert!(rows(&ctx, sql).await.contains("flights"));
    }

    #[test]
    fn a_statement_that_reads_no_catalog_keeps_its_subqueries() {
        let sql = "SELECT (SELECT max(b.x) FROM b WHERE b.id = a.id) FROM pg_events AS a";
        let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        assert_eq!(rewrite(sql, parsed).to_string(), sql);
    }
}
