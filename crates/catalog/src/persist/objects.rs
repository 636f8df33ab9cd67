//! Owns what holds across objects, whatever keeps them: one namespace, nothing that reads what is not there, no circle.
//!
//! Both catalogs ask here inside their transaction, with what they hold at that moment, and then write what they are
//! told. Nothing here writes.

use std::collections::BTreeSet;

use crate::{
    Column, DataType, Dependency, Error, ObjectId, ObjectName, Result, Stream, StreamId, View, ViewId, ViewKind,
};

/// A stream, as far as the rules need it.
#[derive(Debug)]
pub(super) struct KnownStream {
    pub id: StreamId,
    /// `stream` or `table`.
    pub kind: &'static str,
    pub name: ObjectName,
    pub version: u32,
}

/// Everything that is there at one moment.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub streams: Vec<KnownStream>,
    pub views: Vec<View>,
    /// Dropped and announced streams whose lake folders may be there.
    pub pending: Vec<(StreamId, ObjectName)>,
    /// The schemas that were created.
    pub schemas: Vec<String>,
}

/// What a DROP removes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Removal {
    pub streams: Vec<StreamId>,
    pub views: Vec<ViewId>,
}

impl Objects {
    /// Whether a stream can be added; says whether it was announced.
    pub(super) fn check_new_stream(&self, stream: &Stream) -> Result<bool> {
        let announced = self.pending.iter().any(|(id, folder)| *id == stream.id && *folder == stream.folder());
        if announced {
            self.check_unnamed(&stream.name)?;
        } else {
            self.check_announced(stream)?;
        }
        Ok(announced)
    }

    /// Whether a stream can be announced.
    pub(super) fn check_announced(&self, stream: &Stream) -> Result<()> {
        self.check_free(&stream.name)?;
        if self.streams.iter().any(|s| s.id == stream.id) {
            return Err(Error::AlreadyExists { kind: stream.kind(), name: stream.name.to_string() });
        }
        Ok(())
    }

    /// Whether a schema can be added.
    pub(super) fn check_new_schema(&self, name: &str) -> Result<()> {
        // A schema's name follows the rules of an object's.
        ObjectName::new(name, "object")?;
        if self.schemas.iter().any(|s| s == name) {
            return Err(Error::AlreadyExists { kind: "schema", name: name.to_owned() });
        }
        Ok(())
    }

    /// Whether a schema can go: nothing lies in it.
    pub(super) fn check_dropped_schema(&self, name: &str) -> Result<()> {
        if !self.schemas.iter().any(|s| s == name) {
            return Err(Error::NotFound { kind: "schema", name: name.to_owned() });
        }
        let streams = self.streams.iter().map(|s| (s.kind, &s.name));
        let views = self.views.iter().filter(|v| is_no_writer(v)).map(|v| (v.kind.word(), &v.name));
        let within = streams.chain(views).filter(|(_, object)| object.schema() == name);
        let mut readers: Vec<String> =
            within.map(|(kind, object)| format!("{kind} {:?} lies in it", object.to_string())).collect();
        if !readers.is_empty() {
            readers.sort();
            let (action, fix) = DROPPED;
            return Err(Error::InUse {
                object: format!("schema {name:?}"),
                action,
                readers: readers.join(" and "),
                fix,
            });
        }
        match self.pending.iter().find(|(_, object)| object.schema() == name) {
            Some((_, object)) => Err(Error::DropUnfinished { name: object.to_string() }),
            None => Ok(()),
        }
    }

