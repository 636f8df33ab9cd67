//! Rows that an expression fails on are refused, each once, and everything else goes on as if they were not there,
//! also when they go.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use arrow::datatypes::Int64Type;
use arrow::{array::AsArray, compute::cast, datatypes::DataType};
use millstream_views::{Dataflow, Refused};

use crate::history::{History, World};
use crate::outcome::{compare, compile, inputs_of, stepped};
use crate::world::number;

/// Queries over one table that fail where `k` is 0, and the same without those rows. `{}` is the table.
const OF_ONE_TABLE: &[(&str, &str)] = &[
    // Linear.
    ("SELECT id, 60 / k AS q FROM {}", "SELECT id, 60 / k AS q FROM {} WHERE k IS DISTINCT FROM 0"),
    ("SELECT id FROM {} WHERE 60 % k > 2", "SELECT id FROM {} WHERE 60 % nullif(k, 0) > 2"),
    (
        "SELECT id, CAST(CASE WHEN k = 0 THEN 'x' ELSE '7' END AS INT) AS n FROM {}",
        "SELECT id, 7 AS n FROM {} WHERE k IS DISTINCT FROM 0",
    ),
    (
        "SELECT id, CAST(200 - k * 100 AS TINYINT) AS n FROM {} WHERE k < 2 OR k IS NULL",
        "SELECT id, CAST(200 - k * 100 AS TINYINT) AS n FROM {} WHERE k = 1 OR k IS NULL",
    ),
    (
        "SELECT id, CAST(60 / (k + 0.5) AS DECIMAL(4, 2)) AS n FROM {} WHERE k >= 0",
        "SELECT id, CAST(60 / (k + 0.5) AS DECIMAL(4, 2)) AS n FROM {} WHERE k > 0",
    ),
    (
        "SELECT id, unnest(make_array(60 / k, 1)) AS q FROM {}",
        "SELECT id, unnest(make_array(60 / k, 1)) AS q FROM {} WHERE k IS DISTINCT FROM 0",
    ),
    (
        "SELECT id FROM {} WHERE a > 50 UNION ALL SELECT 60 / k + id FROM {}",
        "SELECT id FROM {} WHERE a > 50 UNION ALL SELECT 60 / k + id FROM {} WHERE k IS DISTINCT FROM 0",
    ),
    // Aggregates.
    (
        "SELECT t, sum(60 / k), count(*) FROM {} GROUP BY t",
        "SELECT t, sum(60 / k), count(*) FROM {} WHERE k IS DISTINCT FROM 0 GROUP BY t",
    ),
    (
        "SELECT 60 / k AS q, count(*) FROM {} GROUP BY 1",
        "SELECT 60 / k AS q, count(*) FROM {} WHERE k IS DISTINCT FROM 0 GROUP BY 1",
    ),
    ("SELECT sum(60 / k), count(*) FROM {}", "SELECT sum(60 / k), count(*) FROM {} WHERE k IS DISTINCT FROM 0"),
    (
        "SELECT t, array_agg(id ORDER BY 60 / k, id) FROM {} GROUP BY t",
        "SELECT t, array_agg(id ORDER BY 60 / k, id) FROM {} WHERE k IS DISTINCT FROM 0 GROUP BY t",
    ),
    (
        "SELECT t, count(*) FILTER (WHERE 60 / k > 20) FROM {} GROUP BY t",
        "SELECT t, count(*) FILTER (WHERE 60 / k > 20) FROM {} WHERE k IS DISTINCT FROM 0 GROUP BY t",
    ),
    ("SELECT DISTINCT 60 / k AS q FROM {}", "SELECT DISTINCT 60 / k AS q FROM {} WHERE k IS DISTINCT FROM 0"),
    (
        "SELECT t, flag, max(60 / k) FROM {} GROUP BY ROLLUP (t, flag)",
        "SELECT t, flag, max(60 / k) FROM {} WHERE k IS DISTINCT FROM 0 GROUP BY ROLLUP (t, flag)",
    ),
    // Windows and first rows.
    (
        "SELECT id, sum(60 / k) OVER (PARTITION BY t ORDER BY id) AS n FROM {}",
        "SELECT id, sum(60 / k) OVER (PARTITION BY t ORDER BY id) AS n FROM {} WHERE k IS DISTINCT FROM 0",
    ),
    (
        "SELECT id, row_number() OVER (PARTITION BY 60 / k ORDER BY id) AS n FROM {}",
        "SELECT id, row_number() OVER (PARTITION BY 60 / k ORDER BY id) AS n FROM {} WHERE k IS DISTINCT FROM 0",
    ),
    (
        "SELECT id, lag(id) OVER (PARTITION BY t ORDER BY 60 / k, id) AS n FROM {}",
        "SELECT id, lag(id) OVER (PARTITION BY t ORDER BY 60 / k, id) AS n FROM {} WHERE k IS DISTINCT FROM 0",
    ),
    (
        "SELECT id FROM {} ORDER BY 60 / k, id LIMIT 5",
        "SELECT id FROM {} WHERE k IS DISTINCT FROM 0 ORDER BY 60 / k, id LIMIT 5",
    ),
    (
        "SELECT id, 60 / k AS q FROM {} ORDER BY a, id LIMIT 6",
        "SELECT id, 60 / k AS q FROM {} WHERE k IS DISTINCT FROM 0 ORDER BY a, id LIMIT 6",
    ),
];

