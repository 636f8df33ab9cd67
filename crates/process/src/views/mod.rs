//! Owns materialized views at work: their tasks, their answers, and what they read.
//!
//! A view is a task that follows its inputs. It reads their history (lake and log, as a query would, pinned at one
//! position), publishes the answer, and from then on takes what is new in micro-batches: whatever came while the last
//! one was under way. A step changes the answer, the changelog and the view's positions at one instant, so a reader
//! sees all of a step or none of it.
//!
//! A view writes its state to a checkpoint every few seconds, with its positions, and a restart goes on from there. Of
//! a view below the position is a place in its changelog, which the checkpoint of that view has up to there.
//!
//! ```text
//!  stream  log ──────────┐                       ┌─► answer      SELECT … FROM view
//!          lake (history)┼─► Dataflow::step ─────┼─► changes     views over it, EMIT CHANGES
//!  view    changes ──────┘                       └─► positions   after = token, FLUSH, system.views
//! ```
//!
//! A derived stream is written by such a task too. It keeps no answer: what steps give is committed with the state and
//! the positions, as an outbox, and appended to the stream behind the commit, each row once (`outbox`). Views that it
//! reads stand for their queries (`inline`), so that streams alone are its inputs.

mod changes;
mod checkpoints;
mod columns;
mod failure;
mod follow;
mod history;
mod inline;
mod input;
mod life;
mod open;
mod outbox;
mod plain;
mod plan;
mod rate;
mod running;
mod saved_changes;
mod table_input;
mod watermarks;

pub(crate) use changes::{Change, Looked, Place, Sources, unweighted};
pub(crate) use columns::sql_type;
pub(crate) use follow::{follow, send_changes};
pub(crate) use life::wait_until_built;
pub(crate) use open::{OpenView, Progress};
pub(crate) use plain::plain_view_table;
pub(crate) use plan::{Form, columns_used, object_name, plan_query, tables};
