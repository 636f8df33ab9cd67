//! Which nodes a query comes to: those that keep little are found behind the spellings that people use.

use crate::outcome::{compile_in, state};

async fn explained(sql: &str) -> String {
    compile_in(&state(), sql).await.unwrap().explain()
}

#[tokio::test]
async fn aggregates_by_session_keep_sessions_and_no_rows() {
    for sql in [
        "SELECT k, window_start, window_end, count(*) FROM SESSION(s PARTITION BY k, ts, INTERVAL '1' MINUTE) GROUP BY 1, 2, 3",
        "SELECT k + 1, n FROM (SELECT k, window_start, max(a) AS n FROM TABLE(SESSION(TABLE s PARTITION BY k, \
         DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY k, window_start) WHERE n > 3",
    ] {
        let explained = explained(sql).await;
        assert!(explained.contains("Sessions: ") && !explained.contains("Keyed: "), "{sql}\n{explained}");
    }
}

#[tokio::test]
async fn first_places_keep_no_other_rows() {
    for (sql, kept) in [
        ("SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY a) AS n FROM s) WHERE n <= 3", true),
        (
            "SELECT id FROM (SELECT id, rank() OVER (PARTITION BY k ORDER BY a DESC) AS n FROM s) WHERE 2 > n AND id > 1",
            true,
        ),
        ("SELECT id FROM (SELECT id, dense_rank() OVER (PARTITION BY k ORDER BY a) AS n FROM s) WHERE n = 2", true),
        ("SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY k ORDER BY a) AS n FROM c) WHERE n = 1", false),
        ("SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY k ORDER BY a) AS n FROM s) WHERE n > 1", false),
        ("SELECT id FROM (SELECT id, count(*) OVER (PARTITION BY k ORDER BY a) AS n FROM s) WHERE n <= 2", false),
    ] {
        let explained = explained(sql).await;
        assert_eq!(explained.contains("First places: "), kept, "{sql}\n{explained}");
    }
}

#[tokio::test]
async fn counts_and_sums_of_rows_that_go_keep_no_rows() {
    for (sql, kept) in [
        ("SELECT k, count(*), sum(a), avg(a), count(DISTINCT t) FROM c GROUP BY k", true),
        ("SELECT k, sum(m), avg(k) FROM c GROUP BY k", true),
        ("SELECT DISTINCT k, t FROM c", true),
        ("SELECT k, count(DISTINCT t), max(a), sum(x) FROM s GROUP BY k", true),
        ("SELECT k, max(a) FROM c GROUP BY k", false),
        ("SELECT k, sum(x) FROM c GROUP BY k", false),
    ] {
        let explained = explained(sql).await;
        assert_eq!(!explained.contains("Keyed: "), kept, "{sql}\n{explained}");
    }
}
