//! Owns what becomes of a table's definition by ALTER TABLE, and where its columns' values come from then.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, visit_expressions_mut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Span;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, DataType, KeptColumn, ObjectName, Reshape, Stream, TableSpec, quoted};

use super::alter::TableAction;
use crate::ddl::alter::add_checks;
use crate::ddl::entry::MAX_COLUMNS;
use crate::{Error, Result};

/// The definition after these changes, one version up; `None` when they change nothing.
pub fn altered_table(table: &Stream, actions: &[TableAction]) -> Result<Option<Stream>> {
    let mut next = table.clone();
    let mut spec = next.table.take().unwrap_or_default();
    let mut values = Values::of(table);
    for action in actions {
        change(&mut next, &mut spec, &mut values, action)?;
    }
    if values.rewritten {
        if let Some(location) = &spec.location {
            let message = format!(
                "table {} lies at {location}, where others made it: its columns can be added to, not changed",
                table.name
            );
            return Err(Error::rejected(Code::Unsupported, message));
        }
        spec.reshape = Some(values.reshape(&next, table));
    }
    next.table = Some(spec);
    if next == *table {
        return Ok(None);
    }
    next.version += 1;
    next.validate()?;
    Ok(Some(next))
}

/// Where the values of columns come from, while a definition is changed.
struct Values {
    /// Columns that keep values: what each is called, and what it was called.
    from: BTreeMap<String, String>,
    /// Columns that begin with their DEFAULT.
    filled: Vec<String>,
    /// Whether files are written again for it.
    rewritten: bool,
    /// Whether columns are not what they were.
    changed: bool,
}

impl Values {
    fn of(table: &Stream) -> Self {
        let from = table.columns.iter().map(|column| (column.name.clone(), column.name.clone())).collect();
        Self { from, filled: vec![], rewritten: false, changed: false }
    }

    /// A column is not what it was.
    fn change(&mut self) {
        (self.rewritten, self.changed) = (true, true);
    }

    fn drop_column(&mut self, name: &str) {
        self.from.remove(name);
        self.filled.retain(|column| column != name);
        self.change();
    }

    fn rename_column(&mut self, from: &str, to: &str) {
        if let Some(before) = self.from.remove(from) {
            self.from.insert(to.to_owned(), before);
        }
        self.filled.iter_mut().filter(|column| *column == from).for_each(|column| to.clone_into(column));
        self.change();
    }

    fn fill(&mut self, name: &str) {
        self.filled.push(name.to_owned());
        self.rewritten = true;
    }

    fn reshape(self, next: &Stream, before: &Stream) -> Reshape {
        let version = next.version + 1;
        let kept = |column: &Column| {
            let from = self.from.get(&column.name)?.clone();
            Some(KeptColumn { name: column.name.clone(), from })
        };
        let earlier = before.table.as_ref().and_then(|spec| spec.reshape.as_ref()).map_or(0, |reshape| reshape.since);
        Reshape {
            version,
            since: if self.changed { version } else { earlier },
            kept: next.columns.iter().filter_map(kept).collect(),
            filled: self.filled,
        }
    }
}

