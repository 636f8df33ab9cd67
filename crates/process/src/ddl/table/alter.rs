//! Owns ALTER TABLE: what it says, and what becomes of the definition.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::fault::Code;
use millstream_catalog::{Check, Column, DataType, ObjectName, PrimaryKey, Stream, TableSpec};

use super::entries::{constraint_name, key_name, refuse_constraints, unsupported};
use super::options::{reset_clause, with_clause};
use crate::ddl::Command;
use crate::ddl::OptionChange;
use crate::ddl::alter::add_checks;
use crate::ddl::column_type::data_type;
use crate::ddl::create::column_list;
use crate::ddl::cursor::Cursor;
use crate::ddl::entry::{Entries, MAX_COLUMNS};
use crate::{Error, Result};

/// One change of a table's definition.
#[derive(Debug, Clone, PartialEq)]
pub enum TableAction {
    /// `ADD COLUMN`.
    AddColumn {
        /// The column.
        column: Column,
        /// Its checks.
        checks: Vec<Check>,
        /// Whether an existing column is left alone.
        if_not_exists: bool,
    },
    /// `DROP COLUMN`.
    DropColumn {
        /// The column.
        name: String,
        /// Whether a missing one is passed over.
        if_exists: bool,
    },
    /// `RENAME COLUMN a TO b`.
    RenameColumn {
        /// What it is called.
        from: String,
        /// What it is to be called.
        to: String,
    },
    /// `RENAME TO`.
    Rename(ObjectName),
    /// `ALTER COLUMN … TYPE`.
    SetType {
        /// The column.
        column: String,
        /// Its new type, which holds every value of the old one.
        data_type: DataType,
    },
    /// `ALTER COLUMN … SET NOT NULL` and `DROP NOT NULL`.
    SetNullable {
        /// The column.
        column: String,
        /// Whether NULL is taken from now on.
        nullable: bool,
    },
    /// `ALTER COLUMN … SET DEFAULT` and `DROP DEFAULT`.
    SetDefault {
        /// The column.
        column: String,
        /// The expression; `None` takes the default away.
        default: Option<String>,
    },
    /// `ADD [CONSTRAINT name] CHECK (…)`.
    AddCheck {
        /// The name, given or the base of one.
        check: Check,
        /// Whether the name was given.
        named: bool,
    },
    /// `ADD [CONSTRAINT name] PRIMARY KEY (…)`.
    AddPrimaryKey(PrimaryKey),
    /// `DROP CONSTRAINT`.
    DropConstraint {
        /// Its name.
        name: String,
        /// Whether a missing one is passed over.
        if_exists: bool,
    },
    /// `RENAME CONSTRAINT a TO b`.
    RenameConstraint {
        /// What it is called.
        from: String,
        /// What it is to be called.
        to: String,
    },
    /// `SET (…)` and `RESET (…)`.
    SetOptions(Vec<OptionChange>),
    /// `COMMENT ON`.
    SetComment {
        /// The column, unless it is about the table itself.
        column: Option<String>,
        /// The text; `None` takes the comment away.
        text: Option<String>,
    },
}

impl TableAction {
    /// Whether the rows that are there have to be looked at first, or written again.
    pub fn concerns_rows(&self) -> bool {
        match self {
            TableAction::SetType { .. }
            | TableAction::DropColumn { .. }
            | TableAction::RenameColumn { .. }
            | TableAction::AddCheck { .. }
            | TableAction::AddPrimaryKey(_)
            | TableAction::SetNullable { nullable: false, .. } => true,
            TableAction::AddColumn { column, checks, .. } => {
                column.default.is_some() || !column.nullable || !checks.is_empty()
            }
            _ => false,
        }
    }
}

