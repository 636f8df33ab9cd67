//! Statements that change rows, as sessions run them: what they leave behind, at random, side by side, and cut short.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::ScalarValue;
use futures::TryStreamExt;
use millstream_catalog::fault::{Code, Fault};
use millstream_process::{Error, Outcome, RunOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::Node;

type Model = BTreeMap<i64, (Option<i32>, String)>;

/// A statement and what it makes of the model; `None` where it must fail.
type Attempt = (String, Option<Model>);

fn ids(random: &mut StdRng, most: usize) -> Vec<i64> {
    (0..random.random_range(1..=most)).map(|_| random.random_range(0..40)).collect()
}

fn rows(random: &mut StdRng) -> Vec<(i64, Option<i32>, String)> {
    let mut rows = Vec::new();
    for id in ids(random, 6) {
        let a = random.random_bool(0.8).then(|| random.random_range(-20..20));
        rows.push((id, a, format!("b{}", random.random_range(0..9))));
    }
    rows
}

fn values(rows: &[(i64, Option<i32>, String)]) -> String {
    let number = |n: &Option<i32>| n.map_or_else(|| "NULL".to_owned(), |n| n.to_string());
    rows.iter().map(|(id, a, b)| format!("({id}, {}, '{b}')", number(a))).collect::<Vec<_>>().join(", ")
}

fn unique(rows: &[(i64, Option<i32>, String)]) -> bool {
    rows.iter().map(|row| row.0).collect::<BTreeSet<_>>().len() == rows.len()
}

fn attempt(random: &mut StdRng, before: &Model) -> Attempt {
    let mut after = before.clone();
    let rows = rows(random);
    let listed = values(&rows);
    let (modulus, rest) = (random.random_range(2..7_i64), random.random_range(0..3_i64));
    match random.random_range(0..9) {
        0 => {
            let fits = unique(&rows) && rows.iter().all(|row| !before.contains_key(&row.0));
            after.extend(rows.into_iter().map(|(id, a, b)| (id, (a, b))));
            (format!("INSERT INTO t VALUES {listed}"), fits.then_some(after))
        }
        1 => {
            for (id, a, b) in rows {
                after.entry(id).or_insert((a, b));
            }
            (format!("INSERT INTO t VALUES {listed} ON CONFLICT DO NOTHING"), Some(after))
        }
        2 => {
            let fits = unique(&rows);
            for (id, a, b) in rows {
                match after.get_mut(&id) {
                    Some(row) => *row = (row.0.and_then(|x| Some(x + a?)), b),
                    None => drop(after.insert(id, (a, b))),
                }
            }
            let set = "a = t.a + excluded.a, b = excluded.b";
            (format!("INSERT INTO t VALUES {listed} ON CONFLICT (id) DO UPDATE SET {set}"), fits.then_some(after))
        }
        3 => {
            let changed = after.iter_mut().filter(|(id, _)| **id % modulus == rest);
            changed.for_each(|(_, row)| row.0 = row.0.map(|a| a + 1));
            (format!("UPDATE t SET a = a + 1 WHERE id % {modulus} = {rest}"), Some(after))
        }
        4 => {
            let moved: Vec<i64> = before.keys().copied().filter(|id| id % modulus == rest).collect();
            let stay = |id: &i64| before.contains_key(id) && !moved.contains(id);
            let fits = !moved.iter().any(|id| stay(&(id + 3)));
            moved.iter().for_each(|id| drop(after.remove(id)));
            after.extend(moved.iter().map(|id| (id + 3, before[id].clone())));
            (format!("UPDATE t SET id = id + 3 WHERE id % {modulus} = {rest}"), fits.then_some(after))
        }
        5 => {
            after.retain(|id, _| id % modulus != rest);
            (format!("DELETE FROM t WHERE id % {modulus} = {rest}"), Some(after))
        }
        6 => {
            let named: BTreeSet<i64> = rows.iter().map(|row| row.0).collect();
            after.retain(|id, _| !named.contains(id));
            (format!("DELETE FROM t USING (VALUES {listed}) AS v(id, a, b) WHERE v.id = t.id"), Some(after))
        }
        7 => {
            let distinct: BTreeMap<i64, (Option<i32>, String)> =
                rows.into_iter().map(|(id, a, b)| (id, (a, b))).collect();
            let listed: Vec<_> = distinct.iter().map(|(id, (a, b))| (*id, *a, b.clone())).collect();
            for (id, (a, b)) in distinct {
                match before.get(&id) {
                    Some(_) if a.is_none() => drop(after.remove(&id)),
                    Some(row) => drop(after.insert(id, (a, format!("{}m", row.1.chars().next().unwrap())))),
                    None if a.is_some() => drop(after.insert(id, (a, b))),
                    None => {}
                }
            }
            let sql = format!(
                "MERGE INTO t USING (VALUES {}) AS v(id, a, b) ON t.id = v.id WHEN MATCHED AND v.a IS NULL THEN DELETE \
                 WHEN MATCHED THEN UPDATE SET a = v.a, b = substr(t.b, 1, 1) || 'm' \
                 WHEN NOT MATCHED AND v.a IS NOT NULL THEN INSERT VALUES (v.id, v.a, v.b)",
                values(&listed)
            );
            (sql, Some(after))
        }
        _ => {
            let named: BTreeSet<i64> = rows.iter().map(|row| row.0).collect();
            let changed = after.iter_mut().filter(|(id, _)| !named.contains(id));
            changed.for_each(|(_, row)| row.1 = "left".to_owned());
            let sql = format!(
                "MERGE INTO t USING (VALUES {listed}) AS v(id, a, b) ON t.id = v.id WHEN NOT MATCHED BY SOURCE THEN \
                 UPDATE SET b = 'left'"
            );
            (sql, Some(after))
        }
    }
}

async fn batches(node: &Node, sql: &str) -> Vec<RecordBatch> {
    match node.engine.session().execute(sql).await.unwrap() {
        Outcome::Rows { rows, .. } => rows.try_collect().await.unwrap(),
        other => panic!("{sql} gave no rows: {other:?}"),
    }
}

async fn content(node: &Node) -> Model {
    let mut found = Model::new();
    for batch in batches(node, "SELECT id, a, b FROM t").await {
        let text = arrow::compute::cast(batch.column(2), &DataType::Utf8).unwrap();
        for row in 0..batch.num_rows() {
            let id = batch.column(0).as_primitive::<Int64Type>().value(row);
            let a = batch.column(1).as_primitive::<Int32Type>();
            let a = a.is_valid(row).then(|| a.value(row));
            let twice = found.insert(id, (a, text.as_string::<i32>().value(row).to_owned()));
            assert!(twice.is_none(), "row {id} is there twice");
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_at_random_leave_what_a_model_says() {
    for seed in 0..3 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut node = Node::start().await;
        node.ask("CREATE TABLE t (id bigint PRIMARY KEY, a int, b text)").await.unwrap();
        let mut model = Model::new();
        for step in 0..120 {
            let (sql, expected) = attempt(&mut random, &model);
            let result = node.ask(&sql).await;
            match (&result, expected) {
                (Ok(_), Some(after)) => model = after,
                (Err(error), None) => {
                    assert!(
                        matches!(error.code(), Code::UniqueViolation | Code::CardinalityViolation),
                        "{sql}: {error}"
                    );
                }
                (result, _) => panic!("seed {seed}, step {step}: {sql}: {result:?} over {model:?}"),
            }
            assert_eq!(content(&node).await, model, "seed {seed}, step {step}: {sql}");
            match random.random_range(0..20) {
                0 => drop(node.ask("FLUSH t").await.unwrap()),
                1 => node = node.restart().await,
                _ => {}
            }
        }
        node.engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_of_one_row_side_by_side_are_all_there() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id int PRIMARY KEY, n int)").await.unwrap();
    node.ask("INSERT INTO t VALUES (1, 0)").await.unwrap();
    let mut clients = Vec::new();
    for client in 0..4 {
        let session = node.engine.session();
        clients.push(tokio::spawn(async move {
            for _ in 0..10 {
                let sql = match client % 2 {
                    0 => "UPDATE t SET n = n + 1 WHERE id = 1",
                    _ => "INSERT INTO t VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n",
                };
                session.execute(sql).await.unwrap();
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(node.number("SELECT n FROM t").await, 40);
    node.engine.shutdown().await;
}

/// The rows of RETURNING, and the statement's tag.
async fn returned(outcome: Result<Outcome, Error>) -> (Vec<RecordBatch>, &'static str) {
    let Outcome::Rows { rows, tag } = outcome.unwrap() else { panic!("RETURNING gives rows") };
    (rows.try_collect().await.unwrap(), tag)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_insert_knows_the_types_of_its_parameters_and_takes_values() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id bigint PRIMARY KEY, at date, name text DEFAULT 'x')").await.unwrap();
    let session = node.engine.session();
    let statement = &session.parse("INSERT INTO t VALUES ($1, $2, $3::varchar), ($4, DEFAULT, DEFAULT)").unwrap()[0];
    let prepared = session.prepare(statement).await.unwrap();
    let types: Vec<_> = prepared.parameter_types().iter().flatten().cloned().collect();
    assert_eq!(types, [DataType::Int64, DataType::Date32, DataType::Utf8, DataType::Int64]);
    let date = ScalarValue::Date32(Some(0));
    let params = [ScalarValue::Int64(Some(1)), date, ScalarValue::Utf8(None), ScalarValue::Int32(Some(2))];
    let outcome = session.run(&prepared, &params, RunOptions::default()).await.unwrap();
    assert!(matches!(&outcome, Outcome::Done { tag, .. } if tag == "INSERT 0 2"), "{outcome:?}");
    assert!(session.prepared(prepared.text()).is_some(), "the plan is kept");
    let shown = node.ask("SELECT id, at, name FROM t ORDER BY id").await.unwrap();
    assert!(shown.contains("| 1  | 1970-01-01 |      |") && shown.contains("| 2  |            | x    |"), "{shown}");

    let sql = "UPDATE t SET name = $1, id = id + $2 WHERE id = $3 RETURNING id";
    let prepared = session.prepare(&session.parse(sql).unwrap()[0]).await.unwrap();
    let types: Vec<_> = prepared.parameter_types().iter().flatten().cloned().collect();
    assert_eq!(types, [DataType::Utf8View, DataType::Int64, DataType::Int64]);
    let params = [ScalarValue::from("y"), ScalarValue::Int64(Some(10)), ScalarValue::Int64(Some(2))];
    let (rows, tag) = returned(session.run(&prepared, &params, RunOptions::default()).await).await;
    assert_eq!((tag, rows[0].column(0).as_primitive::<Int64Type>().value(0)), ("UPDATE", 12));
    node.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_in_a_case_is_assigned_and_returned_or_refused() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id int PRIMARY KEY, n smallint)").await.unwrap();
    node.ask("INSERT INTO t VALUES (1, 1), (2, 2)").await.unwrap();
    let session = node.engine.session();
    let sql = "UPDATE t SET n = CASE WHEN id = 1 THEN n ELSE $1 END RETURNING CASE WHEN id = 1 THEN n ELSE $1 END";
    let prepared = session.prepare(&session.parse(sql).unwrap()[0]).await.unwrap();
    let params = [ScalarValue::Int64(Some(7))];
    let (rows, _) = returned(session.run(&prepared, &params, RunOptions::default()).await).await;
    let types: Vec<_> = prepared.schema().unwrap().fields().iter().map(|f| f.data_type().clone()).collect();
    assert_eq!(types, [rows[0].column(0).data_type().clone()]);
    assert_eq!(node.number("SELECT sum(n) FROM t").await, 8);
    let params = [ScalarValue::Int64(Some(70_000))];
    let error = session.run(&prepared, &params, RunOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange, "{error}");
    assert_eq!(node.number("SELECT sum(n) FROM t").await, 8);
    node.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_runs_too_long_changes_nothing_and_lets_go_of_the_table() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id bigint, n int)").await.unwrap();
    node.ask("INSERT INTO t SELECT value, 1 FROM generate_series(1, 10000)").await.unwrap();
    let session = node.engine.session();
    let sql = "UPDATE t SET n = 2 FROM t AS a, t AS b WHERE a.n + b.n + t.n = 4";
    let prepared = session.prepare(&session.parse(sql).unwrap()[0]).await.unwrap();
    let options = RunOptions { timeout: Some(Duration::from_millis(50)), ..RunOptions::default() };
    let error = session.run(&prepared, &[], options).await.unwrap_err();
    assert_eq!(error.code(), Code::Timeout, "{error}");
    assert_eq!(node.number("SELECT count(*) FROM t WHERE n = 2").await, 0);
    node.ask("UPDATE t SET n = 3 WHERE id = 1").await.unwrap();
    assert_eq!(node.number("SELECT sum(n) FROM t").await, 10_002);
    node.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upserts_side_by_side_leave_one_row_for_each_key() {
    let node = Node::start().await;
    node.ask("CREATE TABLE t (id int PRIMARY KEY, writer int, n int CHECK (n < 1000))").await.unwrap();
    let write = |writer: i64| {
        let session = node.engine.session();
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(writer as u64);
            for n in 0..25 {
                let keys: BTreeSet<i64> = ids(&mut random, 40).into_iter().collect();
                let rows: Vec<String> = keys.iter().map(|id| format!("({id}, {writer}, {n})")).collect();
                let act = match n % 5 {
                    0 => "NOTHING",
                    _ => "UPDATE SET n = excluded.n, writer = excluded.writer",
                };
                let sql = format!("INSERT INTO t VALUES {} ON CONFLICT (id) DO {act}", rows.join(", "));
                let outcome = session.execute(&sql).await.unwrap();
                let Outcome::Done { tag, .. } = outcome else { panic!("{sql} gave rows") };
                let count: usize = tag.rsplit(' ').next().unwrap().parse().unwrap();
                assert!(if n % 5 == 0 { count <= rows.len() } else { count == rows.len() }, "{tag}: {sql}");
                let refused = format!("INSERT INTO t VALUES (7, 0, 5000) ON CONFLICT (id) DO {act}");
                assert!(session.execute(&refused).await.unwrap_err().to_string().contains("5000"), "{refused}");
            }
        })
    };
    let first: Vec<_> = (0..8).map(write).collect();
    // From here on what goes must be told with what it held.
    node.ask("CREATE MATERIALIZED VIEW v AS SELECT writer, count(*) AS rows, sum(n) AS n FROM t GROUP BY writer")
        .await
        .unwrap();
    for client in first.into_iter().chain((8..12).map(write)) {
        client.await.unwrap();
    }
    node.ask("FLUSH").await.unwrap();
    let query = "SELECT writer, count(*) AS rows, sum(n) AS n FROM t GROUP BY writer ORDER BY writer";
    let by_query = node.ask(query).await.unwrap();
    assert_eq!(node.ask("SELECT writer, rows, n FROM v ORDER BY writer").await.unwrap(), by_query);
    assert_eq!(node.number("SELECT count(*) - count(DISTINCT id) FROM t").await, 0);
    assert_eq!(node.number("SELECT count(*) FROM t").await, 40, "{by_query}");
    let node = node.restart().await;
    assert_eq!(node.ask(query).await.unwrap(), by_query);
    node.engine.shutdown().await;
}
