//! Owns the catalog that lives in memory, for tests.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{Catalog, DroppedStream, Error, ObjectName, Result, Stream, StreamId};

/// A catalog that is gone with its process.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    streams: BTreeMap<ObjectName, Stream>,
    dropped: Vec<DroppedStream>,
}

impl MemoryCatalog {
    /// An empty catalog.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn streams(&self) -> Result<Vec<Stream>> {
        Ok(self.content.lock().streams.values().cloned().collect())
    }

    async fn create_stream(&self, stream: &Stream) -> Result<()> {
        let mut content = self.content.lock();
        if content.dropped.iter().any(|d| d.name == stream.name) {
            return Err(Error::DropUnfinished { name: stream.name.to_string() });
        }
        if content.streams.values().any(|s| s.name == stream.name || s.id == stream.id) {
            return Err(Error::AlreadyExists { kind: "stream", name: stream.name.to_string() });
        }
        content.streams.insert(stream.name.clone(), stream.clone());
        Ok(())
    }

    async fn alter_stream(&self, stream: &Stream) -> Result<()> {
        let mut content = self.content.lock();
        let Some(old) = content.streams.values().find(|s| s.id == stream.id).cloned() else {
            return Err(Error::NotFound { kind: "stream", name: stream.name.to_string() });
        };
        if old.version.checked_add(1) != Some(stream.version) {
            return Err(Error::Changed { name: stream.name.to_string() });
        }
        if old.name != stream.name {
            let taken = content.streams.contains_key(&stream.name);
            if taken {
                return Err(Error::AlreadyExists { kind: "stream", name: stream.name.to_string() });
            }
            content.streams.remove(&old.name);
        }
        content.streams.insert(stream.name.clone(), stream.clone());
        Ok(())
    }

    async fn drop_stream(&self, id: StreamId) -> Result<()> {
        let mut content = self.content.lock();
        let Some(name) = content.streams.values().find(|s| s.id == id).map(|s| s.name.clone()) else {
            return Err(Error::NotFound { kind: "stream", name: id.to_string() });
        };
        content.streams.remove(&name);
        content.dropped.push(DroppedStream { id, name });
        Ok(())
    }

    async fn list_dropped(&self) -> Result<Vec<DroppedStream>> {
        Ok(self.content.lock().dropped.clone())
    }

    async fn forget_dropped(&self, id: StreamId) -> Result<()> {
        self.content.lock().dropped.retain(|d| d.id != id);
        Ok(())
    }
}
