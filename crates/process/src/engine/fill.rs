//! Owns the making of a table with its rows: it is there with all of them, or not at all.
//!
//! The catalog lists the table among those that were dropped before anything is made of it, and turns that into the
//! table when its rows are durable. So whatever ends the statement before, a crash too, leaves a table whose files are
//! removed like a dropped one's.

use std::sync::Arc;

use futures::stream::BoxStream;
use millstream_catalog::{Stream, StreamId};
use uuid::Uuid;

use super::Shared;
use super::objects::PRODUCER_KEYS;
use crate::ddl::StreamDraft;
use crate::stream::OpenStream;
use crate::tables::insert;
use crate::{Result, Rows};

/// Keeps the files of a table that is being filled from being removed, until this is dropped.
pub(super) struct Filling {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Filling {
    pub(super) fn begin(shared: &Arc<Shared>, id: StreamId) -> Self {
        shared.filling.lock().insert(id);
        Self { shared: Arc::clone(shared), id }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.shared.filling.lock().remove(&self.id);
        // What was not made in the end is removed.
        self.shared.cleanup_now.notify_one();
    }
}

impl Shared {
    /// Whether a table is being filled that is not there yet.
    pub(crate) fn is_filling(&self, id: StreamId) -> bool {
        self.filling.lock().contains(&id)
    }

    /// Creates a table with these rows. Returns how many there are.
    pub(crate) async fn create_filled_table(
        self: &Arc<Self>,
        draft: StreamDraft,
        rows: BoxStream<'_, Result<Rows>>,
    ) -> Result<u64> {
        let id = StreamId(Uuid::now_v7());
        let _filling = Filling::begin(self, id);
        let table = self.announce_table(draft, id).await?;
        let definition = self.define(table.clone())?;
        let log = self.open_log(&definition, PRODUCER_KEYS).await?;
        let open = Arc::new(OpenStream::new(definition, log, self.closing.child_token()));
        let filled = insert(self, &open, rows, None).await.map(|applied| applied.come);
        self.make_or_discard(&table, open, filled).await
    }

    /// Makes an announced table one of the catalog's now that it is filled; where that failed, removes what there is
    /// of it.
    pub(super) async fn make_or_discard<T>(
        self: &Arc<Self>,
        table: &Stream,
        open: Arc<OpenStream>,
        filled: Result<T>,
    ) -> Result<T> {
        let _ddl = self.ddl.lock().await;
        let made = match filled.and_then(|filled| self.check_schema(&table.name).map(|()| filled)) {
            Ok(filled) => self.options.catalog.create_stream(table).await.map(|()| filled).map_err(Into::into),
            Err(error) => Err(error),
        };
        match made {
            Ok(filled) => {
                self.attach_open(open);
                Ok(filled)
            }
            Err(error) => {
                // The name is free again when the statement ends.
                self.discard_stream(&open).await;
                Err(error)
            }
        }
    }

    pub(super) async fn announce_table(&self, draft: StreamDraft, id: StreamId) -> Result<Stream> {
        let _ddl = self.ddl.lock().await;
        let name = draft.name.clone();
        self.check_schema(&name)?;
        if let Some(kind) = self.kind_of(&name) {
            return Err(millstream_catalog::Error::AlreadyExists { kind, name: name.to_string() }.into());
        }
        let mut table = draft.into_stream(id, self.options.clock.now_us() / 1000)?;
        self.settle_folder(&mut table).await?;
        self.check_places(&table)?;
        self.options.catalog.announce_stream(&table).await?;
        Ok(table)
    }
}
