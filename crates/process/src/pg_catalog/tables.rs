//! Owns the tables of `pg_catalog` that tell of relations, columns, keys and checks.

use std::sync::Arc;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;

use super::relations::{Attribute, Constraint, Numbered, PG_CLASS, Relation};
use super::sheet::Sheet;

/// Whoever made everything, until there are accounts.
const OWNER: i32 = 10;
/// The access methods of tables and of indexes.
const HEAP: i32 = 2;
const BTREE: i32 = 403;
/// The table under which constraints are described.
const PG_CONSTRAINT: i32 = 2606;

/// The tables that are not in the base.
const MORE: [&str; 1] = ["pg_indexes"];

/// `pg_catalog`: what tells of users' objects, over a base that has all else.
#[derive(Debug)]
pub(super) struct CatalogSchema {
    base: Arc<dyn SchemaProvider>,
    numbered: Arc<Numbered>,
}

impl CatalogSchema {
    pub(super) fn new(base: Arc<dyn SchemaProvider>, numbered: Arc<Numbered>) -> Self {
        Self { base, numbered }
    }

    /// Users' relations, and those of the catalog itself.
    async fn all_relations(&self) -> Result<Vec<Relation>> {
        let mut all = self.numbered.relations();
        for name in PG_CATALOG_TABLES {
            // Those that tell of relations have the columns that they have here.
            let columns = match self.base.table(name).await? {
                Some(table) => table.schema(),
                None => continue,
            };
            all.push(self.numbered.of_catalog("pg_catalog", name, &columns));
        }
        Ok(all)
    }

    async fn own_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let numbered = &self.numbered;
        Ok(Some(match name {
            "pg_class" => pg_class(&self.all_relations().await?)?,
            "pg_attribute" => pg_attribute(&self.all_relations().await?)?,
            "pg_namespace" => pg_namespace(numbered)?,
            "pg_constraint" => pg_constraint(&numbered.relations())?,
            "pg_index" => pg_index(&numbered.relations())?,
            "pg_attrdef" => pg_attrdef(numbered)?,
            "pg_description" => pg_description(&numbered.relations())?,
            "pg_tables" => pg_tables(&numbered.relations())?,
            "pg_views" => pg_views(&numbered.relations(), 'v')?,
            "pg_matviews" => pg_views(&numbered.relations(), 'm')?,
            "pg_indexes" => pg_indexes(&numbered.relations())?,
            _ => return Ok(None),
        }))
    }
}

#[async_trait]
impl SchemaProvider for CatalogSchema {
    fn table_names(&self) -> Vec<String> {
        self.base.table_names().into_iter().chain(MORE.map(str::to_owned)).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        // Without an engine the base tells of what its context has.
        let of_context =
            ["pg_class", "pg_attribute", "pg_namespace"].contains(&name) && self.numbered.shared().is_none();
        if !of_context && let Some(own) = self.own_table(name).await? {
            return Ok(Some(own));
        }
        self.base.table(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        self.base.table_exist(name) || MORE.contains(&name)
    }
}

/// A relation, or the index of one of its constraints.
struct Class<'a> {
    relation: &'a Relation,
    index: Option<(i32, &'a Constraint)>,
}

impl Class<'_> {
    fn is_index(&self) -> bool {
        self.index.is_some()
    }
}

fn pg_class(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    let mut classes: Vec<Class<'_>> = relations.iter().map(|relation| Class { relation, index: None }).collect();
    for relation in relations {
        let keys = relation.constraints.iter().filter_map(|c| Some((c.index?, c)));
        classes.extend(keys.map(|key| Class { relation, index: Some(key) }));
    }
    let of_relation = |class: &Class<'_>, yes: bool| yes && !class.is_index();
    let has_key = |relation: &Relation| relation.constraints.iter().any(|c| c.index.is_some());
    let checks = |relation: &Relation| relation.constraints.iter().filter(|c| c.check.is_some()).count() as i16;
    let oid = |c: &Class<'_>| c.index.map_or(c.relation.oid, |(oid, _)| oid);
    Sheet::of(&classes)
        .int("oid", oid)
        .text("relname", |c| c.index.map_or_else(|| c.relation.name.clone(), |(_, key)| key.name.clone()))
        .int("relnamespace", |c| c.relation.schema_oid)
        .int("reltype", |_| 0)
        .int("reloftype", |_| 0)
        .int("relowner", |_| OWNER)
        .int("relam", |c| match c.relation.kind {
            _ if c.is_index() => BTREE,
            'r' | 'm' => HEAP,
            _ => 0,
        })
        .int("relfilenode", oid)
        .int("reltablespace", |_| 0)
        .int("relpages", |_| 1)
        .real("reltuples", -1.0)
        .int("relallvisible", |_| 0)
        .int("reltoastrelid", |_| 0)
        .flag("relhasindex", |c| of_relation(c, has_key(c.relation)))
        .flag("relisshared", |_| false)
        .text("relpersistence", |_| "p")
        .text("relkind", |c| if c.is_index() { "i".to_owned() } else { c.relation.kind.to_string() })
        .small("relnatts", |c| match c.index {
            Some((_, key)) => key.columns.len() as i16,
            None => c.relation.attributes.len() as i16,
        })
        .small("relchecks", |c| if c.is_index() { 0 } else { checks(c.relation) })
        .flag("relhasrules", |c| of_relation(c, matches!(c.relation.kind, 'v' | 'm')))
        .flag("relhastriggers", |_| false)
        .flag("relhassubclass", |_| false)
        .flag("relrowsecurity", |_| false)
        .flag("relforcerowsecurity", |_| false)
        .flag("relispopulated", |_| true)
        .text("relreplident", |_| "d")
        .flag("relispartition", |_| false)
        .int("relrewrite", |_| 0)
        .int("relfrozenxid", |_| 0)
        .int("relminmxid", |_| 0)
        .no_texts("relacl")
        .no_texts("reloptions")
        .nothing("relpartbound", DataType::Utf8)
        .table()
}

