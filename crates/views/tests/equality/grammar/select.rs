//! Owns whole queries.

use super::{Column, Kind, ORDERED, Query, Relation, Scope, Writer};

const SHOWN: [Kind; 11] = [
    Kind::Int,
    Kind::Int,
    Kind::Quarters,
    Kind::Odd,
    Kind::Decimal,
    Kind::Text,
    Kind::Bool,
    Kind::Date,
    Kind::Time,
    Kind::Zoned,
    Kind::List,
];

impl Writer {
    /// A query; `depth` is how deep others may be nested in it.
    pub(super) fn query(&mut self, depth: usize) -> Query {
        match self.below(18) {
            0..3 => self.plain(depth),
            3..8 => self.grouped(depth),
            8 => self.global(depth),
            9 => self.sets(depth),
            10 | 11 => self.windowed(depth),
            12 => self.first_of_group(depth),
            13 => self.first(depth),
            14 | 15 => self.combined(depth),
            16 => self.distinct(depth),
            _ => self.with_subquery(depth),
        }
    }

    fn condition_over(&mut self, relation: &Relation, depth: usize) -> String {
        match self.below(10) {
            0..4 => String::new(),
            4..6 => format!(" WHERE {}", self.subquery_condition(&relation.scope, depth)),
            _ => format!(" WHERE {}", self.condition(&relation.scope, 2)),
        }
    }

    fn plain(&mut self, depth: usize) -> Query {
        let relation = self.relation(depth);
        let kinds: Vec<Kind> = (0..1 + self.below(4)).map(|_| self.shown(&relation.scope)).collect();
        self.projection(&relation, &kinds, "", depth)
    }

    fn shown(&mut self, scope: &Scope) -> Kind {
        let own = self.below(scope.columns.len().max(1));
        match scope.columns.get(own) {
            Some(column) if self.chance(0.5) => column.kind,
            _ => self.pick(&SHOWN),
        }
    }

    fn projection(&mut self, relation: &Relation, kinds: &[Kind], distinct: &str, depth: usize) -> Query {
        let items: Vec<String> = kinds.iter().map(|kind| self.expr(&relation.scope, *kind, 2)).collect();
        let condition = self.condition_over(relation, depth);
        Query {
            sql: format!("SELECT {distinct}{} FROM {}{condition}", aliased(&items), relation.sql),
            kinds: kinds.to_vec(),
        }
    }

    fn distinct(&mut self, depth: usize) -> Query {
        let relation = self.relation(depth);
        if relation.scope.has_order() && self.chance(0.3) {
            let key = format!("({} + 1)", self.expr(&relation.scope, Kind::Int, 0));
            let order = self.order(&relation.scope);
            let value = self.expr(&relation.scope, Kind::Text, 1);
            let sql = format!(
                "SELECT DISTINCT ON ({key}) {key} AS c0, {value} AS c1 FROM {} ORDER BY {key}, {order}",
                relation.sql
            );
            return Query { sql, kinds: vec![Kind::Int, Kind::Text] };
        }
        let kinds: Vec<Kind> = (0..1 + self.below(3)).map(|_| self.pick(&SHOWN)).collect();
        self.projection(&relation, &kinds, "DISTINCT ", depth)
    }

    fn grouped(&mut self, depth: usize) -> Query {
        let relation = self.relation(depth);
        let n = 1 + self.below(2);
        let mut items = Vec::new();
        let mut kinds = Vec::new();
        for _ in 0..n {
            let kind = if self.chance(0.1) { self.pick(&[Kind::List, Kind::Struct]) } else { self.pick(&ORDERED) };
            let deep = usize::from(self.chance(0.5));
            items.push(self.expr(&relation.scope, kind, deep));
            kinds.push(kind);
        }
        let groups: Vec<String> = (1..=items.len()).map(|i| i.to_string()).collect();
        self.add_aggregates(&relation.scope, &mut items, &mut kinds);
        let condition = self.condition_over(&relation, depth);
        let having = self.having(&relation.scope);
        let sql = format!(
            "SELECT {} FROM {}{condition} GROUP BY {}{having}",
            aliased(&items),
            relation.sql,
            groups.join(", ")
        );
        Query { sql, kinds }
    }

