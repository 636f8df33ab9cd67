//! Owns tests of tables below SQL: rows come and go, by the log, by files, merged or not, over restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt};
use millstream_buffer::ManualClock;
use millstream_catalog::fault::{Code, Fault};
use millstream_catalog::{
    Catalog, Check, Column, DataType, Generated, MemoryCatalog, ObjectName, PrimaryKey, Stream, StreamId,
    StreamOptions, TableSpec,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::{Applied, Change, Kept, Turn, insert};
use crate::background::tier_once;
use crate::stream::OpenStream;
use crate::{Engine, EngineOptions, LogEngine, Outcome, Result, Rows};

struct Node {
    engine: Engine,
    options: EngineOptions,
    dir: TempDir,
    /// Rows that inserts brought in.
    kept: Kept,
}

impl Node {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let url = format!("file://{}/lake", dir.path().display());
        let (store_url, store) = millstream_store::store_from_url(&url, &Default::default()).unwrap();
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::default());
        catalog.create_stream(&orders()).await.unwrap();
        let options = EngineOptions {
            data_dir: dir.path().to_owned(),
            catalog,
            store_url,
            store,
            log_engine: LogEngine::Disk,
            clock: Arc::new(ManualClock::at(1_700_000_000_000_000)),
            query_memory_bytes: 256 << 20,
            view_memory_bytes: 256 << 20,
            statement_timeout: Duration::from_secs(60),
            max_queries: 16,
            ingest_queue_bytes: 64 << 20,
            log_memory_bytes: 64 << 20,
            tier_bytes: u64::MAX,
            tier_age: Duration::from_secs(86_400),
            maintenance_interval: Duration::from_secs(86_400),
            vacuum_retention: Duration::ZERO,
            files: crate::FileAccess::under("."),
        };
        Self { engine: Engine::open(options.clone()).await.unwrap(), options, dir, kept: Kept::default() }
    }

    async fn restart(self) -> Self {
        self.engine.shutdown().await;
        let closed = Arc::downgrade(&self.engine.shared);
        drop(self.engine);
        // Queries that have ended may be about to say so; then nothing refers to the engine, and its threads end.
        let gone = async {
            while closed.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("a closed engine is kept");
        let engine = Engine::open(self.options.clone()).await.unwrap();
        Self { engine, ..self }
    }

    fn table(&self) -> Arc<OpenStream> {
        self.engine.shared.stream(&ObjectName::parse("orders").unwrap()).unwrap()
    }

    async fn insert(&self, rows: &[(i64, &str)]) -> Result<Applied> {
        let rows = futures::stream::iter([Ok(rows_of(rows))]).boxed();
        insert(&self.engine.shared, &self.table(), rows, Some(&self.kept)).await
    }

    /// Gives the rows with these keys another status, or takes them out.
    async fn change(&self, ids: &[i64], status: Option<&str>) -> Result<Applied> {
        let list = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let turn = Turn::of(&self.engine.shared, &self.table()).await?;
        let old = self.ask(&format!("SELECT id, status, total, _offset FROM orders WHERE id IN ({list})")).await;
        let changes = old.into_iter().map(|old| {
            let ids = old.column(0).as_primitive::<Int64Type>().values().to_vec();
            let come = status.map(|status| rows_of(&ids.iter().map(|id| (*id, status)).collect::<Vec<_>>()));
            Ok(Change { gone: Some(old), come })
        });
        turn.apply(futures::stream::iter(changes.collect::<Vec<_>>()).boxed(), None).await
    }

    async fn merge(&self) -> u64 {
        tier_once(&self.engine.shared, &self.table()).await.unwrap()
    }

    async fn ask(&self, sql: &str) -> Vec<RecordBatch> {
        match self.engine.session().execute(sql).await.unwrap() {
            Outcome::Rows { rows, .. } => rows.try_collect().await.unwrap(),
            other => panic!("{sql} gives no rows: {other:?}"),
        }
    }

    async fn content(&self) -> BTreeMap<i64, String> {
        let mut content = BTreeMap::new();
        for batch in self.ask("SELECT id, status FROM orders").await {
            let ids = batch.column(0).as_primitive::<Int64Type>();
            for (i, id) in ids.values().iter().enumerate() {
                let before = content.insert(*id, batch.column(1).as_string_view().value(i).to_owned());
                assert_eq!(before, None, "row {id} is there twice");
            }
        }
        content
    }

    async fn count(&self) -> i64 {
        self.ask("SELECT count(*) FROM orders").await[0].column(0).as_primitive::<Int64Type>().value(0)
    }
}

/// Orders: a key, a status, and ten times the key.
fn orders() -> Stream {
    Stream {
        id: StreamId(uuid::Uuid::now_v7()),
        name: ObjectName::parse("orders").unwrap(),
        columns: vec![
            Column::new("id", DataType::BigInt).not_null(),
            Column::new("status", DataType::Text),
            Column::new("total", DataType::BigInt),
        ],
        checks: vec![Check { name: "small".into(), expr: "id < 1000000000".into() }],
        watermark: None,
        partition_by: vec![],
        options: StreamOptions::default(),
        comment: None,
        version: 1,
        created_at_ms: 0,
        table: Some(TableSpec {
            primary_key: Some(PrimaryKey { name: "orders_pkey".into(), columns: vec!["id".into()] }),
            generated: vec![Generated { column: "total".into(), expression: "id * 10".into() }],
            ..TableSpec::default()
        }),
    }
}

