//! Owns what clients follow: a view's changes and a stream's new rows.
//!
//! A follower is pulled: it looks at the changelog or the log when its client has room for more, and holds a batch or
//! two besides. No task stands behind it; dropping it is all there is to ending it. Every row has an id behind which
//! another follower goes on, without a gap and without a row twice.

mod stream_tail;
mod view_changes;

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use millstream_catalog::ObjectName;
use millstream_catalog::fault::Code;

pub use stream_tail::{StreamTail, TailEvent, TailRows, TailStart};
pub use view_changes::{ChangeId, ChangedRows, ViewChanges, ViewEvent, ViewStart};

use crate::{Engine, Error, Result};

/// The most rows that are given at once.
const PIECE_ROWS: usize = 1024;

impl Engine {
    /// Follows a view's changes.
    pub fn follow_view(&self, name: &ObjectName, start: ViewStart) -> Result<ViewChanges> {
        ViewChanges::begin(&self.shared, name, start)
    }

    /// Follows a stream's rows, in the order of each partition.
    pub fn follow_stream(&self, name: &ObjectName, start: TailStart) -> Result<StreamTail> {
        StreamTail::begin(&self.shared, name, start)
    }
}

fn stopping() -> Error {
    Error::rejected(Code::ShuttingDown, "the node is stopping")
}

/// Where pieces begin and how long they are.
fn pieces(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(PIECE_ROWS).map(move |start| (start, PIECE_ROWS.min(rows - start)))
}

/// Adds the batch in pieces, each made into an event with the number of its first row.
fn push_pieces<E>(events: &mut VecDeque<E>, batch: &RecordBatch, event: impl Fn(RecordBatch, usize) -> E) {
    for (start, length) in pieces(batch.num_rows()) {
        events.push_back(event(batch.slice(start, length), start));
    }
}