    fn having(&mut self, scope: &Scope) -> String {
        if !self.chance(0.25) {
            return String::new();
        }
        match self.below(3) {
            0 => " HAVING count(*) > 1".into(),
            1 => format!(" HAVING max({}) > 2", self.expr(scope, Kind::Int, 0)),
            _ => format!(" HAVING sum({}) IS NOT NULL", self.expr(scope, Kind::Int, 1)),
        }
    }

    fn add_aggregates(&mut self, scope: &Scope, items: &mut Vec<String>, kinds: &mut Vec<Kind>) {
        for _ in 0..1 + self.below(3) {
            let (call, kind) = self.aggregate(scope);
            items.push(call);
            kinds.push(kind);
        }
    }

    fn global(&mut self, depth: usize) -> Query {
        let relation = self.relation(depth);
        let (mut items, mut kinds) = (vec![], vec![]);
        self.add_aggregates(&relation.scope, &mut items, &mut kinds);
        let condition = self.condition_over(&relation, depth);
        let having = if self.chance(0.1) { " HAVING count(*) > 3" } else { "" };
        Query { sql: format!("SELECT {} FROM {}{condition}{having}", aliased(&items), relation.sql), kinds }
    }

    fn sets(&mut self, depth: usize) -> Query {
        let relation = self.orderly(depth);
        let (mut one, mut other) = (self.pick(&ORDERED), self.pick(&ORDERED));
        let (mut a, mut b) = (self.expr(&relation.scope, one, 1), self.expr(&relation.scope, other, 0));
        // The engine takes a constant that only some of the sets group by for one in all of them.
        if !(a.contains(".c") || a.contains(".k")) || b.starts_with(|c: char| c != 't') {
            let columns = relation.scope.ordered();
            let (first, second) = (self.pick(&columns), self.pick(&columns));
            (a, one) = (first.name.clone(), first.kind);
            (b, other) = (second.name.clone(), second.kind);
        }
        let mut items = vec![a.clone(), b.clone()];
        let mut kinds = vec![one, other];
        self.add_aggregates(&relation.scope, &mut items, &mut kinds);
        if self.chance(0.3) {
            items.push(format!("grouping({b})"));
            kinds.push(Kind::Int);
        }
        let sets = match self.below(4) {
            0 => format!("ROLLUP ({a}, {b})"),
            1 => format!("CUBE ({a}, {b})"),
            2 => format!("GROUPING SETS (({a}), ({b}), ())"),
            _ => format!("GROUPING SETS (({a}, {b}), ({b}))"),
        };
        let condition = self.condition_over(&relation, depth);
        Query { sql: format!("SELECT {} FROM {}{condition} GROUP BY {sets}", aliased(&items), relation.sql), kinds }
    }

    /// A relation whose rows have an order.
    fn orderly(&mut self, depth: usize) -> Relation {
        for _ in 0..4 {
            let relation = self.relation(depth);
            if relation.scope.has_order() && !relation.scope.ordered().is_empty() {
                return relation;
            }
        }
        self.table()
    }

    fn partition(&mut self, scope: &Scope) -> String {
        let kind = self.pick(&[Kind::Int, Kind::Text, Kind::Bool, Kind::Odd, Kind::Date]);
        let deep = usize::from(self.chance(0.3));
        self.expr(scope, kind, deep)
    }

