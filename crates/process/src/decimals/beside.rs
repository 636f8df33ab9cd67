//! Owns where a number meets a decimal: compared, computed with, listed, or chosen beside it.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, Operator};

use super::Digits;
use super::number::Number;

/// Functions that give one of their arguments.
const CHOOSING: [&str; 6] = ["coalesce", "greatest", "ifnull", "least", "nullif", "nvl"];

/// What becomes of the expressions that stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Together {
    /// They are compared: any width will do.
    Compared,
    /// They make a value, which must be a decimal that columns can hold.
    Joined,
}

impl Digits {
    /// The plan with decimals for the numbers that stand beside decimals; columns keep their names.
    pub(crate) fn exact_plan(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if self.is_empty() {
            return Ok(plan);
        }
        plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            let node = node.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = self.beside_decimals(expr, &schema)?;
                Ok(if expr.transformed { expr.update_data(|expr| name.restore(expr)) } else { expr })
            })?;
            // The types of what lies below may have changed, too.
            node.map_data(LogicalPlan::recompute_schema)
        })
        .data()
    }

    /// [`Digits::exact_plan`] for an expression alone.
    pub(crate) fn exact_expr(&self, expr: Expr, schema: &DFSchema) -> Result<Expr> {
        if self.is_empty() { Ok(expr) } else { self.beside_decimals(expr, schema).data() }
    }

    fn beside_decimals(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|mut expr| {
            let before = matches!(expr, Expr::BinaryExpr(_)).then(|| expr.clone());
            let changed = self.step(&mut expr, schema);
            match before {
                // Some products have more digits than any decimal.
                Some(before) if changed && expr.get_type(schema).is_err() => Ok(Transformed::no(before)),
                _ => Ok(Transformed::new_transformed(expr, changed)),
            }
        })
    }

    /// Looks at one expression whose parts are done.
    fn step(&self, expr: &mut Expr, schema: &DFSchema) -> bool {
        match expr {
            Expr::BinaryExpr(binary) if compares(binary.op) => {
                let (left, right) = (binary.left.as_mut(), binary.right.as_mut());
                self.meet(vec![&mut *left, &mut *right], schema, Together::Compared)
                    || self.beyond(left, right, schema)
                    || self.beyond(right, left, schema)
            }
            Expr::BinaryExpr(binary) if computes(binary.op) => {
                self.meet(vec![binary.left.as_mut(), binary.right.as_mut()], schema, Together::Joined)
            }
            Expr::Between(between) => {
                let parts = vec![between.expr.as_mut(), between.low.as_mut(), between.high.as_mut()];
                self.meet(parts, schema, Together::Compared)
            }
            Expr::InList(list) => {
                let parts = std::iter::once(list.expr.as_mut()).chain(&mut list.list).collect();
                self.meet(parts, schema, Together::Compared)
            }
            Expr::Case(case) => {
                let whens = case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut());
                let compared = match case.expr.as_mut() {
                    Some(subject) => {
                        let parts = std::iter::once(subject.as_mut()).chain(whens).collect();
                        self.meet(parts, schema, Together::Compared)
                    }
                    None => false,
                };
                let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
                let results = results.chain(case.else_expr.as_deref_mut()).collect();
                self.meet(results, schema, Together::Joined) || compared
            }
            Expr::ScalarFunction(call) if CHOOSING.contains(&call.func.name()) => {
                self.meet(call.args.iter_mut().collect(), schema, Together::Joined)
            }
            Expr::Cast(cast) if cast.field.data_type().is_decimal() => self.put(&mut cast.expr, false),
            Expr::TryCast(cast) if cast.field.data_type().is_decimal() => self.put(&mut cast.expr, false),
            _ => false,
        }
    }

    /// Makes the numbers among these decimals, if one of the others is a decimal and none is a double.
    fn meet(&self, mut parts: Vec<&mut Expr>, schema: &DFSchema, together: Together) -> bool {
        let (mut whole, mut fraction, mut decimals) = (0, 0, 0);
        for part in &parts {
            if self.is_constant(part) {
                self.each_number(part, &mut |number| {
                    whole = whole.max(i16::from(number.precision()) - i16::from(number.scale()));
                    fraction = fraction.max(i16::from(number.scale()));
                });
                continue;
            }
            match part.get_type(schema) {
                Ok(data_type) if data_type.is_floating() => return false,
                Ok(DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale)) => {
                    decimals += 1;
                    whole = whole.max(i16::from(precision) - i16::from(scale));
                    fraction = fraction.max(i16::from(scale));
                }
                _ => {}
            }
        }
        let wide = whole + fraction > i16::from(DECIMAL128_MAX_PRECISION);
        if decimals == 0 || (wide && together == Together::Joined) {
            return false;
        }
        let mut changed = false;
        for part in parts.iter_mut().filter(|part| self.is_constant(part)) {
            changed |= self.put(part, wide);
        }
        changed
    }

    /// Compares a decimal as a double with a number that no decimal holds, such as `1e300`.
    fn beyond(&self, number: &Expr, other: &mut Expr, schema: &DFSchema) -> bool {
        let beyond = matches!(number, Expr::Literal(ScalarValue::Float64(Some(_)), _)) && !self.is_constant(number);
        if !beyond || !other.get_type(schema).is_ok_and(|data_type| data_type.is_decimal()) {
            return false;
        }
        let decimal = std::mem::take(other);
        *other = Expr::Cast(Cast::new(Box::new(decimal), DataType::Float64));
        true
    }

    /// Whether an expression is made of written numbers alone.
    fn is_constant(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Literal(ScalarValue::Float64(_), _) => self.number(expr).is_some(),
            Expr::Literal(ScalarValue::Int64(Some(_)) | ScalarValue::UInt64(Some(_)), _) => true,
            Expr::Negative(expr) => self.is_constant(expr),
            Expr::BinaryExpr(binary) if computes(binary.op) => {
                self.is_constant(&binary.left) && self.is_constant(&binary.right)
            }
            _ => false,
        }
    }

    fn each_number(&self, expr: &Expr, see: &mut dyn FnMut(Number)) {
        match expr {
            Expr::Negative(expr) => self.each_number(expr, see),
            Expr::BinaryExpr(binary) => {
                self.each_number(&binary.left, see);
                self.each_number(&binary.right, see);
            }
            other => {
                if let Some((number, _)) = self.number(other) {
                    see(number);
                }
            }
        }
    }

    /// Puts decimals in the place of the doubles of a constant.
    fn put(&self, expr: &mut Expr, wide: bool) -> bool {
        if !self.is_constant(expr) {
            return false;
        }
        match expr {
            Expr::Negative(expr) => self.put(expr, wide),
            Expr::BinaryExpr(binary) => {
                let left = self.put(&mut binary.left, wide);
                self.put(&mut binary.right, wide) || left
            }
            other => match self.number(other) {
                Some((number, negative)) => {
                    *other = Expr::Literal(number.literal(negative, wide), None);
                    true
                }
                None => false,
            },
        }
    }

    /// What a double was written as, and whether it is below zero.
    fn number(&self, expr: &Expr) -> Option<(Number, bool)> {
        let Expr::Literal(ScalarValue::Float64(Some(double)), _) = expr else { return None };
        let number = self.by_double.get(&double.abs().to_bits())?;
        Some((*number, double.is_sign_negative()))
    }
}

