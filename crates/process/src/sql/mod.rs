//! Owns the SQL surface that the doors call: sessions, prepared statements and their results.

mod care;
mod column_names;
mod commands;
mod context;
mod copies;
mod duplicates;
mod hidden;
mod history;
mod pauses;
mod plain_views;
mod plans;
mod point_read;
mod rows;
mod session;
mod settings;
mod sieve;
mod statement;
mod stopping;
mod tables;
mod time_travel;
mod uuid_casts;
mod versions;
mod views;
mod workers;

pub(crate) use column_names::{ColumnNames, name_of};
pub(crate) use context::query_context;
pub(crate) use hidden::{folded, names_hidden, object_name};
pub(crate) use plans::Plans;
pub use rows::{Outcome, RowStream};
pub(crate) use rows::{cancelled, defect, expired, timed_out};
pub use session::{Canceller, RunOptions, Session};
pub(crate) use session::{SameNames, plan_query, plan_statement};
pub use statement::{Prepared, Statement};
pub(crate) use stopping::stopping_with;
pub(crate) use uuid_casts::check_uuid_casts;
pub(crate) use workers::QueryWorkers;
