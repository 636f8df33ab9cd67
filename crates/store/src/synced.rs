//! Owns durability on a local disk: an object store whose writes are on the disk when they are done.
//!
//! `LocalFileSystem` leaves what it writes in the page cache. Here, in this order:
//!
//! ```text
//! put         folders made, each synced in its parent → staging file written and synced → linked or renamed into
//!             place → its folder synced
//! multipart   … → each part written and synced → staging file synced → renamed into place → its folder synced
//! copy/rename … → done by the file system → the target's folder (and the source's) synced
//! list        the folder is synced first: what is seen in it is there to stay
//! ```
//!
//! A put that fails at the last step is taken back, so that nobody builds on a name that may be gone after a crash.
//! Parts are synced one by one so that a large file never leaves a large debt: on many file systems the fsync of any
//! other file, a log's for example, would have to wait for it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;

/// Staging files older than this belong to a process that died.
const STALE_STAGING: Duration = Duration::from_secs(3600);

/// What was synced, for those who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synced {
    /// A file's bytes.
    File(PathBuf),
    /// A folder's names.
    Folder(PathBuf),
}

type Watcher = Arc<dyn Fn(Synced) + Send + Sync>;

/// The local file system, with every write synced before it is reported done.
#[derive(Clone)]
pub struct SyncedLocal {
    inner: Arc<LocalFileSystem>,
    /// Folders whose own names are known to be on the disk.
    settled: Arc<Mutex<HashSet<PathBuf>>>,
    watcher: Option<Watcher>,
}

impl std::fmt::Debug for SyncedLocal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncedLocal")
    }
}

impl std::fmt::Display for SyncedLocal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncedLocal")
    }
}

impl Default for SyncedLocal {
    fn default() -> Self {
        Self::new()
    }
}

impl SyncedLocal {
    /// The whole local file system.
    pub fn new() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()), settled: Arc::default(), watcher: None }
    }

    /// The same, telling `watcher` of every sync, in order.
    pub fn watched(watcher: impl Fn(Synced) + Send + Sync + 'static) -> Self {
        Self { watcher: Some(Arc::new(watcher)), ..Self::new() }
    }

    /// Makes a folder and its parents, and syncs the names of those that this process has not seen synced.
    pub(crate) fn make_folder(&self, folder: &FsPath) -> std::io::Result<()> {
        if self.settled.lock().contains(folder) {
            return Ok(());
        }
        let parent = folder.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.make_folder(parent)?;
        }
        let made = match fs::create_dir(folder) {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(e),
        };
        match parent.map(|p| self.sync_folder(p)) {
            // What this process may not read, it did not make: its names are older.
            Some(Err(e)) if made || e.kind() != std::io::ErrorKind::PermissionDenied => return Err(e),
            _ => {}
        }
        self.settled.lock().insert(folder.to_owned());
        Ok(())
    }

    /// Removes staging files that a dead process left; they are invisible as objects, so nothing else would.
    pub(crate) fn sweep_staging(&self, folder: &FsPath) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.sweep_staging(&entry.path());
            } else if is_stale_staging(&entry)
                && let Err(e) = fs::remove_file(entry.path())
            {
                tracing::warn!(file = %entry.path().display(), error = %e, "cannot remove a stale staging file");
            }
        }
    }

    fn sync_file(&self, path: &FsPath, file: &File) -> std::io::Result<()> {
        file.sync_all()?;
        self.tell(|| Synced::File(path.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, folder: &FsPath) -> std::io::Result<()> {
        File::open(folder)?.sync_all()?;
        self.tell(|| Synced::Folder(folder.to_owned()));
        Ok(())
    }

    fn tell(&self, event: impl FnOnce() -> Synced) {
        if let Some(watcher) = &self.watcher {
            watcher(event());
        }
    }

    fn put(&self, target: &FsPath, payload: &PutPayload, mode: &PutMode) -> std::io::Result<()> {
        let folder = target.parent().unwrap_or(FsPath::new("/"));
        self.make_folder(folder)?;
        let staging = staging_path(target);
        let placed = self.stage(&staging, payload).and_then(|()| match mode {
            PutMode::Create => fs::hard_link(&staging, target),
            _ => fs::rename(&staging, target),
        });
        let unstaged = fs::remove_file(&staging);
        placed?;
        if let Err(e) = unstaged
            && matches!(mode, PutMode::Create)
        {
            tracing::debug!(file = %staging.display(), error = %e, "a staging file stays until the next start");
        }
        self.sync_folder(folder).inspect_err(|_| {
            if matches!(mode, PutMode::Create) {
                fs::remove_file(target).ok();
            }
        })
    }

    fn stage(&self, staging: &FsPath, payload: &PutPayload) -> std::io::Result<()> {
        let mut file = File::create_new(staging)?;
        payload.iter().try_for_each(|part| file.write_all(part))?;
        self.sync_file(staging, &file)
    }

    fn settle(&self, target: &FsPath) -> std::io::Result<()> {
        self.sync_file(target, &File::open(target)?)?;
        self.sync_folder(target.parent().unwrap_or(FsPath::new("/")))
    }

    fn local_path(&self, location: &Path) -> Result<PathBuf> {
        self.inner.path_to_filesystem(location)
    }

    /// Makes the target's folder, lets the file system do its work, and syncs the folders of both names.
    async fn place<F: Future<Output = Result<()>>>(&self, from: &Path, to: &Path, work: F) -> Result<()> {
        let (source, target) = (self.local_path(from)?, self.local_path(to)?);
        let this = self.clone();
        let folder = target.clone();
        blocking(to, move || this.make_folder(folder.parent().unwrap_or(FsPath::new("/")))).await?;
        work.await?;
        let this = self.clone();
        blocking(to, move || {
            this.settle(&target)?;
            match source.parent().filter(|p| Some(*p) != target.parent()) {
                Some(folder) => this.sync_folder(folder),
                None => Ok(()),
            }
        })
        .await
    }
}

/// A name beside the target that is no object name: `LocalFileSystem` hides names that end in `#` and digits.
fn staging_path(target: &FsPath) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!("#{}", uuid::Uuid::new_v4().as_u128()));
    target.with_file_name(name)
}

