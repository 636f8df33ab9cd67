//! Owns UPDATE, DELETE and TRUNCATE as queries of the rows that they change.

use datafusion::sql::sqlparser::ast::{
    Delete, Expr, FromTable, Ident, ObjectName as SqlName, SelectItem, TableWithJoins, Update, UpdateTableFromKind,
    With,
};
use millstream_catalog::ObjectName;
use millstream_catalog::fault::Code;

use super::assignments::{Becomes, Sets};
use super::ast::{self, Selection};
use super::planner::Planner;
use super::returning::other_items;
use super::row_change::{Act, Repeats, RowChange};
use super::supplied::SchemaForm;
use super::target::Target;
use crate::{Error, Result};

/// The target as it stands in the query's FROM, its rows' numbers shown.
pub(super) fn in_from(target: &Target) -> TableWithJoins {
    let name = &target.stream.name;
    ast::relation(SchemaForm::Shown.name(name.schema()), name, &target.alias)
}

/// An UPDATE.
pub(super) async fn update(planner: &Planner<'_>, update: &Update, with: Option<With>) -> Result<(Target, RowChange)> {
    let text = planner.text;
    let unsupported = |what: &str| {
        let message = format!("UPDATE with {what} is not supported");
        Err(Error::rejected(Code::SyntaxError, message))
    };
    if update.or.is_some() || !update.order_by.is_empty() || update.limit.is_some() || update.output.is_some() {
        return unsupported("OR, ORDER BY, LIMIT or OUTPUT");
    }
    if !update.table.joins.is_empty() {
        return unsupported("a join in place of its table");
    }
    let target = Target::of_factor(planner.shared, text, &update.table.relation)?;
    target.must_change("UPDATE")?;
    let sets = Sets::of(&target, text, &update.assignments)?;
    let from = match &update.from {
        None => &[][..],
        Some(UpdateTableFromKind::AfterSet(from)) => from,
        Some(UpdateTableFromKind::BeforeSet(_)) => return unsupported("FROM before SET"),
    };
    let rows = Changed { with, others: from, filter: update.selection.clone(), returning: update.returning.is_some() };
    let change = rows.plan(planner, &target, "UPDATE", Some(&sets)).await?;
    Ok((target, change))
}

/// A DELETE.
pub(super) async fn delete(planner: &Planner<'_>, delete: &Delete, with: Option<With>) -> Result<(Target, RowChange)> {
    let text = planner.text;
    if !delete.tables.is_empty() || !delete.order_by.is_empty() || delete.limit.is_some() || delete.output.is_some() {
        let message = "DELETE with a list of tables, ORDER BY, LIMIT or OUTPUT is not supported";
        return Err(Error::rejected(Code::SyntaxError, message));
    }
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [table] = from.as_slice() else {
        return Err(Error::rejected(Code::SyntaxError, "DELETE takes one table; others stand behind USING"));
    };
    if !table.joins.is_empty() {
        return Err(Error::rejected(Code::SyntaxError, "DELETE takes a table, not a join; others stand behind USING"));
    }
    let target = Target::of_factor(planner.shared, text, &table.relation)?;
    target.must_change("DELETE")?;
    let others = delete.using.as_deref().unwrap_or_default();
    let rows = Changed { with, others, filter: delete.selection.clone(), returning: delete.returning.is_some() };
    let change = rows.plan(planner, &target, "DELETE", None).await?;
    Ok((target, change))
}

/// A TRUNCATE of one table.
pub(super) async fn truncate(planner: &Planner<'_>, table: &ObjectName) -> Result<(Target, RowChange)> {
    let name = SqlName::from(vec![Ident::with_quote('"', table.schema()), Ident::with_quote('"', table.name())]);
    let target = Target::of(planner.shared, planner.text, &name, None)?;
    target.must_change("TRUNCATE")?;
    let rows = Changed { with: None, others: &[], filter: None, returning: false };
    let change = rows.plan(planner, &target, "TRUNCATE", None).await?;
    Ok((target, change))
}

/// Rows that a statement changes.
struct Changed<'a> {
    with: Option<With>,
    others: &'a [TableWithJoins],
    filter: Option<Expr>,
    returning: bool,
}

impl Changed<'_> {
    async fn plan(
        self,
        planner: &Planner<'_>,
        target: &Target,
        name: &'static str,
        sets: Option<&Sets>,
    ) -> Result<RowChange> {
        let relations = ast::names_in(self.others);
        let mut items = ast::row_items(target);
        let first = items.len();
        let values = sets.map(|sets| sets.items.clone()).unwrap_or_default();
        items.extend(values.into_iter().enumerate().map(|(i, value)| ast::named(value, format!("__set{i}"))));
        let others = items.len();
        let more: Vec<SelectItem> = other_items(self.returning, &relations);
        items.extend(more);
        let from = std::iter::once(in_from(target)).chain(self.others.iter().cloned()).collect();
        let query = Selection { with: self.with, items, from, filter: self.filter }.query()?;
        let plan = planner.plan(query).await?;
        let comes = sets.map(|sets| sets.resolve(target, &plan, first, &Becomes::Old)).transpose()?;
        let repeats = if self.others.is_empty() { Repeats::Never } else { Repeats::FirstCounts };
        let others = others..plan.schema().fields().len();
        let act = Act { name, goes: true, comes };
        Ok(RowChange { plan, acts: vec![act], picked: None, repeats, others })
    }
}
