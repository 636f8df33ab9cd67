//! Owns the table of the crash test: one client changes it, statement by statement; views of all kinds follow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::STREAM;
use crate::support::{Client, int};

/// Names and queries; `{s}` is the stream.
const VIEWS: &[(&str, &str)] = &[
    ("t_linear", "SELECT id, amount * 2 AS twice FROM accounts WHERE amount > 5"),
    ("t_sums", "SELECT owner, count(*) AS n, sum(amount) AS total FROM accounts GROUP BY owner"),
    ("t_most", "SELECT owner, max(amount) AS most FROM accounts GROUP BY owner"),
    ("t_distinct", "SELECT DISTINCT owner, amount % 3 AS rest FROM accounts"),
    ("t_pairs", "SELECT a.id, b.id AS next FROM accounts a LEFT JOIN accounts b ON b.id = a.id + 1"),
    ("t_fed", "SELECT a.id, e.seq FROM accounts a JOIN {s} e ON e.writer = a.owner AND e.seq = a.id"),
    ("t_top", "SELECT id, amount FROM accounts ORDER BY amount DESC, id LIMIT 4"),
    ("t_above", "SELECT n, count(*) AS owners FROM t_sums GROUP BY n"),
];

/// What the table holds: owner and amount by id.
type Rows = BTreeMap<i64, (i64, i64)>;

/// The only client that changes the table.
#[derive(Debug)]
pub struct TableClient {
    random: StdRng,
    rows: Rows,
    /// What the table holds if the statement that was not answered took place.
    in_doubt: Option<Rows>,
    next_id: i64,
}

/// Makes the table and its views.
pub async fn create(client: &Client) {
    client.sql("CREATE TABLE accounts (id BIGINT PRIMARY KEY, owner BIGINT, amount BIGINT)").await;
    for (name, query) in VIEWS {
        client.sql(&format!("CREATE MATERIALIZED VIEW {name} AS {}", query.replace("{s}", STREAM))).await;
    }
}

impl TableClient {
    /// A client of a table that is empty.
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), rows: Rows::new(), in_doubt: None, next_id: 0 }
    }

    /// Changes the table until the connection breaks.
    pub async fn run_until_broken(&mut self, client: &Client, killed: &AtomicBool) {
        loop {
            let (sql, after) = self.statement();
            self.in_doubt = Some(after);
            match client.try_sql(json!({ "sql": sql }), "application/json").await {
                Ok(reply) => {
                    assert!(reply.status == 200, "{sql}\nanswered {}: {}", reply.status, reply.text());
                    self.rows = self.in_doubt.take().unwrap_or_default();
                }
                Err(error) => {
                    assert!(killed.load(Ordering::SeqCst), "{sql}: {error:?} though the node lives");
                    return;
                }
            }
        }
    }

    /// A statement, and what the table holds behind it.
    fn statement(&mut self) -> (String, Rows) {
        let (random, mut after) = (&mut self.random, self.rows.clone());
        let (modulus, rest) = (random.random_range(2..12), random.random_range(0..5));
        let sql = match random.random_range(0..5) {
            0 | 1 => {
                let mut values = Vec::new();
                for _ in 0..random.random_range(1..20) {
                    let row = (random.random_range(0..4), random.random_range(0..20));
                    after.insert(self.next_id, row);
                    values.push(format!("({}, {}, {})", self.next_id, row.0, row.1));
                    self.next_id += 1;
                }
                format!("INSERT INTO accounts VALUES {}", values.join(", "))
            }
            2 => {
                after.iter_mut().filter(|(id, _)| **id % modulus == rest).for_each(|(_, row)| row.1 += 1);
                format!("UPDATE accounts SET amount = amount + 1 WHERE id % {modulus} = {rest}")
            }
            3 => {
                let id = random.random_range(0..=self.next_id);
                after.entry(id).and_modify(|row| row.1 = 7).or_insert((1, 7));
                self.next_id = self.next_id.max(id + 1);
                format!(
                    "INSERT INTO accounts VALUES ({id}, 1, 7) ON CONFLICT (id) DO UPDATE SET amount = excluded.amount"
                )
            }
            _ => {
                after.retain(|id, _| id % modulus != rest);
                format!("DELETE FROM accounts WHERE id % {modulus} = {rest}")
            }
        };
        (sql, after)
    }

    /// The table holds what was acknowledged, and each view what its query gives. Call it when the views have taken in
    /// everything.
    pub async fn check(&mut self, client: &Client) {
        let found = client.sql("SELECT id, owner, amount FROM accounts").await;
        let found: Rows = found.rows.iter().map(|row| (int(&row[0]), (int(&row[1]), int(&row[2])))).collect();
        if let Some(after) = self.in_doubt.take().filter(|after| *after == found) {
            self.rows = after;
        }
        assert_eq!(found, self.rows, "the table is neither as before nor as behind the last statement");
        for (name, query) in VIEWS {
            let (query, kept) = (query.replace("{s}", STREAM), format!("SELECT * FROM {name}"));
            for (one, other) in [(&kept, &query), (&query, &kept)] {
                let sql = format!("SELECT count(*) FROM (({one}) EXCEPT ALL ({other})) d");
                assert_eq!(client.number(&sql).await, 0, "view {name} is not what its query gives: {sql}");
            }
        }
    }
}
