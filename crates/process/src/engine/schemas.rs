//! Owns the life of schemas: the namespaces in which objects lie.

use std::sync::Arc;

use millstream_catalog::fault::Code;
use millstream_catalog::{DEFAULT_SCHEMA, ObjectId, ObjectName, SYSTEM_SCHEMA};

use super::Shared;
use crate::ddl::{is_temporary, is_temporary_schema};
use crate::{Error, Result};

/// The schemas that PostgreSQL's tools read about everything else.
const TOOLS: [&str; 2] = ["pg_catalog", "information_schema"];

impl Shared {
    /// Reads the schemas of the catalog.
    pub(super) async fn open_schemas(&self) -> Result<()> {
        *self.schemas.write() = self.options.catalog.schemas().await?.into_iter().collect();
        Ok(())
    }

    /// Every schema that objects of users can lie in, by name.
    pub(crate) fn schemas(&self) -> Vec<String> {
        let created = self.schemas.read();
        let mut names: Vec<String> = created.iter().cloned().chain([DEFAULT_SCHEMA.to_owned()]).collect();
        names.sort();
        names
    }

    /// Whether objects of users can lie in a schema of that name.
    pub(crate) fn has_schema(&self, name: &str) -> bool {
        name == DEFAULT_SCHEMA || is_temporary_schema(name) || self.schemas.read().contains(name)
    }

    /// Refuses names in schemas that are not there, or are the platform's.
    pub(crate) fn check_schema(&self, name: &ObjectName) -> Result<()> {
        if name.is_system() {
            let message = format!("{name} is the platform's own; user streams lie in schema public");
            return Err(Error::rejected(Code::Denied, message));
        }
        if is_temporary(name) {
            let message = format!(
                "{} is temporary, or is to be: CREATE TEMPORARY TABLE, DROP TABLE, TRUNCATE and statements that change \
                 rows are what there is for such",
                name.name()
            );
            return Err(Error::rejected(Code::Unsupported, message));
        }
        if self.has_schema(name.schema()) {
            return Ok(());
        }
        Err(millstream_catalog::Error::NotFound { kind: "schema", name: name.schema().to_owned() }.into())
    }

    /// Creates a schema. Returns false when it exists and `if_not_exists` is set.
    pub(crate) async fn create_schema(&self, name: &str, if_not_exists: bool) -> Result<bool> {
        let _ddl = self.ddl.lock().await;
        refuse_reserved(name)?;
        if if_not_exists && self.has_schema(name) {
            return Ok(false);
        }
        if name == DEFAULT_SCHEMA {
            return Err(millstream_catalog::Error::AlreadyExists { kind: "schema", name: name.to_owned() }.into());
        }
        self.options.catalog.create_schema(name).await?;
        self.schemas.write().insert(name.to_owned());
        self.plans.outdate();
        Ok(true)
    }

    /// Drops a schema, and with `cascade` all that lies in it and what reads that. Returns false when there is none and
    /// `if_exists` is set.
    pub(crate) async fn drop_schema(self: &Arc<Self>, name: &str, if_exists: bool, cascade: bool) -> Result<bool> {
        let _ddl = self.ddl.lock().await;
        refuse_reserved(name)?;
        if name == DEFAULT_SCHEMA {
            return Err(Error::rejected(Code::Denied, "schema public is always there, it cannot be dropped"));
        }
        if if_exists && !self.has_schema(name) {
            return Ok(false);
        }
        if cascade {
            self.empty_schema(name).await?;
        }
        self.options.catalog.drop_schema(name).await?;
        self.schemas.write().remove(name);
        self.plans.outdate();
        Ok(true)
    }

    async fn empty_schema(self: &Arc<Self>, schema: &str) -> Result<()> {
        let mut views = self.all_views();
        views.retain(|view| view.name().schema() == schema);
        let mut streams = self.streams();
        streams.retain(|stream| stream.name().schema() == schema);
        let mut objects: Vec<ObjectId> = streams.iter().map(|s| ObjectId::Stream(s.id())).collect();
        objects.extend(views.iter().map(|view| view.definition().object()));
        objects.into_iter().for_each(|object| self.add_dependents_of(object, &mut views));
        // Those that queries write go with their views.
        streams.retain(|stream| self.writer(stream.name()).is_none());
        if views.is_empty() && streams.is_empty() {
            return Ok(());
        }
        self.remove_objects(&views, &streams).await
    }
}

fn refuse_reserved(name: &str) -> Result<()> {
    if name != SYSTEM_SCHEMA && !TOOLS.contains(&name) && !name.starts_with("pg_") {
        return Ok(());
    }
    let message = format!("schema {name:?} is the platform's own, it cannot be made or dropped");
    Err(Error::rejected(Code::Denied, message))
}