/// Operators under which decimals stay exact; a division by a number is one of doubles.
fn computes(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Modulo)
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;
    use datafusion::sql::parser::DFParser;

    use super::*;

    /// The plan of a query over `prices(price decimal(12,2), d double)`, as it is run.
    async fn plan(filter: &str) -> String {
        let context = SessionContext::new();
        let table = "CREATE TABLE prices (price DECIMAL(12,2), d DOUBLE) AS VALUES (NULL, NULL)";
        context.sql(table).await.unwrap().collect().await.unwrap();
        let sql = format!("SELECT 1 FROM prices WHERE {filter}");
        let mut statement = DFParser::parse_sql(&sql).unwrap().pop_front().unwrap();
        let digits = Digits::of_statement(&mut statement);
        let plan = context.state().statement_to_plan(statement).await.unwrap();
        let plan = digits.exact_plan(plan).unwrap();
        context.state().optimize(&plan).unwrap().display_indent().to_string()
    }

    #[tokio::test]
    async fn a_column_is_compared_as_it_is_so_that_statistics_prune_by_it() {
        let found = plan("price > 9999999.99").await;
        assert!(found.contains("prices.price > Decimal128(9999999.99,12,2)"), "{found}");
        let found = plan("price IN (0.5, 1)").await;
        assert!(found.contains("Decimal128(0.50,12,2)") && !found.contains("CAST"), "{found}");
        let found = plan("d > 0.5").await;
        assert!(found.contains("prices.d > Float64(0.5)"), "{found}");
    }
}
