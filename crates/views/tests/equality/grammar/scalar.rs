//! Owns scalar expressions and conditions.

use super::{Kind, ORDERED, Scope, Writer};

impl Writer {
    /// An expression of a kind.
    pub(super) fn expr(&mut self, scope: &Scope, kind: Kind, depth: usize) -> String {
        if depth == 0 || self.chance(0.45) {
            return self.leaf(scope, kind);
        }
        let depth = depth - 1;
        if self.chance(0.15) && kind != Kind::Struct {
            return self.chosen(scope, kind, depth);
        }
        match kind {
            Kind::Int => self.int(scope, depth),
            Kind::Quarters => self.quarters(scope, depth),
            Kind::Odd => self.odd(scope, depth),
            Kind::Decimal => self.decimal(scope, depth),
            Kind::Text => self.text(scope, depth),
            Kind::Bool => self.condition(scope, depth),
            Kind::Date | Kind::Time | Kind::Zoned => self.moment(scope, kind, depth),
            Kind::List => self.list(scope, depth),
            Kind::Struct | Kind::Fuzzy => self.leaf(scope, kind),
        }
    }

    /// A column, or a constant.
    fn leaf(&mut self, scope: &Scope, kind: Kind) -> String {
        let columns = scope.of_kind(kind);
        if !columns.is_empty() && self.chance(0.93) {
            let i = self.below(columns.len());
            return columns[i].to_owned();
        }
        match kind {
            Kind::Int => self.pick(&["0", "1", "2", "3", "17", "CAST(NULL AS BIGINT)"]),
            Kind::Quarters => self.pick(&["0.25", "1.5", "CAST(2 AS DOUBLE)", "CAST(NULL AS DOUBLE)"]),
            Kind::Odd => self.pick(&["CAST('NaN' AS DOUBLE)", "CAST('-0.0' AS DOUBLE)", "1.5"]),
            Kind::Decimal => self.pick(&["CAST(1.25 AS DECIMAL(12, 2))", "CAST(NULL AS DECIMAL(12, 2))"]),
            Kind::Text => self.pick(&["'red'", "''", "'e'", "CAST(NULL AS VARCHAR)"]),
            Kind::Bool => self.pick(&["true", "false", "CAST(NULL AS BOOLEAN)"]),
            Kind::Date => self.pick(&["DATE '2022-01-10'", "CAST(NULL AS DATE)"]),
            Kind::Time => self.pick(&["TIMESTAMP '2023-11-14T22:15:00'"]),
            Kind::Zoned => self.pick(&["CAST('2023-11-14T22:15:00Z' AS TIMESTAMPTZ)"]),
            Kind::List => self.pick(&["make_array(1, 2)", "make_array(3, NULL)"]),
            Kind::Struct => "named_struct('n', 1, 's', 'red')",
            Kind::Fuzzy => "CAST(0.5 AS DOUBLE)",
        }
        .to_owned()
    }

    /// One of two expressions.
    fn chosen(&mut self, scope: &Scope, kind: Kind, depth: usize) -> String {
        let (one, other) = (self.expr(scope, kind, depth), self.expr(scope, kind, depth));
        match self.below(4) {
            0 => format!("coalesce({one}, {other})"),
            1 if kind != Kind::List => format!("nullif({one}, {other})"),
            2 => {
                let key = self.expr(scope, Kind::Int, 0);
                format!("CASE {key} WHEN 1 THEN {one} WHEN 2 THEN {other} END")
            }
            _ => {
                let condition = self.condition(scope, 1);
                format!("CASE WHEN {condition} THEN {one} ELSE {other} END")
            }
        }
    }

