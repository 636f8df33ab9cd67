//! Owns an engine in a temporary folder, a clock that tests move, and short ways to write and ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use millstream_buffer::ManualClock;
use millstream_catalog::{Catalog, ObjectName, SqliteCatalog};
use millstream_process::{
    Engine, EngineOptions, Error, FileAccess, IdempotencyKey, LogEngine, Outcome, PlainHttp, PositionToken,
    QuarantinedRow, Receipt, Rows, RunOptions,
};
use millstream_store::fault_store::FaultStore;
use object_store::ObjectStore;
use object_store::path::Path;
use tempfile::TempDir;

use crate::servers::S3Server;

/// The place and the store of a fresh node's lake.
fn lake(dir: &TempDir) -> (url::Url, Arc<dyn ObjectStore>) {
    let url = match on_s3() {
        true => format!("s3://{}/lake", s3().new_bucket()),
        false => format!("file://{}/lake", dir.path().display()),
    };
    millstream_store::store_from_url(&url, &store_options()).unwrap()
}

fn s3() -> &'static S3Server {
    S3Server::shared("the engine on S3").expect("`make test-s3` sets Python up")
}

/// What stores are told of where they are.
fn store_options() -> BTreeMap<String, String> {
    if on_s3() { s3().options() } else { BTreeMap::new() }
}

/// Whether lakes lie on S3.
pub fn on_s3() -> bool {
    std::env::var("MILLSTREAM_TEST_LAKE").is_ok_and(|kind| kind == "s3")
}

/// How far the operations lie apart that tests let fail: a request to S3 takes milliseconds, so there not each is tried.
pub fn steps_apart() -> u64 {
    if on_s3() { 7 } else { 1 }
}

/// An engine and what it stands on; the folder outlives restarts.
pub struct Node {
    pub engine: Engine,
    pub dir: Arc<TempDir>,
    pub clock: ManualClock,
    options: EngineOptions,
}

impl Node {
    /// A fresh node on disk; with `MILLSTREAM_TEST_LAKE=s3` its lake is a bucket on the tests' S3 server.
    pub async fn start() -> Node {
        let dir = Arc::new(TempDir::new().unwrap());
        let (url, store) = lake(&dir);
        Self::start_on(dir, url, store).await
    }

    /// A fresh node whose lake's store fails when it is told to.
    pub async fn on_faulty_store() -> (Node, FaultStore) {
        let dir = Arc::new(TempDir::new().unwrap());
        let (url, store) = lake(&dir);
        let faults = FaultStore::new(store);
        let node = Self::start_on(dir, url, Arc::new(faults.clone())).await;
        (node, faults)
    }

    /// A fresh node whose queries have this much memory.
    pub async fn with_query_memory(bytes: usize) -> Node {
        let Node { engine, dir, clock, options } = Node::start().await;
        engine.shutdown().await;
        let statement_timeout = Duration::from_secs(600);
        Self::open(dir, clock, EngineOptions { query_memory_bytes: bytes, statement_timeout, ..options }).await
    }

    /// A fresh node whose statements may touch files of another folder.
    pub async fn with_files_under(folder: &std::path::Path) -> Node {
        let Node { engine, dir, clock, options } = Node::start().await;
        engine.shutdown().await;
        let files = FileAccess { root: folder.to_owned(), ..options.files.clone() };
        Self::open(dir, clock, EngineOptions { files, ..options }).await
    }

    /// A fresh node that reads files by `http://` from there.
    pub async fn with_plain_http(http: PlainHttp) -> Node {
        Self::with_files(|files| FileAccess { http, ..files }).await
    }

    /// A fresh node whose object stores are told this.
    pub async fn with_store_options(store_options: BTreeMap<String, String>) -> Node {
        Self::with_files(|files| FileAccess { store_options, ..files }).await
    }

    async fn with_files(change: impl FnOnce(FileAccess) -> FileAccess) -> Node {
        let Node { engine, dir, clock, options } = Node::start().await;
        engine.shutdown().await;
        let files = change(options.files.clone());
        Self::open(dir, clock, EngineOptions { files, ..options }).await
    }

    /// A node on a folder and a store.
    pub async fn start_on(dir: Arc<TempDir>, url: url::Url, store: Arc<dyn ObjectStore>) -> Node {
        let catalog: Arc<dyn Catalog> = Arc::new(SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap());
        let clock = ManualClock::at(1_700_000_000_000_000);
        let options = EngineOptions {
            data_dir: dir.path().to_owned(),
            catalog,
            store_url: url,
            store,
            log_engine: LogEngine::Disk,
            clock: Arc::new(clock.clone()),
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
            files: FileAccess { store_options: store_options(), ..FileAccess::under(dir.path()) },
        };
        Self::open(dir, clock, options).await
    }

