//! Owns where the lake of a crash test lies: in a folder, or in a bucket of an S3 that the tests start.

use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use millstream_store::store_from_url;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use crate::servers::{KEY, S3Server};
use crate::support::{RESTLESS, Setup};

/// Where tables lie: the lake's, and those of others beside it.
#[derive(Debug)]
pub enum Place {
    /// In this folder.
    Folder(PathBuf),
    /// In this bucket.
    Bucket { server: &'static S3Server, bucket: String },
}

/// A Delta table in a folder.
#[derive(Debug)]
pub struct TableFolder {
    /// The folder.
    pub path: PathBuf,
    /// What the folder lies in when it is a copy; it goes with this.
    _copy: Option<TempDir>,
}

impl Place {
    /// A fresh bucket, or `None`, said loudly, where there is no S3 server.
    pub fn bucket(test: &str) -> Option<Place> {
        let server = S3Server::shared(test)?;
        Some(Place::Bucket { server, bucket: server.new_bucket() })
    }

    /// The URL of a folder there.
    pub fn url(&self, folder: &str) -> String {
        match self {
            Place::Folder(root) => format!("file://{}/{folder}", root.display()),
            Place::Bucket { bucket, .. } => format!("s3://{bucket}/{folder}"),
        }
    }

    /// A restless node whose data lie in `dir`, and its lake in a folder here.
    pub fn setup(&self, dir: &Path, lake: &str) -> Setup {
        std::fs::create_dir_all(dir).expect("a folder is made");
        let setup = Setup::new(dir, RESTLESS).with("MILLSTREAM_STORE_URL", self.url(lake));
        match self {
            Place::Folder(root) => setup.with("MILLSTREAM_FILES_ROOT", root.display().to_string()),
            Place::Bucket { server, .. } => {
                let keys = [("AWS_ACCESS_KEY_ID", KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", KEY.to_owned())];
                server.variables().into_iter().chain(keys).fold(setup, |setup, (name, value)| setup.with(name, value))
            }
        }
    }

    /// How long a node lives at most, in most rounds and in some, in milliseconds: S3 is slower than a disk.
    pub fn lives_ms(&self) -> (u64, u64) {
        match self {
            Place::Folder(_) => (700, 2500),
            Place::Bucket { .. } => (1500, 4000),
        }
    }

    /// A table as it is now.
    pub async fn table(&self, folder: &str) -> TableFolder {
        match self {
            Place::Folder(root) => TableFolder { path: root.join(folder), _copy: None },
            Place::Bucket { server, .. } => {
                let copy = tempfile::tempdir().expect("a folder");
                let (url, store) = store_from_url(&self.url(folder), &server.options()).expect("the place has a store");
                let prefix = object_store::path::Path::from_url_path(url.path()).expect("it is a path");
                let path = copy.path().join(prefix.as_ref());
                download(&*store, &prefix, copy.path()).await.expect("the bucket can be read");
                TableFolder { path, _copy: Some(copy) }
            }
        }
    }
}

async fn download(store: &dyn ObjectStore, prefix: &object_store::path::Path, to: &Path) -> object_store::Result<()> {
    let mut objects = store.list(Some(prefix));
    while let Some(object) = objects.try_next().await? {
        let file = to.join(object.location.as_ref());
        std::fs::create_dir_all(file.parent().expect("it lies in a folder")).expect("a folder is made");
        std::fs::write(file, store.get(&object.location).await?.bytes().await?).expect("the copy is written");
    }
    Ok(())
}