    fn int(&mut self, scope: &Scope, depth: usize) -> String {
        let one = self.expr(scope, Kind::Int, depth);
        match self.below(22) {
            0 => format!("({one} + {})", self.expr(scope, Kind::Int, depth)),
            1 => format!("({one} - {})", self.expr(scope, Kind::Int, depth)),
            2 => format!("({one} * 2)"),
            3 => format!("({one} % NULLIF({}, 0))", self.expr(scope, Kind::Int, depth)),
            4 => format!("({one} / NULLIF({}, 0))", self.expr(scope, Kind::Int, depth)),
            5 => format!("abs({one})"),
            6 => format!("greatest({one}, {})", self.expr(scope, Kind::Int, depth)),
            7 => format!("least({one}, {})", self.expr(scope, Kind::Int, depth)),
            8 => format!("length({})", self.expr(scope, Kind::Text, depth)),
            9 => format!("strpos({}, 'e')", self.expr(scope, Kind::Text, depth)),
            10 => format!("date_part('{}', {})", self.pick(&["minute", "doy", "hour"]), self.leaf(scope, Kind::Time)),
            11 => format!("date_part('{}', {})", self.pick(&["day", "dow"]), self.leaf(scope, Kind::Date)),
            12 => format!("CAST({} AS BIGINT)", self.leaf(scope, Kind::Quarters)),
            13 => format!("CAST({} AS INT)", self.leaf(scope, Kind::Bool)),
            14 => format!("({one} & 7)"),
            15 => format!("(CAST({one} AS BIGINT) % 3)"),
            16 => format!("array_length({})", self.leaf(scope, Kind::List)),
            17 => format!("{}[1]", self.leaf(scope, Kind::List)),
            18 => format!("({})['n']", self.leaf(scope, Kind::Struct)),
            19 => format!("levenshtein({}, 'green')", self.leaf(scope, Kind::Text)),
            20 => format!("array_position({}, 2)", self.leaf(scope, Kind::List)),
            _ => format!("({one} + 1)"),
        }
    }

    fn quarters(&mut self, scope: &Scope, depth: usize) -> String {
        let one = self.expr(scope, Kind::Quarters, depth);
        match self.below(8) {
            0 => format!("({one} + 0.25)"),
            1 => format!("({one} * 2.0)"),
            2 => format!("(0.0 - {one})"),
            3 => format!("abs({one})"),
            4 => format!("floor({one})"),
            5 => format!("CAST({} AS DOUBLE)", self.expr(scope, Kind::Int, depth)),
            6 => format!("({one} + {})", self.expr(scope, Kind::Quarters, depth)),
            _ => format!("least({one}, 3.5)"),
        }
    }

    fn odd(&mut self, scope: &Scope, depth: usize) -> String {
        let one = self.expr(scope, Kind::Odd, depth);
        match self.below(4) {
            0 => format!("(- {one})"),
            1 => format!("({one} + {})", self.expr(scope, Kind::Quarters, depth)),
            2 => format!("nanvl({one}, 1.5)"),
            _ => format!("ceil({})", self.expr(scope, Kind::Quarters, depth)),
        }
    }

    fn decimal(&mut self, scope: &Scope, depth: usize) -> String {
        let one = self.leaf(scope, Kind::Decimal);
        match self.below(5) {
            0 => format!("({one} + CAST(1.5 AS DECIMAL(4, 1)))"),
            1 => format!("({one} * 2)"),
            2 => format!("CAST({} AS DECIMAL(14, 3))", self.expr(scope, Kind::Int, depth)),
            3 => format!("abs({one})"),
            _ => format!("({one} - {})", self.leaf(scope, Kind::Decimal)),
        }
    }

    fn text(&mut self, scope: &Scope, depth: usize) -> String {
        let one = self.expr(scope, Kind::Text, depth);
        match self.below(20) {
            0 => format!("upper({one})"),
            1 => format!("({one} || '-' || {})", self.expr(scope, Kind::Text, depth)),
            2 => format!("concat({one}, {})", self.expr(scope, Kind::Int, depth)),
            3 => format!("substr({one}, 2, 2)"),
            4 => format!("replace({one}, 'e', 'E')"),
            5 => format!("reverse({one})"),
            6 => format!("CAST({} AS VARCHAR)", self.expr(scope, Kind::Int, depth)),
            7 => format!("CAST({} AS VARCHAR)", self.expr(scope, Kind::Decimal, depth)),
            8 => format!("CAST({} AS VARCHAR)", self.leaf(scope, Kind::Date)),
            9 => format!("lpad({one}, 5, '*')"),
            10 => format!("split_part({one}, 'e', 1)"),
            11 => format!("to_char({}, '%H:%M')", self.leaf(scope, Kind::Time)),
            12 => format!("array_to_string({}, ',')", self.leaf(scope, Kind::List)),
            13 => format!("({})['s']", self.leaf(scope, Kind::Struct)),
            14 => format!("regexp_replace({one}, '[aeiou]', '_', 'g')"),
            15 => format!("left({one}, 2)"),
            16 => format!("initcap(trim({one}))"),
            17 => format!("md5({one})"),
            18 => format!("translate({one}, 'er', 'x')"),
            _ => format!("repeat({one}, 2)"),
        }
    }

