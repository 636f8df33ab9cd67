//! Tests of the lake through its public face, on local disks, in memory and on S3 where one is given.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod appends;
mod care;
mod changes;
mod clones;
mod column_types;
mod durable;
mod evolution;
mod faults;
mod fixture;
mod layout;
mod reading;
mod s3;
mod staging;
mod versions;
