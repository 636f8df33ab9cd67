//! Owns what a LOCATION means: which store, and where in it. What may be touched is what files may be.

use std::sync::Arc;

use millstream_catalog::fault::Code;
use millstream_store::SyncedLocal;
use object_store::ObjectStore;
use url::{Position, Url};

use crate::engine::Shared;
use crate::files::folder;
use crate::{Error, Result};

/// Where a table of others lies.
pub(crate) struct Place {
    /// Its folder.
    pub(crate) url: Url,
    /// The whole file system or bucket.
    pub(crate) store: Arc<dyn ObjectStore>,
}

/// The place that a LOCATION names: `s3://…` and other stores, `file:///…`, or a path that begins at `files.root`.
pub(crate) fn place_of(shared: &Shared, location: &str) -> Result<Place> {
    let options = &shared.options;
    let bad = |reason: &dyn std::fmt::Display| {
        Error::rejected(Code::InvalidRequest, format!("LOCATION {location:?} names no place: {reason}"))
    };
    if location.contains("://") && !location.starts_with("file://") {
        let url = Url::parse(location).map_err(|e| bad(&e))?;
        if matches!(url.scheme(), "http" | "https") {
            return Err(bad(&"tables lie in folders, in s3://, gs:// and az://"));
        }
        // What the lake is told of its own bucket holds for its neighbours there.
        let store = match url[..Position::BeforePath] == options.store_url[..Position::BeforePath] {
            true => Arc::clone(&options.store),
            false => millstream_store::remote_store(&url, &options.files.store_options)?,
        };
        return Ok(Place { url, store });
    }
    let folder = folder(&options.files, location)?;
    let url = Url::from_directory_path(&folder).map_err(|()| bad(&"its path cannot be written as a URL"))?;
    let store: Arc<dyn ObjectStore> = match options.store_url.scheme() {
        "file" => Arc::clone(&options.store),
        _ => Arc::new(SyncedLocal::new()),
    };
    Ok(Place { url, store })
}

impl Place {
    /// Whether it lies where the lake keeps its own tables.
    pub(crate) fn is_in_lake(&self, shared: &Shared) -> bool {
        let lake = &shared.options.store_url;
        let same = self.url[..Position::BeforePath] == lake[..Position::BeforePath];
        let root = lake.path().trim_end_matches('/');
        let inside = self.url.path().strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        same && inside
    }
}
