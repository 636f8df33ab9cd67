//! Owns the life of views: opening at start, creation, change and removal, and waiting for what they have taken in.

use std::sync::Arc;
use std::time::Duration;

use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectId, ObjectName, View, ViewId};
use uuid::Uuid;

use super::changes::Sources;
use super::checkpoints::{STATE_FOLDER, remove_state};
use super::open::{OpenView, Status};
use super::{follow, plan_query};
use crate::ddl::{ViewAction, ViewDraft, altered_view};
use crate::engine::{Shared, check_schema};
use crate::{Error, Result};

impl Shared {
    /// Opens every view of the catalog.
    pub(crate) async fn open_views(self: &Arc<Self>) -> Result<()> {
        let views = self.options.catalog.views().await?;
        remove_unknown_state(self, &views).await;
        // All have to be known before the first one plans its query over another.
        let open: Vec<_> = views.into_iter().map(|view| self.list_view(view)).collect();
        open.into_iter().for_each(|view| self.start_view(view));
        for dropped in self.options.catalog.list_dropped_views().await? {
            self.options.catalog.forget_dropped_view(dropped.id).await?;
        }
        Ok(())
    }

    fn attach_view(self: &Arc<Self>, definition: View) -> Arc<OpenView> {
        let view = self.list_view(definition);
        self.start_view(Arc::clone(&view));
        view
    }

    fn list_view(&self, definition: View) -> Arc<OpenView> {
        let name = definition.name.clone();
        let view = Arc::new(OpenView::new(definition, self.closing.child_token()));
        self.views.write().insert(name, Arc::clone(&view));
        view
    }

    fn start_view(self: &Arc<Self>, view: Arc<OpenView>) {
        self.tasks.spawn_on(follow(Arc::clone(self), view), &self.workers.handle());
    }

    /// Creates a materialized view. Returns nothing when it exists and `if_not_exists` is set.
    pub(crate) async fn create_view(
        self: &Arc<Self>,
        draft: ViewDraft,
        if_not_exists: bool,
        text: &str,
    ) -> Result<Option<Arc<OpenView>>> {
        let _ddl = self.ddl.lock().await;
        let name = draft.name.clone();
        check_schema(&name)?;
        if self.knows(&name) || self.view(&name).is_some() {
            let kind = if self.view(&name).is_some() { "materialized view" } else { "stream" };
            let taken = millstream_catalog::Error::AlreadyExists { kind, name: name.to_string() };
            return if if_not_exists { Ok(None) } else { Err(taken.into()) };
        }
        if draft.emit_on_window_close {
            return Err(Error::rejected(
                Code::Unsupported,
                "EMIT ON WINDOW CLOSE is not supported yet: leave it out, and a window's row changes until its last event has come",
            ));
        }
        refuse_memory_limit(draft.options.memory_bytes)?;
        let replacement_for = match &draft.replacement_for {
            Some(old) => Some(self.existing_view(old)?.id()),
            None => None,
        };
        let planned = plan_query(self, &draft.query.statement, text).await?;
        let now_ms = self.options.clock.now_us() / 1000;
        let id = ViewId(Uuid::now_v7());
        let view = draft.into_view(id, planned.columns.clone(), planned.depends_on.clone(), replacement_for, now_ms)?;
        // What cannot be kept up to date is refused here, before anything exists.
        super::plan::dataflow(self, &view.query, &view.columns).await?;
        self.options.catalog.create_view(&view).await?;
        Ok(Some(self.attach_view(view)))
    }

    /// Changes a view's definition. Returns false when it is like that already.
    pub(crate) async fn alter_view(self: &Arc<Self>, name: &ObjectName, action: &ViewAction) -> Result<bool> {
        let _ddl = self.ddl.lock().await;
        let view = self.existing_view(name)?;
        let Some(next) = altered_view(&view.definition(), action)? else { return Ok(false) };
        if next.options.memory_bytes != view.definition().options.memory_bytes {
            refuse_memory_limit(next.options.memory_bytes)?;
        }
        if next.name != *name && (self.knows(&next.name) || self.view(&next.name).is_some()) {
            let taken =
                millstream_catalog::Error::AlreadyExists { kind: "materialized view", name: next.name.to_string() };
            return Err(taken.into());
        }
        self.options.catalog.alter_view(&next).await?;
        let renamed = next.name.clone();
        view.redefine(next);
        if renamed != *name {
            let mut views = self.views.write();
            views.remove(name);
            views.insert(renamed, view);
        }
        Ok(true)
    }

