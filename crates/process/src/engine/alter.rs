//! Owns ALTER TABLE: what has to be had before a table's definition changes, and the instant at which it does.
//!
//! A change that concerns rows, or statements that are under way, has the table's turn from its first look to its end.
//! The catalog decides; what is left then follows in any case (`tables/reshape.rs`), though the client is gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_catalog::fault::Code;
use millstream_catalog::{ObjectId, ObjectName, Stream, ViewKind};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::ddl::{TableAction, altered_table, names_column};
use crate::external::refuse_others;
use crate::sql::cancelled;
use crate::stream::OpenStream;
use crate::tables::{Reshaping, Turn};
use crate::views::{OpenView, columns_used};
use crate::{Error, Result};

impl Shared {
    /// Changes a table's definition; `stop` ends it as long as nothing is decided. Returns false when it is like that
    /// already.
    pub(crate) async fn alter_table(
        self: &Arc<Self>,
        name: &ObjectName,
        actions: &[TableAction],
        stop: &CancellationToken,
    ) -> Result<bool> {
        self.check_schema(name)?;
        let table = self.table(name, "ALTER")?;
        if actions.iter().any(|action| !matches!(action, TableAction::SetComment { .. })) {
            let instead = "change it with the engine that made it; columns that come there are taken over";
            refuse_others(&table, "ALTER TABLE is for tables in the lake", instead)?;
        }
        if !actions.iter().any(TableAction::takes_turn) {
            return self.alter_stream(name, |table| altered_table(table, actions)).await;
        }
        let alteration =
            Alteration { shared: Arc::clone(self), name: name.clone(), actions: actions.to_vec(), stop: stop.clone() };
        // It goes on when its caller is gone: what was decided is carried out.
        let altered = tokio::spawn(alteration.go()).await;
        altered.map_err(|e| Error::rejected(Code::Internal, format!("ALTER TABLE ended early: {e}")))?
    }

    /// Gives a new stream another folder of the lake where its name is that of a folder in use: a table that was called
    /// so and was renamed lies there.
    pub(super) async fn settle_folder(&self, stream: &mut Stream) -> Result<()> {
        let folder = stream.folder();
        let known = self.options.catalog.streams().await?;
        let Some(there) = known.iter().find(|other| other.id != stream.id && other.folder() == folder) else {
            return Ok(());
        };
        let id = stream.id.to_string();
        match &mut stream.table {
            Some(spec) => {
                let name: String = stream.name.name().chars().take(50).collect();
                spec.folder = Some(format!("{name}-{}", &id[id.len().saturating_sub(12)..]));
                Ok(())
            }
            None => Err(Error::Rejected {
                code: Code::DuplicateObject,
                message: format!(
                    "stream {} would lie in the folder of table {}, which was called so",
                    stream.name, there.name
                ),
                hint: Some("choose another name for the stream".to_owned()),
                position: None,
            }),
        }
    }
}

/// A change of a table's definition that is under way.
struct Alteration {
    shared: Arc<Shared>,
    name: ObjectName,
    actions: Vec<TableAction>,
    stop: CancellationToken,
}

impl Alteration {
    async fn go(self) -> Result<bool> {
        let shared = &self.shared;
        let table = shared.table(&self.name, "ALTER")?;
        shared.check_schema(&self.name)?;
        let _turn = self.unless_stopped(&table, Turn::of(shared, &table)).await?;
        let before = Arc::clone(&table.definition().stream);
        let Some(next) = altered_table(&before, &self.actions)? else { return Ok(false) };
        shared.check_places(&next)?;
        let definition = shared.define(next.clone())?;
        self.users_going(&table, &before).await?;
        let reshaping = Reshaping::new(shared, &table, &next);
        self.unless_stopped(&table, reshaping.check_rows()).await?;
        let prepared = self.unless_stopped(&table, reshaping.prepare(&definition)).await?;
        let _ddl = self.unless_stopped(&table, async { Ok(shared.ddl.lock().await) }).await?;
        let same = shared.table(&self.name, "ALTER").is_ok_and(|now| Arc::ptr_eq(&now, &table));
        if !same || table.definition().stream.version != before.version {
            return Err(millstream_catalog::Error::Changed { name: self.name.to_string() }.into());
        }
        // Views may have come since the first look.
        let going = self.users_going(&table, &before).await?;
        let objects: Vec<ObjectId> = going.iter().rev().map(|view| view.definition().object()).collect();
        let decide = async { Ok(shared.options.catalog.alter_and_drop(&next, &objects).await?) };
        let done = reshaping.carry_out(definition, prepared, decide).await;
        shared.plans.outdate();
        if table.definition().stream.version != next.version {
            return done.map(|()| true);
        }
        table.take_options();
        let discarded = shared.discard_objects(&going, &[]).await;
        if next.name != before.name {
            shared.streams.write().remove(&before.name);
            table.closing.cancel();
            shared.attach_open(Arc::new(table.renamed(next.name.clone(), shared.closing.child_token())));
        }
        done.and(discarded).map(|()| true)
    }

