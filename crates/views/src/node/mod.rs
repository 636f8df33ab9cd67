//! Owns the nodes of a dataflow: each turns the deltas of its inputs into the delta of its output, once per step.

mod accumulate;
mod close;
mod constant;
mod expiry;
mod groups;
mod inner_join;
mod keyed;
mod linear;
mod lookup;
mod merge;
mod ranked;
mod rows;
mod salvage;
mod session;
mod session_groups;
mod source;
mod summed;

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::TaskContext;
use parking_lot::Mutex;

pub(crate) use accumulate::Accumulate;
pub(crate) use close::Close;
pub(crate) use constant::Constant;
pub(crate) use expiry::{Expiry, Frontier};
pub(crate) use groups::{Groups, GroupsPlan};
pub(crate) use inner_join::InnerJoin;
pub(crate) use keyed::{Keyed, KeyedInput};
pub(crate) use linear::Linear;
pub(crate) use lookup::{LookupJoin, Matches, PAIR};
pub(crate) use merge::Merge;
pub(crate) use ranked::{Place, Places, Ranked};
pub(crate) use rows::as_json;
pub(crate) use session::{Session, Span};
pub(crate) use session_groups::{SESSION_START, SessionColumn, SessionGroups, SessionPlan};
pub(crate) use source::Source;
pub(crate) use summed::{DistinctValues, Summed};

use crate::Result;
use crate::arrangement::Arrangement;

/// A row that an expression failed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: String,
    /// The row as JSON.
    pub row: String,
}

/// One step: what goes in, and what all nodes share.
pub(crate) struct Turn {
    /// By input: the delta, whole columns and the weight.
    pub(crate) inputs: Vec<Vec<RecordBatch>>,
    pub(crate) context: Arc<TaskContext>,
    /// By input: the watermark behind the step. Empty where there is none.
    pub(crate) watermarks: Vec<i64>,
    /// Whether it is the first step ever: rows that come from nothing come now.
    pub(crate) first: bool,
    /// Rows that were left out.
    pub(crate) refused: Mutex<Vec<Refused>>,
}

/// What EXPLAIN shows of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Description {
    /// The kind and what it does.
    pub(crate) title: String,
    /// What it keeps, and under which key.
    pub(crate) state: Vec<String>,
}

/// A node. Its output is weighted; a node of which rows only come gives weights above 0 alone.
#[async_trait]
pub(crate) trait Node: Send + Sync + std::fmt::Debug {
    /// Takes in what changed below, gives what changes above.
    async fn step(&mut self, turn: &Turn) -> Result<Vec<RecordBatch>>;
    /// For EXPLAIN.
    fn describe(&self) -> Description;
    /// The nodes below.
    fn children(&self) -> Vec<&dyn Node>;
    /// The nodes below, to be changed.
    fn children_mut(&mut self) -> Vec<&mut Box<dyn Node>>;
    /// Visits the sources among it and the nodes below.
    fn visit_sources(&mut self, visit: &mut dyn FnMut(&mut Source)) {
        self.children_mut().into_iter().for_each(|child| child.visit_sources(visit));
    }
    /// Whether no two rows of what a step gives are equal but for their weight.
    fn is_consolidated(&self) -> bool {
        false
    }
    /// Visits what is kept by it and the nodes below, always in the same order.
    fn visit_state(&mut self, visit: &mut dyn FnMut(&mut Arrangement) -> Result<()>) -> Result<()>;
    /// Visits the numbers that it and the nodes below keep beside arrangements (a watermark, a flag, a count), always
    /// in the same order. Checkpoints hold them; what a node keeps and visits neither here nor above is lost with a
    /// restart. A node without such numbers passes the visit on to the nodes below.
    fn visit_values(&mut self, visit: &mut dyn FnMut(&mut i64)) {
        self.children_mut().into_iter().for_each(|child| child.visit_values(visit));
    }
}
