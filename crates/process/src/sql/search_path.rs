//! Owns the search path: which schema a name without one means, put into the statement's text.
//!
//! ```text
//! SET search_path = ops, public;
//! SELECT * FROM clicks JOIN users USING (id)     SELECT * FROM "ops".clicks JOIN "public".users USING (id)
//! CREATE VIEW late AS SELECT * FROM clicks       CREATE VIEW "ops".late AS SELECT * FROM "ops".clicks
//! ```
//!
//! From then on a statement says the same whatever the path is: what is made of it later, a view's query, keeps its
//! meaning. Temporary tables lie in a schema of the session, `pg_temp_n`, which is looked through first.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName as SqlName, Query, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};
use millstream_catalog::fault::Code;
use millstream_catalog::{DEFAULT_SCHEMA, ObjectName};

use super::{Session, Statement, folded};
use crate::ddl::{self, Command, NamedAt, Naming, ParsedStatement, TEMPORARY};
use crate::{Error, Result};

/// What a name without a schema is looked for in, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SearchPath(Vec<String>);

impl SearchPath {
    /// The path as `SET search_path` has it: names with commas between them, perhaps quoted.
    pub(super) fn parse(text: &str) -> Self {
        let names = text.split(',').map(str::trim).map(|name| match name.strip_prefix(['"', '\'']) {
            Some(quoted) => quoted.trim_end_matches(['"', '\'']).to_owned(),
            None => name.to_lowercase(),
        });
        // A schema of the user's name is one that nobody made; the catalog is looked through anyway.
        Self(names.filter(|name| !name.is_empty() && name != "$user" && name != "pg_catalog").collect())
    }

    fn is_default(&self) -> bool {
        self.0 == [DEFAULT_SCHEMA]
    }

    /// As functions take it.
    fn literal(&self) -> String {
        format!("'{}'", self.0.join(",").replace('\'', "''"))
    }
}

/// A statement's text with something put in, and where.
#[derive(Debug, Default)]
pub(super) struct PutIn {
    text: String,
    /// By place, in characters of the first text: how many were put in there.
    places: Vec<(usize, usize)>,
}

impl PutIn {
    /// Puts texts in at byte offsets.
    fn of(text: &str, mut put: Vec<(usize, String)>) -> Self {
        put.sort();
        put.dedup();
        let mut result = Self { text: String::with_capacity(text.len() + 16 * put.len()), places: vec![] };
        let mut from = 0;
        for (at, what) in put {
            result.text.push_str(&text[from..at]);
            result.places.push((text[..at].chars().count(), what.chars().count()));
            result.text.push_str(&what);
            from = at;
        }
        result.text.push_str(&text[from..]);
        result
    }

    /// An error as it is about the first text.
    pub(super) fn back(&self, error: Error) -> Error {
        let back = |position: usize| {
            let mut position = position;
            let mut put = 0;
            for (at, count) in &self.places {
                if position > at + put + count {
                    put += count;
                } else if position > at + put {
                    // It points into what was put in: the name begins there.
                    position = at + put + count + 1;
                    put += count;
                }
            }
            position - put
        };
        match error {
            Error::Rejected { code, message, hint, position } => {
                Error::Rejected { code, message, hint, position: position.map(back) }
            }
            Error::Query { code, message, position, source } => {
                Error::Query { code, message, position: position.map(back), source }
            }
            other => other,
        }
    }
}

impl Session {
    /// The path as it is set.
    pub(super) fn search_path(&self) -> SearchPath {
        SearchPath::parse(self.settings.lock().get("search_path").unwrap_or(DEFAULT_SCHEMA))
    }

    /// Whether a text means the same for this session as for any other.
    pub(super) fn reads_plainly(&self, text: &str) -> bool {
        self.search_path().is_default() && !self.has_temporary() && !names_temporary(text)
    }

