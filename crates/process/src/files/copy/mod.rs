//! COPY: rows from files and clients into streams and tables, and from queries into files and to clients.
//!
//! A task reads, casts and admits (`load`), never further ahead than what is written. What becomes of the rows depends
//! on where they go:
//!
//! - A table takes them in one change: all of them are there, or none.
//! - A stream takes them in appends. Nothing is appended before everything was read, unless rows that do not fit go to
//!   quarantine: till then rows wait in memory, and on the disk when they are many (`spool`). A crash during the appends
//!   leaves the first ones; with `once` the load goes on where it stopped.
//!
//! `once` keeps a key beside the rows, made of the file's place, size and version: what has the key is not added again.

mod from;
mod load;
mod options;
mod spool;
mod to;

pub use from::CopyIn;
pub(crate) use from::CopyJob;
pub use options::{CopyFormat, CopyOptions};
pub(crate) use to::copy_to;
