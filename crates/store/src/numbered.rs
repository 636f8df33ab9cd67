//! Owns the scan of a table of others that shows a number for each row: which file it lies in, and where in it.
//!
//! ```text
//! number = the file's place among the snapshot's files, by path · 2⁴⁰ + the row's place in the file
//! ```
//!
//! A number holds for one snapshot. Files are left out by their statistics and by the filters as in any scan.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::physical_plan::FileScanConfigBuilder;
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use millstream_catalog::OFFSET_COLUMN;
use object_store::path::Path;
use parquet::arrow::RowNumber;

use crate::Error;
use crate::provider::{LakeProvider, balance, parquet_source};
use crate::table::{Inner, LakeSnapshot, LakeTable};
use crate::write::location;

/// Bits of a number that say where in its file a row is.
pub(crate) const PLACE_BITS: u32 = 40;
/// The columns of the scan that a number is made of.
const FILE: &str = "__millstream_file";
const PLACE: &str = "__millstream_row";

impl LakeTable {
    /// Whether others made the table and write to it.
    pub fn is_others(&self) -> bool {
        self.inner.is_others
    }

    /// A provider over one snapshot with a column `_offset` behind its columns, the number of the row in this
    /// snapshot.
    pub fn numbered_provider(&self, snapshot: &Arc<LakeSnapshot>) -> crate::Result<Arc<dyn TableProvider>> {
        let with_vector = snapshot.state.files.values().find(|f| f.add.deletion_vector.is_some());
        if let Some(file) = with_vector {
            return Err(Error::Refused {
                table: self.inner.url.to_string(),
                reason: format!(
                    "file {} has a deletion vector (Delta feature deletionVectors), so its rows cannot be changed here; \
                     rewrite the files where they were made (REORG TABLE … APPLY (PURGE)), then they can",
                    file.add.path
                ),
            });
        }
        let plain = LakeProvider::new(&self.inner, snapshot, vec![], true)?;
        let mut fields: Vec<FieldRef> = plain.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(OFFSET_COLUMN, DataType::Int64, false)));
        let schema = Arc::new(Schema::new(fields));
        Ok(Arc::new(NumberedProvider { table: self.inner.clone(), snapshot: snapshot.clone(), plain, schema }))
    }
}

/// The provider.
#[derive(Debug)]
struct NumberedProvider {
    table: Arc<Inner>,
    snapshot: Arc<LakeSnapshot>,
    plain: LakeProvider,
    schema: SchemaRef,
}

impl NumberedProvider {
    /// The place of each of the snapshot's files among them.
    fn numbers(&self) -> HashMap<Path, i64> {
        let files = self.snapshot.state.files.keys().zip(0..);
        files.filter_map(|(name, i)| Some((location(&self.table.history.folder, name).ok()?, i))).collect()
    }

    /// How the scan has the columns.
    fn scan_schema(&self) -> TableSchema {
        let folders = self.plain.scan.table_partition_cols().iter().cloned();
        let file = Arc::new(Field::new(FILE, DataType::Int64, false));
        let place = Field::new(PLACE, DataType::Int64, false).with_extension_type(RowNumber);
        TableSchema::builder(self.plain.scan.file_schema().clone())
            .with_table_partition_cols(folders.chain([file]).collect::<Vec<_>>())
            .with_virtual_columns(vec![Arc::new(place)])
            .build()
    }
}

#[async_trait]
impl TableProvider for NumberedProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
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
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let output = datafusion::common::project_schema(&self.schema, projection)?;
        state.runtime_env().register_object_store(self.table.engine_url.as_ref(), self.table.history.store.clone());
        let of_files = |filter: &&Expr| filter.column_refs().iter().all(|c| c.name != OFFSET_COLUMN);
        let filters: Vec<Expr> = filters.iter().filter(of_files).cloned().collect();
        let (mut files, _) = self.plain.candidates(state, &filters)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(output)));
        }
        let numbers = self.numbers();
        for file in &mut files {
            let number = numbers.get(&file.object_meta.location).copied();
            file.partition_values.push(ScalarValue::Int64(number));
            file.statistics = None;
        }
        let schema = self.scan_schema();
        let there = schema.table_schema().clone();
        let named = output.fields().iter().filter(|f| f.name() != OFFSET_COLUMN).map(|f| f.name().as_str());
        let wanted: Vec<usize> =
            named.chain([FILE, PLACE]).map(|name| Ok(there.index_of(name)?)).collect::<Result<_>>()?;
        let source = parquet_source(&self.table, state, schema);
        let config = FileScanConfigBuilder::new(self.table.engine_url.clone(), Arc::new(source))
            .with_file_groups(balance(files, state.config().target_partitions()))
            .with_projection_indices(Some(wanted))?
            .build();
        let scan = DataSourceExec::from_data_source(config);
        let found = scan.schema();
        let exprs = output.fields().iter().map(|field| {
            let expr = match field.name().as_str() {
                OFFSET_COLUMN => {
                    let first = binary(col(FILE, &found)?, Operator::Multiply, lit(1_i64 << PLACE_BITS), &found)?;
                    binary(first, Operator::Plus, col(PLACE, &found)?, &found)?
                }
                name => col(name, &found)?,
            };
            Ok(ProjectionExpr { expr, alias: field.name().clone() })
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(exprs, scan)?))
    }
}
