//! Random rows in and out of order, compared with the batch answer behind every step.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::run::{Row, Run, SECOND, compile, reasons};

/// Queries, and which of their rows are final at the watermark `{w}`, those of the tables being `{s}` and `{p}`.
const CASES: &[(&str, &str)] = &[
    (
        "SELECT k, window_start, window_end, count(*) AS n, sum(a) AS a FROM TUMBLE(s, ts, INTERVAL '10' SECOND) \
         GROUP BY k, window_start, window_end",
        "window_end <= {w}",
    ),
    (
        "SELECT window_start, count(DISTINCT k) AS n, avg(a) AS mean FROM TUMBLE(s, ts, INTERVAL '7' SECOND) \
         GROUP BY window_start HAVING count(*) > 2",
        "window_start + INTERVAL '7' SECOND <= {w}",
    ),
    (
        "SELECT k, window_end, max(a) AS a FROM HOP(s, ts, INTERVAL '5' SECOND, INTERVAL '20' SECOND) \
         GROUP BY k, window_end",
        "window_end <= {w}",
    ),
    (
        "SELECT window_start, window_end, count(*) AS n \
         FROM CUMULATE(s, ts, INTERVAL '5' SECOND, INTERVAL '20' SECOND) GROUP BY window_start, window_end",
        "window_end <= {w}",
    ),
    (
        "SELECT date_bin(INTERVAL '10 seconds', ts) AS at, k, count(*) AS n FROM s WHERE a > 3 GROUP BY 1, 2",
        "at + INTERVAL '10 seconds' <= {w}",
    ),
    ("SELECT date_trunc('minute', ts) AS at, count(*) AS n FROM s GROUP BY 1", "at + INTERVAL '1 minute' <= {w}"),
    ("SELECT DISTINCT k, window_end FROM TUMBLE(s, ts, INTERVAL '10' SECOND)", "window_end <= {w}"),
    ("SELECT k, ts, count(*) AS n FROM s GROUP BY k, ts", "ts < {w}"),
    (
        "SELECT window_end, max(n) AS most FROM (SELECT k, window_end, count(*) AS n \
         FROM TUMBLE(s, ts, INTERVAL '10' SECOND) GROUP BY k, window_end) GROUP BY window_end",
        "window_end <= {w}",
    ),
    (
        "SELECT x.window_end, k, n FROM (SELECT k, window_end, count(*) AS n \
         FROM HOP(s, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND) GROUP BY k, window_end) x \
         JOIN (SELECT window_end, max(n) AS most FROM (SELECT k, window_end, count(*) AS n \
         FROM HOP(s, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND) GROUP BY k, window_end) GROUP BY window_end) y \
         ON x.window_end = y.window_end AND n = most",
        "window_end <= {w}",
    ),
    (
        "SELECT l.k, l.window_end, l.a, r.a AS b FROM TUMBLE(s, ts, INTERVAL '4' SECOND) l \
         JOIN TUMBLE(p, ts, INTERVAL '4' SECOND) r ON l.k = r.k AND l.window_end = r.window_end",
        "window_end <= {w}",
    ),
    (
        "SELECT l.k, l.window_end, l.a, r.a AS b FROM TUMBLE(s, ts, INTERVAL '4' SECOND) l \
         LEFT JOIN TUMBLE(p, ts, INTERVAL '4' SECOND) r ON l.k = r.k AND l.window_end = r.window_end",
        "window_end <= {w}",
    ),
    (
        "SELECT l.k, l.window_end, l.a FROM TUMBLE(s, ts, INTERVAL '4' SECOND) l WHERE NOT EXISTS (SELECT 1 \
         FROM TUMBLE(p, ts, INTERVAL '4' SECOND) r WHERE l.k = r.k AND l.window_end = r.window_end)",
        "window_end <= {w}",
    ),
    (
        "SELECT window_end, k, a FROM (SELECT *, row_number() OVER (PARTITION BY window_end ORDER BY a DESC, k, ts) AS n \
         FROM TUMBLE(s, ts, INTERVAL '10' SECOND)) WHERE n <= 2",
        "window_end <= {w}",
    ),
    (
        "SELECT window_end, count(*) AS n, sum(a) AS a FROM TUMBLE((SELECT * FROM s UNION ALL SELECT * FROM p), ts, \
         INTERVAL '10' SECOND) GROUP BY window_end",
        "window_end <= {w}",
    ),
];