    fn windowed(&mut self, depth: usize) -> Query {
        let relation = self.orderly(depth);
        let partition = self.partition(&relation.scope);
        let (mut items, mut kinds) = (vec![], vec![]);
        for _ in 0..1 + self.below(2) {
            let kind = self.shown(&relation.scope);
            items.push(self.expr(&relation.scope, kind, 1));
            kinds.push(kind);
        }
        let (call, kind) = self.window(&relation.scope, &partition);
        items.push(call);
        kinds.push(kind);
        // Among equal rows it is chance which one's first place goes with which one's second.
        if relation.scope.unique && self.chance(0.5) {
            let partition =
                if self.chance(0.5) { partition } else { format!("{partition}, {}", self.partition(&relation.scope)) };
            let (call, kind) = self.window(&relation.scope, &partition);
            items.push(call);
            kinds.push(kind);
        }
        let condition = self.condition_over(&relation, depth);
        Query { sql: format!("SELECT {} FROM {}{condition}", aliased(&items), relation.sql), kinds }
    }

    fn first_of_group(&mut self, depth: usize) -> Query {
        let relation = self.orderly(depth);
        let partition = self.partition(&relation.scope);
        let order = self.order(&relation.scope);
        let kinds: Vec<Kind> = (0..1 + self.below(3)).map(|_| self.shown(&relation.scope)).collect();
        let items: Vec<String> = kinds.iter().map(|kind| self.expr(&relation.scope, *kind, 1)).collect();
        let condition = self.condition_over(&relation, depth);
        if self.chance(0.3) {
            let sql = format!(
                "SELECT {} FROM {}{condition} QUALIFY row_number() OVER (PARTITION BY {partition} ORDER BY {order}) <= 2",
                aliased(&items),
                relation.sql
            );
            return Query { sql, kinds };
        }
        let alias = self.name("t");
        let shown: Vec<String> = (0..kinds.len()).map(|i| format!("c{i}")).collect();
        let sql = format!(
            "SELECT {} FROM (SELECT {}, row_number() OVER (PARTITION BY {partition} ORDER BY {order}) AS place FROM \
             {}{condition}) {alias} WHERE place {}",
            shown.join(", "),
            aliased(&items),
            relation.sql,
            self.pick(&["= 1", "<= 2", "<= 3", "= 2"]),
        );
        Query { sql, kinds }
    }

    fn first(&mut self, depth: usize) -> Query {
        let relation = self.orderly(depth);
        let kinds: Vec<Kind> = (0..1 + self.below(3)).map(|_| self.shown(&relation.scope)).collect();
        let query = self.projection(&relation, &kinds, "", depth);
        let order = self.order(&relation.scope);
        let limit = self.pick(&["LIMIT 3", "LIMIT 5", "LIMIT 1", "LIMIT 4 OFFSET 2", "LIMIT 0", "OFFSET 1"]);
        Query { sql: format!("{} ORDER BY {order} {limit}", query.sql), kinds }
    }

    /// UNION, INTERSECT, EXCEPT.
    fn combined(&mut self, depth: usize) -> Query {
        let kinds: Vec<Kind> = (0..1 + self.below(2)).map(|_| self.pick(&ORDERED)).collect();
        let operators = ["UNION ALL", "UNION ALL", "UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"];
        let inner = depth.saturating_sub(1);
        let mut parts = Vec::new();
        for _ in 0..2 + usize::from(self.chance(0.2)) {
            let relation = self.relation(inner);
            parts.push(self.projection(&relation, &kinds, "", 0).sql);
        }
        let mut sql = parts.remove(0);
        for part in parts {
            sql = format!("{sql} {} {part}", self.pick(&operators));
        }
        Query { sql, kinds }
    }

    /// A scalar subquery among the columns.
    fn with_subquery(&mut self, depth: usize) -> Query {
        let relation = self.relation(depth);
        let (subquery, kind) = self.scalar_subquery(&relation.scope);
        let mut items = vec![subquery];
        let mut kinds = vec![kind];
        for _ in 0..1 + self.below(2) {
            let kind = self.shown(&relation.scope);
            items.push(self.expr(&relation.scope, kind, 1));
            kinds.push(kind);
        }
        let condition = self.condition_over(&relation, 0);
        Query { sql: format!("SELECT {} FROM {}{condition}", aliased(&items), relation.sql), kinds }
    }

