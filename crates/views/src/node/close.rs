//! Owns the closing node: it holds rows until their windows close, and gives each out once.

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, lexsort_to_indices, take_record_batch};
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

    /// Rows by their times: whoever reads them as a stream may have a watermark too.
    fn in_order(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let key = self.open.rows.key();
        let parts =
            (0..key.columns().len()).map(|part| Ok(SortColumn { values: key.part(rows, part)?, options: None }));
        let order = lexsort_to_indices(&parts.collect::<Result<Vec<_>>>()?, None)?;
        Ok(take_record_batch(rows, &order)?)
    }
}

#[async_trait]
impl Node for Close {
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>> {
        let delta = self.open.node.step(turn).await?;
        self.open.take_in(&delta)?;
        let closed = self.expiry.take(&mut self.open.rows, turn)?;
        closed.iter().map(|rows| weighted(&self.in_order(rows)?, 1)).collect()
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
