//! Tests of the lake through its public face: on local disks, in memory and, with `MILLSTREAM_TEST_LAKE=s3`, on S3.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod appends;
mod care;
mod changes;
mod clones;
mod clouds;
mod column_types;
mod durable;
mod evolution;
mod external;
mod faults;
mod fixture;
mod layout;
mod reading;
mod s3;
#[path = "../../../../tests/servers/mod.rs"]
mod servers;
mod staging;
mod temperature;
mod versions;
