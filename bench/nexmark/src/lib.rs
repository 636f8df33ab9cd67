//! The Nexmark benchmark: the events of its auction site as Arrow batches, and its queries in Millstream's SQL.
//!
//! Any range of events can be made at any time, on any thread, without the events before it: everything in an event
//! follows from the seed and the event's number.
//!
//! ```
//! use millstream_nexmark::{Config, Generator};
//!
//! let generator = Generator::new(Config { seed: 42, ..Config::default() });
//! let events = generator.batch(0..50_000);
//! assert_eq!((events.person.num_rows(), events.auction.num_rows(), events.bid.num_rows()), (1_000, 3_000, 46_000));
//! assert_eq!(generator.bids(49_000..50_000), events.bid.slice(45_080, 920));
//! ```
//!
//! Proportions, ids, skew, prices and sizes are those of the published generators, which agree on them: Apache Beam's
//! `org.apache.beam.sdk.nexmark` (`NexmarkConfiguration`, `sources/generator/`) and nexmark-flink's
//! `com.github.nexmark.flink.generator` (<https://github.com/nexmark/nexmark>). The values themselves differ: the
//! published ones come from an unseeded source of random numbers. The crate's README lists the numbers.

pub mod generator;
pub mod queries;
pub mod schedule;
pub mod schema;

mod columns;
mod config;
mod draws;
mod price;
mod text;

pub use config::Config;
pub use generator::{Events, Generator};
pub use queries::{QUERIES, Query, STREAMS};
