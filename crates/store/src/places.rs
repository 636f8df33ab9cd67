//! Owns the stores that a lake's files may lie in beside its own, as one store.
//!
//! A Delta table's file is an object in the table's folder, or one that its URL names. Objects of the lake's own store
//! go by their path; those of another by the path that [`Places::path_of`] gives for their URL:
//!
//! ```text
//! s3://archive/old/part-1.parquet   →   s3:/archive/old/part-1.parquet
//! file:///srv/old/part-1.parquet    →   file:/-/srv/old/part-1.parquet      (where the lake is on an object store)
//! ```

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;
use url::Url;

use crate::location::remote_store;
use crate::synced::SyncedLocal;

/// The schemes of other stores.
const SCHEMES: [&str; 8] = ["file", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss"];
/// Stands for the host of a URL that has none.
const NO_HOST: &str = "-";

/// A lake's store, and the others that its files lie in. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    own: Arc<dyn ObjectStore>,
    /// What URLs of the own store begin with: scheme and host.
    own_url: String,
    /// What other stores are told: credentials, endpoints.
    options: Arc<BTreeMap<String, String>>,
    others: Arc<Mutex<HashMap<String, Arc<dyn ObjectStore>>>>,
}

/// Where an object lies.
struct Place {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// What stands before the path for it to name its store; empty for the own one.
    prefix: String,
}

impl Places {
    /// The lake at `url` alone.
    pub fn new(url: &Url, own: Arc<dyn ObjectStore>) -> Self {
        let own_url = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        Self { own, own_url, options: Arc::default(), others: Arc::default() }
    }

    /// The same, with what other stores are told.
    pub fn with_options(self, options: BTreeMap<String, String>) -> Self {
        Self { options: Arc::new(options), ..self }
    }

    /// The path of the object that a URL names.
    pub fn path_of(own_url: &str, url: &str) -> Result<Path, object_store::path::Error> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("file", url));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if own_url.split_once("://") == Some((scheme, host)) {
            return Path::parse(path);
        }
        Path::parse(format!("{scheme}:/{}/{path}", if host.is_empty() { NO_HOST } else { host }))
    }

    /// What URLs of the own store begin with.
    pub fn own_url(&self) -> &str {
        &self.own_url
    }

    fn place(&self, location: &Path) -> Result<Place> {
        let own = || Place { store: self.own.clone(), path: location.clone(), prefix: String::new() };
        let mut parts = location.as_ref().splitn(3, '/');
        let (Some(first), Some(host)) = (parts.next(), parts.next()) else { return Ok(own()) };
        let Some(scheme) = first.strip_suffix(':').filter(|s| SCHEMES.contains(s)) else { return Ok(own()) };
        let path = Path::parse(parts.next().unwrap_or_default())?;
        let store = self.other(scheme, host)?;
        Ok(Place { store, path, prefix: format!("{first}/{host}") })
    }

    fn other(&self, scheme: &str, host: &str) -> Result<Arc<dyn ObjectStore>> {
        let url = format!("{scheme}://{}/", if host == NO_HOST { "" } else { host });
        let mut others = self.others.lock();
        if let Some(store) = others.get(&url) {
            return Ok(store.clone());
        }
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Generic { store: "Places", source };
        let store: Arc<dyn ObjectStore> = match scheme {
            "file" => Arc::new(SyncedLocal::new()),
            _ => {
                let parsed = Url::parse(&url).map_err(|e| unusable(e.into()))?;
                remote_store(&parsed, &self.options).map_err(|e| unusable(e.into()))?
            }
        };
        others.insert(url, store.clone());
        Ok(store)
    }
}

impl Place {
    /// A path in the place's store as it is called here.
    fn called(prefix: &str, path: &Path) -> Path {
        if prefix.is_empty() {
            path.clone()
        } else {
            Path::from_iter(prefix.split('/').chain(path.as_ref().split('/')))
        }
    }

    fn meta(prefix: &str, meta: ObjectMeta) -> ObjectMeta {
        ObjectMeta { location: Self::called(prefix, &meta.location), ..meta }
    }

    fn listed(self, list: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = self.prefix;
        if prefix.is_empty() {
            return list;
        }
        list.map(move |meta| meta.map(|meta| Self::meta(&prefix, meta))).boxed()
    }
}

fn failed<T: Send + 'static>(error: Error) -> BoxStream<'static, Result<T>> {
    futures::stream::iter([Err(error)]).boxed()
}

impl std::fmt::Display for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Places({})", self.own)
    }
}

