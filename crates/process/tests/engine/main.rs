//! The engine as its doors use it: rows in, SQL out, with the lake between.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod care;
mod copies;
mod derived;
mod dml;
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
