//! Owns which files statements may touch: paths under the allowed root, and URLs of object stores.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt};
use glob::{MatchOptions, Pattern};
use millstream_catalog::fault::Code;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use twox_hash::XxHash64;
use url::{Host, Position, Url};

use super::failure::store_error;
use crate::{Error, Result};

/// The setting that says where files may lie.
const SETTING: &str = "files.root";

/// `*` does not cross folders; `**` does.
const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Which files statements may read and write.
#[derive(Debug, Clone)]
pub struct FileAccess {
    /// Local files must lie under this folder; relative paths begin here.
    pub root: PathBuf,
    /// What object stores are told: credentials, endpoints, regions.
    pub store_options: BTreeMap<String, String>,
    /// Which hosts `http://` may name, which is not encrypted.
    pub http: PlainHttp,
}

/// Which hosts files are read from without encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttp {
    /// None: it takes `https://`.
    #[default]
    Nowhere,
    /// This machine.
    Loopback,
    /// Any.
    Anywhere,
}

impl FileAccess {
    /// Files under a folder.
    pub fn under(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), store_options: BTreeMap::new(), http: PlainHttp::default() }
    }
}

/// A file that was found.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// How messages call it.
    pub(crate) name: String,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) store_url: ObjectStoreUrl,
    pub(crate) meta: ObjectMeta,
    fetched: Arc<AtomicU64>,
}

impl File {
    pub(super) fn new(name: String, store: Arc<dyn ObjectStore>, store_url: ObjectStoreUrl, meta: ObjectMeta) -> Self {
        Self { name, store, store_url, meta, fetched: Arc::default() }
    }

    /// How many of its bytes were fetched; those that were fetched twice count twice.
    pub(crate) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    pub(super) fn count_fetched(&self, bytes: usize) {
        self.fetched.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What tells this content of this file from any other: its place, size and version.
    pub(crate) fn identity(&self) -> String {
        let version = match &self.meta.e_tag {
            Some(tag) => tag.clone(),
            None => self.meta.last_modified.timestamp_micros().to_string(),
        };
        // What a server is asked beside the path may be a signature, which is another one each time.
        match self.is_web() {
            true => format!("{}\0{}\0{version}", self.name, self.meta.size),
            false => format!("{}{}\0{}\0{version}", self.store_url.as_str(), self.meta.location, self.meta.size),
        }
    }

    /// Whether a web server has it.
    pub(super) fn is_web(&self) -> bool {
        self.store_url.as_str().starts_with("http")
    }
}

/// The files that paths, URLs and patterns name: in the order given, those of a pattern by name.
pub(crate) async fn find(access: &FileAccess, runtime: &RuntimeEnv, patterns: &[String]) -> Result<Vec<File>> {
    let mut found = Vec::new();
    for pattern in patterns {
        match remote(pattern)? {
            Some(url) => found.extend(find_remote(access, runtime, pattern, &url).await?),
            None => found.extend(find_local(access, runtime, pattern).await?),
        }
    }
    Ok(found)
}

/// The store and the path there of a file that is to be written; for a local one, `Local` has its place.
pub(crate) enum Target {
    /// A path on this machine, under the root; its folder is there.
    Local(PathBuf),
    /// An object.
    Remote(Arc<dyn ObjectStore>, ObjectPath),
}

/// Where a file is to be written.
pub(crate) async fn target(access: &FileAccess, runtime: &RuntimeEnv, name: &str) -> Result<Target> {
    if let Some(url) = remote(name)? {
        if is_web(&url) {
            let message = format!("{name} cannot be written: files are written to paths and to s3://, gs:// and az://");
            return Err(Error::rejected(Code::Unsupported, message));
        }
        let (store, _) = store_of(access, runtime, &url)?;
        return Ok(Target::Remote(store, object_path(name, &url)?));
    }
    let root = root(access)?;
    let path = plain(&root.join(local_path(name)));
    let Some((folder, file)) = path.parent().zip(path.file_name()) else {
        return Err(Error::rejected(Code::InvalidRequest, format!("{name:?} is not the name of a file")));
    };
    if !path.starts_with(&root) {
        return Err(outside(name, &root));
    }
    tokio::fs::create_dir_all(folder).await.map_err(|e| unusable(name, &e))?;
    let folder = folder.canonicalize().map_err(|e| unusable(name, &e))?;
    if !folder.starts_with(&root) {
        return Err(outside(name, &root));
    }
    Ok(Target::Local(folder.join(file)))
}

/// Refuses a place that is a folder of this machine outside of the root.
pub(crate) fn check_folder(access: &FileAccess, place: &str) -> Result<()> {
    if !place.starts_with("file://") {
        return Ok(());
    }
    let root = root(access)?;
    let folder = plain(&root.join(local_path(place)));
    // Of a folder that is not there yet, the part that is there must be inside.
    let there = folder.ancestors().find_map(|path| path.canonicalize().ok());
    match there.is_some_and(|path| path.starts_with(&root)) && folder.starts_with(&root) {
        true => Ok(()),
        false => Err(outside(place, &root)),
    }
}

/// The URL, unless the text is a path.
fn remote(text: &str) -> Result<Option<Url>> {
    if !text.contains("://") || text.starts_with("file://") {
        return Ok(None);
    }
    match Url::parse(text) {
        Ok(url) => Ok(Some(url)),
        Err(e) => Err(Error::rejected(Code::InvalidRequest, format!("{text:?} is not a path or a URL: {e}"))),
    }
}

fn local_path(text: &str) -> &str {
    text.strip_prefix("file://").unwrap_or(text)
}

async fn find_local(access: &FileAccess, runtime: &RuntimeEnv, text: &str) -> Result<Vec<File>> {
    let root = root(access)?;
    let shown = text.to_owned();
    let (paths, relative) = tokio::task::spawn_blocking({
        let root = root.clone();
        move || local_paths(&root, &shown)
    })
    .await
    .map_err(|e| Error::rejected(Code::Internal, format!("listing {text:?} ended early: {e}")))??;
    let store_url = ObjectStoreUrl::local_filesystem();
    let store = runtime.object_store(&store_url).map_err(|e| Error::from_datafusion(e, ""))?;
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let shown = path.strip_prefix(&root).ok().filter(|_| relative).unwrap_or(&path).display().to_string();
        let location = ObjectPath::from_absolute_path(&path).map_err(|e| {
            Error::rejected(Code::InvalidRequest, format!("file {shown:?} has a name that cannot be used: {e}"))
        })?;
        let meta = store.head(&location).await.map_err(|e| store_error(&shown, &e))?;
        files.push(File::new(shown, Arc::clone(&store), store_url.clone(), meta));
    }
    Ok(files)
}

