//! What happened ever: the lake of Delta tables, on a local disk or an object store.
//!
//! Depends on `catalog` alone. It knows Delta tables, object stores and what must be synced; it does not know logs,
//! SQL sessions or doors.

mod action;
mod change;
mod clone;
mod convert;
mod edit;
mod encode;
mod error;
mod evolve;
mod external;
pub mod fault_store;
mod features;
mod foreign;
mod history;
mod lake;
mod layout;
mod location;
mod maintain;
mod merge;
mod numbered;
mod optimize;
mod order;
mod places;
mod provider;
mod reshape;
mod schema;
mod small_files;
mod staged;
mod state;
mod stats;
mod synced;
mod table;
mod temperature;
mod versions;
mod write;
mod zorder;

pub use change::RowChanges;
pub use convert::{Converted, convert_to_delta};
pub use edit::RowEdit;
pub use encode::Codec;
pub use error::{Error, Result};
pub use lake::{Lake, LakeOptions};
pub use layout::{Layout, without_folder};
pub use location::{remote_store, store_from_url};
pub use maintain::{MaintenanceReport, VacuumReport};
pub use reshape::{Fill, Reshape, ReshapedFiles};
pub use staged::StagedFile;
pub use synced::{Synced, SyncedLocal};
pub use table::{LakeSnapshot, LakeTable, OffsetRange};
pub use temperature::Cooled;
pub use versions::Commit;
