//! Runs every query as a materialized view of the engine, over streams with a log, with a restart in the middle.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use millstream_buffer::SystemClock;
use millstream_catalog::{Catalog, ObjectName, SqliteCatalog};
use millstream_nexmark::{Events, Generator, QUERIES, STREAMS};
use millstream_process::{Engine, EngineOptions, FileAccess, LogEngine, Outcome, Rows};

use crate::events::parts;
use crate::golden::{difference, rendered};

async fn open(folder: &Path) -> Engine {
    let url = format!("file://{}/lake", folder.display());
    let (store_url, store) = millstream_store::store_from_url(&url, &Default::default()).unwrap();
    let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(&folder.join("catalog.db")).await.unwrap());
    let never = Duration::from_secs(86_400);
    let options = EngineOptions {
        data_dir: folder.to_owned(),
        catalog,
        store_url,
        store,
        log_engine: LogEngine::Disk,
        clock: Arc::new(SystemClock),
        query_memory_bytes: 256 << 20,
        view_memory_bytes: 256 << 20,
        statement_timeout: Duration::from_secs(120),
        max_queries: 16,
        ingest_queue_bytes: 64 << 20,
        log_memory_bytes: 64 << 20,
        tier_bytes: u64::MAX,
        tier_age: never,
        maintenance_interval: never,
        vacuum_retention: Duration::ZERO,
        files: FileAccess::under("."),
    };
    Engine::open(options).await.unwrap()
}

/// The answer of a statement: its rows with their columns' names.
async fn ask(engine: &Engine, sql: &str) -> (Vec<String>, Vec<RecordBatch>) {
    match engine.session().execute(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}")) {
        Outcome::Rows { rows, .. } => {
            let names = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
            (names, rows.try_collect().await.unwrap())
        }
        _ => (vec![], vec![]),
    }
}

async fn write(engine: &Engine, stream: &str, batch: &RecordBatch) {
    let stream = engine.stream(&ObjectName::public(stream).unwrap()).unwrap();
    let batch = RecordBatch::try_new(stream.definition().schema(), batch.columns().to_vec()).unwrap();
    let admitted = stream.admit(Rows { missing: vec![None; batch.num_columns()], batch }).unwrap();
    assert_eq!(admitted.rejected.len(), 0);
    stream.append(admitted.batch, vec![], None).await.unwrap();
}

async fn write_all(engine: &Engine, parts: &[Events]) {
    for events in parts {
        for (stream, batch) in [("person", &events.person), ("auction", &events.auction), ("bid", &events.bid)] {
            write(engine, stream, batch).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_materialized_view_of_every_query_comes_to_its_batch_answer() {
    let folder = tempfile::tempdir().unwrap();
    let parts = parts(1_000);
    let engine = open(folder.path()).await;
    for create in STREAMS.split(';').filter(|sql| !sql.trim().is_empty()) {
        ask(&engine, create).await;
    }
    // The first of the events are history when the views are made.
    write_all(&engine, &parts[..4]).await;
    for query in &QUERIES {
        ask(&engine, &format!("CREATE MATERIALIZED VIEW {} AS {}", query.name(), query.sql)).await;
    }
    write_all(&engine, &parts[4..12]).await;
    write(&engine, "side_input", &Generator::side_input()).await;
    engine.shutdown().await;
    let engine = open(folder.path()).await;
    write_all(&engine, &parts[12..]).await;
    ask(&engine, "FLUSH").await;
    let mut wrong = Vec::new();
    for query in &QUERIES {
        let (names, batches) = ask(&engine, &format!("SELECT * FROM {}", query.name())).await;
        wrong.extend(difference(query, &rendered(&names.iter().map(String::as_str).collect::<Vec<_>>(), &batches)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    engine.shutdown().await;
}