/// The files of a path or pattern, by name, and whether it was relative.
fn local_paths(root: &Path, text: &str) -> Result<(Vec<PathBuf>, bool)> {
    let given = Path::new(local_path(text));
    let full = plain(&root.join(given));
    if !full.starts_with(root) {
        // A path that leads to the root by another way, as /tmp does on some systems, is inside all the same.
        let inside = full.canonicalize().is_ok_and(|path| path.starts_with(root));
        if !inside {
            return Err(outside(text, root));
        }
    }
    let mut paths = Vec::new();
    if full.is_file() {
        paths.push(full);
    } else if is_pattern(local_path(text)) {
        let bad = |e: &dyn std::fmt::Display| {
            Error::rejected(Code::InvalidRequest, format!("{text:?} is not a pattern of files: {e}"))
        };
        let matches = glob::glob_with(&full.to_string_lossy(), MATCH).map_err(|e| bad(&e))?;
        for path in matches {
            let path = path.map_err(|e| bad(&e))?;
            if path.is_file() {
                paths.push(path);
            }
        }
    } else if full.is_dir() {
        return Err(is_a_folder(text));
    }
    if paths.is_empty() {
        return Err(missing(text, root));
    }
    for path in &mut paths {
        let real = path.canonicalize().map_err(|e| unusable(text, &e))?;
        if !real.starts_with(root) {
            return Err(outside(&path.display().to_string(), root));
        }
        *path = real;
    }
    Ok((paths, given.is_relative()))
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A folder under the root, which may not be there yet.
pub(crate) fn folder(access: &FileAccess, name: &str) -> Result<PathBuf> {
    let root = root(access)?;
    let full = plain(&root.join(local_path(name)));
    // What of it is there tells where it really lies.
    let there = full.ancestors().find(|path| path.exists()).unwrap_or(&full);
    let rest = full.strip_prefix(there).unwrap_or(Path::new(""));
    let real = there.canonicalize().map_err(|e| unusable(name, &e))?.join(rest);
    if real.starts_with(&root) { Ok(real) } else { Err(outside(name, &root)) }
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn root(access: &FileAccess) -> Result<PathBuf> {
    access.root.canonicalize().map_err(|e| {
        let root = access.root.display();
        Error::rejected(Code::IoError, format!("the folder {root} that {SETTING} allows cannot be used: {e}"))
    })
}

fn outside(name: &str, root: &Path) -> Error {
    Error::rejected(
        Code::Denied,
        format!("file {name:?} is outside of {}; the setting {SETTING} says where files may lie", root.display()),
    )
}

fn missing(name: &str, root: &Path) -> Error {
    let what = if is_pattern(name) { "no file matches" } else { "there is no file" };
    Error::rejected(
        Code::UndefinedFile,
        format!("{what} {name:?} under {}; paths begin there, as the setting {SETTING} says", root.display()),
    )
}

fn unusable(name: &str, error: &std::io::Error) -> Error {
    Error::rejected(Code::IoError, format!("file {name:?} cannot be used: {error}"))
}

async fn find_remote(access: &FileAccess, runtime: &RuntimeEnv, text: &str, url: &Url) -> Result<Vec<File>> {
    let (store, store_url) = store_of(access, runtime, url)?;
    let scheme_and_host = &url[..Position::BeforePath];
    let file = |meta: ObjectMeta| {
        let name = format!("{scheme_and_host}/{}", meta.location);
        File::new(name, Arc::clone(&store), store_url.clone(), meta)
    };
    let path = object_path(text, url)?;
    if is_web(url) {
        let shown = &url[..Position::AfterPath];
        return match store.head(&path).await {
            Ok(meta) => Ok(vec![file(meta)]),
            Err(object_store::Error::NotFound { .. }) if is_pattern(path.as_ref()) => {
                let message =
                    format!("{shown:?} is a pattern, and a web server does not tell its files: name each of them");
                Err(Error::rejected(Code::UndefinedFile, message))
            }
            Err(e) => Err(store_error(shown, &e)),
        };
    }
    if !is_pattern(path.as_ref()) {
        return match store.head(&path).await {
            Ok(meta) => Ok(vec![file(meta)]),
            Err(e) => Err(not_found(store.as_ref(), text, &path, e).await),
        };
    }
    let pattern = Pattern::new(path.as_ref())
        .map_err(|e| Error::rejected(Code::InvalidRequest, format!("{text:?} is not a pattern of files: {e}")))?;
    let fixed: Vec<&str> = path.as_ref().split('/').take_while(|part| !is_pattern(part)).collect();
    let prefix = ObjectPath::from(fixed.join("/"));
    let listed: Vec<ObjectMeta> = store.list(Some(&prefix)).try_collect().await.map_err(|e| store_error(text, &e))?;
    let mut found: Vec<ObjectMeta> =
        listed.into_iter().filter(|meta| pattern.matches_with(meta.location.as_ref(), MATCH)).collect();
    found.sort_by(|a, b| a.location.cmp(&b.location));
    if found.is_empty() {
        return Err(Error::rejected(Code::UndefinedFile, format!("no file matches {text:?}")));
    }
    Ok(found.into_iter().map(file).collect())
}

/// What is said of an object that is not there: it may be a folder.
async fn not_found(store: &dyn ObjectStore, text: &str, path: &ObjectPath, error: object_store::Error) -> Error {
    let missing = matches!(error, object_store::Error::NotFound { .. });
    let is_folder = missing && matches!(store.list(Some(path)).next().await, Some(Ok(_)));
    if is_folder { is_a_folder(text) } else { store_error(text, &error) }
}

fn is_a_folder(text: &str) -> Error {
    let message =
        format!("{text:?} is a folder: write which of its files, such as '{}/*.parquet'", text.trim_end_matches('/'));
    Error::rejected(Code::InvalidRequest, message)
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// Refuses what is not encrypted, unless it is allowed.
fn permit(access: &FileAccess, url: &Url) -> Result<()> {
    let is_here = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let permitted = match access.http {
        PlainHttp::Anywhere => true,
        PlainHttp::Loopback => is_here,
        PlainHttp::Nowhere => false,
    };
    if permitted || url.scheme() != "http" {
        return Ok(());
    }
    let message = format!(
        "{:?} is not encrypted: write https://, or let the setting files.http allow it, which is loopback or any",
        &url[..Position::AfterPath]
    );
    Err(Error::rejected(Code::Denied, message))
}

fn object_path(text: &str, url: &Url) -> Result<ObjectPath> {
    let refuse = |e: &dyn std::fmt::Display| {
        Error::rejected(Code::InvalidRequest, format!("{text:?} does not name a file: {e}"))
    };
    if is_web(url) {
        return ObjectPath::from_url_path(url.path()).map_err(|e| refuse(&e));
    }
    // Patterns are taken as they are written: a URL would have them escaped.
    let path = text.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    ObjectPath::parse(path).map_err(|e| refuse(&e))
}

/// The store of a URL: the one that is known for its host, or a new one.
fn store_of(access: &FileAccess, runtime: &RuntimeEnv, url: &Url) -> Result<(Arc<dyn ObjectStore>, ObjectStoreUrl)> {
    permit(access, url)?;
    let host = &url[..Position::BeforePath];
    let known = match url.query().filter(|_| is_web(url)) {
        // It goes with each request, so that it needs a store of its own.
        Some(query) => host.replacen("://", &format!("+{:x}://", XxHash64::oneshot(0, query.as_bytes())), 1),
        None => host.to_owned(),
    };
    let store_url = ObjectStoreUrl::parse(known).map_err(|e| Error::from_datafusion(e, ""))?;
    if let Ok(store) = runtime.object_store(&store_url) {
        return Ok((store, store_url));
    }
    let store = millstream_store::remote_store(url, &access.store_options)?;
    runtime.register_object_store(store_url.as_ref(), Arc::clone(&store));
    Ok((store, store_url))
}
