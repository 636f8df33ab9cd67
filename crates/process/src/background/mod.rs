//! Owns what runs without being asked: tiering, care of the lake, removal of what was dropped.

mod cleanup;
mod maintenance;
mod retry;
mod tiering;

pub(crate) use cleanup::remove_dropped;
pub(crate) use maintenance::{care_once, maintain_table};
pub(crate) use retry::backoff;
pub(crate) use tiering::{open_table, tier_once, tier_stream};
