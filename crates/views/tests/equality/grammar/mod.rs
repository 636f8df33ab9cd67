//! Owns the grammar of random queries. Each query has one answer: whatever depends on the order of rows is ordered by
//! all columns in sight, floats are added up in quarters only, and expressions cannot fail.

mod aggregate;
mod relation;
mod scalar;
mod select;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What can be done with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    /// A float of quarters, whose sums are exact.
    Quarters,
    /// A float that may be NaN, infinite or -0.0.
    Odd,
    Decimal,
    Text,
    Bool,
    Date,
    Time,
    Zoned,
    List,
    Struct,
    /// A float whose last digits depend on the order in which it was computed: it can only be shown.
    Fuzzy,
}

/// Kinds whose values are compared.
const ORDERED: [Kind; 9] =
    [Kind::Int, Kind::Quarters, Kind::Odd, Kind::Decimal, Kind::Text, Kind::Bool, Kind::Date, Kind::Time, Kind::Zoned];

/// A column by the name it has in expressions.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: Kind,
}

/// What expressions can name.
#[derive(Debug, Clone, Default)]
struct Scope {
    columns: Vec<Column>,
    /// Whether the ordered columns tell all rows apart.
    unique: bool,
}

impl Scope {
    fn of_kind(&self, kind: Kind) -> Vec<&str> {
        self.columns.iter().filter(|c| c.kind == kind).map(|c| c.name.as_str()).collect()
    }

    /// Whether rows that agree in all ordered columns are equal.
    fn has_order(&self) -> bool {
        self.unique || self.columns.iter().all(|c| ORDERED.contains(&c.kind))
    }

    fn ordered(&self) -> Vec<&Column> {
        self.columns.iter().filter(|c| ORDERED.contains(&c.kind)).collect()
    }
}

/// Something behind FROM.
#[derive(Debug, Clone)]
struct Relation {
    sql: String,
    scope: Scope,
}

/// A query; its columns are `c0`, `c1` and so on.
#[derive(Debug, Clone)]
struct Query {
    sql: String,
    kinds: Vec<Kind>,
}

/// Writes queries.
struct Writer {
    random: StdRng,
    names: usize,
    /// Common table expressions and their columns.
    ctes: Vec<(String, String, Vec<Kind>)>,
}

/// A random query.
pub(crate) fn query(seed: u64) -> String {
    let mut writer = Writer { random: StdRng::seed_from_u64(seed), names: 0, ctes: Vec::new() };
    if writer.chance(0.2) {
        for _ in 0..writer.below(2) + 1 {
            let query = writer.query(1);
            let name = writer.name("q");
            writer.ctes.push((name, query.sql, query.kinds));
        }
    }
    let depth = [1, 2, 2, 3][writer.below(4)];
    let body = writer.query(depth).sql;
    let ctes: Vec<String> = writer.ctes.iter().map(|(name, sql, _)| format!("{name} AS ({sql})")).collect();
    if ctes.is_empty() { body } else { format!("WITH {} {body}", ctes.join(", ")) }
}

impl Writer {
    fn chance(&mut self, p: f64) -> bool {
        self.random.random_bool(p)
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())]
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A few expressions and every ordered column, each in some direction.
    fn order(&mut self, scope: &Scope) -> String {
        let mut keys = Vec::new();
        for _ in 0..self.below(2) {
            let kind = self.pick(&ORDERED);
            keys.push(self.expr(scope, kind, 1));
        }
        let mut columns: Vec<String> = scope.ordered().iter().map(|c| c.name.clone()).collect();
        if !columns.is_empty() {
            let from = self.below(columns.len());
            columns.rotate_left(from);
        }
        // The engine panics over `first_value(… ORDER BY a, a)`.
        columns.retain(|column| !keys.contains(column));
        keys.extend(columns);
        let directions = ["", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"];
        let keys: Vec<String> = keys.into_iter().map(|key| format!("{key}{}", self.pick(&directions))).collect();
        keys.join(", ")
    }
}
