//! Owns rows that are there only while a statement runs, as a table that queries are planned over before.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use millstream_catalog::Stream;

/// What stands behind a schema's name where rows of one of its tables are meant that a statement would add.
const EXCLUDED_SUFFIX: &str = " excluded";
/// What stands behind a schema's name where its tables show their hidden columns.
const SHOWN_SUFFIX: &str = " shown";
/// The column of rows that would be added with the number of the row that has their key.
pub(crate) const MET_COLUMN: &str = "__met";

/// A name by which queries that statements become know a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SchemaForm {
    /// As users know it.
    Plain,
    /// Its tables show their hidden columns.
    Shown,
    /// Its tables are the rows that a statement would add to them.
    Excluded,
}

impl SchemaForm {
    /// The schema and the form that a name means.
    pub(crate) fn of(name: &str) -> (&str, SchemaForm) {
        let cut = |suffix, form| name.strip_suffix(suffix).map(|schema| (schema, form));
        cut(SHOWN_SUFFIX, SchemaForm::Shown)
            .or_else(|| cut(EXCLUDED_SUFFIX, SchemaForm::Excluded))
            .unwrap_or((name, SchemaForm::Plain))
    }

    /// The name for a schema in this form.
    pub(super) fn name(self, schema: &str) -> String {
        let suffix = match self {
            SchemaForm::Plain => "",
            SchemaForm::Shown => SHOWN_SUFFIX,
            SchemaForm::Excluded => EXCLUDED_SUFFIX,
        };
        format!("{schema}{suffix}")
    }
}

/// The rows, where a query that is run finds them: an extension of its session.
#[derive(Debug, Default)]
pub(super) struct SuppliedRows(pub(super) Vec<RecordBatch>);

/// The table of these rows.
#[derive(Debug)]
pub(crate) struct SuppliedTable {
    schema: SchemaRef,
}

impl SuppliedTable {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }

    /// Rows that a statement would add to a table, with the number of the row that each meets.
    pub(crate) fn excluded(table: &Stream) -> Self {
        let own = table.columns.iter().map(|column| column.to_field().with_nullable(true));
        let met = Field::new(MET_COLUMN, DataType::Int64, true);
        Self::new(Arc::new(Schema::new(own.chain(std::iter::once(met)).collect::<Vec<_>>())))
    }
}

#[async_trait]
impl TableProvider for SuppliedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = state.config().get_extension::<SuppliedRows>().unwrap_or_default();
        let rows: Vec<RecordBatch> = rows.0.clone();
        let plan = MemorySourceConfig::try_new_exec(&[rows], Arc::clone(&self.schema), projection.cloned())?;
        Ok(plan)
    }
}
