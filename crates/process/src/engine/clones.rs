//! Owns the making of clones: tables of their own that begin with the files of another, of which none is copied.
//!
//! A clone comes as a table that is made with its rows does (`fill.rs`): it is announced, gets its files, and is in the
//! catalog last, so that what a failure or a crash leaves is removed like a dropped table's.

use std::sync::Arc;

use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectName, StreamId};
use uuid::Uuid;

use super::Shared;
use super::fill::Filling;
use super::objects::PRODUCER_KEYS;
use crate::background::{open_table, tier_once};
use crate::ddl::{clone_draft, is_temporary};
use crate::external::refuse_others;
use crate::stream::OpenStream;
use crate::tables::{AsOf, TableSnapshot, follow_hot, snapshot_as_of};
use crate::{Error, Result};

impl Shared {
    /// Creates a table that begins as another is, or was at a point of its history. Returns false when something has
    /// the name and `if_not_exists` is set.
    pub(crate) async fn clone_table(
        self: &Arc<Self>,
        name: &ObjectName,
        source: &ObjectName,
        point: Option<AsOf>,
        if_not_exists: bool,
    ) -> Result<bool> {
        if if_not_exists && self.kind_of(name).is_some() {
            return Ok(false);
        }
        if [name, source].into_iter().any(is_temporary) {
            return Err(Error::Rejected {
                code: Code::Unsupported,
                message: "a temporary table has no files that another could share".to_owned(),
                hint: Some(format!("CREATE TEMP TABLE … AS SELECT * FROM {source} copies its rows")),
                position: None,
            });
        }
        let source = self.cloneable(source)?;
        let id = StreamId(Uuid::now_v7());
        let _filling = Filling::begin(self, id);
        let draft = clone_draft(&source.definition().stream, name.clone());
        let table = self.announce_table(draft, id).await?;
        let definition = self.define(table.clone())?;
        let log = self.open_log(&definition, PRODUCER_KEYS).await?;
        let open = Arc::new(OpenStream::new(definition, log, self.closing.child_token()));
        let filled = self.fill_clone(&open, &source, point).await;
        self.make_or_discard(&table, open, filled).await.map(|()| true)
    }

    /// The table of that name, if it can be cloned.
    fn cloneable(&self, name: &ObjectName) -> Result<Arc<OpenStream>> {
        let kind = self.kind_of(name);
        match kind {
            Some("table") | None => {
                let table = self.table(name, "CLONE")?;
                let instead = format!("CREATE TABLE … AS SELECT * FROM {name} copies its rows");
                refuse_others(&table, "tables in the lake alone are cloned", instead)?;
                Ok(table)
            }
            Some(kind) => Err(Error::Rejected {
                code: Code::WrongObjectType,
                message: format!("{name} is a {kind}: tables alone are cloned"),
                hint: Some(format!("CREATE TABLE … AS SELECT * FROM {name} copies its rows")),
                position: None,
            }),
        }
    }

    /// Gives a clone its source's files, and what came and went since they were written.
    async fn fill_clone(
        self: &Arc<Self>,
        clone: &Arc<OpenStream>,
        source: &Arc<OpenStream>,
        point: Option<AsOf>,
    ) -> Result<()> {
        if point.is_none() {
            // All that was acknowledged is in the lake from here on.
            tier_once(self, source).await?;
        }
        let then = {
            // A dropped table's files go when this lock is free.
            let _still_there = source.tier_lock.lock().await;
            if source.closing.is_cancelled() {
                let name = source.name().to_string();
                return Err(millstream_catalog::Error::NotFound { kind: "table", name }.into());
            }
            let then = match point {
                None => None,
                Some(point) => Some(snapshot_as_of(self, source, point).await?),
            };
            let (table, lake) = match &then {
                Some(TableSnapshot { table, lake, .. }) => (table.clone(), Arc::clone(lake)),
                None => {
                    let table = open_table(self, source).await?;
                    let lake = table.snapshot();
                    (table, lake)
                }
            };
            self.lake.clone_table(&table, &lake, &clone.definition().stream.folder(), clone.id()).await?;
            then
        };
        match then {
            Some(then) => follow_hot(self, clone, &then).await,
            None => Ok(()),
        }
    }
}