/// Reads what stands after `ALTER TABLE`.
pub(super) fn alter_table(cursor: &mut Cursor<'_>) -> Result<Command> {
    let if_exists = cursor.take_words(&["if", "exists"]);
    cursor.take_word("only");
    let name = cursor.own_name("a table name")?;
    let mut actions = vec![action(cursor, &name)?];
    while cursor.take(&Token::Comma) {
        actions.push(action(cursor, &name)?);
    }
    let renames = |a: &TableAction| {
        matches!(a, TableAction::Rename(_) | TableAction::RenameColumn { .. } | TableAction::RenameConstraint { .. })
    };
    if actions.len() > 1 && actions.iter().any(renames) {
        return Err(unsupported(cursor, "RENAME stands alone, write a statement for it"));
    }
    Ok(Command::AlterTable { name, if_exists, actions })
}

fn action(cursor: &mut Cursor<'_>, table: &ObjectName) -> Result<TableAction> {
    if cursor.take_word("add") {
        return add(cursor, table);
    }
    if cursor.take_word("drop") {
        return drop_part(cursor);
    }
    if cursor.take_word("rename") {
        return rename(cursor, table);
    }
    if cursor.take_word("alter") {
        cursor.take_word("column");
        return alter_column(cursor);
    }
    if cursor.is_words(&["set", "schema"]) {
        return Err(unsupported(cursor, "a table stays in its schema: CREATE TABLE other.t AS SELECT * FROM t"));
    }
    if cursor.take_word("set") {
        return Ok(TableAction::SetOptions(with_clause(cursor, |_, _, _| None)?));
    }
    if cursor.take_word("reset") {
        return Ok(TableAction::SetOptions(reset_clause(cursor)?));
    }
    refuse_other_actions(cursor)?;
    Err(cursor.expected("ADD, DROP, ALTER COLUMN, RENAME, SET or RESET"))
}

fn refuse_other_actions(cursor: &Cursor<'_>) -> Result<()> {
    let message = if cursor.is_words(&["suspend"]) || cursor.is_words(&["resume"]) {
        "a table has no query that could be told to stop"
    } else if cursor.is_words(&["owner"]) {
        "there are no accounts, whoever connects owns everything: leave OWNER TO out"
    } else if ["attach", "detach"].iter().any(|word| cursor.is_words(&[word])) {
        "partitions of a table have no names of their own: rows go where PARTITIONED BY says"
    } else if ["enable", "disable", "inherit", "cluster", "validate"].iter().any(|word| cursor.is_words(&[word])) {
        "that is not supported: ALTER TABLE takes ADD, DROP, ALTER COLUMN, RENAME, SET and RESET"
    } else {
        return Ok(());
    };
    Err(unsupported(cursor, message))
}

fn add(cursor: &mut Cursor<'_>, table: &ObjectName) -> Result<TableAction> {
    let constraints = ["constraint", "check", "primary", "unique", "foreign", "exclude"];
    let followed = !matches!(cursor.peek_nth(1), Token::EOF | Token::Comma);
    if followed && constraints.iter().any(|word| cursor.is_words(&[word])) {
        return add_constraint(cursor, table);
    }
    cursor.take_word("column");
    let if_not_exists = cursor.take_words(&["if", "not", "exists"]);
    let at = cursor.location();
    let mut entries = Entries::of_table();
    entries.column(cursor)?;
    let of_table = entries.of_table.take().unwrap_or_default();
    let mut columns = std::mem::take(&mut entries.columns);
    let (key, generated) = of_table.finish(cursor, table, &mut columns)?;
    if key.is_some() || !generated.is_empty() {
        let message = "a column of the PRIMARY KEY and a generated one cannot be added: the rows that are there have no \
                       values for it; CREATE TABLE … AS SELECT makes a table with it";
        return Err(cursor.error_at(Code::Unsupported, message, at));
    }
    let Some(column) = columns.pop() else { return Err(cursor.expected("a column")) };
    entries.of_table = Some(Default::default());
    let checks = entries.named_checks(cursor, table, &[])?;
    Ok(TableAction::AddColumn { column, checks, if_not_exists })
}

