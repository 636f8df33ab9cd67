//! Owns plain views: queries that stand for their names wherever these are read.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::visit_relations;
use millstream_catalog::{DEFAULT_SCHEMA, Dependency, ObjectId, ObjectName, View, ViewId};
use uuid::Uuid;

use super::plan::{plan_of, plan_query};
use crate::Result;
use crate::ddl::{PlainViewDraft, ViewAction};
use crate::engine::{Shared, wrong_kind};
use crate::views::OpenView;

/// A view's query as the table that it stands for.
pub(crate) async fn plain_view_table(shared: &Shared, view: &OpenView) -> Result<Arc<dyn TableProvider>> {
    let definition = view.definition();
    let plan = plan_of(shared, &definition).await?;
    Ok(Arc::new(ViewTable::new(plan, Some(definition.query.clone()))))
}

/// The plain views that a statement names; their queries take their places in its plan.
pub(super) fn plain_views_of(shared: &Shared, statement: &Statement) -> Vec<Dependency> {
    let Statement::Statement(statement) = statement else { return vec![] };
    let mut found: Vec<Dependency> = Vec::new();
    let _ = visit_relations(statement.as_ref(), |relation| {
        let parts: Option<Vec<String>> = relation.0.iter().map(|part| part.as_ident().map(folded)).collect();
        let name = match parts.as_deref() {
            Some([name]) => ObjectName::new(DEFAULT_SCHEMA, name).ok(),
            Some([.., schema, name]) => ObjectName::new(schema, name).ok(),
            _ => None,
        };
        if let Some(name) = name
            && let Some(view) = shared.plain_view(&name)
            && !found.iter().any(|d| d.id == ObjectId::View(view.id()))
        {
            found.push(Dependency { id: ObjectId::View(view.id()), name });
        }
        ControlFlow::<()>::Continue(())
    });
    found
}

fn folded(ident: &datafusion::sql::sqlparser::ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

impl Shared {
    /// Creates a plain view, or with `or_replace` gives the one of its name another query. Returns false when it exists
    /// and `if_not_exists` is set.
    pub(crate) async fn create_plain_view(
        self: &Arc<Self>,
        draft: PlainViewDraft,
        (or_replace, if_not_exists): (bool, bool),
        text: &str,
    ) -> Result<bool> {
        let _ddl = self.ddl.lock().await;
        let name = draft.name.clone();
        self.check_schema(&name)?;
        let old = self.plain_view(&name).filter(|_| or_replace);
        if let Some(kind) = self.kind_of(&name).filter(|_| old.is_none()) {
            let taken = millstream_catalog::Error::AlreadyExists { kind, name: name.to_string() };
            return if if_not_exists { Ok(false) } else { Err(taken.into()) };
        }
        let planned = plan_query(self, &draft.query.statement, text).await?.outlives_connections()?;
        let now_ms = self.options.clock.now_us() / 1000;
        let view = draft.into_view(ViewId(Uuid::now_v7()), planned.columns, planned.depends_on, now_ms)?;
        plan_of(self, &view).await?;
        let Some(old) = old else {
            self.options.catalog.create_view(&view).await?;
            self.list_view(view);
            return Ok(true);
        };
        let before = old.definition();
        let next = View {
            id: before.id,
            version: before.version.saturating_add(1),
            created_at_ms: before.created_at_ms,
            comment: view.comment.clone().or_else(|| before.comment.clone()),
            ..view
        };
        self.options.catalog.alter_view(&next).await?;
        old.redefine(next);
        self.plans.outdate();
        Ok(true)
    }

    /// Drops plain views, all or none, and with `cascade` what reads them. Returns those that are not there, where
    /// `if_exists` passes them over.
    pub(crate) async fn drop_plain_views(
        self: &Arc<Self>,
        names: &[ObjectName],
        if_exists: bool,
        cascade: bool,
    ) -> Result<Vec<ObjectName>> {
        let _ddl = self.ddl.lock().await;
        let (mut going, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            self.check_schema(name)?;
            match self.existing_plain_view(name, "DROP") {
                Ok(view) => going.push(view),
                Err(_) if if_exists && self.kind_of(name).is_none() => missing.push(name.clone()),
                Err(error) => return Err(error),
            }
        }
        if cascade {
            for view in going.clone() {
                self.add_dependents_of(view.definition().object(), &mut going);
            }
        }
        if !going.is_empty() {
            self.remove_objects(&going, &[]).await?;
        }
        Ok(missing)
    }

    /// Changes the comment of a plain view, or of a column of it.
    pub(crate) async fn comment_on_plain_view(
        self: &Arc<Self>,
        name: &ObjectName,
        column: Option<String>,
        text: Option<String>,
    ) -> Result<()> {
        let _ddl = self.ddl.lock().await;
        let view = self.existing_plain_view(name, "COMMENT ON")?;
        self.alter_definition(&view, &ViewAction::SetComment { column, text }).await.map(|_| ())
    }

    /// The plain view of that name; `verb` is the statement's, for the hint.
    pub(crate) fn existing_plain_view(&self, name: &ObjectName, verb: &str) -> Result<Arc<OpenView>> {
        if let Some(view) = self.plain_view(name) {
            return Ok(view);
        }
        match self.kind_of(name) {
            Some(kind) => Err(wrong_kind(name, kind, "view", verb)),
            None => Err(millstream_catalog::Error::NotFound { kind: "view", name: name.to_string() }.into()),
        }
    }
}
