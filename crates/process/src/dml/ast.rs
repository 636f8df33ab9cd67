//! Owns the queries that statements become: what is built around the user's own expressions.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, ExactNumberInfo, ExcludeSelectItem, Expr, Ident, ObjectName as SqlName, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias, TableFactor, TableWithJoins,
    UnaryOperator, Value, Visit, Visitor, WildcardAdditionalOptions, With,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, OFFSET_COLUMN, ObjectName};

use super::assign::Given;
use super::target::Target;
use crate::{Error, Result};

/// A SELECT in the making.
pub(super) struct Selection {
    pub(super) with: Option<With>,
    pub(super) items: Vec<SelectItem>,
    pub(super) from: Vec<TableWithJoins>,
    pub(super) filter: Option<Expr>,
}

impl Selection {
    /// The query.
    pub(super) fn query(self) -> Result<Box<Query>> {
        let mut query = template("SELECT 1")?;
        let SetExpr::Select(select) = query.body.as_mut() else { return Err(defect()) };
        let select: &mut Select = select.as_mut();
        select.projection = self.items;
        select.from = self.from;
        select.selection = self.filter;
        query.with = self.with;
        Ok(query)
    }
}

/// A query from its text.
pub(super) fn template(sql: &str) -> Result<Box<Query>> {
    let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).map_err(|_| defect())?;
    match parsed.pop() {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(defect()),
    }
}

fn defect() -> Error {
    Error::rejected(Code::Internal, "a statement could not be written as a query")
}

/// An expression under a name.
pub(super) fn named(expr: Expr, name: impl Into<String>) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) }
}

/// `relation.column`.
pub(super) fn column_of(relation: &Ident, column: &str) -> Expr {
    Expr::CompoundIdentifier(vec![relation.clone(), Ident::with_quote('"', column)])
}

/// A row's number and its columns: what every statement reads of the rows that it changes.
pub(super) fn row_items(target: &Target) -> Vec<SelectItem> {
    let number = column_of(&target.alias, OFFSET_COLUMN);
    let columns = target.columns().iter().map(|column| column_of(&target.alias, &column.name));
    std::iter::once(number).chain(columns).map(SelectItem::UnnamedExpr).collect()
}

/// `relation.*`, perhaps without a column.
pub(super) fn all_of(relation: &SqlName, but: Option<&str>) -> SelectItem {
    let but = but.map(|column| ExcludeSelectItem::Single(SqlName::from(vec![Ident::with_quote('"', column)])));
    let options = WildcardAdditionalOptions { opt_exclude: but, ..Default::default() };
    SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(relation.clone()), options)
}

/// A table of a schema in FROM, under a name.
pub(super) fn relation(schema: String, table: &ObjectName, alias: &Ident) -> TableWithJoins {
    let name = SqlName::from(vec![Ident::with_quote('"', schema), Ident::with_quote('"', table.name())]);
    let relation = TableFactor::Table {
        name,
        alias: Some(alias_of(alias)),
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    };
    TableWithJoins { relation, joins: vec![] }
}

/// A query in FROM, under a name.
pub(super) fn derived(subquery: Box<Query>, alias: TableAlias) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None }
}

pub(super) fn alias_of(name: &Ident) -> TableAlias {
    TableAlias { explicit: true, name: name.clone(), columns: vec![], at: None }
}

/// The names by which a statement knows what stands in a FROM: a table without another name keeps its schema's.
pub(super) fn names_in(from: &[TableWithJoins]) -> Vec<SqlName> {
    let factors = from.iter().flat_map(|f| std::iter::once(&f.relation).chain(f.joins.iter().map(|j| &j.relation)));
    let mut names = Vec::new();
    for factor in factors {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                names.extend(names_in(std::slice::from_ref(table_with_joins)));
            }
            factor => names.extend(name_of(factor)),
        }
    }
    names
}

fn name_of(factor: &TableFactor) -> Option<SqlName> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::NestedJoin { alias: Some(alias), .. }
        | TableFactor::Function { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. } => Some(SqlName::from(vec![alias.name.clone()])),
        TableFactor::Table { name, version: Some(_), .. } => last_of(name).map(|last| SqlName::from(vec![last])),
        TableFactor::Table { name, .. } => Some(name.clone()),
        _ => None,
    }
}

/// The last part of a name.
pub(super) fn last_of(name: &SqlName) -> Option<Ident> {
    name.0.last().and_then(|part| part.as_ident()).cloned()
}

/// An expression that is assigned to a column, as the planner is to take it, and what is known of its type.
///
/// A parameter gets the column's type, and a number keeps its digits: `2.5` is no double.
pub(super) fn value_for(expr: Expr, column: &Column) -> (Expr, Given) {
    match expr {
        Expr::Nested(inner) if !matches!(*inner, Expr::Subquery(_)) => value_for(*inner, column),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(_) => match sql_type(&column.data_type.to_string()) {
                Some(data_type) => (cast(Expr::Value(value), data_type), Given::Untyped),
                None => (Expr::Value(value), Given::Untyped),
            },
            Value::Number(text, _) => match decimal_type(text) {
                Some(data_type) => {
                    (cast(Expr::value(Value::SingleQuotedString(text.clone())), data_type), Given::Typed)
                }
                None => (Expr::Value(value), Given::Typed),
            },
            _ => (Expr::Value(value), Given::Untyped),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } if is_number(&expr) => {
            let (expr, given) = value_for(*expr, column);
            (Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(expr) }, given)
        }
        other => (other, Given::Typed),
    }
}

fn is_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Number(..)))
}

fn cast(expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// The decimal type that has the digits of a number with a point; numbers without one, or with an exponent, have none.
fn decimal_type(text: &str) -> Option<SqlType> {
    let (whole, fraction) = text.split_once('.')?;
    let digits = whole.len() + fraction.len();
    let plain = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    let digits = u64::try_from(digits).ok().filter(|digits| plain && (1..=38).contains(digits))?;
    let scale = i64::try_from(fraction.len()).ok()?;
    Some(SqlType::Decimal(ExactNumberInfo::PrecisionAndScale(digits, scale)))
}

fn sql_type(text: &str) -> Option<SqlType> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?.parse_data_type().ok()
}

/// Whether an expression is the word DEFAULT.
pub(super) fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// Whether a query changes something on its way.
pub(super) fn changes_inside(sql: &impl Visit) -> bool {
    sql.visit(&mut ChangeFinder).is_break()
}

struct ChangeFinder;

impl Visitor for ChangeFinder {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}