/// Sessions.
const SESSIONS: &[(&str, &str)] = &[
    (
        "SELECT k, window_start, window_end, count(*) AS n, sum(a) AS a \
         FROM SESSION(s PARTITION BY k, ts, INTERVAL '2' SECOND) GROUP BY k, window_start, window_end",
        "window_end <= {w}",
    ),
    ("SELECT k, window_end, a, ts FROM SESSION(s PARTITION BY k, ts, INTERVAL '3' SECOND)", "window_end <= {w}"),
    (
        "SELECT window_end, count(*) AS n FROM SESSION(s, ts, INTERVAL '1' SECOND) GROUP BY window_end",
        "window_end <= {w}",
    ),
];

/// Joins that are bounded in time.
const BOUNDED: &[(&str, &str)] = &[
    (
        "SELECT l.k, l.ts, l.a, r.ts AS at, r.a AS b FROM s l \
         JOIN p r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '6' SECOND",
        "ts < least({s}, {p} - INTERVAL '6' SECOND) OR at < least({p}, {s})",
    ),
    (
        "SELECT l.k, l.ts, l.a, r.ts AS at, r.a AS b FROM s l \
         LEFT JOIN p r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '6' SECOND AND r.a > l.a",
        "ts < least({s}, {p} - INTERVAL '6' SECOND)",
    ),
    (
        "SELECT l.k, l.ts, l.a, r.ts AS at, r.a AS b FROM s l \
         LEFT JOIN p r ON l.k = r.k AND r.ts >= l.ts - INTERVAL '2' SECOND AND r.ts < l.ts + INTERVAL '5' SECOND",
        "ts < least({s}, {p} - INTERVAL '5' SECOND)",
    ),
    (
        "SELECT l.k, l.ts, l.a, r.ts AS at, r.a AS b FROM s l \
         RIGHT JOIN p r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '6' SECOND",
        "at < least({p}, {s})",
    ),
    (
        "SELECT l.k, l.ts, l.a, r.ts AS at, r.a AS b FROM s l \
         FULL JOIN p r ON l.k = r.k AND l.ts <= r.ts + INTERVAL '2' SECOND AND r.ts - INTERVAL '5' SECOND <= l.ts",
        "ts < least({s}, {p} - INTERVAL '5' SECOND) OR ts IS NULL AND at < least({p}, {s} - INTERVAL '2' SECOND)",
    ),
    (
        "SELECT k, ts, a FROM s WHERE EXISTS \
         (SELECT 1 FROM p WHERE p.k = s.k AND p.ts BETWEEN s.ts AND s.ts + INTERVAL '3' SECOND)",
        "ts < least({s}, {p} - INTERVAL '3' SECOND)",
    ),
    (
        "SELECT k, ts, a FROM s WHERE NOT EXISTS \
         (SELECT 1 FROM p WHERE p.k = s.k AND p.ts BETWEEN s.ts - INTERVAL '1' SECOND AND s.ts + INTERVAL '3' SECOND)",
        "ts < least({s}, {p} - INTERVAL '3' SECOND)",
    ),
    (
        "SELECT window_end, count(*) AS n, sum(b) AS b FROM TUMBLE((SELECT l.ts, r.a AS b FROM s l \
         JOIN p r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '6' SECOND), ts, INTERVAL '10' SECOND) \
         GROUP BY window_end",
        "window_end <= least({s}, {p} - INTERVAL '6' SECOND)",
    ),
];

fn rows(random: &mut StdRng, now: i64) -> Vec<Row> {
    let row = |random: &mut StdRng| {
        // Most are near the clock; some are late for every window, and a few have no time.
        let back = if random.random_bool(0.1) { 40 } else { 6 };
        let ts = now - random.random_range(0..back * SECOND);
        let k = ["red", "green", "blue"][random.random_range(0..3)];
        (k, random.random_range(0..10), (!random.random_bool(0.02)).then_some(ts / 250_000 * 250_000))
    };
    (0..random.random_range(0..8)).map(|_| row(random)).collect()
}

