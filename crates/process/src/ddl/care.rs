//! Owns the statements that look after the lake: OPTIMIZE and VACUUM.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::Command;
use super::cursor::Cursor;
use crate::Result;

/// The statement, if its first words make it one of these.
pub(super) fn statement(cursor: &mut Cursor<'_>) -> Result<Option<Command>> {
    if cursor.take_word("optimize") {
        return optimize(cursor).map(Some);
    }
    if cursor.take_word("vacuum") {
        return vacuum(cursor).map(Some);
    }
    Ok(None)
}

/// `[TABLE] name [ZORDER BY (column, …) | TEMPERATURE]`.
fn optimize(cursor: &mut Cursor<'_>) -> Result<Command> {
    let name = named(cursor)?;
    if cursor.take_word("temperature") {
        return Ok(Command::OptimizeTemperature { name });
    }
    let zorder = match cursor.take_words(&["zorder", "by"]) {
        true => cursor.list("the columns", |c| c.identifier("a column name"))?,
        false => vec![],
    };
    Ok(Command::Optimize { name, zorder })
}

/// `[TABLE] name [RETAIN n HOURS] [DRY RUN]`.
fn vacuum(cursor: &mut Cursor<'_>) -> Result<Command> {
    let name = named(cursor)?;
    let mut retain_ms = None;
    if cursor.take_word("retain") {
        let hours = cursor.whole_number("a number of hours")?;
        if !cursor.take_word("hours") {
            cursor.expect_word("HOUR")?;
        }
        retain_ms = Some(hours.saturating_mul(3_600_000));
    }
    let dry_run = cursor.take_words(&["dry", "run"]);
    Ok(Command::Vacuum { name, retain_ms, dry_run })
}

fn named(cursor: &mut Cursor<'_>) -> Result<millstream_catalog::ObjectName> {
    if cursor.is_words(&["table"]) && matches!(cursor.peek_nth(1), Token::Word(_)) {
        cursor.advance();
    }
    cursor.own_name("a table name")
}

#[cfg(test)]
mod tests {
    use millstream_catalog::ObjectName;

    use crate::ddl::{Command, parse};

    fn one(sql: &str) -> Command {
        parse(sql).unwrap().remove(0).command
    }

    #[test]
    fn statements_that_look_after_the_lake_are_read() {
        let optimize = |zorder: &[&str]| Command::Optimize {
            name: ObjectName::parse("t").unwrap(),
            zorder: zorder.iter().map(|&c| c.to_owned()).collect(),
        };
        assert_eq!(one("optimize t"), optimize(&[]));
        assert_eq!(one("OPTIMIZE TABLE t ZORDER BY (a, \"B\")"), optimize(&["a", "B"]));
        assert_eq!(
            one("optimize t temperature"),
            Command::OptimizeTemperature { name: ObjectName::parse("t").unwrap() }
        );
        let vacuum = |retain_ms, dry_run| Command::Vacuum { name: ObjectName::parse("t").unwrap(), retain_ms, dry_run };
        assert_eq!(one("vacuum t"), vacuum(None, false));
        assert_eq!(one("vacuum table t retain 2 hours dry run"), vacuum(Some(7_200_000), true));
        assert_eq!(one("vacuum t retain 1 hour"), vacuum(Some(3_600_000), false));
    }
}
