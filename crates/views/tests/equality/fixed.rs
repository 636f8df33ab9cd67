//! One query for each thing a view can be made of.

use crate::history::History;
use crate::outcome::{Outcome, outcome};

pub(crate) const QUERIES: &[&str] = &[
    // Linear.
    "SELECT id, a + 1 AS b, upper(t) AS u FROM s WHERE k > 2",
    "SELECT id, CASE WHEN flag THEN 'yes' WHEN flag IS NULL THEN 'unknown' ELSE 'no' END AS f FROM c",
    "SELECT id, a FROM s UNION ALL SELECT id, a FROM c",
    "SELECT k FROM s UNION SELECT k FROM c",
    "SELECT id, unnest(make_array(a, k)) AS v FROM c",
    "WITH q AS (SELECT k, a FROM s WHERE a > 0) SELECT k, a * 2 AS twice FROM q WHERE k IS NOT NULL",
    "SELECT 1 AS one, 'x' AS x",
    "SELECT * FROM (VALUES (1, 'one'), (2, 'two')) AS v(n, name)",
    // Aggregates over rows that only come.
    "SELECT k, count(*), sum(a), avg(x), min(t), max(ts) FROM s GROUP BY k",
    "SELECT count(*), sum(a), min(x) FROM s",
    "SELECT k, t, count(a) AS n FROM s GROUP BY k, t HAVING count(a) > 1",
    "SELECT k, count(DISTINCT a), count(DISTINCT t) FROM s GROUP BY k",
    "SELECT k, count(*) FILTER (WHERE flag), sum(a) FILTER (WHERE a > 10) FROM s GROUP BY k",
    "SELECT k, array_agg(a ORDER BY id) FROM s GROUP BY k",
    "SELECT k, first_value(a ORDER BY id), last_value(t ORDER BY id DESC) FROM s GROUP BY k",
    "SELECT k, approx_distinct(a), median(a), stddev(x), var_pop(a), bool_and(flag), bit_or(a) FROM s GROUP BY k",
    "SELECT k, string_agg(t, ',' ORDER BY id) FROM s GROUP BY k",
    "SELECT k, corr(a, x), covar_samp(a, x), regr_slope(a, x) FROM s WHERE a IS NOT NULL GROUP BY k",
    "SELECT date_trunc('minute', ts) AS m, k % 2 AS odd, count(*) FROM s GROUP BY 1, 2",
    "SELECT k, t, sum(a) FROM s GROUP BY ROLLUP (k, t)",
    "SELECT k, t, grouping(k), count(*) FROM s GROUP BY CUBE (k, t)",
    "SELECT k, flag, count(*) FROM s GROUP BY GROUPING SETS ((k), (flag), ())",
    // Aggregates over rows that come and go.
    "SELECT k, count(*), sum(a), avg(x), min(t), max(ts) FROM c GROUP BY k",
    "SELECT count(*), sum(a), min(x) FROM c",
    "SELECT count(*), sum(a) FROM c WHERE a > 10000",
    "SELECT k, count(DISTINCT a), sum(DISTINCT a) FROM c GROUP BY k",
    "SELECT k, array_agg(a ORDER BY id), median(x) FROM c GROUP BY k",
    "SELECT k, count(DISTINCT a), count(DISTINCT a) FILTER (WHERE flag), count(*) FILTER (WHERE a > 10) FROM c GROUP BY k",
    "SELECT k, count(DISTINCT t) FILTER (WHERE flag), sum(DISTINCT a), avg(DISTINCT a), avg(a), sum(x) FROM s GROUP BY k",
    "SELECT count(DISTINCT t), count(DISTINCT k), avg(a), count(t), sum(a) FILTER (WHERE NOT flag) FROM c",
    "SELECT k, sum(a::decimal(12, 2)), sum(DISTINCT a::decimal(12, 2)), max(DISTINCT x) FROM s GROUP BY k",
    "SELECT k, sum(a::decimal(12, 2)), avg(a), count(x) FROM c GROUP BY k HAVING count(*) > 1",
    "SELECT k, t, sum(a) FROM c GROUP BY ROLLUP (k, t)",
    "SELECT k, t, grouping(k, t), count(*) FROM c GROUP BY CUBE (k, t)",
    "SELECT n, count(*) FROM (SELECT k, count(*) AS n FROM s GROUP BY k) GROUP BY n",
    "SELECT max(n), sum(n) FROM (SELECT t, count(*) AS n FROM c GROUP BY t)",
    // Sessions.
    "SELECT k, window_start, window_end, count(*), sum(a), avg(x), min(t), count(t) FILTER (WHERE flag) FROM SESSION(s \
     PARTITION BY k, ts, INTERVAL '20' SECOND) GROUP BY k, window_start, window_end",
    "SELECT window_end, max(a) AS m FROM SESSION(s, ts, INTERVAL '3' SECOND) GROUP BY window_end",
    "SELECT k, t, window_start, window_end - window_start AS length FROM SESSION(s PARTITION BY t, k, ts, INTERVAL '1' \
     MINUTE) GROUP BY k, t, window_start, window_end",
    "SELECT k, window_start, count(*) FROM SESSION(c PARTITION BY k, ts, INTERVAL '20' SECOND) GROUP BY k, window_start",
    // Distinct.
    "SELECT DISTINCT k, flag FROM s",
    "SELECT DISTINCT k, flag FROM c",
    "SELECT DISTINCT ON (k) k, id, a FROM c ORDER BY k, id DESC",
    "SELECT k FROM s INTERSECT SELECT k FROM c",
    "SELECT k, t FROM c EXCEPT SELECT k, t FROM s",
    // Joins.
    "SELECT s.id, p.id AS pid FROM s JOIN p ON s.k = p.k AND s.a < p.a",
    "SELECT s.id, c.a FROM s JOIN c ON s.k = c.k",
    "SELECT c.id, d.id AS did FROM c JOIN d ON c.k = d.k AND c.t = d.t",
    "SELECT s.id, c.id AS cid, c.t FROM s LEFT JOIN c ON s.a = c.a",
    "SELECT s.id, c.id AS cid FROM s LEFT JOIN c ON s.k = c.k AND s.a > c.a",
    "SELECT c.id, d.id AS did FROM c RIGHT JOIN d ON c.a = d.a AND c.k < d.k",
    "SELECT c.id, d.id AS did FROM c FULL JOIN d ON c.a = d.a",
    "SELECT c.id, d.id AS did FROM c FULL JOIN d ON c.k = d.k AND c.flag AND d.flag",
    "SELECT s.id, c.id AS cid FROM s JOIN c ON s.a + 1 = c.a * 2",
    "SELECT s.id, c.id AS cid FROM s LEFT JOIN c ON s.a + 1 = c.a * 2 AND s.t = c.t",
    "SELECT c.id FROM c WHERE c.k IN (SELECT k FROM d WHERE d.a > 50)",
    "SELECT c.id FROM c WHERE c.a NOT IN (SELECT a FROM d WHERE d.a IS NOT NULL AND d.a > 50)",
    "SELECT c.id FROM c WHERE c.a NOT IN (SELECT a FROM d)",
    "SELECT c.id FROM c WHERE EXISTS (SELECT 1 FROM d WHERE d.a = c.a AND d.x > c.x)",
    "SELECT c.id FROM c WHERE NOT EXISTS (SELECT 1 FROM d WHERE d.a = c.a)",
    "SELECT c.id FROM c WHERE c.k = 1 OR EXISTS (SELECT 1 FROM d WHERE d.a = c.a)",
    "SELECT c.id, (SELECT count(*) FROM d WHERE d.k = c.k) AS n FROM c",
    "SELECT c.id FROM c WHERE c.a > (SELECT avg(a) FROM d)",
    "SELECT c.id, c.a - (SELECT max(a) FROM s) AS below FROM c",
    "SELECT s.id, d.id AS did FROM s CROSS JOIN d WHERE s.a > d.a",
    "SELECT s.id, d.id AS did FROM s LEFT JOIN d ON s.a > d.a + 60",
    "SELECT l.id, r.id AS rid FROM c l JOIN c r ON l.k = r.k AND l.id < r.id",
    "SELECT c.id, d.a, s.t FROM c JOIN d ON c.k = d.k JOIN s ON d.a = s.a",
    "SELECT k, count(*), sum(c.a) FROM c LEFT JOIN (SELECT a, count(*) AS n FROM d GROUP BY a) q ON c.a = q.a WHERE n IS NULL OR n > 1 GROUP BY k",
    // Windows and first rows.
    "SELECT id, row_number() OVER (PARTITION BY k ORDER BY a, id) AS n FROM s",
    "SELECT id, rank() OVER (PARTITION BY k ORDER BY a) AS r, dense_rank() OVER (PARTITION BY k ORDER BY a) AS dr FROM c",
    "SELECT id, lag(a) OVER (PARTITION BY k ORDER BY id) AS before, lead(a, 2) OVER (PARTITION BY k ORDER BY id) AS after FROM c",
    "SELECT id, sum(a) OVER (PARTITION BY k ORDER BY id) AS running, count(*) OVER (PARTITION BY k) AS n FROM c",
    "SELECT id, avg(a) OVER (PARTITION BY k, t ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS mean FROM s",
    "SELECT id, sum(a) OVER (PARTITION BY k ORDER BY id), max(a) OVER (PARTITION BY k, t) FROM c",
    "SELECT id, ntile(3) OVER (PARTITION BY k + 1 ORDER BY id) AS third FROM c",
    "SELECT k, id, a FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY a DESC, id) AS n FROM s) WHERE n <= 2",
    "SELECT k, id, a FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY a DESC, id) AS n FROM c) WHERE n <= 2",
    "SELECT k, id FROM (SELECT *, row_number() OVER (PARTITION BY k, t ORDER BY id) AS n FROM c) WHERE n = 1",
    "SELECT k, id, a, n FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY a, id) AS n FROM s) WHERE n = 2",
    "SELECT k, id, n FROM (SELECT *, rank() OVER (PARTITION BY k ORDER BY a) AS n FROM s) WHERE n < 3 AND a > 5",
    "SELECT k, id, a FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY id) AS n, count(*) OVER (PARTITION BY k \
     ORDER BY id) AS upto FROM s) WHERE n <= 2",
    "SELECT id, a FROM s ORDER BY a DESC NULLS LAST, id LIMIT 5",
    "SELECT id, a FROM c ORDER BY a, id LIMIT 4 OFFSET 2",
    "SELECT t, n FROM (SELECT t, count(*) AS n FROM s GROUP BY t) ORDER BY n DESC, t LIMIT 2",
    "SELECT id + 1 AS next FROM s ORDER BY x, id LIMIT 3",
    "SELECT id, a FROM c ORDER BY a",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_query_equals_its_batch_answer() {
    let only = std::env::var("MILLSTREAM_QUERY").ok();
    let mut failures = Vec::new();
    for (n, sql) in QUERIES.iter().enumerate() {
        if only.as_ref().is_some_and(|only| !sql.contains(only.as_str())) {
            continue;
        }
        for seed in 0..2 {
            let seed = seed * 1000 + n as u64;
            let history = History::random(seed, 10);
            let outcome = outcome(sql, &history, &|step| step % 3 == seed as usize % 3).await;
            if !matches!(outcome, Outcome::Equal) {
                failures.push(format!("{sql}\nseed {seed}: {outcome:?}"));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} fail:\n\n{}", failures.len(), QUERIES.len(), failures.join("\n\n"));
}