async fn check(sql: &str, model: &str, seed: u64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut run = Run::new(sql).await;
    let mut now = 1_700_000_000 * SECOND;
    for step in 0..24 {
        now += random.random_range(0..8) * SECOND;
        let new = [rows(&mut random, now), rows(&mut random, now - 2 * SECOND)];
        run.step(new).await;
        if random.random_bool(0.2) {
            run.checkpoint();
        }
        if random.random_bool(0.1) {
            run.restart().await;
        }
        if step % 3 > 0 {
            continue;
        }
        assert_eq!(run.answer(), run.model(model).await, "{sql}\nseed {seed}, step {step}\n{}", run.flow.explain());
    }
    run.answer()
}

async fn check_all(cases: &[(&str, &str)], seeds: u64) {
    for (sql, closed) in cases {
        for seed in 0..seeds {
            let rows = check(sql, &format!("SELECT * FROM ({sql}) WHERE {closed}"), seed).await;
            assert!(!rows.is_empty(), "{sql}");
        }
    }
}

#[tokio::test]
async fn closed_windows_equal_the_batch_answer_over_the_rows_in_time() {
    check_all(CASES, 2).await;
}

#[tokio::test]
async fn closed_sessions_equal_the_batch_answer_over_the_rows_in_time() {
    check_all(SESSIONS, 6).await;
}

#[tokio::test]
async fn bounded_joins_give_each_row_once_when_it_is_final() {
    check_all(BOUNDED, 4).await;
}

#[tokio::test]
async fn the_column_of_the_window_need_not_come_out() {
    let sql = "SELECT upper(k) AS k, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '10' SECOND) GROUP BY k, window_start";
    let model = "SELECT upper(k), n FROM (SELECT k, window_end, count(*) AS n \
                 FROM TUMBLE(s, ts, INTERVAL '10' SECOND) GROUP BY k, window_end) WHERE window_end <= {w}";
    assert!(!check(sql, model, 1).await.is_empty());
}

#[tokio::test]
async fn late_rows_are_given_out_with_the_reason() {
    let sql = "SELECT window_end, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '10' SECOND) GROUP BY window_end";
    let mut run = Run::new(sql).await;
    run.step([vec![("red", 1, Some(20 * SECOND))], vec![]]).await;
    // The watermark is 15: a row at 15 is in time, one before it is not.
    let output = run.step([vec![("red", 2, Some(15 * SECOND)), ("red", 3, Some(15 * SECOND - 1))], vec![]]).await;
    assert_eq!(
        reasons(&output.late),
        ["late: ts is 1970-01-01T00:00:14.999999Z, behind the watermark 1970-01-01T00:00:15Z"]
    );
    assert_eq!(output.late[0].row, r#"{"k":"red","a":3,"ts":"1970-01-01T00:00:14.999999Z"}"#);
    let output = run.step([vec![("red", 4, None)], vec![]]).await;
    assert_eq!(reasons(&output.late), ["no event time: ts is NULL, so the row is in no window"]);
    assert_eq!(run.answer(), Vec::<String>::new());
    run.step([vec![("red", 5, Some(25 * SECOND))], vec![]]).await;
    assert_eq!(run.answer(), ["1970-01-01T00:00:20Z | 1"]);
}

#[tokio::test]
async fn without_emit_on_window_close_late_rows_correct_the_answer() {
    let sql = "SELECT window_end, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '10' SECOND) GROUP BY window_end";
    let mut flow = compile(sql, false).await.unwrap();
    for ts in [5, 50, 6] {
        let rows = crate::run::batch(&[("red", 1, Some(ts * SECOND))]);
        let reached = flow.watermark_gauge(0).unwrap().reached(&rows).unwrap().unwrap();
        flow.advance_watermark(0, reached);
        let output = flow.step(vec![vec![millstream_views::weighted(&rows, 1).unwrap()]]).await.unwrap();
        assert_eq!(reasons(&output.late), Vec::<&str>::new());
        flow.answer().apply(&output.delta).unwrap();
    }
    assert_eq!(flow.watermark(0), Some(45 * SECOND));
    let answer = crate::run::texts(&flow.answer().snapshot().batches().unwrap());
    assert_eq!(answer, ["1970-01-01T00:00:10Z | 2", "1970-01-01T00:01:00Z | 1"]);
}
