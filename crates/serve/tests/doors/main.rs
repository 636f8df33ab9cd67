//! Owns the tests of both wires against an engine in the same process.

mod fixture;
mod http;
mod http_formats;
mod pg;
mod pg_protocol;
mod pg_types;
mod psql;
