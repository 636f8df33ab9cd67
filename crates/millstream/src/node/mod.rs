//! Owns a running node: the order in which the rooms start, and the order in which they stop.

mod data_dir;
mod http;
mod origin;
mod signals;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use millstream_buffer::SystemClock;
use millstream_catalog::SqliteCatalog;
use millstream_catalog::fault::Code;
use millstream_process::{Engine, EngineOptions, FileAccess, LogEngine};
use millstream_serve::pg::PgLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::ServeArgs;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::telemetry;
use data_dir::DataDir;
pub use signals::Signals;

/// A node that is up.
#[derive(Debug)]
pub struct Node {
    dir: DataDir,
    engine: Engine,
    doors: JoinSet<()>,
    closing: CancellationToken,
    drain: Duration,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where the PostgreSQL wire listens.
    pub pg: SocketAddr,
}

impl Node {
    /// Starts everything, from the bottom up; when it returns, clients are answered.
    pub async fn start(config: &Config) -> Result<Self> {
        let dir = DataDir::claim(&config.data)?;
        raise_file_limit();
        let http = listen("listen", config.listen).await?;
        let pg = listen("pg_listen", config.pg_listen).await?;
        let engine = open_engine(&dir, config).await?;
        let (http_address, pg_address) = (address(&http)?, address(&pg)?);
        let closing = CancellationToken::new();
        let mut doors = JoinSet::new();
        doors.spawn(http::serve(http, router(&engine, config), http_limits(config), closing.clone()));
        doors.spawn(serve_pg(pg, engine.clone(), pg_limits(config), closing.clone()));
        dir.write_addresses(http_address, pg_address)?;
        Ok(Self { dir, engine, doors, closing, drain: config.shutdown_timeout, http: http_address, pg: pg_address })
    }

    /// Stops everything, from the top down: no new connections, requests under way finish (for so long), the engine
    /// makes durable what it accepted, the data directory is free again.
    pub async fn stop(mut self) {
        self.dir.remove_addresses();
        self.closing.cancel();
        self.engine.end_live();
        let drained = async { while self.doors.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain, drained).await.is_err() {
            tracing::warn!(waited = ?self.drain, "some clients did not finish in time; their connections are closed");
            self.doors.shutdown().await;
        }
        self.engine.shutdown().await;
    }
}

/// `millstream serve`: runs a node until a signal comes.
pub fn serve(args: ServeArgs) -> Result<ExitCode> {
    let began = Instant::now();
    let sources = args.gather()?;
    let (config, _) = Config::resolve(&sources)?;
    telemetry::start(&config.log)?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let node = tokio::select! {
            node = Node::start(&config) => node?,
            signal = signals.next() => {
                tracing::info!(signal, "stopped while starting");
                return Ok(ExitCode::SUCCESS);
            }
        };
        announce(&node, &config, began);
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        tokio::select! {
            () = node.stop() => tracing::info!("stopped"),
            signal = signals.next() => {
                tracing::warn!(signal, "stopping at once");
                return Ok(ExitCode::from(130));
            }
        }
        Ok(ExitCode::SUCCESS)
    });
    // What is accepted is durable by now; threads that are still in the middle of a read need not be waited for.
    runtime.shutdown_background();
    outcome
}

/// The threads everything runs on.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("millstream")
        .thread_stack_size(millstream_process::STACK_BYTES)
        .build()
        .map_err(|e| Failure::io("start the worker threads", &e))
}

#[expect(clippy::print_stdout, reason = "scripts read where the node listens")]
fn announce(node: &Node, config: &Config, began: Instant) {
    let (http, pg) = (node.http, node.pg);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %http,
        %pg,
        data = %config.data.display(),
        store = config.store_url,
        started_ms = began.elapsed().as_millis() as u64,
        "ready"
    );
    println!("millstream {} is ready: http://{http} postgresql://{pg}", env!("CARGO_PKG_VERSION"));
}

/// Takes as many open files as the system allows: each connection, segment and lake file is one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, files = limit.current, "cannot raise the limit of open files");
    }
}

async fn listen(key: &str, wanted: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(wanted).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            Code::Busy,
            format!("{key}: {wanted} is in use by another process; stop it, or choose another port"),
        ),
        _ => Failure::io(format_args!("listen on {wanted} ({key})"), &error),
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|e| Failure::io("find the address that is listened on", &e))
}

async fn open_engine(dir: &DataDir, config: &Config) -> Result<Engine> {
    let catalog = SqliteCatalog::open(dir.path().join("catalog.db")).await.map_err(|e| Failure::of(&e))?;
    let (store_url, store) =
        millstream_store::store_from_url(&config.store_url, &config.store_options).map_err(|e| Failure::of(&e))?;
    let options = EngineOptions {
        data_dir: dir.path().to_owned(),
        catalog: Arc::new(catalog),
        store_url,
        store,
        log_engine: LogEngine::Disk,
        clock: Arc::new(SystemClock),
        query_memory_bytes: config.query_memory,
        statement_timeout: config.query_timeout,
        max_queries: config.query_max_concurrent,
        ingest_queue_bytes: config.ingest_queue,
        log_memory_bytes: config.buffer_memory,
        view_memory_bytes: config.views_memory,
        tier_bytes: config.tier_bytes,
        tier_age: config.tier_age,
        maintenance_interval: config.maintenance_interval,
        vacuum_retention: config.vacuum_retention,
        files: FileAccess {
            root: config.files_root.clone(),
            store_options: config.store_options.clone(),
            http: config.files_http,
        },
    };
    Engine::open(options).await.map_err(|e| Failure::of(&e))
}

fn router(engine: &Engine, config: &Config) -> Router {
    let limits = millstream_connect::Limits {
        body_bytes: config.ingest_max_body,
        decoded_bytes: config.ingest_max_decoded,
        row_bytes: config.ingest_max_row,
        in_flight_bytes: config.ingest_in_flight,
        requests: config.ingest_max_requests,
        body_idle: config.http_read_timeout,
    };
    millstream_serve::http::router(engine.clone())
        .merge(millstream_connect::router(engine.clone(), limits))
        .layer(axum::middleware::from_fn(origin::refuse_foreign_pages))
}

fn http_limits(config: &Config) -> http::Limits {
    http::Limits { max_connections: config.http_max_connections, read_timeout: config.http_read_timeout }
}

async fn serve_pg(listener: TcpListener, engine: Engine, limits: PgLimits, closing: CancellationToken) {
    millstream_serve::pg::serve_within(limits, listener, engine, closing.cancelled_owned()).await;
}

fn pg_limits(config: &Config) -> PgLimits {
    PgLimits {
        max_connections: config.pg_max_connections,
        drain_timeout: config.shutdown_timeout,
        ..PgLimits::default()
    }
}