    /// The statement with a schema before each name that has none, where they are not all in `public`.
    pub(super) fn resolved<'a>(&self, statement: &'a Statement) -> Result<(Cow<'a, Statement>, PutIn)> {
        if self.reads_plainly(&statement.text) {
            return Ok((Cow::Borrowed(statement), PutIn::default()));
        }
        let path = self.search_path();
        let put = self.put_in(&statement.parsed, &path)?;
        if put.places.is_empty() {
            return Ok((Cow::Borrowed(statement), PutIn::default()));
        }
        let mut parsed = ddl::parse(&put.text).map_err(|e| put.back(e))?;
        match (parsed.pop(), parsed.is_empty()) {
            (Some(one), true) => {
                let resolved = Statement { text: one.text.clone(), parsed: Arc::new(one) };
                Ok((Cow::Owned(resolved), put))
            }
            _ => Err(Error::rejected(Code::Internal, "a statement became another with the schemas of its names")),
        }
    }

    fn put_in(&self, parsed: &ParsedStatement, path: &SearchPath) -> Result<PutIn> {
        let text = parsed.text.as_str();
        let mut names = parsed.names.clone();
        for sql in queries_of(&parsed.command, text) {
            relations_of(sql, &mut names);
        }
        let mut put = vec![];
        for named in names {
            let at = ddl::byte_offset(text, named.at);
            match &named.naming {
                Naming::Existing(name) => put.extend(self.schema_of(name, path).map(|schema| (at, before(&schema)))),
                Naming::Made(name) => put.push((at, before(&self.schema_to_make_in(name, path)?))),
                Naming::Temporary => put.push((at, before(&self.temporary_schema()))),
                Naming::InSchema(schema) if schema == TEMPORARY => {
                    let number = self.temporary_schema().split_off(TEMPORARY.len());
                    put.push((at + TEMPORARY.len() + usize::from(text[at..].starts_with('"')), number));
                }
                Naming::InSchema(schema) if schema.starts_with("pg_temp_") && *schema != self.temporary_schema() => {
                    let message = format!("schema {schema:?} has the temporary tables of another connection");
                    return Err(Error::rejected(Code::Denied, message));
                }
                Naming::InSchema(_) => {}
            }
        }
        if !path.is_default() {
            put.extend(calls_of_path(text, path)?);
        }
        Ok(PutIn::of(text, put))
    }

    /// The schema in which something of that name is found; the first of the path when it is nowhere.
    fn schema_of(&self, name: &str, path: &SearchPath) -> Option<String> {
        let temporary = self.temporary_schema();
        let there = |schema: &&String| {
            ObjectName::new(schema.as_str(), name).is_ok_and(|object| self.shared.kind_of(&object).is_some())
        };
        if there(&&temporary) {
            return Some(temporary);
        }
        // A table of the catalog is found by the rules for these.
        if name.starts_with("pg_") {
            return None;
        }
        let found = path.0.iter().find(there).or_else(|| path.0.first());
        found.filter(|schema| *schema != DEFAULT_SCHEMA || !path.is_default()).cloned()
    }

    fn schema_to_make_in(&self, name: &str, path: &SearchPath) -> Result<String> {
        let found = path.0.iter().find(|schema| self.shared.has_schema(schema));
        found.cloned().ok_or_else(|| Error::Rejected {
            code: Code::UndefinedSchema,
            message: format!("no schema of the search_path is there, {name:?} cannot be made"),
            hint: Some("SET search_path = public, or write schema.name".to_owned()),
            position: None,
        })
    }
}

/// Whether a text may be about temporary tables: what stands behind so many rows is not looked at.
fn names_temporary(text: &str) -> bool {
    const LOOKED_AT: usize = 64 << 10;
    let start = &text.as_bytes()[..text.len().min(LOOKED_AT)];
    start.windows(4).any(|word| word.eq_ignore_ascii_case(b"temp"))
}

fn before(schema: &str) -> String {
    format!("\"{}\".", schema.replace('"', "\"\""))
}

/// The library's statements in a statement; those that the engine made itself are not in its text.
fn queries_of<'a>(command: &'a Command, text: &str) -> Vec<&'a DfStatement> {
    match command {
        Command::Sql(statement) => vec![statement],
        Command::CreateView { view, .. } => vec![&view.query.statement],
        Command::CreatePlainView { view, .. } => vec![&view.query.statement],
        Command::CreateDerivedStream { stream, .. } => vec![&stream.query.statement],
        Command::CreateTableAs { table, .. } => vec![&table.query.statement],
        Command::CopyTo(copy) if text.contains(&copy.query.text) => vec![&copy.query.statement],
        Command::EmitChanges { query } => vec![&query.statement],
        Command::ExplainCreate { create, .. } => queries_of(create, text),
        _ => vec![],
    }
}

/// Adds the names of relations in a statement of the library.
fn relations_of(sql: &DfStatement, names: &mut Vec<NamedAt>) {
    match sql {
        DfStatement::Statement(statement) => {
            let mut relations = Relations::default();
            let _ = statement.visit(&mut relations);
            names.extend(relations.found);
        }
        DfStatement::Explain(explain) => relations_of(&explain.statement, names),
        _ => {}
    }
}

