//! Owns the digits of numbers in SQL: beside a decimal a number is a decimal with just these digits, elsewhere a double.
//!
//! The planner reads `9999999.99` as the double nearest to it, which compared with a decimal column finds nothing. So
//! the texts of a statement's numbers are kept beside its plan, found again by their double ([`Digits`]), and take the
//! double's place wherever it meets a decimal (`beside.rs`). Numbers of one statement that share a double and are not
//! the same are written as casts before the statement is planned.

mod beside;
mod number;

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, ExactNumberInfo, Expr, Statement, Value, Visit, VisitMut, Visitor, VisitorMut,
};

use number::Number;

/// The numbers of one statement, by the bits of the double that each is read as.
#[derive(Debug, Default)]
pub(crate) struct Digits {
    by_double: HashMap<u64, Number>,
    /// Whether there are numbers that no decimal holds.
    beyond: bool,
}

impl Digits {
    /// The numbers of a statement; those that only casts can tell apart become casts in it.
    pub(crate) fn of_statement(statement: &mut DfStatement) -> Self {
        match inner(statement) {
            Some(statement) => Self::of(statement),
            None => Self::default(),
        }
    }

    /// The numbers of a statement or an expression.
    pub(crate) fn of<T: Visit + VisitMut>(sql: &mut T) -> Self {
        let mut finder = Finder::default();
        let _ = Visit::visit(sql, &mut finder);
        if !finder.shared.is_empty() {
            let _ = VisitMut::visit(sql, &mut ToCasts(&finder.shared));
            finder.found.retain(|double, _| !finder.shared.contains(double));
        }
        Self { by_double: finder.found, beyond: finder.beyond }
    }

    fn is_empty(&self) -> bool {
        self.by_double.is_empty() && !self.beyond
    }
}

fn inner(statement: &mut DfStatement) -> Option<&mut Statement> {
    match statement {
        DfStatement::Statement(statement) => Some(statement),
        DfStatement::Explain(explain) => inner(&mut explain.statement),
        _ => None,
    }
}

/// The double and the digits of a number that the planner reads as a double; no digits where no decimal holds them.
fn double_and_digits(expr: &Expr) -> Option<(u64, Option<Number>)> {
    let Expr::Value(value) = expr else { return None };
    let Value::Number(text, _) = &value.value else { return None };
    let text = text.replace('_', "");
    if text.parse::<u64>().is_ok() {
        return None;
    }
    let double: f64 = text.parse().ok()?;
    Some((double.to_bits(), Number::read(&text)))
}

/// Finds the numbers, and the doubles that stand for more than one of them.
#[derive(Default)]
struct Finder {
    found: HashMap<u64, Number>,
    shared: Vec<u64>,
    beyond: bool,
}

impl Visitor for Finder {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match double_and_digits(expr) {
            Some((double, Some(number))) => {
                let first = *self.found.entry(double).or_insert(number);
                if first.trimmed() != number.trimmed() && !self.shared.contains(&double) {
                    self.shared.push(double);
                }
            }
            Some((_, None)) => self.beyond = true,
            None => {}
        }
        ControlFlow::Continue(())
    }
}

/// Writes numbers of these doubles as `CAST('digits' AS DECIMAL(p, s))`.
struct ToCasts<'a>(&'a [u64]);

impl VisitorMut for ToCasts<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some((double, Some(number))) = double_and_digits(expr)
            && self.0.contains(&double)
        {
            let (precision, scale) = (u64::from(number.precision()), i64::from(number.scale()));
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::value(Value::SingleQuotedString(number.to_string()))),
                data_type: SqlType::Decimal(ExactNumberInfo::PrecisionAndScale(precision, scale)),
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn digits(sql: &str) -> (Digits, String) {
        let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        let digits = Digits::of(&mut parsed[0]);
        (digits, parsed[0].to_string())
    }

    #[test]
    fn integers_are_left_alone_and_other_numbers_are_kept_with_their_digits() {
        let (digits, sql) = digits("SELECT 1, 9999999.99, 1e2, 1e300, 18446744073709551616");
        let mut kept: Vec<String> = digits.by_double.values().map(Number::to_string).collect();
        kept.sort();
        assert_eq!(kept, ["100", "18446744073709551616", "9999999.99"]);
        assert_eq!(sql, "SELECT 1, 9999999.99, 1e2, 1e300, 18446744073709551616");
    }

    #[test]
    fn numbers_that_share_a_double_become_casts() {
        let (digits, sql) = digits("SELECT 12345678901234567.01, 12345678901234567.02, 1.5, 1.50");
        assert_eq!(digits.by_double.len(), 1);
        assert_eq!(
            sql,
            "SELECT CAST('12345678901234567.01' AS DECIMAL(19,2)), CAST('12345678901234567.02' AS DECIMAL(19,2)), \
             1.5, 1.50"
        );
    }
}