fn pg_attribute(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    let mut attributes: Vec<(i32, i16, &Attribute)> = vec![];
    for relation in relations {
        let numbered = (1..).zip(&relation.attributes);
        attributes.extend(numbered.map(|(number, attribute)| (relation.oid, number, attribute)));
        for key in &relation.constraints {
            let Some(index) = key.index else { continue };
            let columns = key.columns.iter().filter_map(|at| relation.attributes.get(usize::try_from(at - 1).ok()?));
            attributes.extend((1..).zip(columns).map(|(number, attribute)| (index, number, attribute)));
        }
    }
    Sheet::of(&attributes)
        .int("attrelid", |a| a.0)
        .text("attname", |a| a.2.name.clone())
        .int("atttypid", |a| a.2.kind.oid)
        .int("attstattarget", |_| -1)
        .small("attlen", |a| a.2.kind.size)
        .small("attnum", |a| a.1)
        .int("attndims", |a| i32::from(a.2.kind.name == "ARRAY"))
        .int("attcacheoff", |_| -1)
        .int("atttypmod", |a| a.2.kind.modifier)
        .flag("attbyval", |a| (1..=8).contains(&a.2.kind.size))
        .text("attalign", |a| match a.2.kind.size {
            1 => "c",
            2 => "s",
            8 => "d",
            _ => "i",
        })
        .text("attstorage", |a| if a.2.kind.size < 0 { "x" } else { "p" })
        .text("attcompression", |_| "")
        .flag("attnotnull", |a| a.2.not_null)
        .flag("atthasdef", |a| a.2.default.is_some())
        .flag("atthasmissing", |_| false)
        .text("attidentity", |_| "")
        .text("attgenerated", |a| if a.2.generated { "s" } else { "" })
        .flag("attisdropped", |_| false)
        .flag("attislocal", |_| true)
        .int("attinhcount", |_| 0)
        .int("attcollation", |_| 0)
        .no_texts("attacl")
        .no_texts("attoptions")
        .no_texts("attfdwoptions")
        .nothing("attmissingval", DataType::Utf8)
        .table()
}

fn pg_namespace(numbered: &Numbered) -> Result<Arc<dyn TableProvider>> {
    Sheet::of(&numbered.schemas())
        .int("oid", |name| numbered.schema(name))
        .text("nspname", String::clone)
        .int("nspowner", |_| OWNER)
        .no_texts("nspacl")
        .nothing("options", DataType::Utf8)
        .table()
}

/// Every constraint with its relation.
fn constraints(relations: &[Relation]) -> Vec<(&Relation, &Constraint)> {
    relations.iter().flat_map(|relation| relation.constraints.iter().map(move |c| (relation, c))).collect()
}

/// Every key with its relation and the number of its index.
fn keys(relations: &[Relation]) -> Vec<(&Relation, &Constraint, i32)> {
    constraints(relations).into_iter().filter_map(|(relation, c)| Some((relation, c, c.index?))).collect()
}

fn pg_constraint(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    Sheet::of(&constraints(relations))
        .int("oid", |(_, c)| c.oid)
        .text("conname", |(_, c)| c.name.clone())
        .int("connamespace", |(r, _)| r.schema_oid)
        .text("contype", |(_, c)| if c.check.is_some() { "c" } else { "p" })
        .flag("condeferrable", |_| false)
        .flag("condeferred", |_| false)
        .flag("convalidated", |_| true)
        .int("conrelid", |(r, _)| r.oid)
        .int("contypid", |_| 0)
        .int("conindid", |(_, c)| c.index.unwrap_or(0))
        .int("conparentid", |_| 0)
        .int("confrelid", |_| 0)
        .text("confupdtype", |_| " ")
        .text("confdeltype", |_| " ")
        .text("confmatchtype", |_| " ")
        .flag("conislocal", |_| true)
        .small("coninhcount", |_| 0)
        .flag("connoinherit", |(_, c)| c.check.is_none())
        .smalls("conkey", |(_, c)| Some(c.columns.clone()))
        .smalls("confkey", |_| None)
        .oids("conpfeqop", |_| vec![])
        .oids("conppeqop", |_| vec![])
        .oids("conffeqop", |_| vec![])
        .smalls("confdelsetcols", |_| None)
        .oids("conexclop", |_| vec![])
        .optional("conbin", |(_, c)| c.check.clone())
        .table()
}