    fn moment(&mut self, scope: &Scope, kind: Kind, depth: usize) -> String {
        let one = self.expr(scope, kind, depth);
        match kind {
            Kind::Date => match self.below(3) {
                0 => format!("CAST({} AS DATE)", self.leaf(scope, Kind::Time)),
                1 => format!("CAST({one} + INTERVAL '1 day' AS DATE)"),
                _ => format!("make_date(2022, CAST(1 + abs({}) % 12 AS INT), 1)", self.leaf(scope, Kind::Int)),
            },
            Kind::Time => match self.below(4) {
                0 => format!("date_trunc('minute', {one})"),
                1 => format!("({one} + INTERVAL '90 seconds')"),
                2 => format!("date_bin(INTERVAL '2 minutes', {one})"),
                _ => format!("CAST({} AS TIMESTAMP)", self.leaf(scope, Kind::Date)),
            },
            _ => match self.below(2) {
                0 => format!("date_trunc('hour', {one})"),
                _ => format!("({one} - INTERVAL '5 minutes')"),
            },
        }
    }

    fn list(&mut self, scope: &Scope, depth: usize) -> String {
        let one = self.leaf(scope, Kind::List);
        match self.below(5) {
            0 => {
                let (a, b) = (self.expr(scope, Kind::Int, depth), self.expr(scope, Kind::Int, depth));
                format!("make_array(CAST({a} AS BIGINT), CAST({b} AS BIGINT))")
            }
            1 => format!("array_append({one}, 4)"),
            2 => format!("array_sort({one})"),
            3 => format!("array_remove({one}, 1)"),
            _ => format!("array_distinct({one})"),
        }
    }

    /// A condition.
    pub(super) fn condition(&mut self, scope: &Scope, depth: usize) -> String {
        if depth > 0 && self.chance(0.3) {
            let (one, other) = (self.condition(scope, depth - 1), self.condition(scope, depth - 1));
            return match self.below(4) {
                0 => format!("({one} OR {other})"),
                1 => format!("NOT ({one})"),
                2 => format!("({one}) IS NOT TRUE"),
                _ => format!("({one} AND {other})"),
            };
        }
        let kind = self.pick(&ORDERED);
        let (one, other) = (self.expr(scope, kind, depth), self.expr(scope, kind, 0));
        match self.below(14) {
            0 => format!("{one} IS NULL"),
            1 => format!("{one} IS NOT NULL"),
            2 => format!("({one} IS DISTINCT FROM {other})"),
            3 => format!("{} IN (1, 2, 5)", self.expr(scope, Kind::Int, depth)),
            4 => format!("{} NOT IN ('red', '')", self.expr(scope, Kind::Text, depth)),
            5 => format!("{} BETWEEN 1 AND 50", self.expr(scope, Kind::Int, depth)),
            6 => format!("{} LIKE '%e%'", self.expr(scope, Kind::Text, depth)),
            7 => self.leaf(scope, Kind::Bool),
            8 => format!("starts_with({}, 'g')", self.expr(scope, Kind::Text, depth)),
            9 => format!("{} ~ '^[rb]'", self.expr(scope, Kind::Text, depth)),
            10 => format!("array_has({}, 2)", self.leaf(scope, Kind::List)),
            _ => format!("{one} {} {other}", self.pick(&["=", "<>", "<", "<=", ">", ">="])),
        }
    }
}
