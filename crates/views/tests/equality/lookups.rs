//! Lookup joins: each row has what was there when it came, through restarts, and takes back what it gave.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::TableFactor;
use millstream_views::{Dataflow, MemoryStore, StateStore, looked_up};
use rand::Rng;

use crate::history::World;
use crate::outcome::{batches_at, compile, inputs_of, session, stepped, texts};

/// Takes every version of a table for the present.
#[derive(Debug)]
struct Present;

impl RelationPlanner for Present {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let TableFactor::Table { version, alias, .. } = &mut relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if version.take().is_none() {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let alias = alias.take();
        let plan = looked_up(context.plan(relation)?);
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// Lets a context plan lookups.
pub(crate) fn register(context: &SessionContext) {
    context.register_relation_planner(Arc::new(Present)).unwrap();
}

const NOW: &str = "FOR SYSTEM_TIME AS OF PROCTIME()";

/// A left side, the columns that are shown, and a join.
const LOOKUPS: [(&str, &str, &str); 9] = [
    ("SELECT id, k, a FROM s", "l.*, r.id AS other, r.t", "JOIN c {now} AS r ON l.k = r.k"),
    ("SELECT id, k, a FROM s", "l.id, r.k AS other, r.m", "LEFT JOIN e {now} r ON l.k = r.k"),
    ("SELECT id, k, a FROM c", "l.*, r.t", "JOIN e {now} AS r ON r.k = l.k AND r.id > l.a"),
    ("SELECT id, k, a, y FROM c", "l.*, r.id AS other", "LEFT JOIN d {now} AS r ON l.k = r.k AND r.a > l.a"),
    ("SELECT k, a, t, x FROM w", "l.*, r.id AS other", "LEFT JOIN d {now} AS r ON l.k = r.k AND r.flag"),
    (
        "SELECT k, count(*) AS n, sum(a) AS a FROM c GROUP BY k",
        "l.*, r.id AS other",
        "LEFT JOIN e {now} AS r USING (k)",
    ),
    ("SELECT k, a, t FROM w", "count(*) OVER (PARTITION BY l.k) AS n, r.a AS b", "JOIN w {now} r ON l.k + 1 = r.k"),
    ("SELECT s.id, s.k FROM s JOIN p ON s.k = p.k", "l.*, r.a", "JOIN d {now} AS r ON l.k = r.k AND r.x > 0"),
    ("SELECT id, k, t FROM c", "l.id, r.a", "JOIN g {now} r ON l.t = r.t AND l.k IS NOT DISTINCT FROM r.k"),
];

/// What each row of the left side gave, oldest first.
type Given = HashMap<String, Vec<Vec<RecordBatch>>>;

/// Rows of the left side that come and go in a step: one batch for each row.
struct Changes {
    come: Vec<RecordBatch>,
    go: Vec<String>,
}

impl Changes {
    async fn of(left: &str, world: &World) -> Self {
        let step = world.steps - 1;
        let before = match step {
            0 => vec![],
            step => batches_at(left, &world.history, step - 1).await,
        };
        let mut gone: Vec<String> = single(&before).iter().map(text).collect();
        let mut come = single(&batches_at(left, &world.history, step).await);
        come.retain(|row| match gone.iter().position(|known| *known == text(row)) {
            Some(known) => {
                gone.swap_remove(known);
                false
            }
            None => true,
        });
        Self { come, go: gone }
    }
}

fn single(batches: &[RecordBatch]) -> Vec<RecordBatch> {
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|i| batch.slice(i, 1))).collect()
}

fn text(row: &RecordBatch) -> String {
    texts(std::slice::from_ref(row)).remove(0)
}

/// The rows that one row of the left side meets behind a step.
async fn meets(row: &RecordBatch, join: &str, world: &World) -> Vec<RecordBatch> {
    let context = session(&world.history, world.steps - 1);
    let table = MemTable::try_new(row.schema(), vec![vec![row.clone()]]).unwrap();
    context.register_table("l", Arc::new(table)).unwrap();
    let rows = context.sql(&format!("SELECT * FROM l {join}")).await.unwrap().collect().await.unwrap();
    rows.into_iter().filter(|batch| batch.num_rows() > 0).collect()
}