const BAD: &str = "(coalesce(c.k = 0, false) AND EXISTS (SELECT 1 FROM d o WHERE o.t = c.t))";
const BAD_BY_PAIR: &str = "EXISTS (SELECT 1 FROM d o WHERE o.t = c.t AND o.k = c.k)";

/// Queries over more than one row: `{bad}` and `{pair}` are rows of `c` that fail together with one of `d`.
const OF_PAIRS: &[(&str, &str)] = &[
    (
        "SELECT c.id, d.id AS did FROM c JOIN d ON c.t = d.t AND 60 / c.k > d.a",
        "SELECT c.id, d.id AS did FROM c JOIN d ON c.t = d.t AND 60 / nullif(c.k, 0) > d.a",
    ),
    (
        "SELECT c.id, d.id AS did FROM c JOIN d ON 60 / c.k = d.a",
        "SELECT c.id, d.id AS did FROM c JOIN d ON 60 / nullif(c.k, 0) = d.a",
    ),
    (
        "SELECT c.id, d.id AS did FROM c LEFT JOIN d ON c.t = d.t AND 60 / c.k > d.a",
        "SELECT c.id, d.id AS did FROM c LEFT JOIN d ON c.t = d.t AND 60 / nullif(c.k, 0) > d.a WHERE NOT {bad}",
    ),
    (
        "SELECT c.id, d.id AS did FROM d RIGHT JOIN c ON c.t = d.t AND 60 / c.k > d.a",
        "SELECT c.id, d.id AS did FROM c LEFT JOIN d ON c.t = d.t AND 60 / nullif(c.k, 0) > d.a WHERE NOT {bad}",
    ),
    (
        "SELECT c.id, d.id AS did FROM c FULL JOIN d ON c.t = d.t AND 60 / c.k > d.a",
        "SELECT c.id, d.id AS did FROM (SELECT * FROM c WHERE NOT {bad}) c FULL JOIN d \
         ON c.t = d.t AND 60 / nullif(c.k, 0) > d.a",
    ),
    (
        "SELECT c.id, d.id AS did FROM c LEFT JOIN d ON c.t = d.t AND 60 / (c.k - d.k) > 10",
        "SELECT c.id, d.id AS did FROM c LEFT JOIN d ON c.t = d.t AND 60 / nullif(c.k - d.k, 0) > 10 WHERE NOT {pair}",
    ),
    (
        "SELECT c.id FROM c LEFT SEMI JOIN d ON c.t = d.t AND 60 / (c.k - d.k) > 10",
        "SELECT c.id FROM c LEFT SEMI JOIN d ON c.t = d.t AND 60 / nullif(c.k - d.k, 0) > 10 WHERE NOT {pair}",
    ),
    (
        "SELECT c.id FROM c LEFT ANTI JOIN d ON c.t = d.t AND 60 / (c.k - d.k) > 10",
        "SELECT c.id FROM c LEFT ANTI JOIN d ON c.t = d.t AND 60 / nullif(c.k - d.k, 0) > 10 WHERE NOT {pair}",
    ),
    (
        "SELECT id FROM c WHERE a > 40 OR EXISTS (SELECT 1 FROM d WHERE d.t = c.t AND 60 / (c.k - d.k) > 10)",
        "SELECT id FROM c WHERE (a > 40 OR EXISTS (SELECT 1 FROM d WHERE d.t = c.t \
         AND 60 / nullif(c.k - d.k, 0) > 10)) AND NOT {pair}",
    ),
    // What fails is a row that comes of others.
    (
        "SELECT t, count(*) AS n FROM c GROUP BY t HAVING 60 / (count(*) - 2) > 3",
        "SELECT t, count(*) AS n FROM c GROUP BY t HAVING 60 / nullif(count(*) - 2, 0) > 3",
    ),
    (
        "SELECT t, 60 / (count(*) - 3) AS n FROM s GROUP BY t",
        "SELECT t, 60 / (count(*) - 3) AS n FROM s GROUP BY t HAVING count(*) <> 3",
    ),
];

/// Steps through a history, compares with what the other query answers; gives what was refused.
async fn refused(sql: &str, oracle: &str, world: &mut World) -> Result<Vec<Refused>, String> {
    let told = |e: millstream_views::Error| format!("{sql}\n{e}");
    let mut flow: Dataflow = compile(sql).await.map_err(told)?;
    let mut refused = Vec::new();
    for step in 0..world.history.steps {
        let deltas: Vec<Vec<RecordBatch>> = world.change();
        let inputs = inputs_of(&flow, &deltas);
        let output = stepped(&mut flow, inputs).await;
        refused.extend(output.map_err(told)?.refused);
        compare(oracle, &flow, world).await.map_err(|e| format!("{sql}\nstep {step}: {e}\n{}", flow.explain()))?;
    }
    Ok(refused)
}

