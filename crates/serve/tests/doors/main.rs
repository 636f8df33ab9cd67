//! Owns the tests of both wires against an engine in the same process.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and says what it skips")]

mod fixture;
mod http;
mod http_formats;
mod live;
mod pg;
mod pg_changes;
mod pg_copies;
mod pg_cursors;
mod pg_point_reads;
mod pg_protocol;
mod pg_types;
mod psql;