fn change(next: &mut Stream, spec: &mut TableSpec, values: &mut Values, action: &TableAction) -> Result<()> {
    match action {
        TableAction::AddColumn { column, checks, if_not_exists } => {
            if next.columns.iter().any(|c| c.name.eq_ignore_ascii_case(&column.name)) {
                let message = format!("column {:?} of table {} already exists", column.name, next.name);
                return if *if_not_exists { Ok(()) } else { Err(Error::rejected(Code::DuplicateColumn, message)) };
            }
            if next.columns.len() >= MAX_COLUMNS {
                let message = format!("table {} has {MAX_COLUMNS} columns, it takes no more", next.name);
                return Err(Error::rejected(Code::TooLarge, message));
            }
            next.columns.push(column.clone());
            add_checks(next, checks);
            if column.default.is_some() {
                values.fill(&column.name);
            }
        }
        TableAction::DropColumn { name, if_exists, cascade } => {
            if *if_exists && next.column(name).is_none() {
                return Ok(());
            }
            column_mut(next, name)?;
            if *cascade {
                drop_users(next, spec, values, name);
            }
            refuse_used(next, spec, name)?;
            drop_column(next, spec, values, name);
        }
        TableAction::RenameColumn { from, to } => {
            rename_column(next, spec, from, to)?;
            values.rename_column(from, to);
        }
        TableAction::Rename(name) => {
            // The files stay where they are.
            if spec.location.is_none() {
                let folder = spec.folder.take().unwrap_or_else(|| next.name.name().to_owned());
                spec.folder = (folder != name.name()).then_some(folder);
            }
            next.name = name.clone();
        }
        TableAction::SetType { column, data_type } => {
            let table = next.name.clone();
            let column = column_mut(next, column)?;
            if !holds(data_type, &column.data_type) {
                return Err(Error::Rejected {
                    code: Code::Unsupported,
                    message: format!(
                        "column {:?} of table {table} is {} and cannot become {data_type}",
                        column.name, column.data_type
                    ),
                    hint: Some(WIDER.to_owned()),
                    position: None,
                });
            }
            if column.data_type == *data_type {
                return Ok(());
            }
            if spec.partitioned_by.contains(&column.name) {
                let message = format!(
                    "column {:?} of table {table} keeps its type: the table is PARTITIONED BY it, and its values name \
                     folders",
                    column.name
                );
                return Err(Error::rejected(Code::Unsupported, message));
            }
            column.data_type = data_type.clone();
            values.change();
        }
        TableAction::SetNullable { column, nullable } => {
            if *nullable && spec.primary_key.as_ref().is_some_and(|key| key.columns.contains(column)) {
                let message = format!("column {column:?} of table {} is in its PRIMARY KEY", next.name);
                return Err(Error::rejected(Code::InvalidDefinition, message));
            }
            column_mut(next, column)?.nullable = *nullable;
        }
        TableAction::SetDefault { column, default } => {
            if spec.generated.iter().any(|g| g.column == *column) {
                let message = format!("column {column:?} of table {} is generated, it has no default", next.name);
                return Err(Error::rejected(Code::InvalidDefinition, message));
            }
            column_mut(next, column)?.default.clone_from(default);
        }
        TableAction::AddCheck { check, named } => {
            if *named {
                refuse_taken(next, spec, &check.name)?;
            }
            add_checks(next, std::slice::from_ref(check));
        }
        TableAction::AddPrimaryKey(key) => {
            if spec.primary_key.is_some() {
                let message = format!("table {} has a PRIMARY KEY already: DROP CONSTRAINT first", next.name);
                return Err(Error::rejected(Code::InvalidDefinition, message));
            }
            refuse_taken(next, spec, &key.name)?;
            for name in &key.columns {
                column_mut(next, name)?.nullable = false;
            }
            spec.primary_key = Some(key.clone());
        }
        TableAction::DropConstraint { name, if_exists } => drop_constraint(next, spec, name, *if_exists)?,
        TableAction::RenameConstraint { from, to } => {
            refuse_taken(next, spec, to)?;
            let check = next.checks.iter_mut().find(|c| c.name == *from).map(|c| &mut c.name);
            let key = spec.primary_key.as_mut().filter(|k| k.name == *from).map(|k| &mut k.name);
            match check.or(key) {
                Some(name) => name.clone_from(to),
                None => return Err(no_constraint(&next.name, from)),
            }
        }
        TableAction::SetOptions(changes) => changes.iter().for_each(|change| change.apply(&mut next.options)),
        TableAction::SetComment { column: None, text } => next.comment.clone_from(text),
        TableAction::SetComment { column: Some(name), text } => column_mut(next, name)?.comment.clone_from(text),
    }
    Ok(())
}

const WIDER: &str = "a type can become a wider one: smallint int, int bigint or double precision, real double precision, \
                     a decimal one with more digits, an integer a decimal of 5, 10 or 20 digits before the point, \
                     date timestamp, uuid and json text; for another, add a column, UPDATE it and drop the old one";

fn column_mut<'a>(table: &'a mut Stream, name: &str) -> Result<&'a mut Column> {
    let missing = format!("table {} has no column {name:?}", table.name);
    let found = table.columns.iter_mut().find(|c| c.name == name);
    found.ok_or_else(|| Error::rejected(Code::UndefinedColumn, missing))
}

fn drop_column(next: &mut Stream, spec: &mut TableSpec, values: &mut Values, name: &str) {
    next.columns.retain(|c| c.name != name);
    spec.generated.retain(|g| g.column != name);
    values.drop_column(name);
}

/// Drops what is made of a column, but for how the table's files are laid out.
fn drop_users(next: &mut Stream, spec: &mut TableSpec, values: &mut Values, column: &str) {
    next.checks.retain(|check| !names_column(&check.expr, column));
    spec.primary_key.take_if(|key| key.columns.iter().any(|c| c == column));
    let computed = spec.generated.iter().filter(|g| g.column != column && names_column(&g.expression, column));
    for name in computed.map(|g| g.column.clone()).collect::<Vec<_>>() {
        drop_users(next, spec, values, &name);
        drop_column(next, spec, values, &name);
    }
}

fn drop_constraint(next: &mut Stream, spec: &mut TableSpec, name: &str, if_exists: bool) -> Result<()> {
    let before = next.checks.len();
    next.checks.retain(|c| c.name != name);
    if next.checks.len() < before {
        return Ok(());
    }
    match spec.primary_key.take_if(|key| key.name == name) {
        None if !if_exists => Err(no_constraint(&next.name, name)),
        _ => Ok(()),
    }
}

fn no_constraint(table: &ObjectName, name: &str) -> Error {
    Error::rejected(Code::UndefinedObject, format!("table {table} has no constraint {name:?}"))
}

fn refuse_taken(table: &Stream, spec: &TableSpec, name: &str) -> Result<()> {
    let taken = table.checks.iter().any(|c| c.name == name) || spec.primary_key.iter().any(|k| k.name == name);
    if !taken {
        return Ok(());
    }
    let message = format!("table {} has a constraint {name:?} already", table.name);
    Err(Error::rejected(Code::InvalidDefinition, message))
}

