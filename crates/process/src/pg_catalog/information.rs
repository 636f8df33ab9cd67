//! Owns `information_schema`: tables, columns, views, keys and checks in the words of the standard.

use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;

use super::relations::{Attribute, Constraint, Numbered, Relation};
use super::sheet::Sheet;

/// The tables that tell of users' objects.
const OWN: [&str; 9] = [
    "tables",
    "columns",
    "views",
    "schemata",
    "table_constraints",
    "key_column_usage",
    "constraint_column_usage",
    "check_constraints",
    "referential_constraints",
];

/// `information_schema`, over a base that has all else.
#[derive(Debug)]
pub(super) struct InformationSchema {
    base: Arc<dyn SchemaProvider>,
    numbered: Arc<Numbered>,
    database: String,
}

impl InformationSchema {
    pub(super) fn new(base: Arc<dyn SchemaProvider>, numbered: Arc<Numbered>, database: &str) -> Self {
        Self { base, numbered, database: database.to_owned() }
    }

    fn own_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let (relations, database) = (self.numbered.relations(), self.database.as_str());
        Ok(Some(match name {
            "tables" => tables(&relations, database)?,
            "columns" => columns(&relations, database)?,
            "views" => views(&relations, database)?,
            "schemata" => schemata(&self.numbered.schemas(), database)?,
            "table_constraints" => table_constraints(&relations, database)?,
            "key_column_usage" => column_usage(&relations, database, true)?,
            "constraint_column_usage" => column_usage(&relations, database, false)?,
            "check_constraints" => check_constraints(&relations, database)?,
            "referential_constraints" => referential_constraints()?,
            _ => return Ok(None),
        }))
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.base.table_names();
        names.extend(OWN.iter().filter(|name| !self.base.table_exist(name)).map(|name| (*name).to_owned()));
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.own_table(name)? {
            Some(own) => Ok(Some(own)),
            None => self.base.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        OWN.contains(&name) || self.base.table_exist(name)
    }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "YES" } else { "NO" }
}

fn tables(relations: &[Relation], database: &str) -> Result<Arc<dyn TableProvider>> {
    Sheet::of(relations)
        .text("table_catalog", |_| database)
        .text("table_schema", |r| r.schema.clone())
        .text("table_name", |r| r.name.clone())
        .text("table_type", Relation::word)
        .text("is_insertable_into", |r| yes_or_no(r.kind == 'r'))
        .text("is_typed", |_| "NO")
        .nothing("commit_action", DataType::Utf8)
        .table()
}

/// A column with its relation and its place.
type Placed<'a> = (&'a Relation, i32, &'a Attribute);

fn columns(relations: &[Relation], database: &str) -> Result<Arc<dyn TableProvider>> {
    let columns: Vec<Placed<'_>> =
        relations.iter().flat_map(|r| (1..).zip(&r.attributes).map(move |(place, a)| (r, place, a))).collect();
    let is = |(_, _, a): &Placed<'_>, names: &[&str]| names.contains(&a.kind.name);
    let digits = |c: &Placed<'_>| match c.2.kind.name {
        "smallint" => Some(16),
        "integer" => Some(32),
        "bigint" => Some(64),
        "real" => Some(24),
        "double precision" => Some(53),
        "numeric" => Some((c.2.kind.modifier - 4) >> 16),
        _ => None,
    };
    Sheet::of(&columns)
        .text("table_catalog", |_| database)
        .text("table_schema", |(r, _, _)| r.schema.clone())
        .text("table_name", |(r, _, _)| r.name.clone())
        .text("column_name", |(_, _, a)| a.name.clone())
        .int("ordinal_position", |(_, place, _)| *place)
        .optional("column_default", |(_, _, a)| a.default.clone().filter(|_| !a.generated))
        .text("is_nullable", |(_, _, a)| yes_or_no(!a.not_null))
        .text("data_type", |(_, _, a)| a.kind.name)
        .optional_int("character_maximum_length", |_| None)
        .optional_int("numeric_precision", digits)
        .optional_int("numeric_precision_radix", |c| digits(c).map(|_| if is(c, &["numeric"]) { 10 } else { 2 }))
        .optional_int("numeric_scale", |c| match c.2.kind.name {
            "numeric" => Some((c.2.kind.modifier - 4) & 0x7ff),
            "smallint" | "integer" | "bigint" => Some(0),
            _ => None,
        })
        .optional_int("datetime_precision", |(_, _, a)| {
            let times = ["time", "interval"];
            times.iter().any(|time| a.kind.name.starts_with(time)).then_some(6)
        })
        .text("udt_catalog", |_| database)
        .text("udt_schema", |_| "pg_catalog")
        .text("is_generated", |(_, _, a)| if a.generated { "ALWAYS" } else { "NEVER" })
        .optional("generation_expression", |(_, _, a)| a.default.clone().filter(|_| a.generated))
        .text("is_identity", |_| "NO")
        .text("is_updatable", |(r, _, a)| yes_or_no(r.kind == 'r' && !a.generated))
        .table()
}

