//! Owns what a run of the generator is told.

/// What the events are like. The defaults are those of the published generators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Runs with the same seed have the same events.
    pub seed: u64,
    /// Event time of event 0, in µs since 1970.
    pub first_event_time_us: i64,
    /// How many events there are in a second of event time; 0 is taken as 1. Up to 1,000,000 no two have the same time.
    pub events_per_second: u64,
    /// The times of this many consecutive events are exchanged among them, each kept once; 0 and 1 leave them in order.
    /// No multiple of [`Config::STRIDE`]: such a number is taken one higher.
    pub out_of_order_group: u64,
    /// Auctions and bids come from this many people who registered last.
    pub active_people: u64,
    /// Bids go to this many auctions that opened last, and auctions last until as many have opened after them, on average.
    pub in_flight_auctions: u64,
    /// Of this many bids one is not on the hot auction; 0 and 1 leave none on it.
    pub hot_auction_ratio: u64,
    /// Of this many auctions one is not by the hot seller; 0 and 1 leave none by it.
    pub hot_seller_ratio: u64,
    /// Of this many bids one is not by the hot bidder; 0 and 1 leave none by it.
    pub hot_bidder_ratio: u64,
    /// Whether `extra` fills events up to their published sizes, or is empty.
    pub extra: bool,
}

impl Config {
    /// How far apart the times of neighbours in an out-of-order group lie. It is prime.
    pub const STRIDE: u64 = 953;
    /// 15 July 2015, 00:00 UTC.
    pub const PUBLISHED_START_US: i64 = 1_436_918_400_000_000;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            first_event_time_us: Self::PUBLISHED_START_US,
            events_per_second: 10_000,
            out_of_order_group: 1,
            active_people: 1_000,
            in_flight_auctions: 100,
            hot_auction_ratio: 2,
            hot_seller_ratio: 4,
            hot_bidder_ratio: 4,
            extra: true,
        }
    }
}
