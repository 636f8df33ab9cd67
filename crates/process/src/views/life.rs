//! Owns the life of views: opening at start, creation, change and removal, and waiting for what they have taken in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_catalog::fault::Code;
use millstream_catalog::{Dependency, ObjectId, ObjectName, StreamId, View, ViewId, ViewState};
use uuid::Uuid;

use super::changes::{Sources, lower};
use super::checkpoints::{STATE_FOLDER, remove_state};
use super::inline::stream_over;
use super::open::{OpenView, Status};
use super::plan::dataflow;
use super::{follow, plan_query};
use crate::ddl::{DerivedStreamDraft, ViewAction, ViewDraft, altered_view};
use crate::engine::Shared;
use crate::external::refuse_others;
use crate::stream::OpenStream;
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

    pub(super) fn list_view(&self, definition: View) -> Arc<OpenView> {
        let name = definition.name.clone();
        let view = Arc::new(OpenView::new(definition, self.closing.child_token()));
        self.views.write().insert(name, Arc::clone(&view));
        self.plans.outdate();
        view
    }

    fn start_view(self: &Arc<Self>, view: Arc<OpenView>) {
        if view.is_plain() {
            return;
        }
        view.follow_tables(&self.tables_below(&view));
        self.tasks.spawn_on(follow(Arc::clone(self), view), &self.workers.handle());
    }

    /// The tables that a view reads, itself or through other views.
    fn tables_below(&self, view: &OpenView) -> Vec<Arc<OpenStream>> {
        let mut found: Vec<Arc<OpenStream>> = vec![];
        let mut below = view.definition().depends_on.clone();
        while let Some(dependency) = below.pop() {
            match self.view(&dependency.name) {
                Some(view) => below.extend(view.definition().depends_on.iter().cloned()),
                None => {
                    let table = self.stream(&dependency.name).ok().filter(|stream| stream.table().is_some());
                    found.extend(table.filter(|table| !found.iter().any(|known| known.id() == table.id())));
                }
            }
        }
        found
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
        self.check_schema(&name)?;
        if let Some(taken) = self.taken(&name) {
            return if if_not_exists { Ok(None) } else { Err(taken) };
        }
        let replacement_for = match &draft.replacement_for {
            Some(old) => Some(self.existing_view(old)?.id()),
            None => None,
        };
        let planned = plan_query(self, &draft.query.statement, text).await?.outlives_connections()?;
        self.refuse_external_inputs(&planned.depends_on)?;
        let now_ms = self.options.clock.now_us() / 1000;
        let id = ViewId(Uuid::now_v7());
        let view = draft.into_view(id, planned.columns.clone(), planned.depends_on.clone(), replacement_for, now_ms)?;
        // What cannot be kept up to date is refused here, before anything exists.
        dataflow(self, &view).await?;
        self.options.catalog.create_view(&view).await?;
        Ok(Some(self.attach_view(view)))
    }

    /// Creates a stream that a query writes. Returns nothing when it exists and `if_not_exists` is set.
    pub(crate) async fn create_derived_stream(
        self: &Arc<Self>,
        draft: DerivedStreamDraft,
        if_not_exists: bool,
        text: &str,
    ) -> Result<Option<Arc<OpenView>>> {
        let _ddl = self.ddl.lock().await;
        let name = draft.name.clone();
        self.check_schema(&name)?;
        if let Some(taken) = self.taken(&name) {
            return if if_not_exists { Ok(None) } else { Err(taken) };
        }
        let planned = plan_query(self, &draft.query.statement, text).await?.outlives_connections()?;
        self.refuse_external_inputs(&planned.depends_on)?;
        let now_ms = self.options.clock.now_us() / 1000;
        let ids = (StreamId(Uuid::now_v7()), ViewId(Uuid::now_v7()));
        let (stream, view) = draft.into_definitions(ids, planned.columns, planned.depends_on, now_ms)?;
        dataflow(self, &view).await?;
        self.add_derived_stream(stream, &view).await?;
        Ok(Some(self.attach_view(view)))
    }

    /// Refuses tables that others write to: what they change is not told.
    fn refuse_external_inputs(&self, inputs: &[Dependency]) -> Result<()> {
        for input in inputs {
            if let Some(view) = self.plain_view(&input.name) {
                self.refuse_external_inputs(&view.definition().depends_on)?;
            } else if let Ok(table) = self.stream(&input.name) {
                let instead =
                    "read it in a plain view, or keep a copy: CREATE TABLE … AS SELECT, and MERGE what is new";
                refuse_others(&table, "a query that is kept up to date cannot read it", instead)?;
            }
        }
        Ok(())
    }

    /// The error that a name is taken, if it is.
    fn taken(&self, name: &ObjectName) -> Option<Error> {
        let kind = self.kind_of(name)?;
        Some(millstream_catalog::Error::AlreadyExists { kind, name: name.to_string() }.into())
    }

    /// Changes a view's definition. Returns false when it is like that already.
    pub(crate) async fn alter_view(self: &Arc<Self>, name: &ObjectName, action: &ViewAction) -> Result<bool> {
        let _ddl = self.ddl.lock().await;
        let view = self.existing_view(name)?;
        self.alter_definition(&view, action).await
    }

    /// [`Shared::alter_view`] for the view that writes a stream.
    pub(crate) async fn alter_writer(self: &Arc<Self>, stream: &ObjectName, action: &ViewAction) -> Result<bool> {
        let _ddl = self.ddl.lock().await;
        let Some(view) = self.writer(stream) else {
            self.stream_alone(stream, "ALTER")?;
            return Err(Error::rejected(
                Code::WrongObjectType,
                format!("stream {stream} is written by producers: only one that a query writes can be told so"),
            ));
        };
        self.alter_definition(&view, action).await
    }

    pub(super) async fn alter_definition(self: &Arc<Self>, view: &Arc<OpenView>, action: &ViewAction) -> Result<bool> {
        let name = view.name();
        let Some(next) = altered_view(&view.definition(), action)? else {
            // One that failed is to try again when it is told to run.
            let again = *action == ViewAction::SetState(ViewState::Running) && view.progress().status == Status::Failed;
            if again {
                view.redefined.notify_waiters();
            }
            return Ok(again);
        };
        if next.name != name
            && let Some(taken) = self.taken(&next.name)
        {
            return Err(taken);
        }
        self.options.catalog.alter_view(&next).await?;
        let renamed = next.name.clone();
        view.redefine(next);
        if renamed != name {
            let mut views = self.views.write();
            views.remove(&name);
            views.insert(renamed, Arc::clone(view));
        }
        self.plans.outdate();
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
        refuse_under_streams(self, &old)?;
        wait_until_built(&new, patience).await?;
        let _ddl = self.ddl.lock().await;
        refuse_under_streams(self, &old)?;
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
        self.plans.outdate();
        for definition in changed.into_iter().filter(|d| d.id != new.id()) {
            // Plain ones too.
            if let Some(view) = self.views.read().get(&definition.name) {
                view.redefine(definition);
            }
        }
        // Those that read the old one, and those above them, are built over the new one.
        let mut above = vec![];
        self.add_dependents_of(new.definition().object(), &mut above);
        above.retain(|view| !view.is_plain());
        for view in &above {
            view.follow_tables(&self.tables_below(view));
            view.begin_again();
        }
        // None is woken before all know: each then waits for those below it.
        above.iter().for_each(|view| view.redefined.notify_waiters());
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
        self.check_schema(name)?;
        let Some(view) = self.view(name) else {
            return if if_exists {
                Ok(None)
            } else {
                Err(self.existing_view(name).err().unwrap_or_else(|| no_view(name)))
            };
        };
        let mut going = vec![view];
        if cascade {
            self.add_dependents_of(going[0].definition().object(), &mut going);
        }
        self.remove_objects(&going, &[]).await?;
        Ok(Some(going.iter().map(|v| v.name()).collect()))
    }

    /// Removes views, streams that queries write, and tables and streams that others write, in one transaction; then
    /// what is left of them.
    pub(crate) async fn remove_objects(
        self: &Arc<Self>,
        going: &[Arc<OpenView>],
        alone: &[Arc<OpenStream>],
    ) -> Result<()> {
        let mut ids: Vec<ObjectId> = going.iter().rev().map(|v| v.definition().object()).collect();
        ids.extend(alone.iter().map(|s| ObjectId::Stream(s.id())));
        self.options.catalog.drop_objects(&ids).await?;
        self.discard_objects(going, alone).await
    }

    /// Removes what is left of objects that are gone from the catalog.
    pub(crate) async fn discard_objects(
        self: &Arc<Self>,
        going: &[Arc<OpenView>],
        alone: &[Arc<OpenStream>],
    ) -> Result<()> {
        let mut streams = alone.to_vec();
        for view in going {
            let name = view.name();
            self.views.write().remove(&name);
            self.plans.outdate();
            view.drop_state();
            view.closing.cancel();
            self.options.catalog.forget_dropped_view(view.id()).await?;
            if view.stream().is_some() {
                streams.extend(self.stream(&name).ok());
            }
        }
        for stream in &streams {
            self.discard_stream(stream).await;
        }
        Ok(())
    }

    /// Adds the views that read an object, however far up; a stream's are those that read the stream.
    pub(crate) fn add_dependents_of(&self, id: ObjectId, going: &mut Vec<Arc<OpenView>>) {
        let mut below = vec![id];
        while let Some(id) = below.pop() {
            for above in self.all_views() {
                let definition = above.definition();
                if definition.reads(id) && !going.iter().any(|v| v.id() == above.id()) {
                    below.push(definition.object());
                    going.push(above);
                }
            }
        }
    }

    /// The view of that name, or the error that says there is none.
    pub(crate) fn existing_view(&self, name: &ObjectName) -> Result<Arc<OpenView>> {
        match self.view(name) {
            Some(view) => Ok(view),
            None => match self.kind_of(name) {
                Some(kind) => {
                    Err(Error::rejected(Code::WrongObjectType, format!("{name} is a {kind}, not a materialized view")))
                }
                None => Err(no_view(name)),
            },
        }
    }

    /// Waits until every running view has taken in what is acknowledged now, streams that queries write first, and then
    /// what comes of them in the views above.
    pub(crate) async fn flush_views(&self, patience: Duration) -> Result<()> {
        let mut ends = Sources::new();
        for stream in self.streams() {
            ends.insert(stream.id(), stream.log().view().end().clone());
        }
        let deadline = tokio::time::Instant::now() + patience;
        self.wait_for_each(from_below(self.views()), &mut ends, deadline, true).await
    }

    /// Waits until a view has taken in these positions, also where it reads them through streams that queries write.
    pub(crate) async fn wait_for_view_over(
        &self,
        object: ObjectId,
        wanted: &Sources,
        deadline: tokio::time::Instant,
    ) -> Result<()> {
        let all = from_below(self.views());
        let mut needed = vec![object];
        let mut waited: Vec<Arc<OpenView>> = Vec::new();
        for view in all.into_iter().rev() {
            let definition = view.definition();
            if needed.contains(&definition.object()) {
                needed.extend(definition.depends_on.iter().map(|d| d.id));
                waited.push(view);
            }
        }
        waited.reverse();
        self.wait_for_each(waited, &mut wanted.clone(), deadline, false).await
    }

    /// Waits for views, those below first. What a query wrote into its stream meanwhile is wanted of those above it.
    /// When it `passes_over` those that stay as they are, only what they have is wanted of those above them.
    async fn wait_for_each(
        &self,
        views: Vec<Arc<OpenView>>,
        wanted: &mut Sources,
        deadline: tokio::time::Instant,
        passes_over: bool,
    ) -> Result<()> {
        let mut had: HashMap<ObjectId, Arc<Sources>> = HashMap::new();
        for view in views {
            let definition = view.definition();
            let mut limited = wanted.clone();
            for has in definition.depends_on.iter().filter_map(|below| had.get(&below.id)).filter(|_| passes_over) {
                lower(&mut limited, has);
            }
            self.wait_for_view(&view, wanted, &limited, deadline).await?;
            let progress = view.progress();
            if let Some(id) = view.stream() {
                if let Ok(stream) = self.stream(&view.name()) {
                    wanted.insert(id, stream.log().view().end().clone());
                }
            } else if progress.status == Status::Running {
                had.insert(definition.object(), Arc::new(limited));
            } else {
                had.insert(definition.object(), progress.sources);
            }
        }
        Ok(())
    }

    /// Waits until a view has taken in these positions of the streams that it reads; `through_views` when it reads them
    /// through other views.
    async fn wait_for_view(
        &self,
        view: &OpenView,
        wanted: &Sources,
        through_views: &Sources,
        deadline: tokio::time::Instant,
    ) -> Result<()> {
        let mut progress = view.subscribe();
        let reached = progress.wait_for(|p| {
            // Known once it has begun.
            let wanted = if p.stands_on_views { through_views } else { wanted };
            let stays = matches!(p.status, Status::Suspended | Status::Failed);
            let there = p.status == Status::Running
                && !p.unsettled
                && p.sources.iter().all(|(id, have)| wanted.get(id).is_none_or(|want| have.covers(want)));
            stays || there
        });
        match tokio::time::timeout_at(deadline, reached).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::rejected(
                Code::Timeout,
                format!(
                    "{} {} has not taken in everything yet; system.views shows how far it is",
                    view.definition().kind.word(),
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
                format!("{} {} cannot be built: {error}", view.definition().kind.word(), view.name()),
            )),
            _ => Ok(true),
        },
    }
}

/// Views by what they read: each comes behind those that it stands on.
fn from_below(views: Vec<Arc<OpenView>>) -> Vec<Arc<OpenView>> {
    let (mut sorted, mut left) = (Vec::with_capacity(views.len()), views);
    while !left.is_empty() {
        let objects: Vec<ObjectId> = left.iter().map(|v| v.definition().object()).collect();
        let (above, next): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|v| v.definition().depends_on.iter().any(|d| objects.contains(&d.id)));
        if next.is_empty() {
            // No view stands on itself; whatever says otherwise is waited for in any order.
            sorted.extend(above);
            break;
        }
        sorted.extend(next);
        left = above;
    }
    sorted
}

/// What a stream's query wrote cannot be taken back, so the views that stand for their queries in it stay as they are.
fn refuse_under_streams(shared: &Shared, view: &OpenView) -> Result<()> {
    let Some(stream) = stream_over(shared, view) else { return Ok(()) };
    let name = view.name();
    Err(Error::rejected(
        Code::DependentObjects,
        format!(
            "materialized view {name} cannot be replaced while stream {stream} reads it, whose rows cannot be taken \
             back: drop that first, or create another view beside this one"
        ),
    ))
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
