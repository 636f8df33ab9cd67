//! Owns a table as the engine's table: the lake's rows that are still there, and the hot tier's.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;
use millstream_catalog::fault::Code;
use millstream_catalog::{OFFSET_COLUMN, ObjectName};

use super::live_rows::IsLive;
use super::state::TableSnapshot;
use super::travel::{AsOf, snapshot_as_of};
use crate::Error;
use crate::engine::Shared;
use crate::read::{ReadPoint, reader_schema, scan_lake};
use crate::stream::OpenStream;

/// A table as a table of the engine.
#[derive(Debug)]
pub(crate) struct TableSource {
    shared: Arc<Shared>,
    table: Arc<OpenStream>,
    schema: SchemaRef,
    /// The version of the definition that the schema is of, as far as columns were more than added.
    reshaped: u32,
    instant: Instant,
}

/// When a table is read.
#[derive(Debug)]
enum Instant {
    /// When the statement's other tables are.
    Statement,
    /// At a point in its history.
    AsOf(AsOf),
    /// As it was found before.
    Found(TableSnapshot),
}

impl TableSource {
    /// The table; `hidden` shows `_partition`, `_offset` and `_ingest_time` as columns.
    pub(crate) fn new(shared: Arc<Shared>, table: Arc<OpenStream>, hidden: bool) -> Self {
        let definition = table.definition();
        let schema = if hidden { &definition.full_schema } else { &definition.schema };
        let reshaped = definition.stream.reshaped();
        Self { shared, schema: reader_schema(schema), table, reshaped, instant: Instant::Statement }
    }

    /// The table as it was found before.
    pub(crate) fn at(self, snapshot: TableSnapshot) -> Self {
        Self { instant: Instant::Found(snapshot), ..self }
    }

    /// The table as it was at a point in its history, in today's columns.
    pub(crate) fn back_to(self, point: AsOf) -> Self {
        Self { instant: Instant::AsOf(point), ..self }
    }

    async fn snapshot(&self, state: &dyn Session) -> Result<TableSnapshot> {
        match &self.instant {
            Instant::Found(snapshot) => Ok(snapshot.clone()),
            Instant::AsOf(point) => Ok(snapshot_as_of(&self.shared, &self.table, *point).await?),
            Instant::Statement => {
                let point = state.config().get_extension::<ReadPoint>().unwrap_or_default();
                Ok(point.table(&self.shared, &self.table).await?)
            }
        }
    }
}

#[async_trait]
impl TableProvider for TableSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let snapshot = self.snapshot(state).await?;
        if snapshot.reshaped != self.reshaped {
            return Err(altered_meanwhile(self.table.name()).into());
        }
        let output = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(2);
        if snapshot.lake.files > 0 || !snapshot.hot.files.is_empty() {
            parts.push(scan_files(&snapshot, state, &output, filters, limit).await?);
        }
        let rows = snapshot.hot.rows(&output)?;
        if !rows.is_empty() {
            parts.push(MemorySourceConfig::try_new_exec(&[rows], Arc::clone(&output), None)?);
        }
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(output))),
            1 => Ok(parts.swap_remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}

/// The refusal of a statement whose table got other columns after it was planned.
pub(crate) fn altered_meanwhile(table: &ObjectName) -> Error {
    let message = format!("table {table} was altered while the statement waited: run it again");
    Error::rejected(Code::SerializationFailure, message)
}

/// The rows in files, without those that went.
async fn scan_files(
    snapshot: &TableSnapshot,
    state: &dyn Session,
    output: &SchemaRef,
    filters: &[Expr],
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let numbered = snapshot.table.is_others() && output.index_of(OFFSET_COLUMN).is_ok();
    let files = match numbered {
        true => snapshot.table.numbered_provider(&snapshot.lake),
        false => snapshot.table.provider_with_staged(&snapshot.lake, &snapshot.hot.files),
    };
    let files = files.map_err(|e| DataFusionError::External(Box::new(e)))?;
    let gone = &snapshot.hot.gone;
    if gone.is_empty() || !(snapshot.lake.touches(gone) || snapshot.hot.files_lost_rows()) {
        return scan_lake(files.as_ref(), state, output, filters, limit).await;
    }
    let wanted = output.fields().len();
    let numbered = with_number(output);
    let scan = scan_lake(files.as_ref(), state, &numbered, filters, None).await?;
    let live = Arc::new(IsLive::new(col(OFFSET_COLUMN, &numbered)?, Arc::clone(gone)));
    let mut filter = FilterExecBuilder::new(live, scan);
    if numbered.fields().len() > wanted {
        filter = filter.apply_projection(Some((0..wanted).collect()))?;
    }
    Ok(Arc::new(filter.build()?))
}

/// The schema with the row's number, behind the others if it is not among them.
fn with_number(output: &SchemaRef) -> SchemaRef {
    if output.index_of(OFFSET_COLUMN).is_ok() {
        return Arc::clone(output);
    }
    let mut fields: Vec<Arc<Field>> = output.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(OFFSET_COLUMN, arrow::datatypes::DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}
