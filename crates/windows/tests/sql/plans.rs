//! What plans the calls become: golden, and the same for every spelling.

use crate::table::{context, plan, timestamptz};

async fn plain(sql: &str) -> String {
    plan(&context(&[], &timestamptz()), sql).await.unwrap().display_indent().to_string()
}

async fn optimized(sql: &str) -> String {
    let context = context(&[], &timestamptz());
    let plan = plan(&context, sql).await.unwrap();
    context.state().optimize(&plan).unwrap().display_indent().to_string()
}

#[tokio::test]
async fn tumble_is_a_projection() {
    let expected = "\
Projection: t.k, t.n, t.ts, t.window_start, t.window_end
  Projection: t.k, t.n, t.ts, window_start(t.ts, Int64(60000000), Int64(0)) AS window_start, \
     window_end(window_start(t.ts, Int64(60000000), Int64(0)), Int64(60000000)) AS window_end
    Filter: t.ts IS NOT NULL
      TableScan: t";
    assert_eq!(plain("SELECT * FROM TUMBLE(t, ts, INTERVAL '1' MINUTE)").await, expected);
}

#[tokio::test]
async fn a_column_that_is_never_null_needs_no_filter() {
    let expected = "\
Projection: other.window_start
  Projection: other.id, other.ts, other.made, \
     window_start(other.ts, Int64(86400000000), Int64(-3600000000)) AS window_start, \
     window_end(window_start(other.ts, Int64(86400000000), Int64(-3600000000)), Int64(86400000000)) AS window_end
    TableScan: other";
    let sql = "SELECT window_start FROM TUMBLE(other, ts, INTERVAL '1' DAY, INTERVAL '-1 hour')";
    assert_eq!(plain(sql).await, expected);
}

#[tokio::test]
async fn hop_is_an_unnest_of_the_starts() {
    let expected = "\
Projection: t.k, t.n, t.ts, t.window_start, t.window_end
  Projection: t.k, t.n, t.ts, __windows AS window_start, window_end(__windows, Int64(300000000)) AS window_end
    Unnest: lists[__windows|depth=1] structs[]
      Projection: t.k, t.n, t.ts, \
     window_starts(t.ts, Int64(60000000), Int64(300000000), Int64(30000000)) AS __windows
        Filter: t.ts IS NOT NULL
          TableScan: t";
    let sql = "SELECT * FROM HOP(t, ts, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE, INTERVAL '30' SECOND)";
    assert_eq!(plain(sql).await, expected);
}

#[tokio::test]
async fn cumulate_is_an_unnest_of_the_ends() {
    let expected = "\
Projection: t.k, t.n, t.ts, t.window_start, t.window_end
  Projection: t.k, t.n, t.ts, window_start(t.ts, Int64(300000000), Int64(0)) AS window_start, __windows AS window_end
    Unnest: lists[__windows|depth=1] structs[]
      Projection: t.k, t.n, t.ts, window_ends(t.ts, Int64(60000000), Int64(300000000), Int64(0)) AS __windows
        Filter: t.ts IS NOT NULL
          TableScan: t";
    let sql = "SELECT * FROM CUMULATE(t, ts, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)";
    assert_eq!(plain(sql).await, expected);
}

#[tokio::test]
async fn session_is_two_steps_of_window_functions_over_one_order() {
    let over = "PARTITION BY [t.k, t.n] ORDER BY [t.ts ASC NULLS LAST] RANGE BETWEEN";
    let before = format!("{over} UNBOUNDED PRECEDING AND CURRENT ROW");
    let after = format!("{over} CURRENT ROW AND UNBOUNDED FOLLOWING");
    let (lag, lead) = (format!("lag(t.ts) {before}"), format!("lead(t.ts) {before}"));
    let (start, end) = (format!("max(__session_first) {before}"), format!("min(__session_last) {after}"));
    let expected = format!(
        "\
Projection: t.k, t.n, t.ts, t.window_start, t.window_end
  Projection: t.k, t.n, t.ts, {start} AS window_start, window_end({end}, Int64(60000000)) AS window_end
    WindowAggr: windowExpr=[[{start}, {end}]]
      Projection: t.k, t.n, t.ts, \
     CASE WHEN {lag} IS NULL OR window_end({lag}, Int64(60000000)) <= t.ts THEN t.ts END AS __session_first, \
     CASE WHEN {lead} IS NULL OR window_end(t.ts, Int64(60000000)) <= {lead} THEN t.ts END AS __session_last
        WindowAggr: windowExpr=[[{lag}, {lead}]]
          Filter: t.ts IS NOT NULL
            TableScan: t"
    );
    assert_eq!(plain("SELECT * FROM SESSION(t PARTITION BY k, n, ts, INTERVAL '1' MINUTE)").await, expected);
}