    fn scalar_subquery(&mut self, outer: &Scope) -> (String, Kind) {
        let table = self.table();
        let (call, kind) = match self.below(4) {
            0 => ("count(*)".to_owned(), Kind::Int),
            1 => (format!("sum({})", self.expr(&table.scope, Kind::Int, 1)), Kind::Int),
            2 => (format!("max({})", self.expr(&table.scope, Kind::Int, 1)), Kind::Int),
            _ => (format!("min({})", self.expr(&table.scope, Kind::Text, 0)), Kind::Text),
        };
        let condition = self.subquery_where(outer, &table.scope);
        (format!("(SELECT {call} FROM {}{condition})", table.sql), kind)
    }

    /// What a subquery filters by: mostly it depends on the query around it.
    fn subquery_where(&mut self, outer: &Scope, inner: &Scope) -> String {
        let correlated = self.chance(0.6).then(|| self.column_equality(inner, outer)).flatten();
        match (correlated, self.chance(0.4)) {
            (Some(equality), true) => format!(" WHERE {equality} AND {}", self.condition(inner, 1)),
            (Some(equality), false) => format!(" WHERE {equality}"),
            (None, true) => format!(" WHERE {}", self.condition(inner, 1)),
            (None, false) => String::new(),
        }
    }

    fn column_equality(&mut self, inner: &Scope, outer: &Scope) -> Option<String> {
        let pairs: Vec<(&Column, &Column)> = inner
            .columns
            .iter()
            .flat_map(|i| outer.columns.iter().filter(|o| o.kind == i.kind && i.kind == Kind::Int).map(move |o| (i, o)))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        let (inner, outer) = self.pick(&pairs);
        Some(format!("{} = {}", inner.name, outer.name))
    }

    fn subquery_condition(&mut self, outer: &Scope, depth: usize) -> String {
        let inner = if depth > 1 && self.chance(0.3) { self.relation(depth - 2) } else { self.table() };
        let condition = self.subquery_where(outer, &inner.scope);
        let kind = self.pick(&[Kind::Int, Kind::Text, Kind::Int, Kind::Date, Kind::Odd]);
        let (one, other) = (self.expr(outer, kind, 1), self.expr(&inner.scope, kind, 1));
        let test = match self.below(10) {
            0 | 1 => format!("{one} IN (SELECT {other} FROM {}{condition})", inner.sql),
            2 => format!("{one} NOT IN (SELECT {other} FROM {}{condition})", inner.sql),
            3 => format!("EXISTS (SELECT 1 FROM {}{condition})", inner.sql),
            4 => format!("NOT EXISTS (SELECT 1 FROM {}{condition})", inner.sql),
            5 => format!(
                "{one} {} (SELECT {other} FROM {}{condition})",
                self.pick(&["= ANY", "> ALL", "<> ALL"]),
                inner.sql
            ),
            6 => {
                let (one, other) = (self.expr(outer, Kind::Int, 0), self.expr(&inner.scope, Kind::Int, 0));
                format!("{}EXISTS (SELECT 1 FROM {} WHERE {one} < {other} - 50)", self.pick(&["", "NOT "]), inner.sql)
            }
            _ => {
                let (subquery, kind) = self.scalar_subquery(outer);
                format!("{} {} {subquery}", self.expr(outer, kind, 0), self.pick(&["<", ">=", "<>"]))
            }
        };
        match self.below(5) {
            0 => format!("({test} OR {})", self.condition(outer, 1)),
            1 => format!("{test} AND {}", self.condition(outer, 1)),
            _ => test,
        }
    }
}

fn aliased(items: &[String]) -> String {
    let items: Vec<String> = items.iter().enumerate().map(|(i, item)| format!("{item} AS c{i}")).collect();
    items.join(", ")
}