fn views(relations: &[Relation], database: &str) -> Result<Arc<dyn TableProvider>> {
    let views: Vec<&Relation> = relations.iter().filter(|r| matches!(r.kind, 'v' | 'm')).collect();
    Sheet::of(&views)
        .text("table_catalog", |_| database)
        .text("table_schema", |r| r.schema.clone())
        .text("table_name", |r| r.name.clone())
        .optional("view_definition", |r| r.query.clone())
        .text("definition", |r| r.query.clone().unwrap_or_default())
        .text("check_option", |_| "NONE")
        .text("is_updatable", |_| "NO")
        .text("is_insertable_into", |_| "NO")
        .table()
}

fn schemata(schemas: &[String], database: &str) -> Result<Arc<dyn TableProvider>> {
    Sheet::of(schemas)
        .text("catalog_name", |_| database)
        .text("schema_name", String::clone)
        .text("schema_owner", |_| "postgres")
        .nothing("default_character_set_catalog", DataType::Utf8)
        .nothing("default_character_set_schema", DataType::Utf8)
        .nothing("default_character_set_name", DataType::Utf8)
        .nothing("sql_path", DataType::Utf8)
        .table()
}

/// Every constraint with its relation.
fn constraints(relations: &[Relation]) -> Vec<(&Relation, &Constraint)> {
    relations.iter().flat_map(|relation| relation.constraints.iter().map(move |c| (relation, c))).collect()
}

fn table_constraints(relations: &[Relation], database: &str) -> Result<Arc<dyn TableProvider>> {
    Sheet::of(&constraints(relations))
        .text("constraint_catalog", |_| database)
        .text("constraint_schema", |(r, _)| r.schema.clone())
        .text("constraint_name", |(_, c)| c.name.clone())
        .text("table_catalog", |_| database)
        .text("table_schema", |(r, _)| r.schema.clone())
        .text("table_name", |(r, _)| r.name.clone())
        .text("constraint_type", |(_, c)| if c.check.is_some() { "CHECK" } else { "PRIMARY KEY" })
        .text("is_deferrable", |_| "NO")
        .text("initially_deferred", |_| "NO")
        .text("enforced", |_| "YES")
        .table()
}

/// The columns of keys; or those of all constraints.
fn column_usage(relations: &[Relation], database: &str, keys: bool) -> Result<Arc<dyn TableProvider>> {
    let all = constraints(relations).into_iter().filter(|(_, c)| !keys || c.check.is_none());
    let used: Vec<(&Relation, &Constraint, i32, &str)> =
        all.flat_map(|(r, c)| (1..).zip(r.columns_of(c)).map(move |(place, column)| (r, c, place, column))).collect();
    let sheet = Sheet::of(&used)
        .text("constraint_catalog", |_| database)
        .text("constraint_schema", |(r, ..)| r.schema.clone())
        .text("constraint_name", |(_, c, ..)| c.name.clone())
        .text("table_catalog", |_| database)
        .text("table_schema", |(r, ..)| r.schema.clone())
        .text("table_name", |(r, ..)| r.name.clone())
        .text("column_name", |(.., column)| *column);
    match keys {
        true => sheet
            .int("ordinal_position", |(_, _, place, _)| *place)
            .nothing("position_in_unique_constraint", DataType::Int32)
            .table(),
        false => sheet.table(),
    }
}

fn check_constraints(relations: &[Relation], database: &str) -> Result<Arc<dyn TableProvider>> {
    let checks: Vec<_> = constraints(relations).into_iter().filter(|(_, c)| c.check.is_some()).collect();
    Sheet::of(&checks)
        .text("constraint_catalog", |_| database)
        .text("constraint_schema", |(r, _)| r.schema.clone())
        .text("constraint_name", |(_, c)| c.name.clone())
        .optional("check_clause", |(_, c)| c.check.clone())
        .table()
}

/// There are none: tables change without looking at each other.
fn referential_constraints() -> Result<Arc<dyn TableProvider>> {
    let none: [(); 0] = [];
    ["constraint_catalog", "constraint_schema", "constraint_name", "unique_constraint_catalog"]
        .iter()
        .chain(&["unique_constraint_schema", "unique_constraint_name", "match_option", "update_rule", "delete_rule"])
        .fold(Sheet::of(&none), |sheet, name| sheet.nothing(name, DataType::Utf8))
        .table()
}
