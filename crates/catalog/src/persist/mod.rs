//! Owns how the catalog is kept: the contract, and its two implementations beside it.
//!
//! DDL is atomic with what it creates, without a transaction across folders, because the catalog alone decides what
//! exists:
//!
//! - CREATE makes the log's folder, named by the stream's id, before the row. A crash in between leaves a folder that
//!   no row names; the next start removes it.
//! - DROP turns the row into a tombstone in one transaction, then removes the log and the lake folder, then forgets
//!   the tombstone. A crash in between leaves a tombstone; the next start finishes the removal. Until then the name
//!   cannot be used again, since the lake folder carries it. A view's folders carry its id alone, so its name is free
//!   at once.
//!
//! Streams and views share one namespace. A derived stream is a stream and the view that writes it, two rows under one
//! name that come and go together. What a view reads is there as long as the view is.

mod memory;
mod objects;
mod sqlite;

#[cfg(test)]
mod conformance;

pub use memory::MemoryCatalog;
pub use sqlite::SqliteCatalog;

use async_trait::async_trait;

use crate::{ObjectId, ObjectName, Result, Stream, StreamId, View, ViewId};

/// A stream that was dropped and whose files may not be removed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedStream {
    /// The identity it had; its log lies in a folder of that name.
    pub id: StreamId,
    /// The name of the folder in which its lake table lies: the one it had, unless it was renamed.
    pub name: ObjectName,
}

/// A view that was dropped and whose files may not be removed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedView {
    /// The identity it had; its state and changelog lie in folders of that name.
    pub id: ViewId,
    /// The name it had; another view may have it by now.
    pub name: ObjectName,
}

/// Keeps definitions. Each call is atomic and durable when it returns.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Every stream, by name; derived ones are among them.
    async fn streams(&self) -> Result<Vec<Stream>>;
    /// Adds a stream; fails with `AlreadyExists` when its name or id is taken, and with `DropUnfinished` while a
    /// dropped stream of its name is in [`Catalog::list_dropped`].
    async fn create_stream(&self, stream: &Stream) -> Result<()>;
    /// Lists a stream in [`Catalog::list_dropped`] before it is there, so that what is made of it is removed if it never
    /// comes; [`Catalog::create_stream`] takes it off that list. Fails as that does.
    async fn announce_stream(&self, stream: &Stream) -> Result<()>;
    /// Replaces the definition whose version is `stream.version - 1`; fails with `Changed` when it is another, and
    /// with `NotFound` when there is none. A derived stream keeps its name and its columns.
    async fn alter_stream(&self, stream: &Stream) -> Result<()> {
        self.alter_and_drop(stream, &[]).await
    }
    /// [`Catalog::alter_stream`] and [`Catalog::drop_objects`] of what does not go with the new definition, both or
    /// neither.
    async fn alter_and_drop(&self, stream: &Stream, objects: &[ObjectId]) -> Result<()>;
    /// [`Catalog::drop_objects`] of one stream.
    async fn drop_stream(&self, id: StreamId) -> Result<()> {
        self.drop_objects(&[ObjectId::Stream(id)]).await
    }
    /// Dropped streams whose files may not be removed yet, oldest first.
    async fn list_dropped(&self) -> Result<Vec<DroppedStream>>;
    /// Takes a stream off that list: its log and its lake folder are gone. Does nothing when it is not on it.
    async fn forget_dropped(&self, id: StreamId) -> Result<()>;

    /// The schemas that were created, by name; [`crate::DEFAULT_SCHEMA`] and the platform's own are not among them.
    async fn schemas(&self) -> Result<Vec<String>>;
    /// Adds a schema; fails with `AlreadyExists` when there is one of that name.
    async fn create_schema(&self, name: &str) -> Result<()>;
    /// Removes a schema; fails with `NotFound` when there is none, with `InUse` while something lies in it, and with
    /// `DropUnfinished` while a dropped stream of it is in [`Catalog::list_dropped`].
    async fn drop_schema(&self, name: &str) -> Result<()>;

    /// Every view, by name: materialized and plain ones, and those that write derived streams.
    async fn views(&self) -> Result<Vec<View>>;
    /// Adds a materialized or plain view; fails as [`Catalog::create_stream`] does, with `NotFound` when something it reads is
    /// gone, and with `InvalidDefinition` when it cannot replace what it is to replace.
    async fn create_view(&self, view: &View) -> Result<()>;
    /// Adds a stream and the view that writes it, both or neither; fails as [`Catalog::create_view`] does.
    async fn create_derived_stream(&self, stream: &Stream, view: &View) -> Result<()>;
    /// Replaces the definition whose version is `view.version - 1`, but for its query and what it reads, which a plain
    /// view alone can change, as long as nothing that keeps rows reads it; fails as
    /// [`Catalog::alter_stream`] does, and with `InUse` when it would be renamed under its readers.
    async fn alter_view(&self, view: &View) -> Result<()>;
    /// Gives `new` the name and the place of `old`, which is dropped: what reads `old` reads `new` from then on.
    /// Fails with `InvalidDefinition` when `new` is no replacement for `old` or lacks columns that readers need.
    /// Returns the definitions that changed: `new` under its name, then those of the readers.
    async fn swap_view(&self, old: ViewId, new: ViewId) -> Result<Vec<View>>;
    /// [`Catalog::drop_objects`] of one view.
    async fn drop_view(&self, id: ViewId) -> Result<()> {
        self.drop_objects(&[ObjectId::View(id)]).await
    }
    /// Removes these definitions and lists them in [`Catalog::list_dropped`] and [`Catalog::list_dropped_views`], all
    /// or none. A derived stream goes with its view, named by either. Fails with `InUse` while a view that is not
    /// among them reads one of them, and with `NotFound` when one is not there.
    async fn drop_objects(&self, objects: &[ObjectId]) -> Result<()>;
    /// Dropped views whose files may not be removed yet, oldest first.
    async fn list_dropped_views(&self) -> Result<Vec<DroppedView>>;
    /// Takes a view off that list: its folders are gone. Does nothing when it is not on it.
    async fn forget_dropped_view(&self, id: ViewId) -> Result<()>;
}
