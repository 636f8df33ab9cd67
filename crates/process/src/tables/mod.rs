//! Owns tables: relations whose rows change.
//!
//! ```text
//!   statements ──► one record each ──► the log ─────► merged into the lake, range by range
//!                                       │ what the lake does not have yet: the hot tier
//!                                       ▼
//!   a read = rows of the lake that are still there + rows that came since and are still there
//! ```
//!
//! A table is a log and a Delta table, as a stream is. Its log has one partition and is its changelog
//! (`changelog.rs`): rows that came, and the numbers and old content of rows that went. What lies between the lake's
//! position and the log's end is the hot tier (`hot.rs`); a read pins both (`state.rs`) and leaves out of the lake
//! what went since (`source.rs`). Merging takes a range of the log into the lake in one commit (`merge.rs`). A change
//! that is too large for the log lies in files before it is known, and its record names them (`staged.rs`): so every
//! statement, however large, is one append, and a crash leaves it wholly done or not at all.

mod changelog;
mod clone;
mod gather;
mod holds;
mod hot;
mod index;
mod keys;
mod live_rows;
mod merge;
mod others;
mod reshape;
mod source;
mod staged;
mod state;
#[cfg(test)]
mod tests;
mod travel;
mod upsert;
mod write;

pub(crate) use changelog::{changed_rows, changelog_schema, names_files};
pub(crate) use clone::follow_hot;
pub(crate) use gather::refused_row;
pub(crate) use holds::{Hold, trimmed_to};
pub(crate) use index::RowsByKey;
pub(crate) use keys::same_key;
pub(crate) use merge::{merge_down, named_change, patience};
pub(crate) use reshape::{Reshaping, reshape_of};
pub(crate) use source::{TableSource, altered_meanwhile};
pub(crate) use staged::FilesOfChange;
pub(crate) use state::{Following, TableSnapshot, TableState};
pub(crate) use travel::{AsOf, snapshot_as_of};
pub(crate) use upsert::{Met, Upsert, Upserted, upsert};
pub(crate) use write::{Applied, Change, Kept, Turn, insert, insert_keyed};
