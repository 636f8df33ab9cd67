//! Owns the statements about views: materialized and plain ones, and streams that a query writes.

mod create;
mod manage;
mod options;
mod plain;
mod render;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod there_and_back;

pub use create::{ColumnName, DerivedStreamDraft, ViewDraft};
pub use manage::{ViewAction, altered_view};
pub use options::ViewOptionChange;
pub use plain::{PlainViewDraft, render_create_plain_view};
pub use render::{render_create_derived, render_create_view};

pub(super) use create::{column_names, create_derived, is_derived, named};
pub(super) use manage::{new_state, statement};
pub(super) use options::{of_derived, reset_of_derived};
pub(super) use plain::plain_statement;
