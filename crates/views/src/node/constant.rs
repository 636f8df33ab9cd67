//! Owns rows that the query itself holds: they come in the first step.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::{Description, Node, Turn};
use crate::Result;
use crate::arrangement::Arrangement;
use crate::delta::{conform, weighted};
use crate::fragment::Fragment;

/// Gives out the same rows once.
#[derive(Debug)]
pub(crate) struct Constant {
    fragment: Fragment,
    schema: SchemaRef,
}

impl Constant {
    pub(crate) fn new(fragment: Fragment, schema: SchemaRef) -> Self {
        Self { fragment, schema }
    }
}

#[async_trait]
impl Node for Constant {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        if !turn.first {
            return Ok(vec![]);
        }
        let rows = self.fragment.run(vec![], &turn.context).await?;
        rows.iter().map(|b| weighted(&conform(b, &self.schema)?, 1)).collect()
    }

    fn describe(&self) -> Description {
        Description { title: "Constant".into(), state: vec![] }
    }

    fn children(&self) -> Vec<&dyn Node> {
        vec![]
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        vec![]
    }

    fn visit_state(&mut self, _visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        Ok(())
    }
}
