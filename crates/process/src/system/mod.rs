//! Owns the engine's own tables in schema `system`: one file per table, its columns' comments being the user docs.
//!
//! `system.quarantine` is not here: it is a stream like any other.

mod jobs;
mod maintenance;
mod queries;
mod streams;
mod tables;
mod views;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::engine::Shared;

/// The tables, by name.
pub(crate) const SYSTEM_TABLES: [&str; 6] = ["jobs", "maintenance", "queries", "streams", "tables", "views"];

/// The table of that name, if it is one of [`SYSTEM_TABLES`].
pub(crate) fn system_table(shared: &Arc<Shared>, name: &str) -> Option<Arc<dyn TableProvider>> {
    let (schema, rows): (SchemaRef, RowsOf) = match name {
        "jobs" => (jobs::schema(), jobs::rows),
        "maintenance" => (maintenance::schema(), maintenance::rows),
        "queries" => (queries::schema(), queries::rows),
        "streams" => (streams::schema(), streams::rows),
        "tables" => (tables::schema(), tables::rows),
        "views" => (views::schema(), views::rows),
        _ => return None,
    };
    Some(Arc::new(SystemTable { shared: Arc::clone(shared), schema, rows }))
}

/// Reads a table's rows as they are now, in its schema.
type RowsOf = fn(&Shared, &SchemaRef) -> Result<RecordBatch>;

/// A table whose rows are made when it is scanned.
struct SystemTable {
    shared: Arc<Shared>,
    schema: SchemaRef,
    rows: RowsOf,
}

impl std::fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemTable").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = (self.rows)(&self.shared, &self.schema)?;
        let plan = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(plan)
    }
}
