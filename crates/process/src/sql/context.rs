//! Owns how the engine's objects appear to SQL: the catalog, its schemas, and the limits queries run under.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_catalog::{DEFAULT_SCHEMA, ObjectName, SYSTEM_SCHEMA};
use parking_lot::RwLock;

use crate::ddl::CastTypes;
use crate::dml::{SchemaForm, SuppliedTable};
use crate::engine::Shared;
use crate::read::{StreamTable, ViewTable};
use crate::system::{SYSTEM_TABLES, system_table};
use crate::tables::{AsOf, TableSource};
use crate::views::plain_view_table;
use crate::{Error, Result};

/// The name of the one database.
pub(crate) const DATABASE: &str = "millstream";

/// A context over the engine's streams, with its limits: the root that each session copies.
pub(crate) fn query_context(shared: &Arc<Shared>) -> Result<SessionContext> {
    let options = &shared.options;
    let spill = options.data_dir.join("spill");
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(options.query_memory_bytes)))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill.clone()])),
        )
        .build_arc();
    std::fs::create_dir_all(&spill).map_err(|e| {
        Error::rejected(
            millstream_catalog::fault::Code::IoError,
            format!("cannot create the spill folder {}: {e}", spill.display()),
        )
    })?;
    let runtime = runtime.map_err(|e| Error::from_datafusion(e, ""))?;
    shared.lake.register(&runtime);
    let config = SessionConfig::new()
        .with_default_catalog_and_schema(DATABASE, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        // The schema of that name is one of those that are registered.
        .with_information_schema(false)
        .set_bool("datafusion.sql_parser.collect_spans", true)
        .set_str("datafusion.sql_parser.dialect", "postgres")
        .set_usize("datafusion.execution.sort_spill_reservation_bytes", merge_bytes(options.query_memory_bytes))
        // Rows on their way from several tasks to one may lie in several files that are written at once, of which the
        // reader waits for the first, and its writer for the reader. A file with one batch is never waited for.
        .set_usize("datafusion.execution.max_spill_file_size_bytes", 1)
        .set_str("datafusion.execution.time_zone", "UTC");
    let catalogs = Arc::new(Catalogs {
        database: Arc::new(Database { shared: Arc::downgrade(shared), hidden: false, added: Arc::default() }),
    });
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_catalog_list(catalogs)
        .with_default_features()
        .with_analyzer_rule(Arc::new(super::casts::PostgresCasts))
        .with_physical_optimizer_rule(Arc::new(super::sieve::SieveBehindScans))
        .with_physical_optimizer_rule(Arc::new(super::pauses::PauseBehindGrowth))
        .build();
    let context = SessionContext::new_with_state(state);
    // PostgreSQL's name for it.
    let uuid = datafusion::functions::string::uuid();
    context.register_udf(uuid.as_ref().clone().with_aliases(["gen_random_uuid"]));
    let numbered = crate::pg_catalog::Numbered::new(Arc::downgrade(shared));
    crate::pg_catalog::register(&context, DATABASE, numbered).map_err(|e| Error::from_datafusion(e, ""))?;
    super::uuid_casts::register(&context);
    super::overflow::register(&context).map_err(|e| Error::from_datafusion(e, ""))?;
    CastTypes::install(&context);
    millstream_windows::register(&context).map_err(|e| Error::from_datafusion(e, ""))?;
    let versions = Arc::new(super::versions::VersionPlanner);
    context.register_relation_planner(versions).map_err(|e| Error::from_datafusion(e, ""))?;
    Ok(context)
}

/// What each sort keeps back to merge what it spilled: several sorts must find theirs in a small memory too.
fn merge_bytes(query_memory: usize) -> usize {
    (query_memory / 64).clamp(64 << 10, 10 << 20)
}

/// The list of the one database.
#[derive(Debug)]
pub(crate) struct Catalogs {
    database: Arc<Database>,
}

impl Catalogs {
    /// The same catalog, its streams showing their hidden columns.
    pub(crate) fn with_hidden(list: &Arc<dyn CatalogProviderList>) -> Option<Arc<dyn CatalogProviderList>> {
        let any: &dyn std::any::Any = list.as_ref();
        let catalogs = any.downcast_ref::<Catalogs>()?;
        let database = Database {
            shared: Weak::clone(&catalogs.database.shared),
            hidden: true,
            added: Arc::clone(&catalogs.database.added),
        };
        Some(Arc::new(Catalogs { database: Arc::new(database) }))
    }
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, _name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![DATABASE.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == DATABASE).then(|| Arc::clone(&self.database) as Arc<dyn CatalogProvider>)
    }
}

