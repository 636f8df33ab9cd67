//! Owns the events themselves: builds their columns, straight into Arrow.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::Config;
use crate::columns::{Auctions, Bids, Persons, put, side_input};
use crate::draws::Draws;
use crate::price::Prices;
use crate::schedule::{AUCTION, BID, FIRST_ID, HOT_OF, LEAD, PERSON, ROUND, Times};
use crate::text::{self, Texts};

/// Average sizes that `extra` fills events up to. As published, a bid's channel and URL are not counted.
const PERSON_BYTES: u64 = 200;
const AUCTION_BYTES: u64 = 500;
const BID_BYTES: u64 = 100;

const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// Rows of the side input: q13 looks up an auction's id modulo this.
const SIDE_INPUT_ROWS: i64 = 10_000;

/// Makes events. A clone is cheap and makes the same ones.
#[derive(Debug, Clone)]
pub struct Generator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    times: Times,
    prices: Prices,
    texts: Texts,
}

/// The events of a range, by kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Events {
    /// Those who registered.
    pub person: RecordBatch,
    /// The auctions that opened.
    pub auction: RecordBatch,
    /// The bids made.
    pub bid: RecordBatch,
}

impl Generator {
    /// A generator of the events that the configuration describes.
    pub fn new(config: Config) -> Self {
        let (times, prices, texts) = (Times::new(&config), Prices::new(), Texts::new(config.seed));
        Self { shared: Arc::new(Shared { config, times, prices, texts }) }
    }

    /// What it was told.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The event time of an event, in µs since 1970.
    pub fn time_us(&self, event: u64) -> i64 {
        self.shared.times.of(event)
    }

    /// The persons, auctions and bids of a range of event numbers. A range of up to 10 million events fits in a batch.
    pub fn batch(&self, range: Range<u64>) -> Events {
        Events { person: self.persons(range.clone()), auction: self.auctions(range.clone()), bid: self.bids(range) }
    }

    /// The persons of a range of event numbers.
    pub fn persons(&self, range: Range<u64>) -> RecordBatch {
        let mut persons = Persons::with_capacity(PERSON.count(&range));
        PERSON.events(&range).for_each(|event| self.shared.person(event, &mut persons));
        persons.finish()
    }

    /// The auctions of a range of event numbers.
    pub fn auctions(&self, range: Range<u64>) -> RecordBatch {
        let mut auctions = Auctions::with_capacity(AUCTION.count(&range));
        AUCTION.events(&range).for_each(|event| self.shared.auction(event, &mut auctions));
        auctions.finish()
    }

    /// The bids of a range of event numbers.
    pub fn bids(&self, range: Range<u64>) -> RecordBatch {
        let mut bids = Bids::with_capacity(BID.count(&range));
        BID.events(&range).for_each(|event| self.shared.bid(event, &mut bids));
        bids.finish()
    }

    /// The fixed table that q13 looks into: each key with itself as text.
    pub fn side_input() -> RecordBatch {
        side_input(SIDE_INPUT_ROWS)
    }
}

impl Shared {
    fn draws(&self, event: u64) -> Draws {
        Draws::of_event(self.config.seed, event)
    }

    fn extra(&self, draws: &mut Draws, bytes: usize, average: u64) -> &str {
        if self.config.extra { self.texts.filling(draws, bytes as u64, average) } else { "" }
    }

