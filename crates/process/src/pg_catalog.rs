//! Owns what PostgreSQL's tools read about a database: the `pg_catalog` schema, its functions, and the rewriting of their
//! queries into a form that the planner takes.
//!
//! Two steps make `\d` in psql work:
//! 1. [`register`] once, on the context whose state every session is cloned from. The tables are views of the context's
//!    catalog list, so streams made later appear in them.
//! 2. [`rewrite`] on every statement before it is planned.
//!
//! The context's default catalog must be the database's name, its default schema `public`.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, SelectItem, SetExpr, Statement, Value, VisitMut, VisitorMut,
    visit_expressions,
};
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
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
    setup_pg_catalog(ctx, database, OneRole).map_err(|e| *e)?;
    for (name, arguments, value) in constants() {
        ctx.register_udf(ScalarUDF::from(Constant::new(name, arguments, value)));
    }
    ctx.register_udf(ScalarUDF::from(CurrentSetting::new()));
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
        && let Some(mut rewritten) = statements.pop()
    {
        let _ = rewritten.visit(&mut EmptySubqueries);
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

/// Gives subqueries that the planner does not know their answer here. psql asks with `ARRAY(SELECT …)` for the options
/// and members of objects, and nothing has any; with `(SELECT relkind = 'c' …)` whether a type is a composite's, and
/// none is.
struct EmptySubqueries;

impl VisitorMut for EmptySubqueries {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_array_of_subquery(expr) {
            *expr = Expr::value(Value::SingleQuotedString("{}".to_owned()));
        } else if is_call(expr, "array_to_string") && contains_array_of_subquery(expr) {
            *expr = Expr::value(Value::SingleQuotedString(String::new()));
        } else if is_comparing_subquery(expr) {
            *expr = Expr::value(Value::Boolean(false));
        }
        ControlFlow::Continue(())
    }
}

/// A scalar subquery that selects nothing but a comparison.
fn is_comparing_subquery(expr: &Expr) -> bool {
    let Expr::Subquery(query) = expr else { return false };
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    matches!(select.projection.as_slice(), [SelectItem::UnnamedExpr(Expr::BinaryOp { op: BinaryOperator::Eq, .. })])
}

fn is_call(expr: &Expr, name: &str) -> bool {
    let Expr::Function(function) = expr else { return false };
    let last = function.name.0.last().and_then(|part| part.as_ident());
    last.is_some_and(|ident| ident.value.eq_ignore_ascii_case(name))
}

fn is_array_of_subquery(expr: &Expr) -> bool {
    is_call(expr, "array") && matches!(expr, Expr::Function(f) if matches!(f.args, FunctionArguments::Subquery(_)))
}

fn contains_array_of_subquery(expr: &Expr) -> bool {
    visit_expressions(expr, |inner| match is_array_of_subquery(inner) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })
    .is_break()
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

/// Functions of any arguments up to a number, and the one answer they give.
fn constants() -> Vec<(&'static str, usize, ScalarValue)> {
    let text = |value: &str| ScalarValue::Utf8(Some(value.to_owned()));
    let (no_text, no_number) = (ScalarValue::Utf8(None), ScalarValue::Int64(None));
    let (yes, no) = (ScalarValue::Boolean(Some(true)), ScalarValue::Boolean(Some(false)));
    vec![
        ("version", 0, text(&format!("PostgreSQL {POSTGRES_VERSION} (Millstream)"))),
        ("pg_is_in_recovery", 0, no),
        ("pg_my_temp_schema", 0, ScalarValue::Int32(Some(0))),
        // Every name is found without its schema.
        ("pg_function_is_visible", 1, yes.clone()),
        ("pg_type_is_visible", 1, yes.clone()),
        ("pg_operator_is_visible", 1, yes.clone()),
        ("pg_collation_is_visible", 1, yes.clone()),
        ("has_function_privilege", 3, yes.clone()),
        ("has_column_privilege", 4, yes),
        // Nothing here has what these describe.
        ("obj_description", 2, no_text.clone()),
        ("col_description", 2, no_text.clone()),
        ("shobj_description", 2, no_text.clone()),
        ("pg_get_indexdef", 3, no_text.clone()),
        ("pg_get_viewdef", 2, no_text.clone()),
        ("pg_get_triggerdef", 2, no_text.clone()),
        ("pg_get_ruledef", 2, no_text.clone()),
        ("pg_get_functiondef", 1, no_text.clone()),
        ("pg_get_function_result", 1, no_text.clone()),
        ("pg_get_function_sqlbody", 1, no_text.clone()),
        ("pg_get_function_arguments", 1, text("")),
        ("pg_get_function_identity_arguments", 1, text("")),
        ("pg_get_serial_sequence", 2, no_text.clone()),
        ("pg_tablespace_location", 1, no_text.clone()),
        ("pg_size_pretty", 1, no_text),
        ("pg_table_size", 1, no_number.clone()),
        ("pg_indexes_size", 1, no_number),
        ("to_regclass", 1, ScalarValue::Int32(None)),
        ("to_regtype", 1, ScalarValue::Int32(None)),
    ]
}

/// A function that gives the same answer for every argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, arguments: usize, value: ScalarValue) -> Self {
        let signature = match arguments {
            0 => Signature::nullary(Volatility::Stable),
            _ => Signature::one_of((1..=arguments).map(TypeSignature::Any).collect(), Volatility::Stable),
        };
        Self { name, value, signature }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_setting(name [, missing_ok])`, of the settings that are the same for every session.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
}

const SETTINGS: [(&str, &str); 9] = [
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("integer_datetimes", "on"),
    ("search_path", "public"),
    ("server_encoding", "UTF8"),
    ("server_version", POSTGRES_VERSION),
    ("server_version_num", "160006"),
    ("standard_conforming_strings", "on"),
    ("timezone", "UTC"),
];

impl CurrentSetting {
    fn new() -> Self {
        let forms = vec![
            TypeSignature::Exact(vec![DataType::Utf8]),
            TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean]),
        ];
        Self { signature: Signature::one_of(forms, Volatility::Stable) }
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let names = args.args[0].to_array(args.number_rows)?;
        let value = |name: &str| SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, v)| *v);
        let values: StringArray = names.as_string::<i32>().iter().map(|name| name.and_then(value)).collect();
        Ok(ColumnarValue::Array(Arc::new(values)))
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

    #[tokio::test]
    async fn an_array_of_a_subquery_is_empty() {
        let sql = "SELECT relname, array_to_string(relkind || array(SELECT 'x' FROM pg_am), ',') AS a,
                   ARRAY(SELECT rolname FROM pg_roles) AS b FROM pg_catalog.pg_class WHERE relname = 'flights'";
        let text = rows(&context().await, sql).await;
        assert!(text.contains("flights") && text.contains("{}"), "{text}");
    }

    #[test]
    fn a_statement_that_reads_no_catalog_keeps_its_subqueries() {
        let sql = "SELECT (SELECT max(b.x) FROM b WHERE b.id = a.id) FROM a";
        let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        assert_eq!(rewrite(sql, parsed).to_string(), sql);
    }
}
