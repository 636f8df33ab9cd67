//! Owns which event is of which kind, and which ids and times follow from its number.
//!
//! Events come in rounds of 50: one person, then three auctions, then 46 bids.

use std::ops::Range;

use crate::Config;

/// Events in a round.
pub const ROUND: u64 = 50;
/// The id of the first person and of the first auction.
pub const FIRST_ID: u64 = 1_000;
/// People and auctions may be named this many ids before they exist.
pub const LEAD: u64 = 10;
/// Of this many ids one is hot.
pub const HOT_OF: u64 = 100;

/// A kind of event: its place in the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    start: u64,
    each: u64,
}

/// Someone registers.
pub const PERSON: Kind = Kind { start: 0, each: 1 };
/// Someone puts an item up for auction.
pub const AUCTION: Kind = Kind { start: 1, each: 3 };
/// Someone bids.
pub const BID: Kind = Kind { start: 4, each: 46 };

impl Kind {
    /// How many events of this kind there are in a round.
    pub fn in_a_round(self) -> u64 {
        self.each
    }

    /// How many events of this kind there are before an event.
    pub fn before(self, event: u64) -> u64 {
        event / ROUND * self.each + (event % ROUND).saturating_sub(self.start).min(self.each)
    }

    /// How many events of this kind there are in a range.
    pub fn count(self, range: &Range<u64>) -> usize {
        self.before(range.end).saturating_sub(self.before(range.start)) as usize
    }

    /// The numbers of the events of this kind in a range.
    pub fn events(self, range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
        (self.before(range.start)..self.before(range.end))
            .map(move |i| i / self.each * ROUND + self.start + i % self.each)
    }

    /// The last of this kind up to an event and including it, counted from 0; 0 as well if there was none.
    pub fn last(self, event: u64) -> u64 {
        self.before(event + 1).saturating_sub(1)
    }
}

/// Event times.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    first_us: i64,
    per_second: u64,
    group: u64,
}

impl Times {
    pub(crate) fn new(config: &Config) -> Self {
        let group = config.out_of_order_group.max(1);
        Self {
            first_us: config.first_event_time_us,
            per_second: config.events_per_second.max(1),
            group: group + u64::from(group.is_multiple_of(Config::STRIDE)),
        }
    }

    /// The time that an event carries.
    pub(crate) fn of(&self, event: u64) -> i64 {
        if self.group == 1 {
            return self.in_order(event);
        }
        let first = event - event % self.group;
        // The remainder first: the product must not overflow, whatever the group's size.
        let place = (event % self.group) as u128 * u128::from(Config::STRIDE) % u128::from(self.group);
        self.in_order(first + place as u64)
    }

    /// The time of an event, did all come in order.
    pub(crate) fn in_order(&self, event: u64) -> i64 {
        let (seconds, rest) = (event / self.per_second, event % self.per_second);
        self.first_us + seconds as i64 * 1_000_000 + (u128::from(rest) * 1_000_000 / u128::from(self.per_second)) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_a_person_three_auctions_and_46_bids_in_this_order() {
        for kind in [PERSON, AUCTION, BID] {
            let expected: Vec<u64> =
                (0..1_000).filter(|n| (kind.start..kind.start + kind.each).contains(&(n % 50))).collect();
            assert_eq!(kind.events(&(0..1_000)).collect::<Vec<_>>(), expected);
            for cut in 0..200 {
                let parts: Vec<u64> = kind.events(&(0..cut)).chain(kind.events(&(cut..1_000))).collect();
                assert_eq!(parts, expected, "cut at {cut}");
                assert_eq!(kind.count(&(0..cut)) as u64, kind.before(cut));
            }
        }
        assert_eq!(BID.count(&Range { start: 100, end: 50 }), 0);
    }

    #[test]
    fn the_last_of_a_kind_is_the_event_itself_or_one_before_it() {
        assert_eq!([0, 1, 49, 50, 51].map(|n| PERSON.last(n)), [0, 0, 0, 1, 1]);
        assert_eq!([0, 1, 3, 4, 49, 50, 51].map(|n| AUCTION.last(n)), [0, 0, 2, 2, 2, 2, 3]);
    }

    #[test]
    fn time_advances_by_the_given_rate() {
        let times = Times::new(&Config { first_event_time_us: 7, events_per_second: 3, ..Config::default() });
        assert_eq!([0, 1, 2, 3, 300].map(|n| times.of(n)), [7, 333_340, 666_673, 1_000_007, 100_000_007]);
    }

    #[test]
    fn an_out_of_order_group_holds_each_of_its_times_once() {
        for group in [10, 953, 1_000] {
            let config = Config { out_of_order_group: group, events_per_second: 1_000_000, ..Config::default() };
            let times = Times::new(&config);
            let mut held: Vec<i64> = (0..times.group * 3).map(|n| times.of(n)).collect();
            assert!(!held.is_sorted(), "group of {group}");
            for (i, part) in held.chunks_mut(times.group as usize).enumerate() {
                part.sort_unstable();
                assert!(part.iter().enumerate().all(|(k, t)| *t == times.in_order(i as u64 * times.group + k as u64)));
            }
        }
    }
}
