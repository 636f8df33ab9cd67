//! Owns how the catalog is kept: the contract, and its two implementations beside it.
//!
//! DDL is atomic with what it creates, without a transaction across folders, because the catalog alone decides what
//! exists:
//!
//! - CREATE makes the log's folder, named by the stream's id, before the row. A crash in between leaves a folder that
//!   no row names; the next start removes it.
//! - DROP turns the row into a tombstone in one transaction, then removes the log and the lake folder, then forgets
//!   the tombstone. A crash in between leaves a tombstone; the next start finishes the removal. Until then the name
//!   cannot be used again, since the lake folder carries it.

mod memory;
mod sqlite;

#[cfg(test)]
mod conformance;

pub use memory::MemoryCatalog;
pub use sqlite::SqliteCatalog;

use async_trait::async_trait;

use crate::{ObjectName, Result, Stream, StreamId};

/// A stream that was dropped and whose files may not be removed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedStream {
    /// The identity it had; its log lies in a folder of that name.
    pub id: StreamId,
    /// The name it had; its lake table lies in a folder of that name.
    pub name: ObjectName,
}

/// Keeps definitions. Each call is atomic and durable when it returns.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Every stream, by name.
    async fn streams(&self) -> Result<Vec<Stream>>;
    /// Adds a stream; fails with `AlreadyExists` when its name or id is taken, and with `DropUnfinished` while a
    /// dropped stream of its name is in [`Catalog::list_dropped`].
    async fn create_stream(&self, stream: &Stream) -> Result<()>;
    /// Replaces the definition whose version is `stream.version - 1`; fails with `Changed` when it is another, and
    /// with `NotFound` when there is none.
    async fn alter_stream(&self, stream: &Stream) -> Result<()>;
    /// Removes a stream's definition and lists it in [`Catalog::list_dropped`], both or neither.
    async fn drop_stream(&self, id: StreamId) -> Result<()>;
    /// Dropped streams whose files may not be removed yet, oldest first.
    async fn list_dropped(&self) -> Result<Vec<DroppedStream>>;
    /// Takes a stream off that list: its log and its lake folder are gone. Does nothing when it is not on it.
    async fn forget_dropped(&self, id: StreamId) -> Result<()>;
}
