//! Owns how a query reads a stream: the lake up to a position and the log after it, as one table.
//!
//! ```text
//!   offsets of one partition
//!   0                       lake position            log end
//!   ├───── Delta snapshot ─────────┤                  │
//!            ├──────────── log view ┼── read from here ┤
//!          log start
//! ```
//!
//! A [`ReadPoint`] pins, per stream, one log view and one lake snapshot for the length of a statement. The log view is
//! taken first: whatever was acknowledged before the statement began is in it. The lake snapshot is taken after it, so
//! its positions are at or past the log's start, since the log is trimmed only behind the lake. The log is then read
//! from the lake's positions: no row is missed and none is seen twice (invariant 3 of ARCHITECTURE.md).

mod adapt;
mod key_filter;
mod lake_scan;
mod log_scan;
mod pruning;
mod read_point;
mod stream_table;
mod view_scan;
mod view_table;

pub(crate) use adapt::{BatchAdapter, lake_batch, reader_schema};
pub(crate) use key_filter::{KeyFilter, Keys};
pub(crate) use lake_scan::scan_lake;
pub(crate) use read_point::{ReadPoint, StreamSnapshot};
pub(crate) use stream_table::StreamTable;
pub(crate) use view_table::ViewTable;
