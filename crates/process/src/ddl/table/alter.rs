//! Owns ALTER TABLE: what it says.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::fault::Code;
use millstream_catalog::{Check, Column, DataType, ObjectName, PrimaryKey};

use super::entries::{constraint_name, key_name, refuse_constraints, unsupported};
use super::options::{reset_clause, with_clause};
use crate::Result;
use crate::ddl::Command;
use crate::ddl::OptionChange;
use crate::ddl::column_type::data_type;
use crate::ddl::create::column_list;
use crate::ddl::cursor::Cursor;
use crate::ddl::entry::Entries;

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
        /// Whether what needs it goes too: constraints, columns computed from it, views.
        cascade: bool,
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
    /// Whether it concerns rows, or statements that change them: it then waits for the table's turn.
    pub fn takes_turn(&self) -> bool {
        !matches!(self, TableAction::SetOptions(_) | TableAction::SetComment { .. })
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
    let cascade = cursor.take_word("cascade");
    if !cascade {
        cursor.take_word("restrict");
    }
    Ok(if constraint {
        TableAction::DropConstraint { name, if_exists }
    } else {
        TableAction::DropColumn { name, if_exists, cascade }
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
