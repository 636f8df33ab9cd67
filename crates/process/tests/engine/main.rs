//! The engine as its doors use it: rows in, SQL out, with the lake between.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod avro;
mod care;
#[path = "../../../../tests/clouds/server.rs"]
mod cloud_server;
mod clouds;
mod copies;
mod derived;
mod dml;
mod explain;
mod faults;
mod files;
mod harness;
mod lookups;
mod point_reads;
mod queries;
mod reads;
mod streams;
mod table_views;
mod tables;
mod views;
mod watermarks;
mod web;
