//! Owns the inputs of a dataflow: table scans become sources.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{LogicalPlan, TableScan, TableScanBuilder, TableSource};

use super::{Compiler, Part, Sealed, ViewInput, linear};
use crate::node::Source;
use crate::{Error, Result};

/// A table of which only the columns are known: no filter goes into it.
#[derive(Debug)]
struct Bare(SchemaRef);

impl TableSource for Bare {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
}

/// The plan over bare sources, so that the optimizer pushes nothing into them but columns.
pub(crate) fn detached(plan: LogicalPlan) -> Result<LogicalPlan> {
    let detached = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(Transformed::no(node)) };
        // A plain view stands for its query.
        if scan.source.get_logical_plan().is_some() {
            return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
        }
        let source = Arc::new(Bare(scan.source.schema()));
        let bare = TableScanBuilder::new(scan.table_name.clone(), source)
            .with_projection(scan.projection.clone())
            .with_filters(scan.filters.clone())
            .with_fetch(scan.fetch)
            .build()?;
        Ok(Transformed::yes(LogicalPlan::TableScan(bare)))
    })?;
    Ok(detached.data)
}

impl Compiler<'_> {
    pub(super) fn source(&mut self, scan: &TableScan) -> Result<Part> {
        if scan.fetch.is_some() {
            return Err(Error::not_incremental(
                "LIMIT without ORDER BY",
                "which rows it keeps is chance; add ORDER BY",
            ));
        }
        let input = self.input(&scan.table_name, scan)?;
        let kind = self.inputs[input].kind;
        let schema = Arc::clone(&scan.projected_schema);
        let weighted = Arc::new(linear::weighted(&schema)?.as_arrow().clone());
        let node = Source::new(input, scan.table_name.to_string(), kind, scan.projection.clone(), weighted);
        let grows = kind == super::InputKind::AppendOnly;
        let part = self.part_of(Sealed { node: Box::new(node), schema, grows, key: None })?;
        match conjunction(scan.filters.iter().cloned()) {
            Some(predicate) => linear::filter(part, predicate),
            None => Ok(part),
        }
    }

    /// The number of the input that a scan reads.
    fn input(&mut self, table: &TableReference, scan: &TableScan) -> Result<usize> {
        if let Some(i) = self.inputs.iter().position(|input| &input.table == table) {
            return Ok(i);
        }
        let Some(kind) = (self.kind_of)(table) else {
            return Err(Error::not_incremental(
                format!("reading {table}"),
                "a view can read streams, tables and materialized views",
            ));
        };
        self.inputs.push(ViewInput { table: table.clone(), schema: scan.source.schema(), kind });
        Ok(self.inputs.len() - 1)
    }
}
