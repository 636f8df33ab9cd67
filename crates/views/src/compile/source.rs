//! Owns the inputs of a dataflow: table scans become sources.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{LogicalPlan, TableScan, TableScanBuilder, TableSource};

use super::{Bound, Compiler, Part, Sealed, Times, ViewInput, linear};
use crate::node::Source;
use crate::watermark::time_column;
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
        let times = self.times_of(input, scan.projection.as_deref())?;
        let late = times.is_some().then(|| self.inputs[input].watermark.as_ref().map(|w| w.column.clone())).flatten();
        let node = Source::new(input, scan.table_name.to_string(), kind, scan.projection.clone(), weighted, late);
        let times = times.unwrap_or_default();
        let grows = kind == super::InputKind::AppendOnly;
        let part = self.part_of(Sealed { node: Box::new(node), schema, grows, key: None, times })?;
        match conjunction(scan.filters.iter().cloned()) {
            Some(predicate) => linear::filter(part, predicate),
            None => Ok(part),
        }
    }

    /// The bounds of the event times among the columns that are read; `None` where late rows are taken in.
    fn times_of(&self, input: usize, projection: Option<&[usize]>) -> Result<Option<Times>> {
        let input_of = &self.inputs[input];
        if self.options.emit_on_window_close && input_of.kind == super::InputKind::Changing && !input_of.looked_up {
            return Err(Error::not_incremental(
                format!("EMIT ON WINDOW CLOSE over {}", input_of.table),
                "its rows come and go, so that no window is ever final; read a stream, and look up the other: JOIN … \
                 FOR SYSTEM_TIME AS OF PROCTIME()",
            ));
        }
        let Some(spec) = input_of.watermark.as_ref().filter(|_| self.options.emit_on_window_close) else {
            return Ok(None);
        };
        let (column, _) = time_column(&input_of.table, &input_of.schema, spec)?;
        let bound = Bound::new(input, input_of.schema.field(column).data_type().clone());
        let place = match projection {
            Some(projection) => projection.iter().position(|c| *c == column),
            None => Some(column),
        };
        Ok(Some(place.map(|place| (place, vec![bound])).into_iter().collect()))
    }

    /// The number of the input that a scan reads.
    fn input(&mut self, table: &TableReference, scan: &TableScan) -> Result<usize> {
        // What is looked up is read before the rows that look it up, so it is another input; none of its rows are late.
        let known = |input: &ViewInput| &input.table == table && input.looked_up == self.looked_up;
        if let Some(i) = self.inputs.iter().position(known) {
            return Ok(i);
        }
        let Some(kind) = (self.kind_of)(table) else {
            return Err(Error::not_incremental(
                format!("reading {table}"),
                "a view can read streams, tables and materialized views",
            ));
        };
        let watermark_of = self.options.watermark_of.filter(|_| !self.looked_up);
        let watermark = watermark_of.and_then(|watermark_of| watermark_of(table));
        let (schema, looked_up) = (scan.source.schema(), self.looked_up);
        self.inputs.push(ViewInput { table: table.clone(), schema, kind, watermark, looked_up });
        Ok(self.inputs.len() - 1)
    }
}