fn pg_index(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    Sheet::of(&keys(relations))
        .int("indexrelid", |(_, _, index)| *index)
        .int("indrelid", |(r, _, _)| r.oid)
        .small("indnatts", |(_, c, _)| c.columns.len() as i16)
        .small("indnkeyatts", |(_, c, _)| c.columns.len() as i16)
        .flag("indisunique", |_| true)
        .flag("indnullsnotdistinct", |_| false)
        .flag("indisprimary", |_| true)
        .flag("indisexclusion", |_| false)
        .flag("indimmediate", |_| true)
        .flag("indisclustered", |_| false)
        .flag("indisvalid", |_| true)
        .flag("indcheckxmin", |_| false)
        .flag("indisready", |_| true)
        .flag("indislive", |_| true)
        .flag("indisreplident", |_| false)
        .smalls("indkey", |(_, c, _)| Some(c.columns.clone()))
        .oids("indcollation", |(_, c, _)| vec![0; c.columns.len()])
        .oids("indclass", |(_, c, _)| vec![0; c.columns.len()])
        .smalls("indoption", |(_, c, _)| Some(vec![0; c.columns.len()]))
        .nothing("indexprs", DataType::Utf8)
        .nothing("indpred", DataType::Utf8)
        .table()
}

fn pg_attrdef(numbered: &Numbered) -> Result<Arc<dyn TableProvider>> {
    let relations = numbered.relations();
    let mut defaults = vec![];
    for relation in &relations {
        for (number, attribute) in (1i16..).zip(&relation.attributes) {
            let oid = || numbered.oid(format!("d:{}:{}", relation.oid, attribute.name));
            defaults.extend(attribute.default.as_ref().map(|text| (oid(), relation.oid, number, text)));
        }
    }
    Sheet::of(&defaults)
        .int("oid", |d| d.0)
        .int("adrelid", |d| d.1)
        .small("adnum", |d| d.2)
        .text("adbin", |d| d.3.clone())
        .table()
}

fn pg_description(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    let mut described: Vec<(i32, i32, i32, String)> = vec![];
    for relation in relations {
        described.extend(relation.comment.clone().map(|text| (relation.oid, PG_CLASS, 0, text)));
        let columns = (1..).zip(&relation.attributes);
        described.extend(columns.filter_map(|(n, a)| Some((relation.oid, PG_CLASS, n, a.comment.clone()?))));
    }
    debug_assert!(described.iter().all(|d| d.1 != PG_CONSTRAINT), "constraints have no comments");
    Sheet::of(&described)
        .int("objoid", |d| d.0)
        .int("classoid", |d| d.1)
        .int("objsubid", |d| d.2)
        .text("description", |d| d.3.clone())
        .table()
}

fn pg_tables(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    let tables: Vec<&Relation> = relations.iter().filter(|r| r.kind == 'r').collect();
    Sheet::of(&tables)
        .text("schemaname", |r| r.schema.clone())
        .text("tablename", |r| r.name.clone())
        .text("tableowner", |_| "postgres")
        .nothing("tablespace", DataType::Utf8)
        .flag("hasindexes", |r| r.constraints.iter().any(|c| c.index.is_some()))
        .flag("hasrules", |_| false)
        .flag("hastriggers", |_| false)
        .flag("rowsecurity", |_| false)
        .table()
}

fn pg_views(relations: &[Relation], kind: char) -> Result<Arc<dyn TableProvider>> {
    let views: Vec<&Relation> = relations.iter().filter(|r| r.kind == kind && r.query.is_some()).collect();
    let name = if kind == 'm' { "matview" } else { "view" };
    let sheet = Sheet::of(&views)
        .text("schemaname", |r| r.schema.clone())
        .text(&format!("{name}name"), |r| r.name.clone())
        .text(&format!("{name}owner"), |_| "postgres");
    let sheet = match kind {
        'm' => sheet.nothing("tablespace", DataType::Utf8).flag("hasindexes", |_| false).flag("ispopulated", |_| true),
        _ => sheet,
    };
    sheet.optional("definition", |r| r.query.clone()).table()
}

fn pg_indexes(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    Sheet::of(&keys(relations))
        .text("schemaname", |(r, _, _)| r.schema.clone())
        .text("tablename", |(r, _, _)| r.name.clone())
        .text("indexname", |(_, c, _)| c.name.clone())
        .nothing("tablespace", DataType::Utf8)
        .text("indexdef", |(r, c, _)| r.index_of(c))
        .table()
}
