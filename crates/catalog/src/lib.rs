//! What exists: the objects a user has made, how they are described and kept, and the kinds of error.
//!
//! The lowest room. It knows names, types and definitions; it does not know logs, lakes, SQL planning or wires.

mod column;
mod data_type;
mod error;
pub mod fault;
mod name;
mod persist;
mod policy;
mod stream;
mod table;
mod view;

pub use column::{Check, Column, Watermark, quoted};
pub use data_type::{DataType, LOGICAL_TYPE_KEY, RowField};
pub use error::{Error, Result};
pub use name::{DEFAULT_SCHEMA, ObjectName, SYSTEM_SCHEMA};
pub use persist::{Catalog, DroppedStream, DroppedView, MemoryCatalog, SqliteCatalog};
pub use policy::LakePolicy;
pub use stream::{
    Durability, HIDDEN_COLUMNS, INGEST_TIME_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, Positions, REST_COLUMN, Stream,
    StreamId, StreamOptions,
};
pub use table::{CHANGE_COLUMN, FILES_COLUMN, Generated, KeptColumn, PrimaryKey, ROW_COLUMN, Reshape, TableSpec};
pub use view::{Dependency, ObjectId, OnError, View, ViewId, ViewKind, ViewOptions, ViewState};
