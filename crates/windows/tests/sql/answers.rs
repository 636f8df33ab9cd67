//! What the calls answer, beside a model that finds windows the slow way.

use std::collections::BTreeMap;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use proptest::prelude::*;

use crate::table::{context, rows, shown, timestamptz};

type Row = (Option<&'static str>, Option<i64>);

/// A row's number, and the start and end of one of its windows.
type Found = (i64, i64, i64);

fn found(batches: &[RecordBatch]) -> Vec<Found> {
    let mut found = Vec::new();
    for batch in batches {
        let column = |name: &str| cast(batch.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
        let (n, start, end) = (column("n"), column("window_start"), column("window_end"));
        let (n, start, end) =
            (n.as_primitive::<Int64Type>(), start.as_primitive::<Int64Type>(), end.as_primitive::<Int64Type>());
        found.extend((0..batch.num_rows()).map(|i| (n.value(i), start.value(i), end.value(i))));
    }
    found.sort_unstable();
    found
}

fn answer(rows_in: &[Row], data_type: &DataType, call: &str) -> Vec<Found> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sql = format!("SELECT n, window_start, window_end FROM {call}");
    found(&runtime.block_on(async { rows(&context(rows_in, data_type), &sql).await }).unwrap())
}

/// Each row with each window that `windows` says holds its time.
fn model(rows: &[Row], windows: impl Fn(i64) -> Vec<(i64, i64)>) -> Vec<Found> {
    let timed = rows.iter().zip(0..).filter_map(|((_, ts), n)| Some((n, (*ts)?)));
    let mut found: Vec<Found> =
        timed.flat_map(|(n, ts)| windows(ts).into_iter().map(move |(start, end)| (n, start, end))).collect();
    found.sort_unstable();
    found
}

/// All starts of windows that can matter for `ts`, each `every` from the next.
fn starts(ts: i64, every: i64, size: i64, offset: i64) -> impl Iterator<Item = i64> {
    let near = (ts - offset) / every;
    let reach = size / every + 2;
    (near - reach..=near + reach).map(move |n| n * every + offset)
}

fn hops(ts: i64, slide: i64, size: i64, offset: i64) -> Vec<(i64, i64)> {
    starts(ts, slide, size, offset).filter(|s| *s <= ts && ts < s + size).map(|s| (s, s + size)).collect()
}

fn cumulated(ts: i64, step: i64, size: i64, offset: i64) -> Vec<(i64, i64)> {
    let growing = |start: i64| (1..=size / step).map(move |n| (start, start + n * step));
    starts(ts, size, size, offset).flat_map(growing).filter(|(start, end)| *start <= ts && ts < *end).collect()
}

/// Sessions by merging: each row has a window of its own, and those of a key that overlap become one.
fn sessions(rows: &[Row], gap: i64) -> Vec<Found> {
    let mut of_key: BTreeMap<Option<&str>, Vec<(i64, i64)>> = BTreeMap::new();
    for ((key, ts), n) in rows.iter().zip(0..) {
        if let Some(ts) = ts {
            of_key.entry(*key).or_default().push((*ts, n));
        }
    }
    let mut found = Vec::new();
    for mut rows in of_key.into_values() {
        rows.sort_unstable();
        let mut open: Vec<(i64, i64)> = Vec::new();
        let close = |open: &mut Vec<(i64, i64)>, found: &mut Vec<Found>| {
            if let (Some(first), Some(last)) = (open.first().copied(), open.last().copied()) {
                found.extend(open.drain(..).map(|(_, n)| (n, first.0, last.0 + gap)));
            }
        };
        for row in rows {
            if open.last().is_some_and(|last| last.0 + gap <= row.0) {
                close(&mut open, &mut found);
            }
            open.push(row);
        }
        close(&mut open, &mut found);
    }
    found.sort_unstable();
    found
}

fn interval(micros: i64) -> String {
    format!("INTERVAL '{micros} microseconds'")
}

fn some_rows() -> impl Strategy<Value = Vec<Row>> {
    let key = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    let ts = prop_oneof![
        1 => Just(None),
        6 => (-60_i64..60).prop_map(Some),
        2 => (-5_000_000_000_000_000_i64..5_000_000_000_000_000).prop_map(Some),
    ];
    prop::collection::vec((key, ts), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tumble_finds_the_model_s_window(rows in some_rows(), size in 1_i64..50, offset in -60_i64..60) {
        let call = format!("TUMBLE(t, ts, {}, {})", interval(size), interval(offset));
        prop_assert_eq!(answer(&rows, &timestamptz(), &call), model(&rows, |ts| hops(ts, size, size, offset)));
    }

    #[test]
    fn hop_finds_the_model_s_windows(rows in some_rows(), slide in 1_i64..20, more in 0_i64..60, offset in -30_i64..30) {
        let size = slide + more;
        let call = format!("HOP(t, ts, {}, {}, {})", interval(slide), interval(size), interval(offset));
        prop_assert_eq!(answer(&rows, &timestamptz(), &call), model(&rows, |ts| hops(ts, slide, size, offset)));
    }

    #[test]
    fn cumulate_finds_the_model_s_windows(rows in some_rows(), step in 1_i64..9, steps in 1_i64..9, offset in -9_i64..9) {
        let size = step * steps;
        let call = format!("CUMULATE(t, ts, {}, {}, {})", interval(step), interval(size), interval(offset));
        prop_assert_eq!(answer(&rows, &timestamptz(), &call), model(&rows, |ts| cumulated(ts, step, size, offset)));
    }

    #[test]
    fn session_finds_the_model_s_sessions(rows in some_rows(), gap in 1_i64..30) {
        let call = format!("SESSION(t PARTITION BY k, ts, {})", interval(gap));
        prop_assert_eq!(answer(&rows, &timestamptz(), &call), sessions(&rows, gap));
        let keyless: Vec<Row> = rows.iter().map(|(_, ts)| (None, *ts)).collect();
        let call = format!("SESSION(t, ts, {})", interval(gap));
        prop_assert_eq!(answer(&rows, &timestamptz(), &call), sessions(&keyless, gap));
    }

    #[test]
    fn a_filter_on_windows_finds_what_it_finds_behind_them(
        rows in some_rows(), size in 1_i64..50, at in -60_i64..60, aligned in any::<bool>(),
    ) {
        let at = if aligned { at.div_euclid(size) * size } else { at };
        let all = model(&rows, |ts| hops(ts, size, size, 0));
        let call = format!("TUMBLE(t, ts, {}) WHERE", interval(size));
        let literal = if at < 0 {
            format!("'1969-12-31T23:59:59.{:06}Z'", 1_000_000 + at)
        } else {
            format!("'1970-01-01T00:00:00.{at:06}Z'")
        };
        for (operator, holds) in [
            ("<", i64::lt as fn(&i64, &i64) -> bool), ("<=", i64::le), (">", i64::gt), (">=", i64::ge), ("=", i64::eq),
            ("<>", i64::ne),
        ] {
            for (column, of) in [("window_start", (|row| row.1) as fn(&Found) -> i64), ("window_end", |row| row.2)] {
                let expected: Vec<Found> = all.iter().copied().filter(|row| holds(&of(row), &at)).collect();
                let call = format!("{call} {column} {operator} {literal}");
                prop_assert_eq!(answer(&rows, &timestamptz(), &call), expected, "{}", call);
            }
        }
    }
}

#[test]
fn every_unit_of_timestamps_has_windows() {
    for (unit, size) in [
        (TimeUnit::Second, "7 seconds"),
        (TimeUnit::Millisecond, "7 milliseconds"),
        (TimeUnit::Microsecond, "7 microseconds"),
        (TimeUnit::Nanosecond, "7 nanoseconds"),
    ] {
        let rows = [(None, Some(-1)), (None, Some(0)), (None, Some(6)), (None, Some(7)), (None, None)];
        let data_type = DataType::Timestamp(unit, None);
        let found = answer(&rows, &data_type, &format!("TUMBLE(t, ts, INTERVAL '{size}')"));
        assert_eq!(found, [(0, -7, 0), (1, 0, 7), (2, 0, 7), (3, 7, 14)], "{unit:?}");
    }
}

#[tokio::test]
async fn a_window_outside_of_the_range_is_an_error_and_not_another_window() {
    let edges = [(None, Some(i64::MIN)), (None, Some(i64::MAX))];
    for call in [
        "TUMBLE(t, ts, INTERVAL '1' MINUTE)",
        "HOP(t, ts, INTERVAL '1' MINUTE, INTERVAL '2' MINUTE)",
        "CUMULATE(t, ts, INTERVAL '1' MINUTE, INTERVAL '2' MINUTE)",
        "SESSION(t, ts, INTERVAL '1' MINUTE)",
    ] {
        for edge in edges {
            let sql = format!("SELECT window_start, window_end FROM {call}");
            // A session may begin with the first timestamp there is.
            if call.starts_with("SESSION") && edge.1 == Some(i64::MIN) {
                continue;
            }
            let error = rows(&context(&[edge], &timestamptz()), &sql).await.unwrap_err().to_string();
            assert!(error.contains("is outside of the range of its type"), "{call}: {error}");
        }
    }
}

#[tokio::test]
async fn names_resolve_with_and_without_an_alias() {
    let context = context(&[(Some("a"), Some(0)), (Some("a"), Some(70_000_000)), (None, None)], &timestamptz());
    let by_name = "SELECT t.k, t.window_start, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1' MINUTE) \
                   WHERE t.ts IS NOT NULL GROUP BY t.k, t.window_start ORDER BY window_start";
    let by_alias = "SELECT w.k, w.window_start, count(*) AS n FROM TUMBLE(t, t.ts, INTERVAL '1' MINUTE) AS w \
                    WHERE w.ts IS NOT NULL GROUP BY w.k, w.window_start ORDER BY window_start";
    let expected = "\
+---+----------------------+---+
| k | window_start         | n |
+---+----------------------+---+
| a | 1970-01-01T00:00:00Z | 1 |
| a | 1970-01-01T00:01:00Z | 1 |
+---+----------------------+---+";
    assert_eq!(shown(&context, by_name).await, expected);
    assert_eq!(shown(&context, by_alias).await, expected);
}

#[tokio::test]
async fn a_call_takes_views_ctes_queries_and_stands_in_joins() {
    let context = context(&[(Some("a"), Some(0)), (Some("b"), Some(1)), (Some("a"), Some(70_000_000))], &timestamptz());
    context.sql("CREATE VIEW v AS SELECT * FROM t WHERE k = 'a'").await.unwrap();
    let counts = [
        ("SELECT count(*) AS n FROM TUMBLE(v, ts, INTERVAL '1' MINUTE)", 2),
        ("WITH c AS (SELECT * FROM t WHERE n > 0) SELECT count(*) AS n FROM TUMBLE(c, ts, INTERVAL '1' MINUTE)", 2),
        (
            "WITH t AS (SELECT * FROM t WHERE n > 1) SELECT count(*) AS n FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), \
          INTERVAL '1' MINUTE))",
            1,
        ),
        ("SELECT count(*) AS n FROM TUMBLE((SELECT * FROM v WHERE n = 2), ts, INTERVAL '1' MINUTE)", 1),
        (
            "SELECT count(*) AS n FROM HOP((WITH c AS (SELECT ts FROM t) SELECT * FROM c), ts, INTERVAL '1' MINUTE, \
          INTERVAL '2' MINUTE)",
            6,
        ),
        ("SELECT count(*) AS n FROM t JOIN TUMBLE(t, ts, INTERVAL '1' MINUTE) AS w ON t.n = w.n", 3),
        (
            "SELECT count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1' MINUTE) JOIN TUMBLE(v, ts, INTERVAL '1' MINUTE) \
          ON t.window_start = v.window_start",
            3,
        ),
        (
            "SELECT count(*) AS n FROM (SELECT k FROM SESSION(t PARTITION BY k, ts, INTERVAL '1' HOUR) GROUP BY k, \
          window_start) AS sessions",
            2,
        ),
        (
            "SELECT count(*) AS n FROM t WHERE EXISTS (SELECT 1 FROM TUMBLE(v, ts, INTERVAL '1' MINUTE) AS w WHERE w.n = t.n)",
            2,
        ),
        (
            "SELECT count(*) AS n FROM TUMBLE((SELECT k, window_start AS ts FROM TUMBLE(t, ts, INTERVAL '1' MINUTE)), ts, \
          INTERVAL '1' HOUR)",
            3,
        ),
        ("SELECT sum(n) AS n FROM TUMBLE(t, ts, INTERVAL '1' MINUTE) AS w (a, n, b, c, d)", 3),
        ("SELECT count(*) AS n FROM SESSION(t PARTITION BY lower(k), n, ts, INTERVAL '1' HOUR)", 3),
    ];
    for (sql, count) in counts {
        let expected = format!("+---+\n| n |\n+---+\n| {count} |\n+---+");
        assert_eq!(shown(&context, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_gap_that_passes_exactly_ends_a_session() {
    let context = context(&[(None, Some(0)), (None, Some(9)), (None, Some(19)), (None, Some(19))], &timestamptz());
    let sql = "SELECT n, window_start, window_end FROM SESSION(t, ts, INTERVAL '10 microseconds')";
    let found = found(&rows(&context, sql).await.unwrap());
    assert_eq!(found, [(0, 0, 19), (1, 0, 19), (2, 19, 29), (3, 19, 29)]);
}
