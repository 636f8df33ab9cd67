//! Owns what runs without being asked: tiering, care of the lake, ageing, removal of what was dropped.

mod cleanup;
mod maintenance;
mod retry;
mod temperature;
mod tiering;

pub(crate) use cleanup::remove_dropped;
pub(crate) use maintenance::{care_once, maintain_table, vacuum_retention};
pub(crate) use retry::backoff;
pub(crate) use temperature::{Expired, age_once};
pub(crate) use tiering::{open_table, tier_once, tier_stream};
