//! Owns the sources: an input's delta, cut to the columns that are used.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::{Description, Node, Turn};
use crate::Result;
use crate::arrangement::Arrangement;
use crate::compile::InputKind;

/// Reads one input.
#[derive(Debug)]
pub(crate) struct Source {
    input: usize,
    table: String,
    kind: InputKind,
    projection: Option<Vec<usize>>,
    output: SchemaRef,
    /// The column of event times by which late rows are refused.
    late: Option<String>,
}

impl Source {
    pub(crate) fn new(
        input: usize,
        table: String,
        kind: InputKind,
        projection: Option<Vec<usize>>,
        output: SchemaRef,
        late: Option<String>,
    ) -> Self {
        Self { input, table, kind, projection, output, late }
    }

    /// The number of the input that it reads.
    pub(crate) fn input(&self) -> usize {
        self.input
    }

    /// The input's columns that it reads, in its order; `None` for all.
    pub(crate) fn projection(&self) -> Option<&[usize]> {
        self.projection.as_deref()
    }

    /// Says that the input has these of its columns alone from now on, in this order. It has all that are read.
    pub(crate) fn narrow(&mut self, columns: &[usize]) {
        let place = |column: &usize| columns.iter().position(|kept| kept == column);
        if let Some(projection) = &self.projection {
            self.projection = Some(projection.iter().filter_map(place).collect());
        }
    }
}

#[async_trait]
impl Node for Source {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::with_capacity(turn.inputs[self.input].len());
        for batch in turn.inputs[self.input].iter().filter(|b| b.num_rows() > 0) {
            let weight = batch.num_columns() - 1;
            let columns = match &self.projection {
                Some(projection) => projection.iter().chain([&weight]).map(|i| batch.column(*i).clone()).collect(),
                None => batch.columns().to_vec(),
            };
            batches.push(RecordBatch::try_new(self.output.clone(), columns)?);
        }
        Ok(batches)
    }

    fn describe(&self) -> Description {
        let kind = match self.kind {
            InputKind::AppendOnly => "rows only come",
            InputKind::Changing => "rows come and go",
        };
        let late = self.late.as_ref().map(|column| format!("; late by {column} are refused")).unwrap_or_default();
        Description { title: format!("Source: {} ({kind}{late})", self.table), state: vec![] }
    }

    fn children(&self) -> Vec<&dyn Node> {
        vec![]
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        vec![]
    }

    fn visit_sources(&mut self, visit: &mut dyn FnMut(&mut Source)) {
        visit(self);
    }

    fn visit_state(&mut self, _visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        Ok(())
    }
}
