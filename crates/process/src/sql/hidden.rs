//! Owns the hidden columns in SQL: selectable by name, absent from `*`.
//!
//! A statement that names none of them is planned over tables without them. One that does is planned over tables
//! with them, and each `*` that stands over a stream leaves them out.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, Ident, ObjectName as SqlName, Select, SelectItem, Statement, TableFactor, Visit, VisitMut,
    Visitor, VisitorMut, WildcardAdditionalOptions,
};
use millstream_catalog::{DEFAULT_SCHEMA, HIDDEN_COLUMNS, ObjectName};

/// Whether the statement names a hidden column anywhere.
pub(crate) fn names_hidden(statement: &DfStatement) -> bool {
    inner(statement).is_some_and(|s| s.visit(&mut Finder).is_break())
}

/// Leaves the hidden columns out of each `*` over something that `is_stream` says is a stream.
pub(crate) fn hide_in_wildcards(statement: &mut DfStatement, is_stream: &dyn Fn(&ObjectName) -> bool) {
    let _ = match statement {
        DfStatement::Statement(s) => s.visit(&mut Excluder { is_stream }),
        DfStatement::Explain(explain) => return hide_in_wildcards(&mut explain.statement, is_stream),
        _ => ControlFlow::Continue(()),
    };
}

fn inner(statement: &DfStatement) -> Option<&Statement> {
    match statement {
        DfStatement::Statement(s) => Some(s),
        DfStatement::Explain(explain) => inner(&explain.statement),
        _ => None,
    }
}

struct Finder;

impl Visitor for Finder {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let last = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        match last {
            Some(ident) if HIDDEN_COLUMNS.contains(&folded(ident).as_str()) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

struct Excluder<'a> {
    is_stream: &'a dyn Fn(&ObjectName) -> bool,
}

impl VisitorMut for Excluder<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let relations = select
            .from
            .iter()
            .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
        let streams: Vec<String> = relations.filter_map(|r| self.stream_alias(r)).collect();
        if streams.is_empty() {
            return ControlFlow::Continue(());
        }
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) => exclude(options),
                SelectItem::QualifiedWildcard(kind, options) => {
                    let qualifier = kind.to_string();
                    let last = qualifier.trim_end_matches(".*").rsplit('.').next().unwrap_or_default();
                    let last = last.trim_matches('"');
                    if streams.iter().any(|s| s.eq_ignore_ascii_case(last)) {
                        exclude(options);
                    }
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

impl Excluder<'_> {
    /// The name by which the query knows a stream in its FROM, be it inside a window function.
    fn stream_alias(&self, relation: &TableFactor) -> Option<String> {
        let TableFactor::Table { alias, .. } = relation else { return None };
        let TableFactor::Table { name, .. } = millstream_windows::input(relation).unwrap_or(relation) else {
            return None;
        };
        let object = object_name(name)?;
        (self.is_stream)(&object).then(|| match alias {
            Some(alias) => folded(&alias.name),
            None => object.name().to_owned(),
        })
    }
}

/// The object that a name in SQL means.
pub(crate) fn object_name(name: &SqlName) -> Option<ObjectName> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident().map(folded)).collect();
    match parts.as_slice() {
        [name] => ObjectName::new(DEFAULT_SCHEMA, name.as_str()).ok(),
        [.., schema, name] => ObjectName::new(schema.as_str(), name.as_str()).ok(),
        [] => None,
    }
}

/// What an identifier is called: lower case unless it is quoted.
pub(crate) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn exclude(options: &mut WildcardAdditionalOptions) {
    let mut names: Vec<SqlName> = HIDDEN_COLUMNS.iter().map(|name| SqlName::from(vec![Ident::new(*name)])).collect();
    match options.opt_exclude.take() {
        Some(ExcludeSelectItem::Single(name)) => names.push(name),
        Some(ExcludeSelectItem::Multiple(more)) => names.extend(more),
        None => {}
    }
    options.opt_exclude = Some(ExcludeSelectItem::Multiple(names));
}
