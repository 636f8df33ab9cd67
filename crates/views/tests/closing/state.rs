//! What is behind the watermark is forgotten.

use crate::run::{Run, SECOND};

/// The most rows kept in the first and in the second half of many windows.
async fn most_kept(sql: &str) -> (usize, usize) {
    let mut run = Run::new(sql).await;
    let mut most = (0, 0);
    for step in 0..120_i64 {
        let rows: Vec<_> =
            (0..4).map(|i| (["red", "blue"][i % 2], step, Some((step * 4 + i as i64) * SECOND))).collect();
        run.step([rows.clone(), rows]).await;
        let (kept, _) = run.flow.state_size();
        if step < 60 { most.0 = kept.max(most.0) } else { most.1 = kept.max(most.1) }
    }
    assert!(run.answer().len() > 30, "{sql}: {} rows", run.answer().len());
    most
}

#[tokio::test]
async fn the_rows_kept_stay_flat_over_many_windows() {
    for sql in [
        "SELECT k, window_end, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '10' SECOND) GROUP BY k, window_end",
        "SELECT window_end, max(a) AS a FROM HOP(s, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND) GROUP BY window_end",
        "SELECT window_end, max(n) AS most FROM (SELECT k, window_end, count(*) AS n \
         FROM TUMBLE(s, ts, INTERVAL '10' SECOND) GROUP BY k, window_end) GROUP BY window_end",
        "SELECT l.k, l.window_end, r.a FROM TUMBLE(s, ts, INTERVAL '4' SECOND) l \
         JOIN TUMBLE(p, ts, INTERVAL '4' SECOND) r ON l.k = r.k AND l.window_end = r.window_end",
        "SELECT l.k, l.window_end, r.a FROM TUMBLE(s, ts, INTERVAL '4' SECOND) l \
         LEFT JOIN TUMBLE(p, ts, INTERVAL '4' SECOND) r ON l.k = r.k AND l.window_end = r.window_end AND l.a > r.a",
        "SELECT window_end, k, a FROM (SELECT *, row_number() OVER (PARTITION BY window_end ORDER BY a, ts) AS n \
         FROM TUMBLE(s, ts, INTERVAL '10' SECOND)) WHERE n <= 2",
        "SELECT k, window_end, count(*) AS n FROM SESSION(s PARTITION BY k, ts, INTERVAL '1' SECOND) GROUP BY 1, 2",
        "SELECT l.k, l.ts, r.a FROM s l JOIN p r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '6' SECOND",
        "SELECT l.k, l.ts, r.a FROM s l LEFT JOIN p r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '6' SECOND",
        "SELECT l.ts, r.a FROM s l FULL JOIN p r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + INTERVAL '6' SECOND",
    ] {
        let (first, second) = most_kept(sql).await;
        assert!(second <= first && first < 200, "{sql}: {first} rows, then {second}");
    }
}

#[tokio::test]
async fn an_input_without_news_holds_the_others_until_its_watermark_is_advanced() {
    let sql = "SELECT l.window_end, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '10' SECOND) l \
               JOIN TUMBLE(p, ts, INTERVAL '10' SECOND) r ON l.window_end = r.window_end GROUP BY l.window_end";
    let mut run = Run::new(sql).await;
    let at = |second: i64| ("red", 1, Some(second * SECOND));
    run.step([vec![at(1)], vec![at(2)]]).await;
    run.step([vec![at(100)], vec![]]).await;
    assert_eq!(run.answer(), Vec::<String>::new());
    run.step([vec![], vec![at(15)]]).await;
    assert_eq!(run.answer(), ["1970-01-01T00:00:10Z | 1"]);
}
