//! Owns the scan of tables that others changed in ways a plain Parquet scan cannot read: deletion vectors above all.
//!
//! delta-rs reads them, more slowly: it replays the log for each plan. Its columns are cast to what the stream's
//! readers expect.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::{cast, col};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use deltalake_core::DeltaTable;

use crate::provider::LakeProvider;
use crate::table::{Inner, LakeSnapshot};

type Result<T> = datafusion::error::Result<T>;

/// A provider over one snapshot, by way of delta-rs.
#[derive(Debug)]
pub(crate) struct ForeignProvider {
    /// The table.
    pub table: Arc<Inner>,
    /// The snapshot; holding it keeps vacuum from its files.
    pub snapshot: Arc<LakeSnapshot>,
    /// What readers get.
    pub schema: SchemaRef,
    /// Files that wait for their commit, which are read too.
    pub staged: Option<LakeProvider>,
}

#[async_trait]
impl TableProvider for ForeignProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let external = |e: deltalake_core::DeltaTableError| DataFusionError::External(Box::new(e));
        let mut table = DeltaTable::new(self.table.log_store());
        let version = u64::try_from(self.snapshot.version).unwrap_or(0);
        table.load_version(version).await.map_err(external)?;
        table.update_datafusion_session(state).map_err(external)?;
        let provider = table.table_provider().await?;
        let wanted = datafusion::common::project_schema(&self.schema, projection)?;
        let there = provider.schema();
        let columns = wanted.fields().iter().map(|f| Ok(there.index_of(f.name())?)).collect::<Result<Vec<_>>>()?;
        let limit = limit.filter(|_| filters.is_empty());
        let plan = provider.scan(state, Some(&columns), &[], limit).await?;
        let found = plan.schema();
        let casts = wanted
            .fields()
            .iter()
            .map(|field| {
                let expr = cast(col(field.name(), &found)?, &found, field.data_type().clone())?;
                Ok(ProjectionExpr { expr, alias: field.name().clone() })
            })
            .collect::<Result<Vec<_>>>()?;
        let plan: Arc<dyn ExecutionPlan> = Arc::new(ProjectionExec::try_new(casts, plan)?);
        match &self.staged {
            Some(staged) => UnionExec::try_new(vec![plan, staged.scan(state, projection, filters, limit).await?]),
            None => Ok(plan),
        }
    }
}
