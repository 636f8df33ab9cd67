//! Owns the closing node: it holds rows until their windows close, and gives each out once.

use arrow::array::RecordBatch;
use async_trait::async_trait;

use super::expiry::Expiry;
use super::keyed::KeyedInput;
use super::{Description, Node, Turn};
use crate::Result;
use crate::arrangement::Arrangement;
use crate::delta::weighted;

/// Rows of windows that are open.
#[derive(Debug)]
pub(crate) struct Close {
    open: KeyedInput,
    expiry: Expiry,
}

impl Close {
    /// The key is made of columns that come of event times: rows below the frontier of one of them are final.
    pub(crate) fn new(open: KeyedInput, expiry: Expiry) -> Self {
        Self { open, expiry }
    }
}

#[async_trait]
impl Node for Close {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let delta = self.open.node.step(turn).await?;
        self.open.take_in(&delta)?;
        let mut closed = Vec::new();
        for (part, at) in self.expiry.passed(turn)? {
            let rows = self.open.rows.take_below(part, at)?;
            if rows.num_rows() > 0 {
                closed.push(weighted(&rows, 1)?);
            }
        }
        Ok(closed)
    }

    fn describe(&self) -> Description {
        let state = vec![format!("rows, {}{}", self.open.key_names(), self.expiry.note())];
        Description { title: "Close: rows come when their windows close".into(), state }
    }

    fn children(&self) -> Vec<&dyn Node> {
        vec![self.open.node.as_ref()]
    }

    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>> {
        vec![&mut self.open.node]
    }

    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()> {
        self.open.node.visit_state(visit)?;
        visit(&mut self.open.rows)
    }
}
