//! Owns the catalog that lives in memory, for tests.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::objects::{KnownStream, Objects, Removal};
use crate::{Catalog, DroppedStream, DroppedView, ObjectId, Result, Stream, StreamId, View, ViewId};

/// A catalog that is gone with its process.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    streams: BTreeMap<StreamId, Stream>,
    views: BTreeMap<ViewId, View>,
    schemas: BTreeSet<String>,
    dropped_streams: Vec<DroppedStream>,
    dropped_views: Vec<DroppedView>,
}

impl Content {
    fn objects(&self) -> Objects {
        let known = |s: &Stream| KnownStream { id: s.id, kind: s.kind(), name: s.name.clone(), version: s.version };
        Objects {
            streams: self.streams.values().map(known).collect(),
            views: self.views.values().cloned().collect(),
            pending: self.dropped_streams.iter().map(|d| (d.id, d.name.clone())).collect(),
            schemas: self.schemas.iter().cloned().collect(),
        }
    }

    fn bury(&mut self, removal: Removal) {
        for id in removal.streams {
            let stream = self.streams.remove(&id);
            self.dropped_streams.extend(stream.map(|s| DroppedStream { id, name: s.folder() }));
        }
        removal.views.into_iter().for_each(|id| self.bury_view(id));
    }

    fn bury_view(&mut self, id: ViewId) {
        let view = self.views.remove(&id);
        self.dropped_views.extend(view.map(|v| DroppedView { id, name: v.name }));
    }
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
        let mut streams: Vec<_> = self.content.lock().streams.values().cloned().collect();
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(streams)
    }

    async fn create_stream(&self, stream: &Stream) -> Result<()> {
        let mut content = self.content.lock();
        if content.objects().check_new_stream(stream)? {
            content.dropped_streams.retain(|d| d.id != stream.id);
        }
        content.streams.insert(stream.id, stream.clone());
        Ok(())
    }

    async fn announce_stream(&self, stream: &Stream) -> Result<()> {
        let mut content = self.content.lock();
        content.objects().check_announced(stream)?;
        content.dropped_streams.push(DroppedStream { id: stream.id, name: stream.folder() });
        Ok(())
    }

    async fn alter_and_drop(&self, stream: &Stream, objects: &[ObjectId]) -> Result<()> {
        let mut content = self.content.lock();
        let there = content.objects();
        there.check_altered_stream(stream)?;
        let removal = there.removal(objects)?;
        content.bury(removal);
        content.streams.insert(stream.id, stream.clone());
        Ok(())
    }

    async fn list_dropped(&self) -> Result<Vec<DroppedStream>> {
        Ok(self.content.lock().dropped_streams.clone())
    }

    async fn forget_dropped(&self, id: StreamId) -> Result<()> {
        self.content.lock().dropped_streams.retain(|d| d.id != id);
        Ok(())
    }

    async fn schemas(&self) -> Result<Vec<String>> {
        Ok(self.content.lock().schemas.iter().cloned().collect())
    }

    async fn create_schema(&self, name: &str) -> Result<()> {
        let mut content = self.content.lock();
        content.objects().check_new_schema(name)?;
        content.schemas.insert(name.to_owned());
        Ok(())
    }

    async fn drop_schema(&self, name: &str) -> Result<()> {
        let mut content = self.content.lock();
        content.objects().check_dropped_schema(name)?;
        content.schemas.remove(name);
        Ok(())
    }

    async fn views(&self) -> Result<Vec<View>> {
        let mut views: Vec<_> = self.content.lock().views.values().cloned().collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(views)
    }

    async fn create_view(&self, view: &View) -> Result<()> {
        let mut content = self.content.lock();
        content.objects().check_new_view(view, None)?;
        content.views.insert(view.id, view.clone());
        Ok(())
    }

    async fn create_derived_stream(&self, stream: &Stream, view: &View) -> Result<()> {
        let mut content = self.content.lock();
        content.objects().check_new_view(view, Some(stream))?;
        content.streams.insert(stream.id, stream.clone());
        content.views.insert(view.id, view.clone());
        Ok(())
    }

    async fn alter_view(&self, view: &View) -> Result<()> {
        let mut content = self.content.lock();
        content.objects().check_altered_view(view)?;
        content.views.insert(view.id, view.clone());
        Ok(())
    }

    async fn swap_view(&self, old: ViewId, new: ViewId) -> Result<Vec<View>> {
        let mut content = self.content.lock();
        let changed = content.objects().swapped(old, new)?;
        content.bury_view(old);
        content.views.extend(changed.iter().map(|v| (v.id, v.clone())));
        Ok(changed)
    }

    async fn drop_objects(&self, objects: &[ObjectId]) -> Result<()> {
        let mut content = self.content.lock();
        let removal = content.objects().removal(objects)?;
        content.bury(removal);
        Ok(())
    }

    async fn list_dropped_views(&self) -> Result<Vec<DroppedView>> {
        Ok(self.content.lock().dropped_views.clone())
    }

    async fn forget_dropped_view(&self, id: ViewId) -> Result<()> {
        self.content.lock().dropped_views.retain(|d| d.id != id);
        Ok(())
    }
}
