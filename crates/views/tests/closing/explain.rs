//! EXPLAIN and refusals, golden.

use crate::run::compile;

#[tokio::test]
async fn explain_shows_what_closes_and_what_is_forgotten() {
    let sql = "SELECT k, window_end, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '10' SECOND) GROUP BY k, window_end";
    let flow = compile(sql, true).await.unwrap();
    let expected = "\
Linear: project s.k, s.window_end, count(Int64(1)) AS count(*) AS n
  Close: rows come when their windows close
    keeps rows, by window_end, until the watermark passes
    Accumulate: count(Int64(1)) by s.k, s.window_end
      keeps counts and sums, by k, window_end, until the watermark passes
      Linear: filter s.ts IS NOT NULL; project s.k, window_end(window_start(s.ts, Int64(10000000), Int64(0)), \
     Int64(10000000)) AS window_end
        Source: s (rows only come; late by ts are refused)
";
    assert_eq!(flow.explain(), expected);
}

#[tokio::test]
async fn what_never_closes_is_refused_with_what_to_write() {
    for sql in [
        "SELECT k, count(*) AS n FROM s GROUP BY k",
        "SELECT k, a FROM s",
        "SELECT max(n) AS n FROM (SELECT count(*) AS n FROM TUMBLE(s, ts, INTERVAL '1' SECOND) GROUP BY window_end)",
        "SELECT window_end, a FROM TUMBLE(s, ts, INTERVAL '1' SECOND) ORDER BY a LIMIT 3",
        "SELECT k, window_start, count(*) AS n FROM SESSION(s PARTITION BY k, ts, INTERVAL '4' SECOND) GROUP BY 1, 2",
        "SELECT s.a, p.a AS b FROM s LEFT JOIN p ON s.k = p.k AND p.ts >= s.ts",
        "SELECT s.a, p.a AS b FROM s JOIN p ON s.k = p.k AND p.ts <= s.ts + INTERVAL '1' MONTH",
        "SELECT l.window_end FROM TUMBLE(s, ts, INTERVAL '4' SECOND) l JOIN p ON l.k = p.k",
    ] {
        let refused = compile(sql, true).await.unwrap_err().to_string();
        assert_eq!(
            refused,
            "EMIT ON WINDOW CLOSE cannot be kept up to date incrementally: no column says when a row is final; group by \
             window_start or window_end of TUMBLE, HOP or CUMULATE, or by window_end of SESSION, over the column of the \
             watermark, or by date_bin or date_trunc of it; join by such columns, or with a bound on both event times \
             (b.ts BETWEEN a.ts AND a.ts + INTERVAL '…')",
            "{sql}"
        );
    }
}

#[tokio::test]
async fn explain_shows_what_a_bounded_join_forgets() {
    let sql = "SELECT s.k, s.a, p.a AS b FROM s LEFT JOIN p ON s.k = p.k \
               AND p.ts BETWEEN s.ts AND s.ts + INTERVAL '1' MINUTE";
    let text = compile(sql, true).await.unwrap().explain();
    assert!(
        text.contains("Close: rows come when their windows close\n    keeps rows, by ts, until the watermark"),
        "{text}"
    );
    assert_eq!(text.matches("keeps rows, by k, until the watermark passes").count(), 2, "{text}");
    let kept = compile(sql, false).await.unwrap().explain();
    assert!(!kept.contains("until the watermark"), "late rows still count: {kept}");
}

#[tokio::test]
async fn explain_shows_where_rows_wait_for_their_session() {
    let sql =
        "SELECT k, window_end, count(*) AS n FROM SESSION(s PARTITION BY k, ts, INTERVAL '4' SECOND) GROUP BY 1, 2";
    let text = compile(sql, true).await.unwrap().explain();
    assert!(text.contains("Session: rows come when their sessions close"), "{text}");
    assert!(text.contains("keeps rows, by k, until the watermark passes"), "{text}");
    assert!(text.contains("keeps counts and sums, by k, window_end, until the watermark passes"), "{text}");
}