fn is_stale_staging(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let staging = name
        .to_str()
        .and_then(|n| n.rsplit_once('#'))
        .is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    let age = || SystemTime::now().duration_since(entry.metadata().ok()?.modified().ok()?).ok();
    staging && age().is_some_and(|age| age > STALE_STAGING)
}

/// Runs file system work off the async threads and names the object in its error.
async fn blocking<T: Send + 'static>(
    location: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|source| object_store::Error::JoinError { source })?;
    done.map_err(|source| {
        let path = location.to_string();
        match source.kind() {
            std::io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source: Box::new(source) },
            std::io::ErrorKind::NotFound => object_store::Error::NotFound { path, source: Box::new(source) },
            _ => object_store::Error::Generic { store: "SyncedLocal", source: Box::new(source) },
        }
    })
}

#[async_trait]
impl ObjectStore for SyncedLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) {
            return Err(object_store::Error::NotImplemented {
                operation: "put with mode Update".into(),
                implementer: self.to_string(),
            });
        }
        let target = self.local_path(location)?;
        let this = self.clone();
        blocking(location, move || this.put(&target, &payload, &opts.mode)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if !opts.attributes.is_empty() {
            return Err(object_store::Error::NotImplemented {
                operation: "multipart upload with attributes".into(),
                implementer: self.to_string(),
            });
        }
        let target = self.local_path(location)?;
        let staging = staging_path(&target);
        let (this, new) = (self.clone(), staging.clone());
        let file = blocking(location, move || {
            this.make_folder(new.parent().unwrap_or(FsPath::new("/")))?;
            File::create_new(&new)
        })
        .await?;
        let staging = Staging { path: staging };
        let location = location.clone();
        Ok(Box::new(SyncedUpload { store: self.clone(), location, target, staging, file: Arc::new(file), end: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        if let Some(prefix) = prefix {
            let folder = self.local_path(prefix)?;
            let this = self.clone();
            blocking(prefix, move || match this.sync_folder(&folder) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                synced => synced,
            })
            .await?;
        }
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.place(from, to, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.place(from, to, self.inner.rename_opts(from, to, options)).await
    }
}

/// A multipart upload: parts go to their places in a staging file.
#[derive(Debug)]
struct SyncedUpload {
    store: SyncedLocal,
    location: Path,
    target: PathBuf,
    staging: Staging,
    file: Arc<File>,
    end: u64,
}

/// A staging file's name; the file goes with it unless it was renamed.
#[derive(Debug)]
struct Staging {
    path: PathBuf,
}

impl Drop for Staging {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.end;
        self.end += data.content_length() as u64;
        let (file, location) = (self.file.clone(), self.location.clone());
        Box::pin(async move {
            blocking(&location, move || {
                for piece in &data {
                    file.write_all_at(piece, offset)?;
                    offset += piece.len() as u64;
                }
                file.sync_data()
            })
            .await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (store, target, file) = (self.store.clone(), self.target.clone(), self.file.clone());
        let staging = self.staging.path.clone();
        blocking(&self.location, move || {
            store.sync_file(&target, &file)?;
            fs::rename(staging, &target)?;
            store.sync_folder(target.parent().unwrap_or(FsPath::new("/")))
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let staging = self.staging.path.clone();
        blocking(&self.location, move || fs::remove_file(staging)).await
    }
}
