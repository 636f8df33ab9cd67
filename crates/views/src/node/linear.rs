//! Owns the linear node: filters, projections, unnest and union, run over the delta by the engine's own operators.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::rows::run_by_row;
use super::{Description, Node, Turn};
use crate::Result;
use crate::arrangement::Arrangement;
use crate::delta::conform;
use crate::fragment::Fragment;

/// Operators that work row by row.
#[derive(Debug)]
pub(crate) struct Linear {
    fragment: Fragment,
    children: Vec<Box<dyn Node>>,
    output: SchemaRef,
    steps: Vec<String>,
    /// Whether rows that differ below differ in what is made of them.
    tells_apart: bool,
}

impl Linear {
    pub(crate) fn new(
        fragment: Fragment,
        children: Vec<Box<dyn Node>>,
        output: SchemaRef,
        steps: Vec<String>,
        tells_apart: bool,
    ) -> Self {
        Self { fragment, children, output, steps, tells_apart }
    }
}

#[async_trait]
impl Node for Linear {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let mut inputs = Vec::with_capacity(self.children.len());
        for child in &mut self.children {
            inputs.push(child.step(turn).await?);
        }
        let batches = run_by_row(&mut self.fragment, inputs, turn).await?;
        batches.iter().map(|b| conform(b, &self.output)).collect()
    }

    fn describe(&self) -> Description {
        let steps = if self.steps.is_empty() { "project columns".to_owned() } else { self.steps.join("; ") };
        Description { title: format!("Linear: {steps}"), state: vec![] }
    }

    fn children(&self) -> Vec<&dyn Node> {
        self.children.iter().map(|c| c.as_ref()).collect()
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        self.children.iter_mut().collect()
    }

    fn is_consolidated(&self) -> bool {
        self.tells_apart && self.children.iter().all(|child| child.is_consolidated())
    }

    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        self.children.iter_mut().try_for_each(|child| child.visit_state(visit))
    }
}