    /// Whether a stream's definition can be replaced by this one.
    pub(super) fn check_altered_stream(&self, stream: &Stream) -> Result<()> {
        let Some(old) = self.streams.iter().find(|s| s.id == stream.id) else {
            return Err(Error::NotFound { kind: stream.kind(), name: stream.name.to_string() });
        };
        check_next(old.version, stream.version, &stream.name)?;
        let renamed = old.name != stream.name;
        if renamed {
            self.check_free(&stream.name)?;
            self.check_unread(&[ObjectId::Stream(old.id)], RENAMED)?;
        }
        if (old.kind == "table") != stream.table.is_some() {
            let (object, reason) = (format!("{} {}", old.kind, old.name), "it cannot become another kind of object");
            return Err(Error::InvalidDefinition { object, reason: reason.into() });
        }
        match self.writer_of(stream.id) {
            Some(view) if renamed => Err(view.invalid("a derived stream cannot be renamed".into())),
            Some(view) if shape(&view.columns) != shape(&stream.columns) => {
                Err(view.invalid("its columns are those of its query and cannot be changed".into()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a view can be added; for a derived stream, together with the stream it writes.
    pub(super) fn check_new_view(&self, view: &View, stream: Option<&Stream>) -> Result<()> {
        view.validate()?;
        match (view.kind, stream) {
            (ViewKind::MaterializedView | ViewKind::PlainView, None) => {}
            (ViewKind::DerivedStream { stream: id }, Some(stream)) if stream.id == id && stream.name == view.name => {
                stream.validate()?;
                self.check_announced(stream)?;
            }
            _ => return Err(view.invalid("a derived stream is made together with the stream it writes".into())),
        }
        self.check_free(&view.name)?;
        if self.view(view.id).is_some() {
            return Err(Error::AlreadyExists { kind: view.kind.word(), name: view.name.to_string() });
        }
        view.depends_on.iter().try_for_each(|d| self.check_readable(view, d))?;
        let Some(id) = view.replacement_for else { return Ok(()) };
        let Some(old) = self.view(id).filter(|v| v.kind == ViewKind::MaterializedView) else {
            return Err(Error::NotFound { kind: "materialized view", name: id.to_string() });
        };
        if old.replacement_for.is_some() {
            return Err(view.invalid(format!("{} is a replacement itself, apply it first", old.name)));
        }
        self.check_can_take_place(view, old)
    }

    /// Whether a view's definition can be replaced by this one.
    pub(super) fn check_altered_view(&self, view: &View) -> Result<()> {
        let Some(old) = self.view(view.id) else {
            return Err(Error::NotFound { kind: view.kind.word(), name: view.name.to_string() });
        };
        check_next(old.version, view.version, &view.name)?;
        view.validate()?;
        if view.kind == ViewKind::PlainView && old.kind == ViewKind::PlainView {
            return self.check_altered_plain_view(old, view);
        }
        let same = (old.kind, &old.query, &old.depends_on, old.replacement_for)
            == (view.kind, &view.query, &view.depends_on, view.replacement_for);
        if !same || shape(&old.columns) != shape(&view.columns) {
            return Err(view.invalid("its query, its columns and its kind cannot be changed, only replaced".into()));
        }
        if old.name != view.name {
            if view.kind != ViewKind::MaterializedView {
                return Err(view.invalid("a derived stream cannot be renamed".into()));
            }
            self.check_free(&view.name)?;
            self.check_unread(&[old.object()], RENAMED)?;
        }
        Ok(())
    }

    /// A plain view may get another query: what keeps rows of the old one must not read it, what reads it finds its
    /// columns.
    fn check_altered_plain_view(&self, old: &View, view: &View) -> Result<()> {
        if old.name != view.name {
            self.check_free(&view.name)?;
            self.check_unread(&[old.object()], RENAMED)?;
        }
        if old.query == view.query && old.depends_on == view.depends_on {
            return Ok(());
        }
        view.depends_on.iter().try_for_each(|d| self.check_readable(view, d))?;
        if self.leads_to(view, old.object()) {
            return Err(view.invalid("it would read itself".into()));
        }
        let keeper = self.views.iter().find(|v| v.kind != ViewKind::PlainView && self.leads_to(v, old.object()));
        if let Some(keeper) = keeper {
            let (readers, fix) =
                (format!("{} reads it", keeper.shown()), "its rows come of the query: drop that first");
            return Err(Error::InUse { object: old.shown(), action: "replaced", readers, fix });
        }
        if self.views.iter().any(|v| v.reads(old.object())) { view.check_serves_readers_of(old) } else { Ok(()) }
    }

    /// What goes when these objects go: a derived stream with the view that writes it. Refused when something that
    /// stays reads one of them or is to replace it.
    pub(super) fn removal(&self, objects: &[ObjectId]) -> Result<Removal> {
        let mut removal = Removal::default();
        let mut gone: Vec<ObjectId> = Vec::new();
        for object in objects {
            let view = match *object {
                ObjectId::Stream(id) => {
                    if !self.streams.iter().any(|s| s.id == id) {
                        return Err(Error::NotFound { kind: "stream", name: id.to_string() });
                    }
                    self.writer_of(id)
                }
                ObjectId::View(id) => {
                    let missing = || Error::NotFound { kind: "materialized view", name: id.to_string() };
                    Some(self.view(id).ok_or_else(missing)?)
                }
            };
            let object = view.map_or(*object, View::object);
            if gone.contains(&object) {
                continue;
            }
            gone.push(object);
            removal.views.extend(view.map(|v| v.id));
            if let ObjectId::Stream(id) = object {
                removal.streams.push(id);
            }
        }
        self.check_unread(&gone, DROPPED)?;
        Ok(removal)
    }

    /// The views that change when `new` takes the name and place of `old`: itself first, then those that read `old`.
    pub(super) fn swapped(&self, old: ViewId, new: ViewId) -> Result<Vec<View>> {
        let missing = |id: ViewId| Error::NotFound { kind: "materialized view", name: id.to_string() };
        let old = self.view(old).ok_or_else(|| missing(old))?;
        let new = self.view(new).ok_or_else(|| missing(new))?;
        if new.replacement_for != Some(old.id) {
            return Err(new.invalid(format!("it was not created as a replacement for {}", old.name)));
        }
        self.check_unread(&[new.object()], APPLIED)?;
        self.check_can_take_place(new, old)?;
        let mut changed = vec![View {
            name: old.name.clone(),
            replacement_for: None,
            comment: new.comment.clone().or_else(|| old.comment.clone()),
            version: new.version.saturating_add(1),
            ..new.clone()
        }];
        for view in self.views.iter().filter(|v| v.id != new.id) {
            if !view.reads(old.object()) && view.replacement_for != Some(old.id) {
                continue;
            }
            let mut view = View { version: view.version.saturating_add(1), ..view.clone() };
            for d in view.depends_on.iter_mut().filter(|d| d.id == old.object()) {
                d.id = new.object();
            }
            view.replacement_for = view.replacement_for.map(|id| if id == old.id { new.id } else { id });
            changed.push(view);
        }
        Ok(changed)
    }

    fn view(&self, id: ViewId) -> Option<&View> {
        self.views.iter().find(|v| v.id == id)
    }

    /// The view whose rows the stream has.
    fn writer_of(&self, stream: StreamId) -> Option<&View> {
        self.views.iter().find(|v| v.kind == ViewKind::DerivedStream { stream })
    }

    fn check_free(&self, name: &ObjectName) -> Result<()> {
        if self.pending.iter().any(|(_, pending)| pending == name) {
            return Err(Error::DropUnfinished { name: name.to_string() });
        }
        self.check_unnamed(name)
    }

    /// Whether nothing has that name.
    fn check_unnamed(&self, name: &ObjectName) -> Result<()> {
        let view = self.views.iter().find(|v| v.name == *name).map(|v| v.kind.word());
        let stream = self.streams.iter().find(|s| s.name == *name).map(|s| s.kind);
        match stream.or(view) {
            Some(kind) => Err(Error::AlreadyExists { kind, name: name.to_string() }),
            None => Ok(()),
        }
    }

    /// Whether `view` can read that object.
    fn check_readable(&self, view: &View, input: &Dependency) -> Result<()> {
        let (kind, name) = match input.id {
            ObjectId::Stream(id) => ("stream", self.streams.iter().find(|s| s.id == id).map(|s| &s.name)),
            ObjectId::View(id) => {
                let found = self.view(id).filter(|v| is_no_writer(v));
                if let Some(v) = found.filter(|v| v.replacement_for.is_some()) {
                    return Err(view.invalid(format!("it reads {}, a replacement that is not applied", v.name)));
                }
                (found.map_or("materialized view", |v| v.kind.word()), found.map(|v| &v.name))
            }
        };
        match name {
            None => Err(Error::NotFound { kind, name: input.name.to_string() }),
            Some(name) if *name != input.name => Err(Error::Changed { name: input.name.to_string() }),
            Some(_) => Ok(()),
        }
    }

    fn check_can_take_place(&self, new: &View, old: &View) -> Result<()> {
        if self.leads_to(new, old.object()) {
            return Err(new.invalid(format!("it reads {}, which it is to replace", old.name)));
        }
        let read = self.views.iter().any(|v| v.id != new.id && v.reads(old.object()));
        if read { new.check_serves_readers_of(old) } else { Ok(()) }
    }

    /// Whether `view` reads that object, itself or through what it reads.
    fn leads_to(&self, view: &View, object: ObjectId) -> bool {
        let mut open: Vec<ObjectId> = view.depends_on.iter().map(|d| d.id).collect();
        let mut seen = BTreeSet::new();
        while let Some(next) = open.pop() {
            if next == object {
                return true;
            }
            if seen.insert(next) {
                let below = self.views.iter().filter(|v| v.object() == next);
                open.extend(below.flat_map(|v| v.depends_on.iter().map(|d| d.id)));
            }
        }
        false
    }

    /// Refuses when a view outside of `objects` needs one of them.
    fn check_unread(&self, objects: &[ObjectId], (action, fix): (&'static str, &'static str)) -> Result<()> {
        for object in objects {
            let outside = self.views.iter().filter(|v| !objects.contains(&v.object()));
            let mut readers: Vec<String> = Vec::new();
            for view in outside {
                let replaces = view.replacement_for.is_some_and(|id| ObjectId::View(id) == *object);
                if view.reads(*object) {
                    readers.push(format!("{} reads it", view.shown()));
                } else if replaces && action == DROPPED.0 {
                    readers.push(format!("{} is to replace it", view.shown()));
                }
            }
            if !readers.is_empty() {
                readers.sort();
                return Err(Error::InUse { object: self.shown(*object), action, readers: readers.join(" and "), fix });
            }
        }
        Ok(())
    }

    fn shown(&self, object: ObjectId) -> String {
        match object {
            ObjectId::Stream(id) => {
                let known = self.streams.iter().find(|s| s.id == id);
                known.map_or_else(|| format!("stream {id}"), |s| format!("{} {:?}", s.kind, s.name.to_string()))
            }
            ObjectId::View(id) => self.view(id).map_or_else(|| id.to_string(), View::shown),
        }
    }
}

/// Whether a view is read by its own name.
fn is_no_writer(view: &View) -> bool {
    !matches!(view.kind, ViewKind::DerivedStream { .. })
}

const DROPPED: (&str, &str) = ("dropped", "drop that first, or add CASCADE");
const RENAMED: (&str, &str) = ("renamed", "queries go by the name, drop that first");
const APPLIED: (&str, &str) = ("applied as a replacement", "its name ends with it, drop that first");

/// What readers rely on.
fn shape(columns: &[Column]) -> Vec<(&str, &DataType)> {
    columns.iter().map(|c| (c.name.as_str(), &c.data_type)).collect()
}

/// A definition replaces the one whose version is one less.
fn check_next(old: u32, new: u32, name: &ObjectName) -> Result<()> {
    if old.checked_add(1) == Some(new) { Ok(()) } else { Err(Error::Changed { name: name.to_string() }) }
}
