//! What it means: SQL over everything, union reads of log and lake, tiering between them, and the engine's own tables.
//!
//! The [`Engine`] is what the doors talk to: `connect` hands it rows, `serve` hands it SQL. It knows the catalog, the
//! logs and the lake; it does not know HTTP, wires or formats of producers.

pub mod admit;
mod background;
pub mod datetime;
pub mod ddl;
mod decimals;
mod dml;
mod engine;
mod error;
mod external;
mod fault_points;
mod files;
mod ingest;
mod jobs;
mod live;
mod metrics;
pub mod pg_catalog;
mod queries;
mod query_error;
mod read;
mod rounds;
mod sql;
mod stream;
mod system;
mod tables;
pub mod text_casts;
pub mod text_forms;
mod views;

pub use engine::{Engine, EngineOptions, Health, LogEngine};
pub use error::{Error, Result};
pub use fault_points::{FaultPoint, FaultPoints};
pub use files::{
    Compression, CopyFormat, CopyIn, CopyOptions, Dialect, FileAccess, Format, Header, PlainHttp, put_record,
};
pub use ingest::{Admitted, IdempotencyKey, PositionToken, QuarantinedRow, Receipt, RejectedRow, Rows, StreamHandle};
pub use live::{ChangeId, ChangedRows, StreamTail, TailEvent, TailRows, TailStart, ViewChanges, ViewEvent, ViewStart};
pub use sql::{Canceller, Outcome, Prepared, RowStream, RunOptions, STACK_BYTES, Session, Statement};