fn add_constraint(cursor: &mut Cursor<'_>, table: &ObjectName) -> Result<TableAction> {
    let name = constraint_name(cursor)?;
    refuse_constraints(cursor)?;
    if cursor.take_words(&["primary", "key"]) {
        let columns = column_list(cursor, "the key's columns", "PRIMARY KEY")?;
        return Ok(TableAction::AddPrimaryKey(PrimaryKey { name: name.unwrap_or_else(|| key_name(table)), columns }));
    }
    cursor.expect_word("CHECK")?;
    cursor.expect(&Token::LParen, "\"(\" after CHECK")?;
    let expr = cursor.expression()?;
    cursor.expect(&Token::RParen, "\")\" after the checked expression")?;
    if cursor.is_words(&["not", "valid"]) || cursor.is_words(&["no", "inherit"]) {
        return Err(unsupported(cursor, "a CHECK holds for every row, nothing can follow it"));
    }
    let named = name.is_some();
    let name = name.unwrap_or_else(|| format!("{}_check", table.name()));
    Ok(TableAction::AddCheck { check: Check { name, expr }, named })
}

fn drop_part(cursor: &mut Cursor<'_>) -> Result<TableAction> {
    let constraint = cursor.take_word("constraint");
    if !constraint {
        cursor.take_word("column");
    }
    let if_exists = cursor.take_words(&["if", "exists"]);
    let name = cursor.identifier(if constraint { "a constraint name" } else { "a column name" })?;
    if cursor.is_words(&["cascade"]) && !constraint {
        return Err(unsupported(cursor, "drop the views that read the column first, one by one"));
    }
    cursor.take_word("cascade");
    cursor.take_word("restrict");
    Ok(if constraint {
        TableAction::DropConstraint { name, if_exists }
    } else {
        TableAction::DropColumn { name, if_exists }
    })
}

fn rename(cursor: &mut Cursor<'_>, table: &ObjectName) -> Result<TableAction> {
    if cursor.take_word("to") {
        return new_name(cursor, table).map(TableAction::Rename);
    }
    let constraint = cursor.take_word("constraint");
    if !constraint {
        cursor.take_word("column");
    }
    let from = cursor.identifier(if constraint { "a constraint name" } else { "a column name" })?;
    cursor.expect_word("TO")?;
    let to = cursor.identifier("the new name")?;
    Ok(if constraint { TableAction::RenameConstraint { from, to } } else { TableAction::RenameColumn { from, to } })
}

/// A name in the schema of the old one.
fn new_name(cursor: &mut Cursor<'_>, old: &ObjectName) -> Result<ObjectName> {
    let at = cursor.location();
    let name = cursor.identifier("the new name")?;
    if cursor.peek().token == Token::Period {
        let message = format!("a table stays in its schema when it is renamed, that of {old} is {:?}", old.schema());
        return Err(cursor.error_at(Code::Unsupported, message, at));
    }
    cursor.to_object_name(&[old.schema().to_owned(), name], at)
}

fn alter_column(cursor: &mut Cursor<'_>) -> Result<TableAction> {
    let column = cursor.identifier("a column name")?;
    if cursor.take_words(&["set", "not", "null"]) {
        return Ok(TableAction::SetNullable { column, nullable: false });
    }
    if cursor.take_words(&["drop", "not", "null"]) {
        return Ok(TableAction::SetNullable { column, nullable: true });
    }
    if cursor.take_words(&["set", "default"]) {
        let default = Some(cursor.expression()?);
        return Ok(TableAction::SetDefault { column, default });
    }
    if cursor.take_words(&["drop", "default"]) {
        return Ok(TableAction::SetDefault { column, default: None });
    }
    if cursor.take_words(&["set", "data", "type"]) || cursor.take_word("type") {
        let data_type = data_type(cursor)?;
        if cursor.is_words(&["using"]) {
            let message = "USING is not supported: a column takes a wider type, whose values are those that it has; \
                           compute others by UPDATE, or by CREATE TABLE … AS SELECT";
            return Err(unsupported(cursor, message));
        }
        return Ok(TableAction::SetType { column, data_type });
    }
    if cursor.is_words(&["drop", "expression"]) || cursor.is_words(&["add", "generated"]) {
        return Err(unsupported(cursor, "what a generated column computes cannot be changed"));
    }
    Err(cursor.expected("TYPE, SET DEFAULT, DROP DEFAULT, SET NOT NULL or DROP NOT NULL"))
}

