//! Owns an object store that fails on demand; it is for tests, of this crate and of those above it.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It fails and nothing was done.
    Before,
    /// It is done, and reported as failed.
    After,
    /// It never returns.
    Hang,
}

#[derive(Debug, Default)]
struct Plan {
    /// Operations begun since the plan was made.
    begun: u64,
    /// Fail the operation of this number, counted from 1.
    at: Option<(u64, Failure)>,
    /// Fail every operation.
    outage: bool,
    fired: bool,
}

/// An object store that passes everything on, counts operations, and fails the one it was told to.
///
/// One call is one operation; of a multipart upload the start, each part and the completion are, of a deletion of
/// many objects each object is.
#[derive(Debug, Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
}

impl FaultStore {
    /// A store that does not fail yet.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Fails the `k`-th operation from now on, counted from 1, and none after it.
    pub fn fail_at(&self, k: u64, failure: Failure) {
        *self.plan.lock() = Plan { at: Some((k, failure)), ..Plan::default() };
    }

    /// Fails every operation, or none.
    pub fn set_outage(&self, outage: bool) {
        *self.plan.lock() = Plan { outage, ..Plan::default() };
    }

    /// Whether the failure that was asked for came.
    pub fn fired(&self) -> bool {
        self.plan.lock().fired
    }

    /// Operations since the store was made or last told what to do.
    pub fn operations(&self) -> u64 {
        self.plan.lock().begun
    }

    fn next(&self) -> Option<Failure> {
        let mut plan = self.plan.lock();
        plan.begun += 1;
        if plan.outage {
            plan.fired = true;
            return Some(Failure::Before);
        }
        let (at, failure) = plan.at?;
        if plan.begun != at {
            return None;
        }
        plan.fired = true;
        Some(failure)
    }

    async fn run<T, F: Future<Output = Result<T>>>(&self, work: F) -> Result<T> {
        match self.next() {
            None => work.await,
            Some(Failure::Before) => Err(injected()),
            Some(Failure::After) => {
                work.await?;
                Err(injected())
            }
            Some(Failure::Hang) => std::future::pending().await,
        }
    }
}

fn injected() -> Error {
    Error::Generic { store: "FaultStore", source: "injected failure".into() }
}

impl std::fmt::Display for FaultStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.run(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.run(self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(FaultUpload { upload, store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.run(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.run(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let one = futures::stream::iter([Ok(location.clone())]).boxed();
                    let inner = this.inner.clone();
                    this.run(async move {
                        let mut deleted = inner.delete_stream(one);
                        deleted.next().await.unwrap_or(Ok(location))
                    })
                    .await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.next() {
            None => self.inner.list(prefix),
            Some(Failure::Hang) => futures::stream::pending().boxed(),
            Some(_) => futures::stream::iter([Err(injected())]).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.next() {
            None => self.inner.list_with_offset(prefix, offset),
            Some(Failure::Hang) => futures::stream::pending().boxed(),
            Some(_) => futures::stream::iter([Err(injected())]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.run(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.run(self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.run(self.inner.rename_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultUpload {
    upload: Box<dyn MultipartUpload>,
    store: FaultStore,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let store = self.store.clone();
        let part = self.upload.put_part(data);
        Box::pin(async move { store.run(part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let store = self.store.clone();
        store.run(self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        let store = self.store.clone();
        store.run(self.upload.abort()).await
    }
}