/// A column that something of the definition names cannot go, nor be called otherwise under an expression.
fn refuse_used(table: &Stream, spec: &TableSpec, column: &str) -> Result<()> {
    let key = spec.primary_key.as_ref().filter(|k| k.columns.iter().any(|c| c == column));
    let used = if let Some(key) = key {
        format!("constraint {:?} is made of it, drop that first", key.name)
    } else if spec.partitioned_by.iter().any(|c| c == column) {
        "the table is PARTITIONED BY it".to_owned()
    } else if spec.sorted_by.iter().any(|c| c == column) {
        "its files are sorted by it".to_owned()
    } else {
        return refuse_in_expressions(table, spec, column);
    };
    let message = format!("column {column:?} of table {} cannot be dropped: {used}", table.name);
    Err(Error::rejected(Code::DependentObjects, message))
}

fn refuse_in_expressions(table: &Stream, spec: &TableSpec, column: &str) -> Result<()> {
    let used = if let Some(check) = table.checks.iter().find(|c| names_column(&c.expr, column)) {
        format!("constraint {:?} reads it, drop that first", check.name)
    } else if let Some(generated) =
        spec.generated.iter().find(|g| g.column != column && names_column(&g.expression, column))
    {
        format!("column {:?} is computed from it, drop that first", generated.column)
    } else {
        return Ok(());
    };
    let message = format!("column {column:?} of table {} cannot be changed so: {used}", table.name);
    Err(Error::rejected(Code::DependentObjects, message))
}

/// Whether an expression or a query may name a column: its word is in it.
pub(crate) fn names_column(expression: &str, column: &str) -> bool {
    let column = column.to_lowercase();
    let words = expression.split(|c: char| !c.is_alphanumeric() && c != '_');
    let plain = column.chars().all(|c| c.is_alphanumeric() || c == '_');
    if plain {
        words.map(str::to_lowercase).any(|word| word == column)
    } else {
        expression.to_lowercase().contains(&column)
    }
}

fn rename_column(next: &mut Stream, spec: &mut TableSpec, from: &str, to: &str) -> Result<()> {
    if next.columns.iter().any(|c| c.name != *from && c.name.eq_ignore_ascii_case(to)) {
        let message = format!("column {to:?} of table {} already exists", next.name);
        return Err(Error::rejected(Code::DuplicateColumn, message));
    }
    column_mut(next, from)?;
    column_mut(next, from)?.name = to.to_owned();
    let generated = spec.generated.iter_mut().map(|g| &mut g.expression);
    for expression in next.checks.iter_mut().map(|check| &mut check.expr).chain(generated) {
        *expression = renamed_in(expression, from, to)?;
    }
    let keys = spec.primary_key.iter_mut().flat_map(|k| k.columns.iter_mut());
    let listed = keys.chain(&mut spec.partitioned_by).chain(&mut spec.sorted_by);
    let generated = spec.generated.iter_mut().map(|g| &mut g.column);
    listed.chain(generated).filter(|name| *name == from).for_each(|name| to.clone_into(name));
    Ok(())
}

/// An expression over a column that has another name now.
fn renamed_in(expression: &str, from: &str, to: &str) -> Result<String> {
    if !names_column(expression, from) {
        return Ok(expression.to_owned());
    }
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(expression).and_then(|mut parser| parser.parse_expr());
    let mut parsed = parsed.map_err(|e| Error::rejected(Code::SyntaxError, format!("{expression}: {e}")))?;
    let _: ControlFlow<()> = visit_expressions_mut(&mut parsed, |expr| {
        let named = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(parts) => parts.last_mut(),
            _ => None,
        };
        let called =
            |ident: &Ident| if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
        if let Some(ident) = named.filter(|ident| called(ident) == from) {
            let quote = (quoted(to) != to).then_some('"');
            *ident = Ident { value: to.to_owned(), quote_style: quote, span: Span::empty() };
        }
        ControlFlow::Continue(())
    });
    Ok(parsed.to_string())
}

/// Whether a type holds every value of another, shown the same.
fn holds(wider: &DataType, data_type: &DataType) -> bool {
    use DataType::{BigInt, Date, Decimal, Double, Int, Json, Real, SmallInt, Text, Timestamp, Uuid};
    let digits = |integer: &DataType| match integer {
        SmallInt => Some(5),
        Int => Some(10),
        BigInt => Some(20),
        _ => None,
    };
    match (data_type, wider) {
        (a, b) if a == b => true,
        (SmallInt, Int | BigInt) | (Int, BigInt) | (Real, Double) | (Uuid | Json, Text) => true,
        (SmallInt | Int, Double) | (Date, Timestamp) => true,
        (integer, Decimal { precision, scale }) if digits(integer).is_some() => {
            digits(integer).is_some_and(|digits| i16::from(*precision) - i16::from(*scale) >= digits)
        }
        (Decimal { precision: p, scale: s }, Decimal { precision, scale }) => {
            scale >= s && i16::from(*precision) - i16::from(*scale) >= i16::from(*p) - i16::from(*s)
        }
        _ => false,
    }
}
