//! Owns what stands behind FROM: tables, derived tables, joins.

use rand::Rng;

use super::{Column, Kind, ORDERED, Relation, Scope, Writer};
use crate::world::TABLES;

fn kind_of(column: &str) -> Kind {
    match column {
        "x" => Kind::Quarters,
        "y" => Kind::Odd,
        "m" => Kind::Decimal,
        "t" => Kind::Text,
        "flag" => Kind::Bool,
        "day" => Kind::Date,
        "ts" => Kind::Time,
        "tz" => Kind::Zoned,
        "l" => Kind::List,
        "o" => Kind::Struct,
        _ => Kind::Int,
    }
}

impl Writer {
    /// Something to read from; `depth` is how deep queries may be nested in it.
    pub(super) fn relation(&mut self, depth: usize) -> Relation {
        match self.below(20) {
            0..9 => self.table(),
            9..14 => self.join(depth),
            14 if !self.ctes.is_empty() => self.cte(),
            15 => self.unnested(),
            16 if depth == 0 => self.values(),
            _ if depth > 0 => self.derived(depth - 1),
            _ => self.table(),
        }
    }

    pub(super) fn table(&mut self) -> Relation {
        let table = self.below(TABLES.len());
        let alias = self.name("t");
        let schema = crate::world::schema(table);
        let columns =
            schema.fields().iter().map(|f| Column { name: format!("{alias}.{}", f.name()), kind: kind_of(f.name()) });
        let scope = Scope { columns: columns.collect(), unique: schema.index_of("id").is_ok() };
        Relation { sql: format!("{} {alias}", TABLES[table]), scope }
    }

    fn named(&mut self, sql: String, alias: &str, kinds: &[Kind]) -> Relation {
        let columns = kinds.iter().enumerate().map(|(i, kind)| Column { name: format!("{alias}.c{i}"), kind: *kind });
        Relation { sql, scope: Scope { columns: columns.collect(), unique: false } }
    }

    fn derived(&mut self, depth: usize) -> Relation {
        let query = self.query(depth);
        let alias = self.name("t");
        self.named(format!("({}) {alias}", query.sql), &alias, &query.kinds)
    }

    fn cte(&mut self) -> Relation {
        let i = self.below(self.ctes.len());
        let (name, _, kinds) = self.ctes[i].clone();
        let alias = self.name("t");
        self.named(format!("{name} {alias}"), &alias, &kinds)
    }

    fn values(&mut self) -> Relation {
        let alias = self.name("t");
        let sql = format!("(VALUES (1, 'red', true), (2, 'blue', NULL), (2, NULL, false)) {alias}(c0, c1, c2)");
        self.named(sql, &alias, &[Kind::Int, Kind::Text, Kind::Bool])
    }

    fn unnested(&mut self) -> Relation {
        let table = self.table();
        let list = self.expr(&table.scope, Kind::List, 1);
        let kind = self.pick(&[Kind::Int, Kind::Text, Kind::Bool, Kind::Date]);
        let beside = self.expr(&table.scope, kind, 1);
        let condition = self.condition(&table.scope, 1);
        let alias = self.name("t");
        let sql = format!("(SELECT unnest({list}) AS c0, {beside} AS c1 FROM {} WHERE {condition}) {alias}", table.sql);
        self.named(sql, &alias, &[Kind::Int, kind])
    }

    fn join(&mut self, depth: usize) -> Relation {
        let inner = depth.saturating_sub(1);
        let small = |writer: &mut Self| {
            if inner > 0 && writer.chance(0.4) { writer.derived(inner - 1) } else { writer.table() }
        };
        let left = if self.chance(0.25) { self.join(inner.saturating_sub(1)) } else { small(self) };
        let right = small(self);
        let both = Scope {
            columns: [left.scope.columns.clone(), right.scope.columns.clone()].concat(),
            unique: left.scope.unique && right.scope.unique,
        };
        let kind =
            self.pick(&["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"]);
        let half = kind.contains("SEMI") || kind.contains("ANTI");
        if kind == "JOIN" && self.chance(0.2) {
            let condition = self.equality(&left.scope, &right.scope);
            let alias = self.name("t");
            let columns: Vec<&Column> = both.columns.iter().filter(|_| self.random.random_bool(0.4)).take(4).collect();
            let items: Vec<String> = columns.iter().enumerate().map(|(i, c)| format!("{} AS c{i}", c.name)).collect();
            if !items.is_empty() {
                let kinds: Vec<Kind> = columns.iter().map(|c| c.kind).collect();
                let (left, right, items) = (left.sql, right.sql, items.join(", "));
                return self.named(
                    format!("(SELECT {items} FROM {left}, {right} WHERE {condition}) {alias}"),
                    &alias,
                    &kinds,
                );
            }
        }
        if !half && self.chance(0.08) {
            let tables = (self.table(), self.table());
            let scope = Scope {
                columns: [tables.0.scope.columns, tables.1.scope.columns].concat(),
                unique: tables.0.scope.unique && tables.1.scope.unique,
            };
            return Relation { sql: format!("{} {kind} {} USING (k)", tables.0.sql, tables.1.sql), scope };
        }
        let mut on = self.equality(&left.scope, &right.scope);
        if kind != "FULL JOIN" && self.chance(0.12) {
            // Without equality.
            on = format!("{} > {} + 40", self.expr(&left.scope, Kind::Int, 0), self.expr(&right.scope, Kind::Int, 0));
        } else {
            if self.chance(0.3) {
                on = format!("{on} AND {}", self.equality(&left.scope, &right.scope));
            }
            if self.chance(0.35) {
                on = format!("{on} AND {}", self.condition(&both, 1));
            }
        }
        let scope = if half { left.scope } else { both };
        Relation { sql: format!("{} {kind} {} ON {on}", left.sql, right.sql), scope }
    }

    /// Equality between two sides.
    pub(super) fn equality(&mut self, left: &Scope, right: &Scope) -> String {
        let shared: Vec<Kind> =
            ORDERED.into_iter().filter(|k| !left.of_kind(*k).is_empty() && !right.of_kind(*k).is_empty()).collect();
        let kind = if shared.is_empty() { Kind::Int } else { self.pick(&shared) };
        let depth = usize::from(self.chance(0.3));
        let (one, other) = (self.expr(left, kind, depth), self.expr(right, kind, depth));
        let operator = if self.chance(0.1) { "IS NOT DISTINCT FROM" } else { "=" };
        format!("({one} {operator} {other})")
    }
}