/// The definition after these changes, one version up; `None` when they change nothing.
pub fn altered_table(table: &Stream, actions: &[TableAction]) -> Result<Option<Stream>> {
    let mut next = table.clone();
    let mut spec = next.table.take().unwrap_or_default();
    for action in actions {
        change(&mut next, &mut spec, action)?;
    }
    next.table = Some(spec);
    if next == *table {
        return Ok(None);
    }
    next.version += 1;
    next.validate()?;
    Ok(Some(next))
}

fn change(next: &mut Stream, spec: &mut TableSpec, action: &TableAction) -> Result<()> {
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
        }
        TableAction::DropColumn { name, if_exists } => {
            if *if_exists && next.column(name).is_none() {
                return Ok(());
            }
            column_mut(next, name)?;
            refuse_used(next, spec, name)?;
            next.columns.retain(|c| c.name != *name);
            spec.generated.retain(|g| g.column != *name);
        }
        TableAction::RenameColumn { from, to } => rename_column(next, spec, from, to)?,
        TableAction::Rename(name) => next.name = name.clone(),
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
            column.data_type = data_type.clone();
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

const WIDER: &str = "a type can become a wider one: smallint int, int bigint, real double precision, a decimal one with \
                     more digits; for another, add a column, UPDATE it and drop the old one";

fn column_mut<'a>(table: &'a mut Stream, name: &str) -> Result<&'a mut Column> {
    let missing = format!("table {} has no column {name:?}", table.name);
    let found = table.columns.iter_mut().find(|c| c.name == name);
    found.ok_or_else(|| Error::rejected(Code::UndefinedColumn, missing))
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
    let used = if let Some(check) = table.checks.iter().find(|c| names(&c.expr, column)) {
        format!("constraint {:?} reads it, drop that first", check.name)
    } else if let Some(generated) = spec.generated.iter().find(|g| g.column != column && names(&g.expression, column)) {
        format!("column {:?} is computed from it, drop that first", generated.column)
    } else {
        return Ok(());
    };
    let message = format!("column {column:?} of table {} cannot be changed so: {used}", table.name);
    Err(Error::rejected(Code::DependentObjects, message))
}

/// Whether an expression may name a column: its word is in it.
fn names(expression: &str, column: &str) -> bool {
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
    refuse_in_expressions(next, spec, from)?;
    column_mut(next, from)?.name = to.to_owned();
    let keys = spec.primary_key.iter_mut().flat_map(|k| k.columns.iter_mut());
    let listed = keys.chain(&mut spec.partitioned_by).chain(&mut spec.sorted_by);
    let generated = spec.generated.iter_mut().map(|g| &mut g.column);
    listed.chain(generated).filter(|name| *name == from).for_each(|name| to.clone_into(name));
    Ok(())
}

/// Whether a type holds every value of another, shown the same.
fn holds(wider: &DataType, data_type: &DataType) -> bool {
    use DataType::{BigInt, Decimal, Double, Int, Json, Real, SmallInt, Text, Uuid};
    match (data_type, wider) {
        (a, b) if a == b => true,
        (SmallInt, Int | BigInt) | (Int, BigInt) | (Real, Double) | (Uuid | Json, Text) => true,
        (Decimal { precision: p, scale: s }, Decimal { precision, scale }) => {
            scale >= s && i16::from(*precision) - i16::from(*scale) >= i16::from(*p) - i16::from(*s)
        }
        _ => false,
    }
}
