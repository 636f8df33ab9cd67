//! Owns aggregates and window functions.

use super::{Kind, Scope, Writer};

const NUMBERS: [Kind; 3] = [Kind::Int, Kind::Quarters, Kind::Decimal];
/// NaN and -0.0 have no place in an order that all of the engine's accumulators agree on.
const LIMITED: [Kind; 7] = [Kind::Int, Kind::Quarters, Kind::Decimal, Kind::Text, Kind::Date, Kind::Time, Kind::Zoned];

impl Writer {
    /// An aggregate, and what comes out of it.
    pub(super) fn aggregate(&mut self, scope: &Scope) -> (String, Kind) {
        let (call, kind) = self.call(scope);
        if self.chance(0.2) {
            let condition = self.condition(scope, 1);
            return (format!("{call} FILTER (WHERE {condition})"), kind);
        }
        (call, kind)
    }

    fn call(&mut self, scope: &Scope) -> (String, Kind) {
        let number = self.pick(&NUMBERS);
        match self.below(19) {
            0 => ("count(*)".into(), Kind::Int),
            1 => {
                let kind = self.pick(&super::ORDERED);
                let distinct = self.pick(&["", "DISTINCT "]);
                (format!("count({distinct}{})", self.expr(scope, kind, 1)), Kind::Int)
            }
            2 | 3 => (format!("sum({})", self.expr(scope, number, 1)), number),
            4 => (format!("avg({})", self.expr(scope, number, 1)), Kind::Fuzzy),
            5 | 6 => {
                let kind = self.pick(&LIMITED);
                (format!("{}({})", self.pick(&["min", "max"]), self.expr(scope, kind, 1)), kind)
            }
            7 => (format!("sum(DISTINCT {})", self.expr(scope, Kind::Int, 1)), Kind::Int),
            8 | 9 if scope.has_order() => self.ordered_call(scope),
            8 | 9 => {
                let element = self.expr(scope, Kind::Int, 1);
                (format!("array_agg(DISTINCT {element} ORDER BY {element})"), Kind::List)
            }
            10 => (format!("median({})", self.expr(scope, Kind::Int, 1)), Kind::Fuzzy),
            11 => {
                let kind = self.pick(&[Kind::Int, Kind::Text, Kind::Date]);
                (format!("approx_distinct({})", self.expr(scope, kind, 1)), Kind::Int)
            }
            12 => {
                let name = self.pick(&["stddev", "stddev_pop", "var_samp", "var_pop"]);
                (format!("{name}({})", self.expr(scope, Kind::Quarters, 1)), Kind::Fuzzy)
            }
            13 => {
                let name = self.pick(&["covar_samp", "covar_pop", "regr_count", "regr_avgx", "regr_sxx"]);
                let (y, x) = (self.expr(scope, Kind::Quarters, 0), self.expr(scope, Kind::Quarters, 0));
                (format!("{name}({y}, {x})"), Kind::Fuzzy)
            }
            16 => {
                let text = self.expr(scope, Kind::Text, 1);
                (format!("string_agg(DISTINCT {text}, '+' ORDER BY {text})"), Kind::Text)
            }
            17 => (format!("max({})", self.expr(scope, Kind::Bool, 1)), Kind::Bool),
            14 => {
                let name = self.pick(&["bool_and", "bool_or"]);
                (format!("{name}({})", self.condition(scope, 1)), Kind::Bool)
            }
            15 => {
                let name = self.pick(&["bit_and", "bit_or", "bit_xor"]);
                (format!("{name}(CAST({} AS BIGINT))", self.expr(scope, Kind::Int, 1)), Kind::Int)
            }
            _ => (
                format!("percentile_cont(0.25) WITHIN GROUP (ORDER BY {})", self.expr(scope, Kind::Quarters, 1)),
                Kind::Fuzzy,
            ),
        }
    }

    /// An aggregate that looks at the order of rows.
    fn ordered_call(&mut self, scope: &Scope) -> (String, Kind) {
        let order = self.order(scope);
        let kind = self.pick(&LIMITED);
        let value = self.expr(scope, kind, 1);
        match self.below(5) {
            0 => {
                (format!("array_agg(CAST({} AS BIGINT) ORDER BY {order})", self.expr(scope, Kind::Int, 1)), Kind::List)
            }
            1 => (format!("string_agg({}, ',' ORDER BY {order})", self.expr(scope, Kind::Text, 1)), Kind::Text),
            2 => (format!("first_value({value} ORDER BY {order})"), kind),
            3 => (format!("last_value({value} ORDER BY {order})"), kind),
            _ => (format!("nth_value({value}, 2 ORDER BY {order})"), kind),
        }
    }

    /// A window function over rows that have an order.
    pub(super) fn window(&mut self, scope: &Scope, partition: &str) -> (String, Kind) {
        let order = self.order(scope);
        let kind = self.pick(&LIMITED);
        let value = self.expr(scope, kind, 1);
        let frames = [
            "",
            " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
            " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
            " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING",
        ];
        let frame = self.pick(&frames);
        let (call, kind, frame) = match self.below(13) {
            0 => ("row_number()".into(), Kind::Int, ""),
            1 => {
                let coarse = self.expr(scope, Kind::Int, 1);
                let name = self.pick(&["rank", "dense_rank"]);
                return (format!("{name}() OVER (PARTITION BY {partition} ORDER BY {coarse})"), Kind::Int);
            }
            2 => (format!("ntile({})", self.pick(&[2, 3])), Kind::Int, ""),
            3 => (self.pick(&["percent_rank()", "cume_dist()"]).to_owned(), Kind::Fuzzy, ""),
            4 => (format!("lag({value})"), kind, ""),
            5 => (format!("lead({value}, 2)"), kind, ""),
            6 => (format!("first_value({value})"), kind, frame),
            7 => (format!("last_value({value})"), kind, frame),
            8 => (format!("sum({})", self.expr(scope, Kind::Int, 1)), Kind::Int, frame),
            9 => (format!("count({value})"), Kind::Int, frame),
            10 => (format!("avg({})", self.expr(scope, Kind::Quarters, 1)), Kind::Fuzzy, frame),
            11 => (format!("{}({value})", self.pick(&["min", "max"])), kind, frame),
            _ => {
                let sum = self.expr(scope, Kind::Quarters, 1);
                return (format!("sum({sum}) OVER (PARTITION BY {partition})"), Kind::Quarters);
            }
        };
        (format!("{call} OVER (PARTITION BY {partition} ORDER BY {order}{frame})"), kind)
    }
}