fn rows_of(rows: &[(i64, &str)]) -> Rows {
    let schema = orders().schema();
    let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let statuses = StringArray::from_iter_values(rows.iter().map(|r| r.1));
    let totals = Int64Array::new_null(rows.len());
    let nullable = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
    let schema = Arc::new(arrow::datatypes::Schema::new(nullable));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(statuses), Arc::new(totals)]).unwrap();
    Rows { missing: vec![None, None, None], batch }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_change_and_go_before_and_after_a_merge_and_a_restart() {
    let mut node = Node::start().await;
    let applied = node.insert(&[(1, "new"), (2, "new"), (3, "new")]).await.unwrap();
    assert_eq!(applied.come, 3);
    assert_eq!(node.kept.lock()[0].column(2).as_primitive::<Int64Type>().values(), &[10, 20, 30]);
    for step in 0..3 {
        node.change(&[1], Some(&format!("changed {step}"))).await.unwrap();
        node.change(&[2 + step], None).await.unwrap();
        node.insert(&[(10 + step, "later")]).await.unwrap();
        let expected = node.content().await;
        assert_eq!(expected[&1], format!("changed {step}"));
        assert!(!expected.contains_key(&(2 + step)));
        assert!(node.merge().await > 0);
        assert_eq!(node.content().await, expected, "after merge {step}");
        node = node.restart().await;
        assert_eq!(node.content().await, expected, "after restart {step}");
        assert_eq!(node.count().await, expected.len() as i64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_there_once() {
    let node = Node::start().await;
    node.insert(&[(1, "a"), (2, "b")]).await.unwrap();
    for again in [&[(3, "c"), (2, "x")][..], &[(4, "d"), (4, "e")]] {
        let error = node.insert(again).await.unwrap_err();
        assert_eq!(error.code(), Code::UniqueViolation, "{error}");
    }
    assert_eq!(node.content().await.len(), 2);
    node.merge().await;
    let node = node.restart().await;
    let error = node.insert(&[(2, "x")]).await.unwrap_err();
    assert_eq!(error.to_string(), "primary key \"orders_pkey\" of table orders: (id) = (2) is there already");
    node.change(&[2], None).await.unwrap();
    node.insert(&[(2, "again")]).await.unwrap();
    assert_eq!(node.content().await[&2], "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_breaks_a_rule_fails_the_whole_statement() {
    let node = Node::start().await;
    let error = node.insert(&[(1, "a"), (2_000_000_000, "b")]).await.unwrap_err();
    assert_eq!(error.code(), Code::CheckViolation);
    assert!(error.to_string().contains("row 2: (2000000000, b"), "{error}");
    assert_eq!(node.count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_too_large_for_the_log_goes_through_files() {
    let node = Node::start().await;
    let long = "x".repeat(400);
    let many: Vec<(i64, &str)> = (0..60_000).map(|id| (id, long.as_str())).collect();
    assert_eq!(node.insert(&many).await.unwrap().come, 60_000);
    assert_eq!(node.table().log().stats().end.total(), 1, "the log has one record");
    assert_eq!(node.count().await, 60_000);
    node.change(&[5, 59_999], None).await.unwrap();
    node.change(&[7], Some("changed")).await.unwrap();
    assert_eq!(node.count().await, 59_998);
    let node = node.restart().await;
    assert_eq!(node.count().await, 59_998);
    let all: Vec<i64> = (0..40_000).collect();
    node.change(&all, Some(&long)).await.unwrap();
    let before = node.content().await;
    assert_eq!(before.len(), 59_998);
    node.merge().await;
    assert_eq!(node.content().await, before);
    let node = node.restart().await;
    assert_eq!(node.content().await, before);
    drop(node.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_changes_merges_and_restarts_leave_what_they_should() {
    for seed in 0..8_u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut node = Node::start().await;
        let mut model = BTreeMap::new();
        for step in 0..40 {
            let some: Vec<i64> = (0..random.random_range(1..6)).map(|_| random.random_range(0..30)).collect();
            match random.random_range(0..10) {
                0..4 => {
                    let status = format!("{step}");
                    let rows: Vec<(i64, &str)> = some.iter().map(|id| (*id, status.as_str())).collect();
                    let fits = some.iter().all(|id| !model.contains_key(id))
                        && some.iter().collect::<std::collections::HashSet<_>>().len() == some.len();
                    assert_eq!(node.insert(&rows).await.is_ok(), fits, "seed {seed} step {step}");
                    if fits {
                        model.extend(some.iter().map(|id| (*id, status.clone())));
                    }
                }
                4..6 => {
                    let status = format!("{step}");
                    node.change(&some, Some(&status)).await.unwrap();
                    for id in some {
                        model.entry(id).and_modify(|s| s.clone_from(&status));
                    }
                }
                6..8 => {
                    node.change(&some, None).await.unwrap();
                    some.iter().for_each(|id| drop(model.remove(id)));
                }
                8 => drop(node.merge().await),
                _ => node = node.restart().await,
            }
            assert_eq!(node.content().await, model, "seed {seed} step {step}");
        }
    }
}