/// The schemas: `public` and those that were created, `system`, and those that are registered beside them
/// (`pg_catalog`, `information_schema`).
struct Database {
    shared: Weak<Shared>,
    hidden: bool,
    added: Arc<RwLock<HashMap<String, Arc<dyn SchemaProvider>>>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("hidden", &self.hidden).finish_non_exhaustive()
    }
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        let own = self.shared.upgrade().map_or_else(Vec::new, |shared| shared.schemas());
        own.into_iter().chain([SYSTEM_SCHEMA.to_owned()]).chain(self.added.read().keys().cloned()).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let (schema, form) = SchemaForm::of(name);
        if schema == SYSTEM_SCHEMA || self.shared.upgrade().is_some_and(|shared| shared.has_schema(schema)) {
            let shared = Weak::clone(&self.shared);
            let hidden = self.hidden || form == SchemaForm::Shown;
            return Some(Arc::new(StreamsSchema { shared, schema: schema.to_owned(), hidden, form }));
        }
        self.added.read().get(name).cloned()
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> DataFusionResult<Option<Arc<dyn SchemaProvider>>> {
        Ok(self.added.write().insert(name.to_owned(), schema))
    }
}

/// The streams of one schema, and in `system` the engine's own tables.
struct StreamsSchema {
    shared: Weak<Shared>,
    schema: String,
    hidden: bool,
    form: SchemaForm,
}

impl std::fmt::Debug for StreamsSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamsSchema").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl StreamsSchema {
    fn table_as_of(
        &self,
        shared: &Arc<Shared>,
        name: &str,
        point: AsOf,
    ) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let Ok(object) = ObjectName::new(self.schema.as_str(), name) else { return Ok(None) };
        let refused =
            |message: String| Err(Error::rejected(millstream_catalog::fault::Code::WrongObjectType, message).into());
        if shared.view(&object).is_some() {
            return refused(format!("view {object} has no versions: it is read as it is now"));
        }
        let table = shared.stream(&object).map_err(datafusion::error::DataFusionError::from)?;
        if table.table().is_none() {
            return refused(format!("stream {object} has no versions: its rows only come, filter by _ingest_time"));
        }
        let hidden = self.hidden && !table.is_others();
        Ok(Some(Arc::new(TableSource::new(Arc::clone(shared), table, hidden).back_to(point))))
    }
}

#[async_trait]
impl SchemaProvider for StreamsSchema {
    fn table_names(&self) -> Vec<String> {
        let Some(shared) = self.shared.upgrade() else { return vec![] };
        let streams = shared.streams().into_iter().filter(|s| s.name().schema() == self.schema);
        let mut names: Vec<String> = streams.map(|s| s.name().name().to_owned()).collect();
        let views = shared.all_views().into_iter().filter(|v| v.stream().is_none()).map(|v| v.name());
        names.extend(views.filter(|n| n.schema() == self.schema).map(|n| n.name().to_owned()));
        if self.schema == SYSTEM_SCHEMA {
            names.extend(SYSTEM_TABLES.iter().map(|name| (*name).to_owned()));
        }
        names
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let Some(shared) = self.shared.upgrade() else { return Ok(None) };
        if self.schema == SYSTEM_SCHEMA
            && let Some(table) = system_table(&shared, name)
        {
            return Ok(Some(table));
        }
        if let Some((table, point)) = AsOf::of_name(name) {
            return self.table_as_of(&shared, table, point);
        }
        let Ok(object) = ObjectName::new(self.schema.as_str(), name) else { return Ok(None) };
        if let Some(view) = shared.plain_view(&object) {
            return Ok(Some(plain_view_table(&shared, &view).await?));
        }
        if let Some(view) = shared.view(&object) {
            return Ok(Some(Arc::new(ViewTable::new(view))));
        }
        match shared.stream(&object) {
            Ok(stream) if self.form == SchemaForm::Excluded => {
                Ok(Some(Arc::new(SuppliedTable::excluded(&stream.definition().stream))))
            }
            Ok(table) if table.table().is_some() => {
                // The rows of a table that others write to have numbers for those alone who change them.
                let hidden = if table.is_others() { self.form == SchemaForm::Shown } else { self.hidden };
                Ok(Some(Arc::new(TableSource::new(shared, table, hidden))))
            }
            Ok(stream) => Ok(Some(Arc::new(StreamTable::new(shared, stream, self.hidden)))),
            // A broken stream fails with its reason, not as one that does not exist.
            Err(error) if shared.knows(&object) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}