    /// Puts a replacement in the place of the view that it was made for: at one instant for readers, the views above
    /// built anew over it.
    pub(crate) async fn apply_replacement(
        self: &Arc<Self>,
        name: &ObjectName,
        replacement: &ObjectName,
        patience: Duration,
    ) -> Result<()> {
        let (old, new) = (self.existing_view(name)?, self.existing_view(replacement)?);
        if new.definition().replacement_for != Some(old.id()) {
            return Err(Error::rejected(
                Code::InvalidDefinition,
                format!(
                    "materialized view {replacement} was not made as a replacement for {name}: CREATE REPLACEMENT MATERIALIZED VIEW {replacement} FOR {name} AS …"
                ),
            ));
        }
        wait_until_built(&new, patience).await?;
        let _ddl = self.ddl.lock().await;
        let changed = self.options.catalog.swap_view(old.id(), new.id()).await?;
        old.drop_state();
        old.closing.cancel();
        {
            let mut views = self.views.write();
            views.remove(replacement);
            views.remove(name);
            for definition in &changed {
                if definition.id == new.id() {
                    new.redefine(definition.clone());
                }
            }
            views.insert(name.clone(), Arc::clone(&new));
        }
        // Those that read the old one follow the new one from its whole answer.
        for definition in changed.into_iter().filter(|d| d.id != new.id()) {
            if let Some(above) = self.view(&definition.name) {
                above.closing.cancel();
            }
            self.attach_view(definition);
        }
        self.options.catalog.forget_dropped_view(old.id()).await?;
        Ok(())
    }

    /// Drops a view, and with `cascade` those that read it. Returns their names; nothing when there is none and
    /// `if_exists` is set.
    pub(crate) async fn drop_view(
        self: &Arc<Self>,
        name: &ObjectName,
        if_exists: bool,
        cascade: bool,
    ) -> Result<Option<Vec<ObjectName>>> {
        let _ddl = self.ddl.lock().await;
        check_schema(name)?;
        let Some(view) = self.view(name) else {
            return if if_exists {
                Ok(None)
            } else {
                Err(self.existing_view(name).err().unwrap_or_else(|| no_view(name)))
            };
        };
        let mut going = vec![Arc::clone(&view)];
        if cascade {
            self.add_dependents(&mut going);
        }
        self.remove_views(&going, &[]).await?;
        Ok(Some(going.iter().map(|v| v.name()).collect()))
    }

    /// Removes views, and other objects in the same transaction.
    pub(crate) async fn remove_views(&self, going: &[Arc<OpenView>], others: &[ObjectId]) -> Result<()> {
        let ids: Vec<ObjectId> =
            going.iter().rev().map(|v| ObjectId::View(v.id())).chain(others.iter().copied()).collect();
        self.options.catalog.drop_objects(&ids).await?;
        for view in going {
            self.views.write().remove(&view.name());
            view.drop_state();
            view.closing.cancel();
            self.options.catalog.forget_dropped_view(view.id()).await?;
        }
        Ok(())
    }

    /// Adds the views that read those in the list, however far up.
    pub(crate) fn add_dependents(&self, going: &mut Vec<Arc<OpenView>>) {
        let mut i = 0;
        while i < going.len() {
            for above in self.views_over(ObjectId::View(going[i].id())) {
                if !going.iter().any(|v| v.id() == above.id()) {
                    going.push(above);
                }
            }
            i += 1;
        }
    }

    /// The views that read an object directly.
    pub(crate) fn views_over(&self, id: ObjectId) -> Vec<Arc<OpenView>> {
        let mut views = self.views();
        views.retain(|v| v.definition().depends_on.iter().any(|d| d.id == id));
        views
    }