/// Takes a step of the model.
async fn model_step(given: &mut Given, left: &str, join: &str, world: &World) {
    let changes = Changes::of(left, world).await;
    for row in changes.go {
        let all = given.entry(row).or_default();
        if !all.is_empty() {
            all.remove(0);
        }
    }
    for row in changes.come {
        let met = meets(&row, join, world).await;
        if !met.is_empty() {
            given.entry(text(&row)).or_default().push(met);
        }
    }
}

async fn begun(sql: &str, tight: bool, store: &Arc<MemoryStore>) -> Dataflow {
    let mut flow = compile(sql).await.unwrap();
    if tight {
        flow.limit_memory(Arc::clone(store) as Arc<dyn StateStore>, 0).unwrap();
    }
    flow
}

async fn check(left: &str, shown: &str, join: &str, seed: u64) {
    // The rows are compared with all columns of both sides.
    let sql = format!("SELECT * FROM ({left}) AS l {}", join.replace("{now}", NOW));
    let plain = join.replace("{now}", "");
    assert!(compile(&sql.replacen('*', shown, 1)).await.is_ok(), "{shown}");
    let store = Arc::new(MemoryStore::default());
    let mut world = World::new(seed);
    let mut deltas: Vec<Vec<Vec<RecordBatch>>> = Vec::new();
    let (mut given, mut done) = (Given::new(), 0);
    let mut flow = begun(&sql, seed.is_multiple_of(2), &store).await;
    for step in 0..9 {
        deltas.push(world.change());
        let inputs = inputs_of(&flow, &deltas[step]);
        stepped(&mut flow, inputs).await.unwrap();
        model_step(&mut given, left, &plain, &world).await;
        if world.random.random_bool(0.4) {
            flow.checkpoint(store.as_ref(), b"").unwrap();
            done = step + 1;
        }
        if world.random.random_bool(0.3) {
            flow = begun(&sql, seed.is_multiple_of(2), &store).await;
            flow.restore(store.as_ref()).unwrap();
            for again in &deltas[done..] {
                let inputs = inputs_of(&flow, again);
                stepped(&mut flow, inputs).await.unwrap();
            }
        }
        let mut expected: Vec<String> = given.values().flatten().flat_map(|rows| texts(rows)).collect();
        expected.sort();
        let found = texts(&flow.answer().snapshot().batches().unwrap());
        assert_eq!(found, expected, "{sql}\nseed {seed}, step {step}\n{}", flow.explain());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_has_what_was_there_when_it_came() {
    for (n, (left, shown, join)) in LOOKUPS.iter().enumerate() {
        for seed in 0..3 {
            check(left, shown, join, 100 * n as u64 + seed).await;
        }
    }
}

#[tokio::test]
async fn a_lookup_keeps_nothing_of_rows_that_only_come() {
    let sql = format!("SELECT s.id, c.t FROM s JOIN c {NOW} ON s.k = c.k AND c.a > s.a WHERE s.flag");
    let flow = compile(&sql).await.unwrap();
    assert!(flow.grows());
    let explained = flow.explain();
    let expected = "\
Linear: project s.id, c.t
  Lookup: inner join on s.k = c.k AND s.a < c.a
    keeps right rows, by k
    Linear: filter s.flag
      Source: s (rows only come)
    Source: c (rows come and go)
";
    assert_eq!(explained, expected);
    let sql = format!("SELECT d.id, c.t FROM d LEFT JOIN c {NOW} ON d.k = c.k");
    let flow = compile(&sql).await.unwrap();
    assert!(!flow.grows());
    assert!(flow.explain().contains("keeps what came out, by left row"), "{}", flow.explain());
    let names: Vec<_> = flow.inputs().iter().map(|input| (input.table.table(), input.looked_up)).collect();
    assert_eq!(names, [("c", true), ("d", false)], "what is looked up comes first");
}

#[tokio::test]
async fn a_lookup_by_a_key_keeps_the_key_of_its_rows() {
    let counts = "(SELECT k, count(*) AS n FROM c GROUP BY k)";
    let sql = format!("WITH r AS {counts} SELECT l.k, l.n, r.n AS m FROM {counts} l LEFT JOIN r {NOW} ON l.k = r.k");
    assert_eq!(compile(&sql).await.unwrap().answer().key(), Some([0].as_slice()));
    let sql = format!("WITH r AS {counts} SELECT l.k, l.n, r.n AS m FROM {counts} l LEFT JOIN r {NOW} ON l.n = r.n");
    assert_eq!(compile(&sql).await.unwrap().answer().key(), None);
}

#[tokio::test]
async fn other_lookups_are_refused_with_what_to_write() {
    let refused = [
        (
            "SELECT * FROM s RIGHT JOIN c {now} ON s.k = c.k",
            "RIGHT JOIN … FOR SYSTEM_TIME AS OF PROCTIME() cannot be kept up to date incrementally: rows of the left side look up the right one, so it is JOIN or LEFT JOIN",
        ),
        (
            "SELECT * FROM s FULL JOIN c {now} ON s.k = c.k",
            "FULL JOIN … FOR SYSTEM_TIME AS OF PROCTIME() cannot be kept up to date incrementally: rows of the left side look up the right one, so it is JOIN or LEFT JOIN",
        ),
        (
            "SELECT * FROM s JOIN c {now} ON s.k > c.k",
            "a JOIN … FOR SYSTEM_TIME AS OF PROCTIME() without a key cannot be kept up to date incrementally: rows are looked up by equal columns; write ON a.k = b.k, and further conditions behind AND",
        ),
        (
            "SELECT * FROM s, c {now} WHERE s.k = c.k",
            "a JOIN … FOR SYSTEM_TIME AS OF PROCTIME() without a key cannot be kept up to date incrementally: rows are looked up by equal columns; write ON a.k = b.k, and further conditions behind AND",
        ),
        (
            "SELECT * FROM c {now}",
            "FOR SYSTEM_TIME AS OF PROCTIME() here cannot be kept up to date incrementally: it says what rows look up; write it behind the table on the right of JOIN or LEFT JOIN",
        ),
        (
            "SELECT * FROM c {now} JOIN s ON s.k = c.k",
            "FOR SYSTEM_TIME AS OF PROCTIME() here cannot be kept up to date incrementally: it says what rows look up; write it behind the table on the right of JOIN or LEFT JOIN",
        ),
        (
            "WITH x AS (SELECT d.k FROM d JOIN c {now} ON d.k = c.k) SELECT s.k FROM s JOIN x {now} ON s.k = x.k",
            "FOR SYSTEM_TIME AS OF PROCTIME() inside of what is looked up cannot be kept up to date incrementally: make a stream of the inner query: CREATE STREAM … AS",
        ),
    ];
    for (sql, expected) in refused {
        let error = compile(&sql.replace("{now}", NOW)).await.unwrap_err().to_string();
        assert_eq!(error, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_pair_that_fails_leaves_its_row_out() {
    let sql = format!("SELECT s.id, c.id AS other FROM s LEFT JOIN c {NOW} ON s.k = c.k AND 10 / c.a > 1");
    let history = crate::history::History::written(&[
        r#"c 0-3 {"id":1,"k":1,"a":5,"ts":"2024-01-01T00:00:00"}"#,
        r#"c 1- {"id":2,"k":1,"a":0,"ts":"2024-01-01T00:00:00"}"#,
        r#"s 0- {"id":7,"k":1,"ts":"2024-01-01T00:00:00"}"#,
        r#"s 1- {"id":8,"k":1,"ts":"2024-01-01T00:00:00"}"#,
        r#"s 2- {"id":9,"k":2,"ts":"2024-01-01T00:00:00"}"#,
    ]);
    let mut flow = compile(&sql).await.unwrap();
    let mut refused = Vec::new();
    for step in 0..history.steps {
        let deltas: Vec<_> = (0..crate::world::TABLES.len()).map(|table| history.delta(table, step)).collect();
        let inputs = inputs_of(&flow, &deltas);
        refused.extend(stepped(&mut flow, inputs).await.unwrap().refused);
    }
    assert_eq!(texts(&flow.answer().snapshot().batches().unwrap()), ["7 | 1", "9 | NULL"]);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].reason.contains("zero"), "{refused:?}");
}
