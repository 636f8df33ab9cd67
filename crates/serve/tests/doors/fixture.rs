//! Owns a node for tests: an engine on a temporary directory behind both wires, on ports the system chose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_buffer::SystemClock;
use millstream_catalog::{MemoryCatalog, ObjectName};
use millstream_process::{Engine, EngineOptions, FileAccess, LogEngine};
use millstream_serve::pg::PgLimits;
use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_postgres::NoTls;

/// A running node. Dropping it stops the wires.
pub struct Node {
    pub http: String,
    pub pg: SocketAddr,
    pub engine: Engine,
    stop: watch::Sender<bool>,
    pub pg_served: tokio::task::JoinHandle<()>,
    _dir: TempDir,
}

impl Node {
    pub async fn start() -> Self {
        Self::start_within(PgLimits::default()).await
    }

    pub async fn start_within(limits: PgLimits) -> Self {
        let dir = TempDir::new().unwrap();
        let engine = Engine::open(options(&dir)).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let (http, pg) = (listener().await, listener().await);
        let (http_at, pg_at) = (http.local_addr().unwrap(), pg.local_addr().unwrap());
        let router = millstream_serve::http::router(engine.clone());
        tokio::spawn(async move { axum::serve(http, router).await.unwrap() });
        let stopping = wait_for_true(stopped);
        let pg_served = tokio::spawn(millstream_serve::pg::serve_within(limits, pg, engine.clone(), stopping));
        Self { http: format!("http://{http_at}"), pg: pg_at, engine, stop, pg_served, _dir: dir }
    }

    /// Tells the PostgreSQL wire to stop.
    pub fn stop(&self) {
        self.stop.send(true).unwrap();
    }

    /// A PostgreSQL client.
    pub async fn connect(&self) -> tokio_postgres::Client {
        self.try_connect().await.unwrap()
    }

    pub async fn try_connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let config = format!("host=127.0.0.1 port={} user=anyone dbname=anything", self.pg.port());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Posts a JSON body to `/v1/sql`.
    pub async fn post(&self, accept: &str, body: serde_json::Value) -> reqwest::Response {
        reqwest::Client::new()
            .post(format!("{}/v1/sql", self.http))
            .header("accept", accept)
            .json(&body)
            .send()
            .await
            .unwrap()
    }

    /// Runs SQL over HTTP; the JSON answer, whatever its status.
    pub async fn sql(&self, sql: &str) -> serde_json::Value {
        self.post("application/json", serde_json::json!({"sql": sql})).await.json().await.unwrap()
    }

    /// Adds rows to a stream.
    pub async fn insert(&self, stream: &str, rows: serde_json::Value) {
        let handle = self.engine.stream(&ObjectName::parse(stream).unwrap()).unwrap();
        let schema = handle.definition().schema();
        let mut decoder = arrow::json::ReaderBuilder::new(schema).build_decoder().unwrap();
        decoder.serialize(rows.as_array().unwrap()).unwrap();
        let batch = decoder.flush().unwrap().unwrap();
        handle.append(batch, vec![], None).await.unwrap();
    }

    /// The rows that the one other running query has given out, once it gives out no more.
    pub async fn rows_when_the_query_stands_still(&self) -> i64 {
        let since = Instant::now();
        let mut before = -1;
        loop {
            let answer = self
                .sql("SELECT max(rows) FROM system.queries WHERE status = 'running' AND sql LIKE '%generate_series%'")
                .await;
            let rows = answer["rows"][0][0].as_i64().unwrap_or(0);
            if rows > 0 && rows == before {
                return rows;
            }
            before = rows;
            assert!(since.elapsed() < Duration::from_secs(20), "the query does not stand still: {answer}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Waits until no query but the one that asks is running.
    pub async fn until_no_query_runs(&self) {
        let since = Instant::now();
        loop {
            let answer = self.sql("SELECT count(*) FROM system.queries WHERE status = 'running'").await;
            if answer["rows"][0][0] == 1 {
                return;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "a query still runs: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn wait_for_true(mut receiver: watch::Receiver<bool>) {
    let _ = receiver.wait_for(|stop| *stop).await;
}

fn options(dir: &TempDir) -> EngineOptions {
    let lake = dir.path().join("lake");
    std::fs::create_dir_all(&lake).unwrap();
    EngineOptions {
        data_dir: dir.path().to_owned(),
        catalog: Arc::new(MemoryCatalog::new()),
        store_url: url::Url::from_directory_path(&lake).unwrap(),
        store: Arc::new(LocalFileSystem::new_with_prefix(&lake).unwrap()),
        log_engine: LogEngine::Memory,
        clock: Arc::new(SystemClock),
        query_memory_bytes: 256 << 20,
        view_memory_bytes: 256 << 20,
        statement_timeout: Duration::from_secs(60),
        max_queries: 16,
        ingest_queue_bytes: 64 << 20,
        log_memory_bytes: 64 << 20,
        tier_bytes: 128 << 20,
        tier_age: Duration::from_secs(3600),
        maintenance_interval: Duration::from_secs(3600),
        vacuum_retention: Duration::from_secs(3600),
        files: FileAccess::under(dir.path()),
    }
}
