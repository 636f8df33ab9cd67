//! Owns the cases that once failed.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use millstream_views::weighted;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::history::History;
use crate::outcome::{Outcome, chosen, compile, compile_in, outcome, state, stepped};
use crate::world::rows;

/// A query, and rows as [`History::written`] reads them.
struct Case {
    sql: &'static str,
    rows: &'static [&'static str],
}

const fn case(sql: &'static str, rows: &'static [&'static str]) -> Case {
    Case { sql, rows }
}

const CASES: &[Case] = &[
    // Rows of no columns are counted.
    case("SELECT count(*) FROM c", &[r#"c 0-1 {"id":1,"ts":"2023-11-14T22:16:44"}"#]),
    case("SELECT 1 AS c0 FROM d t5 LEFT JOIN w ON t5.a > 40", &[r#"w 0- {"k":2,"a":-8}"#]),
    case(
        "SELECT 1 AS c0 FROM d t5 LEFT JOIN w ON t5.a > 40",
        &[r#"d 0-2 {"id":1,"a":41,"ts":"2023-11-14T22:16:44"}"#, r#"w 1- {"a":1}"#, r#"w 1-3 {"a":1}"#],
    ),
    case("SELECT 1 AS c0 FROM p JOIN (SELECT 1)", &[r#"p 0- {"id":53,"ts":"2023-11-14T22:16:44"}"#]),
    case("SELECT (SELECT 2)", &[]),
    // A set of no columns over no aggregates.
    case("SELECT DISTINCT 'g' AS c0 FROM w GROUP BY ROLLUP (k)", &[r#"w 0-1 {"k":2}"#]),
    // A column twice in one set.
    case(
        "SELECT k, sum(a) FROM c GROUP BY GROUPING SETS ((k, k), ())",
        &[r#"c 0-1 {"id":1,"k":2,"ts":"2023-11-14T22:16:44"}"#],
    ),
    case("SELECT k AS c0, k + 0 AS c1, sum(a) FROM w GROUP BY k, k, 1, c0", &[r#"w 0-1 {"k":2}"#]),
    // A state over no rows.
    case("SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY y) FROM g", &[r#"g 1- {"y":"1.5"}"#]),
    // Equal rows that come at once have a weight above 1.
    case(
        "SELECT t1.a, t2.a AS b, (SELECT max(k) FROM e WHERE id = t1.a) AS c FROM g t1 LEFT SEMI JOIN g t3 ON t1.k = t3.k \
         LEFT JOIN g t2 ON t1.k = t2.k",
        &[r#"g 0- {"k":5,"a":0}"#, r#"g 0- {"k":5,"a":0}"#, r#"g 1- {"k":5,"a":0}"#],
    ),
    case(
        "SELECT a, count(*) FROM g t1 WHERE k IN (SELECT k FROM g) GROUP BY a",
        &[r#"g 0- {"k":5,"a":0}"#, r#"g 0- {"k":5,"a":0}"#, r#"g 1- {"k":5,"a":0}"#],
    ),
    // A subquery of one row in the place of a value.
    case(
        "SELECT id, (SELECT a FROM w ORDER BY a DESC LIMIT 1) AS most FROM c",
        &[r#"c 0-2 {"id":1,"ts":"2023-11-14T22:16:44"}"#, r#"w 1- {"a":7}"#, r#"w 1-3 {"a":8}"#],
    ),
    // 0.0 and -0.0 are one key, but two values.
    case(
        "SELECT t1.y AS y1, t2.y AS y2, t3.y AS y3 FROM g t1 JOIN p t2 ON t1.y = t2.y LEFT JOIN c t3 ON t3.y = t2.y",
        &[
            r#"g 0- {"y":"-0.0"}"#,
            r#"p 0- {"id":1,"ts":"2023-11-14T22:16:44","y":"0.0"}"#,
            r#"c 1-2 {"id":1,"ts":"2023-11-14T22:16:44","y":"0.0"}"#,
        ],
    ),
    case(
        "SELECT y, count(*) FROM c GROUP BY y UNION ALL SELECT y, count(*) FROM g GROUP BY y",
        &[
            r#"g 0- {"y":"-0.0"}"#,
            r#"g 1- {"y":"0.0"}"#,
            r#"c 0-2 {"id":1,"ts":"2023-11-14T22:16:44","y":"0.0"}"#,
            r#"c 1- {"id":2,"ts":"2023-11-14T22:16:44","y":"-0.0"}"#,
        ],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_that_once_failed_equal_their_batch_answers() {
    let mut failures = Vec::new();
    for case in CASES {
        let found = outcome(case.sql, &History::written(case.rows), &|_| true).await;
        if !matches!(found, Outcome::Equal) {
            failures.push(format!("{}\n{found:?}", case.sql));
        }
    }
    assert!(failures.is_empty(), "{} of {} fail:\n\n{}", failures.len(), CASES.len(), failures.join("\n\n"));
}

#[tokio::test]
async fn a_query_has_the_same_plan_each_time() {
    let queries = [
        "SELECT id FROM c ORDER BY a * k + x, CASE WHEN flag THEN day END, id LIMIT 5",
        "SELECT id, (SELECT max(a) FROM d WHERE d.k = c.k) AS m FROM c WHERE a NOT IN (SELECT a FROM d)",
        "SELECT id, abs(a + k) + abs(a + k) AS twice, abs(a + k) AS once FROM c",
    ];
    let state = state();
    for sql in queries {
        let plan = compile_in(&state, sql).await.unwrap().explain();
        for _ in 0..8 {
            assert_eq!(plan, compile_in(&state, sql).await.unwrap().explain());
        }
    }
}

#[tokio::test]
async fn a_subquery_of_several_rows_is_no_value() {
    for sql in ["SELECT id, (SELECT a FROM w) AS m FROM c", "SELECT id FROM c WHERE a > 2 * (SELECT a FROM w LIMIT 2)"]
    {
        let error = compile(sql).await.unwrap_err().to_string();
        assert!(error.contains("several rows") && error.contains("LIMIT 1"), "{error}");
    }
}

/// The state of a sketch that was merged in another order may be another one, so its answers are no text to compare.
#[tokio::test]
async fn approximate_percentiles_are_near_the_exact_ones() {
    let sql =
        "SELECT k, approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY a) AS p, approx_median(a) AS m FROM s GROUP BY k";
    let mut flow = compile(sql).await.unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut known: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for step in 0..30 {
        let ids: Vec<i64> = (step * 200..(step + 1) * 200).collect();
        let new = rows(&mut random, 0, &ids);
        let (keys, values) = (new.column(1).as_primitive::<Int32Type>(), new.column(2).as_primitive::<Int64Type>());
        for (key, value) in keys.iter().zip(values).filter_map(|(k, a)| k.zip(a)) {
            known.entry(key).or_default().push(value);
        }
        let delta = chosen(&flow.inputs()[0], &[weighted(&new, 1).unwrap()]);
        stepped(&mut flow, vec![delta]).await.unwrap();
    }
    let mut compared = 0;
    for batch in flow.answer().snapshot().batches().unwrap() {
        let column = |i: usize| cast(batch.column(i), &DataType::Float64).unwrap();
        let (keys, high, middle) = (batch.column(0).as_primitive::<Int32Type>(), column(1), column(2));
        for (i, key) in keys.iter().enumerate().filter_map(|(i, key)| key.map(|key| (i, key))) {
            for (found, wanted) in [(&high, 0.9), (&middle, 0.5)] {
                let found = found.as_primitive::<Float64Type>().value(i);
                let all = &known[&key];
                let share = |below: &dyn Fn(f64) -> bool| {
                    all.iter().filter(|v| below(**v as f64)).count() as f64 / all.len() as f64
                };
                let (low, high) = (share(&|v| v < found), share(&|v| v <= found));
                assert!(
                    low - 0.02 <= wanted && wanted <= high + 0.02,
                    "{key}: {found} is at {low} to {high}, not {wanted}"
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 12);
}