#[tokio::test]
async fn a_filter_on_aligned_windows_reaches_the_timestamp() {
    let sql = "SELECT k, window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1' MINUTE) \
               WHERE window_start >= '2026-01-01T10:00:00Z' AND window_end <= '2026-01-01T11:00:00Z' GROUP BY 1, 2";
    let expected = "\
Projection: t.k, t.window_start, count(Int64(1)) AS count(*) AS n
  Aggregate: groupBy=[[t.k, t.window_start]], aggr=[[count(Int64(1))]]
    Projection: t.k, window_start(t.ts, Int64(60000000), Int64(0)) AS window_start
      Filter: t.ts IS NOT NULL AND t.ts >= TimestampMicrosecond(1767261600000000, Some(\"UTC\")) AND \
     t.ts < TimestampMicrosecond(1767265200000000, Some(\"UTC\"))
        TableScan: t projection=[k, ts]";
    assert_eq!(optimized(sql).await, expected);
}

#[tokio::test]
async fn every_spelling_has_the_same_plan() {
    let spellings: &[&[&str]] = &[
        &[
            "TUMBLE(t, ts, INTERVAL '1' MINUTE)",
            "tumble(t, t.ts, INTERVAL '60 seconds')",
            "\"tumble\"(T, TS, INTERVAL '40' SECOND + INTERVAL '20' SECOND, INTERVAL '0' SECOND)",
            "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)",
            "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
            "TABLE (TUMBLE (t, ts, INTERVAL '1' MINUTE))",
            "TABLE(TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE))",
            "TUMBLE(t, size => INTERVAL '1' MINUTE, timecol => ts)",
            "TUMBLE((t), ts, (INTERVAL '1' MINUTE))",
        ],
        &[
            "HOP(t, ts, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE, INTERVAL '1' SECOND)",
            "TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE, INTERVAL '1' SECOND))",
            "TABLE(HOP(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), OFFSET => INTERVAL '1' SECOND, \
             SIZE => INTERVAL '5' MINUTE, SLIDE => INTERVAL '1' MINUTE))",
        ],
        &[
            "CUMULATE(t, ts, INTERVAL '1' MINUTE, INTERVAL '5' MINUTE)",
            "TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE))",
            "CUMULATE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), STEP => INTERVAL '1' MINUTE, \
             SIZE => INTERVAL '5' MINUTE)",
        ],
        &[
            "SESSION(t PARTITION BY k, n, ts, INTERVAL '1' MINUTE)",
            "SESSION(t PARTITION BY (k, n), ts, INTERVAL '1' MINUTE)",
            "TABLE(SESSION(TABLE t PARTITION BY k, t.n, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
            "TABLE(SESSION(TABLE t PARTITION BY (k, n), DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
            "TABLE(SESSION(DATA => TABLE t PARTITION BY k, n, TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '1' MINUTE))",
        ],
        &["SESSION(t, ts, INTERVAL '1' MINUTE)", "TABLE(SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))"],
    ];
    for same in spellings {
        let first = plain(&format!("SELECT * FROM {}", same[0])).await;
        for other in *same {
            assert_eq!(plain(&format!("SELECT * FROM {other}")).await, first, "{other}");
            let explained = plain(&format!("EXPLAIN SELECT * FROM {other}")).await;
            assert!(explained.starts_with("Explain"), "{explained}");
        }
    }
}

#[tokio::test]
async fn names_of_functions_stay_free_for_other_things() {
    for sql in [
        "SELECT count(*) OVER (PARTITION BY k, n) AS hop FROM t AS session (k, n, ts)",
        "WITH session (k, n, ts) AS (SELECT * FROM t), hop (a, b) AS (SELECT k, n FROM session) SELECT hop.a FROM hop",
        "SELECT session.ts AS tumble FROM (SELECT ts FROM t) AS session",
    ] {
        plain(sql).await;
    }
}