/// The ids of rows of a table that came with k = 0 and did not go in the same step.
fn bad_ids(history: &History, table: usize) -> BTreeSet<i64> {
    let values = history.values(table);
    let column = |name: &str| cast(values.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
    let (ids, keys) = (column("id"), column("k"));
    let (ids, keys) = (ids.as_primitive::<Int64Type>(), keys.as_primitive::<Int64Type>());
    let lives = history.lives.iter().filter(|l| l.table == table && l.goes != Some(l.comes));
    let bad = lives.filter(|l| keys.iter().nth(l.values).unwrap() == Some(0));
    bad.map(|l| ids.value(l.values)).collect()
}

fn id_of(refused: &Refused) -> i64 {
    let from = refused.row.find("\"id\":").unwrap() + 5;
    refused.row[from..].chars().take_while(|c| c.is_ascii_digit()).collect::<String>().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_fail_are_refused_and_the_others_go_on() {
    let mut failures = Vec::new();
    for (n, (sql, oracle)) in OF_ONE_TABLE.iter().enumerate() {
        for table in ["s", "c"] {
            let (sql, oracle) = (sql.replace("{}", table), oracle.replace("{}", table));
            let mut world = World::new(n as u64);
            match refused(&sql, &oracle, &mut world).await {
                Err(failure) => failures.push(failure),
                // An id is needed to tell which rows were refused.
                Ok(refused) if refused.iter().all(|r| r.row.contains("\"id\":")) => {
                    let bad = bad_ids(&world.history, number(table));
                    let found: BTreeSet<i64> = refused.iter().map(id_of).collect();
                    assert!(bad.is_subset(&found), "{sql}\n{bad:?} instead of {found:?}");
                    assert!(refused.iter().all(|r| !r.reason.is_empty() && !r.row.contains("__")), "{refused:?}");
                }
                Ok(refused) => assert!(!refused.is_empty(), "{sql}"),
            }
        }
    }
    assert!(failures.is_empty(), "{} fail:\n\n{}", failures.len(), failures.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_that_fail_take_a_row_along_until_one_of_them_goes() {
    let mut failures = Vec::new();
    for (n, (sql, oracle)) in OF_PAIRS.iter().enumerate() {
        let oracle = oracle.replace("{bad}", BAD).replace("{pair}", BAD_BY_PAIR);
        let mut all = Vec::new();
        for seed in 0..2 {
            match refused(sql, &oracle, &mut World::new(100 * seed + n as u64)).await {
                Err(failure) => failures.push(failure),
                Ok(refused) => all.extend(refused),
            }
        }
        assert!(!all.is_empty(), "{sql}");
    }
    assert!(failures.is_empty(), "{} fail:\n\n{}", failures.len(), failures.join("\n\n"));
}

#[tokio::test]
async fn a_refused_row_is_told_of_once_with_its_reason() {
    let rows = [
        r#"c 0-3 {"id":1,"k":0,"t":"red","ts":"2023-11-14T22:16:44"}"#,
        r#"c 0- {"id":2,"k":2,"t":"red","ts":"2023-11-14T22:16:44"}"#,
        r#"c 1- {"id":3,"k":3,"t":"red","ts":"2023-11-14T22:16:44"}"#,
        r#"c 2-4 {"id":4,"k":4,"t":"red","ts":"2023-11-14T22:16:44"}"#,
    ];
    for (sql, oracle) in OF_ONE_TABLE.iter().filter(|(sql, _)| sql.contains("60 / k") && !sql.contains("UNION")) {
        let mut world = World { history: History::written(&rows), ..World::new(0) };
        let (sql, oracle) = (sql.replace("{}", "c"), oracle.replace("{}", "c"));
        let refused = refused(&sql, &oracle, &mut world).await.unwrap();
        // ROLLUP aggregates three times.
        let times = if sql.contains("ROLLUP") { 3 } else { 1 };
        assert_eq!(refused.len(), times, "{sql}: {refused:?}");
        assert!(refused[0].reason.to_lowercase().contains("divide by zero"), "{refused:?}");
        assert!(refused[0].row.starts_with('{') && refused[0].row.contains("\"k\":0"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_pair_is_told_of_when_the_second_of_it_comes() {
    let rows = [
        r#"c 0- {"id":1,"k":0,"t":"red","ts":"2023-11-14T22:16:44"}"#,
        r#"d 1-2 {"id":2,"k":2,"t":"red","a":7,"ts":"2023-11-14T22:16:44"}"#,
        r#"d 3- {"id":3,"k":3,"t":"blue","a":7,"ts":"2023-11-14T22:16:44"}"#,
    ];
    let mut world = World { history: History::written(&rows), ..World::new(0) };
    let (sql, oracle) = OF_PAIRS[2];
    let refused = refused(sql, &oracle.replace("{bad}", BAD), &mut world).await.unwrap();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].row.contains("\"id\":1") && refused[0].row.contains("\"a\":7"), "{refused:?}");
}
