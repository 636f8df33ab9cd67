//! Which nodes a query comes to: those that keep little are found behind the spellings that people use.

use millstream_views::ViewInput;

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

#[tokio::test]
async fn inputs_are_asked_for_the_columns_that_are_used() {
    for (sql, used) in [
        ("SELECT k, sum(a) FROM s WHERE x > 1 GROUP BY k", ["k, a, x"].as_slice()),
        ("SELECT count(*) FROM s", &[""]),
        ("SELECT t FROM d UNION ALL SELECT t FROM (SELECT t, max(ts) FROM d GROUP BY t)", &["t"]),
        ("SELECT s.id, d.t FROM s JOIN d ON s.k = d.k WHERE s.flag", &["id, k, flag", "k, t"]),
        ("SELECT count(y) FROM g UNION ALL SELECT count(a) FROM w", &["y", "k, a, t, flag, x"]),
    ] {
        let flow = compile_in(&state(), sql).await.unwrap();
        let names =
            |input: &ViewInput| -> Vec<String> { input.schema.fields().iter().map(|f| f.name().clone()).collect() };
        let asked: Vec<String> = flow.inputs().iter().map(|input| names(input).join(", ")).collect();
        assert_eq!(asked, used, "{sql}");
    }
}
