//! Owns a stream as the engine's table: the union of its lake snapshot and its log.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;

use super::log_scan::LogScanExec;
use super::{ReadPoint, StreamSnapshot, reader_schema, scan_lake};
use crate::engine::Shared;
use crate::stream::OpenStream;

/// A stream as a table.
#[derive(Debug)]
pub(crate) struct StreamTable {
    shared: Arc<Shared>,
    stream: Arc<OpenStream>,
    schema: SchemaRef,
    full_schema: SchemaRef,
    lake_alone: bool,
}

impl StreamTable {
    /// The table of `stream`; `hidden` shows `_partition`, `_offset` and `_ingest_time` as columns.
    pub(crate) fn new(shared: Arc<Shared>, stream: Arc<OpenStream>, hidden: bool) -> Self {
        let definition = stream.definition();
        let full_schema = reader_schema(&definition.full_schema);
        let schema = if hidden { Arc::clone(&full_schema) } else { reader_schema(&definition.schema) };
        Self { shared, stream, schema, full_schema, lake_alone: false }
    }

    /// The table without the rows that only the log has.
    pub(crate) fn of_lake(self) -> Self {
        Self { lake_alone: true, ..self }
    }

    async fn scan_lake(
        &self,
        state: &dyn Session,
        snapshot: &StreamSnapshot,
        output: &SchemaRef,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some((table, pinned)) = snapshot.lake.as_ref().filter(|(_, s)| s.files > 0) else {
            return Ok(None);
        };
        let provider = table.provider(pinned).map_err(|e| DataFusionError::External(Box::new(e)))?;
        scan_lake(provider.as_ref(), state, output, filters, limit).await.map(Some)
    }
}

#[async_trait]
impl TableProvider for StreamTable {
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
        let point = state.config().get_extension::<ReadPoint>().unwrap_or_default();
        let snapshot = point.snapshot(&self.shared, &self.stream).await?;
        let output = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let mut parts: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(2);
        if let Some(lake) = self.scan_lake(state, &snapshot, &output, filters, limit).await? {
            parts.push(lake);
        }
        if !self.lake_alone && snapshot.log.end().rows_since(&snapshot.seam) > 0 {
            let predicate = physical_filter(state, filters, &self.full_schema)?;
            parts.push(Arc::new(LogScanExec::new(
                self.stream.name().to_string(),
                &snapshot,
                Arc::clone(&output),
                predicate.map(|p| (p, Arc::clone(&self.full_schema))),
                limit,
                state.config().target_partitions(),
            )?));
        }
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(output))),
            1 => Ok(parts.swap_remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}

fn physical_filter(state: &dyn Session, filters: &[Expr], schema: &SchemaRef) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(None) };
    let df_schema = DFSchema::try_from(Arc::clone(schema))?;
    state.create_physical_expr(filter, &df_schema).map(Some)
}
