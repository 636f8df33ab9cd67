//! Owns what PostgreSQL's tools read about a database: the `pg_catalog` schema, its functions, and the rewriting of their
//! queries into a form that the planner takes.
//!
//! Two steps make `\d` in psql work:
//! 1. [`register`] once, on the context whose state every session is cloned from. The tables are views of the context's
//!    catalog list, so streams made later appear in them.
//! 2. [`rewrite`] on every statement before it is planned.
//!
//! The context's default catalog must be the database's name, its default schema `public`.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, StringArray, new_null_array};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{
    CurrentUserVariableToSessionUserFunctionCall, FixVersionColumnName, RewriteArrayAnyAllOperation,
    SqlStatementRewriteRule, StripCallableQualifier, StripCollate,
};

/// What `version()` and `server_version` say, so that tools choose queries of that release.
pub const POSTGRES_VERSION: &str = "16.6";

/// Names whose presence makes a statement one that reads the system catalog.
const CATALOG_MARKS: [&str; 5] = ["pg_", "regclass", "regtype", "regproc", "regnamespace"];

static PARSER: LazyLock<PostgresCompatibilityParser> = LazyLock::new(PostgresCompatibilityParser::new);

/// Adds the `pg_catalog` schema and PostgreSQL's information functions to a context.
pub fn register(ctx: &SessionContext, database: &str) -> Result<()> {
    setup_pg_catalog(ctx, database, EmptyContextProvider).map_err(|e| *e)?;
    ctx.register_udf(constant("version", 0, &format!("PostgreSQL {POSTGRES_VERSION} (Millstream)")));
    for (name, arguments) in ALWAYS_NULL {
        ctx.register_udf(constant_or_null(name, *arguments, None));
    }
    ctx.register_udf(constant("pg_get_function_identity_arguments", 1, ""));
    ctx.register_udf(constant("pg_get_function_arguments", 1, ""));
    Ok(())
}

/// Brings a parsed statement into a form that the planner takes; `text` is what it was parsed from.
///
/// Queries of the system catalog are parsed anew, token by token, with all of the compatibility rules. Every other
/// statement keeps its shape and its positions: only spellings that PostgreSQL's drivers send are replaced.
pub fn rewrite(text: &str, statement: Statement) -> Statement {
    if reads_catalog(text)
        && let Ok(mut statements) = PARSER.parse(text)
        && statements.len() == 1
        && let Some(rewritten) = statements.pop()
    {
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

fn reads_catalog(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    CATALOG_MARKS.iter().any(|mark| lower.contains(mark))
}

/// Functions that answer NULL for every object: nothing here has what they describe.
const ALWAYS_NULL: &[(&str, usize)] = &[
    ("obj_description", 2),
    ("col_description", 2),
    ("shobj_description", 2),
    ("pg_get_indexdef", 3),
    ("pg_get_viewdef", 2),
    ("pg_get_triggerdef", 2),
    ("pg_get_ruledef", 2),
    ("pg_get_functiondef", 1),
    ("pg_get_function_result", 1),
    ("pg_get_function_sqlbody", 1),
    ("pg_tablespace_location", 1),
];

fn constant(name: &str, arguments: usize, value: &str) -> ScalarUDF {
    constant_or_null(name, arguments, Some(value.to_owned()))
}

fn constant_or_null(name: &str, arguments: usize, value: Option<String>) -> ScalarUDF {
    let any_number_up_to = (1..=arguments).map(datafusion::logical_expr::TypeSignature::Any).collect();
    let signature = match arguments {
        0 => Signature::nullary(Volatility::Stable),
        _ => Signature::one_of(any_number_up_to, Volatility::Stable),
    };
    ScalarUDF::from(ConstantText { name: name.to_owned(), value, signature })
}

/// A function that gives the same text for every argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ConstantText {
    name: String,
    value: Option<String>,
    signature: Signature,
}

impl ScalarUDFImpl for ConstantText {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array: ArrayRef = match &self.value {
            Some(value) => Arc::new(StringArray::from(vec![value.as_str(); args.number_rows])),
            None => new_null_array(&DataType::Utf8, args.number_rows),
        };
        debug_assert_eq!(array.len(), args.number_rows);
        Ok(ColumnarValue::Array(array))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionConfig;
    use datafusion::sql::parser::Statement as PlannerStatement;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    async fn context() -> SessionContext {
        let config =
            SessionConfig::new().with_default_catalog_and_schema("millstream", "public").with_information_schema(true);
        let ctx = SessionContext::new_with_config(config);
        ctx.sql("CREATE TABLE flights (carrier TEXT NOT NULL, delay BIGINT)").await.unwrap();
        register(&ctx, "millstream").unwrap();
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

    #[test]
    fn a_statement_that_reads_no_catalog_keeps_its_subqueries() {
        let sql = "SELECT (SELECT max(b.x) FROM b WHERE b.id = a.id) FROM a";
        let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        assert_eq!(rewrite(sql, parsed).to_string(), sql);
    }
}
