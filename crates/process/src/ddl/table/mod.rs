//! Owns the statements about tables: rows that change and go, under keys and constraints.

mod alter;
mod altered;
mod clone;
mod convert;
mod create;
mod entries;
mod history;
mod manage;
mod options;
mod render;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod there_and_back;

pub use alter::TableAction;
pub use altered::altered_table;
pub(crate) use altered::names_column;
pub use clone::clone_draft;
pub use create::TableAsDraft;
pub use history::Point;
pub use render::render_create_table;

pub(super) use entries::{TableEntries, serial_advice};
pub(super) use manage::statement;
