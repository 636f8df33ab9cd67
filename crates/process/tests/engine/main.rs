//! The engine as its doors use it: rows in, SQL out, with the lake between.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod alter_tables;
mod avro;
mod care;
mod changelogs;
mod clones;
mod clouds;
mod copies;
mod derived;
mod dml;
mod explain;
mod external;
mod faults;
mod files;
mod harness;
mod lookups;
mod memory;
mod point_reads;
mod queries;
mod reads;
#[path = "../../../../tests/servers/mod.rs"]
mod servers;
mod sessions;
mod streams;
mod table_views;
mod tables;
mod temperature;
mod views;
mod watermarks;
mod web;