    /// The view of that name, or the error that says there is none.
    pub(crate) fn existing_view(&self, name: &ObjectName) -> Result<Arc<OpenView>> {
        match self.view(name) {
            Some(view) => Ok(view),
            None if self.knows(name) => {
                Err(Error::rejected(Code::WrongObjectType, format!("{name} is a stream, not a materialized view")))
            }
            None => Err(no_view(name)),
        }
    }

    /// Waits until every running view has taken in what is acknowledged now.
    pub(crate) async fn flush_views(&self, patience: Duration) -> Result<()> {
        let mut ends = Sources::new();
        for stream in self.streams() {
            ends.insert(stream.id(), stream.log().view().end().clone());
        }
        let deadline = tokio::time::Instant::now() + patience;
        for view in self.views() {
            self.wait_for_view(&view, &ends, deadline).await?;
        }
        Ok(())
    }

    /// Waits until a view has taken in these positions of the streams that it reads.
    pub(crate) async fn wait_for_view(
        &self,
        view: &OpenView,
        wanted: &Sources,
        deadline: tokio::time::Instant,
    ) -> Result<()> {
        let mut progress = view.subscribe();
        let reached = progress.wait_for(|p| {
            let stays = matches!(p.status, Status::Suspended | Status::Failed);
            let there = p.status == Status::Running
                && p.sources.iter().all(|(id, have)| wanted.get(id).is_none_or(|want| have.covers(want)));
            stays || there
        });
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::rejected(
                Code::Timeout,
                format!(
                    "materialized view {} has not taken in everything yet; system.views shows how far it is",
                    view.name()
                ),
            )),
        }
    }

    /// Rows behind these positions, over the streams they name.
    pub(crate) fn lag_rows(&self, sources: &Sources) -> u64 {
        let streams = self.streams();
        let lags = sources.iter().filter_map(|(id, positions)| {
            let stream = streams.iter().find(|s| s.id() == *id)?;
            Some(stream.log().stats().end.rows_since(positions))
        });
        lags.sum()
    }

    /// Positions as text: `flights:0-1500 airports:0-12`.
    pub(crate) fn shown_sources(&self, sources: &Sources) -> String {
        let streams = self.streams();
        let shown = sources.iter().filter_map(|(id, positions)| {
            let stream = streams.iter().find(|s| s.id() == *id)?;
            let token = crate::PositionToken { stream: stream.name().clone(), positions: positions.clone() };
            Some(token.to_string())
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}

/// Waits until a view has an answer; a failure to build is given as the error.
pub(crate) async fn wait_until_built(view: &OpenView, patience: Duration) -> Result<bool> {
    let mut progress = view.subscribe();
    let built = progress.wait_for(|p| p.status != Status::Building);
    match tokio::time::timeout(patience, built).await {
        Err(_) => Ok(false),
        Ok(Err(_)) => Ok(false),
        Ok(Ok(now)) => match (now.status, &now.error) {
            (Status::Failed, Some(error)) => Err(Error::rejected(
                Code::DataCorrupted,
                format!("materialized view {} cannot be built: {error}", view.name()),
            )),
            _ => Ok(true),
        },
    }
}

/// A limit that would not be kept must not be taken.
fn refuse_memory_limit(bytes: Option<u64>) -> Result<()> {
    match bytes {
        None => Ok(()),
        Some(_) => Err(Error::rejected(
            Code::Unsupported,
            "the option memory is not in force yet: leave it out, and the view's state is kept in memory",
        )),
    }
}

/// Removes state of views that are no more.
async fn remove_unknown_state(shared: &Shared, views: &[View]) {
    let Ok(mut entries) = tokio::fs::read_dir(shared.options.data_dir.join(STATE_FOLDER)).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let folder = entry.file_name();
        let id = folder.to_str().and_then(|f| Uuid::try_parse(f).ok());
        let Some(id) = id.filter(|id| !views.iter().any(|v| v.id == ViewId(*id))) else { continue };
        remove_state(shared, ViewId(id));
    }
}

fn no_view(name: &ObjectName) -> Error {
    millstream_catalog::Error::NotFound { kind: "materialized view", name: name.to_string() }.into()
}
