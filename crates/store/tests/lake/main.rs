//! Tests of the lake through its public face: on local disks, in memory and, with `MILLSTREAM_TEST_LAKE=s3`, on S3.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod appends;
mod care;
mod changes;
mod clones;
#[path = "../../../../tests/clouds/server.rs"]
mod cloud_server;
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
#[path = "../../../../tests/s3/server.rs"]
mod server;
mod staging;
mod temperature;
mod versions;