    /// Waits for something, unless the statement is stopped or the table dropped before.
    async fn unless_stopped<T>(&self, table: &OpenStream, wait: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = wait => done,
            () = self.stop.cancelled() => Err(cancelled()),
            () = table.closing.cancelled() => {
                Err(millstream_catalog::Error::NotFound { kind: "table", name: self.name.to_string() }.into())
            }
        }
    }

    /// The views that go with columns that go, where CASCADE says so. Refuses the change when a view needs a column
    /// that it takes away or makes another.
    async fn users_going(&self, table: &OpenStream, before: &Stream) -> Result<Vec<Arc<OpenView>>> {
        let mut going = vec![];
        for action in &self.actions {
            let (column, verb, cascade) = match action {
                TableAction::DropColumn { name, cascade, .. } => (name, "dropped", *cascade),
                TableAction::RenameColumn { from, .. } => (from, "renamed", false),
                TableAction::SetType { column, data_type } => {
                    if before.column(column).is_some_and(|c| c.data_type == *data_type) {
                        continue;
                    }
                    (column, "given another type", false)
                }
                _ => continue,
            };
            let users = self.users_of(table, before, column).await;
            match users.is_empty() {
                true => {}
                false if cascade => users.into_iter().for_each(|user| self.add_going(user, &mut going)),
                false => return Err(in_use(before, column, verb, &users)),
            }
        }
        Ok(going)
    }

    /// Adds a view and what reads it.
    fn add_going(&self, view: Arc<OpenView>, going: &mut Vec<Arc<OpenView>>) {
        let object = view.definition().object();
        if !going.iter().any(|known| known.id() == view.id()) {
            going.push(view);
            self.shared.add_dependents_of(object, going);
        }
    }

    /// The views that use a column of the table.
    async fn users_of(&self, table: &OpenStream, before: &Stream, column: &str) -> Vec<Arc<OpenView>> {
        let mut users = vec![];
        for view in self.shared.all_views() {
            let definition = view.definition();
            if !definition.reads(ObjectId::Stream(table.id())) {
                continue;
            }
            // These cannot begin anew when the table has other columns: what they gave stays.
            let given = matches!(definition.kind, ViewKind::DerivedStream { .. })
                || definition.query.to_lowercase().contains("system_time");
            let uses = given || names_column(&definition.query, column) || {
                let used: Option<BTreeSet<String>> = columns_used(&self.shared, &definition, &before.name).await;
                used.is_none_or(|used| used.contains(column))
            };
            if uses {
                users.push(view);
            }
        }
        users
    }
}

fn in_use(table: &Stream, column: &str, verb: &str, users: &[Arc<OpenView>]) -> Error {
    let shown: Vec<String> = users.iter().map(|view| view.definition().shown()).collect();
    let reads = if shown.len() == 1 { "reads it" } else { "read it" };
    let hint = match verb {
        "dropped" => "drop that first, or add CASCADE",
        _ => {
            "queries are kept as they were written: note what SHOW CREATE says, drop that, alter the table, make it again"
        }
    };
    Error::Rejected {
        code: Code::DependentObjects,
        message: format!("column {column:?} of table {} cannot be {verb}: {} {reads}", table.name, shown.join(" and ")),
        hint: Some(hint.to_owned()),
        position: None,
    }
}