    fn person(&self, event: u64, to: &mut Persons) {
        let draws = &mut self.draws(event);
        to.id.push(id(PERSON.last(event)));
        let mut bytes = 8;
        let (first, last) = (draws.one_of(&text::FIRST_NAMES), draws.one_of(&text::LAST_NAMES));
        bytes += put(&mut to.name, format_args!("{first} {last}"));
        let [user, host] = [7, 5].map(|below| {
            let length = text::length(draws, below);
            self.texts.letters(draws, length)
        });
        bytes += put(&mut to.email_address, format_args!("{user}@{host}.com"));
        let [a, b, c, d] = [(); 4].map(|()| draws.below(10_000));
        bytes += put(&mut to.credit_card, format_args!("{a:04} {b:04} {c:04} {d:04}"));
        let (city, state) = (draws.one_of(&text::CITIES), draws.one_of(&text::STATES));
        to.city.append_value(city);
        to.state.append_value(state);
        bytes += city.len() + state.len();
        to.date_time.push(self.times.of(event));
        to.extra.append_value(self.extra(draws, bytes, PERSON_BYTES));
    }

    fn auction(&self, event: u64, to: &mut Auctions) {
        let draws = &mut self.draws(event);
        to.id.push(id(AUCTION.last(event)));
        to.seller.push(id(self.seller(event, draws)));
        to.category.push((FIRST_CATEGORY + draws.below(CATEGORIES)) as i64);
        let initial_bid = self.prices.draw(draws);
        to.initial_bid.push(initial_bid);
        to.reserve.push(initial_bid + self.prices.draw(draws));
        let time = self.times.of(event);
        to.date_time.push(time);
        to.expires.push(time + self.open_for_us(event, draws));
        let (item_name, description) = (self.texts.words(draws, 20), self.texts.words(draws, 100));
        to.item_name.append_value(item_name);
        to.description.append_value(description);
        to.extra.append_value(self.extra(draws, 48 + item_name.len() + description.len(), AUCTION_BYTES));
    }

    fn bid(&self, event: u64, to: &mut Bids) {
        let draws = &mut self.draws(event);
        to.auction.push(id(self.bid_auction(event, draws)));
        to.bidder.push(id(self.bidder(event, draws)));
        to.price.push(self.prices.draw(draws));
        let channel = self.texts.channel(draws);
        to.channel.append_value(&channel.name);
        to.url.append_value(&channel.url);
        to.date_time.push(self.times.of(event));
        to.extra.append_value(self.extra(draws, 32, BID_BYTES));
    }

    /// Who sells: the first person of a hundred is the hot one.
    fn seller(&self, event: u64, draws: &mut Draws) -> u64 {
        if draws.all_but_one_in(self.config.hot_seller_ratio) {
            return PERSON.last(event) / HOT_OF * HOT_OF;
        }
        self.active_person(event, draws)
    }

    /// Who bids: the second person of a hundred is the hot one, so that it is not the hot seller too.
    fn bidder(&self, event: u64, draws: &mut Draws) -> u64 {
        if draws.all_but_one_in(self.config.hot_bidder_ratio) {
            return PERSON.last(event) / HOT_OF * HOT_OF + 1;
        }
        self.active_person(event, draws)
    }

    fn active_person(&self, event: u64, draws: &mut Draws) -> u64 {
        let people = PERSON.last(event) + 1;
        let active = people.min(self.config.active_people);
        people - active + draws.below(active + LEAD)
    }

    /// What is bid on: the first auction of a hundred is the hot one.
    fn bid_auction(&self, event: u64, draws: &mut Draws) -> u64 {
        let last = AUCTION.last(event);
        if draws.all_but_one_in(self.config.hot_auction_ratio) {
            return last / HOT_OF * HOT_OF;
        }
        let first = last.saturating_sub(self.config.in_flight_auctions);
        first + draws.below(last - first + 1 + LEAD)
    }

    /// How long an auction is open: up to twice the time in which as many auctions open as are to be open at once.
    fn open_for_us(&self, event: u64, draws: &mut Draws) -> i64 {
        let events = self.config.in_flight_auctions.saturating_mul(ROUND) / AUCTION.in_a_round();
        let horizon = self.times.in_order(event.saturating_add(events)) - self.times.in_order(event);
        1 + draws.below(2 * horizon as u64) as i64
    }
}

fn id(number: u64) -> i64 {
    (FIRST_ID + number) as i64
}
