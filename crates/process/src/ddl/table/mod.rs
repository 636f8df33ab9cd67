//! Owns the statements about tables: rows that change and go, under keys and constraints.

mod alter;
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

pub use alter::{TableAction, altered_table};
pub use create::TableAsDraft;
pub use history::Point;
pub use render::render_create_table;

pub(super) use entries::{TableEntries, serial_advice};
pub(super) use manage::statement;
