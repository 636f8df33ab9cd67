//! Answers that change with their inputs: a query becomes a dataflow that turns deltas of its inputs into deltas of its
//! answer.
//!
//! ```text
//!   SQL ── plan ──► compile ──► Dataflow
//!                                │ step(deltas of the inputs) → delta of the answer
//!                                │
//!              nodes:  Source ─► Linear ─► Summed / Join / Keyed … ─► Linear ─► answer
//!                                             │
//!                                        Arrangement (rows under a key)
//! ```
//!
//! A delta is a list of record batches whose last column, [`WEIGHT`], says how often a row comes (+) or goes (−). There
//! are these kinds of node, each run once per step:
//!
//! - *linear* (filter, projection, functions, unnest, union): the engine's own operators over the delta; the weight
//!   goes along as one more column.
//! - *summed* (count, sum, avg, DISTINCT, and min and max where rows only come): the engine's aggregation over the
//!   delta, then columns of the touched groups merged one by one; rows that go are subtracted.
//! - *accumulate* (other aggregates over input that only grows): the engine's partial aggregation over the delta, merged
//!   by the engine into the partial states kept for the groups it touches.
//! - *ranked* (first places of a partition) and *session groups* (aggregates by SESSION), where rows only come: they
//!   keep what is shown, and a session its bounds and a few columns.
//! - *join* (inner joins): what is new on one side meets what is kept of the other.
//! - *lookup* (joins with `FOR SYSTEM_TIME AS OF PROCTIME()`): what comes on the left meets what is kept of the right
//!   when it comes; what changes there later corrects nothing.
//! - *keyed* (everything else: outer, semi and anti joins, window functions, first rows and aggregates whose input takes
//!   rows back): the rows kept under the keys of the delta go through the engine's own operator again, and what comes out
//!   is compared with what came out before.
//!
//! A row that makes an expression fail is left out and told of ([`Refused`]), and everything goes on as if it were not
//! there; of an outer join that is the row that the failing pair would be kept for.
//!
//! What nodes keep, and the answer, lies in memory and goes to a [`StateStore`] in checkpoints: one commit each, with
//! what changed since the last one and the caller's positions of the inputs. A dataflow that is compiled again takes
//! up the last checkpoint ([`Dataflow::restore`]) and is given the deltas behind those positions.
//!
//! With EMIT ON WINDOW CLOSE ([`CompileOptions`]) the caller says before a step how far the watermarks of the inputs are
//! behind it ([`Dataflow::advance_watermark`]). Rows behind the watermark are refused, a node *close* holds the rows of
//! the topmost node until the watermark has passed their window, and nodes whose key has a column of event times forget
//! what no row can reach any more.
//!
//! This crate knows plans, deltas and state. It does not know streams, logs, lakes or who asks.

mod arrangement;
mod compile;
mod dataflow;
mod delta;
mod error;
mod fragment;
mod key;
mod node;
mod slot;
mod store;
mod watermark;

pub use compile::{CompileOptions, InputKind, ViewInput, WatermarkOf, looked_up, tables_looked_up, without_lookups};
pub use dataflow::{Answer, AnswerSnapshot, CheckpointStats, Dataflow, Refused, StepOutput};
pub use delta::{WEIGHT, consolidate, weighted, weighted_schema};
pub use error::{Error, Result};
pub use store::{Change, DiskOptions, DiskStore, DiskUse, MemoryStore, Part, StateStore};
pub use watermark::{WatermarkGauge, WatermarkSpec};