    async fn open(dir: Arc<TempDir>, clock: ManualClock, options: EngineOptions) -> Node {
        let engine = Engine::open(options.clone()).await.unwrap();
        Node { engine, dir, clock, options }
    }

    /// A place beside the lake, in the same store.
    pub fn beside(&self, name: &str) -> String {
        self.options.store_url.join("..").and_then(|url| url.join(name)).unwrap().into()
    }

    /// How many files whose names end so lie in the lake's store under a folder: `lake`, or one beside it.
    pub async fn files_under(&self, folder: &str, end: &str) -> usize {
        let url = url::Url::parse(&self.beside(folder)).unwrap();
        let folder = Path::from_url_path(url.path()).unwrap();
        let files: Vec<_> = self.options.store.list(Some(&folder)).try_collect().await.unwrap();
        files.iter().filter(|file| file.location.as_ref().ends_with(end)).count()
    }

    /// The same folder, opened again after an orderly stop.
    pub async fn restart(self) -> Node {
        self.engine.shutdown().await;
        Self::open(self.dir, self.clock, self.options).await
    }

    /// The same folder, changed by `meanwhile` after an orderly stop, opened again.
    pub async fn restart_after(self, meanwhile: impl FnOnce(&std::path::Path)) -> Node {
        self.engine.shutdown().await;
        meanwhile(self.dir.path());
        Self::open(self.dir, self.clock, self.options).await
    }

    /// Runs a statement and gives its rows as a table of text.
    pub async fn ask(&self, sql: &str) -> Result<String, Error> {
        match self.engine.session().execute(sql).await? {
            Outcome::Rows { rows, .. } => {
                let batches: Vec<RecordBatch> = rows.try_collect().await?;
                Ok(pretty_format_batches(&batches).unwrap().to_string())
            }
            Outcome::Done { tag, .. } => Ok(tag),
            copy => panic!("{sql} wants a client: {copy:?}"),
        }
    }

    /// Runs a query of one number.
    pub async fn number(&self, sql: &str) -> i64 {
        let Outcome::Rows { rows, .. } = self.engine.session().execute(sql).await.unwrap() else {
            panic!("{sql} gives no rows")
        };
        let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
        let column = arrow::compute::cast(batches[0].column(0), &arrow::datatypes::DataType::Int64).unwrap();
        column.as_any().downcast_ref::<Int64Array>().unwrap().value(0)
    }

    /// Runs a query of one number that waits for a position.
    pub async fn number_after(&self, sql: &str, position: &PositionToken) -> i64 {
        let session = self.engine.session();
        let prepared = session.prepare(&session.parse(sql).unwrap()[0]).await.unwrap();
        let options = RunOptions { after: vec![position.clone()], ..RunOptions::default() };
        let Outcome::Rows { rows, .. } = session.run(&prepared, &[], options).await.unwrap() else {
            panic!("{sql} gives no rows")
        };
        let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
        let column = arrow::compute::cast(batches[0].column(0), &arrow::datatypes::DataType::Int64).unwrap();
        column.as_any().downcast_ref::<Int64Array>().unwrap().value(0)
    }

    /// A stream `s (id BIGINT, name TEXT)`.
    pub async fn create_s(&self, partitions: u32) {
        let by = if partitions > 1 { "PARTITION BY (id)" } else { "" };
        let sql = format!("CREATE STREAM s (id BIGINT, name TEXT) {by} WITH (partitions = {partitions})");
        self.ask(&sql).await.unwrap();
    }

    /// Appends rows with these ids to `s`.
    pub async fn write(&self, ids: std::ops::Range<i64>) -> Receipt {
        self.write_keyed(ids, None, vec![]).await.unwrap()
    }

    /// Appends rows with these ids to `s`, with a key and refused rows.
    pub async fn write_keyed(
        &self,
        ids: std::ops::Range<i64>,
        key: Option<&str>,
        refused: Vec<QuarantinedRow>,
    ) -> Result<Receipt, Error> {
        let stream = self.engine.stream(&ObjectName::public("s").unwrap())?;
        let schema = stream.definition().schema();
        let (content, rows) = (ids.start as u64, ids.clone().count());
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(ids.clone())),
            Arc::new(StringArray::from_iter_values(ids.map(|id| format!("n{id}")))),
        ];
        // Those that were added to the stream later.
        let more = schema.fields().iter().skip(2);
        columns.extend(more.map(|field| new_null_array(field.data_type(), rows)));
        let batch = RecordBatch::try_new(schema, columns).unwrap();
        let admitted = stream.admit(Rows { missing: vec![None; batch.num_columns()], batch })?;
        let key = key.map(|key| IdempotencyKey { key: key.to_owned(), content });
        stream.append(admitted.batch, refused, key).await
    }

    /// Moves what waits to the lake.
    pub async fn tier(&self) -> u64 {
        self.engine.tier(&ObjectName::public("s").unwrap()).await.unwrap()
    }
}
