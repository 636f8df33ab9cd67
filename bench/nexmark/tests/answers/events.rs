//! Owns the events of the answers.

use std::ops::Range;

use millstream_nexmark::{Config, Events, Generator};

pub(crate) const EVENTS: u64 = 20_000;

/// 100 s of event time, ten windows, across a midnight: 31 December 2025, 23:59:10 UTC.
pub(crate) fn generator() -> Generator {
    let config =
        Config { seed: 42, first_event_time_us: 1_767_225_550_000_000, events_per_second: 200, ..Config::default() };
    Generator::new(config)
}

/// All of them, in parts of so many.
pub(crate) fn parts(of: u64) -> Vec<Events> {
    let generator = generator();
    let range = |i: u64| -> Range<u64> { i * of..EVENTS.min((i + 1) * of) };
    (0..EVENTS.div_ceil(of)).map(|i| generator.batch(range(i))).collect()
}
