//! Owns how the catalog is kept.

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{Result, Stream, StreamId};

/// Keeps definitions. Each call is atomic and durable when it returns.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Every stream, by name.
    async fn streams(&self) -> Result<Vec<Stream>>;
    /// Adds a stream; fails with `AlreadyExists` when its name is taken.
    async fn create_stream(&self, stream: &Stream) -> Result<()>;
    /// Replaces the definition whose version is `stream.version - 1`; fails with `Changed` when it is another.
    async fn alter_stream(&self, stream: &Stream) -> Result<()>;
    /// Removes a stream's definition.
    async fn drop_stream(&self, id: StreamId) -> Result<()>;
}