/// The relations of a statement, without names that are none: of WITH queries where they hold, and of functions.
#[derive(Default)]
struct Relations {
    found: Vec<NamedAt>,
    /// The queries that are being visited, outermost first.
    within: Vec<With>,
    /// Where functions are named.
    functions: HashSet<Location>,
}

/// The WITH queries of a query.
struct With {
    /// What each is called, and the query that it is.
    named: Vec<(String, *const Query)>,
    /// How many hold by now: those that were visited, or all where they are recursive.
    holding: usize,
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        let named: Vec<_> = with.map(|cte| (folded(&cte.alias.name), std::ptr::from_ref(&*cte.query))).collect();
        let holding = if query.with.as_ref().is_some_and(|with| with.recursive) { named.len() } else { 0 };
        self.within.push(With { named, holding });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.within.pop();
        if let Some(with) = self.within.last_mut() {
            let is_next = with.named.get(with.holding).is_some_and(|(_, next)| std::ptr::eq(*next, query));
            with.holding += usize::from(is_next);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } = factor {
            self.functions.extend(name.0.first().and_then(|part| part.as_ident()).map(|ident| ident.span.start));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &SqlName) -> ControlFlow<()> {
        let parts: Vec<&Ident> = relation.0.iter().filter_map(|part| part.as_ident()).collect();
        let naming = match parts.as_slice() {
            [name] => Naming::Existing(folded(name)),
            [schema, _] => Naming::InSchema(folded(schema)),
            _ => return ControlFlow::Continue(()),
        };
        // What the engine put in itself has no place in the text.
        let at = parts.first().map(|ident| ident.span.start).filter(|at| *at != Location::empty());
        let Some(at) = at.filter(|at| !self.functions.contains(at)) else { return ControlFlow::Continue(()) };
        let is_with = |name: &String| {
            self.within.iter().any(|with| with.named[..with.holding].iter().any(|(with, _)| with == name))
        };
        if !matches!(&naming, Naming::Existing(name) if is_with(name)) {
            self.found.push(NamedAt { at, naming });
        }
        ControlFlow::Continue(())
    }
}

/// Functions whose answer depends on the path get it as their first argument.
fn calls_of_path(text: &str, path: &SearchPath) -> Result<Vec<(usize, String)>> {
    const CALLS: [&str; 5] =
        ["current_schema", "current_schemas", "pg_table_is_visible", "current_setting", "to_regclass"];
    let tokens = ddl::tokens(text)?;
    let mut put = vec![];
    for (i, token) in tokens.iter().enumerate() {
        let Token::Word(word) = &token.token else { continue };
        let Some(call) = CALLS.iter().find(|call| word.quote_style.is_none() && word.value.eq_ignore_ascii_case(call))
        else {
            continue;
        };
        let next = tokens.get(i + 1).map(|t| &t.token);
        let of_table = i > 0 && tokens[i - 1].token == Token::Period;
        let named = i > 0 && matches!(&tokens[i - 1].token, Token::Word(w) if w.value.eq_ignore_ascii_case("as"));
        match next {
            Some(Token::LParen) => {
                let empty = matches!(tokens.get(i + 2).map(|t| &t.token), Some(Token::RParen));
                let comma = if empty { "" } else { ", " };
                put.push((ddl::byte_offset(text, tokens[i + 1].span.end), format!("{}{comma}", path.literal())));
            }
            Some(Token::Period) => {}
            _ if *call == "current_schema" && !named && !of_table => {
                put.push((ddl::byte_offset(text, token.span.end), format!("({})", path.literal())));
            }
            _ => {}
        }
    }
    Ok(put)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_is_written() {
        assert_eq!(SearchPath::parse("\"$user\", public"), SearchPath(vec!["public".into()]));
        assert_eq!(SearchPath::parse("Ops,\"My\" , 'x'").0, ["ops", "My", "x"]);
        assert!(SearchPath::parse("").0.is_empty());
        assert!(SearchPath::parse("public").is_default());
    }

    #[test]
    fn places_behind_what_was_put_in_are_told_as_before() {
        let put = PutIn::of("SELECT é FROM tt, u", vec![(15, "ops.".into()), (19, "x.".into())]);
        assert_eq!(put.text, "SELECT é FROM ops.tt, x.u");
        let back = |position: usize| match put.back(Error::Rejected {
            code: Code::Internal,
            message: String::new(),
            hint: None,
            position: Some(position),
        }) {
            Error::Rejected { position: Some(position), .. } => position,
            other => panic!("{other:?}"),
        };
        // `é`, the two tables, and places within what was put in.
        assert_eq!([8, 19, 25].map(back), [8, 15, 19]);
        assert_eq!([15, 16, 23].map(back), [15, 15, 19]);
    }
}