#[async_trait]
impl ObjectStore for Places {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let Place { store, path, .. } = self.place(location)?;
        store.put_opts(&path, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let Place { store, path, .. } = self.place(location)?;
        store.put_multipart_opts(&path, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let Place { store, path, prefix } = self.place(location)?;
        let found = store.get_opts(&path, options).await?;
        Ok(GetResult { meta: Place::meta(&prefix, found.meta), ..found })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let Place { store, path, .. } = self.place(location)?;
        store.get_ranges(&path, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let sorted = async move {
            let (mut own, mut others) = (Vec::new(), Vec::new());
            let mut locations = locations;
            while let Some(location) = locations.next().await {
                let place = location.and_then(|location| Ok((this.place(&location)?, location)));
                match place {
                    Ok((place, location)) if place.prefix.is_empty() => own.push(Ok(location)),
                    other => others.push(other),
                }
            }
            let others = futures::stream::iter(others).then(|other| async move {
                let (Place { store, path, .. }, location) = other?;
                store.delete(&path).await.map(|()| location)
            });
            this.own.delete_stream(futures::stream::iter(own).boxed()).chain(others)
        };
        futures::stream::once(sorted).flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let Some(prefix) = prefix else { return self.own.list(None) };
        match self.place(prefix) {
            Ok(place) => {
                let list = place.store.list(Some(&place.path));
                place.listed(list)
            }
            Err(e) => failed(e),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let Some(prefix) = prefix else { return self.own.list_with_offset(None, offset) };
        match self.place(prefix).and_then(|place| Ok((place, self.place(offset)?.path))) {
            Ok((place, offset)) => {
                let list = place.store.list_with_offset(Some(&place.path), &offset);
                place.listed(list)
            }
            Err(e) => failed(e),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let Some(location) = prefix else { return self.own.list_with_delimiter(None).await };
        let Place { store, path, prefix } = self.place(location)?;
        let found = store.list_with_delimiter(Some(&path)).await?;
        Ok(ListResult {
            common_prefixes: found.common_prefixes.iter().map(|path| Place::called(&prefix, path)).collect(),
            objects: found.objects.into_iter().map(|meta| Place::meta(&prefix, meta)).collect(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        if from.prefix != to.prefix {
            return Err(Error::NotSupported { source: "objects are not copied from one store to another".into() });
        }
        from.store.copy_opts(&from.path, &to.path, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        if from.prefix != to.prefix {
            return Err(Error::NotSupported { source: "objects are not moved from one store to another".into() });
        }
        from.store.rename_opts(&from.path, &to.path, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_the_lake_s_own_store_is_a_path_in_it_and_another_names_its_store() {
        let path = |own: &str, url: &str| Places::path_of(own, url).unwrap().to_string();
        assert_eq!(path("s3://lake", "s3://lake/a/b.parquet"), "a/b.parquet");
        assert_eq!(path("s3://lake", "s3://archive/a/b.parquet"), "s3:/archive/a/b.parquet");
        assert_eq!(path("file://", "file:///srv/b.parquet"), "srv/b.parquet");
        assert_eq!(path("s3://lake", "file:///srv/b.parquet"), "file:/-/srv/b.parquet");
    }

    #[tokio::test]
    async fn objects_of_another_store_are_written_listed_read_and_deleted_by_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        let own: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let places = Places::new(&Url::parse("memory:///lake/").unwrap(), own);
        let url = format!("file://{}/x/a.txt", folder.path().display());
        let there = Places::path_of(places.own_url(), &url).unwrap();
        let here = Path::from("lake/a.txt");
        for path in [&here, &there] {
            places.put(path, "text".into()).await.unwrap();
            assert_eq!(places.get(path).await.unwrap().bytes().await.unwrap(), "text");
        }
        assert!(folder.path().join("x/a.txt").is_file());
        let within = Places::path_of(places.own_url(), &format!("file://{}", folder.path().display())).unwrap();
        let listed: Vec<Path> = places.list(Some(&within)).map(|meta| meta.unwrap().location).collect().await;
        assert_eq!(listed, std::slice::from_ref(&there));
        let both = futures::stream::iter([Ok(there.clone()), Ok(here.clone())]).boxed();
        let deleted: Vec<Path> = places.delete_stream(both).map(Result::unwrap).collect().await;
        assert_eq!(deleted, [here.clone(), there.clone()]);
        assert!(!folder.path().join("x/a.txt").exists());
        assert!(places.get(&here).await.is_err());
    }
}
