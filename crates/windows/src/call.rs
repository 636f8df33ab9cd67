//! Owns the form of a call in a parsed FROM: which function it is, and the table inside it.

use std::fmt;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Function as SqlFunction, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, ObjectName,
    Query, Select, SelectFlavor, SetExpr, TableFactor, TableFunctionArgs, TableWithJoins,
};

use crate::argument::name_of;

/// One of the window functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// Windows of one size, one beside the other.
    Tumble,
    /// Windows of one size, one every slide.
    Hop,
    /// Windows of one start that grow by a step until they have their size.
    Cumulate,
    /// Windows that end when a gap passes without a row.
    Session,
}

impl Function {
    /// The function that an identifier names.
    pub(crate) fn identified(name: &str, quote: Option<char>) -> Option<Self> {
        if quote.is_some() { Self::named(name) } else { Self::named(&name.to_ascii_lowercase()) }
    }

    /// The function of a name in lower case.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "tumble" => Some(Function::Tumble),
            "hop" => Some(Function::Hop),
            "cumulate" => Some(Function::Cumulate),
            "session" => Some(Function::Session),
            _ => None,
        }
    }

    fn called(name: &ObjectName) -> Option<Self> {
        match name.0.as_slice() {
            [part] => part.as_ident().and_then(|ident| Self::identified(&ident.value, ident.quote_style)),
            _ => None,
        }
    }

    /// Its intervals, in order.
    pub(crate) fn intervals(self) -> &'static [&'static str] {
        match self {
            Function::Tumble => &["size"],
            Function::Hop => &["slide", "size"],
            Function::Cumulate => &["step", "size"],
            Function::Session => &["gap"],
        }
    }

    /// How it is written.
    pub fn usage(self) -> &'static str {
        match self {
            Function::Tumble => "TUMBLE(table, column, size [, offset])",
            Function::Hop => "HOP(table, column, slide, size [, offset])",
            Function::Cumulate => "CUMULATE(table, column, step, size [, offset])",
            Function::Session => "SESSION(table [PARTITION BY key, …], column, gap)",
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Function::Tumble => "TUMBLE",
            Function::Hop => "HOP",
            Function::Cumulate => "CUMULATE",
            Function::Session => "SESSION",
        })
    }
}

/// The function that a part of a FROM calls, if it calls one and is in the canonical form.
pub(crate) fn function(factor: &TableFactor) -> Option<Function> {
    match factor {
        TableFactor::Table { name, args: Some(_), .. } => Function::called(name),
        _ => None,
    }
}

/// The table that a call is over, where it has a name.
pub fn input(call: &TableFactor) -> Option<&TableFactor> {
    function(call)?;
    let TableFactor::Table { args: Some(args), .. } = call else { return None };
    match args.args.iter().find_map(as_data)? {
        SqlExpr::Subquery(query) => exposed(query),
        _ => None,
    }
}

/// Takes `TABLE(…)` off a call, and makes a query of the table's name in it. What is no call stays as it is.
pub(crate) fn canonical(factor: &mut TableFactor) {
    if let TableFactor::TableFunction { expr: SqlExpr::Function(call), alias } = factor
        && Function::called(&call.name).is_some()
        && let Some(args) = arguments(call)
    {
        let (name, alias) = (call.name.clone(), alias.take());
        *factor = table(name);
        if let TableFactor::Table { args: own_args, alias: own_alias, .. } = factor {
            (*own_args, *own_alias) = (Some(args), alias);
        }
    }
    if function(factor).is_none() {
        return;
    }
    let TableFactor::Table { args: Some(args), .. } = factor else { return };
    if let Some(data) = args.args.iter_mut().find_map(as_data_mut)
        && let Some(name) = relation(data)
    {
        *data = SqlExpr::Subquery(Box::new(query_of(table(name))));
    }
}

/// The table that [`canonical`] made this query of.
pub(crate) fn exposed(query: &Query) -> Option<&TableFactor> {
    match query.body.as_ref() {
        SetExpr::Select(select) if matches!(select.flavor, SelectFlavor::FromFirstNoSelect) => {
            select.from.first().map(|from| &from.relation)
        }
        _ => None,
    }
}

/// The name of a relation, where an expression is nothing else.
pub(crate) fn relation(expr: &SqlExpr) -> Option<ObjectName> {
    match expr {
        SqlExpr::Identifier(name) => Some(ObjectName::from(vec![name.clone()])),
        SqlExpr::CompoundIdentifier(parts) => Some(ObjectName::from(parts.clone())),
        SqlExpr::Nested(inner) => relation(inner),
        _ => None,
    }
}

/// A table in a FROM.
pub(crate) fn table(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

/// The arguments of a call that has nothing beside them.
fn arguments(call: &SqlFunction) -> Option<TableFunctionArgs> {
    let bare = call.over.is_none() && call.filter.is_none() && call.within_group.is_empty();
    match &call.args {
        FunctionArguments::List(list) if bare && list.duplicate_treatment.is_none() && list.clauses.is_empty() => {
            Some(TableFunctionArgs { args: list.args.clone(), settings: None })
        }
        _ => None,
    }
}

fn as_data(arg: &FunctionArg) -> Option<&SqlExpr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. }
            if name_of(arg).as_deref() == Some("data") =>
        {
            Some(expr)
        }
        _ => None,
    }
}

fn as_data_mut(arg: &mut FunctionArg) -> Option<&mut SqlExpr> {
    let is_data = as_data(arg).is_some();
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. }
            if is_data =>
        {
            Some(expr)
        }
        _ => None,
    }
}

/// `FROM table` without a SELECT: a form that no user writes in this dialect.
fn query_of(table: TableFactor) -> Query {
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![],
        exclude: None,
        into: None,
        from: vec![TableWithJoins { relation: table, joins: vec![] }],
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        connect_by: vec![],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::FromFirstNoSelect,
    };
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}
